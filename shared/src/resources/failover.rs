//! What a failover goes by whose source is not heard.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Step;

/// The run of a schedule that a failover brings back: its objects and its volumes' passes.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RecoveredRun {
    /// The Migration.
    pub run: String,
    /// Its uid: what it has staged is found by it.
    pub uid: String,
    /// When it began: everything that was written before is there.
    pub started_at: Time,
    /// When it ended: nothing that was written after is there.
    pub finished_at: Time,
    /// How the failover came to go by it, if its source was heard when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_lost: Option<SourceLost>,
}

/// When a failover that began as a cutover went on without its source, which had fallen silent.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SourceLost {
    /// When.
    pub at: Time,
    /// The step that it was at.
    pub step: Step,
    /// The source's namespaces whose applications it had begun to stop by then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stopped: Vec<String>,
}
