//! How a migration moves the data of its volumes: the options that plan and run share.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is read for a pass.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum VolumeMethod {
    /// A CSI snapshot where the storage class has a snapshot class, else the volume itself.
    #[default]
    Auto,
    /// The volume itself, while the application runs or not.
    Live,
    /// A CSI snapshot; the run does not begin where there can be none.
    Snapshot,
}

/// How it is made sure that what arrived is what was sent.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum VerifyMethod {
    /// Each block is checked against its name as it is written.
    #[default]
    Inline,
    /// Also, once all is written, the destination is read back and compared with the manifest,
    /// file by file: content and metadata.
    Full,
}

/// What is done about ownership, modes or extended attributes that the destination refuses to
/// set.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum MetadataPolicy {
    /// The run fails and names the file.
    #[default]
    Strict,
    /// The run goes on and warns.
    BestEffort,
}

/// What is kept after a run for the next one.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Retention {
    /// Complete passes of each volume that staging keeps; the next run sends only what changed
    /// since the newest. With 0 nothing is kept, and the next run sends everything again.
    #[schemars(range(max = 100))]
    pub passes: u32,
    /// What becomes of the CSI snapshots that the run made.
    pub snapshots: SnapshotRetention,
}

impl Default for Retention {
    fn default() -> Self {
        Self { passes: 1, snapshots: SnapshotRetention::Delete }
    }
}

/// What becomes of CSI snapshots.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum SnapshotRetention {
    /// They are deleted once their volume was sent.
    #[default]
    Delete,
    /// They stay in the application's namespace, labelled with the migration.
    Retain,
}

/// How mover Pods are run, on both sides.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct MoverOptions {
    /// Requests and limits in place of the defaults (100m and 256Mi requested, 2 and 1Gi at most).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Only nodes with these labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 50))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated, beside those that the application's own Pods tolerate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub tolerations: Vec<Toleration>,
    /// The priority class; it must be there on both sides.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Movers get the capability `SYS_ADMIN` in both clusters, without which the kernel neither shows
    /// nor sets `trusted.*` attributes and lets nobody set most of `security.*`. The namespaces must
    /// be at the Pod Security level `privileged`, else preflight refuses the run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub privileged_attributes: bool,
}

impl MoverOptions {
    /// Whether nothing is set.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What was made sure of about a volume that has arrived.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Verified {
    /// Blocks whose content was checked against their names as they were written.
    pub blocks: u64,
    /// Files that were read back and compared, with [`VerifyMethod::Full`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_read_back: Option<u64>,
    /// The bytes of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_read_back: Option<u64>,
}
