//! `Cluster`: a cluster that has joined, or is to join, the hub.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What people say of a cluster.
///
/// The uid and the spoke's public key, which enrolment binds to the record, are in the status:
/// only the hub writes there, so nobody who may edit clusters can put in a key of their own.
#[derive(CustomResource, JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "isthmus.dev",
    version = "v1alpha1",
    kind = "Cluster",
    plural = "clusters",
    namespaced,
    status = "ClusterStatus",
    category = "isthmus",
    derive = "PartialEq",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(name = "Heartbeat", type_ = "date", json_path = ".status.lastHeartbeat"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// The cluster's API endpoint as people know it. For information: the hub never dials it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub api_endpoint: Option<String>,
    /// Any new value here makes the hub issue a new join token (Secret `<name>-join-token`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub join_request: Option<String>,
    /// Namespaces whose applications are to be started or stopped, one entry a namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub activations: Vec<Activation>,
}

/// A request to start or stop a namespace's applications.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Activation {
    /// The namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// What its applications are to be.
    pub state: TargetState,
    /// Names this request; it is carried out once, and again only for another value.
    #[schemars(length(min = 1, max = 64))]
    pub request: String,
    /// Starts them although a cutover has handed them over to another cluster that may run them:
    /// for when that cluster is gone for good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Of one that stops them: the other side, `<cluster>/<namespace>`, to which they have been handed
    /// over. The namespace is marked so, and they are started here again only where that side is
    /// known to stand still, or by force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub handed_over_to: Option<String>,
}

/// Whether applications are to run.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum TargetState {
    /// Running, at the counts that were kept.
    Active,
    /// Stopped, their counts kept.
    Inactive,
}

/// What the hub knows of a cluster.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterStatus {
    /// The uid of the cluster's `kube-system` namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The spoke's Ed25519 public key, base64 of its 32 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// The join token that is outstanding or was used last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<JoinStatus>,
    /// Kubernetes' version, as `/version` gives it in `gitVersion`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The spoke's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spoke_version: Option<String>,
    /// The number of nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<i64>,
    /// The zones of its nodes, at most 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<String>,
    /// Its storage classes, at most 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub storage_classes: Vec<StorageClassFact>,
    /// The names of its volume snapshot classes, at most 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub snapshot_classes: Vec<String>,
    /// When the spoke was last heard, to within a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_heartbeat: Option<Time>,
    /// What became of the activations, at most 256.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub activations: Vec<ActivationStatus>,
    /// `Ready`: the spoke has joined and is heard.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// The state of the newest join token.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct JoinStatus {
    /// The `spec.joinRequest` that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The token's `jti`.
    pub token_id: String,
    /// When it ceases to be valid.
    pub expires: Time,
    /// Whether a spoke has enrolled with it.
    #[serde(default)]
    pub used: bool,
}

/// A storage class of a cluster.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StorageClassFact {
    /// Its name.
    pub name: String,
    /// Its provisioner.
    pub provisioner: String,
    /// Whether claims that name no class get it.
    #[serde(default)]
    pub default: bool,
    /// Whether volumes are made only once a pod needs them.
    #[serde(default)]
    pub wait_for_first_consumer: bool,
}

/// What became of an [`Activation`].
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ActivationStatus {
    /// The namespace.
    pub namespace: String,
    /// The request that this answers.
    pub request: String,
    /// What was asked for.
    pub state: TargetState,
    /// How far it is.
    pub phase: ActivationPhase,
    /// How many workloads were changed.
    #[serde(default)]
    pub workloads: u32,
    /// What happened, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How far an activation is.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum ActivationPhase {
    /// The spoke was told, or is about to be.
    InProgress,
    /// Done.
    Succeeded,
    /// Not done; the message says why.
    Failed,
}
