//! Reading ahead, over a store that takes its time, and over one that makes things up.

use std::{
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use isthmus_shared::staging::{ListPage, MemoryStore, PairKey, StoreError};
use tokio::time::Instant;

use super::*;
use crate::mover::{
    format::{End, Entry, Kind, Metadata, Record, SegmentBuilder, Stamp, Xattr},
    limits::MAX_XATTR_BYTES,
    report::SendReport,
};

/// How long each answer takes.
const LATENCY: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
struct Slow {
    inner: MemoryStore,
    /// The size of what it answers where there is nothing; none where that is all right.
    makes_up: Option<usize>,
    held: Arc<Held>,
}

/// Bytes of made up answers: those that somebody holds, and the most that were ever held.
#[derive(Debug, Default)]
struct Held {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// A made up answer. It stands for its size, without taking it.
struct MadeUp {
    size: usize,
    held: Arc<Held>,
}

impl MadeUp {
    fn new(size: usize, held: Arc<Held>) -> Self {
        let now = held.now.fetch_add(size, Ordering::SeqCst) + size;
        held.most.fetch_max(now, Ordering::SeqCst);
        Self { size, held }
    }
}

impl AsRef<[u8]> for MadeUp {
    fn as_ref(&self) -> &[u8] {
        b"made up"
    }
}

impl Drop for MadeUp {
    fn drop(&mut self) {
        self.held.now.fetch_sub(self.size, Ordering::SeqCst);
    }
}

impl Slow {
    async fn answer(&self, key: &str, limit: usize) -> Result<Bytes, StoreError> {
        match (self.inner.get_at_most(key, limit).await, self.makes_up) {
            (Err(StoreError::NotFound { store, key }), Some(size)) if size > limit => {
                let (bytes, limit) = (size as u64, limit as u64);
                Err(StoreError::TooLarge { store, key, bytes, limit })
            }
            (Err(StoreError::NotFound { .. }), Some(size)) => {
                Ok(Bytes::from_owner(MadeUp::new(size, self.held.clone())))
            }
            (answer, _) => answer,
        }
    }
}

impl ObjectStore for Slow {
    fn put(&self, key: &str, body: Bytes) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.put(key, body)
    }

    fn get_at_most(&self, key: &str, limit: usize) -> BoxFuture<'_, Result<Bytes, StoreError>> {
        let key = key.to_owned();
        async move {
            let answer = self.answer(&key, limit).await;
            tokio::time::sleep(LATENCY).await;
            answer
        }
        .boxed()
    }

    fn read_range<'a>(
        &'a self,
        key: &str,
        range: Range<u64>,
        into: &'a mut Vec<u8>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.inner.read_range(key, range, into)
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ListPage, StoreError>> {
        self.inner.list(prefix, after, limit)
    }

    fn delete(&self, keys: &[String]) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.delete(keys)
    }
}

/// A pass that is being written.
struct Written {
    place: Place,
    next: u64,
    chain: Chain,
}

impl Written {
    fn new() -> Self {
        Self::to(Slow::default())
    }

    fn to(store: Slow) -> Self {
        let volume = VolumeUid::new("volume").unwrap();
        let key = PairKey::generate().unwrap().volume_key(&volume).unwrap().manifest_key().unwrap();
        let place =
            Place { store: Arc::new(store), pair: PairUid::new("pair").unwrap(), volume, key: Arc::new(key) };
        Self { place, next: 0, chain: Chain::default() }
    }

    async fn segments(&mut self, count: u64) {
        for _ in 0..count {
            self.segment(&Record::End(End { inconsistent: false })).await;
        }
    }

    async fn segment(&mut self, record: &Record) {
        let object = layout::pass_segment(&self.place.pair, &self.place.volume, 1, self.next);
        let mut builder = SegmentBuilder::default();
        builder.push(record);
        let report = SendReport::default();
        let (sealed, chain) = builder.seal(&self.place.key, &object, self.chain, &report, false).unwrap();
        self.place.store.put(&object, sealed.into()).await.unwrap();
        (self.next, self.chain) = (self.next + 1, chain);
    }
}

