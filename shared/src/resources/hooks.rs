//! Commands and Jobs that a run has carried out at certain points.

use k8s_openapi::api::core::v1::EnvVar;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Side;

/// The most hooks of one run.
pub const MAX_HOOKS: usize = 50;

/// Something to be carried out at a point of the run: a command in Pods, or a Job.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// Names it in messages and logs; no two of a run are alike.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// When.
    pub phase: HookPhase,
    /// Where. Unset: on the source in `PreHooks` and `AfterQuiesce`, on the destination in
    /// `BeforeApply` and `PostHooks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// A command in Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecHook>,
    /// A Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobHook>,
    /// Seconds that one attempt may take.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 1, max = 86400))]
    pub timeout_seconds: u32,
    /// How often it is tried again after it failed.
    #[serde(default)]
    #[schemars(range(max = 10))]
    pub retries: u32,
    /// What its failure comes to.
    #[serde(default)]
    pub on_error: OnError,
}

/// The points of a run at which hooks are carried out.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HookPhase {
    /// Before anything is changed.
    PreHooks,
    /// When the source has stopped, before its volumes are read for the last time.
    AfterQuiesce,
    /// Before objects are applied on the destination.
    BeforeApply,
    /// When all else is done.
    PostHooks,
}

/// What the failure of a hook comes to.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum OnError {
    /// The run fails.
    #[default]
    Fail,
    /// The run goes on with a warning.
    Continue,
}

/// A command in the Pods of a selector.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ExecHook {
    /// The namespace, as the side has it. Unset: all of the run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Which Pods; only running ones count, and there must be one.
    pub pod_selector: LabelSelector,
    /// The container. Unset: the Pod's default container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub container: Option<String>,
    /// The command with its arguments; for a shell, `["/bin/sh", "-c", "…"]`.
    #[schemars(length(min = 1, max = 100), inner(length(max = 65536)))]
    pub command: Vec<String>,
    /// Goes on while the run does and is ended at its end, as a lock that is held meanwhile; it
    /// counts as begun once the command runs.
    #[serde(default)]
    pub background: bool,
    /// In one of the Pods only, the first by name.
    #[serde(default)]
    pub single_pod: bool,
}

/// A Job from an image.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct JobHook {
    /// The namespace, as the side has it. Unset: the first of the run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// The image.
    #[schemars(length(min = 1, max = 1024))]
    pub image: String,
    /// In place of the image's entry point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 65536)))]
    pub command: Vec<String>,
    /// In place of the image's arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 65536)))]
    pub args: Vec<String>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub env: Vec<EnvVar>,
    /// The service account of its Pod. Unset: the namespace's default, without its token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
}

impl Hook {
    /// Where it is carried out.
    pub fn side(&self) -> Side {
        self.side.unwrap_or(match self.phase {
            HookPhase::PreHooks | HookPhase::AfterQuiesce => Side::Source,
            HookPhase::BeforeApply | HookPhase::PostHooks => Side::Destination,
        })
    }
}

fn default_timeout() -> u32 {
    300
}
