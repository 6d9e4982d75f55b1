//! What earlier passes of a volume lie in staging.

use std::collections::VecDeque;
use std::sync::Arc;

use isthmus_shared::resources::Finding;
use isthmus_shared::staging::{VolumeUid, layout};

use crate::findings::finding;
use crate::mover::{MoverError, is_received};
use crate::staging_area::StagingArea;
use crate::task::TaskError;

/// Passes that are looked at; each run makes one.
const MAX_PASSES: u32 = 100_000;
/// How far back a complete pass is looked for; beyond, the next pass begins from nothing.
const MAX_LOOKED_AT: usize = 16;

/// The passes of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passes {
    /// The newest, complete or not; 0 if there is none.
    pub newest: u32,
    /// The newest that was received to its end.
    pub newest_complete: Option<u32>,
}

/// Finds them, with one listing a pass.
pub async fn newest_passes(area: &StagingArea, volume: &str) -> Result<Passes, TaskError> {
    let object = format!("passes of volume {volume}");
    let failed = |error: &dyn std::fmt::Display, transient: bool| {
        let finding: Finding = finding(&object, "StagingUnreadable", error.to_string());
        if transient { TaskError::Transient(finding) } else { TaskError::Failed(finding.into()) }
    };
    let volume = VolumeUid::new(volume).map_err(|e| failed(&e, false))?;
    let root = format!("{}passes/", layout::volume_prefix(&area.pair, &volume));
    let mut newest: VecDeque<u32> = VecDeque::new();
    let mut after: Option<String> = None;
    for _ in 0..MAX_PASSES {
        let page =
            area.store.list(&root, after.as_deref(), 1).await.map_err(|e| failed(&e, e.is_retryable()))?;
        let Some(object) = page.objects.first() else { break };
        let number = object.key.strip_prefix(&root).and_then(|rest| rest.split('/').next()?.parse().ok());
        let Some(number) = number else {
            after = Some(object.key.clone());
            continue;
        };
        newest.push_front(number);
        newest.truncate(MAX_LOOKED_AT);
        // Behind everything of this pass: '~' is the last of the characters that keys have.
        after = Some(format!("{}~", layout::pass_prefix(&area.pair, &volume, number)));
    }
    let key = area.key.volume_key(&volume).map_err(|e| failed(&e, false))?;
    let mut passes = Passes { newest: newest.front().copied().unwrap_or_default(), newest_complete: None };
    for pass in newest {
        match is_received(Arc::clone(&area.store), &key, &area.pair, &volume, pass).await {
            Ok(true) => {
                passes.newest_complete = Some(pass);
                break;
            }
            Ok(false) => {}
            Err(MoverError::Store(error)) => return Err(failed(&error, error.is_retryable())),
            // What cannot be read is not built on: the next pass is a whole one.
            Err(error) => tracing::warn!(%volume, pass, %error, "an earlier pass is left aside"),
        }
    }
    Ok(passes)
}

#[cfg(test)]
mod tests {
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
