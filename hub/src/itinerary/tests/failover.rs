//! Failovers: with a source that is heard, with one that is gone, and with one that goes or comes back
//! on the way.

use isthmus_shared::protocol::{Outcome, Progress, TaskReport, TaskState};
use isthmus_shared::resources::{
    Active, CANCEL, Finding, MAX_FINDINGS, Migration, MigrationAction, MigrationPhase, MigrationSpec,
    MigrationStatus, NamespaceMove, OnFailure, Step, StepState, TargetState, VolumePhase, VolumeStatus,
};
use jiff::ToSpan;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::cutover::{steps, until};
use super::world::{UID, World, applied, finding, moved, world};
use crate::itinerary::{Busy, Claim, Job, Origin, Reach, Scheduled, Told, handover, runs_to_end};

/// Why it is refused once its surroundings have settled.
fn refused(mut run: World) -> Finding {
    run.advance();
    alone(&mut run, 5);
    let status = run.status();
    assert_eq!(status.status, MigrationPhase::Failed, "{status:?}");
    assert!(status.pipeline.is_empty(), "nothing was begun");
    status.failures[0].clone()
}

/// The last complete run of the schedule: two volumes, at different passes.
fn last_run(run: &World) -> Migration {
    let options: MigrationSpec =
        serde_json::from_value(serde_json::json!({"clusterPair": "prod", "namespaces": ["cms:shop"]}))
            .unwrap();
    let mut last = Migration::new("nightly-1", options);
    last.metadata.uid = Some("run-of-schedule".into());
    let volume = |n: usize, pass, phase| VolumeStatus {
        namespace: "cms".into(),
        claim: format!("claim-{n}"),
        uid: format!("v{n}"),
        pass,
        phase,
        ..VolumeStatus::default()
    };
    last.status = Some(MigrationStatus {
        status: MigrationPhase::Succeeded,
        started_at: Some(Time(run.now - 3700.seconds())),
        finished_at: Some(Time(run.now - 3600.seconds())),
        namespaces: vec![NamespaceMove { from: "cms".into(), to: "shop".into() }],
        volumes: vec![volume(0, 7, VolumePhase::Succeeded), volume(1, 3, VolumePhase::Succeeded)],
        ..MigrationStatus::default()
    });
    last
}

pub(super) fn failover(change: impl FnOnce(&mut Scheduled)) -> World {
    let mut run = world(|spec| {
        *spec = MigrationSpec {
            action: MigrationAction::Failover,
            schedule: Some("nightly".into()),
            ..MigrationSpec::through("")
        };
    });
    let last = last_run(&run);
    let mut scheduled = Scheduled {
        template: Some(Box::new(last.spec.clone())),
        last: Some(Box::new(last)),
        ..Scheduled::default()
    };
    change(&mut scheduled);
    run.view.origin = Origin::Schedule(Box::new(scheduled));
    run
}

/// Its source has not been heard for long.
pub(super) fn silent(run: &mut World) {
    run.view.since = run.now - 7200.seconds();
    run.view.source.heard_at = Some(run.now - 600.seconds());
    let pair = run.view.pair.as_mut().unwrap();
    (pair.ready, pair.message) = (false, "east is not heard".into());
}

/// Time passes in which the destination alone is heard.
fn alone(run: &mut World, seconds: i64) {
    run.now += seconds.seconds();
    run.view.destination.heard_at = Some(run.now);
    run.advance();
}

/// As the hub does: what the source is to be told is in its record a moment later.
fn note_handover(run: &mut World) {
    if let Some(wanted) = handover(&run.migration) {
        let state = wanted.activations[0].state;
        if run.view.told.state != Some(state) {
            run.view.told = Told { state: Some(state), ..Told::default() };
            run.advance();
        }
    }
}

fn gone() -> World {
    let mut run = failover(|_| {});
    silent(&mut run);
    run.advance();
    run
}

