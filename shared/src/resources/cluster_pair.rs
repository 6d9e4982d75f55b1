//! `ClusterPair`: two clusters and the store between them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PruneRequest, PruneStatus};

/// Which clusters are paired, through what, and for which namespaces.
///
/// `Cluster` and `ObjectStore` records are those of the hub's own namespace. A pair in that
/// namespace may move every namespace that `allowedNamespaces` allows; a pair in another
/// namespace only the namespace of the same name.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "isthmus.dev",
    version = "v1alpha1",
    kind = "ClusterPair",
    plural = "clusterpairs",
    namespaced,
    status = "ClusterPairStatus",
    category = "isthmus",
    derive = "PartialEq",
    printcolumn(name = "Source", type_ = "string", json_path = ".spec.source"),
    printcolumn(name = "Destination", type_ = "string", json_path = ".spec.destination"),
    printcolumn(name = "Storage-Status", type_ = "string", json_path = ".status.storageStatus"),
    printcolumn(name = "Scheduler-Status", type_ = "string", json_path = ".status.schedulerStatus"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.source != self.destination", "source and destination must be two clusters"))]
pub struct ClusterPairSpec {
    /// The `Cluster` that applications leave.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = ("self == oldSelf", "source cannot be changed: create another pair"))]
    pub source: String,
    /// The `Cluster` that they go to.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = ("self == oldSelf", "destination cannot be changed: create another pair"))]
    pub destination: String,
    /// The `ObjectStore` that objects and data are staged in.
    #[schemars(length(min = 1, max = 253))]
    pub object_store: String,
    /// Whether the pair may also be used from destination to source.
    #[serde(default)]
    pub bidirectional: bool,
    /// Globs of namespaces that may be moved; all, if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 63)))]
    pub allowed_namespaces: Option<Vec<String>>,
    /// Asks for a collection of what staging keeps of volumes and nobody needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<PruneRequest>,
}

/// What is true of a pair now.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterPairStatus {
    /// Whether both spokes are joined and heard.
    pub scheduler_status: LinkState,
    /// Why it is not Ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler_message: Option<String>,
    /// Whether hub and both spokes can write, read, list and delete in the store.
    pub storage_status: LinkState,
    /// Why it is not Ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_message: Option<String>,
    /// The collection that `spec.prune` asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune: Option<PruneStatus>,
    /// `Ready`: both halves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// The state of one half of a pair.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum LinkState {
    /// Not known yet.
    #[default]
    Pending,
    /// Works.
    Ready,
    /// Worked, and now part of it does not (one side of two).
    Degraded,
    /// Does not work.
    Error,
}
