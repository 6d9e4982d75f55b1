//! Going back: which steps undo a run, and which side is the active one meanwhile.
//!
//! The source is started only once the destination is known to stand still, and what the run
//! made on the destination is removed only once the source runs: each of these steps begins when
//! the one before it has succeeded, and none is skipped on the way.

use isthmus_shared::resources::{
    Active, MigrationAction, MigrationPhase, MigrationSpec, MigrationStatus, OnFailure, Step, StepState,
    StepStatus, VolumeReclaim,
};

use super::plan::not_begun;
use super::recovery::had_stopped;

/// How long stopping the destination and starting the source may go without news from the spoke
/// before it is given up, seconds. It is long: until then the spoke of a cluster that comes back
/// finishes it by itself.
pub const UNDO_PATIENCE_SECONDS: i64 = 86_400;

/// How long a step may go without news from its spoke, seconds.
pub(super) fn patience(options: &MigrationSpec, step: Step) -> i64 {
    match step {
        Step::StopDestination | Step::RestoreSource => UNDO_PATIENCE_SECONDS,
        _ => i64::from(options.step_timeout_seconds),
    }
}

/// Why a run goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// A step failed.
    Failed,
    /// A person wants it ended.
    Cancelled,
}

/// Whether a step is one of going back.
pub(super) fn is_undo(step: Step) -> bool {
    matches!(step, Step::StopDestination | Step::RestoreSource | Step::RemoveFromDestination)
}

/// How a step of the run stands; none if the run has no such step.
pub(super) fn state(status: &MigrationStatus, step: Step) -> Option<StepState> {
    status.pipeline.iter().find(|known| known.step == step).map(|known| known.state)
}

/// Whether a step was ever begun: a spoke may have done any part of it.
pub(super) fn begun(status: &MigrationStatus, step: Step) -> bool {
    let state = state(status, step);
    state.is_some_and(|state| !matches!(state, StepState::Pending | StepState::Skipped))
}

/// The steps that undo a run as far as it has come.
fn steps(status: &MigrationStatus) -> Vec<StepStatus> {
    [
        // Custom resources that nobody knows how to stop run from when they are applied. A source that
        // fell silent while it was stopped is told to start only once this has been seen to.
        (
            Step::StopDestination,
            begun(status, Step::ApplyResources)
                || begun(status, Step::StartApplications)
                || !had_stopped(status).is_empty(),
        ),
        // What is not heard is told by its record.
        (Step::RestoreSource, begun(status, Step::Quiesce) && status.recovers.is_none()),
        // What a failover has brought back belongs to the schedule's runs as much as to it.
        (Step::RemoveFromDestination, begun(status, Step::PrepareDestination) && status.recovers.is_none()),
    ]
    .into_iter()
    .filter(|(_, wanted)| *wanted)
    .map(|(step, _)| not_begun(step))
    .collect()
}

/// What a run that ends early still has to do before its clean-up. A failure before the source was
/// stopped leaves what has arrived, for the next run to go on from.
pub(super) fn after(options: &MigrationSpec, status: &MigrationStatus, ending: Ending) -> Vec<StepStatus> {
    if !options.action.brings_all() || options.dry_run {
        return Vec::new();
    }
    let far = begun(status, Step::Quiesce) || status.recovers.is_some();
    let goes_back = match ending {
        Ending::Cancelled => true,
        Ending::Failed => far && options.on_failure == OnFailure::Rollback,
    };
    if goes_back { steps(status) } else { Vec::new() }
}

/// The steps of a run that undoes one that has ended.
pub(super) fn of(undone: &MigrationStatus) -> Vec<StepStatus> {
    let mut steps = steps(undone);
    steps.push(not_begun(Step::Cleanup));
    steps
}

/// Whether a run that has ended cannot be undone any more because of a later one that touches the same
/// namespaces: what the source had then is no more what it has, or the destination has moved on.
///
/// One that succeeded has moved them. One that went the other way has written to what would be started
/// again as soon as it had begun to prepare it, however it ended: volumes may be half of one time and
/// half of another.
pub fn supersedes(later: &MigrationSpec, status: &MigrationStatus, ended: &MigrationStatus) -> bool {
    let after = match (&status.started_at, &ended.finished_at) {
        (Some(started), Some(finished)) => started >= finished,
        _ => false,
    };
    let moved = later.action.brings_all()
        && matches!(status.status, MigrationPhase::Succeeded | MigrationPhase::SucceededWithWarnings);
    let wrote_back = status.destination == ended.source && begun(status, Step::PrepareDestination);
    after && !later.dry_run && (moved || wrote_back)
}

/// Whether a run that ended early has been undone entirely.
pub(super) fn is_undone(status: &MigrationStatus) -> bool {
    let mut undoing = status.pipeline.iter().filter(|step| is_undo(step.step)).peekable();
    undoing.peek().is_some() && undoing.all(|step| step.state == StepState::Succeeded)
}