/// Has the destination do everything until a step is under way, and the hub note what is to be noted.
pub(super) fn on_to(run: &mut World, step: Step) {
    for _ in 0..40 {
        note_handover(run);
        if run.current() == Some(step) {
            return;
        }
        let task = run.tasks().first().unwrap_or_else(|| panic!("no task before {step:?}")).clone();
        let outcome = outcome(&task.job);
        run.succeed(task.id.item.as_deref().unwrap(), outcome);
    }
    panic!("the run never came to {step:?}: {:?}", run.status().pipeline);
}

fn outcome(job: &Job) -> Outcome {
    match job {
        Job::ReceiveVolume(_) => moved(),
        Job::ApplyResources | Job::Verify => applied(),
        _ => Outcome::Done,
    }
}

#[test]
fn with_its_source_heard_a_failover_is_a_cutover_by_the_schedules_options() {
    let mut run = failover(|_| {});
    run.advance();
    assert_eq!(run.phase(), MigrationPhase::InProgress);
    let status = run.status();
    assert!(status.recovers.is_none());
    let options = status.options.unwrap();
    assert_eq!((options.action, options.quiesce), (MigrationAction::Failover, true));
    let mut cutover = world(|spec| spec.quiesce = true);
    cutover.advance();
    assert_eq!(steps(&run), steps(&cutover));
}

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

#[test]
fn without_anything_to_go_by_it_is_refused_with_what_to_do() {
    let refusal = |change: fn(&mut Scheduled)| {
        let mut run = failover(change);
        silent(&mut run);
        refused(run)
    };
    let none = refusal(|scheduled| scheduled.last = None);
    assert_eq!(none.reason, "NoCompleteRun");
    assert!(none.message.contains("bring the spoke of east back"), "{}", none.message);
    let stage = refusal(|scheduled| scheduled.last.as_mut().unwrap().spec.action = MigrationAction::Stage);
    assert_eq!(stage.reason, "NoObjects");
    let schedule = refusal(|scheduled| *scheduled = Scheduled::default());
    assert_eq!(schedule.reason, "NoSuchSchedule");
    let over = refusal(|scheduled| scheduled.failed_over = Some("before".into()));
    assert_eq!(over.reason, "AlreadyFailedOver");
    assert!(over.message.contains("isthmus failback nightly"), "{}", over.message);
    let mut more = failover(|_| {});
    more.migration.spec.parallel_volumes = 7;
    assert_eq!(refused(more).reason, "BesideSchedule");
}

#[test]
fn a_hub_that_has_just_begun_to_look_waits_for_a_sign_of_life() {
    let mut run = failover(|_| {});
    run.view.source.heard_at = None;
    run.advance();
    assert_eq!(run.phase(), MigrationPhase::Pending);
    assert!(run.status().message.unwrap().contains("sign of life of cluster east"));
    alone(&mut run, 41);
    assert_eq!(run.phase(), MigrationPhase::InProgress);
    assert!(run.status().recovers.is_some());
}

#[test]
fn runs_of_the_schedule_are_ended_and_waited_for_on_the_destination_alone() {
    let mut run = failover(|scheduled| scheduled.under_way = vec!["nightly-2".into()]);
    assert!(runs_to_end(&run.migration, &run.view, run.now).is_empty(), "its source is heard");
    silent(&mut run);
    assert_eq!(runs_to_end(&run.migration, &run.view, run.now), ["nightly-2"]);
    let on = |cluster: &str, namespace: &str| Claim {
        cluster: cluster.into(),
        reach: Reach::Name(namespace.into()),
    };
    let busy = |claims| Busy { migration: "isthmus/nightly-2".into(), dry_run: false, claims };
    run.view.busy = vec![busy(vec![on("east", "cms"), on("west", "shop")])];
    run.advance();
    assert_eq!(run.phase(), MigrationPhase::Pending);
    assert!(run.status().message.unwrap().contains("isthmus/nightly-2"));
    run.view.busy = vec![busy(vec![on("east", "cms")])];
    run.advance();
    assert_eq!(run.phase(), MigrationPhase::InProgress, "it has left the destination");
}

