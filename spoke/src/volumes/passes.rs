//! What earlier passes of a volume lie in staging.

use std::collections::VecDeque;
use std::sync::Arc;

use isthmus_shared::resources::Finding;
use isthmus_shared::staging::{VolumeUid, layout};

use crate::findings::finding;
use crate::mover::{MoverError, ReceiveReport, received};
use crate::staging_area::StagingArea;
use crate::task::TaskError;

/// Passes that are looked at; each run makes one.
const MAX_PASSES: u32 = 100_000;
/// How far back a complete pass is looked for; beyond, the next pass begins from nothing.
const MAX_LOOKED_AT: usize = 16;

/// The passes of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passes {
    /// The newest, complete or not; 0 if there is none.
    pub newest: u32,
    /// The newest that was received to its end.
    pub newest_complete: Option<u32>,
    /// What receiving that one came to.
    pub last: Option<ReceiveReport>,
}

impl Passes {
    /// What the files of the newest complete one take up, bytes: without their holes.
    pub fn content(&self) -> Option<u64> {
        let totals = &self.last.as_ref()?.totals;
        Some(totals.bytes.saturating_sub(totals.hole_bytes))
    }
}

/// Finds them, with one listing a pass.
pub async fn newest_passes(area: &StagingArea, volume: &str) -> Result<Passes, TaskError> {
    let failed = |error: &dyn std::fmt::Display, transient: bool| unreadable(volume, error, transient);
    let uid = VolumeUid::new(volume).map_err(|e| failed(&e, false))?;
    let mut newest: VecDeque<u32> = VecDeque::new();
    each_pass(area, &uid, 0, |number| {
        newest.push_front(number);
        newest.truncate(MAX_LOOKED_AT);
    })
    .await?;
    let volume = uid;
    let key = area.key.volume_key(&volume).map_err(|e| failed(&e, false))?;
    let mut passes = Passes { newest: newest.front().copied().unwrap_or_default(), ..Passes::default() };
    for pass in newest {
        match received(Arc::clone(&area.store), &key, &area.pair, &volume, pass).await {
            Ok(Some(report)) => {
                passes.newest_complete = Some(pass);
                passes.last = Some(report);
                break;
            }
            Ok(None) => {}
            Err(MoverError::Store(error)) => return Err(failed(&error, error.is_retryable())),
            // What cannot be read is not built on: the next pass is a whole one.
            Err(error) => tracing::warn!(%volume, pass, %error, "an earlier pass is left aside"),
        }
    }
    Ok(passes)
}

/// The passes of a volume that came after one, complete or not, at most [`MAX_PASSES`].
pub async fn passes_after(area: &StagingArea, volume: &VolumeUid, pass: u32) -> Result<Vec<u32>, TaskError> {
    let mut later = Vec::new();
    each_pass(area, volume, pass, |number| later.push(number)).await?;
    Ok(later)
}

/// Calls for each pass after one, in their order.
async fn each_pass(
    area: &StagingArea,
    volume: &VolumeUid,
    pass: u32,
    mut found: impl FnMut(u32) + Send,
) -> Result<(), TaskError> {
    // Behind everything of a pass: '~' is the last of the characters that keys have.
    let behind = |pass| format!("{}~", layout::pass_prefix(&area.pair, volume, pass));
    let root = layout::volume_passes_prefix(&area.pair, volume);
    let mut after = (pass > 0).then(|| behind(pass));
    for _ in 0..MAX_PASSES {
        let page = area.store.list(&root, after.as_deref(), 1).await;
        let page = page.map_err(|e| unreadable(volume.as_str(), &e, e.is_retryable()))?;
        let Some(object) = page.objects.first() else { break };
        let number = object.key.strip_prefix(&root).and_then(|rest| rest.split('/').next()?.parse().ok());
        let Some(number) = number else {
            after = Some(object.key.clone());
            continue;
        };
        found(number);
        after = Some(behind(number));
    }
    Ok(())
}

fn unreadable(volume: &str, error: &dyn std::fmt::Display, transient: bool) -> TaskError {
    let finding: Finding =
        finding(format!("passes of volume {volume}"), "StagingUnreadable", error.to_string());
    if transient { TaskError::Transient(finding) } else { TaskError::Failed(finding.into()) }
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
            origin: MigrationUid::new("m").unwrap(),
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
        for (pass, later) in [(0, vec![1, 2, 12]), (1, vec![2, 12]), (7, vec![12]), (12, vec![])] {
            assert_eq!(passes_after(&area, &volume, pass).await.unwrap(), later);
        }
    }
}
