//! Failovers whose source is not heard: what they go by, when they start the destination, and what
//! the source is told once it is heard again.
//!
//! ```text
//!   hearing ── heard ──▶ a cutover, as any other
//!      └────── silent ─▶ decide ──▶ begin: what the schedule's last complete run has staged
//!                                      │
//!   handover: what the source is to be told, in its record, where it stays until it is answered
//!      └──▶ gate: the destination starts once the source has been told, and, if it is heard, obeys
//! ```
//!
//! Nobody can stop what is cut off. So the word that starts the destination is a person's, and the
//! source is told to stop before the destination starts: it hears that with the first thing that it
//! hears. Nothing on the source is touched before that; one that goes back tells it to start again.

use isthmus_shared::protocol::HEARTBEAT_EXPIRY_SECONDS;
use isthmus_shared::resources::{
    Activation, Active, Finding, MAX_FINDINGS, Migration, MigrationAction, MigrationSpec, MigrationStatus,
    RecoveredRun, Side, Step, StepState, TargetState, VolumePhase, VolumeStatus,
};
use jiff::{Timestamp, ToSpan};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::admission::Admission;
use super::claims::{claims, meeting};
use super::findings::{MAX_MESSAGE, Severity, add, cut, finding};
use super::steps::{cluster_of, is_silent};
use super::summary::elapsed;
use super::undo;
use super::view::{Origin, Pair, PairView, Told};

/// The reason of the warning that the source is heard again.
const HEARD_AGAIN: &str = "SourceHeardAgain";

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
    let heard_at = view.site(side).heard_at;
    if heard_at.is_some_and(|at| now <= at + limit.seconds()) {
        Hearing::Heard
    } else if is_silent(heard_at.map(Time).as_ref(), view, limit, now) {
        Hearing::Silent
    } else {
        Hearing::Unsure
    }
}

/// Whether a failover may begin whose source is not heard.
pub(super) fn decide(spec: &MigrationSpec, pair: &Pair, view: &PairView, now: Timestamp) -> Admission {
    let refuse = |reason: Finding| Admission::Refuse(vec![reason]);
    let schedule = spec.schedule.clone().unwrap_or_default();
    let (source, destination) = super::admission::direction(spec, pair);
    let Some(last) = last_run(view) else {
        let message = format!(
            "cluster {source} is not heard, and no run of the schedule has ended well since its applications were last handed over or back, so there is nothing to go by: bring the spoke of {source} back, or start on {destination} what is there with `isthmus activate {destination} --force`"
        );
        return refuse(finding(format!("MigrationSchedule {schedule}"), "NoCompleteRun", message));
    };
    let of_run = last.options();
    if !of_run.action.brings_all() || !of_run.include_resources {
        let message = format!(
            "cluster {source} is not heard, and the runs of the schedule bring volumes alone, so there are no objects to go by: bring the spoke of {source} back; let the schedule's template have `action: Final` for the next time"
        );
        return refuse(finding(format!("MigrationSchedule {schedule}"), "NoObjects", message));
    }
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
    let mut wanted = claims(of_run, last.status.as_ref(), source, destination);
    wanted.retain(|claim| claim.cluster == destination);
    let met = view.busy.iter().filter(|busy| meeting(&wanted, &busy.claims).is_some());
    if let Some(busy) = met.min_by(|a, b| a.migration.cmp(&b.migration)) {
        let message = format!("waits for migration {} to end, which works in its namespaces", busy.migration);
        return Admission::Wait { message, limited: false };
    }
    Admission::Recover
}

fn last_run(view: &PairView) -> Option<&Migration> {
    match &view.origin {
        Origin::Schedule(scheduled) => scheduled.last.as_deref(),
        _ => None,
    }
}

/// The options of such a failover, which are those of the run that it brings back, and its status at
/// the beginning.
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
    });
    status.active = Some(Active::Unknown);
    status.namespaces.clone_from(&was.namespaces);
    status.resources.total = was.resources.total;
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

/// What the source of a failover is to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Handover {
    /// The `Cluster`.
    pub cluster: String,
    /// What is to be in its record, in place of what there is for the same namespaces.
    pub activations: Vec<Activation>,
}

