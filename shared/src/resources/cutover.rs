//! How a run stops one side and starts the other, and what becomes of both when that fails.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Seconds for which workloads stay ready until a cutover believes it, unless told otherwise.
const CUTOVER_DURATION_SECONDS: u32 = 10;

/// What is done when a run fails after the source was stopped.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum OnFailure {
    /// The destination is stopped, the source is started as it was, and what the run made on the
    /// destination is removed.
    #[default]
    Rollback,
    /// Everything stays as it is for a person to look at; `isthmus rollback` goes back.
    Hold,
}

/// What becomes of the claims that a run made on the destination when it is rolled back.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum VolumeReclaim {
    /// They stay with their data, and with them their namespaces; the next run goes on from them.
    #[default]
    Retain,
    /// They are deleted, and the storage class says what becomes of the data.
    Delete,
}

/// When started applications are well.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthOptions {
    /// Seconds until all workloads must be ready. Those that are not fail a cutover, and are
    /// warnings of a promotion.
    #[schemars(range(min = 1, max = 86400))]
    pub timeout_seconds: u32,
    /// Seconds for which they must then stay ready. Unset: 10 in a cutover, else none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 86400))]
    pub duration_seconds: Option<u32>,
}

impl Default for HealthOptions {
    fn default() -> Self {
        Self { timeout_seconds: 600, duration_seconds: None }
    }
}

impl HealthOptions {
    /// Seconds for which workloads must stay ready.
    pub fn duration(&self, cutover: bool) -> u32 {
        self.duration_seconds.unwrap_or(if cutover { CUTOVER_DURATION_SECONDS } else { 0 })
    }
}

/// A workload that manages others: stopped before them, started before them.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OperatorRef {
    /// Its namespace on the source. One that is not among the namespaces of the run is stopped all
    /// the same, for as long as the source is.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name; a Deployment, unless `kind` says otherwise.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// `Deployment` or `StatefulSet`.
    #[serde(default = "deployment")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
}

fn deployment() -> String {
    "Deployment".to_owned()
}

/// The run that another undoes.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UndoneRun {
    /// Its uid: the mark on what it made.
    pub uid: String,
    /// When it began: what is older it cannot have made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
}

/// Which side of a run is the active one, as far as the hub knows.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum Active {
    /// The source runs, and the destination does not.
    Source,
    /// The destination runs, and the source does not.
    Destination,
    /// Neither runs: between the two, or because the run was to be held where it failed.
    Neither,
    /// A spoke could not be asked: its side may run.
    Unknown,
}
