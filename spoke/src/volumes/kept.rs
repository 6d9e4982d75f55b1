//! Volumes that are kept: the PersistentVolume itself moves, on storage that both clusters reach.
//!
//! For a while two clusters have an object for the same storage, and either would delete what it
//! holds if its reclaim policy said so. So:
//!
//! ```text
//!   source        retain      with Quiesce: Retain, with the policy that it had and whose doing it was
//!   destination   (apply)     the volume, Retain, before the claim that is bound to it by name; after
//!                             Quiesce, and no Pod there is started before
//!                 await_bound with Verify
//!                 settle      after success: its own policy again; the source's stays Retain
//!   going back    release     on the source: the policy that it had
//!                 hold        on the destination: Retain, before anything is removed there
//!
//!   storage   pure: which storage a volume is of, and whether another cluster can reach it
//!   policy    pure: what is written
//! ```
//!
//! Promises: at no moment does deleting an object of one side delete data that the other side has;
//! done again, nothing more is done.

mod policy;
mod storage;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use isthmus_shared::protocol::Run;
use isthmus_shared::resources::{MIGRATED_BY, VolumeChoice};
use serde_json::Value;

pub use policy::is_retained;
pub use storage::{Reach, is_same_storage, reach, stands_for};

use self::policy::{Release, holding, releasing, retaining, settling};
use super::placement::bound_volume;
use crate::cluster::{PatchKind, describe, escape, label, name, text, uid};
use crate::findings::finding;
use crate::task::{TaskContext, TaskError};

/// How often a volume is looked at anew because it changed while it was written.
const MAX_LOOKS: usize = 5;
/// How long a claim may take to be bound to a volume that was made for it.
const BOUND_TIMEOUT: Duration = Duration::from_mins(2);
/// How often it is looked whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Volumes of one run that are looked at; it brings no more.
const MAX_VOLUMES: usize = 2_000;

/// The names of the source's volumes that a run keeps, as far as their claims are bound.
pub async fn kept_names(context: &TaskContext, run: &Run) -> Result<BTreeSet<String>, TaskError> {
    let mut names = BTreeSet::new();
    for choice in run.spec.kept_volumes() {
        let claim = read_claim(context, &choice.namespace, &choice.claim).await?;
        names.extend(claim.as_ref().and_then(bound_volume).map(str::to_owned));
    }
    Ok(names)
}

/// Sets the source's kept volumes to Retain: before the source stops, and before the destination
/// knows them.
pub async fn retain(context: &TaskContext, run: &Run) -> Result<(), TaskError> {
    for choice in kept_of(run) {
        let object = format!("PersistentVolumeClaim {}/{}", choice.namespace, choice.claim);
        let claim = read_claim(context, &choice.namespace, &choice.claim).await?;
        let Some(volume) = claim.as_ref().and_then(bound_volume) else {
            let message = "it is not bound to a volume any more, so there is none to keep: it was bound at the start \
                           of the run; run again";
            return Err(TaskError::failed(object, "ClaimNotBound", message));
        };
        let done = change(context, volume, |volume| retaining(volume, &run.migration)).await?;
        match done {
            Changed::Gone => {
                let message =
                    format!("its volume {volume} is gone: restore it, or copy the volume, then run again");
                return Err(TaskError::failed(object, "ClaimLost", message));
            }
            Changed::Written => context.log(format!("PersistentVolume {volume} is retained from now on")),
            Changed::Nothing => {}
        }
    }
    Ok(())
}

/// Gives the source's kept volumes the reclaim policy back that they had before the undone run.
pub async fn release(context: &TaskContext, run: &Run) -> Result<(), TaskError> {
    for choice in kept_of(run) {
        let claim = read_claim(context, &choice.namespace, &choice.claim).await?;
        let Some(claim) = claim else {
            context.log(format!(
                "PersistentVolumeClaim {}/{} is gone: its volume stays retained",
                choice.namespace, choice.claim
            ));
            continue;
        };
        let Some(volume) = bound_volume(&claim) else { continue };
        let mut kept = None;
        let done = change(context, volume, |volume| match releasing(volume, uid(&claim), run.undone()) {
            Release::Nothing => None,
            Release::Write(patch) => Some(patch),
            Release::Keep(why) => {
                kept = Some(why);
                None
            }
        })
        .await?;
        if let Some(why) = kept {
            context.warn(finding(format!("PersistentVolume {volume}"), "StillRetained", why));
        }
        if matches!(done, Changed::Written) {
            context.log(format!("PersistentVolume {volume} has its reclaim policy again"));
        }
    }
    Ok(())
}

/// Gives the destination's kept volumes their own reclaim policy, once the run has succeeded.
pub async fn settle(context: &TaskContext, run: &Run) -> Result<(), TaskError> {
    for choice in kept_of(run) {
        let (place, claim) = arriving(run, choice);
        let Some(claim) = read_claim(context, place, claim).await? else { continue };
        let Some(volume) = bound_volume(&claim) else { continue };
        if matches!(change(context, volume, settling).await?, Changed::Written) {
            context.log(format!(
                "PersistentVolume {volume} has its own reclaim policy; the source's stays Retain, and its claim {}/{} may \
                 be deleted there without losing data",
                choice.namespace, choice.claim
            ));
        }
    }
    Ok(())
}

