//! Schedules, decided: when a run is begun, what holds it, which runs are kept. Pure.
//!
//! ```text
//!   schedule, its runs, what surrounds it, now ─ decide ──▶ status, the run to begin, the runs to remove
//!       timing    since when the clock counts, and which run is due
//!       hold      whether the other side is the one that runs
//!       history   which runs have had their time
//! ```
//!
//! Nothing is remembered that could be told anew: which runs were begun is told by the runs
//! themselves, whose names say when they were due, and by the one time that the status keeps.
//!
//! Promises: for one due time one run is begun at most, whatever the clock does and however often the
//! hub dies between making a run and writing it down; none is begun while another has not ended, nor
//! while the schedule is suspended or held, or cannot be carried out; of the runs that were missed one
//! is begun, the newest; no run is removed that is under way, nor the newest that succeeded.

mod history;
mod hold;
mod timing;

#[cfg(test)]
mod tests;

pub(crate) use hold::{Crossing, Outcome, Place, Way, destination_active, failed_over};

use isthmus_shared::resources::{
    HoldReason, MAX_ACTIVE_RUNS, Migration, MigrationAction, MigrationPhase, MigrationSchedule,
    MigrationScheduleStatus, RunOfSchedule, ScheduleHeld, due_time_of,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use crate::conditions::{Said, set_ready};

/// What surrounds a schedule.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Its runs.
    pub runs: Vec<Run>,
    /// Why its runs cannot be carried out, as far as is known without beginning one.
    pub obstacle: Option<Obstacle>,
    /// What holds it.
    pub hold: Option<Hold>,
    /// What has to be known before a run may begin.
    pub unknown: Option<String>,
}

/// Why runs cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Obstacle {
    /// One word in CamelCase.
    pub reason: String,
    /// For a person: what is the matter and what to do.
    pub message: String,
}

/// Why a schedule begins no runs although nobody has suspended it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    /// The reason.
    pub reason: HoldReason,
    /// For a person: what holds it and how it goes on.
    pub message: String,
}

/// A run of a schedule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    /// The Migration.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it was due, by its name.
    pub due: Option<Timestamp>,
    /// What it does.
    pub action: MigrationAction,
    /// How it stands.
    pub phase: MigrationPhase,
    /// When it began.
    pub started_at: Option<Time>,
    /// When it ended.
    pub finished_at: Option<Time>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

impl Run {
    /// A migration as a run of a schedule; none, if it is not one of this very schedule.
    pub(crate) fn of(schedule: &MigrationSchedule, migration: &Migration) -> Option<Self> {
        let uid = schedule.metadata.uid.as_deref()?;
        let owned = migration.owner_references().iter().any(|owner| owner.uid == uid);
        if !owned || migration.namespace() != schedule.namespace() {
            return None;
        }
        let name = migration.name_any();
        let status = migration.status.as_ref();
        Some(Self {
            uid: migration.uid()?,
            created: migration.creation_timestamp().map_or(Timestamp::MIN, |at| at.0),
            due: due_time_of(&schedule.name_any(), &name),
            action: migration.options().action,
            phase: status.map(|status| status.status).unwrap_or_default(),
            started_at: status.and_then(|status| status.started_at.clone()),
            finished_at: status.and_then(|status| status.finished_at.clone()),
            deleting: migration.metadata.deletion_timestamp.is_some(),
            name,
        })
    }

    fn ended(&self) -> bool {
        self.phase.is_terminal()
    }

    fn succeeded(&self) -> bool {
        self.phase.is_success()
    }

    /// What orders runs in time.
    fn order(&self) -> (Timestamp, Option<Timestamp>, &str) {
        (self.created, self.due, &self.name)
    }
}

/// A run that is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    /// The Migration.
    pub name: String,
    /// Its uid: another of its name stays.
    pub uid: String,
}

/// What is to be done about a schedule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decision {
    /// Its status as it ought to be.
    pub status: MigrationScheduleStatus,
    /// When the run was due that is to be begun now.
    pub begin: Option<Timestamp>,
    /// The runs that are to be removed.
    pub remove: Vec<Removal>,
}

/// What a schedule is at.
struct Standing {
    ready: Option<bool>,
    reason: String,
    message: String,
    next: Option<Timestamp>,
    begin: Option<Timestamp>,
}

impl Standing {
    fn stopped(reason: &str, message: impl Into<String>) -> Self {
        Self {
            ready: Some(false),
            reason: reason.to_owned(),
            message: message.into(),
            next: None,
            begin: None,
        }
    }
}

