//! What the source's mover reads: the volume itself, or a claim that was made from a snapshot of it.
//!
//! ```text
//!   means      the cluster's snapshot and storage classes, read once
//!   choice     pure: snapshot or not, and by which classes
//!   objects    pure: the VolumeSnapshot and the temporary claim
//!   standing   pure: what their statuses say
//!   outlook    preflight: whether there can be one
//!   taking     both made and awaited
//!   removal    both removed, with what they hold in the storage
//!   reading    what came of it, kept on the mover's Job
//! ```
//!
//! A snapshot is of one instant while the application goes on writing, so what is read from it is
//! consistent as after a power failure, which applications recover from. A volume that no Pod uses is
//! as still as a snapshot of it, and read without one: that is quicker, and asks nothing of the driver.
//!
//! Promises: snapshot and claim have names that follow from the task, so that a spoke that starts anew
//! goes on with those that are there; every wait is bounded; where there can be no snapshot, `Auto`
//! reads the volume itself and says why, and `Snapshot` fails; nothing is left behind, but for
//! snapshots that are to be kept.

mod choice;
mod means;
mod objects;
mod outlook;
mod reading;
mod removal;
mod standing;
mod taking;

use std::time::Duration;

use isthmus_shared::protocol::Run;
use isthmus_shared::resources::{SnapshotRetention, VolumeMethod};
use serde_json::Value;

use super::users::pods_of_claims;
use crate::cluster::{array, describe, name, namespace};
use crate::findings::finding;
use crate::task::{TaskContext, TaskError};
use choice::{Choice, NoSnapshot, choose};
pub use means::Means;
pub use outlook::{Outlook, outlook};
pub use reading::Reading;
pub use removal::clean_up;
use taking::{Setback, Taking};

/// How long a snapshot and the claim from it may take where the volume itself can be read instead.
const PATIENCE_AUTO: Duration = Duration::from_mins(10);
/// The same where it must be a snapshot: some storage copies all of the volume first.
const PATIENCE_SNAPSHOT: Duration = Duration::from_hours(1);

/// How long the source may take before its mover begins to send, beyond what all movers take.
pub fn longest_wait(method: VolumeMethod) -> Duration {
    match method {
        VolumeMethod::Live => Duration::ZERO,
        VolumeMethod::Auto => PATIENCE_AUTO,
        VolumeMethod::Snapshot => PATIENCE_SNAPSHOT,
    }
}

/// Makes ready what the task's mover is to read.
pub async fn prepare(context: &TaskContext, run: &Run, claim: &Value) -> Result<Reading, TaskError> {
    let object = describe(claim);
    let cluster = context.cluster();
    let users = pods_of_claims(cluster, namespace(claim), name(claim))
        .await
        .map_err(|e| TaskError::cluster(&object, "looking for the Pods that use it", &e))?;
    let in_use = !users.is_empty();
    let method = run.spec.method;
    let route = if needs_means(method, in_use) {
        let failed = |e| TaskError::cluster(&object, "looking whether there can be a snapshot of it", &e);
        Means::look(cluster).await.map_err(failed)?.route(cluster, claim).await.map_err(failed)?
    } else {
        Err(NoSnapshot::NotWanted)
    };
    let route = match choose(method, in_use, route) {
        Ok(Choice::Snapshot(route)) => route,
        Ok(Choice::Live { still, because }) => {
            if let Some(because) = because {
                context.log(format!("{object} is read itself, and not from a snapshot: {because}"));
            }
            return Ok(Reading::live(name(claim), still));
        }
        Err(impossible) => return Err(impossible.failure(object)),
    };
    let patience = longest_wait(method);
    let taking = Taking { context, run, claim, route: &route, patience };
    let refused = match taking.take().await {
        Ok(temporary) => return Ok(Reading::snapshot(&temporary)),
        Err(Setback::Task(error)) => return Err(error),
        Err(Setback::Refused(refused)) => refused,
    };
    if !may_be_live(method, claim, in_use) {
        return Err(TaskError::Failed(refused.into()));
    }
    removal::release(context, namespace(claim), SnapshotRetention::Delete).await?;
    let why = format!("{}: {}", refused.object, refused.message);
    Ok(Reading::live(name(claim), !in_use).after(why))
}

