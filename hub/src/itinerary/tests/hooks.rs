//! Hooks: when they come, whose they are, what their failure comes to, and the rules they are made of.

use std::sync::Arc;

use isthmus_shared::protocol::Outcome;
use isthmus_shared::resources::{
    Active, Hook, HookPhase, MigrationAction, MigrationPhase, MigrationSpec, OnError, OnFailure, Rule, Side,
    Step, StepState,
};
use jiff::ToSpan;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::failover::{failover, on_to, silent};
use super::world::{World, applied, exported, facts, inspected, moved, world};
use crate::itinerary::{Job, Rules, SETTLE_SECONDS};

fn hook(name: &str, phase: HookPhase, side: Option<Side>) -> Hook {
    let exec = json!({"podSelector": {}, "command": ["true"]});
    let hook = json!({"name": name, "phase": phase, "side": side, "exec": exec});
    serde_json::from_value(hook).unwrap()
}

/// A hook at each phase, one of them on the side where its phase is not at home.
pub(super) fn at_each_phase() -> Vec<Hook> {
    vec![
        hook("a", HookPhase::PreHooks, None),
        hook("b", HookPhase::AfterQuiesce, None),
        hook("c", HookPhase::BeforeApply, Some(Side::Source)),
        hook("d", HookPhase::BeforeApply, None),
        hook("e", HookPhase::PostHooks, None),
    ]
}

/// A cutover with them.
fn cutover(change: impl FnOnce(&mut MigrationSpec)) -> World {
    let mut run = world(|spec| {
        spec.quiesce = true;
        spec.hooks = at_each_phase();
        change(spec);
    });
    run.advance();
    run
}

/// Has every task of the run succeed until it comes to a step.
fn until(run: &mut World, step: Step) {
    for _ in 0..40 {
        if run.current() == Some(step) {
            return;
        }
        let id = run.tasks().first().unwrap_or_else(|| panic!("no task before {step:?}")).id.clone();
        let outcome = match (id.step.as_str(), id.item.as_deref().unwrap_or_default()) {
            ("Preflight", "source") => inspected(vec![facts(0, 4, Some(4))]),
            ("ExportResources", _) => exported(),
            ("ApplyResources" | "Verify", _) => applied(),
            ("StageVolumes" | "FinalVolumes", _) => moved(),
            ("Quiesce", _) => Outcome::Quiesced { workloads: 3, stopped_at: Some(Time(run.now)) },
            ("HealthCheck", _) => {
                Outcome::Healthy { workloads: 3, ready_at: Some(Time(run.now + 42.seconds())) }
            }
            _ => Outcome::Done,
        };
        run.succeed(id.item.as_deref().unwrap(), outcome);
    }
    panic!("the run never came to {step:?}: {:?}", run.status().pipeline);
}

fn steps(run: &World) -> Vec<Step> {
    run.status().pipeline.iter().map(|step| step.step).collect()
}

/// Which jobs are there to be done.
fn jobs(run: &World) -> Vec<Job> {
    run.tasks().into_iter().map(|task| task.job).collect()
}

fn rule(actions: &Value) -> Arc<Rule> {
    let rule =
        json!({"metadata": {"name": "r"}, "rules": [{"podSelector": {"app": "db"}, "actions": actions}]});
    Arc::new(serde_json::from_value(rule).unwrap())
}

#[test]
fn each_phase_has_its_place_among_the_steps() {
    let run = cutover(|_| {});
    assert_eq!(
        steps(&run),
        [
            Step::Preflight,
            Step::PreHooks,
            Step::PrepareDestination,
            Step::StageVolumes,
            Step::ExportResources,
            Step::Quiesce,
            Step::QuiesceHooks,
            Step::FinalVolumes,
            Step::ApplyHooks,
            Step::ApplyResources,
            Step::Verify,
            Step::StartApplications,
            Step::HealthCheck,
            Step::PostHooks,
            Step::Cleanup
        ]
    );
}

#[test]
fn only_a_final_that_is_no_dry_run_carries_out_hooks() {
    for change in [
        |spec: &mut MigrationSpec| spec.action = MigrationAction::Stage,
        |spec: &mut MigrationSpec| spec.dry_run = true,
    ] {
        let hooks = [Step::PreHooks, Step::QuiesceHooks, Step::ApplyHooks, Step::PostHooks];
        assert!(steps(&cutover(change)).iter().all(|step| !hooks.contains(step)));
    }
}

