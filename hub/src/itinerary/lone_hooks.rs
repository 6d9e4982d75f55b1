//! The hooks of a failover whose source is not heard. Pure.
//!
//! Those of the source have nobody to carry them out, and those that come before the start are for a
//! source that stands still: they are left out, and the run tells which. Those that come after the start
//! are carried out, and what becomes of them takes nothing back: what runs on the destination is all
//! that is known to run.

use isthmus_shared::resources::{
    Finding, Hook, HookPhase, MigrationSpec, MigrationStatus, OnError, Side, Step,
};

use super::findings::{Severity, add, finding};

/// The most hooks that are named as left out; the others are counted.
const MAX_NAMED: usize = 10;

/// Leaves out the hooks that such a failover does not carry out, and has the others take nothing back.
/// Gives back what is told of those that are left out.
pub(super) fn left_out(options: &mut MigrationSpec) -> Option<Finding> {
    let stays = |hook: &Hook| hook.phase == HookPhase::PostHooks && hook.side() == Side::Destination;
    let (stay, left): (Vec<_>, Vec<_>) = std::mem::take(&mut options.hooks).into_iter().partition(stays);
    options.hooks = stay;
    for hook in &mut options.hooks {
        hook.on_error = OnError::Continue;
    }
    if left.is_empty() {
        return None;
    }
    let named: Vec<String> =
        left.iter().take(MAX_NAMED).map(|hook| format!("{} ({:?})", hook.name, hook.phase)).collect();
    let more = match left.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!(
        "the source is not heard, so these are carried out by nobody: {}{more}; only PostHooks of the destination are. Do by hand what of it is needed before the applications are used",
        named.join(", ")
    );
    Some(finding("spec.hooks", "HooksLeftOut", message))
}

/// Whether a step of the run takes nothing back when it fails.
pub(super) fn takes_nothing_back(status: &MigrationStatus, step: Step) -> bool {
    status.recovers.is_some() && step == Step::PostHooks
}

/// Makes warnings of what has failed of such a step.
pub(super) fn let_stand(status: &mut MigrationStatus, step: Step) {
    let (of_step, others): (Vec<Finding>, Vec<Finding>) =
        std::mem::take(&mut status.failures).into_iter().partition(|found| found.step == Some(step));
    status.failures = others;
    // The run has come so far without a failure that counts.
    status.failures_total = status.failures.len() as u64;
    for failure in of_step {
        add(status, Severity::Warning, Some(step), failure);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options(hooks: &serde_json::Value) -> MigrationSpec {
        let spec = json!({"clusterPair": "p", "namespaces": ["cms"], "hooks": hooks});
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn only_what_comes_after_the_start_on_the_destination_is_carried_out_and_takes_nothing_back() {
        let exec = json!({"podSelector": {}, "command": ["true"]});
        let mut spec = options(&json!([
            {"name": "freeze", "phase": "PreHooks", "exec": exec},
            {"name": "schema", "phase": "BeforeApply", "exec": exec},
            {"name": "warm", "phase": "PostHooks", "exec": exec},
            {"name": "tell", "phase": "PostHooks", "side": "Source", "exec": exec}
        ]));
        let told = left_out(&mut spec).unwrap();
        let left: Vec<(&str, OnError)> =
            spec.hooks.iter().map(|hook| (hook.name.as_str(), hook.on_error)).collect();
        assert_eq!(left, [("warm", OnError::Continue)]);
        assert_eq!((told.object.as_str(), told.reason.as_str()), ("spec.hooks", "HooksLeftOut"));
        for part in ["freeze (PreHooks)", "schema (BeforeApply)", "tell (PostHooks)", "by hand"] {
            assert!(told.message.contains(part), "{}", told.message);
        }
        assert!(!told.message.contains("warm"), "{}", told.message);
        assert_eq!(left_out(&mut spec), None, "nothing is left out of what is left");
    }

    #[test]
    fn of_many_that_are_left_out_some_are_named_and_all_are_counted() {
        let many: Vec<_> = (0..MAX_NAMED + 3)
            .map(|n| json!({"name": format!("h{n}"), "phase": "PreHooks", "job": {"image": "tool:1"}}))
            .collect();
        let told = left_out(&mut options(&json!(many))).unwrap();
        assert!(told.message.contains("h9 (PreHooks) and 3 more"), "{}", told.message);
    }
}
