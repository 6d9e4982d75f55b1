//! Waiting until no node holds the volumes of stopped namespaces: what a node has attached it may
//! still write.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;

use super::inventory::Reader;
use super::patience::Patience;
use crate::cluster::{describe, name, text};
use crate::findings::{Findings, finding};
use crate::task::{TaskContext, TaskError};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Claims of a namespace that are looked at.
const MAX_CLAIMS: usize = 10_000;
/// Attachments of the cluster that are looked at.
const MAX_ATTACHMENTS: usize = 50_000;

/// Waits until the volumes of the namespaces' claims are attached to no node.
pub async fn wait(
    context: &TaskContext,
    reader: Reader<'_>,
    namespaces: &[String],
    patience: Patience,
) -> Result<(), TaskError> {
    let Some(kind) = reader.catalogue.preferred("storage.k8s.io", "VolumeAttachment") else { return Ok(()) };
    let mut volumes = HashSet::new();
    for namespace in namespaces {
        let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims");
        let claims =
            reader.cluster.list(&path, "", MAX_CLAIMS).await.map_err(|e| {
                TaskError::cluster(format!("Namespace {namespace}"), "listing its claims", &e)
            })?;
        let bound =
            claims.iter().map(|claim| text(claim, "/spec/volumeName")).filter(|name| !name.is_empty());
        volumes.extend(bound.map(str::to_owned));
    }
    if volumes.is_empty() {
        return Ok(());
    }
    loop {
        let all = reader
            .cluster
            .list(&kind.collection(None), "", MAX_ATTACHMENTS)
            .await
            .map_err(|e| TaskError::cluster("the VolumeAttachments", "listing them", &e))?;
        let held: Vec<&Value> = attached(&all, &volumes).collect();
        let Some(first) = held.first() else { return Ok(()) };
        context.doing(format!(
            "waiting until {} volumes are detached, e.g. {} from node {}",
            held.len(),
            text(first, "/spec/source/persistentVolumeName"),
            text(first, "/spec/nodeName")
        ));
        if patience.is_over() {
            return Err(TaskError::Failed(timed_out(&held, &patience.told())));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn attached<'a>(all: &'a [Value], volumes: &'a HashSet<String>) -> impl Iterator<Item = &'a Value> {
    all.iter().filter(|attachment| volumes.contains(text(attachment, "/spec/source/persistentVolumeName")))
}

fn timed_out(held: &[&Value], within: &str) -> Findings {
    let mut failures = Findings::default();
    for attachment in held {
        let message = format!(
            "PersistentVolume {} was not detached from node {} {within}, though no Pod uses it: look at the storage driver and the \
             node (kubectl describe volumeattachment {}), then run again",
            text(attachment, "/spec/source/persistentVolumeName"),
            text(attachment, "/spec/nodeName"),
            name(attachment)
        );
        failures.push(finding(describe(attachment), "StillAttached", message));
    }
    failures
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_volumes_of_the_namespaces_are_waited_for() {
        let attachment = |name: &str, volume: &str| {
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": name},
                   "spec": {"nodeName": "n1", "source": {"persistentVolumeName": volume}}})
        };
        let all = [attachment("a", "pv-1"), attachment("b", "pv-2")];
        let volumes = HashSet::from(["pv-2".to_owned()]);
        let held: Vec<&Value> = attached(&all, &volumes).collect();
        assert_eq!(held.len(), 1);
        let failures = timed_out(&held, "within 10 s");
        assert_eq!(failures.list[0].object, "VolumeAttachment b");
        assert!(failures.list[0].message.contains("pv-2") && failures.list[0].message.contains("n1"));
    }
}
