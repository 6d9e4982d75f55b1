//! What the spoke sees of its cluster: version, nodes, zones, storage and snapshot classes.

use std::collections::BTreeSet;

use isthmus_shared::protocol::{ClusterFacts, Fence, MAX_FENCES};
use isthmus_shared::resources::{ACTIVE, COUNTERPART, StorageClassFact};
use serde_json::Value;

use crate::cluster::{Cluster, ClusterError, annotation, label, name, text};

/// Entries of each list that are told.
const MAX_ENTRIES: usize = 64;
/// Nodes that are counted.
const MAX_NODES: usize = 20_000;

/// Looks.
pub async fn look(cluster: &Cluster) -> Result<ClusterFacts, ClusterError> {
    let version = cluster.get("/version").await?;
    let nodes = cluster.list("/api/v1/nodes", "", MAX_NODES).await?;
    let classes = or_none(cluster.list("/apis/storage.k8s.io/v1/storageclasses", "", MAX_ENTRIES).await)?;
    let snapshots = or_none(
        cluster.list("/apis/snapshot.storage.k8s.io/v1/volumesnapshotclasses", "", MAX_ENTRIES).await,
    )?;
    let zones: BTreeSet<&str> = nodes
        .iter()
        .filter_map(|node| {
            label(node, "topology.kubernetes.io/zone")
                .or_else(|| label(node, "failure-domain.beta.kubernetes.io/zone"))
        })
        .collect();
    Ok(ClusterFacts {
        version: text(&version, "/gitVersion").to_owned(),
        spoke_version: env!("CARGO_PKG_VERSION").to_owned(),
        nodes: i64::try_from(nodes.len()).unwrap_or(i64::MAX),
        zones: zones.into_iter().take(MAX_ENTRIES).map(str::to_owned).collect(),
        storage_classes: classes.iter().map(storage_class).collect(),
        snapshot_classes: snapshots.iter().map(|class| name(class).to_owned()).collect(),
    })
}

/// The namespaces that carry the mark of a cutover.
pub async fn fences(cluster: &Cluster) -> Result<Vec<Fence>, ClusterError> {
    let marked = cluster.list("/api/v1/namespaces", &format!("labelSelector={ACTIVE}"), MAX_FENCES).await;
    let fence = |namespace: &Value| {
        Some(Fence {
            namespace: name(namespace).to_owned(),
            active: label(namespace, ACTIVE)?.parse().ok()?,
            counterpart: annotation(namespace, COUNTERPART)?.to_owned(),
        })
    };
    Ok(or_none(marked)?.iter().filter_map(fence).collect())
}

/// A digest that changes with the facts.
pub fn digest(facts: &ClusterFacts) -> String {
    let json = serde_json::to_vec(facts).unwrap_or_default();
    blake3::hash(&json).to_hex()[..32].to_owned()
}

/// A storage class as preflight needs it.
fn storage_class(class: &Value) -> StorageClassFact {
    let default =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    StorageClassFact {
        name: name(class).to_owned(),
        provisioner: text(class, "/provisioner").to_owned(),
        default: default.iter().any(|key| annotation(class, key) == Some("true")),
        wait_for_first_consumer: text(class, "/volumeBindingMode") == "WaitForFirstConsumer",
    }
}

/// Not every cluster serves these, nor lets every spoke see them.
fn or_none(list: Result<Vec<Value>, ClusterError>) -> Result<Vec<Value>, ClusterError> {
    match list {
        Err(error) if matches!(error.code(), Some(403 | 404)) => Ok(Vec::new()),
        other => other,
    }
}
