//! What holds of failovers whatever happens: sources that are gone from the start, that fall silent in the
//! midst of it and come back, and that go on with what they were told before; spokes that do their work
//! wholly or partly, and whose reports are lost, doubled or late; hubs that start anew or are cut off
//! themselves; cancellation.
//!
//! The two sides are modelled: what a spoke does takes effect when it does it, whatever becomes of its
//! report.

use isthmus_shared::protocol::{Outcome, Progress, TaskReport, TaskState};
use isthmus_shared::resources::{
    Active, CANCEL, MAX_FINDINGS, Migration, NamespaceMove, OnFailure, Step, StepState, TargetState,
};
use jiff::ToSpan;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::super::hooks::at_each_phase;
use super::super::world::{World, applied, cases, exported, facts, finding, moved};
use super::{failover, note_handover, silent};
use crate::itinerary::{Assignment, Job, LONGEST_RETRY_PAUSE_SECONDS, left_nothing_running, tasks};

/// How the applications of a side are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    Yes,
    /// Some of it, after work that came to nothing.
    Partly,
    No,
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    /// A spoke does a task, wholly or partly, and is heard or not. The source does what it was told last
    /// whether it is connected or not.
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
    /// The destination comes back, or goes.
    Destination(bool),
    /// The source does what its record says.
    Obeys,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        40 => (0usize..6, prop::bool::weighted(0.94), prop::bool::weighted(0.85))
            .prop_map(|(which, whole, told)| Happening::Task { which, whole, told }),
        3 => (0usize..60).prop_map(Happening::Again),
        6 => (0i64..400).prop_map(Happening::Time),
        2 => Just(Happening::Restart),
        1 => Just(Happening::Cancel),
        8 => Just(Happening::Note),
        5 => any::<bool>().prop_map(Happening::Source),
        1 => Just(Happening::Destination(false)),
        3 => Just(Happening::Destination(true)),
        4 => Just(Happening::Obeys),
    ]
}

/// How a failover begins: each of these is a fact of its own.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Debug)]
struct Beginning {
    gone: bool,
    hold: bool,
    hooked: bool,
    retries: Option<u32>,
    /// Whether the schedule has a complete run.
    complete: bool,
}

fn beginning() -> impl Strategy<Value = Beginning> {
    let weighted = prop::bool::weighted;
    (weighted(0.25), weighted(0.15), weighted(0.3), prop::option::of(1u32..3), weighted(0.9)).prop_map(
        |(gone, hold, hooked, retries, complete)| Beginning {
            gone,
            hold,
            hooked,
            retries,
            complete: complete || gone,
        },
    )
}

struct Model {
    run: World,
    source: Runs,
    destination: Runs,
    source_connected: bool,
    destination_connected: bool,
    /// What the source was told to do when it was last connected.
    known: Vec<Assignment>,
    sent: Vec<TaskReport>,
}

impl Model {
    fn new(beginning: &Beginning) -> Self {
        let on_failure = if beginning.hold { OnFailure::Hold } else { OnFailure::Rollback };
        let mut run = failover(|scheduled| {
            let last = scheduled.last.as_mut().unwrap();
            for options in [scheduled.template.as_mut().unwrap().as_mut(), &mut last.spec] {
                options.on_failure = on_failure;
                options.hooks = if beginning.hooked { at_each_phase() } else { Vec::new() };
                for (_, of_step) in options.retries.entries() {
                    *of_step = beginning.retries;
                }
            }
            if !beginning.complete {
                scheduled.last = None;
            }
        });
        if beginning.gone {
            silent(&mut run);
        }
        let connected = !beginning.gone;
        let mut model = Self {
            run,
            source: Runs::Yes,
            destination: Runs::No,
            source_connected: connected,
            destination_connected: true,
            known: Vec::new(),
            sent: Vec::new(),
        };
        model.look();
        model
    }

    fn look(&mut self) {
        let now = self.run.now;
        if self.source_connected {
            self.run.view.source.heard_at = Some(now);
        }
        if self.destination_connected {
            let site = &mut self.run.view.destination;
            if site.heard_at.is_none_or(|at| at + 40.seconds() < now) {
                site.steady_since = Some(now);
            }
            site.heard_at = Some(now);
        }
        self.run.advance();
        // What is looked at again and again stays as it is.
        let before = self.run.status();
        self.run.advance();
        assert_eq!(self.run.status(), before);
        if self.source_connected {
            self.known = self.of_source(&self.run.migration);
        }
    }

    fn of_source(&self, migration: &Migration) -> Vec<Assignment> {
        let mut all = tasks(migration, &self.run.view);
        all.retain(|task| task.cluster == "east");
        all
    }

