//! Failovers that begin as a cutover and whose source falls silent on the way.

use isthmus_shared::protocol::Outcome;
use isthmus_shared::resources::{
    Active, CANCEL, MigrationPhase, NamespaceMove, OnFailure, Step, StepState, TargetState,
};
use jiff::ToSpan;

use super::super::cutover::{steps, until};
use super::super::hooks::at_each_phase;
use super::super::world::{World, applied, moved, world};
use super::{alone, failover, note_handover, on_to};
use crate::itinerary::{Job, Origin, Scheduled, TURN_AFTER_SECONDS, handover, notes};

/// A failover whose source is heard, at a step; the last complete run has two volumes at passes 7 and 3.
fn at(step: Step, change: impl FnOnce(&mut Scheduled)) -> World {
    let mut run = failover(|scheduled| {
        scheduled.template.as_mut().unwrap().namespaces = vec!["cms".into()];
        let last = scheduled.last.as_mut().unwrap();
        last.spec.namespaces = vec!["cms".into()];
        last.status.as_mut().unwrap().namespaces = vec![NamespaceMove::same("cms")];
        change(scheduled);
    });
    run.advance();
    until(&mut run, step);
    run
}

fn lost_at(step: Step) -> World {
    let mut run = at(step, |_| {});
    alone(&mut run, TURN_AFTER_SECONDS + 1);
    run
}

fn warned(run: &World, reason: &str) -> usize {
    run.status().warnings.iter().filter(|warning| warning.reason == reason).count()
}

#[test]
fn a_source_that_falls_silent_is_waited_for_and_then_it_goes_on_by_the_last_complete_run() {
    for step in
        [Step::Preflight, Step::StageVolumes, Step::ExportResources, Step::Quiesce, Step::FinalVolumes]
    {
        let mut run = at(step, |_| {});
        alone(&mut run, 41);
        assert_eq!(run.current(), Some(step), "it may be heard again");
        let waits = run.step(step).message.unwrap();
        assert!(waits.contains("waits for cluster east") && waits.contains("by run nightly-1"), "{waits}");
        let before = run.migration.clone();
        alone(&mut run, TURN_AFTER_SECONDS - 40);
        let status = run.status();
        let recovered = status.recovers.clone().unwrap();
        assert_eq!((recovered.run.as_str(), status.active), ("nightly-1", Some(Active::Unknown)));
        let lost = recovered.source_lost.unwrap();
        assert_eq!((lost.step, lost.at.0), (step, run.now));
        let stops = matches!(step, Step::Quiesce | Step::FinalVolumes);
        assert_eq!(lost.stopped, if stops { vec!["cms"] } else { vec![] });
        assert!(status.message.unwrap().contains("goes on without cluster east"), "{step:?}");
        let told = notes(&before, &run.status());
        assert!(told.iter().any(|note| note.warning && note.reason == "SourceLost"), "{told:?}");
        let passes: Vec<_> = status.volumes.iter().map(|v| (v.uid.as_str(), v.pass, v.phase)).collect();
        assert_eq!(passes.len(), 2, "{passes:?}");
        assert_eq!((passes[0].1, passes[1].1), (7, 3));
        assert!(run.docket().iter().all(|task| task.starts_with("west Preflight/")), "{:?}", run.docket());
        on_to(&mut run, Step::Cleanup);
        run.succeed("destination", Outcome::Done);
        let status = run.status();
        assert_eq!(status.status, MigrationPhase::SucceededWithWarnings, "{step:?}: {status:#?}");
        assert!(status.message.unwrap().contains("1h01m before the failover"));
    }
}

#[test]
fn what_was_done_stays_told_and_what_is_done_again_has_tasks_of_its_own() {
    let mut run = lost_at(Step::FinalVolumes);
    assert_eq!(
        steps(&run),
        [
            Step::StageVolumes,
            Step::ExportResources,
            Step::Quiesce,
            Step::FinalVolumes,
            Step::Preflight,
            Step::PrepareDestination,
            Step::ReceiveVolumes,
            Step::ApplyResources,
            Step::Verify,
            Step::StartApplications,
            Step::HealthCheck,
            Step::Cleanup
        ]
    );
    assert_eq!(run.step(Step::Quiesce).state, StepState::Succeeded);
    let given_up = run.step(Step::FinalVolumes);
    assert!(given_up.state == StepState::Skipped && given_up.message.unwrap().contains("given up"));
    assert_eq!(run.docket(), ["west Preflight/destination.1"]);
    run.succeed("destination.1", Outcome::Done);
    assert_eq!(run.docket(), ["west PrepareDestination/destination.1"]);
    run.succeed("destination.1", Outcome::Done);
    let tasks = run.tasks();
    let Job::ReceiveVolume(volume) = &tasks[0].job else { panic!("{tasks:?}") };
    assert!(volume.recover && volume.previous_pass.is_none() && volume.pass == 7);
}

