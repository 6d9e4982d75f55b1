//! `Migration`: one run that takes namespaces from one cluster of a pair to the other.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MigrationStatus;

/// What to move and how. The names are those of Kubemotion's Migration, so that such a manifest
/// works once its apiVersion is changed.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "isthmus.dev",
    version = "v1alpha1",
    kind = "Migration",
    plural = "migrations",
    namespaced,
    status = "MigrationStatus",
    category = "isthmus",
    derive = "PartialEq",
    printcolumn(name = "Pair", type_ = "string", json_path = ".spec.clusterPair"),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.step"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.status"),
    printcolumn(name = "Volumes", type_ = "string", json_path = ".status.volumesSummary"),
    printcolumn(name = "Resources", type_ = "string", json_path = ".status.resourcesSummary"),
    printcolumn(name = "Elapsed", type_ = "string", json_path = ".status.elapsed"),
    printcolumn(name = "Bytes", type_ = "string", json_path = ".status.bytesSummary"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self == oldSelf", "a Migration is one run and cannot be changed: create another"))]
pub struct MigrationSpec {
    /// The `ClusterPair`, in this namespace.
    #[schemars(length(min = 1, max = 253))]
    pub cluster_pair: String,
    /// The namespaces to move.
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,
    /// What kind of run this is.
    #[serde(default)]
    pub action: MigrationAction,
    /// Goes from the pair's destination to its source; the pair must be bidirectional.
    #[serde(default)]
    pub reverse: bool,
    /// Whether the namespaces' objects are taken along.
    #[serde(default = "yes")]
    pub include_resources: bool,
    /// Whether the volumes' data is taken along.
    #[serde(default = "yes")]
    pub include_volumes: bool,
    /// Whether the applications are started on the destination.
    #[serde(default)]
    pub start_applications: bool,
    /// Volumes moved at a time.
    #[serde(default = "default_parallel_volumes")]
    #[schemars(range(min = 1, max = 32))]
    pub parallel_volumes: u32,
    /// Seconds that a step may go without any news from the spoke that does it.
    #[serde(default = "default_step_timeout")]
    #[schemars(range(min = 60, max = 86400))]
    pub step_timeout_seconds: u32,
    /// Only objects with all these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub selectors: BTreeMap<String, String>,
    /// Not objects with any of these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exclude_selectors: BTreeMap<String, String>,
    /// A rule to run before; not carried out yet, and refused rather than ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self == ''", "preExecRule is not supported yet: leave it out and run the rule by hand"))]
    pub pre_exec_rule: Option<String>,
    /// A rule to run after; not carried out yet, and refused rather than ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self == ''", "postExecRule is not supported yet: leave it out and run the rule by hand"))]
    pub post_exec_rule: Option<String>,
    /// Deletes on the destination what is gone from the source; not carried out yet.
    #[serde(default)]
    #[x_kube(validation = ("!self", "purgeDeletedResources is not supported yet: leave it out"))]
    pub purge_deleted_resources: bool,
}

/// What kind of run a migration is.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum MigrationAction {
    /// Volumes and objects, and the applications started where that is asked for.
    #[default]
    Final,
}

fn yes() -> bool {
    true
}

fn default_parallel_volumes() -> u32 {
    2
}

fn default_step_timeout() -> u32 {
    1800
}
