//! Collecting what a pair's staging keeps of volumes: what is asked for, and what came of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most volumes that a status lists, the largest first; the totals are of all.
pub const MAX_STAGED_VOLUMES: usize = 100;

/// A collection that is asked for. Another `request` asks for another one; taking it away cancels.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PruneRequest {
    /// Tells this request from others: any letters, digits and `-`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub request: String,
    /// Complete passes of each volume that stay. With 0 nothing does, and the next run sends
    /// everything again.
    #[serde(default = "one")]
    #[schemars(range(max = 100))]
    pub keep: u32,
    /// Also removes everything of volumes whose claim is gone from the source.
    #[serde(default)]
    pub gone: bool,
    /// Only looks what would be removed.
    #[serde(default)]
    pub dry_run: bool,
}

fn one() -> u32 {
    1
}

/// How a collection stands.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct PruneStatus {
    /// Which request.
    pub request: String,
    /// Whether it only looked.
    pub dry_run: bool,
    /// How far it is.
    pub phase: PrunePhase,
    /// What it does or waits for, or why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// All volumes together.
    pub totals: PruneTotals,
    /// The volumes, at most [`MAX_STAGED_VOLUMES`], the largest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<StagedVolume>,
}

/// How far a collection is.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum PrunePhase {
    /// It waits for its turn.
    #[default]
    Pending,
    /// The source's spoke is at it; migrations through the pair wait to begin.
    InProgress,
    /// Done.
    Succeeded,
    /// Ended without being done: the message says why.
    Failed,
}

impl PrunePhase {
    /// Whether it has ended.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// What all volumes came to.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct PruneTotals {
    /// Volumes that staging has something of.
    pub volumes: u64,
    /// Of those, left alone because a migration is using them.
    pub in_use: u64,
    /// Of those, their claim is gone from the source.
    pub gone: u64,
    /// Of those, something could not be read or removed.
    pub problems: u64,
    /// Objects that were, or with a dry run would be, removed.
    pub objects_removed: u64,
    /// Their bytes.
    pub bytes_removed: u64,
    /// Objects that stay.
    pub objects_kept: u64,
    /// Their bytes.
    pub bytes_kept: u64,
}

/// What staging has of a volume.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct StagedVolume {
    /// The volume's uid: that of the claim which was sent first.
    pub uid: String,
    /// The cluster that it is in, as far as staging says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The claim's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// Whether the claim is gone from the source.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
    /// Passes that stay, complete or not.
    pub passes: u32,
    /// The newest of them; 0 if there is none.
    pub newest_pass: u32,
    /// Bytes that stay.
    pub bytes_kept: u64,
    /// Objects that were, or would be, removed.
    pub objects_removed: u64,
    /// Their bytes.
    pub bytes_removed: u64,
    /// Why it was left alone, or what a person should know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
