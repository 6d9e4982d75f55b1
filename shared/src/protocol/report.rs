//! What a spoke says of its tasks.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use super::TaskId;
use crate::resources::{Finding, NamespaceMove, PruneTotals, ResourceCounts, StagedVolume, Verified};

/// The most reports in one message.
pub const MAX_REPORTS: usize = 64;

/// A batch of reports.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Reports {
    /// At most [`MAX_REPORTS`].
    pub reports: Vec<TaskReport>,
}

/// How a task stands. Each report says the whole of it, so that a lost one costs nothing.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskReport {
    /// The task.
    pub task: TaskId,
    /// Rises with every report of this spoke, over restarts too (its start's Unix milliseconds
    /// in the upper 44 bits, a counter below).
    pub sequence: u64,
    /// How far it is.
    pub state: TaskState,
    /// How much of it is done.
    #[serde(default)]
    pub progress: Progress,
    /// What it found and did, once it has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// What failed: at most [`crate::resources::MAX_FINDINGS`], the first first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Finding>,
    /// How many failures there are.
    #[serde(default)]
    pub failures_total: u64,
    /// What a person should know, likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Finding>,
    /// How many warnings there are.
    #[serde(default)]
    pub warnings_total: u64,
}

/// How far a task is.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum TaskState {
    /// At work; `progress.message` may say what it waits for.
    Running,
    /// Done.
    Succeeded,
    /// Given up; `failures` says why.
    Failed,
}

/// How much of a task is done.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// Objects done.
    pub objects_done: u64,
    /// Objects in all, as far as known.
    pub objects_total: u64,
    /// Bytes of file content done (read by a sender, in place and verified for a receiver).
    pub bytes_done: u64,
    /// Bytes of file content in all, as far as known.
    pub bytes_total: u64,
    /// Bytes that went to staging.
    pub bytes_uploaded: u64,
    /// Files done.
    pub files_done: u64,
    /// What it is doing or waiting for.
    pub message: Option<String>,
    /// Why it makes no headway, while it makes none: what it waits for does not come by itself, or
    /// is long overdue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stalled: Option<String>,
}

/// What a task found and did.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// Of `InspectSource`.
    SourceInspected {
        /// The bound claims whose data is to move, at most [`crate::resources::MAX_VOLUMES`].
        volumes: Vec<VolumeFacts>,
        /// Objects that would be taken along.
        objects: u64,
        /// The namespaces that the globs and selectors came to, at most
        /// [`crate::resources::MAX_NAMESPACES`].
        #[serde(default)]
        namespaces: Vec<NamespaceMove>,
    },
    /// Of `ExportResources`.
    Exported {
        /// `total` and `left_behind` are set.
        counts: ResourceCounts,
    },
    /// Of `SendVolume` and `ReceiveVolume`.
    VolumeMoved {
        /// Bytes of file content.
        bytes: u64,
        /// Bytes that went to staging.
        bytes_uploaded: u64,
        /// Files of every type.
        files: u64,
        /// What was made sure of; of a receiver.
        #[serde(default)]
        verified: Verified,
        /// `Live` or `Snapshot`; of a sender.
        #[serde(default)]
        method: Option<String>,
    },
    /// Of `InspectDestination`: what would become of the objects.
    Previewed {
        /// The counts.
        counts: ResourceCounts,
    },
    /// Of `ApplyResources` and `Verify`.
    Applied {
        /// What became of the objects.
        counts: ResourceCounts,
    },
    /// Of `StartApplications`, `StopDestination`, `RestoreSource` and `Activate`.
    Workloads {
        /// How many were changed.
        workloads: u32,
    },
    /// Of `HealthCheck`.
    Healthy {
        /// How many are ready.
        workloads: u32,
        /// When the first Pod was ready.
        #[serde(default)]
        ready_at: Option<Time>,
    },
    /// Of `Quiesce`.
    Quiesced {
        /// How many workloads stand still.
        workloads: u32,
        /// When the last Pod was gone.
        stopped_at: Option<Time>,
    },
    /// Of `RemoveFromDestination`.
    Removed {
        /// Objects that are gone.
        objects: u64,
        /// Objects of the run that stay: claims that are retained, and their namespaces.
        kept: u64,
    },
    /// Of `PruneStaging`.
    Pruned {
        /// All volumes together.
        totals: PruneTotals,
        /// The volumes, at most [`crate::resources::MAX_STAGED_VOLUMES`], the largest first.
        volumes: Vec<StagedVolume>,
    },
    /// Of the others.
    Done,
}

