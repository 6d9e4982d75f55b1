//! Reading ahead, over a store that takes its time.

use std::{ops::Range, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use isthmus_shared::staging::{ListPage, MemoryStore, PairKey, StoreError};
use tokio::time::Instant;

use super::*;
use crate::mover::{
    format::{End, Record, SegmentBuilder},
    report::SendReport,
};

/// How long each answer takes.
const LATENCY: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct Slow(MemoryStore);

impl ObjectStore for Slow {
    fn put(&self, key: &str, body: Bytes) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.put(key, body)
    }

    fn get(&self, key: &str) -> BoxFuture<'_, Result<Bytes, StoreError>> {
        let key = key.to_owned();
        async move {
            let answer = self.0.get(&key).await;
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
        self.0.read_range(key, range, into)
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ListPage, StoreError>> {
        self.0.list(prefix, after, limit)
    }

    fn delete(&self, keys: &[String]) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.delete(keys)
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
        let volume = VolumeUid::new("volume").unwrap();
        let key = PairKey::generate().unwrap().volume_key(&volume).unwrap().manifest_key().unwrap();
        let place = Place {
            store: Arc::new(Slow(MemoryStore::new())),
            pair: PairUid::new("pair").unwrap(),
            volume,
            key: Arc::new(key),
        };
        Self { place, next: 0, chain: Chain::default() }
    }

    async fn segments(&mut self, count: u64) {
        for _ in 0..count {
            let object = layout::pass_segment(&self.place.pair, &self.place.volume, 1, self.next);
            let mut builder = SegmentBuilder::default();
            builder.push(&Record::End(End { inconsistent: false }));
            let report = SendReport::default();
            let (sealed, chain) = builder.seal(&self.place.key, &object, self.chain, &report, false).unwrap();
            self.place.store.put(&object, sealed.into()).await.unwrap();
            (self.next, self.chain) = (self.next + 1, chain);
        }
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