/// What the source of a failover that went by without it is to be told now.
///
/// It is to stop from just before the destination starts. Once the destination is known to stand still
/// again it is to run again: it may have stopped in between.
pub fn handover(migration: &Migration) -> Option<Handover> {
    let status = migration.status.as_ref().filter(|status| !status.status.is_terminal())?;
    status.recovers.as_ref()?;
    let uid = migration.metadata.uid.as_deref()?;
    let state = wanted(status)?;
    let (cluster, destination) = (status.source.clone()?, status.destination.clone()?);
    let stops = state == TargetState::Inactive;
    let activation = |from: &str, to: &str| Activation {
        namespace: from.to_owned(),
        state,
        request: request(uid, state),
        // The destination's mark says that it stands still, and this run has seen to it.
        force: !stops,
        handed_over_to: stops.then(|| format!("{destination}/{to}")),
    };
    let activations = status.namespaces.iter().map(|moved| activation(&moved.from, &moved.to)).collect();
    Some(Handover { cluster, activations })
}

/// The request that tells the source of a failover.
pub fn request(uid: &str, state: TargetState) -> String {
    match state {
        TargetState::Inactive => format!("failover-{uid}"),
        TargetState::Active => format!("undo-{uid}"),
    }
}

/// What the source is to be, as far as that is this run's to say.
fn wanted(status: &MigrationStatus) -> Option<TargetState> {
    let start = undo::state(status, Step::StartApplications)?;
    let is_next =
        super::advance::current(status).is_some_and(|at| status.pipeline[at].step == Step::StartApplications);
    let begun = matches!(start, StepState::InProgress | StepState::Succeeded | StepState::Failed) || is_next;
    let stopped = undo::state(status, Step::StopDestination) == Some(StepState::Succeeded);
    begun.then_some(if stopped { TargetState::Active } else { TargetState::Inactive })
}

/// Whether a step of such a failover may begin.
pub(super) enum Gate {
    Open,
    /// Not yet; for what it waits.
    Waits(String),
    Refused(Finding),
}

/// Whether the step that is next may begin: the destination is started once the source has been told
/// to stop, and has done so if it is heard; a run that went back ends once the source was told.
pub(super) fn gate(
    options: &MigrationSpec,
    status: &MigrationStatus,
    index: usize,
    view: &PairView,
    now: Timestamp,
) -> Gate {
    let step = status.pipeline[index].step;
    if status.recovers.is_none() || !view.source.exists {
        return Gate::Open;
    }
    let source = cluster_of(status, Side::Source);
    let told = &view.told;
    let message = match step {
        Step::StartApplications if told.state != Some(TargetState::Inactive) => {
            format!("noting that cluster {source} is to stop its applications as soon as it is heard")
        }
        Step::StartApplications if !told.done && hearing(view, Side::Source, now) == Hearing::Heard => {
            if let Some(why) = &told.refused {
                let message = format!(
                    "the cluster is heard again, and its applications could not be stopped ({why}), so that those of the destination must not start: put that right, then fail over again"
                );
                return Gate::Refused(finding(format!("Cluster {source}"), "SourceRuns", message));
            }
            format!("waits for cluster {source}, which is heard again, to stop its applications")
        }
        Step::Cleanup
            if wanted(status) == Some(TargetState::Active) && told.state == Some(TargetState::Inactive) =>
        {
            format!("noting that cluster {source} is not to stop its applications any more")
        }
        _ => return Gate::Open,
    };
    let limit = match step {
        // Until then the source would stop when it is heard, and nothing would run.
        Step::Cleanup => undo::UNDO_PATIENCE_SECONDS,
        _ => i64::from(options.step_timeout_seconds),
    };
    let since = index.checked_sub(1).and_then(|before| status.pipeline[before].finished_at.as_ref());
    if is_silent(since, view, limit, now) {
        // Nothing is left to be undone by waiting longer.
        if step == Step::Cleanup {
            return Gate::Open;
        }
        let message = format!(
            "{message}, for {}: look at `isthmus cluster describe {source}` and at the hub's log, then fail over again",
            elapsed(limit)
        );
        return Gate::Refused(finding(format!("Cluster {source}"), "SourceRuns", message));
    }
    Gate::Waits(message)
}