/// A volume as the source sees it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VolumeFacts {
    /// It cannot be read while it is used, so only the last pass of a cutover moves it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_at_rest: bool,
    /// The claim's namespace.
    pub namespace: String,
    /// The claim.
    pub claim: String,
    /// The volume's uid: that of the claim, or of the one that it came from and goes back to.
    pub uid: String,
    /// The capacity, bytes.
    pub capacity_bytes: u64,
    /// The newest pass in staging, complete or not; 0 if there is none.
    pub last_pass: u32,
    /// The newest complete pass in staging.
    #[serde(default)]
    pub last_complete_pass: Option<u32>,
}

/// What became of one object: the lines of the `results` archive in staging, which
/// `migration describe` shows; or what would become of it: the lines of the `preview`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ObjectResult {
    /// `v1`, `apps/v1`.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// The namespace, if it has one: on the destination; of what is left behind on the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
    /// What became of it.
    pub action: ObjectAction,
    /// One word in CamelCase: why it was left behind or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same for a person, with what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// A unified diff of its YAML: the destination's object as it was, and as it is or would be.
    /// Secrets' values are left out. At most [`MAX_DIFF`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
    /// A unified diff of its YAML: the source's object, and what the run's own maps and
    /// transforms made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewritten: Option<String>,
}

/// The longest diff of one object, bytes; the rest is cut off, which its last line says.
pub const MAX_DIFF: usize = 64 * 1024;

/// What became of an object.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum ObjectAction {
    /// Made on the destination.
    Created,
    /// Changed on the destination.
    Updated,
    /// Was already so.
    Unchanged,
    /// Was there, and was left as it is.
    Skipped,
    /// Removed from the destination, because it is gone from the source.
    Deleted,
    /// Could not be applied.
    Failed,
    /// Not taken along.
    LeftBehind,
}

impl ResourceCounts {
    /// Counts one object by what became of it: one that was taken along is part of the total, and
    /// done unless it failed.
    pub fn count(&mut self, action: ObjectAction) {
        let count = match action {
            ObjectAction::Created => &mut self.created,
            ObjectAction::Updated => &mut self.updated,
            ObjectAction::Unchanged => &mut self.unchanged,
            ObjectAction::Skipped => &mut self.skipped,
            ObjectAction::Deleted => &mut self.deleted,
            ObjectAction::Failed => &mut self.failed,
            ObjectAction::LeftBehind => &mut self.left_behind,
        };
        *count += 1;
        if !matches!(action, ObjectAction::Deleted | ObjectAction::LeftBehind) {
            self.total += 1;
            self.done += u64::from(action != ObjectAction::Failed);
        }
    }
}

/// `GET`, with a Kubernetes bearer token that may `get` the migration: a page of
/// [`ObjectResult`]s (of the preview where nothing was applied yet); query `offset` and `limit` (at most 1,000).
pub fn objects_path(namespace: &str, name: &str) -> String {
    format!("/v1/namespaces/{namespace}/migrations/{name}/objects")
}

/// `GET`, likewise: the run's log as text lines; query `follow=true` to wait for more.
pub fn logs_path(namespace: &str, name: &str) -> String {
    format!("/v1/namespaces/{namespace}/migrations/{name}/logs")
}

/// A page of [`objects_path`].
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectPage {
    /// The results from `offset`.
    pub items: Vec<ObjectResult>,
    /// The offset of the next page, if there is one.
    pub next: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_as_it_should_be_is_told_from_what_is_not() {
        let mut counts = ResourceCounts::default();
        for action in [
            ObjectAction::Created,
            ObjectAction::Updated,
            ObjectAction::Unchanged,
            ObjectAction::Skipped,
            ObjectAction::Deleted,
            ObjectAction::Failed,
            ObjectAction::LeftBehind,
        ] {
            counts.count(action);
        }
        assert_eq!((counts.total, counts.done, counts.failed, counts.left_behind), (5, 4, 1, 1));
    }
}
