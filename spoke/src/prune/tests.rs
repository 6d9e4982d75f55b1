//! Collections between, beside and in the middle of passes, on real folders and a store in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use isthmus_shared::{
    resources::{Exclusions, MetadataPolicy, VerifyMethod},
    staging::{
        ListPage, MemoryStore, MigrationUid, ObjectStore, PairKey, PairUid, StoreError, VolumeUid, layout,
    },
};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::volume::{Collected, Staged, collect, measure};
use crate::mover::{Limits, MoverError, Pass, Progress, ReceiveOptions, SendOptions, receive, recover, send};
use crate::staging_area::StagingArea;
use crate::volumes::newest_passes;

/// What a folder holds.
type Tree = BTreeMap<String, Vec<u8>>;

/// Serves a number of calls, then none any more: what a killed process looks like to a store.
#[derive(Debug)]
struct Dying {
    inner: MemoryStore,
    left: AtomicI64,
}

impl Dying {
    fn after(inner: &MemoryStore, calls: Option<u32>) -> Arc<dyn ObjectStore> {
        let left = AtomicI64::new(calls.map_or(i64::MAX, i64::from));
        Arc::new(Self { inner: inner.clone(), left })
    }

    fn served(&self, key: &str) -> Result<(), StoreError> {
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        let (store, key) = ("the test's store".to_owned(), key.to_owned());
        Err(StoreError::Unavailable { store, operation: "call", key, detail: "killed".to_owned() })
    }
}

impl ObjectStore for Dying {
    fn put(&self, key: &str, body: Bytes) -> BoxFuture<'_, Result<(), StoreError>> {
        let served = self.served(key);
        let key = key.to_owned();
        async move {
            served?;
            tokio::task::yield_now().await;
            self.inner.put(&key, body).await
        }
        .boxed()
    }

    fn get_at_most(&self, key: &str, limit: usize) -> BoxFuture<'_, Result<Bytes, StoreError>> {
        let served = self.served(key);
        let key = key.to_owned();
        async move {
            served?;
            tokio::task::yield_now().await;
            self.inner.get_at_most(&key, limit).await
        }
        .boxed()
    }

    fn read_range<'a>(
        &'a self,
        key: &str,
        range: Range<u64>,
        into: &'a mut Vec<u8>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let served = self.served(key);
        let key = key.to_owned();
        async move {
            served?;
            self.inner.read_range(&key, range, into).await
        }
        .boxed()
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ListPage, StoreError>> {
        let served = self.served(prefix);
        // Small pages: more places to die in between.
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        async move {
            served?;
            tokio::task::yield_now().await;
            self.inner.list(&prefix, after.as_deref(), limit.min(3)).await
        }
        .boxed()
    }

    fn delete(&self, keys: &[String]) -> BoxFuture<'_, Result<(), StoreError>> {
        let keys = keys.to_vec();
        async move {
            // As a server may: some are deleted, then the connection breaks.
            for key in &keys {
                self.served(key)?;
                self.inner.delete(std::slice::from_ref(key)).await?;
            }
            Ok(())
        }
        .boxed()
    }
}

struct World {
    source: tempfile::TempDir,
    destination: tempfile::TempDir,
    memory: MemoryStore,
    key: PairKey,
    pair: PairUid,
    volume: VolumeUid,
    /// The claims of source and destination.
    claims: [&'static str; 2],
    /// What the source held when each pass was sent.
    sent: BTreeMap<u32, Tree>,
}

impl World {
    fn new() -> Self {
        Self {
            source: tempfile::tempdir().unwrap(),
            destination: tempfile::tempdir().unwrap(),
            memory: MemoryStore::new(),
            key: PairKey::generate().unwrap(),
            pair: PairUid::new("pair").unwrap(),
            volume: VolumeUid::new("volume").unwrap(),
            claims: ["volume", "there"],
            sent: BTreeMap::new(),
        }
    }

