//! What earlier passes of a volume lie in staging.

use isthmus_shared::staging::{ArchiveError, StoreError, VolumeUid, layout};

use crate::staging_area::StagingArea;

/// Passes that are looked at; each run makes one.
const MAX_PASSES: u32 = 100_000;

/// The passes of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passes {
    /// The newest, complete or not; 0 if there is none.
    pub newest: u32,
    /// The newest complete one.
    pub newest_complete: Option<u32>,
}

/// Finds them, with one listing a pass.
pub async fn newest_passes(area: &StagingArea, volume: &str) -> Result<Passes, ArchiveError> {
    let volume = VolumeUid::new(volume)?;
    let failed =
        |source: StoreError| ArchiveError::Store { archive: format!("passes of volume {volume}"), source };
    let root = format!("{}passes/", layout::volume_prefix(&area.pair, &volume));
    let mut passes = Passes::default();
    let mut after: Option<String> = None;
    for _ in 0..MAX_PASSES {
        let page = area.store.list(&root, after.as_deref(), 1).await.map_err(failed)?;
        let Some(object) = page.objects.first() else { break };
        let number = object.key.strip_prefix(&root).and_then(|rest| rest.split('/').next()?.parse().ok());
        let Some(number) = number else {
            after = Some(object.key.clone());
            continue;
        };
        passes.newest = passes.newest.max(number);
        // Behind everything of this pass: '~' is the last of the characters that keys have.
        after = Some(format!("{}~", layout::pass_prefix(&area.pair, &volume, number)));
    }
    Ok(passes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use isthmus_shared::staging::{MemoryStore, MigrationUid, ObjectStore, PairKey, PairUid};

    use super::*;

    #[tokio::test]
    async fn the_newest_pass_is_found_however_many_segments_the_others_have() {
        let store = MemoryStore::new();
        let area = StagingArea {
            store: Arc::new(store.clone()),
            key: PairKey::generate().unwrap(),
            pair: PairUid::new("p").unwrap(),
            migration: MigrationUid::new("m").unwrap(),
        };
        assert_eq!(newest_passes(&area, "v").await.unwrap().newest, 0);
        let volume = VolumeUid::new("v").unwrap();
        for pass in [1, 2, 12] {
            for segment in 0..3 {
                let key = layout::pass_segment(&area.pair, &volume, pass, segment);
                store.put(&key, Bytes::from_static(b"x")).await.unwrap();
            }
        }
        assert_eq!(newest_passes(&area, "v").await.unwrap().newest, 12);
    }
}
