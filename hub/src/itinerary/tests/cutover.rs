//! Cutovers: what happens in which order, and how they go back.

use isthmus_shared::protocol::Outcome;
use isthmus_shared::resources::{
    Active, CANCEL, MigrationAction, MigrationPhase, MigrationSpec, OnFailure, Step, StepState,
};
use jiff::ToSpan;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::world::{World, applied, exported, facts, inspected, moved, world};
use crate::itinerary::tasks::is_settled;
use crate::itinerary::{Job, Origin, UNDO_PATIENCE_SECONDS, Undone};

pub(super) fn cutover(change: impl FnOnce(&mut MigrationSpec)) -> World {
    let mut run = world(|spec| {
        spec.quiesce = true;
        change(spec);
    });
    run.advance();
    run
}

/// Has every task of the run succeed until it comes to a step.
pub(super) fn until(run: &mut World, step: Step) {
    for _ in 0..40 {
        if run.current() == Some(step) {
            return;
        }
        let id = run.tasks().first().unwrap_or_else(|| panic!("no task before {step:?}")).id.clone();
        let outcome = outcome(run, &id.step, id.item.as_deref().unwrap_or_default());
        run.succeed(id.item.as_deref().unwrap(), outcome);
    }
    panic!("the run never came to {step:?}: {:?}", run.status().pipeline);
}

fn outcome(run: &World, step: &str, item: &str) -> Outcome {
    match (step, item) {
        ("Preflight", "source") => inspected(vec![facts(0, 4, Some(4))]),
        ("ExportResources", _) => exported(),
        ("ApplyResources" | "Verify", _) => applied(),
        ("StageVolumes" | "FinalVolumes", _) => moved(),
        ("Quiesce", _) => Outcome::Quiesced { workloads: 3, stopped_at: Some(Time(run.now)) },
        ("HealthCheck", _) => Outcome::Healthy { workloads: 3, ready_at: Some(Time(run.now + 42.seconds())) },
        _ => Outcome::Done,
    }
}

pub(super) fn steps(run: &World) -> Vec<Step> {
    run.status().pipeline.iter().map(|step| step.step).collect()
}

#[test]
fn a_cutover_stages_then_stops_the_source_then_makes_the_last_pass() {
    let run = cutover(|_| {});
    assert_eq!(
        steps(&run),
        [
            Step::Preflight,
            Step::PrepareDestination,
            Step::StageVolumes,
            Step::ExportResources,
            Step::Quiesce,
            Step::FinalVolumes,
            Step::ApplyResources,
            Step::Verify,
            Step::StartApplications,
            Step::HealthCheck,
            Step::Cleanup
        ]
    );
}

#[test]
fn what_a_volume_uploaded_is_the_sum_of_the_runs_passes() {
    let mut run = cutover(|_| {});
    until(&mut run, Step::Quiesce);
    let one = run.status().volumes[0].bytes_uploaded;
    until(&mut run, Step::ApplyResources);
    let volume = run.status().volumes[0].clone();
    assert_eq!((volume.bytes_uploaded, volume.bytes_uploaded_before), (2 * one, one));
    assert!(one > 0, "{volume:?}");
}

#[test]
fn a_stage_moves_volumes_and_nothing_else() {
    let run = cutover(|spec| spec.action = MigrationAction::Stage);
    assert_eq!(steps(&run), [Step::Preflight, Step::PrepareDestination, Step::StageVolumes, Step::Cleanup]);
    assert_eq!(run.status().active, None);
}

#[test]
fn the_last_pass_builds_on_the_staged_one_and_reads_what_stands_still() {
    let mut run = cutover(|_| {});
    until(&mut run, Step::StageVolumes);
    let staged = &run.status().volumes[0];
    assert_eq!((staged.pass, staged.previous_pass), (5, Some(4)));
    assert!(
        run.tasks()
            .iter()
            .all(|task| matches!(&task.job, Job::SendVolume(v) | Job::ReceiveVolume(v) if !v.quiesced))
    );
    until(&mut run, Step::FinalVolumes);
    let last = &run.status().volumes[0];
    assert_eq!((last.pass, last.previous_pass), (6, Some(5)));
    assert!(
        run.tasks()
            .iter()
            .all(|task| matches!(&task.job, Job::SendVolume(v) | Job::ReceiveVolume(v) if v.quiesced))
    );
}

#[test]
fn a_volume_that_cannot_be_read_while_it_is_used_waits_for_the_last_pass() {
    let mut run = cutover(|_| {});
    run.succeed("survey", Outcome::Done);
    let mut of_one_pod = facts(1, 0, None);
    of_one_pod.only_at_rest = true;
    run.succeed("source", inspected(vec![facts(0, 0, None), of_one_pod]));
    until(&mut run, Step::StageVolumes);
    assert_eq!(run.docket(), ["east StageVolumes/send.v0", "west StageVolumes/receive.v0"]);
    run.move_volume(0);
    let told = run.step(Step::StageVolumes).message.unwrap();
    assert!(told.starts_with("1 volumes") && told.contains("wait for the last pass"), "{told}");
    until(&mut run, Step::FinalVolumes);
    let passes: Vec<_> = run.status().volumes.iter().map(|v| (v.pass, v.previous_pass)).collect();
    assert_eq!((run.docket().len(), passes), (4, vec![(2, Some(1)), (1, None)]));
}

