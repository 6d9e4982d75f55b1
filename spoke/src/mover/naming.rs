//! Which packs the manifest of a pass names: what a collection of old packs must leave.

use std::sync::Arc;

use isthmus_shared::staging::{ObjectStore, PairUid, VolumeKey, VolumeUid};

use super::{
    error::MoverError,
    format::{PackId, PiecePlace, Record},
    manifest::{Place, SegmentReader},
};

/// Reads the manifest of a pass and gives each pack that it names to `name`, many of them more
/// than once. Tells whether the manifest goes to its end. One segment is in memory at a time.
pub async fn named_packs(
    store: Arc<dyn ObjectStore>,
    key: &VolumeKey,
    pair: &PairUid,
    volume: &VolumeUid,
    pass: u32,
    mut name: impl FnMut([u8; 16]) + Send,
) -> Result<bool, MoverError> {
    let key = Arc::new(key.manifest_key()?);
    let place = Place { store, pair: pair.clone(), volume: volume.clone(), key };
    let mut reader = SegmentReader::new(place, pass);
    while let Some(segment) = reader.next().await? {
        let mut last: Option<PackId> = None;
        for piece in segment.records.iter().flat_map(Record::pieces) {
            if let PiecePlace::Frame { frame, .. } = &piece.place
                && last != Some(frame.pack)
            {
                last = Some(frame.pack);
                name(frame.pack.0);
            }
        }
        if segment.last {
            return Ok(true);
        }
    }
    Ok(false)
}