#[test]
fn a_destination_that_is_not_heard_or_has_no_staging_is_waited_for() {
    let mut run = failover(|_| {});
    silent(&mut run);
    run.view.destination.heard_at = None;
    run.advance();
    assert_eq!(run.phase(), MigrationPhase::Pending);
    run.view.pair.as_mut().unwrap().out_of_reach = Some("AccessDenied".into());
    alone(&mut run, 1);
    assert!(run.status().message.unwrap().contains("AccessDenied"));
    run.view.pair.as_mut().unwrap().out_of_reach = None;
    alone(&mut run, 1);
    assert_eq!(run.phase(), MigrationPhase::InProgress);
}

#[test]
fn a_cutover_of_a_failover_whose_source_falls_silent_ends_soon_and_can_be_done_again() {
    let mut run = failover(|of| of.template.as_mut().unwrap().namespaces = vec!["cms".into()]);
    run.advance();
    until(&mut run, Step::FinalVolumes);
    alone(&mut run, 200);
    assert_eq!(run.current(), Some(Step::FinalVolumes));
    alone(&mut run, 200);
    assert_eq!(run.docket(), ["east RestoreSource/source"]);
    alone(&mut run, 400);
    assert_eq!(run.current(), Some(Step::Cleanup), "it is not waited for a day");
    assert_eq!(run.docket(), ["west Cleanup/destination"]);
    run.succeed("destination", Outcome::Done);
    let status = run.status();
    assert_eq!((status.status, status.active), (MigrationPhase::Failed, Some(Active::Unknown)));
    let message = status.message.unwrap();
    assert!(message.contains("fail over again") && message.contains("isthmus rollback"), "{message}");
}

#[test]
fn a_migration_that_is_cancelled_before_it_begins_never_does() {
    let mut run = world(|_| {});
    run.migration.metadata.annotations = Some([(CANCEL.to_owned(), "true".to_owned())].into());
    run.advance();
    assert_eq!(run.phase(), MigrationPhase::Failed);
    assert!(run.status().pipeline.is_empty());
}

/// How the applications of a side are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    Yes,
    Partly,
    No,
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    /// The spoke of the destination does a task, wholly or partly, and is heard or not.
    Task {
        which: usize,
        whole: bool,
        told: bool,
    },
    Again(usize),
    Time(i64),
    Restart,
    Cancel,
    /// The hub writes what the source is to be told.
    Note,
    /// The source comes back, or goes.
    Source(bool),
    /// The source does what its record says.
    Obeys,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        30 => (0usize..4, prop::bool::weighted(0.9), prop::bool::weighted(0.85))
            .prop_map(|(which, whole, told)| Happening::Task { which, whole, told }),
        3 => (0usize..40).prop_map(Happening::Again),
        3 => (0i64..900).prop_map(Happening::Time),
        2 => Just(Happening::Restart),
        1 => Just(Happening::Cancel),
        8 => Just(Happening::Note),
        4 => any::<bool>().prop_map(Happening::Source),
        4 => Just(Happening::Obeys),
    ]
}

struct Model {
    run: World,
    source: Runs,
    destination: Runs,
    /// Whether the source is connected, and whether it has been since the destination began to start.
    connected: bool,
    sent: Vec<TaskReport>,
}

impl Model {
    fn new() -> Self {
        Self { run: gone(), source: Runs::Yes, destination: Runs::No, connected: false, sent: Vec::new() }
    }

