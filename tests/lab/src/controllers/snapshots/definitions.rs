//! The kinds of snapshot.storage.k8s.io/v1, with as much of their schemas as drivers and clients write,
//! and a class for the lab's provisioner.

use std::time::{Duration, Instant};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::{GROUP, VERSION, asked, resource};
use crate::controllers::provisioner::PROVISIONER;
use crate::controllers::{Error, overtaken};

/// The class of the lab's provisioner, and its driver's default one.
pub(super) const CLASS: &str = "lab-snapshots";
/// How long the API server may take until it serves the kinds.
const SERVED_DEADLINE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(100);

/// Installs the kinds and the class; returns when they are served.
pub(crate) async fn install(client: &Client) -> Result<(), Error> {
    for (kind, definition) in definitions() {
        let definition: CustomResourceDefinition = serde_json::from_value(definition)
            .map_err(|error| Error::Object { object: kind.to_owned(), problem: error.to_string() })?;
        let made = Api::all(client.clone()).create(&PostParams::default(), &definition).await;
        there_or(made.map(drop), "creating the definition of", kind)?;
        served(client, kind).await?;
    }
    let kind = resource("VolumeSnapshotClass");
    let mut class = DynamicObject::new(CLASS, &kind);
    class.metadata.annotations =
        Some([("snapshot.storage.kubernetes.io/is-default-class".to_owned(), "true".to_owned())].into());
    class.data = json!({"driver": PROVISIONER, "deletionPolicy": "Delete"});
    let classes: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    there_or(classes.create(&PostParams::default(), &class).await.map(drop), "creating", CLASS)
}

fn there_or(made: kube::Result<()>, action: &'static str, object: &str) -> Result<(), Error> {
    match made {
        Err(kube::Error::Api(status)) if overtaken(&status) => Ok(()),
        other => asked(action, object, other),
    }
}

async fn served(client: &Client, kind: &str) -> Result<(), Error> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(kind));
    let deadline = Instant::now() + SERVED_DEADLINE;
    loop {
        match api.list(&ListParams::default().limit(1)).await {
            Ok(_) => return Ok(()),
            answer if Instant::now() > deadline => {
                return asked("waiting for the API server to serve", kind, answer.map(drop));
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

fn definitions() -> [(&'static str, Value); 3] {
    let string = || json!({"type": "string"});
    let time = || json!({"type": "string", "format": "date-time"});
    let policy = || json!({"type": "string", "enum": ["Delete", "Retain"]});
    let object = |properties: Value, required: &[&str]| json!({"type": "object", "properties": properties, "required": required});
    let error = || object(json!({"message": string(), "time": time()}), &[]);
    let quantity = json!({
        "x-kubernetes-int-or-string": true,
        "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
    });
    let snapshot = json!({
        "spec": object(json!({
            "source": object(json!({
                "persistentVolumeClaimName": string(),
                "volumeSnapshotContentName": string(),
            }), &[]),
            "volumeSnapshotClassName": string(),
        }), &["source"]),
        "status": object(json!({
            "boundVolumeSnapshotContentName": string(),
            "creationTime": time(),
            "error": error(),
            "readyToUse": {"type": "boolean"},
            "restoreSize": quantity,
            "volumeGroupSnapshotName": string(),
        }), &[]),
    });
    let reference = object(
        json!({
            "apiVersion": string(), "kind": string(), "namespace": string(), "name": string(),
            "uid": string(), "resourceVersion": string(), "fieldPath": string(),
        }),
        &[],
    );
    let content = json!({
        "spec": object(json!({
            "deletionPolicy": policy(),
            "driver": string(),
            "source": object(json!({"snapshotHandle": string(), "volumeHandle": string()}), &[]),
            "sourceVolumeMode": string(),
            "volumeSnapshotClassName": string(),
            "volumeSnapshotRef": reference,
        }), &["deletionPolicy", "driver", "source", "volumeSnapshotRef"]),
        "status": object(json!({
            "creationTime": {"type": "integer", "format": "int64"},
            "error": error(),
            "readyToUse": {"type": "boolean"},
            "restoreSize": {"type": "integer", "format": "int64", "minimum": 0},
            "snapshotHandle": string(),
            "volumeGroupSnapshotHandle": string(),
        }), &[]),
    });
    let class = json!({
        "deletionPolicy": policy(),
        "driver": string(),
        "parameters": {"type": "object", "additionalProperties": {"type": "string"}},
    });
    [
        (
            "VolumeSnapshotClass",
            definition("VolumeSnapshotClass", "Cluster", class, &["deletionPolicy", "driver"]),
        ),
        ("VolumeSnapshotContent", definition("VolumeSnapshotContent", "Cluster", content, &["spec"])),
        ("VolumeSnapshot", definition("VolumeSnapshot", "Namespaced", snapshot, &["spec"])),
    ]
}

fn definition(kind: &str, scope: &str, mut properties: Value, required: &[&str]) -> Value {
    let names = resource(kind);
    for field in ["apiVersion", "kind"] {
        properties[field] = json!({"type": "string"});
    }
    let subresources = if properties.get("status").is_some() { json!({"status": {}}) } else { json!({}) };
    json!({
        "metadata": {
            "name": format!("{}.{GROUP}", names.plural),
            // A protected group: without it the API server refuses the definition.
            "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-csi/external-snapshotter/pull/814"},
        },
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": names.plural,
                "singular": kind.to_lowercase(),
            },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": properties, "required": required}},
                "subresources": subresources,
            }],
        },
    })
}
