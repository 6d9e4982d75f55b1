//! How long each step of a run may take in all, and how often it is begun again when it fails.
//!
//! Three bounds meet in a step: `stepTimeoutSeconds`, after which a spoke that says nothing new is
//! given up; `timeouts`, after which the step is given up however much is said; and `retries`. None is
//! without a limit: what is not set has the defaults below.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MigrationSpec, Step};

/// The shortest time limit of a step, seconds.
pub const MIN_STEP_LIMIT_SECONDS: u32 = 10;
/// The longest, seconds: thirty days.
pub const MAX_STEP_LIMIT_SECONDS: u32 = 2_592_000;
/// The limit of a step of which none is set, seconds: a day.
pub const STEP_LIMIT_SECONDS: u32 = 86_400;
/// The same of steps that take as long as the data is large, or that go back: a week. A source that is
/// not started again is worth waiting for.
pub const LONG_STEP_LIMIT_SECONDS: u32 = 604_800;
/// The most retries of a step.
pub const MAX_STEP_RETRIES: u32 = 10;

/// A number for each step, or for those of one kind together.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct PerStep {
    /// Looking at both sides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preflight: Option<u32>,
    /// Each of the steps that carry out hooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<u32>,
    /// Making namespaces and claims on the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prepare: Option<u32>,
    /// Each pass over the volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<u32>,
    /// Reading the objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<u32>,
    /// Stopping the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiesce: Option<u32>,
    /// Applying the objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apply: Option<u32>,
    /// Comparing them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<u32>,
    /// Starting the applications on the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<u32>,
    /// Waiting until they are well; `health.timeoutSeconds` ends it earlier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<u32>,
    /// Each of the steps that go back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub go_back: Option<u32>,
    /// Removing movers and their traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cleanup: Option<u32>,
}

impl PerStep {
    /// The number for a step.
    pub fn of(&self, step: Step) -> Option<u32> {
        match step {
            Step::Preflight => self.preflight,
            Step::PreHooks | Step::QuiesceHooks | Step::ApplyHooks | Step::PostHooks => self.hooks,
            Step::PrepareDestination => self.prepare,
            Step::StageVolumes | Step::FinalVolumes | Step::ReceiveVolumes => self.volumes,
            Step::ExportResources => self.export,
            Step::Quiesce => self.quiesce,
            Step::ApplyResources => self.apply,
            Step::Verify => self.verify,
            Step::StartApplications => self.start,
            Step::HealthCheck => self.health,
            Step::StopDestination | Step::RestoreSource | Step::RemoveFromDestination => self.go_back,
            Step::Cleanup => self.cleanup,
        }
    }

    /// The name under which a step's number is set.
    pub fn name(step: Step) -> &'static str {
        match step {
            Step::Preflight => "preflight",
            Step::PreHooks | Step::QuiesceHooks | Step::ApplyHooks | Step::PostHooks => "hooks",
            Step::PrepareDestination => "prepare",
            Step::StageVolumes | Step::FinalVolumes | Step::ReceiveVolumes => "volumes",
            Step::ExportResources => "export",
            Step::Quiesce => "quiesce",
            Step::ApplyResources => "apply",
            Step::Verify => "verify",
            Step::StartApplications => "start",
            Step::HealthCheck => "health",
            Step::StopDestination | Step::RestoreSource | Step::RemoveFromDestination => "goBack",
            Step::Cleanup => "cleanup",
        }
    }

    /// Its names with what they are set to.
    pub fn entries(&mut self) -> [(&'static str, &mut Option<u32>); 12] {
        [
            ("preflight", &mut self.preflight),
            ("hooks", &mut self.hooks),
            ("prepare", &mut self.prepare),
            ("volumes", &mut self.volumes),
            ("export", &mut self.export),
            ("quiesce", &mut self.quiesce),
            ("apply", &mut self.apply),
            ("verify", &mut self.verify),
            ("start", &mut self.start),
            ("health", &mut self.health),
            ("goBack", &mut self.go_back),
            ("cleanup", &mut self.cleanup),
        ]
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl MigrationSpec {
    /// How long one attempt at a step may take in all, seconds.
    pub fn step_limit(&self, step: Step) -> u32 {
        let default = match step {
            Step::StageVolumes
            | Step::FinalVolumes
            | Step::ReceiveVolumes
            | Step::StopDestination
            | Step::RestoreSource
            | Step::RemoveFromDestination => LONG_STEP_LIMIT_SECONDS,
            _ => STEP_LIMIT_SECONDS,
        };
        self.timeouts.of(step).unwrap_or(default)
    }

    /// How long a spoke waits for what it has asked for in a step, seconds: as the step may take, where
    /// that is set, else as long as it may be silent.
    pub fn step_wait(&self, step: Step) -> u32 {
        self.timeouts.of(step).unwrap_or(self.step_timeout_seconds)
    }

    /// How often a step is begun again after it failed. Hooks have retries of their own, what they do
    /// may not be done twice; and a clean-up does not fail a run.
    pub fn step_retries(&self, step: Step) -> u32 {
        match step {
            Step::PreHooks | Step::QuiesceHooks | Step::ApplyHooks | Step::PostHooks | Step::Cleanup => 0,
            step => self.retries.of(step).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_a_limit_and_a_set_one_counts() {
        let mut spec = MigrationSpec::through("prod");
        assert_eq!(spec.step_limit(Step::Quiesce), STEP_LIMIT_SECONDS);
        assert_eq!(spec.step_limit(Step::FinalVolumes), LONG_STEP_LIMIT_SECONDS);
        assert_eq!(spec.step_wait(Step::Quiesce), spec.step_timeout_seconds);
        spec.timeouts.quiesce = Some(120);
        assert_eq!((spec.step_limit(Step::Quiesce), spec.step_wait(Step::Quiesce)), (120, 120));
        assert_eq!(spec.step_limit(Step::Verify), STEP_LIMIT_SECONDS);
    }

    #[test]
    fn steps_are_not_begun_again_unless_asked_for_and_hooks_never() {
        let mut spec = MigrationSpec::through("prod");
        assert_eq!(spec.step_retries(Step::Quiesce), 0);
        spec.retries = serde_json::from_value(serde_json::json!({"quiesce": 2, "hooks": 3})).unwrap();
        assert_eq!((spec.step_retries(Step::Quiesce), spec.step_retries(Step::PreHooks)), (2, 0));
    }

    #[test]
    fn a_step_is_set_by_its_name() {
        for step in [Step::PostHooks, Step::FinalVolumes, Step::Quiesce, Step::RestoreSource, Step::Verify] {
            let set: PerStep = serde_json::from_value(serde_json::json!({PerStep::name(step): 7})).unwrap();
            assert_eq!(set.of(step), Some(7), "{step:?}");
        }
    }

    #[test]
    fn every_name_stands_for_its_own_field() {
        let mut limits = PerStep::default();
        for (at, (_, value)) in limits.entries().into_iter().enumerate() {
            *value = u32::try_from(at).ok();
        }
        let json = serde_json::to_value(limits).unwrap();
        let mut again = limits;
        for (name, value) in again.entries() {
            assert_eq!(json[name], *value.as_ref().unwrap(), "{name}");
        }
    }
}
