//! Keeping to a bandwidth limit: an object store that lets so many bytes a second pass, both ways
//! together.
//!
//! Every call pays for its bytes from one bucket that fills at the limit's rate and holds a
//! quarter of a second's worth. It pays in small slices, and the callers take turns slice by
//! slice: so a heartbeat of a few bytes does not wait for the pack of 16 MiB that came first.
//!
//! A write and the read of a range pay before the bytes move, as their length is known; a whole
//! object pays when it has come. A burst on the wire is therefore one object at the most, which is
//! why a limited sender makes smaller packs ([`pack_bytes`]). What is tried again after a failure
//! is paid for once: the store below does that by itself.
//!
//! A call that is dropped gets nothing and keeps nothing: what it had paid for goes back.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use isthmus_shared::staging::{ListPage, ObjectStore, StoreError};
use tokio::{sync::Mutex, time::Instant};

use super::limits::{BLOCK_BYTES, PACK_BYTES};

/// The most that one turn pays for, in bytes.
const SLICE: u64 = 64 * 1024;
/// How much the bucket holds, as a time at the limit's rate.
const BURST: Duration = Duration::from_millis(250);
/// The lowest rate that is kept to, in bytes a second: less than the share of a volume among many
/// under the lowest limit. Heartbeats, which show that a sender lives, pass at any rate in time.
pub const LOWEST_RATE: u64 = 1024;

/// A store that keeps to a rate.
#[derive(Debug)]
pub struct Throttled {
    inner: Arc<dyn ObjectStore>,
    bucket: Bucket,
}

impl Throttled {
    /// Lets at most `rate` bytes a second pass, and no less than [`LOWEST_RATE`].
    pub fn new(inner: Arc<dyn ObjectStore>, rate: u64) -> Self {
        Self { inner, bucket: Bucket::new(rate.max(LOWEST_RATE)) }
    }
}

/// The size at which a sender under this limit closes a pack: about a second's worth.
pub fn pack_bytes(rate: u64) -> usize {
    // A pack holds a block at least, with what sealing adds.
    usize::try_from(rate).unwrap_or(PACK_BYTES).clamp(2 * BLOCK_BYTES, PACK_BYTES)
}

impl ObjectStore for Throttled {
    fn put(&self, key: &str, body: Bytes) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = key.to_owned();
        async move {
            self.bucket.pay(body.len() as u64).await;
            self.inner.put(&key, body).await
        }
        .boxed()
    }

    fn get_at_most(&self, key: &str, limit: usize) -> BoxFuture<'_, Result<Bytes, StoreError>> {
        let key = key.to_owned();
        async move {
            let body = self.inner.get_at_most(&key, limit).await?;
            self.bucket.pay(body.len() as u64).await;
            Ok(body)
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
            self.bucket.pay(range.end.saturating_sub(range.start)).await;
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

/// The bucket. Its lock is handed on in the order in which it was asked for, and is held while
/// the slice of whoever has it is awaited: that makes the turns.
#[derive(Debug)]
struct Bucket {
    rate: u64,
    capacity: u64,
    level: Mutex<Level>,
}

#[derive(Debug)]
struct Level {
    /// What there was ...
    bytes: u64,
    /// ... at this time.
    at: Instant,
}

impl Level {
    /// Brings the level up to date.
    fn fill(&mut self, rate: u64, capacity: u64) {
        let now = Instant::now();
        let nanos = now.saturating_duration_since(self.at).as_nanos();
        let filled = nanos * u128::from(rate) / 1_000_000_000;
        let Ok(filled) = u64::try_from(filled) else {
            (self.bytes, self.at) = (capacity, now);
            return;
        };
        if self.bytes + filled >= capacity {
            (self.bytes, self.at) = (capacity, now);
        } else if filled > 0 {
            self.bytes += filled;
            // Only as far as whole bytes go: what is left of the time counts later.
            self.at += time_for(filled, rate);
        }
    }
}

/// How long it takes until `bytes` have come in, rounded up to a nanosecond.
fn time_for(bytes: u64, rate: u64) -> Duration {
    let nanos = (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(rate));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl Bucket {
    fn new(rate: u64) -> Self {
        let burst = u128::from(rate) * BURST.as_millis() / 1000;
        let capacity = u64::try_from(burst).unwrap_or(u64::MAX).max(1);
        // A bucket starts empty: a mover that is started again and again stays within its limit.
        Self { rate, capacity, level: Mutex::new(Level { bytes: 0, at: Instant::now() }) }
    }

    /// Waits until `bytes` may pass.
    async fn pay(&self, bytes: u64) {
        let mut paid = Paid { bucket: self, bytes: 0 };
        while paid.bytes < bytes {
            let slice = (bytes - paid.bytes).min(SLICE).min(self.capacity);
            let mut level = self.level.lock().await;
            level.fill(self.rate, self.capacity);
            while level.bytes < slice {
                tokio::time::sleep(time_for(slice - level.bytes, self.rate)).await;
                level.fill(self.rate, self.capacity);
            }
            level.bytes -= slice;
            drop(level);
            paid.bytes += slice;
        }
        paid.bytes = 0;
    }
}

/// What a caller has paid while it still waits for the rest.
struct Paid<'a> {
    bucket: &'a Bucket,
    bytes: u64,
}

impl Drop for Paid<'_> {
    fn drop(&mut self) {
        // Whoever holds the lock instead of us only waits the longer for it.
        if self.bytes > 0
            && let Ok(mut level) = self.bucket.level.try_lock()
        {
            level.bytes = (level.bytes + self.bytes).min(self.bucket.capacity);
        }
    }
}

