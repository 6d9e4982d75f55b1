//! One step: how it begins, and what its tasks, its volumes and the time say of it.

use isthmus_shared::resources::{
    Finding, MigrationAction, MigrationSpec, MigrationStatus, ResourceCounts, Side, Step, StepState,
    TaskRecord,
};
use jiff::{Timestamp, ToSpan};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::findings::{Severity, add, finding};
use super::patience;
use super::plan::{Duty, roster};
use super::recovery::{self, Hearing, hearing, silent_since};
use super::summary::elapsed;
use super::undo::patience as silence;
use super::view::PairView;
use super::volumes;

/// How long a clean-up may go without news before it is given up, seconds.
pub const CLEANUP_TIMEOUT_SECONDS: i64 = 300;
/// After this long without a heartbeat a cluster's clean-up is not waited for, seconds.
pub const GONE_AFTER_SECONDS: i64 = 300;

/// What is to be done with a step.
pub(super) enum Progress {
    /// It is under way.
    Waits,
    /// It is done; what it did.
    Done(Option<String>),
    /// There was nothing to do; why.
    NotNeeded(String),
    /// It failed; the finding is in the status already.
    Failed(Finding),
}

/// Begins a step: its first tasks are under way from now on.
pub(super) fn begin_step(
    options: &MigrationSpec,
    status: &mut MigrationStatus,
    index: usize,
    now: Timestamp,
) {
    let recovers = status.recovers.is_some();
    let duty = duty(status, status.pipeline[index].step);
    let step = &mut status.pipeline[index];
    step.state = StepState::InProgress;
    step.started_at = Some(Time(now));
    step.tasks = match duty {
        Duty::InTurn(sides) => {
            sides.iter().enumerate().map(|(turn, (side, part))| task(*side, *part, turn == 0, now)).collect()
        }
        Duty::Together(sides) => sides.iter().map(|side| task(*side, None, true, now)).collect(),
        Duty::Hooks(phase) => {
            let has =
                |side: &Side| (!recovers || *side == Side::Destination) && options.has_hooks(phase, *side);
            let sides = [Side::Source, Side::Destination].into_iter().filter(has);
            sides.enumerate().map(|(turn, side)| task(side, None, turn == 0, now)).collect()
        }
        Duty::Volumes => Vec::new(),
    };
    if duty == Duty::Volumes {
        let step = status.pipeline[index].step;
        if step == Step::FinalVolumes {
            volumes::next_pass(status);
        }
        volumes::begin_next(options, status, step, now);
    }
}

/// Who does what in a step of this run. A failover that went on without its source has left something
/// there, which is cleaned up if it is heard by then.
fn duty(status: &MigrationStatus, step: Step) -> Duty {
    let turned = status.recovers.as_ref().is_some_and(|recovered| recovered.source_lost.is_some());
    roster(step, status.recovers.is_some() && !(turned && step == Step::Cleanup))
}

fn task(side: Side, part: Option<&str>, begun: bool, now: Timestamp) -> TaskRecord {
    TaskRecord {
        side,
        item: part.map(str::to_owned),
        state: if begun { StepState::InProgress } else { StepState::Pending },
        heard_at: begun.then_some(Time(now)),
    }
}

/// Looks how a step that is under way stands, and lets what can begin within it begin.
pub(super) fn evaluate(
    options: &MigrationSpec,
    status: &mut MigrationStatus,
    index: usize,
    view: &PairView,
    now: Timestamp,
) -> Progress {
    let step = status.pipeline[index].step;
    match (step, duty(status, step)) {
        (Step::Cleanup, _) => cleanup(options, status, index, view, now),
        (_, Duty::Volumes) => volumes::evaluate(options, status, index, view, now),
        (_, Duty::InTurn(_) | Duty::Together(_) | Duty::Hooks(_)) => sides(options, status, index, view, now),
    }
}