/// What is to be done about a schedule now.
pub(crate) fn decide(schedule: &MigrationSchedule, seen: &Seen, now: Timestamp) -> Decision {
    let mut status = schedule.status.clone().unwrap_or_default();
    if schedule.metadata.deletion_timestamp.is_some() {
        return Decision { status, begin: None, remove: Vec::new() };
    }
    let timing = timing::current(schedule, &status, now);
    status.last_scheduled_at = timing::newest_begun(&status, &seen.runs).map(Time);
    let standing = standing(schedule, &status, seen, timing.since.0, now);
    status.timing = Some(timing);
    status.next_at = standing.next.map(Time);
    status.active = active(&seen.runs);
    status.last_succeeded = history::newest_succeeded(&seen.runs).map(told);
    status.held = held(status.held, seen.hold.as_ref(), now);
    status.message = Some(standing.message.clone());
    status.observed_generation = schedule.metadata.generation;
    let said = Said::new(standing.ready, &standing.reason, standing.message);
    set_ready(&mut status.conditions, &said, schedule.metadata.generation, now);
    let remove = history::beyond(&schedule.spec, &seen.runs, seen.hold.as_ref());
    Decision { status, begin: standing.begin, remove }
}

fn standing(
    schedule: &MigrationSchedule,
    status: &MigrationScheduleStatus,
    seen: &Seen,
    counted_from: Timestamp,
    now: Timestamp,
) -> Standing {
    let spec = &schedule.spec;
    let name = schedule.name_any();
    if let Some(Obstacle { reason, message }) = &seen.obstacle {
        return Standing::stopped(reason, message);
    }
    let cadence = match spec.cadence() {
        Ok(cadence) => cadence,
        Err(error) => return Standing::stopped(error.reason(), format!("{}: {error}", error.field())),
    };
    if spec.suspend {
        let message = format!("it is suspended: `isthmus schedule resume {name}` lets it go on");
        return Standing::stopped("Suspended", message);
    }
    if let Some(Hold { reason, message }) = &seen.hold {
        return Standing::stopped(&format!("{reason:?}"), message);
    }
    let last = status.last_scheduled_at.as_ref().map(|at| at.0);
    let since = last.map_or(counted_from, |last| last.max(counted_from));
    let next = cadence.next_after(now.max(since));
    let running = seen.runs.iter().filter(|run| !run.ended()).max_by_key(|run| run.order());
    let going = |reason: &str, message: String, begin: Option<Timestamp>| Standing {
        ready: Some(true),
        reason: reason.to_owned(),
        message,
        next,
        begin,
    };
    let then = next.map_or_else(String::new, |next| format!("the next run is due at {next}"));
    match (timing::due(spec, &cadence, since, now), running) {
        (timing::Due::Begin(due), Some(run)) => {
            let message = format!(
                "run {} has not ended: the one that was due at {due} is begun after it, unless a newer one is due by then",
                run.name
            );
            going("Running", message, None)
        }
        (_, Some(run)) => going("Running", format!("run {} is under way; {then}", run.name), None),
        (timing::Due::Begin(due), None) => match &seen.unknown {
            Some(unknown) => {
                let message = format!("the run that was due at {due} waits: {unknown}");
                Standing { ready: None, reason: "Waiting".to_owned(), message, next, begin: None }
            }
            None => going("Scheduled", format!("the run that was due at {due} is begun"), Some(due)),
        },
        (timing::Due::Missed(due), None) => {
            let message = format!(
                "the run that was due at {due} could not be begun within startingDeadlineSeconds; {then}"
            );
            going("Scheduled", message, None)
        }
        (timing::Due::Later, None) if last.is_some_and(|last| timing::is_ahead(last, now)) => {
            let message = format!(
                "its newest run was due at {since}, which is still to come by the hub's clock: look whether that clock is right; if it is, delete the schedule and create it again, as until then no run is begun"
            );
            Standing { ready: Some(false), reason: "ClockWentBack".to_owned(), message, next, begin: None }
        }
        (timing::Due::Later, None) => going("Scheduled", then, None),
    }
}

fn active(runs: &[Run]) -> Vec<String> {
    let mut active: Vec<&Run> = runs.iter().filter(|run| !run.ended()).collect();
    active.sort_by(|a, b| a.order().cmp(&b.order()));
    active.into_iter().take(MAX_ACTIVE_RUNS).map(|run| run.name.clone()).collect()
}

fn told(run: &Run) -> RunOfSchedule {
    RunOfSchedule {
        name: run.name.clone(),
        uid: run.uid.clone(),
        started_at: run.started_at.clone(),
        finished_at: run.finished_at.clone(),
    }
}

/// What holds it, since when it was first seen to.
fn held(before: Option<ScheduleHeld>, hold: Option<&Hold>, now: Timestamp) -> Option<ScheduleHeld> {
    let hold = hold?;
    let since = before.filter(|before| before.reason == hold.reason).map_or(Time(now), |before| before.since);
    Some(ScheduleHeld { reason: hold.reason, since, message: hold.message.clone() })
}
