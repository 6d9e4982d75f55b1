//! Moving a run on.

use isthmus_shared::resources::{
    Active, CANCEL, Finding, Migration, MigrationAction, MigrationPhase, MigrationSpec, MigrationStatus,
    Side, Step, StepState, VolumePhase,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::admission::admit;
use super::findings::{MAX_MESSAGE, Severity, add, cut, finding};
use super::lone_hooks;
use super::patience;
use super::recovery::{self, Gate, Turn};
use super::steps::{Progress, begin_step, evaluate, prospect};
use super::summary::{elapsed, refresh};
use super::undo::{self, Ending};
use super::view::PairView;

/// How the message of a dry run begins.
const NOTHING_CHANGED: &str = "a dry run, nothing was changed";

/// The status of a migration, moved on as far as it goes at `now`. Applied again to its own
/// result with nothing else changed, it changes nothing.
pub fn advance(migration: &Migration, view: &PairView, now: Timestamp) -> MigrationStatus {
    let mut status = migration.status.clone().unwrap_or_default();
    if status.status.is_terminal() {
        if recovery::is_unsettled(&status) {
            recovery::settle(&mut status, view);
            refresh(&mut status, migration.metadata.generation, now);
        }
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

/// Goes from step to step until one has to be waited for. Every turn ends a step, or lets it rest before
/// its next attempt, which is waited for; steps of going back are added once, and a failover goes on
/// without its source once.
fn run(migration: &Migration, status: &mut MigrationStatus, view: &PairView, now: Timestamp) {
    let by = |status: &MigrationStatus| {
        status.options.clone().map_or_else(|| migration.spec.clone(), |options| *options)
    };
    let mut options = by(status);
    recovery::warn_of_source(status, view, now);
    while let Some(index) = current(status) {
        let step = status.pipeline[index].step;
        if step != Step::Cleanup
            && let Some((reason, ending)) = must_end(migration, status, view, step)
        {
            add(status, Severity::Failure, Some(step), reason.clone());
            fail_step(&options, status, index, &reason, ending, now);
            continue;
        }
        match recovery::turn(&migration.spec, &options, status, index, (view, now)) {
            Turn::Stays => {}
            Turn::Turned => {
                options = by(status);
                continue;
            }
            Turn::Waits(message) => {
                status.pipeline[index].message = Some(message);
                status.active = active(&options, status, view);
                return;
            }
            Turn::Refused(reason) => {
                add(status, Severity::Failure, Some(step), reason.clone());
                fail_step(&options, status, index, &reason, Ending::Failed, now);
                continue;
            }
        }
        if patience::rests(&status.pipeline[index], now) {
            status.active = active(&options, status, view);
            return;
        }
        if status.pipeline[index].resumes_at.take().is_some() {
            begin_step(&options, status, index, now);
        }
        if status.pipeline[index].state == StepState::Pending {
            match recovery::gate(&options, status, index, view, now) {
                Gate::Open => begin_step(&options, status, index, now),
                Gate::Waits(message) => {
                    status.pipeline[index].message = Some(message);
                    status.active = active(&options, status, view);
                    return;
                }
                Gate::Refused(reason) => {
                    add(status, Severity::Failure, Some(step), reason.clone());
                    fail_step(&options, status, index, &reason, Ending::Failed, now);
                    continue;
                }
            }
        }
        match evaluate(&options, status, index, view, now) {
            Progress::Waits => {
                let Some(reason) = patience::overdue(&options, status, index, view, now) else {
                    status.active = active(&options, status, view);
                    return;
                };
                add(status, Severity::Failure, Some(step), reason.clone());
                if patience::try_again(&options, status, index, &reason, now) {
                    continue;
                }
                fail_step(&options, status, index, &reason, Ending::Failed, now);
            }
            Progress::Done(message) => end_step(status, index, StepState::Succeeded, message, now),
            Progress::NotNeeded(message) => end_step(status, index, StepState::Skipped, Some(message), now),
            Progress::Failed(reason) => {
                if patience::try_again(&options, status, index, &reason, now) {
                    continue;
                }
                fail_step(&options, status, index, &reason, Ending::Failed, now);
            }
        }
        status.active = active(&options, status, view);
    }
    finish(&options, status, now);
    status.active = active(&options, status, view);
}

/// Which side is the active one, as far as it is known.
fn active(options: &MigrationSpec, status: &MigrationStatus, view: &PairView) -> Option<Active> {
    if status.recovers.is_some() {
        return Some(recovery::active(status, &view.told));
    }
    undo::active(options, status).or(status.active)
}

/// The step that is under way or next.
pub(super) fn current(status: &MigrationStatus) -> Option<usize> {
    status.pipeline.iter().position(|step| matches!(step.state, StepState::Pending | StepState::InProgress))
}

/// Why the run cannot go on, whatever its step says. Going back is ended by nobody, and by what is
/// gone only where the step needs it.
fn must_end(
    migration: &Migration,
    status: &MigrationStatus,
    view: &PairView,
    step: Step,
) -> Option<(Finding, Ending)> {
    let name = migration.metadata.name.as_deref().unwrap_or_default();
    let going_back = undo::is_undo(step);
    if !going_back && migration.metadata.deletion_timestamp.is_some() {
        let message = "the Migration was deleted while it ran, and with that cancelled";
        return Some((finding(format!("Migration {name}"), "Cancelled", message), Ending::Cancelled));
    }
    if !going_back
        && migration.metadata.annotations.as_ref().and_then(|a| a.get(CANCEL)).is_some_and(|v| v == "true")
    {
        let message = "it was cancelled; begin it again with `isthmus migration retry`";
        return Some((finding(format!("Migration {name}"), "Cancelled", message), Ending::Cancelled));
    }
    if view.pair_of(status.pair_uid.as_deref()).is_none() {
        let pair = &migration.options().cluster_pair;
        let message = "the pair was deleted while the migration ran, and its key with it: create the pair and the Migration again";
        return Some((finding(format!("ClusterPair {pair}"), "PairGone", message), Ending::Failed));
    }
    let needed: &[(Side, &Option<String>)] = match step {
        Step::StopDestination | Step::RemoveFromDestination => &[(Side::Destination, &status.destination)],
        Step::RestoreSource => &[(Side::Source, &status.source)],
        _ if status.recovers.is_some() => &[(Side::Destination, &status.destination)],
        _ => &[(Side::Source, &status.source), (Side::Destination, &status.destination)],
    };
    let (_, cluster) = needed.iter().find(|(side, _)| !view.site(*side).exists)?;
    let cluster = cluster.as_deref().unwrap_or_default();
    let message = format!(
        "the cluster's record was removed while the migration ran: add it again with `isthmus cluster add {cluster}`, join it, and create the Migration again"
    );
    Some((finding(format!("Cluster {cluster}"), "ClusterGone", message), Ending::Failed))
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
    step.resumes_at = None;
    step.message = message;
}

/// Ends a step and everything after it but the clean-up, and has undone what is to be undone.
fn fail_step(
    options: &MigrationSpec,
    status: &mut MigrationStatus,
    index: usize,
    reason: &Finding,
    ending: Ending,
    now: Timestamp,
) {
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
    if ending == Ending::Failed && lone_hooks::takes_nothing_back(status, status.pipeline[index].step) {
        lone_hooks::let_stand(status, status.pipeline[index].step);
        let told = format!("the run goes on without them, as nothing else is known to run: {why}");
        end_step(status, index, StepState::Skipped, Some(cut(&told, MAX_MESSAGE)), now);
        return;
    }
    for later in status.pipeline.iter_mut().skip(index + 1).filter(|later| later.step != Step::Cleanup) {
        later.state = StepState::Skipped;
    }
    let step = status.pipeline[index].step;
    let first = status.message.take().filter(|_| undo::is_undo(step)).map(|text| format!("{text}; then "));
    status.message = Some(cut(&format!("{}{step:?} failed: {why}", first.unwrap_or_default()), MAX_MESSAGE));
    if !undo::is_undo(step) {
        let undoing = undo::after(options, status, ending);
        let before_cleanup = status.pipeline.len() - 1;
        status.pipeline.splice(before_cleanup..before_cleanup, undoing);
    }
}

fn finish(options: &MigrationSpec, status: &mut MigrationStatus, now: Timestamp) {
    let failed = status.pipeline.iter().any(|step| step.state == StepState::Failed);
    status.finished_at = Some(Time(now));
    if failed {
        status.status =
            if undo::is_undone(status) { MigrationPhase::RolledBack } else { MigrationPhase::Failed };
        let told = status.message.take().unwrap_or_default();
        let stands = standing(options, status).map_or_else(String::new, |stands| format!(". {stands}"));
        status.message = Some(cut(&format!("{told}{stands}"), MAX_MESSAGE));
        return;
    }
    let warnings = match status.warnings_total {
        0 => None,
        1 => Some("with a warning: read it".to_owned()),
        n => Some(format!("with {n} warnings: read them")),
    };
    status.status =
        if warnings.is_some() { MigrationPhase::SucceededWithWarnings } else { MigrationPhase::Succeeded };
    if options.dry_run {
        let looked = format!("{NOTHING_CHANGED}: {}", prospect(&status.resources));
        status.message = Some(match warnings {
            None => looked,
            Some(told) => format!("{looked}; {told} before you migrate"),
        });
        return;
    }
    let done = warnings.map(|told| format!("done, {told} before you rely on the destination"));
    let parts: Vec<String> = done.into_iter().chain(standing(options, status)).collect();
    status.message = (!parts.is_empty()).then(|| parts.join(". "));
}

/// Which side runs at the end of a run that stopped or started one, for how long none did, and what
/// to do where that is not known.
fn standing(options: &MigrationSpec, status: &MigrationStatus) -> Option<String> {
    if status.recovers.is_some() {
        return recovery::standing(status);
    }
    let text = |name: &Option<String>| name.clone().unwrap_or_default();
    let (source, destination) = (text(&status.source), text(&status.destination));
    let down = match (&status.stopped_at, &status.ready_at) {
        (Some(stopped), Some(ready)) => {
            let seconds = ready.0.as_second() - stopped.0.as_second();
            format!(", down for {}", elapsed(seconds))
        }
        _ => String::new(),
    };
    Some(match undo::active(options, status)? {
        Active::Source => {
            let left = undo::left_behind(options, status)
                .map_or_else(String::new, |what| format!(". What they wrote on {destination} {what}"));
            format!("The applications run on {source}, and nothing of the run on {destination}{left}")
        }
        Active::Destination => {
            format!("The applications run on {destination}{down}, and stand still on {source}")
        }
        Active::Neither => format!(
            "The applications run on neither side: go back with `isthmus rollback`, or start them with `isthmus activate NAMESPACE --cluster {source}` (or {destination})"
        ),
        Active::Unknown if options.action == MigrationAction::Failover && undo::has_lost_source(status) => {
            format!(
                "Nothing of it runs on {destination}, and it is not known whether the applications run on {source}, which fell silent: fail over again, which goes by the last complete run if it is still not heard, or go back with `isthmus rollback` once it is"
            )
        }
        Active::Unknown => format!(
            "It is not known whether the applications run on {destination}: look there, then go back with `isthmus rollback`, or start one side with `isthmus activate NAMESPACE --cluster {source}` (or {destination}) `--force`"
        ),
    })
}
