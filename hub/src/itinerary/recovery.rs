//! Failovers whose source is not heard: what they go by, when they start the destination, and what
//! the source is told once it is heard again.
//!
//! ```text
//!   hearing ── heard ──▶ a cutover, as any other ── turn: it falls silent on the way ──┐
//!      └────── silent ─▶ decide ──▶ begin: what the schedule's last complete run has ◀─┘
//!                                      │   staged
//!   handover: what the source is to be told, in its record, where it stays until it is answered
//!      └──▶ gate: the destination starts once the source has been told, and, if it is heard, obeys
//!
//!   standing: which side runs, as far as that is known, and what a person is told of it
//! ```
//!
//! Nobody can stop what is cut off. So the word that starts the destination is a person's, and the
//! source is told to stop before the destination starts: it hears that with the first thing that it
//! hears. Nothing on the source is touched before that, but by a cutover before it turned; one that goes
//! back tells it to start again.

mod handover;
mod standing;
mod turn;

pub(super) use handover::{Gate, gate};
pub use handover::{Handover, handover, request};
pub use standing::is_unsettled;
pub(super) use standing::{active, settle, standing, warn_of_source};
pub use turn::TURN_AFTER_SECONDS;
pub(super) use turn::{Turn, had_stopped, is_given_up, turn};

use isthmus_shared::protocol::HEARTBEAT_EXPIRY_SECONDS;
use isthmus_shared::resources::{
    Active, Finding, Migration, MigrationAction, MigrationSpec, MigrationStatus, RecoveredRun,
    ResourceCounts, Side, Step, VolumePhase, VolumeStatus,
};
use jiff::{Timestamp, ToSpan};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::admission::Admission;
use super::claims::{claims, meeting};
use super::findings::finding;
use super::view::{Origin, Pair, PairView};

/// Whether a cluster is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearing {
    /// Its spoke has been heard within the time of a heartbeat.
    Heard,
    /// It has not, for long enough.
    Silent,
    /// This hub has not looked for long enough.
    Unsure,
}

/// Whether the cluster of a side is heard.
pub(super) fn hearing(view: &PairView, side: Side, now: Timestamp) -> Hearing {
    let limit = HEARTBEAT_EXPIRY_SECONDS.cast_signed();
    if view.site(side).heard_at.is_some_and(|at| now <= at + limit.seconds()) {
        Hearing::Heard
    } else if now > silent_since(view, side) + limit.seconds() {
        Hearing::Silent
    } else {
        Hearing::Unsure
    }
}

/// Since when nothing has been heard of a side, as far as that can be held against it. Of a source it
/// counts only while the destination is heard: where neither is, it may be this hub that is cut off, and
/// the one is heard again a moment before the other.
pub(super) fn silent_since(view: &PairView, side: Side) -> Timestamp {
    let heard = view.site(side).heard_at.map_or(view.since, |at| at.max(view.since));
    match side {
        Side::Source => view.destination.steady_since.map_or(heard, |steady| heard.max(steady)),
        Side::Destination => heard,
    }
}

/// Whether a failover may begin whose source is not heard.
pub(super) fn decide(spec: &MigrationSpec, pair: &Pair, view: &PairView, now: Timestamp) -> Admission {
    let (source, destination) = super::admission::direction(spec, pair);
    let schedule = spec.schedule.as_deref().unwrap_or_default();
    let last = match goes_by(view, schedule, source, destination) {
        Ok(last) => last,
        Err(reason) => return Admission::Refuse(vec![reason]),
    };
    if hearing(view, Side::Destination, now) != Hearing::Heard {
        let message =
            format!("waits for cluster {destination} to be heard: its source {source} is not either");
        return Admission::Wait { message, limited: true };
    }
    if let Some(why) = &pair.out_of_reach {
        let message =
            format!("waits until cluster {destination} can use ClusterPair {}: {why}", spec.cluster_pair);
        return Admission::Wait { message, limited: true };
    }
    // It touches nothing on the source, and what others do there they do without being heard.
    let mut wanted = claims(last.options(), last.status.as_ref(), source, destination);
    wanted.retain(|claim| claim.cluster == destination);
    let met = view.busy.iter().filter(|busy| meeting(&wanted, &busy.claims).is_some());
    if let Some(busy) = met.min_by(|a, b| a.migration.cmp(&b.migration)) {
        let message = format!("waits for migration {} to end, which works in its namespaces", busy.migration);
        return Admission::Wait { message, limited: false };
    }
    Admission::Recover
}