    /// What spokes may be doing now.
    fn open(&self) -> Vec<Assignment> {
        let mut open = self.run.tasks();
        open.retain(|task| task.cluster == "west" && self.destination_connected);
        open.extend(self.known.iter().cloned());
        open
    }

    fn outcome(&self, job: &Job) -> Outcome {
        match job {
            Job::InspectSource => Outcome::SourceInspected {
                volumes: (0..2).map(|n| facts(n, 9, Some(9))).collect(),
                objects: 14,
                namespaces: vec![NamespaceMove { from: "cms".into(), to: "shop".into() }],
            },
            Job::ExportResources => exported(),
            Job::ApplyResources | Job::Verify => applied(),
            Job::SendVolume(_) | Job::ReceiveVolume(_) => moved(),
            Job::Quiesce => Outcome::Quiesced { workloads: 1, stopped_at: Some(Time(self.run.now)) },
            _ => Outcome::Done,
        }
    }

    /// Nobody can stop a source that is cut off: it has been told in its record, and runs on until it hears
    /// of it.
    fn is_excused(&self) -> bool {
        let told = &self.run.view.told;
        self.run.status().recovers.is_some() && told.state == Some(TargetState::Inactive) && !told.done
    }

    /// What a spoke does with a task takes effect.
    fn act(&mut self, task: &Assignment, whole: bool) {
        let part = |to: Runs, from: Runs| if whole || from == to { to } else { Runs::Partly };
        let status = self.run.status();
        match &task.job {
            Job::Quiesce => self.source = part(Runs::No, self.source),
            Job::RestoreSource => self.source = part(Runs::Yes, self.source),
            Job::StartApplications => {
                if status.recovers.is_some() {
                    let told = self.run.view.told.state;
                    assert_eq!(told, Some(TargetState::Inactive), "the source is told first");
                }
                self.destination = part(Runs::Yes, self.destination);
            }
            Job::StopDestination => self.destination = part(Runs::No, self.destination),
            Job::SendVolume(volume) if volume.quiesced => {
                assert_eq!(self.source, Runs::No, "the last pass read a volume that is written to");
            }
            Job::ReceiveVolume(volume) => {
                assert_eq!(volume.recover, status.recovers.is_some());
                assert_eq!(self.destination, Runs::No, "a volume was changed under its applications");
            }
            Job::RemoveFromDestination => {
                assert_eq!((self.source, self.destination), (Runs::Yes, Runs::No));
            }
            _ => {}
        }
        assert!(
            self.source == Runs::No || self.destination == Runs::No || self.is_excused(),
            "both sides run after {}: {:?} and {:?}",
            task.id,
            self.source,
            self.destination
        );
    }

    fn task(&mut self, which: usize, whole: bool, told: bool) {
        let open = self.open();
        let Some(task) = open.get(which % open.len().max(1)).cloned() else { return };
        self.act(&task, whole);
        let (state, outcome) = if whole {
            (TaskState::Succeeded, Some(self.outcome(&task.job)))
        } else {
            (TaskState::Failed, None)
        };
        let of_source = task.cluster == "east";
        let mut report = self.run.report(task.id, state, Progress::default(), outcome);
        if !whole {
            report.failures = vec![finding("Deployment shop/web")];
        }
        if told && (!of_source || self.source_connected) {
            self.run.take(&report);
        }
        // What was not heard is said again, however late.
        self.sent.push(report);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Task { which, whole, told } => self.task(which, whole, told),
            Happening::Again(n) => {
                if let Some(report) = self.sent.get(n).cloned() {
                    self.run.take(&report);
                }
            }
            Happening::Time(seconds) => {
                self.run.now += seconds.seconds();
                if self.destination_connected {
                    self.run.view.destination.heard_at = Some(self.run.now);
                }
            }
            Happening::Restart => {
                let json = serde_json::to_string(&self.run.migration).unwrap();
                self.run.migration = serde_json::from_str(&json).unwrap();
                self.run.view.since = self.run.now;
                self.run.view.source.heard_at = None;
                self.run.view.destination.heard_at = None;
            }
            Happening::Cancel => {
                self.run.migration.metadata.annotations =
                    Some([(CANCEL.to_owned(), "true".to_owned())].into());
            }
            Happening::Note => note_handover(&mut self.run),
            Happening::Source(connected) => self.source_connected = connected,
            Happening::Destination(connected) => self.destination_connected = connected,
            Happening::Obeys => self.obey(),
        }
        self.look();
        self.check();
    }

    /// The source does what its record says.
    fn obey(&mut self) {
        let Some(state) = self.run.view.told.state.filter(|_| self.source_connected) else { return };
        self.source = if state == TargetState::Inactive { Runs::No } else { Runs::Yes };
        self.run.view.told.done = true;
        if state == TargetState::Active {
            assert_eq!(self.destination, Runs::No, "the source was let go on while the destination runs");
        }
    }

    /// The status may say that it does not know, but never what is not so.
    fn check(&self) {
        let status = self.run.status();
        let sides = (self.source, self.destination);
        match status.active {
            Some(Active::Source) => assert_eq!(sides, (Runs::Yes, Runs::No), "{:?}", status.pipeline),
            Some(Active::Destination) => assert_eq!(sides, (Runs::No, Runs::Yes)),
            Some(Active::Neither) => assert_ne!(self.destination, Runs::Yes),
            Some(Active::Unknown) | None => {}
        }
        assert!(status.warnings.len() <= MAX_FINDINGS && status.failures.len() <= MAX_FINDINGS);
        assert!(status.pipeline.len() <= 19, "a step is there once: {:?}", status.pipeline);
        let under_way = status.pipeline.iter().filter(|step| step.state == StepState::InProgress).count();
        assert!(under_way <= 1);
    }

    /// The spokes work and are heard, what is to be noted is noted, and the run ends.
    fn settle(&mut self) {
        self.destination_connected = true;
        for _ in 0..120 {
            if self.run.phase().is_terminal() {
                break;
            }
            self.happen(Happening::Note);
            self.happen(Happening::Obeys);
            let sources = self.known.len();
            let open = self.open();
            // A source that is gone does nothing more.
            let which = if self.source_connected { 0 } else { open.len().saturating_sub(sources + 1) };
            if open.len() > sources || (self.source_connected && !open.is_empty()) {
                self.happen(Happening::Task { which, whole: true, told: true });
            } else {
                // A step rests before it is begun again, or the source is waited for.
                self.happen(Happening::Time(LONGEST_RETRY_PAUSE_SECONDS));
            }
            self.happen(Happening::Time(20));
        }
        self.happen(Happening::Obeys);
    }
}

