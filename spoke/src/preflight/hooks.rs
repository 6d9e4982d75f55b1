//! Hooks that the cluster of a side carries out for nobody, told before anything is changed. Pure.

use isthmus_shared::resources::{MigrationSpec, OnError, Side};

use super::concern::Concern;
use crate::hooks::commands_off;

/// The reason of a hook that is a command where none are carried out.
const COMMANDS_OFF: &str = "HookCommandsOff";

/// What is in the way of the hooks of a side. `commands` says whether its spoke, that of `cluster`,
/// carries out commands in Pods.
pub fn look_at_hooks(spec: &MigrationSpec, side: Side, cluster: &str, commands: bool) -> Vec<Concern> {
    if commands || !spec.action.brings_all() {
        return Vec::new();
    }
    let of_side = spec.hooks.iter().filter(|hook| hook.side() == side && hook.exec.is_some());
    of_side
        .map(|hook| {
            let (object, message) = (format!("Hook {}", hook.name), commands_off(cluster));
            match hook.on_error {
                OnError::Fail => Concern::failure(object, COMMANDS_OFF, message),
                OnError::Continue => Concern::warning(object, COMMANDS_OFF, message),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use isthmus_shared::resources::MigrationAction;
    use serde_json::json;

    use super::*;
    use crate::preflight::concern::Severity;

    fn spec() -> MigrationSpec {
        let exec = json!({"podSelector": {}, "command": ["true"]});
        let spec = json!({"clusterPair": "p", "namespaces": ["cms"], "hooks": [
            {"name": "freeze", "phase": "PreHooks", "exec": exec},
            {"name": "note", "phase": "PreHooks", "exec": exec, "onError": "Continue"},
            {"name": "dump", "phase": "PreHooks", "job": {"image": "tool:1"}},
            {"name": "warm", "phase": "PostHooks", "exec": exec}
        ]});
        serde_json::from_value(spec).unwrap()
    }

    fn told(spec: &MigrationSpec, side: Side, commands: bool) -> Vec<(Severity, String)> {
        let concerns = look_at_hooks(spec, side, "east", commands);
        concerns.into_iter().map(|concern| (concern.severity, concern.finding.object)).collect()
    }

    #[test]
    fn where_commands_are_off_a_hook_that_is_one_is_in_the_way_by_its_on_error_and_jobs_are_not() {
        let freeze = (Severity::Failure, "Hook freeze".to_owned());
        let note = (Severity::Warning, "Hook note".to_owned());
        assert_eq!(told(&spec(), Side::Source, false), [freeze, note]);
        assert_eq!(told(&spec(), Side::Destination, false), [(Severity::Failure, "Hook warm".to_owned())]);
        assert_eq!(told(&spec(), Side::Source, true), []);
        let concern = look_at_hooks(&spec(), Side::Source, "east", false).remove(0);
        assert_eq!(concern.finding.reason, "HookCommandsOff");
        for part in ["cluster east", "hooks.commands", "Job"] {
            assert!(concern.finding.message.contains(part), "{}", concern.finding.message);
        }
    }

    #[test]
    fn a_run_that_carries_out_no_hooks_needs_none() {
        let stage = MigrationSpec { action: MigrationAction::Stage, ..spec() };
        assert_eq!(told(&stage, Side::Source, false), []);
        let failback = MigrationSpec { action: MigrationAction::Failback, ..spec() };
        assert_eq!(told(&failback, Side::Source, false).len(), 2);
    }
}