fn sides(
    options: &MigrationSpec,
    status: &mut MigrationStatus,
    index: usize,
    view: &PairView,
    now: Timestamp,
) -> Progress {
    let step = status.pipeline[index].step;
    if status.pipeline[index].tasks.iter().any(|task| task.state == StepState::Failed) {
        return Progress::Failed(last_failure(status, step));
    }
    if matches!(duty(status, step), Duty::Hooks(_)) && recovery::is_given_up(options, status, view, now) {
        leave_out(status, index);
    }
    let is_over = |task: &TaskRecord| matches!(task.state, StepState::Succeeded | StepState::Skipped);
    // In turn: the next begins once all before it are over.
    let tasks = &mut status.pipeline[index].tasks;
    if let Some(next) = tasks.iter().position(|task| !is_over(task))
        && tasks[next].state == StepState::Pending
    {
        tasks[next].state = StepState::InProgress;
        tasks[next].heard_at = Some(Time(now));
    }
    let limits = |side: Side| {
        if is_lost(options, side, view, now) { GONE_AFTER_SECONDS } else { silence(options, step) }
    };
    let silent = tasks.iter().find(|task| {
        task.state == StepState::InProgress && is_silent(task.heard_at.as_ref(), view, limits(task.side), now)
    });
    if let Some(side) = silent.map(|task| task.side) {
        let reason = no_news(status, step, side, limits(side));
        add(status, Severity::Failure, Some(step), reason.clone());
        return Progress::Failed(reason);
    }
    if status.pipeline[index].tasks.iter().all(is_over) {
        return Progress::Done(done_message(options, status, step));
    }
    patience::tell_unheard(status, index, view, now);
    Progress::Waits
}

/// Has the hooks of a source that is lost and not needed any more count for nothing: it has stopped, all of
/// its data is there, and the applications are not kept from starting by what ran beside them.
fn leave_out(status: &mut MigrationStatus, index: usize) {
    let step = status.pipeline[index].step;
    let source = cluster_of(status, Side::Source).to_owned();
    let open = |task: &&mut TaskRecord| {
        task.side == Side::Source && matches!(task.state, StepState::Pending | StepState::InProgress)
    };
    let mut left = false;
    for task in status.pipeline[index].tasks.iter_mut().filter(open) {
        task.state = StepState::Skipped;
        left = true;
    }
    if !left {
        return;
    }
    let message = "its spoke is not heard any more, so that its hooks of this step were not carried out, or not to their end: see to what they are for by hand";
    add(status, Severity::Warning, Some(step), finding(format!("Cluster {source}"), "HooksLeftOut", message));
}

/// The clean-up never fails a run: what it could not remove is a warning.
fn cleanup(
    options: &MigrationSpec,
    status: &mut MigrationStatus,
    index: usize,
    view: &PairView,
    now: Timestamp,
) -> Progress {
    let mut skipped = Vec::new();
    for at in 0..status.pipeline[index].tasks.len() {
        let task = status.pipeline[index].tasks[at].clone();
        if task.state != StepState::InProgress {
            continue;
        }
        let site = view.site(task.side);
        let cluster = cluster_of(status, task.side).to_owned();
        let pair_gone = view.pair_of(status.pair_uid.as_deref()).is_none();
        let why = if !site.exists {
            "it has no record any more"
        } else if pair_gone {
            "the pair and its key are gone"
        } else if status.recovers.is_some()
            && task.side == Side::Source
            && hearing(view, Side::Source, now) == Hearing::Silent
        {
            "the failover went on without it, as its spoke is not heard"
        } else if is_silent(site.heard_at.map(Time).as_ref(), view, GONE_AFTER_SECONDS, now) {
            "its spoke has not been heard for 5 minutes"
        } else if is_silent(task.heard_at.as_ref(), view, CLEANUP_TIMEOUT_SECONDS, now) {
            "its spoke has said nothing new of it for 5 minutes"
        } else if patience::is_over(options, &status.pipeline[index], view, now) {
            "it took longer than spec.timeouts.cleanup allows"
        } else {
            continue;
        };
        status.pipeline[index].tasks[at].state = StepState::Skipped;
        let message = format!(
            "cluster {cluster} was not cleaned up: {why}; remove what is left of the run there with `kubectl delete jobs,networkpolicies,serviceaccounts -A -l 'isthmus.dev/component in (mover, hook)'`"
        );
        skipped.push(finding(format!("Cluster {cluster}"), "CleanupSkipped", message));
    }
    for warning in skipped {
        add(status, Severity::Warning, Some(Step::Cleanup), warning);
    }
    let tasks = &status.pipeline[index].tasks;
    if tasks.iter().any(|task| task.state == StepState::InProgress) {
        return Progress::Waits;
    }
    let left: Vec<&str> = tasks
        .iter()
        .filter(|task| task.state != StepState::Succeeded)
        .map(|task| cluster_of(status, task.side))
        .collect();
    Progress::Done((!left.is_empty()).then(|| format!("not cleaned up: {}", left.join(", "))))
}