/// Tells, once, that the source is heard again while there is still time to lose nothing.
pub(super) fn warn_of_source(status: &mut MigrationStatus, view: &PairView, now: Timestamp) {
    let begun = status.started_at.as_ref().map(|at| at.0);
    let early = undo::state(status, Step::StartApplications) == Some(StepState::Pending);
    let known = status.warnings.iter().any(|warning| warning.reason == HEARD_AGAIN);
    let again = view.source.heard_at > begun && hearing(view, Side::Source, now) == Hearing::Heard;
    if status.recovers.is_none() || !early || !again || known || status.warnings.len() >= MAX_FINDINGS {
        return;
    }
    let source = cluster_of(status, Side::Source).to_owned();
    let message = "its spoke is heard again, and its applications may run: they are stopped before those of the destination start. To lose nothing of what was written there, cancel this run now and fail over again";
    add(status, Severity::Warning, None, finding(format!("Cluster {source}"), HEARD_AGAIN, message));
}

/// Which side is the active one.
pub(super) fn active(status: &MigrationStatus, told: &Told) -> Active {
    let obeys = |state| told.state == Some(state) && told.done;
    let is = |step, state| undo::state(status, step) == Some(state);
    if undo::state(status, Step::StopDestination).is_some() {
        let back = is(Step::StopDestination, StepState::Succeeded) && obeys(TargetState::Active);
        return if back { Active::Source } else { Active::Unknown };
    }
    let over = is(Step::StartApplications, StepState::Succeeded) && obeys(TargetState::Inactive);
    if over { Active::Destination } else { Active::Unknown }
}

/// Whether it is not known yet what has become of the source of a failover that has ended well.
pub fn is_unsettled(status: &MigrationStatus) -> bool {
    status.status.is_success() && status.recovers.is_some() && status.active == Some(Active::Unknown)
}

/// Puts in that the source has been heard since and stands still.
pub(super) fn settle(status: &mut MigrationStatus, view: &PairView) {
    if is_unsettled(status) && active(status, &view.told) == Active::Destination {
        let before = standing(status);
        status.active = Some(Active::Destination);
        let (message, now) = (status.message.take().unwrap_or_default(), standing(status));
        status.message = Some(match before {
            Some(before) => cut(&message.replace(&before, &now.unwrap_or_default()), MAX_MESSAGE),
            None => message,
        });
    }
}

/// Which side runs, by which data, and what to do where that is not known.
pub(super) fn standing(status: &MigrationStatus) -> Option<String> {
    let recovered = status.recovers.as_ref()?;
    let (source, destination) = (cluster_of(status, Side::Source), cluster_of(status, Side::Destination));
    if undo::state(status, Step::StartApplications) == Some(StepState::Succeeded)
        && undo::state(status, Step::StopDestination).is_none()
    {
        let (begun, ended) = (recovered.started_at.0, recovered.finished_at.0);
        let age = status.started_at.as_ref().map_or(0, |at| at.0.as_second() - begun.as_second());
        let of_source = if status.active == Some(Active::Destination) {
            format!("{source} has been heard since, and stands still")
        } else {
            format!("the source may still run if it was only cut off: {source} stops as soon as it is heard")
        };
        return Some(format!(
            "The applications run on {destination} by run {}: what was written on {source} before {begun:.0}, which is {} before the failover, is there, and nothing from after {ended:.0}; {of_source}",
            recovered.run,
            elapsed(age)
        ));
    }
    let here = if undo::left_nothing_running(status) {
        format!("Nothing of the run runs on {destination}")
    } else {
        format!(
            "It is not known whether the applications run on {destination}: look there, and stop them with `isthmus deactivate {destination}`"
        )
    };
    Some(match status.active {
        Some(Active::Source) => format!("{here}, and the applications run on {source}"),
        _ => format!(
            "{here}; whether they run on {source} is not known, as it was not heard: fail over again, or look there"
        ),
    })
}