#[test]
fn it_turns_once_and_a_source_that_is_heard_in_time_changes_nothing() {
    let mut run = at(Step::FinalVolumes, |_| {});
    alone(&mut run, 100);
    run.pass(5);
    assert!(run.status().recovers.is_none());
    run.pass(300);
    assert_eq!(run.current(), Some(Step::FinalVolumes));
    let mut run = lost_at(Step::FinalVolumes);
    run.pass(5);
    assert_eq!((warned(&run, "SourceLost"), warned(&run, "SourceHeardAgain")), (1, 1));
    assert!(run.status().recovers.is_some(), "whoever wants the source's last writes cancels it");
    // It stops before the destination starts.
    on_to(&mut run, Step::Verify);
    run.succeed("destination", applied());
    note_handover(&mut run);
    assert!(run.docket().is_empty());
    run.view.told.done = true;
    run.advance();
    assert_eq!(run.docket(), ["west StartApplications/destination"]);
}

#[test]
fn where_neither_side_is_heard_it_is_the_hub_that_is_cut_off() {
    let mut run = at(Step::FinalVolumes, |_| {});
    run.now += 600.seconds();
    run.advance();
    assert_eq!(run.current(), Some(Step::FinalVolumes));
    assert!(run.status().recovers.is_none());
    // The destination is heard first, and the source a moment later.
    run.view.destination.steady_since = Some(run.now);
    alone(&mut run, 20);
    assert!(run.status().recovers.is_none());
    run.pass(1);
    assert_eq!(run.current(), Some(Step::FinalVolumes));
    alone(&mut run, TURN_AFTER_SECONDS + 1);
    assert!(run.status().recovers.is_some(), "this time it is the source");
}

#[test]
fn a_source_that_is_not_needed_any_more_is_not_missed() {
    // All is sent and nothing runs there: only what it would have run beside is left out.
    let hooked = |scheduled: &mut Scheduled| scheduled.template.as_mut().unwrap().hooks = at_each_phase();
    let mut run = at(Step::FinalVolumes, hooked);
    for volume in run.status().volumes {
        run.succeed(&format!("send.{}", volume.uid), moved());
    }
    alone(&mut run, 1000);
    assert!(run.status().recovers.is_none());
    for volume in run.status().volumes {
        run.succeed(&format!("receive.{}", volume.uid), moved());
    }
    assert_eq!(run.docket(), ["west ApplyHooks/destination"], "the source's is left out");
    assert_eq!(warned(&run, "HooksLeftOut"), 1);
    until(&mut run, Step::Cleanup);
    run.succeed("destination", Outcome::Done);
    alone(&mut run, 1);
    let status = run.status();
    assert_eq!(status.status, MigrationPhase::SucceededWithWarnings, "{status:#?}");
    assert_eq!((status.active, status.recovers), (Some(Active::Destination), None));
}

#[test]
fn without_a_run_to_go_by_it_fails_with_the_reason_and_goes_back() {
    let mut run = at(Step::FinalVolumes, |scheduled| scheduled.last = None);
    alone(&mut run, 299);
    assert_eq!(run.current(), Some(Step::FinalVolumes));
    alone(&mut run, 2);
    assert_eq!(run.status().failures[0].reason, "NoCompleteRun");
    assert_eq!(run.docket(), ["east RestoreSource/source"]);
    alone(&mut run, 301);
    assert_eq!(run.current(), Some(Step::Cleanup), "it is not waited for a day");
    run.succeed("destination", Outcome::Done);
    let status = run.status();
    assert_eq!((status.status, status.active), (MigrationPhase::Failed, Some(Active::Unknown)));
    let message = status.message.unwrap();
    assert!(message.contains("nothing to go by") && message.contains("isthmus rollback"), "{message}");

    let mut other = at(Step::FinalVolumes, |scheduled| {
        scheduled.last.as_mut().unwrap().status.as_mut().unwrap().source = Some("north".into());
    });
    alone(&mut other, 301);
    assert_eq!(other.status().failures[0].reason, "NoCompleteRun");
}

#[test]
fn no_other_run_than_a_failover_turns() {
    let mut run = at(Step::FinalVolumes, |_| {});
    let cutover = world(|spec| spec.quiesce = true);
    run.migration.spec = cutover.migration.spec.clone();
    let mut status = run.status();
    status.options = None;
    run.migration.status = Some(status);
    alone(&mut run, 1000);
    assert_eq!(run.current(), Some(Step::FinalVolumes));
    assert!(run.status().recovers.is_none());
}