#[test]
fn both_sides_of_a_phase_are_in_turn_the_source_first() {
    let mut run = cutover(|_| {});
    until(&mut run, Step::ApplyHooks);
    let of = |side| vec![Job::RunHooks { phase: HookPhase::BeforeApply, side }];
    assert_eq!(jobs(&run), of(Side::Source));
    run.succeed("source", Outcome::Done);
    assert_eq!(jobs(&run), of(Side::Destination));
    run.succeed("destination", Outcome::Done);
    assert_eq!(run.current(), Some(Step::ApplyResources));
}

#[test]
fn a_hook_that_fails_before_the_source_stops_fails_the_run_and_nothing_goes_back() {
    let mut run = cutover(|_| {});
    until(&mut run, Step::PreHooks);
    run.fail("source", "Hook a");
    assert_eq!(run.current(), Some(Step::Cleanup));
    run.clean_up();
    assert_eq!((run.phase(), run.status().active), (MigrationPhase::Failed, Some(Active::Source)));
    assert!(run.status().message.unwrap().contains("Hook a"));
}

#[test]
fn a_hook_that_fails_past_quiesce_has_the_source_started_again() {
    for (step, item, undone) in [
        (Step::QuiesceHooks, "source", &[Step::RestoreSource, Step::RemoveFromDestination][..]),
        (Step::ApplyHooks, "source", &[Step::RestoreSource, Step::RemoveFromDestination]),
        (
            Step::PostHooks,
            "destination",
            &[Step::StopDestination, Step::RestoreSource, Step::RemoveFromDestination],
        ),
    ] {
        let mut run = cutover(|_| {});
        until(&mut run, step);
        run.fail(item, "Hook x");
        let mut told = Vec::new();
        while let Some(step) = run.current().filter(|step| *step != Step::Cleanup) {
            told.push(step);
            let item = if step == Step::RestoreSource { "source" } else { "destination" };
            run.succeed(item, Outcome::Done);
        }
        assert_eq!(told, undone, "after {step:?}");
        run.clean_up();
        assert_eq!((run.phase(), run.status().active), (MigrationPhase::RolledBack, Some(Active::Source)));
        let told = run.status().message.unwrap();
        assert!(told.contains("The applications run on east, and nothing of the run on west"), "{told}");
        let ran_there = told.contains("What they wrote on west meanwhile is in the claims there alone");
        assert_eq!(ran_there, step == Step::PostHooks, "{told}");
    }
}

#[test]
fn a_post_hook_that_fails_leaves_the_destination_running_where_the_run_is_to_be_held() {
    let mut run = cutover(|spec| spec.on_failure = OnFailure::Hold);
    until(&mut run, Step::PostHooks);
    run.fail("destination", "Hook e");
    run.clean_up();
    assert_eq!((run.phase(), run.status().active), (MigrationPhase::Failed, Some(Active::Destination)));
    let told = run.status().message.unwrap();
    assert!(told.contains("The applications run on west"), "{told}");
}

#[test]
fn a_failover_without_its_source_tells_which_hooks_it_leaves_out_and_the_others_take_nothing_back() {
    let begin = || {
        let mut run = failover(|scheduled| scheduled.last.as_mut().unwrap().spec.hooks = at_each_phase());
        silent(&mut run);
        run.advance();
        run
    };
    let run = begin();
    let told = &run.status().warnings[0];
    assert_eq!((told.object.as_str(), told.reason.as_str()), ("spec.hooks", "HooksLeftOut"));
    for left_out in ["a (PreHooks)", "b (AfterQuiesce)", "c (BeforeApply)", "d (BeforeApply)"] {
        assert!(told.message.contains(left_out), "{told:?}");
    }
    let kept = &run.migration.options().hooks;
    assert_eq!((kept.len(), kept[0].name.as_str(), kept[0].on_error), (1, "e", OnError::Continue));

    // A spoke that fails the step all the same, or has nothing to say of it.
    for fails in [true, false] {
        let mut run = begin();
        on_to(&mut run, Step::PostHooks);
        if fails {
            run.fail("destination", "Hook e");
        } else {
            run.now += 1801.seconds();
            run.view.destination.heard_at = Some(run.now);
            run.advance();
        }
        assert_eq!(run.current(), Some(Step::Cleanup), "nothing is stopped: {:?}", run.status().pipeline);
        run.succeed("destination", Outcome::Done);
        let status = run.status();
        assert_eq!(status.status, MigrationPhase::SucceededWithWarnings, "{status:?}");
        assert_eq!((status.failures_total, status.warnings_total), (0, 2), "{status:?}");
        assert!(status.message.unwrap().contains("The applications run on west"));
    }
}