#[test]
fn the_status_tells_which_side_is_active_and_for_how_long_none_was() {
    let mut run = cutover(|_| {});
    until(&mut run, Step::ExportResources);
    assert_eq!(run.status().active, Some(Active::Source));
    until(&mut run, Step::FinalVolumes);
    assert_eq!(run.status().active, Some(Active::Neither));
    until(&mut run, Step::StartApplications);
    assert_eq!(run.status().active, Some(Active::Unknown), "it is being started");
    until(&mut run, Step::Cleanup);
    run.succeed("source", Outcome::Done);
    run.succeed("destination", Outcome::Done);
    let status = run.status();
    assert_eq!((status.status, status.active), (MigrationPhase::Succeeded, Some(Active::Destination)));
    let message = status.message.unwrap();
    assert!(message.contains("run on west, down for 42s, and stand still on east"), "{message}");
}

#[test]
fn what_fails_after_the_source_has_stopped_goes_back() {
    let mut run = cutover(|_| {});
    until(&mut run, Step::FinalVolumes);
    run.fail("send.v0", "PersistentVolumeClaim cms/claim-0");
    assert_eq!(run.docket(), ["east RestoreSource/source"], "nothing can run on the destination");
    run.succeed("source", Outcome::Workloads { workloads: 3 });
    assert_eq!(run.docket(), ["west RemoveFromDestination/destination"]);
    run.succeed("destination", Outcome::Removed { objects: 9, kept: 2 });
    assert_eq!(run.current(), Some(Step::Cleanup));
    run.succeed("source", Outcome::Done);
    run.succeed("destination", Outcome::Done);
    let status = run.status();
    assert_eq!((status.status, status.active), (MigrationPhase::RolledBack, Some(Active::Source)));
    let message = status.message.unwrap();
    assert!(message.contains("FinalVolumes failed") && message.contains("run on east"), "{message}");
}

#[test]
fn a_destination_that_was_started_is_stopped_before_the_source_starts() {
    let mut run = cutover(|_| {});
    until(&mut run, Step::HealthCheck);
    run.fail("destination", "Deployment cms/web");
    assert_eq!(run.docket(), ["west StopDestination/destination"]);
    assert_eq!(run.status().active, Some(Active::Unknown));
    run.succeed("destination", Outcome::Workloads { workloads: 3 });
    assert_eq!(
        (run.docket(), run.status().active),
        (vec!["east RestoreSource/source".to_owned()], Some(Active::Neither))
    );
}

#[test]
fn the_source_is_not_started_while_the_destination_may_run() {
    let mut run = cutover(|_| {});
    until(&mut run, Step::StartApplications);
    run.pass(1801);
    assert_eq!(run.docket(), ["west StopDestination/destination"], "the start was given up");
    run.pass(3600);
    assert_eq!(run.docket(), ["west StopDestination/destination"], "it is waited for");
    run.pass(UNDO_PATIENCE_SECONDS + 1);
    run.succeed("source", Outcome::Done);
    run.succeed("destination", Outcome::Done);
    let status = run.status();
    assert_eq!((status.status, status.active), (MigrationPhase::Failed, Some(Active::Unknown)));
    assert_eq!(run.step(Step::RestoreSource).state, StepState::Skipped);
    let message = status.message.unwrap();
    assert!(message.contains("isthmus activate NAMESPACE --cluster east`"), "{message}");
    assert!(message.contains("`--force`"), "{message}");
}

#[test]
fn what_fails_before_the_source_has_stopped_stays_for_the_next_run() {
    let mut run = cutover(|_| {});
    until(&mut run, Step::ExportResources);
    run.fail("source", "Service cms/web");
    assert_eq!(run.current(), Some(Step::Cleanup));
    run.succeed("source", Outcome::Done);
    run.succeed("destination", Outcome::Done);
    assert_eq!((run.phase(), run.status().active), (MigrationPhase::Failed, Some(Active::Source)));
}

#[test]
fn a_run_that_is_to_be_held_stays_as_it_is_and_says_how_to_go_back() {
    let mut run = cutover(|spec| spec.on_failure = OnFailure::Hold);
    until(&mut run, Step::ApplyResources);
    run.fail("destination", "Service cms/web");
    assert_eq!(run.current(), Some(Step::Cleanup));
    run.succeed("source", Outcome::Done);
    run.succeed("destination", Outcome::Done);
    let status = run.status();
    assert_eq!((status.status, status.active), (MigrationPhase::Failed, Some(Active::Neither)));
    let message = status.message.unwrap();
    assert!(message.contains("isthmus rollback"), "{message}");
    assert!(message.contains("`isthmus activate NAMESPACE --cluster east` (or west)"), "{message}");
}