/// Whether a run that has ended has left nothing on the destination that it started.
pub fn left_nothing_running(status: &MigrationStatus) -> bool {
    match state(status, Step::StopDestination) {
        Some(stopped) => stopped == StepState::Succeeded,
        None => !begun(status, Step::StartApplications),
    }
}

/// What has become of what the applications wrote on the destination, in a run that started them there
/// and has gone back.
pub(super) fn left_behind(options: &MigrationSpec, status: &MigrationStatus) -> Option<&'static str> {
    let ran = begun(status, Step::StartApplications) && !status.volumes.is_empty();
    let removed = state(status, Step::RemoveFromDestination) == Some(StepState::Succeeded);
    (ran && is_undone(status)).then_some(match options.reclaim {
        VolumeReclaim::Delete if removed => "meanwhile was deleted there with the claims that the run made",
        VolumeReclaim::Delete | VolumeReclaim::Retain => {
            "meanwhile is in the claims there alone, until the next run writes to them"
        }
    })
}

/// Whether a run could not start its source again, and left nothing on the destination that runs.
pub(super) fn has_lost_source(status: &MigrationStatus) -> bool {
    state(status, Step::RestoreSource) == Some(StepState::Failed) && left_nothing_running(status)
}

/// Which side is the active one; none in a run that neither stops nor starts the source.
pub(super) fn active(options: &MigrationSpec, status: &MigrationStatus) -> Option<Active> {
    if !options.quiesce || options.dry_run || options.action == MigrationAction::Stage {
        return None;
    }
    let ended = status.status.is_terminal();
    let told = |step| state(status, step).filter(|state| *state != StepState::Pending);
    let unless_known = |known| if ended { Active::Unknown } else { known };
    if let Some(restore) = told(Step::RestoreSource).filter(|state| *state != StepState::Skipped) {
        return Some(match restore {
            StepState::Succeeded => Active::Source,
            _ => unless_known(Active::Neither),
        });
    }
    if let Some(stop) = told(Step::StopDestination).filter(|state| *state != StepState::Skipped) {
        return Some(if stop == StepState::Succeeded { Active::Neither } else { Active::Unknown });
    }
    if options.action == MigrationAction::Rollback {
        return status.active;
    }
    if let Some(start) = told(Step::StartApplications).filter(|state| *state != StepState::Skipped) {
        return Some(if start == StepState::Succeeded { Active::Destination } else { Active::Unknown });
    }
    Some(match told(Step::Quiesce) {
        None | Some(StepState::Pending | StepState::Skipped) => Active::Source,
        Some(StepState::Succeeded) => Active::Neither,
        // Some of it stands still, some does not.
        Some(StepState::InProgress | StepState::Failed) => Active::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(1_800_000_000 + second).unwrap())
    }

    fn ended() -> MigrationStatus {
        MigrationStatus {
            source: Some("east".to_owned()),
            destination: Some("west".to_owned()),
            finished_at: Some(at(100)),
            ..MigrationStatus::default()
        }
    }

    /// A later run, which came as far as this step.
    fn later(source: &str, destination: &str, phase: MigrationPhase, step: Step) -> MigrationStatus {
        MigrationStatus {
            status: phase,
            source: Some(source.to_owned()),
            destination: Some(destination.to_owned()),
            started_at: Some(at(200)),
            pipeline: vec![
                StepStatus { state: StepState::Failed, ..not_begun(step) },
                StepStatus { state: StepState::Skipped, ..not_begun(Step::ApplyResources) },
            ],
            ..MigrationStatus::default()
        }
    }

    #[test]
    fn a_run_is_not_undone_once_another_has_moved_its_namespaces() {
        let moved = later("east", "west", MigrationPhase::Succeeded, Step::PrepareDestination);
        let options = MigrationSpec::through("p");
        assert!(supersedes(&options, &moved, &ended()));
        let failed = MigrationStatus { status: MigrationPhase::Failed, ..moved.clone() };
        assert!(!supersedes(&options, &failed, &ended()), "it has changed nothing of the source's");
        let earlier = MigrationStatus { started_at: Some(at(50)), ..moved.clone() };
        assert!(!supersedes(&options, &earlier, &ended()));
        let stage = MigrationSpec { action: MigrationAction::Stage, ..options.clone() };
        assert!(!supersedes(&stage, &moved, &ended()));
        assert!(!supersedes(&MigrationSpec { dry_run: true, ..options }, &moved, &ended()));
    }

    #[test]
    fn a_run_the_other_way_is_in_the_way_as_soon_as_it_wrote_however_it_ended() {
        let options = MigrationSpec { action: MigrationAction::Stage, ..MigrationSpec::through("p") };
        let back = |phase, step| later("west", "east", phase, step);
        for phase in [MigrationPhase::Failed, MigrationPhase::RolledBack, MigrationPhase::InProgress] {
            assert!(supersedes(&options, &back(phase, Step::PrepareDestination), &ended()), "{phase:?}");
            assert!(!supersedes(&options, &back(phase, Step::Preflight), &ended()), "{phase:?}");
        }
    }
}