/// Sets what the undone run brought to Retain, before its claims go: the source has the same data.
pub async fn hold(context: &TaskContext, run: &Run) -> Result<(), TaskError> {
    let query = format!("labelSelector={}", escape(&format!("{MIGRATED_BY}={}", run.undone())));
    let brought = context.cluster().list("/api/v1/persistentvolumes", &query, MAX_VOLUMES).await;
    let brought =
        brought.map_err(|e| TaskError::cluster("the volumes", "looking for those that the run kept", &e))?;
    let mut names: BTreeSet<String> = brought.iter().map(|volume| name(volume).to_owned()).collect();
    // One that was there before the run carries no mark, and would go with the run's claim all the same.
    for choice in kept_of(run) {
        let (place, claim) = arriving(run, choice);
        let claim = read_claim(context, place, claim).await?;
        let claim = claim.filter(|claim| label(claim, MIGRATED_BY) == Some(run.undone()));
        names.extend(
            claim.map(|claim| text(&claim, "/spec/volumeName").to_owned()).filter(|name| !name.is_empty()),
        );
    }
    for volume in names {
        if matches!(change(context, &volume, holding).await?, Changed::Written) {
            context.log(format!("PersistentVolume {volume} is retained: the source has the same data"));
        }
    }
    Ok(())
}

/// Waits until the destination's claims are bound to the volumes that were made for them.
pub async fn await_bound(context: &TaskContext, run: &Run, kept: &[Value]) -> Result<(), TaskError> {
    let deadline = Instant::now() + BOUND_TIMEOUT;
    for volume in kept {
        let of = |field: &str| text(volume, &format!("/spec/claimRef/{field}"));
        let (source, claim) = (of("namespace"), of("name"));
        let (place, claim) = (run.destination_of(source), run.claim_on_destination(source, claim));
        let object = format!("PersistentVolumeClaim {place}/{claim}");
        loop {
            let live = read_claim(context, place, claim).await?;
            let bound = live.as_ref().and_then(bound_volume);
            if bound == Some(name(volume)) {
                break;
            }
            if bound.is_some() || Instant::now() > deadline {
                let phase = live.as_ref().map_or("missing", |claim| text(claim, "/status/phase"));
                let to = bound.map(|other| format!(" to {other}")).unwrap_or_default();
                let message = format!(
                    "it is {phase}{to} on the destination and should be bound to the kept volume {}: look at the events \
                     of both there, then run again",
                    name(volume)
                );
                return Err(TaskError::failed(object, "ClaimNotBound", message));
            }
            context.doing(format!("waiting for {object} to be bound to {}", name(volume)));
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

/// The destination's names of the claims whose volume itself moved.
pub fn arriving_claims(run: &Run) -> BTreeSet<(String, String)> {
    let names = run.spec.kept_volumes().map(|choice| arriving(run, choice));
    names.map(|(place, claim)| (place.to_owned(), claim.to_owned())).collect()
}

fn arriving<'a>(run: &'a Run, choice: &'a VolumeChoice) -> (&'a str, &'a str) {
    let claim = run.claim_on_destination(&choice.namespace, &choice.claim);
    (run.destination_of(&choice.namespace), claim)
}

/// The choices to keep a volume of one of the run's own namespaces.
fn kept_of(run: &Run) -> impl Iterator<Item = &VolumeChoice> {
    run.spec.kept_volumes().filter(|choice| run.sources().any(|namespace| namespace == choice.namespace))
}

async fn read_claim(context: &TaskContext, place: &str, claim: &str) -> Result<Option<Value>, TaskError> {
    let path = format!("/api/v1/namespaces/{place}/persistentvolumeclaims/{claim}");
    let found = context.cluster().find(&path).await;
    found.map_err(|e| TaskError::cluster(format!("PersistentVolumeClaim {place}/{claim}"), "reading it", &e))
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changed {
    Written,
    Nothing,
    Gone,
}

/// Writes what `decide` says of a volume as it is, unless that is nothing. The patch holds for the
/// very state that was looked at.
async fn change(
    context: &TaskContext,
    volume: &str,
    mut decide: impl FnMut(&Value) -> Option<Value> + Send,
) -> Result<Changed, TaskError> {
    let path = format!("/api/v1/persistentvolumes/{volume}");
    let object = format!("PersistentVolume {volume}");
    for look in 1.. {
        let live = context.cluster().find(&path).await;
        let live = live.map_err(|e| TaskError::cluster(&object, "reading it", &e))?;
        let Some(live) = live else { return Ok(Changed::Gone) };
        let Some(mut patch) = decide(&live) else { return Ok(Changed::Nothing) };
        patch["metadata"]["resourceVersion"] = Value::from(text(&live, "/metadata/resourceVersion"));
        match context.cluster().patch(&path, &patch, PatchKind::Merge).await {
            Ok(_) => break,
            Err(error) if error.is_conflict() && look < MAX_LOOKS => {}
            Err(error) => {
                return Err(TaskError::cluster(describe(&live), "setting its reclaim policy", &error));
            }
        }
    }
    Ok(Changed::Written)
}

/// The claim that a volume waits for, or is bound to.
fn claim_of(volume: &Value) -> (&str, &str) {
    (text(volume, "/spec/claimRef/namespace"), text(volume, "/spec/claimRef/name"))
}

#[cfg(test)]
mod tests;