/// The run that a failover between these clusters can go by without its source, or why there is none.
fn goes_by<'a>(
    view: &'a PairView,
    schedule: &str,
    source: &str,
    destination: &str,
) -> Result<&'a Migration, Finding> {
    let object = format!("MigrationSchedule {schedule}");
    let Some(last) = last_run(view) else {
        let message = format!(
            "cluster {source} is not heard, and no run of the schedule has ended well since its applications were last handed over or back, so there is nothing to go by: bring the spoke of {source} back, or start on {destination} what is there with `isthmus activate NAMESPACE --cluster {destination} --force`"
        );
        return Err(finding(object, "NoCompleteRun", message));
    };
    let of_run = last.options();
    if !of_run.action.brings_all() || !of_run.include_resources {
        let message = format!(
            "cluster {source} is not heard, and the runs of the schedule bring volumes alone, so there are no objects to go by: bring the spoke of {source} back; let the schedule's template have `action: Final` for the next time"
        );
        return Err(finding(object, "NoObjects", message));
    }
    Ok(last)
}

fn last_run(view: &PairView) -> Option<&Migration> {
    match &view.origin {
        Origin::Schedule(scheduled) => scheduled.last.as_deref(),
        _ => None,
    }
}

/// The options of such a failover, which are those of the run that it brings back, and its status where
/// it begins to go by that.
pub(super) fn begin(
    own: &MigrationSpec,
    status: &mut MigrationStatus,
    view: &PairView,
) -> Option<MigrationSpec> {
    let last = last_run(view)?;
    let options = own.of_schedule(last.options());
    let was = last.status.as_ref()?;
    status.recovers = Some(RecoveredRun {
        run: last.metadata.name.clone()?,
        uid: last.metadata.uid.clone()?,
        started_at: was.started_at.clone()?,
        // One that has brought everything may still be cleaning up.
        finished_at: was.finished_at.clone().or_else(|| cleaning_since(was))?,
        source_lost: None,
    });
    status.active = Some(Active::Unknown);
    status.namespaces.clone_from(&was.namespaces);
    status.resources = ResourceCounts { total: was.resources.total, ..ResourceCounts::default() };
    let arrived = was.volumes.iter().filter(|volume| volume.phase == VolumePhase::Succeeded);
    status.volumes = arrived
        .map(|volume| VolumeStatus {
            namespace: volume.namespace.clone(),
            claim: volume.claim.clone(),
            uid: volume.uid.clone(),
            pass: volume.pass,
            bytes_total: volume.bytes_total,
            ..VolumeStatus::default()
        })
        .collect();
    Some(options)
}

fn cleaning_since(status: &MigrationStatus) -> Option<Time> {
    status.pipeline.iter().find(|step| step.step == Step::Cleanup)?.started_at.clone()
}

/// The runs of the schedule that a failover has to end before it can begin: their source is not heard.
pub fn runs_to_end(migration: &Migration, view: &PairView, now: Timestamp) -> Vec<String> {
    let goes = migration.metadata.deletion_timestamp.is_none()
        && migration.spec.action == MigrationAction::Failover
        && hearing(view, Side::Source, now) == Hearing::Silent;
    match &view.origin {
        // What is not there or may not be must not end anything.
        Origin::Schedule(of) if goes && of.last.is_some() && of.failed_over.is_none() => of.under_way.clone(),
        _ => Vec::new(),
    }
}
