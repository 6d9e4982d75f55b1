//! What holds of cutovers whatever happens: spokes that do their work wholly or partly, and whose
//! reports are lost, doubled or late; hubs that start anew; steps that time out; cancellation.
//!
//! The two sides are modelled: what a spoke does takes effect when it does it, whatever becomes of
//! its report.

use isthmus_shared::protocol::{Outcome, Progress, TaskReport, TaskState};
use isthmus_shared::resources::{Active, CANCEL, MigrationPhase, MigrationSpec, OnFailure, Step, StepState};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::hooks::at_each_phase;
use super::world::{World, applied, exported, facts, finding, inspected, moved, world};
use crate::itinerary::{Assignment, Job, LONGEST_RETRY_PAUSE_SECONDS, UNDO_PATIENCE_SECONDS};

/// How a side's applications are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Runs,
    /// Some of it, after work that came to nothing.
    Partly,
    Still,
}

/// What a spoke does with a task.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// All of it, and says so.
    Done,
    /// All of it, and what it says is lost; it will say it again.
    Unheard,
    /// A part, and says that it failed.
    Failed,
    /// A part, and dies.
    Died,
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    Task { which: usize, deed: Deed },
    Again(usize),
    Time(i64),
    Restart,
    Cancel,
    Delete,
}

fn happening() -> impl Strategy<Value = Happening> {
    let deed = prop_oneof![
        10 => Just(Deed::Done),
        2 => Just(Deed::Unheard),
        1 => Just(Deed::Failed),
        1 => Just(Deed::Died)
    ];
    prop_oneof![
        30 => (0usize..6, deed).prop_map(|(which, deed)| Happening::Task { which, deed }),
        4 => (0usize..60).prop_map(Happening::Again),
        2 => (0i64..4000).prop_map(Happening::Time),
        2 => Just(Happening::Restart),
        1 => Just(Happening::Cancel),
        1 => Just(Happening::Delete),
    ]
}

struct Model {
    run: World,
    source: Side,
    destination: Side,
    sent: Vec<TaskReport>,
}

impl Model {
    fn new(change: impl FnOnce(&mut MigrationSpec)) -> Self {
        let mut run = world(change);
        run.advance();
        Self { run, source: Side::Runs, destination: Side::Still, sent: Vec::new() }
    }

    fn is_cutover(&self) -> bool {
        self.run.migration.spec.quiesce
    }
}

impl Model {
    fn outcome(&self, task: &Assignment) -> Outcome {
        match task.job {
            Job::InspectSource => inspected((0..2).map(|n| facts(n, 2, Some(1))).collect()),
            Job::ExportResources => exported(),
            Job::ApplyResources | Job::Verify => applied(),
            Job::SendVolume(_) | Job::ReceiveVolume(_) => moved(),
            Job::Quiesce => Outcome::Quiesced { workloads: 1, stopped_at: Some(Time(self.run.now)) },
            _ => Outcome::Done,
        }
    }

