//! Which runs of a schedule are kept.
//!
//! Removing a run removes what it has in staging, from which a failover would bring it back. So the
//! newest run that succeeded always stays, and of those the newest that took the objects along; and
//! nothing goes while a schedule is failed over, as the failover may be reading it.

use isthmus_shared::resources::{HoldReason, MigrationAction, MigrationScheduleSpec};

use super::{Hold, Removal, Run};

/// The most runs that are removed at a time.
const MAX_REMOVALS: usize = 20;

/// The newest run that succeeded.
pub(super) fn newest_succeeded(runs: &[Run]) -> Option<&Run> {
    runs.iter().filter(|run| run.succeeded() && !run.deleting).max_by_key(|run| run.order())
}

/// The runs that are beyond what is kept, the oldest first.
pub(super) fn beyond(spec: &MigrationScheduleSpec, runs: &[Run], hold: Option<&Hold>) -> Vec<Removal> {
    if hold.is_some_and(|hold| hold.reason == HoldReason::FailedOver) {
        return Vec::new();
    }
    let whole =
        runs.iter().filter(|run| run.succeeded() && !run.deleting && run.action == MigrationAction::Final);
    let whole = whole.max_by_key(|run| run.order()).map(|run| run.uid.as_str());
    let mut gone: Vec<&Run> = Vec::new();
    for (succeeded, limit) in
        [(true, spec.successful_history_limit.max(1)), (false, spec.failed_history_limit)]
    {
        let of_this = |run: &&Run| run.ended() && !run.deleting && run.succeeded() == succeeded;
        let mut ended: Vec<&Run> = runs.iter().filter(of_this).collect();
        ended.sort_by(|a, b| b.order().cmp(&a.order()));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        gone.extend(ended.into_iter().skip(limit).filter(|run| Some(run.uid.as_str()) != whole));
    }
    gone.sort_by(|a, b| a.order().cmp(&b.order()));
    gone.into_iter()
        .take(MAX_REMOVALS)
        .map(|run| Removal { name: run.name.clone(), uid: run.uid.clone() })
        .collect()
}