/// What is read where the application was stopped for it: the volume itself, which nobody writes to. That
/// a Pod uses it all the same is a failure, or what is read would not be its last state.
pub async fn still(context: &TaskContext, claim: &Value) -> Result<Reading, TaskError> {
    let object = describe(claim);
    let users = pods_of_claims(context.cluster(), namespace(claim), name(claim))
        .await
        .map_err(|e| TaskError::cluster(&object, "looking for the Pods that use it", &e))?;
    match users.first() {
        None => Ok(Reading::live(name(claim), true)),
        Some(pod) => {
            let message = format!(
                "{} uses it although the source was stopped: suspend what has started it, then run again",
                describe(pod)
            );
            Err(TaskError::failed(object, "UsedAgain", message))
        }
    }
}

/// Gives the claim and the snapshot of a task up, whose mover did not start, if the volume itself may
/// be read instead; tells what is read then.
pub async fn give_up(
    context: &TaskContext,
    run: &Run,
    claim: &Value,
    why: &str,
) -> Result<Option<Reading>, TaskError> {
    let object = describe(claim);
    let users = pods_of_claims(context.cluster(), namespace(claim), name(claim))
        .await
        .map_err(|e| TaskError::cluster(&object, "looking for the Pods that use it", &e))?;
    if !may_be_live(run.spec.method, claim, !users.is_empty()) {
        return Ok(None);
    }
    removal::release(context, namespace(claim), SnapshotRetention::Delete).await?;
    Ok(Some(Reading::live(name(claim), users.is_empty()).after(why.to_owned())))
}

/// Removes the claim and, as the run's retention says, the snapshot, once the mover's result is there.
/// What stays is told, and removed at the run's end.
pub async fn release(context: &TaskContext, run: &Run, claim_namespace: &str) {
    let released = removal::release(context, claim_namespace, run.spec.retention.snapshots).await;
    if let Err(error) = released {
        context.log(format!("{claim_namespace}: {error}; the run's cleanup tries again"));
    }
}

/// A warning for a person: a snapshot was to be had, and could not be.
pub fn warn_of_setback(context: &TaskContext, object: String, setback: &str) {
    let message = format!(
        "it was read while the application may have written to it, because there could be no snapshot: {setback}"
    );
    context.warn(finding(object, "SnapshotFailed", message));
}

/// Whether it makes a difference if there can be a snapshot.
fn needs_means(method: VolumeMethod, in_use: bool) -> bool {
    match method {
        VolumeMethod::Live => false,
        VolumeMethod::Auto => in_use,
        VolumeMethod::Snapshot => true,
    }
}

/// Whether the volume itself may be read where there can be no snapshot after all.
fn may_be_live(method: VolumeMethod, claim: &Value, in_use: bool) -> bool {
    let one_pod = array(claim, "/spec/accessModes").iter().any(|mode| mode == "ReadWriteOncePod");
    method == VolumeMethod::Auto && !(one_pod && in_use)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_volume_that_one_pod_has_cannot_be_read_beside_it() {
        let claim = |mode: &str| json!({"spec": {"accessModes": [mode]}});
        assert!(may_be_live(VolumeMethod::Auto, &claim("ReadWriteOnce"), true));
        assert!(!may_be_live(VolumeMethod::Auto, &claim("ReadWriteOncePod"), true));
        assert!(may_be_live(VolumeMethod::Auto, &claim("ReadWriteOncePod"), false));
        assert!(!may_be_live(VolumeMethod::Snapshot, &claim("ReadWriteOnce"), true));
    }

    #[test]
    fn snapshot_classes_are_looked_for_only_where_that_decides_something() {
        assert!(!needs_means(VolumeMethod::Live, true));
        assert!(!needs_means(VolumeMethod::Auto, false));
        assert!(needs_means(VolumeMethod::Auto, true));
        assert!(needs_means(VolumeMethod::Snapshot, false));
    }
}
