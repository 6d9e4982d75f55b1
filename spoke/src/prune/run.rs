//! After a run: its own volumes, so far as the next run does not need what they have in staging.

use std::time::Duration;

use isthmus_shared::protocol::{Run, RunPrune};
use isthmus_shared::staging::VolumeUid;

use super::volume::{Staged, collect, held_of};
use crate::findings::finding;
use crate::task::TaskContext;

/// How long it may take. A clean-up that says nothing new for five minutes is given up by the hub.
const LIMIT: Duration = Duration::from_mins(4);

/// Collects. It never fails the run: what could not be done is a warning, and is done after the
/// next run or by `isthmus staging prune`.
pub async fn after_run(context: &TaskContext, run: &Run, prune: &RunPrune) {
    match tokio::time::timeout(LIMIT, collect_all(context, run, prune)).await {
        Ok(()) => {}
        Err(_) => warn(
            context,
            &format!("collecting old passes was not done after {} minutes", LIMIT.as_secs() / 60),
        ),
    }
}

async fn collect_all(context: &TaskContext, run: &Run, prune: &RunPrune) {
    let area = match context.staging(run) {
        Ok(area) => area,
        Err(error) => return warn(context, &error.to_string()),
    };
    let staged = Staged { store: area.store, key: area.key, pair: area.pair };
    let (mut objects, mut bytes) = (0, 0);
    for (at, uid) in prune.volumes.iter().enumerate() {
        context.doing(format!("collecting old passes of volume {} of {}", at + 1, prune.volumes.len()));
        let Ok(volume) = VolumeUid::new(uid.as_str()) else { continue };
        let held = held_of(&prune.held, &volume);
        match collect(&staged, &volume, (prune.keep, &held), false).await {
            Ok(collected) => {
                objects += collected.objects_removed;
                bytes += collected.bytes_removed;
                if let Some(note) = collected.note {
                    context.log(format!("staging of volume {uid}: {note}"));
                }
            }
            Err(error) => warn(context, &format!("collecting old passes of volume {uid} failed: {error}")),
        }
    }
    if !prune.volumes.is_empty() {
        context.log(format!(
            "staging: {objects} objects of {bytes} bytes removed; of each volume the newest {} complete passes stay",
            prune.keep
        ));
    }
}

fn warn(context: &TaskContext, why: &str) {
    let message = format!("{why}; run `isthmus staging prune` for the pair, or leave it to the next run");
    context.warn(finding("staging", "StagingLeft", message));
}