#[test]
fn a_cancelled_run_goes_back_whatever_it_is_to_do_on_failure() {
    for by_deletion in [true, false] {
        let mut run = cutover(|spec| spec.on_failure = OnFailure::Hold);
        until(&mut run, Step::FinalVolumes);
        if by_deletion {
            run.delete();
        } else {
            run.migration.metadata.annotations = Some([(CANCEL.to_owned(), "true".to_owned())].into());
        }
        run.advance();
        assert_eq!(run.docket(), ["east RestoreSource/source"]);
        run.succeed("source", Outcome::Done);
        run.succeed("destination", Outcome::Removed { objects: 1, kept: 0 });
        run.succeed("source", Outcome::Done);
        run.succeed("destination", Outcome::Done);
        assert_eq!(run.phase(), MigrationPhase::RolledBack);
    }
}

#[test]
fn a_cancelled_promotion_removes_what_it_brought_and_leaves_the_source() {
    let mut run = world(|_| {});
    run.advance();
    until(&mut run, Step::ApplyResources);
    run.migration.metadata.annotations = Some([(CANCEL.to_owned(), "true".to_owned())].into());
    run.advance();
    assert_eq!(run.docket(), ["west StopDestination/destination"], "what was applied may run");
    run.succeed("destination", Outcome::Workloads { workloads: 0 });
    assert_eq!(run.docket(), ["west RemoveFromDestination/destination"]);
}

#[test]
fn a_rollback_undoes_what_has_ended() {
    let mut done = cutover(|_| {});
    until(&mut done, Step::Cleanup);
    done.succeed("source", Outcome::Done);
    done.succeed("destination", Outcome::Done);
    let mut run = world(|spec| {
        *spec = MigrationSpec {
            action: MigrationAction::Rollback,
            rollback_of: Some("m".into()),
            ..MigrationSpec::through("")
        };
    });
    let mut undone = done.migration.clone();
    undone.metadata.uid = Some("undone".into());
    let undone = Undone { migration: Some(Box::new(undone)), superseded_by: None };
    run.view.origin = Origin::Undoes(undone.clone());
    run.advance();
    assert_eq!(
        steps(&run),
        [Step::StopDestination, Step::RestoreSource, Step::RemoveFromDestination, Step::Cleanup]
    );
    assert_eq!(run.status().undoes.map(|undone| undone.uid).as_deref(), Some("undone"));
    for item in ["destination", "source", "destination", "source", "destination"] {
        run.succeed(item, Outcome::Done);
    }
    assert_eq!((run.phase(), run.status().active), (MigrationPhase::Succeeded, Some(Active::Source)));

    let mut elsewhere = world(|spec| {
        spec.clone_from(&run.migration.spec);
        spec.cluster_pair = "other".into();
    });
    elsewhere.view.origin = Origin::Undoes(undone.clone());
    elsewhere.advance();
    assert!(elsewhere.status().message.unwrap().contains("goes through ClusterPair prod"));

    let mut late = world(|spec| spec.clone_from(&run.migration.spec));
    late.view.origin = Origin::Undoes(Undone { superseded_by: Some("isthmus/later".into()), ..undone });
    late.advance();
    late.pass(10);
    assert_eq!(late.phase(), MigrationPhase::Failed);
    assert!(late.status().message.unwrap().contains("isthmus/later has moved its namespaces since"));
}

#[test]
fn a_run_that_names_a_plan_goes_by_it_as_it_was() {
    let plan =
        MigrationSpec { namespaces: vec!["cms".into()], quiesce: true, ..MigrationSpec::through("prod") };
    let mut run = world(|spec| {
        *spec = MigrationSpec { plan: Some("shop".into()), ..MigrationSpec::through("") };
    });
    run.view.origin = Origin::Plan(None);
    run.advance();
    assert!(run.status().message.unwrap().contains("there is no such plan"));
    run.view.origin = Origin::Plan(Some(Box::new(plan)));
    run.advance();
    assert!(steps(&run).contains(&Step::Quiesce));
    run.view.origin = Origin::Plan(None);
    until(&mut run, Step::FinalVolumes);
    assert_eq!(run.tasks()[0].clone().job, run.tasks()[0].job);
    assert!(run.status().options.is_some_and(|options| options.quiesce));
}

#[test]
fn only_a_cutover_that_went_well_lets_go_of_what_it_kept_for_going_back() {
    let mut well = cutover(|_| ());
    until(&mut well, Step::HealthCheck);
    assert!(!is_settled(&well.migration), "it is not known yet");
    until(&mut well, Step::Cleanup);
    assert!(is_settled(&well.migration));
    let mut held = cutover(|spec| spec.on_failure = OnFailure::Hold);
    until(&mut held, Step::HealthCheck);
    held.fail("destination", "Deployment cms/web");
    assert_eq!(held.current(), Some(Step::Cleanup));
    assert!(!is_settled(&held.migration), "a person may still go back");
    let mut promotion = cutover(|spec| spec.quiesce = false);
    until(&mut promotion, Step::Cleanup);
    assert!(!is_settled(&promotion.migration));
}
