//! Commands and Jobs that a run has carried out at certain points.
//!
//! A hook is carried out by the spoke of its side when the run comes to its phase. A command in the
//! background is begun there and goes on; the run lets go of it later ([`Until`]).

use k8s_openapi::api::core::v1::{EnvVar, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MigrationSpec, Side};

/// The most hooks of one run, those of its rules included.
pub const MAX_HOOKS: usize = 50;
/// What stands in a command in the background where it waits to be let go: it counts as begun once it
/// has come there. A script's path takes its place.
pub const WAIT_CMD: &str = "${WAIT_CMD}";

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
    /// When the volumes have been moved, before objects are applied on the destination.
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

/// Until when a command in the background goes on.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum Until {
    /// Until the run's clean-up, or until it goes back.
    #[default]
    Cleanup,
    /// Until the volumes have been moved, before the hooks of `BeforeApply`.
    VolumesMoved,
}

/// A command in the Pods of a selector.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ExecHook {
    /// The namespace, as the side has it. Unset: all of the run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Which Pods; only running ones count.
    pub pod_selector: LabelSelector,
    /// The container. Unset: the Pod's default container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub container: Option<String>,
    /// The command with its arguments; for a shell, `["/bin/sh", "-c", "…"]`.
    #[schemars(length(min = 1, max = 100), inner(length(max = 65536)))]
    pub command: Vec<String>,
    /// Goes on while the run does and is ended by it, as a lock that is held meanwhile. It counts as
    /// begun once it runs, or once it has come to `${WAIT_CMD}` where it has that.
    #[serde(default)]
    pub background: bool,
    /// Until when a command in the background goes on.
    #[serde(default)]
    pub until: Until,
    /// In one of the Pods only, the first by namespace and name.
    #[serde(default)]
    pub single_pod: bool,
    /// Where no such Pod runs, a warning says so. Unset, the hook fails.
    #[serde(default)]
    pub allow_no_pods: bool,
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
    /// When the image is pulled. Unset, as Kubernetes has it: `Always` for one whose tag is `latest` or
    /// left out, else `IfNotPresent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
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
    /// The Secrets for the image's registry, by their names in the Job's namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(min = 1, max = 253)))]
    pub image_pull_secrets: Vec<String>,
    /// The user that it runs as. Unset: the image's, which may not be root. 0 is root, which the
    /// namespace's Pod Security must admit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4_294_967_295_i64))]
    pub run_as_user: Option<i64>,
    /// What its container asks for. Unset: 50m and 64Mi, at most 1 and 512Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// When a node pulls an image, as Kubernetes names it.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum ImagePullPolicy {
    /// Each time; the registry must be there.
    Always,
    /// Where the node does not have it.
    IfNotPresent,
    /// Not at all: the node must have it.
    Never,
}

impl Hook {
    /// Where it is carried out.
    pub fn side(&self) -> Side {
        self.side.unwrap_or(match self.phase {
            HookPhase::PreHooks | HookPhase::AfterQuiesce => Side::Source,
            HookPhase::BeforeApply | HookPhase::PostHooks => Side::Destination,
        })
    }

    /// Whether it is a command in the background.
    pub fn is_background(&self) -> bool {
        self.exec.as_ref().is_some_and(|exec| exec.background)
    }

    /// Whether it is a command in the background that is let go when the volumes have been moved.
    pub fn ends_with_volumes(&self) -> bool {
        let before = matches!(self.phase, HookPhase::PreHooks | HookPhase::AfterQuiesce);
        before && self.exec.as_ref().is_some_and(|exec| exec.background && exec.until == Until::VolumesMoved)
    }

    /// The namespace that it names.
    pub fn namespace(&self) -> Option<&str> {
        let of_exec = self.exec.as_ref().and_then(|exec| exec.namespace.as_deref());
        of_exec.or_else(|| self.job.as_ref().and_then(|job| job.namespace.as_deref()))
    }
}

impl MigrationSpec {
    /// The hooks of a phase on a side, in their order.
    pub fn hooks_of(&self, phase: HookPhase, side: Side) -> impl Iterator<Item = &Hook> {
        self.hooks.iter().filter(move |hook| hook.phase == phase && hook.side() == side)
    }

    /// Whether a side has something to do at a phase: hooks, or commands in the background that are
    /// let go there.
    pub fn has_hooks(&self, phase: HookPhase, side: Side) -> bool {
        let lets_go = |hook: &Hook| hook.side() == side && hook.ends_with_volumes();
        self.hooks_of(phase, side).next().is_some()
            || (phase == HookPhase::BeforeApply && self.hooks.iter().any(lets_go))
    }
}

fn default_timeout() -> u32 {
    300
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(hooks: &serde_json::Value) -> MigrationSpec {
        let spec = json!({"clusterPair": "p", "namespaces": ["cms"], "hooks": hooks});
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn a_hook_is_carried_out_where_its_phase_is_at_home_unless_it_says_otherwise() {
        let exec = json!({"podSelector": {}, "command": ["true"]});
        let spec = spec(&json!([
            {"name": "a", "phase": "PreHooks", "exec": exec},
            {"name": "b", "phase": "PostHooks", "exec": exec},
            {"name": "c", "phase": "PostHooks", "side": "Source", "exec": exec}
        ]));
        let sides: Vec<Side> = spec.hooks.iter().map(Hook::side).collect();
        assert_eq!(sides, [Side::Source, Side::Destination, Side::Source]);
        assert!(spec.has_hooks(HookPhase::PostHooks, Side::Source));
        assert!(!spec.has_hooks(HookPhase::PreHooks, Side::Destination));
    }

    #[test]
    fn a_lock_for_the_volumes_gives_its_side_something_to_do_when_they_have_been_moved() {
        let held = |until: &str| {
            spec(&json!([{"name": "lock", "phase": "PreHooks",
                "exec": {"podSelector": {}, "command": ["true"], "background": true, "until": until}}]))
        };
        assert!(held("VolumesMoved").has_hooks(HookPhase::BeforeApply, Side::Source));
        assert!(!held("VolumesMoved").has_hooks(HookPhase::BeforeApply, Side::Destination));
        assert!(!held("Cleanup").has_hooks(HookPhase::BeforeApply, Side::Source));
    }
}