    fn write(&self, name: &str, seed: u64, length: usize) {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let noise = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        });
        fs::write(self.source.path().join(name), noise.take(length).collect::<Vec<u8>>()).unwrap();
    }

    /// From now on passes go the other way.
    fn turn(&mut self) {
        std::mem::swap(&mut self.source, &mut self.destination);
        self.claims.swap(0, 1);
    }

    fn staged(&self, store: Arc<dyn ObjectStore>) -> Staged {
        Staged { store, key: self.key.clone(), pair: self.pair.clone() }
    }

    /// The newest pass, and the newest complete one.
    async fn passes(&self) -> (u32, Option<u32>) {
        let area = StagingArea {
            store: Arc::new(self.memory.clone()),
            key: self.key.clone(),
            pair: self.pair.clone(),
            migration: MigrationUid::new("migration").unwrap(),
            origin: MigrationUid::new("migration").unwrap(),
        };
        let passes = newest_passes(&area, self.volume.as_str()).await.unwrap();
        (passes.newest, passes.newest_complete)
    }

    fn pass(&self, root: &Path, store: Arc<dyn ObjectStore>, number: u32, previous: Option<u32>) -> Pass {
        Pass {
            root: root.to_owned(),
            store,
            key: self.key.volume_key(&self.volume).unwrap(),
            volume: self.volume.clone(),
            pair: self.pair.clone(),
            number,
            previous,
            claim: Some(self.claims[usize::from(root != self.source.path())].to_owned()),
            exclude: Exclusions::default(),
            limits: Limits {
                workers: 2,
                peer_timeout: Duration::from_millis(300),
                pack_bytes: 1_100_000,
                segment_bytes: 300,
                heartbeat: Duration::from_millis(50),
                mark_interval: Duration::ZERO,
                durable: false,
            },
        }
    }

    async fn send(
        &self,
        store: Arc<dyn ObjectStore>,
        number: u32,
        previous: Option<u32>,
    ) -> Result<u64, MoverError> {
        let pass = self.pass(self.source.path(), store, number, previous);
        let options = SendOptions { pass, sender: "sender".to_owned(), still: false };
        Ok(send(options, Progress::new(), CancellationToken::new()).await?.bytes_uploaded)
    }

    async fn receive(
        &self,
        root: &Path,
        store: Arc<dyn ObjectStore>,
        number: u32,
        previous: Option<u32>,
    ) -> Result<(), MoverError> {
        let pass = self.pass(root, store, number, previous);
        let options =
            ReceiveOptions { pass, metadata_policy: MetadataPolicy::Strict, verify: VerifyMethod::Inline };
        receive(options, Progress::new(), CancellationToken::new()).await.map(drop)
    }

    /// The next pass, both sides and a collection at once, each of which may die.
    async fn run(&mut self, lives: [Option<u32>; 3], keep: u32) -> Option<u64> {
        let (newest, previous) = self.passes().await;
        let number = newest + 1;
        self.sent.insert(number, tree(self.source.path()));
        let [sender, receiver, collector] = lives.map(|life| Dying::after(&self.memory, life));
        let (staged, held) = (self.staged(collector), BTreeSet::new());
        let (sent, received, collected) = tokio::join!(
            self.send(sender, number, previous),
            self.receive(self.destination.path(), receiver, number, previous),
            collect(&staged, &self.volume, (keep, &held), false),
        );
        for error in [sent.as_ref().err(), received.as_ref().err()].into_iter().flatten() {
            assert!(matches!(error.reason(), "StoreUnavailable" | "SenderSilent"), "{error}");
        }
        if let Err(error) = collected {
            assert!(error.to_string().contains("killed"), "{error}");
        }
        sent.ok().filter(|_| received.is_ok())
    }

    async fn collect(&self, keep: u32) -> Collected {
        let store: Arc<dyn ObjectStore> = Arc::new(self.memory.clone());
        collect(&self.staged(store), &self.volume, (keep, &BTreeSet::new()), false).await.unwrap()
    }

    fn keys(&self) -> Vec<String> {
        self.memory.contents().into_iter().map(|(key, _)| key).collect()
    }

    fn packs(&self) -> usize {
        self.keys().iter().filter(|key| key.contains("/packs/")).count()
    }

    /// Every pass that counts as complete arrives whole in an empty folder.
    async fn assert_complete_passes_arrive(&self) {
        for (pass, tree_then) in &self.sent {
            let mark = layout::pass_received(&self.pair, &self.volume, *pass);
            let key = self.key.volume_key(&self.volume).unwrap();
            let store: Arc<dyn ObjectStore> = Arc::new(self.memory.clone());
            if !crate::mover::is_received(store, &key, &self.pair, &self.volume, *pass).await.unwrap() {
                continue;
            }
            let copy = MemoryStore::new();
            for (key, _) in self.memory.contents() {
                copy.set_raw(&key, self.memory.raw(&key).unwrap());
            }
            copy.delete(&[mark]).await.unwrap();
            let folder = tempfile::tempdir().unwrap();
            self.receive(folder.path(), Arc::new(copy), *pass, None).await.unwrap();
            assert!(tree(folder.path()) == *tree_then, "pass {pass} arrived otherwise");
        }
    }
}

