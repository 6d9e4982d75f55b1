//! Failovers whose source is gone when they begin.

use isthmus_shared::protocol::Outcome;
use isthmus_shared::resources::{
    Active, CANCEL, MigrationPhase, NamespaceMove, OnFailure, Step, StepState, TargetState,
};

use super::super::cutover::steps;
use super::super::world::{UID, World, applied};
use super::{failover, gone, note_handover, on_to, outcome, silent};
use crate::itinerary::{Job, handover};

#[test]
fn with_its_source_gone_it_goes_by_the_last_complete_run() {
    let run = gone();
    assert_eq!(
        steps(&run),
        [
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
    let status = run.status();
    let recovered = status.recovers.unwrap();
    assert_eq!((recovered.run.as_str(), recovered.uid.as_str()), ("nightly-1", "run-of-schedule"));
    assert_eq!((status.active, status.source.as_deref()), (Some(Active::Unknown), Some("east")));
    assert_eq!(status.namespaces, [NamespaceMove { from: "cms".into(), to: "shop".into() }]);
    let passes: Vec<_> = status.volumes.iter().map(|v| (v.uid.as_str(), v.pass)).collect();
    assert_eq!(passes, [("v0", 7), ("v1", 3)]);
    assert_eq!(run.docket(), ["west Preflight/destination"], "nothing is asked of the source");
}

#[test]
fn volumes_are_received_alone_and_brought_back_to_their_passes() {
    let mut run = gone();
    on_to(&mut run, Step::ReceiveVolumes);
    assert_eq!(run.docket(), ["west ReceiveVolumes/receive.v0", "west ReceiveVolumes/receive.v1"]);
    let tasks = run.tasks();
    let Job::ReceiveVolume(volume) = &tasks[0].job else { panic!("{tasks:?}") };
    assert!(volume.recover && volume.previous_pass.is_none() && !volume.quiesced);
    run.fail("receive.v1", "PersistentVolumeClaim shop/claim-1");
    assert_eq!(run.current(), Some(Step::Cleanup));
    assert_eq!(run.docket(), ["west Cleanup/destination"]);
    run.succeed("destination", Outcome::Done);
    let status = run.status();
    assert_eq!((status.status, status.active), (MigrationPhase::Failed, Some(Active::Unknown)));
    let told = status.message.unwrap();
    assert!(told.contains("Nothing of the run runs on west") && told.contains("fail over again"), "{told}");
    assert_eq!(handover(&run.migration), None, "the source was told nothing");
}

#[test]
fn the_destination_starts_once_the_source_is_told_to_stop_and_the_end_says_how_old_the_data_is() {
    let mut run = gone();
    on_to(&mut run, Step::Verify);
    assert_eq!(handover(&run.migration), None);
    run.succeed("destination", applied());
    assert!(run.docket().is_empty(), "first the source's record has to say it");
    let wanted = handover(&run.migration).unwrap();
    assert_eq!(wanted.cluster, "east");
    let told = &wanted.activations[0];
    assert_eq!((told.namespace.as_str(), told.state), ("cms", TargetState::Inactive));
    assert_eq!(told.handed_over_to.as_deref(), Some("west/shop"));
    assert_eq!(told.request, format!("failover-{UID}"));
    note_handover(&mut run);
    assert_eq!(run.docket(), ["west StartApplications/destination"]);
    on_to(&mut run, Step::Cleanup);
    run.succeed("destination", Outcome::Done);
    let status = run.status();
    assert_eq!((status.status, status.active), (MigrationPhase::Succeeded, Some(Active::Unknown)));
    let message = status.message.unwrap();
    assert!(message.contains("1h01m before the failover"), "{message}");
    assert!(message.contains("east stops as soon as it is heard"), "{message}");
    // It is heard an hour later, and stops.
    run.view.told.done = true;
    run.pass(3600);
    let status = run.status();
    assert_eq!(status.active, Some(Active::Destination));
    let message = status.message.unwrap();
    assert!(message.contains("east has been heard since, and stands still"), "{message}");
    assert_eq!(status.conditions[0].message, message);
}

#[test]
fn a_source_that_is_heard_before_the_start_is_told_of_and_stops_first() {
    let mut run = gone();
    on_to(&mut run, Step::ReceiveVolumes);
    run.pass(5);
    run.pass(5);
    let again = |run: &World| run.status().warnings.iter().filter(|w| w.reason == "SourceHeardAgain").count();
    assert_eq!(again(&run), 1);
    while run.current() != Some(Step::Verify) {
        let task = run.tasks().remove(0);
        let outcome = outcome(&task.job);
        run.succeed(task.id.item.as_deref().unwrap(), outcome);
    }
    run.succeed("destination", applied());
    note_handover(&mut run);
    assert!(run.docket().is_empty(), "it is heard, and has not stopped");
    let waits = run.step(Step::StartApplications);
    assert!(waits.state == StepState::Pending && waits.message.unwrap().contains("east"));
    run.view.told.done = true;
    run.advance();
    assert_eq!(run.docket(), ["west StartApplications/destination"]);
    assert_eq!(again(&run), 1);
}

#[test]
fn a_source_that_is_heard_and_cannot_be_stopped_keeps_the_destination_from_starting() {
    for refuses in [true, false] {
        let mut run = gone();
        on_to(&mut run, Step::Verify);
        run.pass(1);
        run.succeed("destination", applied());
        note_handover(&mut run);
        if refuses {
            run.view.told.refused = Some("namespace cms: not allowed".into());
            run.advance();
        } else {
            run.pass(1801);
        }
        assert_eq!(run.step(Step::StartApplications).state, StepState::Failed);
        assert_eq!(run.docket(), ["west StopDestination/destination"], "what was applied may run");
        run.succeed("destination", Outcome::Done);
        assert_eq!(handover(&run.migration).unwrap().activations[0].state, TargetState::Active);
        assert!(run.docket().is_empty(), "the source is to run again");
        note_handover(&mut run);
        run.succeed("destination", Outcome::Done);
        assert_eq!((run.phase(), run.status().active), (MigrationPhase::RolledBack, Some(Active::Unknown)));
    }
}

#[test]
fn one_that_fails_after_the_start_stops_the_destination_and_lets_the_source_run() {
    let mut run = gone();
    on_to(&mut run, Step::HealthCheck);
    run.fail("destination", "Deployment shop/web");
    assert_eq!(run.docket(), ["west StopDestination/destination"]);
    assert_eq!(handover(&run.migration).unwrap().activations[0].state, TargetState::Inactive, "it may run");
    run.succeed("destination", Outcome::Workloads { workloads: 3 });
    let back = handover(&run.migration).unwrap().activations.remove(0);
    assert_eq!((back.state, back.force, back.handed_over_to), (TargetState::Active, true, None));
    note_handover(&mut run);
    run.view.told.done = true;
    run.succeed("destination", Outcome::Done);
    let status = run.status();
    assert_eq!((status.status, status.active), (MigrationPhase::RolledBack, Some(Active::Source)));
    assert!(!status.pipeline.iter().any(|step| step.step == Step::RemoveFromDestination));
}

#[test]
fn one_that_is_to_be_held_leaves_everything_as_it_is() {
    let mut run = failover(|scheduled| scheduled.last.as_mut().unwrap().spec.on_failure = OnFailure::Hold);
    silent(&mut run);
    run.advance();
    on_to(&mut run, Step::HealthCheck);
    run.fail("destination", "Deployment shop/web");
    assert_eq!(run.current(), Some(Step::Cleanup));
    assert_eq!(handover(&run.migration).unwrap().activations[0].state, TargetState::Inactive);
}

#[test]
fn a_cancelled_one_leaves_the_destination_stopped_and_the_source_alone() {
    for by_deletion in [true, false] {
        let mut run = gone();
        on_to(&mut run, Step::ApplyResources);
        if by_deletion {
            run.delete();
        } else {
            run.migration.metadata.annotations = Some([(CANCEL.to_owned(), "true".to_owned())].into());
        }
        run.advance();
        assert_eq!(run.docket(), ["west StopDestination/destination"]);
        run.succeed("destination", Outcome::Done);
        assert_eq!(handover(&run.migration), None);
        run.succeed("destination", Outcome::Done);
        assert_eq!(run.phase(), MigrationPhase::RolledBack);
    }
}
