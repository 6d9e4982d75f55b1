//! Enrolment, heartbeat and the polling of tasks.

use serde::{Deserialize, Serialize};

use super::Task;
use crate::resources::StorageClassFact;
use crate::staging::access::StoreAccess;

/// `POST` with [`EnrollRequest`]; the join token is the bearer.
pub const ENROLL_PATH: &str = "/v1/enroll";
/// `POST` with [`Heartbeat`].
pub const HEARTBEAT_PATH: &str = "/v1/spoke/heartbeat";
/// `POST` with [`PollRequest`]; answers when the set of tasks differs, or after the wait.
pub const TASKS_PATH: &str = "/v1/spoke/tasks";
/// `POST` with [`super::Reports`].
pub const REPORTS_PATH: &str = "/v1/spoke/reports";
/// The longest that the hub holds a poll, seconds.
pub const MAX_POLL_SECONDS: u64 = 25;
/// How often a spoke sends a heartbeat, seconds.
pub const HEARTBEAT_SECONDS: u64 = 10;
/// The most marked namespaces of one heartbeat; of those beyond them nothing is known.
pub const MAX_FENCES: usize = 1000;
/// How often hub and spokes probe a store, seconds.
pub const PROBE_SECONDS: u64 = 30;
/// After this long without a heartbeat a cluster is no longer Ready, seconds.
pub const HEARTBEAT_EXPIRY_SECONDS: u64 = 40;

/// A spoke's first message.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrollRequest {
    /// Base64 of the 32 bytes of the spoke's Ed25519 public key.
    pub public_key: String,
    /// The uid of the cluster's `kube-system` namespace.
    pub cluster_uid: String,
    /// The spoke's version.
    pub spoke_version: String,
}

/// The hub's answer to an enrolment.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrollReply {
    /// The name of the `Cluster` that the spoke now is.
    pub cluster: String,
}

/// Every error reply of hub and spoke.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorReply {
    /// One word in CamelCase, for programs; see [`super::identity::Refusal`] for those of
    /// authentication.
    pub reason: String,
    /// What was the matter and what to do, for a person.
    pub message: String,
}

/// A sign of life.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Heartbeat {
    /// What the spoke sees of its cluster; left out when the hub has [`Self::facts_digest`].
    pub facts: Option<ClusterFacts>,
    /// A digest of the facts.
    pub facts_digest: String,
    /// The latest probe of each store that the hub asked to have probed, at most 256.
    pub probes: Vec<ProbeReport>,
    /// The namespaces that carry the mark of a cutover, at most [`MAX_FENCES`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fences: Vec<Fence>,
    /// The cluster's API server does not answer the spoke: nothing can be done there, and what is said of
    /// the cluster is from before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unanswered: bool,
}

/// What the mark of a namespace says that a cutover has left or reached.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Fence {
    /// The namespace.
    pub namespace: String,
    /// Whether its applications are meant to run.
    pub active: bool,
    /// The other side, `<cluster>/<namespace>`.
    pub counterpart: String,
}

/// What a spoke sees of its cluster. Lists are cut at 64 entries.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterFacts {
    /// `gitVersion` of `/version`.
    pub version: String,
    /// The spoke's version.
    pub spoke_version: String,
    /// The number of nodes.
    pub nodes: i64,
    /// The nodes' zones.
    pub zones: Vec<String>,
    /// The storage classes.
    pub storage_classes: Vec<StorageClassFact>,
    /// The names of the volume snapshot classes.
    pub snapshot_classes: Vec<String>,
}

/// How a spoke's probe of a store went.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProbeReport {
    /// The `ObjectStore`'s uid.
    pub store: String,
    /// [`StoreToProbe::revision`] of what was probed.
    pub revision: String,
    /// How long ago the probe ended, milliseconds.
    pub age_millis: u64,
    /// What was the matter, if something was.
    pub error: Option<String>,
}

/// The hub's answer to a heartbeat.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeartbeatReply {
    /// The hub does not have facts of that digest: send them with the next heartbeat, now.
    pub want_facts: bool,
    /// The stores to probe every [`PROBE_SECONDS`]: those of all pairs of this cluster, at most 256.
    pub stores: Vec<StoreToProbe>,
}

/// A store that a spoke is to probe.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreToProbe {
    /// The `ObjectStore`'s uid.
    pub store: String,
    /// Changes with anything in `access`: probe again at once.
    pub revision: String,
    /// How to reach it.
    pub access: StoreAccess,
}

/// A poll for tasks.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PollRequest {
    /// The [`TaskList::revision`] that the spoke holds.
    pub known: Option<String>,
    /// How long the hub may hold the poll, seconds; at most [`MAX_POLL_SECONDS`].
    pub wait_seconds: u64,
}

/// Everything that the spoke should be doing now, at most 1,000 tasks.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskList {
    /// A digest of the tasks.
    pub revision: String,
    /// The tasks. One that the spoke runs and that is not here is to be cancelled.
    pub tasks: Vec<Task>,
}