fn tree(root: &Path) -> Tree {
    let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

const ALIVE: [Option<u32>; 3] = [None, None, None];

#[tokio::test(flavor = "multi_thread")]
async fn old_passes_and_their_packs_go_and_the_next_pass_sends_only_what_changed() {
    let mut world = World::new();
    for file in 0..6 {
        world.write(&format!("file-{file}"), file, 900_000);
    }
    let first = world.run(ALIVE, 1).await.unwrap();
    for round in 0..3 {
        world.write("file-0", 100 + round, 900_000);
        world.run(ALIVE, 9).await.unwrap();
    }
    let before = world.packs();
    let collected = world.collect(1).await;
    assert_eq!((collected.passes, collected.newest_pass), (1, 4));
    assert!(collected.objects_removed > 0 && collected.note.is_none(), "{collected:?}");
    assert!(world.packs() < before, "{} packs, before {before}", world.packs());
    assert!(!world.keys().iter().any(|key| key.contains("/passes/00000003/")));
    world.assert_complete_passes_arrive().await;
    assert_eq!(world.collect(1).await.objects_removed, 0, "a second collection finds nothing");
    world.write("file-1", 200, 900_000);
    let uploaded = world.run(ALIVE, 1).await.unwrap();
    assert!(uploaded < first / 3, "{uploaded} of {first}");
    assert_eq!(tree(world.source.path()), tree(world.destination.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_that_a_failover_would_go_by_stays_with_all_that_it_names() {
    let mut world = World::new();
    let mut trees = BTreeMap::new();
    for round in 0..4 {
        world.write("file", round, 900_000);
        world.write(&format!("file-{round}"), 50 + round, 700_000);
        world.run(ALIVE, 9).await.unwrap();
        trees.insert(u32::try_from(round).unwrap() + 1, tree(world.source.path()));
    }
    let held = BTreeSet::from([2]);
    let store: Arc<dyn ObjectStore> = Arc::new(world.memory.clone());
    let staged = world.staged(store.clone());
    for keep in [1, 0] {
        let collected = collect(&staged, &world.volume, (keep, &held), false).await.unwrap();
        assert_eq!((collected.passes, collected.newest_pass), (2, 4), "keeping {keep}");
    }
    let options = ReceiveOptions {
        pass: world.pass(world.destination.path(), store, 2, None),
        metadata_policy: MetadataPolicy::Strict,
        verify: VerifyMethod::Full,
    };
    recover(options, Progress::new(), CancellationToken::new()).await.unwrap();
    assert_eq!(tree(world.destination.path()), trees[&2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_what_would_go_and_touches_nothing() {
    let mut world = World::new();
    for round in 0..4 {
        world.write("file", round, 700_000);
        world.run(ALIVE, 9).await.unwrap();
    }
    for keep in [2, 1, 0] {
        let keys = world.keys();
        let store: Arc<dyn ObjectStore> = Arc::new(world.memory.clone());
        let staged = world.staged(store);
        let told = collect(&staged, &world.volume, (keep, &BTreeSet::new()), true).await.unwrap();
        assert_eq!(world.keys(), keys);
        let whole = measure(&staged, &world.volume).await.unwrap();
        assert_eq!(told.objects_removed + told.objects_kept, whole.objects_kept);
        assert_eq!(told.bytes_removed + told.bytes_kept, whole.bytes_kept);
        assert_eq!(world.collect(keep).await, told, "keeping {keep}");
        assert_eq!(world.keys().len() as u64, told.objects_kept);
    }
    assert_eq!(world.keys(), Vec::<String>::new(), "with nothing to keep nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_kept_and_told() {
    let mut world = World::new();
    for round in 0..3 {
        world.write("file", round, 700_000);
        world.run(ALIVE, 9).await.unwrap();
    }
    let foreign = [
        "pair/volumes/volume/packs/zz/note".to_owned(),
        "pair/volumes/volume/passes/00000001/extra".to_owned(),
        "pair/volumes/volume/README".to_owned(),
    ];
    for key in &foreign {
        world.memory.set_raw(key, Bytes::from_static(b"x"));
    }
    let segment = layout::pass_segment(&world.pair, &world.volume, 3, 0);
    let intact = world.memory.raw(&segment).unwrap();
    world.memory.set_raw(&segment, Bytes::from_static(b"not a segment"));
    let packs = world.packs();
    let collected = world.collect(1).await;
    assert!(collected.note.unwrap().contains("the manifest of pass 3 cannot be read"));
    assert_eq!(world.packs(), packs, "no pack goes while a manifest cannot be read");
    world.memory.set_raw(&segment, intact);
    world.collect(1).await;
    assert!(world.packs() < packs);
    for key in &foreign {
        assert!(world.memory.raw(key).is_some(), "{key}");
    }
    world.assert_complete_passes_arrive().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_without_a_complete_pass_is_left_as_it_is() {
    let mut world = World::new();
    world.write("file", 1, 700_000);
    assert_eq!(world.run([None, Some(3), None], 1).await, None);
    let keys = world.keys();
    assert!(!keys.is_empty());
    assert_eq!(world.collect(1).await.objects_removed, 0);
    assert_eq!(world.keys(), keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_way_has_sent_and_the_other_needs_stays() {
    let mut world = World::new();
    for file in 0..4 {
        world.write(&format!("file-{file}"), file, 900_000);
    }
    let first = world.run(ALIVE, 1).await.unwrap();
    for round in 0..3 {
        world.turn();
        world.write("file-0", 100 + round, 900_000);
        let back = world.run(ALIVE, 1).await.unwrap();
        assert!(back < first / 3, "{back} of {first}");
        world.collect(1).await;
        assert!(tree(world.source.path()) == tree(world.destination.path()));
        world.assert_complete_passes_arrive().await;
    }
}

#[derive(Clone, Debug)]
enum Op {
    Write { file: u8, seed: u64, length: usize },
    Remove { file: u8 },
    Run { lives: [Option<u32>; 3], keep: u32 },
    Turn,
    Collect { life: Option<u32>, keep: u32 },
}

fn life() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![2 => Just(None), 1 => (0_u32..40).prop_map(Some)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0_u8..5, any::<u64>(), 0_usize..800_000)
            .prop_map(|(file, seed, length)| Op::Write { file, seed, length }),
        1 => (0_u8..5).prop_map(|file| Op::Remove { file }),
        4 => ([life(), life(), life()], 1_u32..3).prop_map(|(lives, keep)| Op::Run { lives, keep }),
        1 => Just(Op::Turn),
        2 => (life(), 1_u32..3).prop_map(|(life, keep)| Op::Collect { life, keep }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn passes_that_are_kept_arrive_whole_however_passes_and_collections_meet_and_die(
        ops in proptest::collection::vec(op(), 1..14),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            let mut complete = None;
            for op in ops {
                match op {
                    Op::Write { file, seed, length } => world.write(&format!("f{file}"), seed, length),
                    Op::Remove { file } => {
                        // It may not be there.
                        let _ = fs::remove_file(world.source.path().join(format!("f{file}")));
                    }
                    Op::Turn => world.turn(),
                    Op::Run { lives, keep } => {
                        world.run(lives, keep).await;
                    }
                    Op::Collect { life, keep } => {
                        let staged = world.staged(Dying::after(&world.memory, life));
                        let _ = collect(&staged, &world.volume, (keep, &BTreeSet::new()), false).await;
                    }
                }
                let (newest, newest_complete) = world.passes().await;
                assert!(newest_complete >= complete, "the newest complete pass was lost");
                assert!(newest_complete.is_none_or(|pass| pass <= newest));
                complete = newest_complete;
            }
            world.assert_complete_passes_arrive().await;
            // And what is left goes on from there: one more pass arrives, and little is left of the rest.
            world.run(ALIVE, 1).await.unwrap();
            assert!(tree(world.source.path()) == tree(world.destination.path()));
            world.collect(1).await;
            let (newest, _) = world.passes().await;
            let passes: BTreeSet<_> =
                world.keys().iter().filter_map(|k| k.split("/passes/").nth(1)?.get(..8).map(str::to_owned)).collect();
            assert_eq!(passes.into_iter().collect::<Vec<_>>(), [format!("{newest:08}")]);
            world.assert_complete_passes_arrive().await;
        });
    }
}
