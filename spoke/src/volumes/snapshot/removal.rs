//! Removes snapshots and the claims from them, with what they hold in the storage.
//!
//! A class may say that volumes and snapshots outlive the objects that stand for them (`Retain`). That
//! is said of the application's data and not of copies for a mover, so it is changed for ours first.

use std::time::{Duration, Instant};

use isthmus_shared::protocol::Run;
use isthmus_shared::resources::{COMPONENT, COMPONENT_SNAPSHOT, SnapshotRetention};
use serde_json::{Value, json};

use super::objects;
use super::standing::is_ready;
use crate::cluster::{Cluster, ClusterError, DeleteOptions, PatchKind, describe, escape, name, text, uid};
use crate::task::{TaskContext, TaskError};
use crate::volumes::manifests::MIGRATION;

/// How long they may take to go: some drivers wait for the storage.
const GONE_TIMEOUT: Duration = Duration::from_mins(3);
/// How often it is looked whether they are gone.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Of each kind, that are looked at.
const MAX_LISTED: usize = 2_000;

/// Removes the claim of a task, and its snapshot unless that is to be kept; does not wait.
pub async fn release(
    context: &TaskContext,
    namespace: &str,
    retention: SnapshotRetention,
) -> Result<(), TaskError> {
    let cluster = context.cluster();
    let own = objects::name_of(&context.id);
    for (path, is_claim) in [
        (format!("{}/{own}", objects::claims(namespace)), true),
        (format!("{}/{own}", objects::snapshots(namespace)), false),
    ] {
        let failed = |doing: &'static str| {
            let object = path.clone();
            move |error: ClusterError| TaskError::cluster(object, doing, &error)
        };
        let found = cluster.find(&path).await.map_err(failed("reading it"))?;
        let Some(found) = found.filter(|found| objects::is_of(found, &context.id)) else { continue };
        if is_claim {
            remove_claim(cluster, &path, &found).await.map_err(failed("removing it"))?;
        } else if !stays(&found, retention) {
            remove_snapshot(cluster, &path, &found).await.map_err(failed("removing it"))?;
        } else {
            context.log(format!("{} is kept", describe(&found)));
        }
    }
    Ok(())
}

/// Removes everything of that kind that a run left in a namespace, and waits until it is gone.
pub async fn clean_up(context: &TaskContext, run: &Run, namespace: &str) -> Result<(), TaskError> {
    let cluster = context.cluster();
    let of_run = format!("{COMPONENT}={COMPONENT_SNAPSHOT},{MIGRATION}={}", run.migration);
    let query = format!("labelSelector={}", escape(&of_run));
    let failed = |doing: &'static str| {
        let object = format!("Namespace {namespace}");
        move |error| TaskError::cluster(object, doing, &error)
    };
    let deadline = Instant::now() + GONE_TIMEOUT;
    loop {
        let collection = objects::claims(namespace);
        let claims = cluster.list(&collection, &query, MAX_LISTED).await;
        let claims = claims.map_err(failed("listing claims from snapshots"))?;
        for claim in &claims {
            let path = format!("{collection}/{}", name(claim));
            remove_claim(cluster, &path, claim).await.map_err(failed("removing a claim from a snapshot"))?;
        }
        let collection = objects::snapshots(namespace);
        let mut snapshots = match cluster.list(&collection, &query, MAX_LISTED).await {
            // Not every cluster has them.
            Err(error) if error.is_not_found() => Vec::new(),
            other => other.map_err(failed("listing snapshots"))?,
        };
        snapshots.retain(|snapshot| !stays(snapshot, run.spec.retention.snapshots));
        for snapshot in &snapshots {
            let path = format!("{collection}/{}", name(snapshot));
            remove_snapshot(cluster, &path, snapshot).await.map_err(failed("removing a snapshot"))?;
        }
        let Some(left) = claims.first().or(snapshots.first()) else { return Ok(()) };
        if Instant::now() > deadline {
            let message = format!(
                "{} of the run is still there after {} s: look at its finalizers and at the storage driver, then \
                 delete it by hand",
                describe(left),
                GONE_TIMEOUT.as_secs()
            );
            return Err(TaskError::failed(format!("Namespace {namespace}"), "SnapshotsLeft", message));
        }
        context.doing(format!("waiting for {} to go", describe(left)));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether a snapshot is kept: one that never got ready is of no use to anybody.
fn stays(snapshot: &Value, retention: SnapshotRetention) -> bool {
    retention == SnapshotRetention::Retain && is_ready(snapshot) && !is_going(snapshot)
}

fn is_going(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

async fn remove_claim(cluster: &Cluster, path: &str, claim: &Value) -> Result<(), ClusterError> {
    if is_going(claim) {
        return Ok(());
    }
    let volume = text(claim, "/spec/volumeName");
    if !volume.is_empty() {
        let path = format!("/api/v1/persistentvolumes/{volume}");
        if let Some(volume) = cluster.find(&path).await?
            && outlives(&volume, "/spec/claimRef/uid", claim, "/spec/persistentVolumeReclaimPolicy")
        {
            let patch = json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}});
            cluster.patch(&path, &patch, PatchKind::Merge).await?;
        }
    }
    delete(cluster, path, claim).await
}

async fn remove_snapshot(cluster: &Cluster, path: &str, snapshot: &Value) -> Result<(), ClusterError> {
    if is_going(snapshot) {
        return Ok(());
    }
    let content = text(snapshot, "/status/boundVolumeSnapshotContentName");
    if !content.is_empty() {
        let path = format!("/apis/{}/v1/volumesnapshotcontents/{content}", objects::GROUP);
        if let Some(content) = cluster.find(&path).await?
            && outlives(&content, "/spec/volumeSnapshotRef/uid", snapshot, "/spec/deletionPolicy")
        {
            let patch = json!({"spec": {"deletionPolicy": "Delete"}});
            cluster.patch(&path, &patch, PatchKind::Merge).await?;
        }
    }
    delete(cluster, path, snapshot).await
}

async fn delete(cluster: &Cluster, path: &str, object: &Value) -> Result<(), ClusterError> {
    let options = DeleteOptions { uid: Some(uid(object).to_owned()), foreground: false };
    cluster.delete(path, &options).await
}

/// Whether what an object stands for in the storage is its own and would be there after it.
fn outlives(holds: &Value, reference: &str, object: &Value, policy: &str) -> bool {
    text(holds, reference) == uid(object) && text(holds, policy) != "Delete"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_kept_only_where_that_is_asked_for_and_it_is_one() {
        let ready = json!({"status": {"readyToUse": true}});
        assert!(stays(&ready, SnapshotRetention::Retain));
        assert!(!stays(&ready, SnapshotRetention::Delete));
        assert!(!stays(&json!({"status": {"readyToUse": false}}), SnapshotRetention::Retain));
    }

    #[test]
    fn the_policy_of_anothers_volume_is_left_as_it_is() {
        let volume = |uid: &str, policy: &str| json!({"spec": {"claimRef": {"uid": uid}, "persistentVolumeReclaimPolicy": policy}});
        let claim = json!({"metadata": {"uid": "ours"}});
        let outlives = |volume: &Value| {
            outlives(volume, "/spec/claimRef/uid", &claim, "/spec/persistentVolumeReclaimPolicy")
        };
        assert!(outlives(&volume("ours", "Retain")));
        assert!(!outlives(&volume("ours", "Delete")));
        assert!(!outlives(&volume("theirs", "Retain")));
    }
}