#[cfg(test)]
mod tests {
    use isthmus_shared::staging::MemoryStore;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn limited(rate: u64) -> (Throttled, MemoryStore) {
        let memory = MemoryStore::new();
        (Throttled::new(Arc::new(memory.clone()), rate), memory)
    }

    fn body(bytes: u64) -> Bytes {
        vec![7; usize::try_from(bytes).unwrap()].into()
    }

    #[track_caller]
    fn assert_about(took: Duration, expected: f64) {
        let took = took.as_secs_f64();
        assert!((took - expected).abs() <= expected * 0.02 + 0.26, "{took} s instead of {expected} s");
    }

    #[tokio::test(start_paused = true)]
    async fn writing_and_reading_take_the_time_that_the_limit_gives() {
        let (store, _) = limited(2 * MIB);
        let started = Instant::now();
        store.put("k", body(10 * MIB)).await.unwrap();
        assert_about(started.elapsed(), 5.0);
        store.get("k").await.unwrap();
        assert_about(started.elapsed(), 10.0);
        store.get_range("k", 0..4 * MIB).await.unwrap();
        assert_about(started.elapsed(), 12.0);
    }

    #[tokio::test(start_paused = true)]
    async fn many_tasks_together_keep_to_the_limit_both_ways() {
        let (store, memory) = limited(4 * MIB);
        memory.put("k", body(4 * MIB)).await.unwrap();
        let store = Arc::new(store);
        let started = Instant::now();
        let tasks = (0..8).map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                if n % 2 == 0 {
                    store.put(&format!("p{n}"), body(4 * MIB)).await.unwrap();
                } else {
                    store.get_range("k", 0..4 * MIB).await.unwrap();
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_about(started.elapsed(), 8.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_object_does_not_wait_for_a_large_one_that_came_first() {
        let (store, _) = limited(MIB);
        let store = Arc::new(store);
        let large = tokio::spawn({
            let store = store.clone();
            async move { store.put("large", body(16 * MIB)).await }
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        let started = Instant::now();
        store.put("heartbeat", body(200)).await.unwrap();
        assert!(started.elapsed() < Duration::from_millis(300), "{:?}", started.elapsed());
        large.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn equal_tasks_are_served_equally() {
        let (store, _) = limited(MIB);
        let store = Arc::new(store);
        let started = Instant::now();
        let tasks: Vec<_> = (0..4)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move {
                    store.put(&n.to_string(), body(4 * MIB)).await.unwrap();
                    started.elapsed()
                })
            })
            .collect();
        for task in tasks {
            // One after the other the first would be done after 4 s.
            assert_about(task.await.unwrap(), 15.8);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_nobody_used_allows_a_quarter_of_a_second_and_no_more() {
        let (store, _) = limited(4 * MIB);
        tokio::time::sleep(Duration::from_hours(1)).await;
        let started = Instant::now();
        store.put("k", body(MIB)).await.unwrap();
        assert_eq!(started.elapsed(), Duration::ZERO);
        store.put("k", body(4 * MIB)).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(990), "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_dropped_writes_nothing_and_holds_nobody_up() {
        let (store, memory) = limited(MIB);
        let dropped = tokio::time::timeout(Duration::from_secs(2), store.put("dropped", body(16 * MIB)));
        assert!(dropped.await.is_err());
        assert!(memory.contents().is_empty());
        let started = Instant::now();
        store.put("next", body(MIB)).await.unwrap();
        assert_about(started.elapsed(), 1.0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_fails_as_without_a_limit() {
        let (store, _) = limited(MIB);
        assert!(store.get("none").await.unwrap_err().is_not_found());
        assert!(store.list("", None, 10).await.unwrap().objects.is_empty());
        store.delete(&["none".to_owned()]).await.unwrap();
    }

    #[test]
    fn packs_under_a_limit_are_about_a_second_of_it() {
        assert_eq!(pack_bytes(1000), 2 * BLOCK_BYTES);
        assert_eq!(pack_bytes(8 * MIB), 8 * BLOCK_BYTES);
        assert_eq!(pack_bytes(u64::MAX), PACK_BYTES);
    }
}
