//! Moving a run on.

use isthmus_shared::resources::{
    Finding, Migration, MigrationPhase, MigrationStatus, Side, Step, StepState, VolumePhase,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::admission::admit;
use super::findings::{MAX_MESSAGE, Severity, add, cut, finding};
use super::steps::{Progress, begin_step, evaluate, prospect};
use super::summary::refresh;
use super::view::PairView;

/// How the message of a dry run begins.
const NOTHING_CHANGED: &str = "a dry run, nothing was changed";

/// The status of a migration, moved on as far as it goes at `now`. Applied again to its own
/// result with nothing else changed, it changes nothing.
pub fn advance(migration: &Migration, view: &PairView, now: Timestamp) -> MigrationStatus {
    let mut status = migration.status.clone().unwrap_or_default();
    if status.status.is_terminal() {
        return status;
    }
    if status.status == MigrationPhase::Pending {
        admit(migration, &mut status, view, now);
    }
    if status.status == MigrationPhase::InProgress {
        run(migration, &mut status, view, now);
    }
    refresh(&mut status, migration.metadata.generation, now);
    status
}

/// Goes from step to step until one has to be waited for. Every turn ends a step, so there are
/// at most as many turns as steps.
fn run(migration: &Migration, status: &mut MigrationStatus, view: &PairView, now: Timestamp) {
    while let Some(index) = current(status) {
        let step = status.pipeline[index].step;
        if step != Step::Cleanup
            && let Some(reason) = must_end(migration, status, view)
        {
            add(status, Severity::Failure, Some(step), reason.clone());
            fail_step(status, index, &reason, now);
            continue;
        }
        if status.pipeline[index].state == StepState::Pending {
            begin_step(migration, status, index, now);
        }
        match evaluate(migration, status, index, view, now) {
            Progress::Waits => return,
            Progress::Done(message) => end_step(status, index, StepState::Succeeded, message, now),
            Progress::NotNeeded(message) => end_step(status, index, StepState::Skipped, Some(message), now),
            Progress::Failed(reason) => fail_step(status, index, &reason, now),
        }
    }
    finish(migration, status, now);
}

/// The step that is under way or next.
pub(super) fn current(status: &MigrationStatus) -> Option<usize> {
    status.pipeline.iter().position(|step| matches!(step.state, StepState::Pending | StepState::InProgress))
}

/// Why the run cannot go on, whatever its step says.
fn must_end(migration: &Migration, status: &MigrationStatus, view: &PairView) -> Option<Finding> {
    let name = migration.metadata.name.as_deref().unwrap_or_default();
    if migration.metadata.deletion_timestamp.is_some() {
        let message =
            "the Migration was deleted while it ran; what had arrived on the destination stays there";
        return Some(finding(format!("Migration {name}"), "Cancelled", message));
    }
    if view.pair_of(status.pair_uid.as_deref()).is_none() {
        let pair = &migration.spec.cluster_pair;
        let message = "the pair was deleted while the migration ran, and its key with it: create the pair and the Migration again";
        return Some(finding(format!("ClusterPair {pair}"), "PairGone", message));
    }
    for (side, cluster) in [(Side::Source, &status.source), (Side::Destination, &status.destination)] {
        if !view.site(side).exists {
            let cluster = cluster.as_deref().unwrap_or_default();
            let message = format!(
                "the cluster's record was removed while the migration ran: add it again with `isthmus cluster add {cluster}`, join it, and create the Migration again"
            );
            return Some(finding(format!("Cluster {cluster}"), "ClusterGone", message));
        }
    }
    None
}

fn end_step(
    status: &mut MigrationStatus,
    index: usize,
    state: StepState,
    message: Option<String>,
    now: Timestamp,
) {
    let step = &mut status.pipeline[index];
    step.state = state;
    step.finished_at = Some(Time(now));
    step.message = message;
}

/// Ends a step and everything after it but the clean-up.
fn fail_step(status: &mut MigrationStatus, index: usize, reason: &Finding, now: Timestamp) {
    let why = cut(&format!("{}: {}", reason.object, reason.message), MAX_MESSAGE);
    end_step(status, index, StepState::Failed, Some(why.clone()), now);
    for task in &mut status.pipeline[index].tasks {
        if matches!(task.state, StepState::Pending | StepState::InProgress) {
            task.state = StepState::Skipped;
        }
    }
    for volume in status.volumes.iter_mut().filter(|volume| volume.phase == VolumePhase::InProgress) {
        volume.phase = VolumePhase::Failed;
        volume.message.get_or_insert_with(|| "stopped, because the step ended".to_owned());
        for half in [&mut volume.send, &mut volume.receive] {
            if matches!(half, StepState::Pending | StepState::InProgress) {
                *half = StepState::Skipped;
            }
        }
    }
    for later in status.pipeline.iter_mut().skip(index + 1).filter(|later| later.step != Step::Cleanup) {
        later.state = StepState::Skipped;
    }
    let step = status.pipeline[index].step;
    status.message = Some(cut(&format!("{step:?} failed: {why}"), MAX_MESSAGE));
}

fn finish(migration: &Migration, status: &mut MigrationStatus, now: Timestamp) {
    let failed = status.pipeline.iter().any(|step| step.state == StepState::Failed);
    status.finished_at = Some(Time(now));
    status.status = if failed {
        MigrationPhase::Failed
    } else {
        let warnings = match status.warnings_total {
            0 => None,
            1 => Some("with a warning: read it".to_owned()),
            n => Some(format!("with {n} warnings: read them")),
        };
        status.message = match (migration.spec.dry_run, &warnings) {
            (true, None) => Some(format!("{NOTHING_CHANGED}: {}", prospect(&status.resources))),
            (true, Some(told)) => {
                Some(format!("{NOTHING_CHANGED}: {}; {told} before you migrate", prospect(&status.resources)))
            }
            (false, None) => None,
            (false, Some(told)) => Some(format!("done, {told} before you rely on the destination")),
        };
        if warnings.is_some() { MigrationPhase::SucceededWithWarnings } else { MigrationPhase::Succeeded }
    };
}
