//! Since when a schedule's clock counts, and which of its runs is due.

use isthmus_shared::resources::{
    Cadence, MigrationSchedule, MigrationScheduleSpec, MigrationScheduleStatus, ScheduleTiming,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Run;

/// How far behind the time of its newest run the clock may be before that is told: clocks of two hubs
/// differ a little.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(2);

/// Whether a run is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The one that was due then.
    Begin(Timestamp),
    /// The one that was due then came too late.
    Missed(Timestamp),
    /// None.
    Later,
}

/// The timing that counts. One that is another than before counts from now on: what would have been
/// due by it yesterday nobody has waited for.
pub(super) fn current(
    schedule: &MigrationSchedule,
    status: &MigrationScheduleStatus,
    now: Timestamp,
) -> ScheduleTiming {
    let spec = &schedule.spec;
    let same =
        |known: &&ScheduleTiming| (&known.schedule, &known.time_zone) == (&spec.schedule, &spec.time_zone);
    if let Some(known) = status.timing.as_ref().filter(same) {
        return known.clone();
    }
    let created = schedule.metadata.creation_timestamp.as_ref().map_or(now, |at| at.0);
    let since = if status.timing.is_some() { now } else { created };
    ScheduleTiming { schedule: spec.schedule.clone(), time_zone: spec.time_zone.clone(), since: Time(since) }
}

/// When the newest run that was begun was due, as the status and the runs themselves tell.
pub(super) fn newest_begun(status: &MigrationScheduleStatus, runs: &[Run]) -> Option<Timestamp> {
    let kept = status.last_scheduled_at.as_ref().map(|at| at.0);
    runs.iter().filter_map(|run| run.due).chain(kept).max()
}

/// The newest run that is due after `since`, if it is not too late for it.
pub(super) fn due(spec: &MigrationScheduleSpec, cadence: &Cadence, since: Timestamp, now: Timestamp) -> Due {
    let Some(due) = cadence.last_between(since, now) else { return Due::Later };
    let patience = spec.starting_deadline_seconds.map(|seconds| SignedDuration::from_secs(seconds.into()));
    if patience.is_some_and(|patience| now.duration_since(due) > patience) {
        Due::Missed(due)
    } else {
        Due::Begin(due)
    }
}

/// Whether a time that has been is still to come.
pub(super) fn is_ahead(been: Timestamp, now: Timestamp) -> bool {
    been.duration_since(now) > TOLERANCE
}
