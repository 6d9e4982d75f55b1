//! Failovers that began as a cutover, and whose source falls silent before it has given what is needed of
//! it: they go on without.
//!
//! A cutover needs its source until that has stopped and the last pass of every volume is sent; from then
//! on its silence changes nothing. Before that, the run waits for it for as long as the hub is told to,
//! and begins nothing meanwhile; then it goes by the schedule's last complete run, as one would that was
//! begun then. It does so once, and does not turn back: whoever would rather have the source's last
//! writes cancels it.
//!
//! What it has done so far stays told. On the destination that is no more than namespaces, claims, and
//! volumes that have a part of a later pass: no object is applied while the source is needed. Its movers
//! there are ended before volumes are gone back to. What it had begun to stop on the source is told to
//! start again if the run goes back.

use isthmus_shared::resources::{
    Finding, MAX_FINDINGS, MigrationAction, MigrationSpec, MigrationStatus, Side, SourceLost, Step,
    StepState, StepStatus, VolumePhase,
};
use jiff::{Timestamp, ToSpan};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Hearing, begin, goes_by, hearing, silent_since};
use crate::itinerary::findings::{MAX_MESSAGE, Severity, add, cut, finding};
use crate::itinerary::steps::{GONE_AFTER_SECONDS, cluster_of};
use crate::itinerary::summary::elapsed;
use crate::itinerary::view::PairView;
use crate::itinerary::{lone_hooks, plan, undo};

/// How long the source of a failover that is under way may not be heard before the failover goes on
/// without it, seconds, unless the hub is told otherwise. A spoke that is started again on another node
/// is back by then.
pub const TURN_AFTER_SECONDS: i64 = 120;

/// Namespaces that a message names.
const NAMED: usize = 5;

/// What the silence of its source makes of a failover.
#[derive(Debug, PartialEq)]
pub(in crate::itinerary) enum Turn {
    /// Nothing: it is heard, or not needed any more.
    Stays,
    /// It may be heard again: until when it is waited for, in words.
    Waits(String),
    /// It goes by the schedule's last complete run from here on.
    Turned,
    /// It cannot go on without, and the source has been waited for.
    Refused(Finding),
}

/// Has a failover go on without its source, if that has been silent for long enough. `own` is what the
/// Migration itself asks for.
pub(in crate::itinerary) fn turn(
    own: &MigrationSpec,
    options: &MigrationSpec,
    status: &mut MigrationStatus,
    index: usize,
    (view, now): (&PairView, Timestamp),
) -> Turn {
    let may = may_turn(options, status) && needs_source(status, index);
    let alone = hearing(view, Side::Source, now) == Hearing::Silent
        && hearing(view, Side::Destination, now) == Hearing::Heard;
    if !may || !alone {
        return Turn::Stays;
    }
    let silent_since = silent_since(view, Side::Source);
    let until = silent_since + view.patience.seconds();
    let source = cluster_of(status, Side::Source).to_owned();
    let last = match fitting(own, status, view) {
        Ok(last) => last,
        Err(reason) => {
            let over = now > until.max(silent_since + GONE_AFTER_SECONDS.seconds());
            return if over { Turn::Refused(reason) } else { Turn::Stays };
        }
    };
    if now <= until {
        return Turn::Waits(format!(
            "waits for cluster {source}, whose spoke has not been heard since {silent_since:.0}; from {until:.0} on it goes by run {last} instead"
        ));
    }
    match go_on_without(own, status, index, (view, now)) {
        Some(()) => Turn::Turned,
        // Of a run that ended well everything is known that this needs.
        None => Turn::Stays,
    }
}

/// The name of the run that it can go by, or why there is none.
fn fitting(own: &MigrationSpec, status: &MigrationStatus, view: &PairView) -> Result<String, Finding> {
    let (source, destination) = (cluster_of(status, Side::Source), cluster_of(status, Side::Destination));
    let schedule = own.schedule.as_deref().unwrap_or_default();
    let last = goes_by(view, schedule, source, destination)?;
    let was = last.status.clone().unwrap_or_default();
    let name = last.metadata.name.clone().unwrap_or_default();
    // The schedule may have been changed since the failover began.
    if (&was.pair_uid, &was.source, &was.destination)
        != (&status.pair_uid, &status.source, &status.destination)
    {
        let message = format!(
            "cluster {source} is not heard, and run {name}, the last one of the schedule that ended well, did not go from there to {destination}: bring the spoke of {source} back, then fail over again"
        );
        return Err(finding(format!("MigrationSchedule {schedule}"), "NoCompleteRun", message));
    }
    Ok(name)
}

/// Whether a run is a failover that goes by its source so far.
fn may_turn(options: &MigrationSpec, status: &MigrationStatus) -> bool {
    options.action == MigrationAction::Failover && !options.dry_run && status.recovers.is_none()
}

/// Whether a cutover that is at this step cannot go on without its source.
fn needs_source(status: &MigrationStatus, index: usize) -> bool {
    let step = status.pipeline[index].step;
    if undo::is_undo(step) || step == Step::Cleanup {
        return false;
    }
    if undo::state(status, Step::Quiesce) != Some(StepState::Succeeded) {
        return true;
    }
    let unsent = |state: StepState| !matches!(state, StepState::Succeeded | StepState::Skipped);
    match undo::state(status, Step::FinalVolumes) {
        Some(StepState::Pending) => !status.volumes.is_empty(),
        Some(StepState::InProgress) => {
            status.volumes.iter().any(|volume| volume.phase == VolumePhase::Pending || unsent(volume.send))
        }
        _ => false,
    }
}

