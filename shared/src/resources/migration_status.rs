//! The status of a `Migration`: small, bounded, and enough to derive every task from.
//!
//! The pipeline is the run: a list of steps, each with the tasks that belong to it. A hub that
//! starts anew reads it and knows what each spoke should be doing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Active, MigrationSpec, NamespaceMove, RecoveredRun, UndoneRun, Verified};

/// The most findings (failures, and warnings) that a status lists; the rest are only counted.
pub const MAX_FINDINGS: usize = 20;
/// The most volumes of one migration.
pub const MAX_VOLUMES: usize = 500;
/// The most namespaces of one migration.
pub const MAX_NAMESPACES: usize = 200;

/// How a migration stands.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct MigrationStatus {
    /// The run as a whole.
    pub status: MigrationPhase,
    /// The step that it is at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// What it is waiting for, why it failed, or what to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The uid of the pair that it runs through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pair_uid: Option<String>,
    /// The `Cluster` that it takes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The `Cluster` that it brings to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// When it left Pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// The namespaces that its globs and selectors came to on the source, at most
    /// [`MAX_NAMESPACES`]; empty until the source was looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<NamespaceMove>,
    /// The options that the run goes by, where they are not its own: the plan's as they were when
    /// it began, or those of the run that it undoes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::as_it_is")]
    pub options: Option<Box<MigrationSpec>>,
    /// The migration that this one undoes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undoes: Option<UndoneRun>,
    /// What a failover brings back, whose source was not heard when it began or fell silent on the way;
    /// its volumes have the passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovers: Option<RecoveredRun>,
    /// Which side is the active one, in a run that stops or starts one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<Active>,
    /// When the last Pod of the source was gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Time>,
    /// When the first Pod of the destination was ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Time>,
    /// All steps of this run in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pipeline: Vec<StepStatus>,
    /// The volumes, at most [`MAX_VOLUMES`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeStatus>,
    /// The objects.
    pub resources: ResourceCounts,
    /// Bytes of the volumes that have arrived.
    pub bytes_done: u64,
    /// Bytes of the volumes, as far as known.
    pub bytes_total: u64,
    /// The first [`MAX_FINDINGS`] failures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Finding>,
    /// How many failures there were.
    pub failures_total: u64,
    /// The first [`MAX_FINDINGS`] warnings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Finding>,
    /// How many warnings there were.
    pub warnings_total: u64,
    /// Volumes arrived of all, e.g. `1/2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes_summary: Option<String>,
    /// Objects applied of all, e.g. `14/14`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources_summary: Option<String>,
    /// Bytes arrived, e.g. `212.4 MiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_summary: Option<String>,
    /// Time since the start, to the end if there is one, e.g. `1m12s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed: Option<String>,
    /// The lease's `leaseTransitions` of the hub that wrote last: a fence against a former leader.
    pub fence: i64,
    /// `Succeeded` (True, False, Unknown while it runs).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A migration as a whole.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum MigrationPhase {
    /// Not begun: the message says what it waits for.
    #[default]
    Pending,
    /// Running.
    InProgress,
    /// Done, and all of it arrived.
    Succeeded,
    /// Done, with warnings that a person should read.
    SucceededWithWarnings,
    /// Ended without being done.
    Failed,
    /// Failed or cancelled, and undone: everything is as it was before.
    RolledBack,
}

impl MigrationPhase {
    /// Whether the run has ended.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::SucceededWithWarnings | Self::Failed | Self::RolledBack)
    }

    /// Whether the run has ended well.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Succeeded | Self::SucceededWithWarnings)
    }
}

/// The steps of a migration, in the order in which they run.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Both sides are looked at; nothing is changed.
    Preflight,
    /// The rules and Jobs that are to run first.
    PreHooks,
    /// Namespaces and claims are made on the destination.
    PrepareDestination,
    /// Volume passes while the application runs.
    StageVolumes,
    /// The objects are read into staging.
    ExportResources,
    /// The source is stopped.
    Quiesce,
    /// What is to be carried out while everything stands still.
    QuiesceHooks,
    /// The last volume pass.
    FinalVolumes,
    /// The volumes are brought to the last complete pass from staging, with no sender.
    ReceiveVolumes,
    /// What is to be carried out before objects are applied.
    ApplyHooks,
    /// The objects are applied.
    ApplyResources,
    /// What arrived is compared with what was sent.
    Verify,
    /// The applications are started.
    StartApplications,
    /// The applications become ready.
    HealthCheck,
    /// The rules and Jobs that are to run last.
    PostHooks,
    /// Going back: the destination is stopped.
    StopDestination,
    /// Going back: the source is started as it was.
    RestoreSource,
    /// Going back: what the run made on the destination is removed.
    RemoveFromDestination,
    /// Movers and their traces are removed.
    Cleanup,
}

