//! How long a step may take, and what becomes of one that fails: it is begun again as often as the
//! options say, after a pause, or the run ends.
//!
//! A step that is begun again is the same step: what follows it waits, and going back finds it begun.
//! Its tasks have ids of their own for each attempt, so that nothing that is said of an earlier one
//! counts for a later. Volumes have no attempts here: their movers are begun anew by their spokes, as
//! often as `retries.volumes` says, and a pass is never in the hands of two.

use isthmus_shared::protocol::HEARTBEAT_EXPIRY_SECONDS;
use isthmus_shared::resources::{
    Finding, MigrationSpec, MigrationStatus, PerStep, Side, Step, StepState, StepStatus,
};
use jiff::{Timestamp, ToSpan};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::findings::{MAX_MESSAGE, Severity, add, cut, finding};
use super::plan::{Duty, roster};
use super::steps::{cluster_of, is_silent};
use super::summary::elapsed;
use super::view::PairView;

/// The pause before the first attempt that follows a failure, seconds; it doubles with each.
pub const RETRY_PAUSE_SECONDS: i64 = 15;
/// The longest pause, seconds.
pub const LONGEST_RETRY_PAUSE_SECONDS: i64 = 600;
/// A hub that has just begun to look waits so long for what spokes have to say, before it holds the time
/// against them, seconds.
const GRACE_SECONDS: i64 = 60;

/// Whether a step that is under way has taken longer than it may.
pub(super) fn is_over(options: &MigrationSpec, step: &StepStatus, view: &PairView, now: Timestamp) -> bool {
    let limit = i64::from(options.step_limit(step.step));
    step.started_at
        .as_ref()
        .is_some_and(|started| now > (started.0 + limit.seconds()).max(view.since + GRACE_SECONDS.seconds()))
}

/// Why a step that waits has failed by the time that it took, if it has. A clean-up fails by nothing.
pub(super) fn overdue(
    options: &MigrationSpec,
    status: &MigrationStatus,
    index: usize,
    view: &PairView,
    now: Timestamp,
) -> Option<Finding> {
    let step = &status.pipeline[index];
    if step.step == Step::Cleanup || !is_over(options, step, view, now) {
        return None;
    }
    let doing = step.message.as_ref().map_or_else(String::new, |last| format!(" (the last was: {last})"));
    let told = format!(
        "it was not done within {}{doing}: look at what it waited for, give it longer by spec.timeouts.{name}, or have it begun again by spec.retries.{name}; then run again",
        elapsed(i64::from(options.step_limit(step.step))),
        name = PerStep::name(step.step)
    );
    Some(finding(format!("step {:?}", step.step), "StepTimeout", cut(&told, MAX_MESSAGE)))
}

/// Says of a step that waits whom it waits for, where that is a cluster which is not heard.
pub(super) fn tell_unheard(status: &mut MigrationStatus, index: usize, view: &PairView, now: Timestamp) {
    let waits = status.pipeline[index].tasks.iter().filter(|task| task.state == StepState::InProgress);
    let silent = |side: &Side| {
        let heard = view.site(*side).heard_at.map(Time);
        is_silent(heard.as_ref(), view, HEARTBEAT_EXPIRY_SECONDS.cast_signed(), now)
    };
    let Some(side) = waits.map(|task| task.side).find(silent) else { return };
    let since = view.site(side).heard_at.map_or_else(
        || "was not heard since this hub leads".to_owned(),
        |at| format!("was last heard at {at:.0}"),
    );
    let message = format!("waits for cluster {}, whose spoke {since}", cluster_of(status, side));
    status.pipeline[index].message = Some(message);
}

/// Whether a step waits for its next attempt.
pub(super) fn rests(step: &StepStatus, now: Timestamp) -> bool {
    step.resumes_at.as_ref().is_some_and(|at| now < at.0)
}

/// Has a step that has failed begun again a little later, if it may be. What failed is a warning then.
pub(super) fn try_again(
    options: &MigrationSpec,
    status: &mut MigrationStatus,
    index: usize,
    reason: &Finding,
    now: Timestamp,
) -> bool {
    let step = status.pipeline[index].step;
    let (attempt, retries) = (status.pipeline[index].attempt, options.step_retries(step));
    if attempt >= retries || roster(step, status.recovers.is_some()) == Duty::Volumes {
        return false;
    }
    forgive(status, step);
    let attempt = attempt + 1;
    let pause = RETRY_PAUSE_SECONDS
        .saturating_mul(1_i64.checked_shl(attempt - 1).unwrap_or(i64::MAX))
        .min(LONGEST_RETRY_PAUSE_SECONDS);
    let why = format!("{}: {}", reason.object, reason.message);
    let of = &mut status.pipeline[index];
    of.attempt = attempt;
    of.resumes_at = Some(Time(now + pause.seconds()));
    of.tasks.clear();
    of.message = Some(cut(
        &format!("retry {attempt} of {retries} begins in {}, as it failed: {why}", elapsed(pause)),
        MAX_MESSAGE,
    ));
    let told = format!("{} (begun again, retry {attempt} of {retries})", reason.message);
    let warning = Finding { message: cut(&told, MAX_MESSAGE), ..reason.clone() };
    add(status, Severity::Warning, Some(step), warning);
    true
}

/// Takes the failures of a step back: they are none if a later attempt succeeds.
fn forgive(status: &mut MigrationStatus, step: Step) {
    let listed = status.failures.len();
    status.failures.retain(|found| found.step != Some(step));
    let taken = u64::try_from(listed - status.failures.len()).unwrap_or(u64::MAX);
    // Those that were only counted are of the step that has just failed.
    status.failures_total =
        if status.failures.is_empty() { 0 } else { status.failures_total.saturating_sub(taken) };
}
