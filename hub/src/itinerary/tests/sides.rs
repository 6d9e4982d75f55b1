//! A model of a run's two sides: what a spoke does takes effect when it does it, whatever becomes of
//! its report. It objects to whatever would have both sides run.

use isthmus_shared::protocol::{Outcome, Progress, TaskReport, TaskState};
use isthmus_shared::resources::{
    Active, CANCEL, MigrationAction, MigrationPhase, MigrationSpec, OnFailure, Step, StepState,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::world::{World, applied, exported, facts, finding, inspected, moved, world};
use crate::itinerary::{Assignment, Job, LONGEST_RETRY_PAUSE_SECONDS};

/// The most tasks that are done until a run has to have ended.
const TASKS: usize = 60;

/// How a side's applications are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Runs,
    /// Some of it, after work that came to nothing.
    Partly,
    Still,
}

/// What a spoke does with a task.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
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
pub(super) enum Happening {
    Task { which: usize, deed: Deed },
    Again(usize),
    Time(i64),
    Restart,
    Cancel,
    Delete,
}

pub(super) struct Model {
    pub run: World,
    pub source: Side,
    pub destination: Side,
    /// What was reported and heard.
    pub sent: Vec<TaskReport>,
}

impl Model {
    /// A run at its beginning.
    pub(super) fn new(change: impl FnOnce(&mut MigrationSpec)) -> Self {
        Self::of(world(change))
    }

    /// The same of a run in a world of its own.
    pub(super) fn of(mut run: World) -> Self {
        run.advance();
        Self { run, source: Side::Runs, destination: Side::Still, sent: Vec::new() }
    }

    /// Whether it hands the applications over, or back.
    fn is_cutover(&self) -> bool {
        let options = self.run.migration.options();
        options.quiesce || options.action == MigrationAction::Rollback
    }

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

    pub(super) fn happen(&mut self, happening: Happening) {
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
    pub(super) fn check(&self) {
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

    /// From here on spokes work and are heard, until the run has ended.
    pub(super) fn finish(&mut self) {
        for _ in 0..TASKS {
            if self.run.phase().is_terminal() {
                break;
            }
            if self.run.tasks().is_empty() {
                // A step rests before it is begun again.
                self.happen(Happening::Time(LONGEST_RETRY_PAUSE_SECONDS));
            }
            self.happen(Happening::Task { which: 0, deed: Deed::Done });
            self.check();
        }
        let status = self.run.status();
        assert!(status.status.is_terminal(), "{:?}", status.pipeline);
    }

    /// Of what has ended one side runs, unless the status says that it is not known or was to be held.
    pub(super) fn one_runs_at_the_end(&self) {
        let status = self.run.status();
        let hold = self.run.migration.options().on_failure == OnFailure::Hold;
        let undoing_failed = status.pipeline.iter().any(|step| {
            matches!(step.step, Step::StopDestination | Step::RestoreSource)
                && step.state != StepState::Succeeded
        });
        let one_runs = (self.source == Side::Runs) != (self.destination == Side::Runs)
            && self.source != Side::Partly
            && self.destination != Side::Partly;
        if !one_runs {
            assert!(hold || undoing_failed, "{:?} {:?}: {status:?}", self.source, self.destination);
            let told = status.message.unwrap_or_default();
            assert!(told.contains("isthmus rollback"), "a person is told what to do: {told}");
            assert!(matches!(status.active, Some(Active::Neither | Active::Unknown)));
        }
        if status.status == MigrationPhase::RolledBack || status.active == Some(Active::Source) {
            assert_eq!((self.source, self.destination), (Side::Runs, Side::Still));
        }
        let went_well =
            matches!(status.status, MigrationPhase::Succeeded | MigrationPhase::SucceededWithWarnings);
        if went_well && self.run.migration.options().action != MigrationAction::Rollback {
            assert_eq!((self.source, self.destination), (Side::Still, Side::Runs));
        }
    }
}
