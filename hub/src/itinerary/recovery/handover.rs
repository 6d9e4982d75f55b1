//! What the source of a failover that goes without it is to be told, and what waits for it.

use isthmus_shared::resources::{
    Activation, Finding, Migration, MigrationSpec, MigrationStatus, Side, Step, StepState, TargetState,
};
use jiff::Timestamp;

use super::turn::had_stopped;
use super::{Hearing, hearing};
use crate::itinerary::findings::finding;
use crate::itinerary::steps::{cluster_of, is_silent};
use crate::itinerary::summary::elapsed;
use crate::itinerary::undo;
use crate::itinerary::view::PairView;

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
    let stop = |from: &str, to: &str| Activation {
        namespace: from.to_owned(),
        state: TargetState::Inactive,
        request: request(uid, TargetState::Inactive),
        force: false,
        handed_over_to: Some(format!("{destination}/{to}")),
    };
    let start = |namespace: &str| Activation {
        namespace: namespace.to_owned(),
        state: TargetState::Active,
        request: request(uid, TargetState::Active),
        // The destination's mark says that it stands still, and this run has seen to it.
        force: true,
        handed_over_to: None,
    };
    let moved = status.namespaces.iter();
    let of_moved = moved.map(|moved| if stops { stop(&moved.from, &moved.to) } else { start(&moved.from) });
    Some(Handover { cluster, activations: of_moved.chain(left_behind(status).map(start)).collect() })
}

/// The request that tells the source of a failover.
pub fn request(uid: &str, state: TargetState) -> String {
    match state {
        TargetState::Inactive => format!("failover-{uid}"),
        TargetState::Active => format!("undo-{uid}"),
    }
}

/// What a cutover had begun to stop before it turned, and is not in the run that it goes by: nothing
/// starts it on the destination, so it is to go on where it was.
fn left_behind(status: &MigrationStatus) -> impl Iterator<Item = &str> {
    let stopped = had_stopped(status).iter().map(String::as_str);
    stopped.filter(|namespace| !status.namespaces.iter().any(|moved| moved.from == *namespace))
}

/// What the source is to be, as far as that is this run's to say.
fn wanted(status: &MigrationStatus) -> Option<TargetState> {
    let start = undo::state(status, Step::StartApplications)?;
    let is_next = crate::itinerary::advance::current(status)
        .is_some_and(|at| status.pipeline[at].step == Step::StartApplications);
    let begun = matches!(start, StepState::InProgress | StepState::Succeeded | StepState::Failed) || is_next;
    let stands_still = undo::state(status, Step::StopDestination) == Some(StepState::Succeeded);
    if stands_still && (begun || !had_stopped(status).is_empty()) {
        return Some(TargetState::Active);
    }
    begun.then_some(TargetState::Inactive)
}

/// Whether a step of such a failover may begin.
pub(in crate::itinerary) enum Gate {
    Open,
    /// Not yet; for what it waits.
    Waits(String),
    Refused(Finding),
}

/// Whether the step that is next may begin: the destination is started once the source has been told
/// to stop, and has done so if it is heard; a run that went back ends once the source was told.
pub(in crate::itinerary) fn gate(
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
            if wanted(status) == Some(TargetState::Active) && told.state != Some(TargetState::Active) =>
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
