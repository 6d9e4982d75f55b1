//! A store that dies, and what is left to the next process.

use std::{
    ops::Range,
    sync::atomic::{AtomicI64, Ordering},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use isthmus_shared::staging::{ListPage, StoreError};

use super::{
    trees::{Random, TreeKind, generate},
    *,
};

/// Serves a number of calls, then none any more: to the store, that is what a killed mover
/// looks like.
#[derive(Debug)]
pub struct Cut {
    inner: Arc<dyn ObjectStore>,
    left: AtomicI64,
}

impl Cut {
    pub fn after(inner: Arc<dyn ObjectStore>, calls: u64) -> Arc<Self> {
        Arc::new(Self { inner, left: AtomicI64::new(i64::try_from(calls).unwrap()) })
    }

    fn served(&self, key: &str) -> Result<(), StoreError> {
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        Err(StoreError::Unavailable {
            store: "the test's store".to_owned(),
            operation: "call",
            key: key.to_owned(),
            detail: "killed".to_owned(),
        })
    }
}

impl ObjectStore for Cut {
    fn put(&self, key: &str, body: Bytes) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = key.to_owned();
        async move {
            self.served(&key)?;
            self.inner.put(&key, body).await
        }
        .boxed()
    }

    fn get(&self, key: &str) -> BoxFuture<'_, Result<Bytes, StoreError>> {
        let key = key.to_owned();
        async move {
            self.served(&key)?;
            self.inner.get(&key).await
        }
        .boxed()
    }

    fn read_range<'a>(
        &'a self,
        key: &str,
        range: Range<u64>,
        into: &'a mut Vec<u8>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let key = key.to_owned();
        async move {
            self.served(&key)?;
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
        self.inner.list(prefix, after, limit)
    }

    fn delete(&self, keys: &[String]) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.delete(keys)
    }
}

/// Runs a pass with both sides dying again and again at random calls, until both are through.
pub async fn run_dying_pass(volume: &Volume, pass: u32, random: &mut Random) -> u32 {
    let mut deaths = 0;
    let (mut sent, mut received) = (false, false);
    let mut patience = 8;
    while !(sent && received) {
        let mut sending = volume.send_options(pass);
        sending.pass.store = Cut::after(volume.store.clone(), random.below(patience));
        let mut receiving = volume.receive_options(pass);
        receiving.pass.limits.peer_timeout = Duration::from_millis(if sent { 10_000 } else { 100 });
        receiving.pass.store = Cut::after(volume.store.clone(), random.below(patience));
        let cancel = CancellationToken::new();
        let (sender, receiver) = tokio::join!(
            send(sending, Progress::new(), cancel.clone()),
            receive(receiving, Progress::new(), cancel.clone()),
        );
        for error in [sender.as_ref().err(), receiver.as_ref().err()].into_iter().flatten() {
            let expected = matches!(error.reason(), "StoreUnavailable" | "SenderSilent");
            assert!(expected, "{error}");
            deaths += 1;
        }
        sent |= sender.is_ok();
        received |= receiver.is_ok();
        patience += patience / 2;
    }
    deaths
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_may_die_at_any_call_and_the_pass_still_ends_exactly() {
    for seed in 0..2 {
        let mut volume = Volume::new();
        volume.limits.segment_bytes = 400;
        volume.limits.pack_bytes = 1_100_000;
        let mut random = Random::new(seed);
        generate(volume.source.path(), TreeKind::Mixed, seed, 0.002).unwrap();
        generate(volume.source.path(), TreeKind::Large, seed, 0.04).unwrap();
        let deaths = run_dying_pass(&volume, 1, &mut random).await;
        assert!(deaths > 2, "{deaths} deaths");
        volume.assert_equal();
        let more = volume.source.path().join("d00/more");
        std::fs::create_dir(&more).unwrap();
        generate(&more, TreeKind::Mixed, seed + 1, 0.001).unwrap();
        std::fs::remove_file(volume.source.path().join("large-2.bin")).unwrap();
        run_dying_pass(&volume, 2, &mut random).await;
        volume.assert_equal();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_sender_does_not_upload_again_what_segments_name() {
    let mut volume = Volume::new();
    volume.limits.segment_bytes = 400;
    volume.limits.pack_bytes = 1_100_000;
    generate(volume.source.path(), TreeKind::Mixed, 1, 0.01).unwrap();
    let whole = {
        let other = Volume::new();
        generate(other.source.path(), TreeKind::Mixed, 1, 0.01).unwrap();
        other.send(1).await.unwrap().bytes_uploaded
    };
    let mut sending = volume.send_options(1);
    sending.pass.store = Cut::after(volume.store.clone(), 14);
    let cancel = CancellationToken::new();
    send(sending, Progress::new(), cancel).await.unwrap_err();
    let left = volume.memory.contents().len();
    assert!(left > 6, "{left} objects");
    volume.send(1).await.unwrap();
    let staged: usize = volume
        .memory
        .contents()
        .iter()
        .filter(|(key, _)| key.contains("/packs/"))
        .map(|(_, size)| size)
        .sum();
    assert!((staged as u64) < whole + 8 * 1_100_000, "{staged} of {whole}");
    volume.receive(1).await.unwrap();
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_starts_again_does_not_fetch_finished_segments_again() {
    let mut volume = Volume::new();
    volume.limits.segment_bytes = 2000;
    generate(volume.source.path(), TreeKind::Mixed, 2, 0.02).unwrap();
    volume.send(1).await.unwrap();
    let mut receiving = volume.receive_options(1);
    receiving.pass.store = Cut::after(volume.store.clone(), 60);
    receive(receiving, Progress::new(), CancellationToken::new()).await.unwrap_err();
    let report = volume.receive(1).await.unwrap();
    volume.assert_equal();
    assert!(report.bytes_fetched < report.totals.bytes * 2, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_sender_is_named_by_its_receiver() {
    let mut volume = Volume::new();
    generate(volume.source.path(), TreeKind::Mixed, 2, 0.01).unwrap();
    volume.limits.peer_timeout = Duration::from_millis(400);
    let mut sending = volume.send_options(1);
    sending.pass.store = Cut::after(volume.store.clone(), 3);
    send(sending, Progress::new(), CancellationToken::new()).await.unwrap_err();
    let error = volume.receive(1).await.unwrap_err();
    assert_eq!(error.reason(), "SenderSilent");
    assert!(error.to_string().contains("sender-pod"), "{error}");
}
