//! Collecting what staging keeps of volumes: what a spoke is told.

use serde::{Deserialize, Serialize};

use super::Staging;

/// The most uids of volumes that a task names.
pub const MAX_IN_USE: usize = 5_000;

/// Collect what a pair has in staging and nobody needs.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PruneTask {
    /// The pair, `<namespace>/<name>`, for messages.
    pub name: String,
    /// Where it is staged.
    pub staging: Staging,
    /// Complete passes of each volume that stay; with 0 nothing does.
    pub keep: u32,
    /// Also everything of volumes whose claim is gone from this cluster.
    pub gone: bool,
    /// Only look what would be removed.
    pub dry_run: bool,
    /// Volumes that migrations are using, at most [`MAX_IN_USE`]: they are left alone.
    #[serde(default)]
    pub in_use: Vec<String>,
    /// Passes that stay whatever else goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<HeldPass>,
}

/// A pass that a failover would go by.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct HeldPass {
    /// The volume's uid.
    pub volume: String,
    /// The pass.
    pub pass: u32,
}

/// Collect what a run's own volumes have in staging and the next run does not need.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RunPrune {
    /// The volumes' uids.
    pub volumes: Vec<String>,
    /// Complete passes of each that stay; with 0 nothing does.
    pub keep: u32,
    /// Passes that stay whatever else goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<HeldPass>,
}
