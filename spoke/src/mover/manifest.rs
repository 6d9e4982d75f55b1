//! Reading the manifest of a pass from staging, segment by segment, in order.

use std::sync::Arc;

use isthmus_shared::staging::{ObjectStore, PairUid, SealKey, VolumeUid, layout};

use super::{
    error::MoverError,
    format::{Chain, Segment},
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
    /// Reads one of the small sealed objects beside the segments; `None` if it is not there.
    pub async fn read_sealed(&self, object: &str) -> Result<Option<Vec<u8>>, MoverError> {
        match self.store.get(object).await {
            Ok(sealed) => Ok(Some(self.key.open(object, &sealed)?)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes one of the small sealed objects beside the segments.
    pub async fn write_sealed(&self, object: &str, plain: &[u8]) -> Result<(), MoverError> {
        let sealed = self.key.seal(object, plain)?;
        Ok(self.store.put(object, sealed.into()).await?)
    }
}

/// The segments of a pass in order.
#[derive(Debug, Clone)]
pub struct SegmentReader {
    place: Place,
    pass: u32,
    next: u64,
    chain: Chain,
}

impl SegmentReader {
    /// Starts at the first segment.
    pub fn new(place: Place, pass: u32) -> Self {
        Self::resume(place, pass, 0, Chain::default())
    }

    /// Goes on at segment `next`; `chain` is the digest of those before it.
    pub fn resume(place: Place, pass: u32, next: u64, chain: Chain) -> Self {
        Self { place, pass, next, chain }
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
        let object = layout::pass_segment(&self.place.pair, &self.place.volume, self.pass, self.next);
        let sealed = match self.place.store.get(&object).await {
            Ok(sealed) => sealed,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let segment = Segment::open(&self.place.key, &object, &sealed, self.chain)?;
        self.next += 1;
        self.chain = segment.chain;
        Ok(Some(segment))
    }
}