#[test]
fn one_that_goes_back_after_it_turned_lets_the_source_start_what_it_had_stopped() {
    for cancelled in [true, false] {
        let mut run = lost_at(Step::FinalVolumes);
        on_to(&mut run, Step::ReceiveVolumes);
        if cancelled {
            run.migration.metadata.annotations = Some([(CANCEL.to_owned(), "true".to_owned())].into());
            run.advance();
        } else {
            run.fail("receive.v1", "PersistentVolumeClaim cms/claim-1");
        }
        assert_eq!(handover(&run.migration), None, "the destination is seen to first");
        assert_eq!(run.docket(), ["west StopDestination/destination"]);
        run.succeed("destination", Outcome::Done);
        let back = handover(&run.migration).unwrap().activations;
        assert_eq!((back[0].state, back[0].namespace.as_str()), (TargetState::Active, "cms"));
        assert!(run.docket().is_empty(), "the source is to run again");
        note_handover(&mut run);
        run.view.told.done = true;
        run.succeed("destination", Outcome::Done);
        let status = run.status();
        assert_eq!((status.status, status.active), (MigrationPhase::RolledBack, Some(Active::Source)));
        assert!(status.warnings.iter().any(|warning| warning.reason == "CleanupSkipped"));
    }
    // Before it had stopped anything there, there is nothing to say to it.
    let mut run = lost_at(Step::StageVolumes);
    on_to(&mut run, Step::ReceiveVolumes);
    run.fail("receive.v1", "PersistentVolumeClaim cms/claim-1");
    assert_eq!((run.current(), handover(&run.migration)), (Some(Step::Cleanup), None));
}

#[test]
fn one_that_is_held_after_it_turned_says_that_neither_side_may_run() {
    let mut run = at(Step::FinalVolumes, |of| of.last.as_mut().unwrap().spec.on_failure = OnFailure::Hold);
    alone(&mut run, TURN_AFTER_SECONDS + 1);
    on_to(&mut run, Step::ReceiveVolumes);
    run.fail("receive.v1", "PersistentVolumeClaim cms/claim-1");
    assert_eq!(handover(&run.migration), None);
    run.succeed("destination", Outcome::Done);
    let message = run.status().message.unwrap();
    assert!(message.contains("neither side") && message.contains("isthmus activate"), "{message}");
}

#[test]
fn a_namespace_that_the_last_run_did_not_have_goes_on_at_its_source() {
    let mut run = at(Step::FinalVolumes, |scheduled| {
        scheduled.template.as_mut().unwrap().namespaces = vec!["cms".into()];
        let last = scheduled.last.as_mut().unwrap().status.as_mut().unwrap();
        last.namespaces = vec![NamespaceMove::same("blog")];
    });
    alone(&mut run, TURN_AFTER_SECONDS + 1);
    assert_eq!(warned(&run, "NotInLastRun"), 1);
    on_to(&mut run, Step::StartApplications);
    let told = handover(&run.migration).unwrap().activations;
    let told: Vec<_> = told.iter().map(|told| (told.namespace.as_str(), told.state)).collect();
    assert_eq!(told, [("blog", TargetState::Inactive), ("cms", TargetState::Active)]);
}

#[test]
fn the_source_is_cleaned_up_if_it_is_heard_by_then() {
    let mut run = lost_at(Step::StageVolumes);
    on_to(&mut run, Step::HealthCheck);
    run.pass(1);
    run.succeed("destination", Outcome::Done);
    let mut docket = run.docket();
    docket.sort();
    assert_eq!(docket, ["east Cleanup/source", "west Cleanup/destination"]);
    run.clean_up();
    assert_eq!(run.phase(), MigrationPhase::SucceededWithWarnings);
}

#[test]
fn a_hub_that_starts_anew_gives_the_source_its_time_and_keeps_what_was_decided() {
    let mut run = at(Step::Quiesce, |_| {});
    alone(&mut run, 100);
    run.view.since = run.now;
    run.view.source.heard_at = None;
    alone(&mut run, 100);
    assert!(run.status().recovers.is_none(), "it has not looked for long enough");
    alone(&mut run, 21);
    assert!(run.status().recovers.is_some());
    // What it was decided by may be gone by then.
    run.view.origin = Origin::Own;
    let json = serde_json::to_string(&run.migration).unwrap();
    run.migration = serde_json::from_str(&json).unwrap();
    run.view.since = run.now;
    alone(&mut run, 1);
    on_to(&mut run, Step::HealthCheck);
}