    fn look(&mut self) {
        if self.connected {
            self.run.view.source.heard_at = Some(self.run.now);
        }
        self.run.view.destination.heard_at = Some(self.run.now);
        self.run.advance();
        // What has ended is looked at again and again, and stays as it is.
        let before = self.run.status();
        self.run.advance();
        assert_eq!(self.run.status(), before);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Task { which, whole, told } => {
                let open = self.run.tasks();
                let Some(task) = open.get(which % open.len().max(1)).cloned() else { return };
                assert_eq!(task.cluster, "west", "a failover asks nothing of a source that is gone");
                match &task.job {
                    Job::StartApplications => {
                        if self.destination == Runs::No && self.connected {
                            let silent = self
                                .run
                                .view
                                .source
                                .heard_at
                                .is_none_or(|at| at + 40.seconds() < self.run.now);
                            assert!(
                                self.source == Runs::No
                                    || silent
                                    || self.run.view.told.state == Some(TargetState::Inactive)
                            );
                        }
                        assert_eq!(
                            self.run.view.told.state,
                            Some(TargetState::Inactive),
                            "the source is told first"
                        );
                        self.destination = if whole { Runs::Yes } else { Runs::Partly };
                    }
                    Job::StopDestination => self.destination = if whole { Runs::No } else { Runs::Partly },
                    Job::ReceiveVolume(volume) => {
                        assert!(volume.recover);
                        assert_eq!(self.destination, Runs::No, "a volume was changed under its applications");
                    }
                    _ => {}
                }
                let (state, outcome) = if whole {
                    (TaskState::Succeeded, Some(outcome(&task.job)))
                } else {
                    (TaskState::Failed, None)
                };
                let mut report = self.run.report(task.id, state, Progress::default(), outcome);
                if !whole {
                    report.failures = vec![finding("Deployment shop/web")];
                }
                if told {
                    self.run.take(&report);
                    self.sent.push(report);
                }
            }
            Happening::Again(n) => {
                if let Some(report) = self.sent.get(n).cloned() {
                    self.run.take(&report);
                }
            }
            Happening::Time(seconds) => self.run.now += seconds.seconds(),
            Happening::Restart => {
                let json = serde_json::to_string(&self.run.migration).unwrap();
                self.run.migration = serde_json::from_str(&json).unwrap();
                self.run.view.since = self.run.now;
                if !self.connected {
                    self.run.view.source.heard_at = None;
                }
            }
            Happening::Cancel => {
                self.run.migration.metadata.annotations =
                    Some([(CANCEL.to_owned(), "true".to_owned())].into());
            }
            Happening::Note => note_handover(&mut self.run),
            Happening::Source(connected) => self.connected = connected,
            Happening::Obeys => {
                let state = self.run.view.told.state.filter(|_| self.connected);
                if let Some(state) = state {
                    self.source = if state == TargetState::Inactive { Runs::No } else { Runs::Yes };
                    self.run.view.told.done = true;
                    if state == TargetState::Active {
                        assert_eq!(
                            self.destination,
                            Runs::No,
                            "the source was let go on while the destination runs"
                        );
                    }
                }
            }
        }
        self.look();
        self.check();
    }

    /// The status may say that it does not know, but never what is not so.
    fn check(&self) {
        let status = self.run.status();
        match status.active {
            Some(Active::Source) => assert_eq!((self.source, self.destination), (Runs::Yes, Runs::No)),
            Some(Active::Destination) => assert_eq!((self.source, self.destination), (Runs::No, Runs::Yes)),
            Some(Active::Unknown) => {}
            other => panic!("{other:?}"),
        }
        assert!(status.warnings.len() <= MAX_FINDINGS);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn whatever_happens_the_source_is_told_to_stop_before_the_destination_starts(
        story in prop::collection::vec(happening(), 0..100)
    ) {
        let mut model = Model::new();
        for happening in story {
            model.happen(happening);
        }
        // Then the destination works and is heard, the source comes back, and every run ends.
        model.connected = true;
        for _ in 0..80 {
            if model.run.phase().is_terminal() {
                break;
            }
            for happening in [Happening::Note, Happening::Obeys, Happening::Task { which: 0, whole: true, told: true }] {
                model.happen(happening);
            }
            model.happen(Happening::Time(60));
        }
        model.happen(Happening::Obeys);
        let status = model.run.status();
        prop_assert!(status.status.is_terminal(), "{:?}", status.pipeline);
        if status.status.is_success() {
            prop_assert_eq!((model.source, model.destination), (Runs::No, Runs::Yes));
            prop_assert_eq!(status.active, Some(Active::Destination));
        } else if crate::itinerary::left_nothing_running(&status) {
            prop_assert_eq!((model.source, model.destination), (Runs::Yes, Runs::No));
        } else {
            prop_assert!(status.message.unwrap_or_default().contains("isthmus deactivate west"));
        }
    }
}