#[test]
fn a_failover_without_its_source_that_has_no_hooks_tells_nothing_of_any() {
    let mut run = failover(|_| {});
    silent(&mut run);
    run.advance();
    assert_eq!((run.phase(), run.status().warnings_total), (MigrationPhase::InProgress, 0));
}

#[test]
fn a_hook_that_goes_on_saying_how_far_it_is_is_not_given_up() {
    let mut run = cutover(|spec| spec.step_timeout_seconds = 60);
    until(&mut run, Step::PreHooks);
    for minute in 0..30 {
        let message = Some(format!("hook a: for {minute} min"));
        let progress = isthmus_shared::protocol::Progress { message, ..Default::default() };
        let report = run.running("source", progress);
        run.take(&report);
        run.pass(50);
    }
    assert_eq!(run.current(), Some(Step::PreHooks));
    run.pass(61);
    assert_eq!(run.step(Step::PreHooks).state, StepState::Failed);
}

#[test]
fn a_lock_for_the_volumes_is_let_go_once_they_have_been_moved_although_no_hook_is_there() {
    let mut run = world(|spec| {
        let mut lock = hook("lock", HookPhase::PreHooks, None);
        let exec =
            json!({"podSelector": {}, "command": ["true"], "background": true, "until": "VolumesMoved"});
        lock.exec = serde_json::from_value(exec).unwrap();
        spec.hooks = vec![lock];
        spec.include_resources = false;
    });
    run.advance();
    until(&mut run, Step::ApplyHooks);
    assert_eq!(jobs(&run), [Job::RunHooks { phase: HookPhase::BeforeApply, side: Side::Source }]);
    assert_eq!(steps(&run).last(), Some(&Step::Cleanup));
}

#[test]
fn the_rules_of_a_run_become_its_hooks_when_it_begins_and_stay_what_they_were() {
    let mut run = world(|spec| {
        spec.pre_exec_rule = Some("before".into());
        spec.post_exec_rule = Some("after".into());
        spec.hooks = vec![hook("own", HookPhase::PreHooks, None)];
    });
    let held = json!([{"type": "command", "background": true, "value": "lock; ${WAIT_CMD}"}]);
    run.view.rules = Rules {
        before: Some(rule(&held)),
        after: Some(rule(&json!([{"type": "command", "value": "unlock"}]))),
    };
    run.advance();
    let names = |run: &World| -> Vec<String> {
        run.migration.options().hooks.iter().map(|hook| hook.name.clone()).collect()
    };
    assert_eq!(names(&run), ["pre-exec-rule-1-1", "post-exec-rule-1-1", "own"]);
    assert!(steps(&run).contains(&Step::ApplyHooks));
    run.view.rules = Rules::default();
    run.pass(60);
    assert_eq!((run.phase(), names(&run).len()), (MigrationPhase::InProgress, 3));
}

#[test]
fn a_rule_that_is_not_there_or_cannot_be_used_so_refuses_the_run_before_anything_is_changed() {
    let held = json!([{"type": "command", "background": true, "value": "lock; ${WAIT_CMD}"}]);
    for (after, reason) in [(None, "NoSuchRule"), (Some(rule(&held)), "BadRule")] {
        let mut run = world(|spec| spec.post_exec_rule = Some("after".into()));
        run.view.rules.after = after;
        run.advance();
        run.pass(SETTLE_SECONDS + 1);
        assert_eq!((run.phase(), run.status().pipeline.len()), (MigrationPhase::Failed, 0));
        let failure = &run.status().failures[0];
        assert_eq!((failure.object.as_str(), failure.reason.as_str()), ("Rule after", reason));
    }
}

#[test]
fn a_stage_does_without_the_rules_and_an_empty_name_is_none() {
    let mut stage = world(|spec| {
        spec.action = MigrationAction::Stage;
        spec.pre_exec_rule = Some("before".into());
    });
    stage.advance();
    assert_eq!(stage.phase(), MigrationPhase::InProgress);
    let mut plain = world(|spec| spec.pre_exec_rule = Some(String::new()));
    plain.advance();
    assert_eq!(plain.phase(), MigrationPhase::InProgress);
}

#[test]
fn a_hook_reaches_no_further_than_the_pair() {
    let mut run = world(|spec| {
        let mut far = hook("far", HookPhase::PreHooks, None);
        far.exec.as_mut().unwrap().namespace = Some("kube-system".into());
        spec.hooks = vec![far];
    });
    run.view.pair.as_mut().unwrap().allowed_namespaces = Some(vec!["cms".into()]);
    run.advance();
    run.pass(SETTLE_SECONDS + 1);
    assert_eq!(run.status().failures[0].object, "Namespace kube-system");
}