/// Whether the source of a failover is not waited for any more, though it is not needed either: what it
/// was still to do is left out.
pub(in crate::itinerary) fn is_given_up(
    options: &MigrationSpec,
    status: &MigrationStatus,
    view: &PairView,
    now: Timestamp,
) -> bool {
    may_turn(options, status)
        && hearing(view, Side::Destination, now) == Hearing::Heard
        && hearing(view, Side::Source, now) == Hearing::Silent
        && now > silent_since(view, Side::Source) + view.patience.seconds()
}

/// The source's namespaces that a failover had begun to stop before it went on without.
pub(in crate::itinerary) fn had_stopped(status: &MigrationStatus) -> &[String] {
    let lost = status.recovers.as_ref().and_then(|recovered| recovered.source_lost.as_ref());
    lost.map_or(&[], |lost| &lost.stopped)
}

fn go_on_without(
    own: &MigrationSpec,
    status: &mut MigrationStatus,
    index: usize,
    (view, now): (&PairView, Timestamp),
) -> Option<()> {
    let step = status.pipeline[index].step;
    let before: Vec<String> = status.namespaces.iter().map(|moved| moved.from.clone()).collect();
    let stopped = if undo::begun(status, Step::Quiesce) { before.clone() } else { Vec::new() };
    let mut options = begin(own, status, view)?;
    let left_out = lone_hooks::left_out(&mut options);
    let source = cluster_of(status, Side::Source).to_owned();
    let recovered = status.recovers.as_mut()?;
    let (run, begun) = (recovered.run.clone(), recovered.started_at.0);
    recovered.source_lost = Some(SourceLost { at: Time(now), step, stopped: stopped.clone() });
    status.pipeline = pipeline(std::mem::take(&mut status.pipeline), &options, &run, now);
    status.options = Some(Box::new(options));
    status.message = Some(format!(
        "goes on without cluster {source}, which fell silent during {step:?}, by run {run}, which began at {begun:.0}"
    ));
    // What failed meanwhile belongs to what is given up.
    let failures = std::mem::take(&mut status.failures);
    status.failures_total = 0;
    for failure in failures {
        tell(status, failure.step, failure);
    }
    let silence = elapsed(now.as_second() - silent_since(view, Side::Source).as_second());
    let message = format!(
        "its spoke has not been heard for {silence}, so that the failover goes on by run {run}, which began at {begun:.0}: what was written on {source} since then is not on the destination, and stays in the volumes of {source}. Its applications stop as soon as it is heard"
    );
    tell(status, Some(step), finding(format!("Cluster {source}"), "SourceLost", message));
    if let Some(warning) = left_out {
        tell(status, Some(step), warning);
    }
    let lacks = |namespace: &&String| !status.namespaces.iter().any(|moved| moved.from == **namespace);
    let lacking: Vec<String> = before.iter().filter(lacks).cloned().collect();
    if let Some(first) = lacking.first() {
        let goes_on = if stopped.is_empty() { "" } else { ", and is told to go on there" };
        let message = format!(
            "run {run} did not have {}, so that nothing of it is started on the destination: it stays on {source}{goes_on}",
            named(&lacking)
        );
        tell(status, Some(step), finding(format!("Namespace {first}"), "NotInLastRun", message));
    }
    Some(())
}

fn tell(status: &mut MigrationStatus, step: Option<Step>, warning: Finding) {
    // A person has to read this one: it takes the place of the last of many.
    if status.warnings.len() >= MAX_FINDINGS {
        status.warnings.pop();
    }
    let message = cut(&warning.message, MAX_MESSAGE);
    add(status, Severity::Warning, step, Finding { message, ..warning });
}

fn named(namespaces: &[String]) -> String {
    let first = namespaces.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match namespaces.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more namespaces"),
    }
}

/// What the run has done so far, and what it is to do from now on. A step that is done once more has
/// tasks of its own, as one that is begun again after a failure: nothing that is still said of the
/// earlier ones counts for them.
fn pipeline(done: Vec<StepStatus>, options: &MigrationSpec, run: &str, now: Timestamp) -> Vec<StepStatus> {
    let mut next = plan::recovery(options);
    let mut kept = Vec::new();
    for mut step in done.into_iter().filter(|step| step.state != StepState::Pending) {
        if let Some(again) = next.iter_mut().find(|next| next.step == step.step) {
            again.attempt = step.attempt + 1;
            continue;
        }
        if step.state == StepState::InProgress {
            step.state = StepState::Skipped;
            step.finished_at = Some(Time(now));
            step.resumes_at = None;
            step.message = Some(format!("given up, as the source fell silent: it goes by run {run}"));
            for task in &mut step.tasks {
                if matches!(task.state, StepState::Pending | StepState::InProgress) {
                    task.state = StepState::Skipped;
                }
            }
        }
        kept.push(step);
    }
    kept.extend(next);
    kept
}