/// One step of a run.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// Which.
    pub step: Step,
    /// How far.
    pub state: StepState,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// How often it was begun again after it had failed.
    #[serde(default, skip_serializing_if = "is_none")]
    pub attempt: u32,
    /// When it is begun again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumes_at: Option<Time>,
    /// What it did, waits for, or failed at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Its tasks that are not about one volume; those are in the volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskRecord>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_none(count: &u32) -> bool {
    *count == 0
}

/// A step's or a task's state.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum StepState {
    /// Not begun.
    #[default]
    Pending,
    /// Under way.
    InProgress,
    /// Done.
    Succeeded,
    /// Ended without being done.
    Failed,
    /// Not needed after all, e.g. because an earlier step failed.
    Skipped,
}

/// A task of a step that concerns a whole side.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TaskRecord {
    /// Who does it.
    pub side: Side,
    /// Which of the side's tasks of this step, where it has more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    /// How far it is.
    pub state: StepState,
    /// When the spoke last said something new of it, to within half a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<Time>,
}

/// A side of a migration.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The cluster that the applications leave.
    Source,
    /// The cluster that they go to.
    Destination,
}

/// One claim and its data.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeStatus {
    /// The claim's namespace on the source.
    pub namespace: String,
    /// The claim.
    pub claim: String,
    /// What names the volume in staging: the uid of the claim that was sent first, which on the way
    /// back is the destination's.
    pub uid: String,
    /// It cannot be read while it is used: passes that are made while the application runs leave it
    /// out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub only_at_rest: bool,
    /// How far it is.
    pub phase: VolumePhase,
    /// The number of the pass of this run, from 1.
    pub pass: u32,
    /// The complete earlier pass that this one builds on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_pass: Option<u32>,
    /// The sender's state.
    pub send: StepState,
    /// The receiver's state.
    pub receive: StepState,
    /// Bytes of file content in the volume, as far as known.
    pub bytes_total: u64,
    /// Bytes of file content that are in place and verified.
    pub bytes_done: u64,
    /// Bytes that were uploaded, compressed and sealed, by all passes of this run.
    pub bytes_uploaded: u64,
    /// Of those, what the passes before this one uploaded.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes_uploaded_before: u64,
    /// Files in place.
    pub files_done: u64,
    /// What was made sure of, once it has arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    /// How it was read: `Live` or `Snapshot`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Why it failed, or what it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When a mover of it last said something new, to within half a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<Time>,
}

// Serde passes a reference.
#[expect(clippy::trivially_copy_pass_by_ref)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How far a volume is.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum VolumePhase {
    /// Waiting for its turn.
    #[default]
    Pending,
    /// Being sent and received.
    InProgress,
    /// All there, every block verified.
    Succeeded,
    /// Not all there.
    Failed,
}

/// Counts of objects.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceCounts {
    /// Objects taken along.
    pub total: u64,
    /// Objects that are as they should be on the destination.
    pub done: u64,
    /// Of those, created.
    pub created: u64,
    /// Of those, changed.
    pub updated: u64,
    /// Of those, already so.
    pub unchanged: u64,
    /// Objects that were there already and were left as they are, as the policy says.
    pub skipped: u64,
    /// Objects deleted on the destination because they are gone from the source.
    pub deleted: u64,
    /// Objects that could not be applied.
    pub failed: u64,
    /// Objects left behind by rule.
    pub left_behind: u64,
}

/// A failure or a warning about one object.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The object, e.g. `Service cms/wordpress` or `PersistentVolumeClaim cms/px-mysql-pvc`.
    pub object: String,
    /// One word in CamelCase, for programs.
    pub reason: String,
    /// What was the matter and what to do, for a person.
    pub message: String,
    /// The step that found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
}
