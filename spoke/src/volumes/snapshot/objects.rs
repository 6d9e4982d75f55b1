//! The VolumeSnapshot of a task, and the claim that is made from it. Pure: values in, JSON out.

use isthmus_shared::protocol::TaskId;
use isthmus_shared::quantity;
use isthmus_shared::resources::{COMPONENT, COMPONENT_SNAPSHOT, TASK};
use serde_json::{Value, json};

use super::choice::Route;
use crate::cluster::{annotation, label, name, namespace, text};
use crate::volumes::manifests::MIGRATION;

/// Label, where it fits, and annotation: the claim that a snapshot is of.
pub const CLAIM: &str = "isthmus.dev/claim";
/// What a label's value may hold, bytes.
const MAX_LABEL: usize = 63;
pub const GROUP: &str = "snapshot.storage.k8s.io";

/// The name of both: short, and the same each time.
pub fn name_of(task: &TaskId) -> String {
    let hash = blake3::hash(task.to_string().as_bytes()).to_hex();
    format!("isthmus-snap-{}", &hash[..12])
}

/// The path of the VolumeSnapshots of a namespace.
pub fn snapshots(namespace: &str) -> String {
    format!("/apis/{GROUP}/v1/namespaces/{namespace}/volumesnapshots")
}

/// The path of the claims of a namespace.
pub fn claims(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims")
}

/// Whether an object is one that the task made.
pub fn is_of(object: &Value, task: &TaskId) -> bool {
    label(object, COMPONENT) == Some(COMPONENT_SNAPSHOT)
        && annotation(object, TASK) == Some(&task.to_string())
}

fn metadata(task: &TaskId, migration: &str, of: &Value) -> Value {
    let mut labels = json!({
        COMPONENT: COMPONENT_SNAPSHOT,
        MIGRATION: migration,
        "app.kubernetes.io/managed-by": "isthmus"
    });
    if name(of).len() <= MAX_LABEL {
        labels[CLAIM] = name(of).into();
    }
    json!({
        "name": name_of(task),
        "namespace": namespace(of),
        "labels": labels,
        "annotations": {TASK: task.to_string(), CLAIM: name(of)}
    })
}

/// The snapshot of a claim's volume.
pub fn snapshot(task: &TaskId, migration: &str, of: &Value, route: &Route) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "VolumeSnapshot",
        "metadata": metadata(task, migration, of),
        "spec": {
            "volumeSnapshotClassName": route.snapshot_class,
            "source": {"persistentVolumeClaimName": name(of)}
        }
    })
}

/// A claim with the snapshot's content, for the mover alone.
pub fn claim(task: &TaskId, migration: &str, of: &Value, route: &Route, restore_size: &str) -> Value {
    let mut spec = json!({
        // Whatever the claim's own modes are: one mover mounts it.
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": route.storage_class,
        "resources": {"requests": {"storage": size(of, restore_size)}},
        "dataSource": {"apiGroup": GROUP, "kind": "VolumeSnapshot", "name": name_of(task)}
    });
    if let Some(mode) = of.pointer("/spec/volumeMode") {
        spec["volumeMode"] = mode.clone();
    }
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(task, migration, of),
        "spec": spec
    })
}

/// The largest of what the claim asks for, what it got, and what the snapshot needs.
fn size<'a>(of: &'a Value, restore_size: &'a str) -> &'a str {
    let sizes =
        [text(of, "/spec/resources/requests/storage"), text(of, "/status/capacity/storage"), restore_size];
    sizes.into_iter().max_by_key(|size| quantity::bytes(size)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> Route {
        Route {
            snapshot_class: "snaps".to_owned(),
            storage_class: "fast".to_owned(),
            waits_for_consumer: false,
        }
    }

    fn source(name: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "cms"},
            "spec": {"accessModes": ["ReadWriteOncePod"], "volumeMode": "Block", "resources": {"requests": {"storage": "1Gi"}}},
            "status": {"capacity": {"storage": "2Gi"}}})
    }

    fn task() -> TaskId {
        "1234/FinalVolumes/send.abcd".parse().unwrap()
    }

    #[test]
    fn the_claim_is_as_large_as_volume_and_snapshot_and_of_the_volumes_mode() {
        let claim = |restore: &str| claim(&task(), "1234", &source("data"), &route(), restore);
        assert_eq!(claim("")["spec"]["resources"]["requests"]["storage"], "2Gi");
        let larger = claim("3Gi");
        assert_eq!(larger["spec"]["resources"]["requests"]["storage"], "3Gi");
        assert_eq!(larger["spec"]["volumeMode"], "Block");
        assert_eq!(larger["spec"]["accessModes"], json!(["ReadWriteOnce"]));
        assert_eq!(larger["spec"]["dataSource"]["name"], name_of(&task()));
    }

    #[test]
    fn both_say_whose_they_are_and_only_their_own_task_finds_them() {
        let snapshot = snapshot(&task(), "1234", &source("data"), &route());
        assert!(is_of(&snapshot, &task()));
        assert!(!is_of(&snapshot, &"1234/StageVolumes/send.abcd".parse().unwrap()));
        assert_eq!(snapshot["metadata"]["labels"][MIGRATION], "1234");
        assert_eq!(snapshot["metadata"]["labels"][CLAIM], "data");
        assert_eq!(snapshot["spec"]["source"]["persistentVolumeClaimName"], "data");
    }

    #[test]
    fn a_claims_name_that_is_too_long_for_a_label_is_an_annotation_alone() {
        let long = "x".repeat(100);
        let snapshot = snapshot(&task(), "1234", &source(&long), &route());
        assert!(snapshot["metadata"]["labels"].get(CLAIM).is_none());
        assert_eq!(snapshot["metadata"]["annotations"][CLAIM], long);
    }
}