    /// What a spoke does with a task takes effect.
    fn act(&mut self, task: &Assignment, whole: bool) {
        let part = |to: Side, from: Side| if whole || from == to { to } else { Side::Partly };
        match &task.job {
            Job::Quiesce => self.source = part(Side::Still, self.source),
            Job::RestoreSource => {
                assert!(self.is_cutover());
                self.source = part(Side::Runs, self.source);
            }
            Job::StartApplications => self.destination = part(Side::Runs, self.destination),
            Job::StopDestination => self.destination = part(Side::Still, self.destination),
            _ if !self.is_cutover() => {
                assert_eq!(self.source, Side::Runs, "{} has touched the source of a promotion", task.id);
                return;
            }
            Job::SendVolume(volume) if task.id.step == "FinalVolumes" => {
                assert!(volume.quiesced);
                assert_eq!(self.source, Side::Still, "the last pass read a volume that is written to");
                assert_eq!(self.destination, Side::Still);
            }
            Job::RemoveFromDestination => {
                assert_eq!(self.destination, Side::Still, "what runs was removed");
                assert_eq!(self.source, Side::Runs, "the copy was removed while the source stands still");
            }
            _ => {}
        }
        if !self.is_cutover() {
            return;
        }
        assert!(
            self.source == Side::Still || self.destination == Side::Still,
            "both sides run after {}: {:?} and {:?}",
            task.id,
            self.source,
            self.destination
        );
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Task { which, deed } => {
                let open = self.run.tasks();
                let Some(task) = open.get(which % open.len().max(1)) else { return };
                self.act(task, matches!(deed, Deed::Done | Deed::Unheard));
                let state = match deed {
                    Deed::Done | Deed::Unheard => TaskState::Succeeded,
                    Deed::Failed => TaskState::Failed,
                    Deed::Died => return,
                };
                let mut report = self.run.report(task.id.clone(), state, Progress::default(), None);
                match state {
                    TaskState::Succeeded => report.outcome = Some(self.outcome(task)),
                    _ => report.failures = vec![finding("Deployment cms/web")],
                }
                if matches!(deed, Deed::Unheard) {
                    return;
                }
                self.run.take(&report);
                self.sent.push(report);
            }
            Happening::Again(n) => {
                if let Some(report) = self.sent.get(n).cloned() {
                    self.run.take(&report);
                }
            }
            Happening::Time(seconds) => self.run.pass(seconds),
            Happening::Restart => {
                let json = serde_json::to_string(&self.run.migration).unwrap();
                self.run.migration = serde_json::from_str(&json).unwrap();
                self.run.view.since = self.run.now;
                self.run.advance();
            }
            Happening::Cancel => {
                self.run.migration.metadata.annotations =
                    Some([(CANCEL.to_owned(), "true".to_owned())].into());
                self.run.advance();
            }
            Happening::Delete => {
                self.run.delete();
                self.run.advance();
            }
        }
    }

    /// The status may say that it does not know, but never what is not so.
    fn check(&self) {
        let status = self.run.status();
        match status.active {
            Some(Active::Source) => {
                assert_eq!(
                    (self.source, self.destination),
                    (Side::Runs, Side::Still),
                    "{:?}",
                    status.pipeline
                );
            }
            Some(Active::Destination) => {
                assert_eq!((self.source, self.destination), (Side::Still, Side::Runs));
            }
            Some(Active::Neither) => assert_ne!(self.destination, Side::Runs),
            Some(Active::Unknown) | None => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn whatever_happens_one_side_runs_at_the_most_and_one_at_the_end(
        hold in prop::bool::weighted(0.2), retries in prop::option::of(1u32..4),
        hooked in prop::bool::ANY,
        story in prop::collection::vec(happening(), 0..120)
    ) {
        let mut model = Model::new(|spec| {
            spec.quiesce = true;
            for (_, of_step) in spec.retries.entries() {
                *of_step = retries;
            }
            spec.on_failure = if hold { OnFailure::Hold } else { OnFailure::Rollback };
            spec.hooks = if hooked { at_each_phase() } else { Vec::new() };
        });
        for happening in story {
            model.happen(happening);
            model.check();
        }
        // Then spokes work and are heard, and every run ends.
        for _ in 0..60 {
            if model.run.phase().is_terminal() {
                break;
            }
            if model.run.tasks().is_empty() {
                // A step rests before it is begun again.
                model.happen(Happening::Time(LONGEST_RETRY_PAUSE_SECONDS));
            }
            model.happen(Happening::Task { which: 0, deed: Deed::Done });
            model.check();
        }
        let status = model.run.status();
        prop_assert!(status.status.is_terminal(), "{:?}", status.pipeline);
        let undoing_failed = status.pipeline.iter().any(|step| {
            matches!(step.step, Step::StopDestination | Step::RestoreSource)
                && step.state != StepState::Succeeded
        });
        let one_runs = (model.source == Side::Runs) != (model.destination == Side::Runs)
            && model.source != Side::Partly && model.destination != Side::Partly;
        if !one_runs {
            prop_assert!(hold || undoing_failed, "{:?} {:?}: {:?}", model.source, model.destination, status);
            let told = status.message.unwrap_or_default();
            prop_assert!(told.contains("isthmus rollback"), "a person is told what to do: {told}");
            prop_assert!(matches!(status.active, Some(Active::Neither | Active::Unknown)));
        }
        if status.status == MigrationPhase::RolledBack || status.active == Some(Active::Source) {
            prop_assert_eq!((model.source, model.destination), (Side::Runs, Side::Still));
        }
        if matches!(status.status, MigrationPhase::Succeeded | MigrationPhase::SucceededWithWarnings) {
            prop_assert_eq!((model.source, model.destination), (Side::Still, Side::Runs));
        }
    }

    #[test]
    fn a_spoke_that_is_gone_for_good_does_not_keep_a_run_from_ending(
        story in prop::collection::vec(happening(), 0..60)
    ) {
        let mut model = Model::new(|spec| spec.quiesce = true);
        for happening in story {
            model.happen(happening);
        }
        for _ in 0..8 {
            model.run.now += jiff::ToSpan::seconds(UNDO_PATIENCE_SECONDS + 1);
            model.run.advance();
        }
        prop_assert!(model.run.phase().is_terminal());
    }

    #[test]
    fn a_promotion_never_touches_the_source(story in prop::collection::vec(happening(), 0..80)) {
        let mut model = Model::new(|spec| spec.start_applications = true);
        for happening in story {
            model.happen(happening);
            prop_assert_eq!((model.source, model.run.status().active), (Side::Runs, None));
        }
    }
}