/// Whether a failover ended by the form that needs no source.
fn went_without(model: &Model) -> bool {
    model.run.status().recovers.is_some()
}

proptest! {
    #![proptest_config(cases(1000))]
    #[test]
    fn whatever_happens_one_side_runs_at_the_end_or_it_is_said_that_none_may(
        beginning in beginning(), story in prop::collection::vec(happening(), 0..120)
    ) {
        let mut model = Model::new(&beginning);
        for happening in story {
            model.happen(happening);
        }
        model.happen(Happening::Source(true));
        model.settle();
        let status = model.run.status();
        prop_assert!(status.status.is_terminal(), "{:?}", status.pipeline);
        let sides = (model.source, model.destination);
        if status.status.is_success() {
            prop_assert_eq!(sides, (Runs::No, Runs::Yes), "{:?}", status);
            prop_assert_eq!(status.active, Some(Active::Destination));
        } else if !matches!(sides, (Runs::Yes, Runs::No) | (Runs::No, Runs::Yes)) {
            let message = status.message.clone().unwrap_or_default();
            let told = ["isthmus deactivate", "isthmus activate", "isthmus rollback"];
            prop_assert!(told.iter().any(|told| message.contains(told)), "{:?}: {message}", sides);
            prop_assert!(!matches!(status.active, Some(Active::Source | Active::Destination)));
            if went_without(&model) && !beginning.hold {
                prop_assert!(!left_nothing_running(&status), "{:?}: {:?}", sides, status.pipeline);
            }
        }
    }

    #[test]
    fn a_source_that_is_gone_for_good_leaves_nobody_alone(
        beginning in beginning(), before in prop::collection::vec(happening(), 0..40)
    ) {
        let mut model = Model::new(&beginning);
        for happening in before {
            // Nothing but the source fails, and nobody who is heard says nothing for too long.
            match happening {
                Happening::Task { which, told, .. } => {
                    model.happen(Happening::Task { which, whole: true, told });
                }
                Happening::Time(seconds) => model.happen(Happening::Time(seconds / 10)),
                Happening::Cancel => {}
                other => model.happen(other),
            }
        }
        model.happen(Happening::Source(false));
        model.settle();
        let status = model.run.status();
        prop_assert!(status.status.is_terminal(), "{:?}", status.pipeline);
        if beginning.complete {
            prop_assert!(status.status.is_success(), "{:#?}", status);
            prop_assert_eq!(model.destination, Runs::Yes);
            let lost = status.recovers.as_ref().and_then(|recovered| recovered.source_lost.as_ref());
            if let Some(lost) = lost {
                prop_assert!(lost.step < Step::ApplyHooks);
                prop_assert!(status.warnings.iter().any(|warning| warning.reason == "SourceLost"));
            }
        }
    }
}