#[tokio::test(start_paused = true)]
async fn many_segments_take_a_part_of_the_time_that_each_takes() {
    let mut written = Written::new();
    written.segments(100).await;
    let mut reader = SegmentReader::new(written.place.clone(), 1);
    let started = Instant::now();
    for number in 0..100 {
        assert_eq!(reader.position(), number);
        assert!(reader.next().await.unwrap().is_some(), "segment {number}");
    }
    assert!(reader.next().await.unwrap().is_none());
    assert_eq!(reader.chain(), written.chain);
    assert!(started.elapsed() < 15 * LATENCY, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_was_asked_for_too_early_is_found_once_it_is_there() {
    let mut written = Written::new();
    let mut reader = SegmentReader::new(written.place.clone(), 1);
    for round in 1..8 {
        written.segments(round).await;
        for _ in 0..round {
            assert!(reader.next().await.unwrap().is_some(), "segment {}", reader.position());
        }
        if round % 2 == 0 {
            assert!(reader.next().await.unwrap().is_none(), "it was not written yet");
        } else {
            // What was asked for ahead has its answer, that it is not there.
            tokio::time::sleep(2 * LATENCY).await;
        }
    }
    assert_eq!(reader.position(), written.next);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_given_up_and_asked_again_loses_nothing() {
    let mut written = Written::new();
    written.segments(6).await;
    let mut reader = SegmentReader::new(written.place.clone(), 1);
    for number in 0..6 {
        assert!(tokio::time::timeout(LATENCY / 50, reader.next()).await.is_err() || number > 0);
        while reader.position() == number {
            reader.next().await.unwrap();
        }
    }
    assert_eq!(reader.position(), 6);
}

/// A record as large as one can be, that nothing makes smaller.
fn largest() -> Record {
    let value = (0..MAX_XATTR_BYTES as u64 / 8 - 8)
        .flat_map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[..8].to_vec());
    let xattrs = vec![Xattr { name: b"user.large".to_vec(), value: value.collect() }];
    let metadata = Metadata { xattrs, ..Metadata::default() };
    let kind = Kind::Directory;
    Record::Entry(Entry { path: Vec::new(), metadata, stamp: Stamp::default(), changed_in: 1, kind })
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_is_too_large_to_wait_among_others_is_read_in_its_turn() {
    let mut written = Written::new();
    written.segments(20).await;
    written.segment(&largest()).await;
    written.segments(20).await;
    let mut reader = SegmentReader::new(written.place.clone(), 1);
    let started = Instant::now();
    for number in 0..41 {
        assert!(reader.next().await.unwrap().is_some(), "segment {number}");
    }
    assert_eq!(reader.chain(), written.chain);
    assert!(started.elapsed() < 12 * LATENCY, "it holds up the others by no more than its own time");
}

#[tokio::test(start_paused = true)]
async fn what_a_hostile_store_answers_ahead_takes_little_memory_whatever_its_size() {
    let bound = SEGMENTS_AHEAD * SEGMENT_AHEAD_BYTES + MAX_SEALED_SEGMENT;
    assert!(bound < 16 << 20, "{bound} bytes");
    for (size, reason) in [
        (64 << 20, "ObjectTooLarge"),
        (MAX_SEALED_SEGMENT + 1, "ObjectTooLarge"),
        (MAX_SEALED_SEGMENT, "StagingDamaged"),
        (SEGMENT_AHEAD_BYTES + 1, "StagingDamaged"),
        (SEGMENT_AHEAD_BYTES, "StagingDamaged"),
    ] {
        let held = Arc::new(Held::default());
        let store = Slow { makes_up: Some(size), held: held.clone(), ..Slow::default() };
        let mut written = Written::to(store);
        // By then it is asked for as far ahead as ever.
        written.segments(30).await;
        let mut reader = SegmentReader::new(written.place.clone(), 1);
        for _ in 0..30 {
            reader.next().await.unwrap();
        }
        let error = reader.next().await.unwrap_err();
        assert_eq!(error.reason(), reason, "{size} bytes: {error}");
        let most = held.most.load(Ordering::SeqCst);
        assert!(most <= bound, "{most} of {bound} bytes, where each has {size}");
        drop(reader);
    }
}
