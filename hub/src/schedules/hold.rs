//! Whether the other side of a schedule is the one that runs: then no run may bring it the state of a
//! source that is not.
//!
//! It is told anew each time from what is there, and from the more cautious of two answers where they
//! do not agree.

use isthmus_shared::resources::{ActivationPhase, Active, HoldReason, TargetState};
use jiff::Timestamp;

use super::Hold;

/// Which way the applications of a schedule go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the destination.
    Over,
    /// Back to the source.
    Back,
}

/// How far that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Not ended, or not begun.
    UnderWay,
    /// They run there.
    Succeeded,
    /// It ended otherwise; which side it says is the active one.
    Failed(Option<Active>),
}

/// A Failover or a Failback of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crossing {
    /// The Migration.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Which way.
    pub way: Way,
    /// How far.
    pub outcome: Outcome,
}

impl Crossing {
    /// Whether the destination runs, or may, because of this one.
    fn may_run_there(&self) -> bool {
        match self.outcome {
            Outcome::UnderWay | Outcome::Succeeded => true,
            Outcome::Failed(active) => matches!(active, Some(Active::Destination | Active::Unknown)),
        }
    }
}

/// Whether a schedule was failed over, or is being, and has not been failed back since.
pub(crate) fn failed_over(schedule: &str, crossings: &[Crossing]) -> Option<Hold> {
    let over = crossings.iter().filter(|crossing| crossing.way == Way::Over && crossing.may_run_there());
    let over = over.max_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)))?;
    // One that succeeded has found something to bring back: of two of the same second it is the later.
    let back = crossings.iter().any(|crossing| {
        crossing.way == Way::Back
            && crossing.outcome == Outcome::Succeeded
            && crossing.created >= over.created
    });
    if back {
        return None;
    }
    let name = &over.name;
    let message = match over.outcome {
        Outcome::UnderWay => format!(
            "it is being failed over by Migration {name}: no run begins before `isthmus failback {schedule}` has succeeded, or the failover was undone"
        ),
        Outcome::Succeeded => format!(
            "it was failed over by Migration {name}, so the destination is the side that runs: it goes on once `isthmus failback {schedule}` has succeeded"
        ),
        Outcome::Failed(_) => format!(
            "its failover by Migration {name} failed, and the destination may run: see `isthmus migration describe {name}`, then fail over again or undo it; it goes on once `isthmus failback {schedule}` has succeeded"
        ),
    };
    Some(Hold { reason: HoldReason::FailedOver, message })
}

/// A namespace of the destination that a schedule's runs bring something to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The cluster.
    pub cluster: String,
    /// The namespace.
    pub namespace: String,
    /// What the mark of a cutover says there.
    pub marked_active: Option<bool>,
    /// What was asked for there last by `isthmus activate` or `deactivate`, and what became of it.
    pub asked: Option<(TargetState, ActivationPhase)>,
}

impl Place {
    /// Whether its applications are active, or are about to be.
    fn is_active(&self) -> bool {
        let under_way = self.asked.filter(|(_, phase)| *phase == ActivationPhase::InProgress);
        match (under_way, self.marked_active) {
            (Some((TargetState::Active, _)), _) => true,
            // What runs is stopped once that is answered, and not before.
            (Some((TargetState::Inactive, _)), marked) => marked != Some(false),
            (None, Some(marked)) => marked,
            // A promotion leaves no mark: what was asked for last is all that is known.
            (None, None) => self.asked.is_some_and(|(state, _)| state == TargetState::Active),
        }
    }
}

/// Whether applications are active where a schedule's runs would write.
pub(crate) fn destination_active(schedule: &str, places: &[Place]) -> Option<Hold> {
    let active: Vec<&Place> = places.iter().filter(|place| place.is_active()).collect();
    let first = active.first()?;
    let more = if active.len() > 1 { format!(" (and {} more)", active.len() - 1) } else { String::new() };
    let message = format!(
        "the applications of namespace {}{more} are active on cluster {}, and a run would overwrite what they write: it goes on after `isthmus deactivate {} --cluster {}`, or after `isthmus failback {schedule}`; with `autoSuspend: false` it would not stop for them",
        first.namespace, first.cluster, first.namespace, first.cluster
    );
    Some(Hold { reason: HoldReason::DestinationActive, message })
}