/// Whether there has been no news for `limit` seconds, counted at the earliest from when this
/// hub began to look.
pub(super) fn is_silent(heard: Option<&Time>, view: &PairView, limit: i64, now: Timestamp) -> bool {
    let heard = heard.map_or(view.since, |at| at.0.max(view.since));
    now > heard + limit.seconds()
}

/// Whether the source of a failover has fallen silent since it began, and this hub is not cut off itself:
/// then it is not waited for as long as another is.
pub(super) fn is_lost(options: &MigrationSpec, side: Side, view: &PairView, now: Timestamp) -> bool {
    options.action == MigrationAction::Failover
        && side == Side::Source
        && hearing(view, Side::Destination, now) == Hearing::Heard
        && now > silent_since(view, side) + GONE_AFTER_SECONDS.seconds()
}

pub(super) fn cluster_of(status: &MigrationStatus, side: Side) -> &str {
    let cluster = match side {
        Side::Source => &status.source,
        Side::Destination => &status.destination,
    };
    cluster.as_deref().unwrap_or_default()
}

pub(super) fn no_news(status: &MigrationStatus, step: Step, side: Side, limit: i64) -> Finding {
    let cluster = cluster_of(status, side);
    let message = format!(
        "{step:?}: the spoke of cluster {cluster} has said nothing new for {}; look at `isthmus cluster describe {cluster}` and the spoke's log, then create the Migration again",
        elapsed(limit)
    );
    finding(format!("Cluster {cluster}"), "NoNews", message)
}

/// What a step failed for: the first thing that it found, or failing that, the step itself.
pub(super) fn last_failure(status: &MigrationStatus, step: Step) -> Finding {
    status.failures.iter().find(|found| found.step == Some(step)).cloned().unwrap_or_else(|| {
        finding(
            format!("step {step:?}"),
            "StepFailed",
            "the list of failures is full: read the run's log with `isthmus migration logs`",
        )
    })
}

fn done_message(options: &MigrationSpec, status: &MigrationStatus, step: Step) -> Option<String> {
    let counts = &status.resources;
    match step {
        Step::Preflight if options.dry_run => Some(prospect(counts)),
        Step::Preflight => {
            Some(format!("{} objects and {} volumes to move", counts.total, status.volumes.len()))
        }
        Step::ExportResources => {
            Some(format!("{} objects exported, {} left behind by rule", counts.total, counts.left_behind))
        }
        Step::ApplyResources => {
            let always =
                [(counts.created, "created"), (counts.updated, "updated"), (counts.unchanged, "unchanged")];
            let rarely = [(counts.skipped, "skipped"), (counts.deleted, "deleted")];
            let told = always.into_iter().chain(rarely.into_iter().filter(|(count, _)| *count > 0));
            Some(told.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", "))
        }
        Step::Verify => Some(format!("{} of {} objects as they should be", counts.done, counts.total)),
        _ => None,
    }
}

/// What a dry run has found that a run would do.
pub(super) fn prospect(counts: &ResourceCounts) -> String {
    format!(
        "of {} objects {} would be created, {} updated, {} unchanged, {} skipped, {} refused; {} would be deleted, {} left behind by rule",
        counts.total,
        counts.created,
        counts.updated,
        counts.unchanged,
        counts.skipped,
        counts.failed,
        counts.deleted,
        counts.left_behind
    )
}
