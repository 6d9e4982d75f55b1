//! Reading the manifest of a pass from staging, segment by segment, in order.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use isthmus_shared::staging::{ObjectStore, PairUid, SealKey, VolumeUid, layout};
use tokio_util::task::AbortOnDropHandle;

use super::{
    error::MoverError,
    format::{Chain, Segment},
    limits::{MAX_SEALED_SEGMENT, SEGMENT_AHEAD_BYTES, SEGMENTS_AHEAD},
};

/// Where a volume's data lies in staging.
#[derive(Debug, Clone)]
pub struct Place {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The pair.
    pub pair: PairUid,
    /// The volume.
    pub volume: VolumeUid,
    /// What seals manifests and marks.
    pub key: Arc<SealKey>,
}

impl Place {
    /// Reads one of the sealed objects beside the segments, of at most `limit` bytes; `None` if it is
    /// not there.
    pub async fn read_sealed(&self, object: &str, limit: usize) -> Result<Option<Vec<u8>>, MoverError> {
        match self.store.get_at_most(object, limit).await {
            Ok(sealed) => Ok(Some(self.key.open(object, &sealed)?)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes one of the sealed objects beside the segments.
    pub async fn write_sealed(&self, object: &str, plain: &[u8]) -> Result<(), MoverError> {
        let sealed = self.key.seal(object, plain)?;
        Ok(self.store.put(object, sealed.into()).await?)
    }
}

/// A segment as the store has it; `None` if it is not there.
type Sealed = Result<Option<Bytes>, MoverError>;

/// The segments of a pass in order.
///
/// The time that a segment takes to come is not waited for again and again: once one was there,
/// the next ones are asked for before they are needed, first one, then twice as many each time,
/// up to [`SEGMENTS_AHEAD`]. One that was not there lets it begin anew, so that a reader that has
/// caught up with a sender asks for little in vain.
///
/// What comes ahead was not opened yet: anybody who can write to the bucket may have made it. So it
/// is taken up to [`SEGMENT_AHEAD_BYTES`] each; one that is larger is asked for again when it is
/// needed, alone, and refused beyond what a sealed segment can be.
#[derive(Debug)]
pub struct SegmentReader {
    place: Place,
    pass: u32,
    next: u64,
    chain: Chain,
    /// What was asked for: the next segment and those behind it.
    asked: VecDeque<AbortOnDropHandle<Sealed>>,
    /// How many segments were there when they were wanted, since the last one that was not.
    found: usize,
}

impl SegmentReader {
    /// Starts at the first segment.
    pub fn new(place: Place, pass: u32) -> Self {
        Self::resume(place, pass, 0, Chain::default())
    }

    /// Goes on at segment `next`; `chain` is the digest of those before it.
    pub fn resume(place: Place, pass: u32, next: u64, chain: Chain) -> Self {
        Self { place, pass, next, chain, asked: VecDeque::with_capacity(SEGMENTS_AHEAD + 1), found: 0 }
    }

    /// The number of the next segment.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The digest of all segments read so far.
    pub fn chain(&self) -> Chain {
        self.chain
    }

    /// The next segment; `None` if it is not there (yet).
    pub async fn next(&mut self) -> Result<Option<Segment>, MoverError> {
        let Some(sealed) = self.take().await? else {
            return Ok(None);
        };
        let segment = Segment::open(&self.place.key, &self.object(self.next), &sealed, self.chain)?;
        self.next += 1;
        self.found += 1;
        self.chain = segment.chain;
        Ok(Some(segment))
    }

    async fn take(&mut self) -> Sealed {
        // An answer from before may have become untrue: then it is asked once more.
        let early = !self.asked.is_empty();
        if !early {
            self.ask_alone();
        }
        while self.asked.len() <= self.ahead() {
            let behind = self.ask_for(self.next + self.asked.len() as u64, SEGMENT_AHEAD_BYTES);
            self.asked.push_back(behind);
        }
        match self.answer().await {
            Ok(None) => {
                self.asked.clear();
                self.found = 0;
                if !early {
                    return Ok(None);
                }
                self.ask_alone();
            }
            Err(MoverError::Store(error)) if early && error.is_too_large() => self.ask_alone(),
            answered => return answered,
        }
        self.answer().await
    }

    /// Asks for the next segment as one that is taken whatever its size may rightly be.
    fn ask_alone(&mut self) {
        let next = self.ask_for(self.next, MAX_SEALED_SEGMENT);
        self.asked.push_front(next);
    }

    /// How many segments behind the next one to ask for.
    fn ahead(&self) -> usize {
        let doubled = u32::try_from(self.found).ok().and_then(|found| 1_usize.checked_shl(found));
        doubled.map_or(SEGMENTS_AHEAD, |doubled| (doubled - 1).min(SEGMENTS_AHEAD))
    }

    fn object(&self, number: u64) -> String {
        layout::pass_segment(&self.place.pair, &self.place.volume, self.pass, number)
    }

    fn ask_for(&self, number: u64, limit: usize) -> AbortOnDropHandle<Sealed> {
        let (store, object) = (self.place.store.clone(), self.object(number));
        AbortOnDropHandle::new(tokio::spawn(async move {
            match store.get_at_most(&object, limit).await {
                Ok(sealed) => Ok(Some(sealed)),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error.into()),
            }
        }))
    }

    async fn answer(&mut self) -> Sealed {
        // It stays in the queue while it is awaited: a caller may give up waiting and come again.
        let Some(first) = self.asked.front_mut() else {
            return Ok(None);
        };
        let answered = first.await.map_err(|error| MoverError::Worker { detail: error.to_string() });
        self.asked.pop_front();
        answered?
    }
}

#[cfg(test)]
mod tests;
