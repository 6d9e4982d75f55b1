//! What a failover goes by whose source is not heard.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
}
