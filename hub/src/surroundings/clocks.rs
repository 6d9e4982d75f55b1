//! Clocks that differ: those of a plan's two spokes and of its store, against the hub's own.
//!
//! A spoke's clock is seen by the time at which it signs its requests, the store's by the date of its
//! answers. Both are known to the second or so, and later by what a request takes on its way.

use isthmus_shared::protocol::identity::{CLOCK_SKEW_SECONDS, SPOKE_TOKEN_SECONDS};
use isthmus_shared::resources::{MigrationPlan, PlanProblem, ProblemSeverity};
use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::itinerary::elapsed;
use crate::presence::Presence;
use crate::records::Records;

/// From so many seconds on a difference is told: a third of what refuses a spoke.
const TOLD_SECONDS: i64 = CLOCK_SKEW_SECONDS.cast_signed() / 3;
/// A spoke that is so far ahead is refused, seconds.
const TOO_EARLY_SECONDS: i64 = CLOCK_SKEW_SECONDS.cast_signed();
/// A spoke that is so far behind signs what has expired already, seconds.
const TOO_LATE_SECONDS: i64 = (SPOKE_TOKEN_SECONDS + CLOCK_SKEW_SECONDS).cast_signed();

/// The clocks of a plan's clusters and store that are wrong, or the hub's.
pub(crate) fn wrong_clocks(
    records: &Records,
    presence: &Presence,
    plan: &MigrationPlan,
    now: Timestamp,
) -> Vec<PlanProblem> {
    let namespace = plan.namespace().unwrap_or_default();
    let Some(pair) = records.pairs.get(&namespace, &plan.spec.options.cluster_pair) else {
        return Vec::new();
    };
    let clusters = [&pair.spec.source, &pair.spec.destination].into_iter().filter_map(|name| {
        let ahead = presence.clock(&records.cluster(name)?.uid()?, now)?;
        of_cluster(name, ahead)
    });
    let store = &pair.spec.object_store;
    let of_store = records
        .store(store)
        .and_then(|record| record.uid())
        .and_then(|uid| presence.clock(&uid, now))
        .and_then(|ahead| of_store(store, ahead));
    clusters.chain(of_store).collect()
}

fn of_cluster(name: &str, ahead: i64) -> Option<PlanProblem> {
    let refused = ahead > TOO_EARLY_SECONDS || ahead <= -TOO_LATE_SECONDS;
    let severity = if refused { ProblemSeverity::Critical } else { ProblemSeverity::Warn };
    let means = if refused {
        "so the hub refuses its requests".to_owned()
    } else {
        format!(
            "and {TOO_EARLY_SECONDS} s ahead or {} behind its requests are refused",
            elapsed(TOO_LATE_SECONDS)
        )
    };
    let message = format!(
        "its spoke's clock is {} the hub's, {means}: set the clock that is wrong by NTP, on the spoke's node or the hub's",
        difference(ahead)?
    );
    Some(problem(severity, format!("Cluster {name}"), message))
}

fn of_store(name: &str, ahead: i64) -> Option<PlanProblem> {
    let message = format!(
        "its clock is {} the hub's: requests are signed by the store's time once it has refused one, and many stores \
         refuse what is 15 minutes off; set the clock that is wrong by NTP",
        difference(ahead)?
    );
    Some(problem(ProblemSeverity::Warn, format!("ObjectStore {name}"), message))
}

/// In words; none where it is not worth any.
fn difference(ahead: i64) -> Option<String> {
    let by = elapsed(ahead.saturating_abs());
    match ahead {
        TOLD_SECONDS.. => Some(format!("{by} ahead of")),
        _ if ahead <= -TOLD_SECONDS => Some(format!("{by} behind")),
        _ => None,
    }
}

fn problem(severity: ProblemSeverity, object: String, message: String) -> PlanProblem {
    PlanProblem { severity, object, reason: "ClockSkew".to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_before_it_refuses_a_spoke() {
        let severity = |ahead| of_cluster("east", ahead).map(|problem| problem.severity);
        for small in [-9, 0, 9] {
            assert_eq!(severity(small), None, "{small}");
        }
        for told in [-89, -10, 10, 30] {
            assert_eq!(severity(told), Some(ProblemSeverity::Warn), "{told}");
        }
        for refused in [-90, 31, i64::MAX, i64::MIN] {
            assert_eq!(severity(refused), Some(ProblemSeverity::Critical), "{refused}");
        }
        let told = of_cluster("east", 12).unwrap();
        assert_eq!((told.object.as_str(), told.reason.as_str()), ("Cluster east", "ClockSkew"));
        assert!(
            told.message.contains("12s ahead of the hub's") && told.message.contains("NTP"),
            "{}",
            told.message
        );
    }

    #[test]
    fn a_store_whose_clock_differs_only_warns() {
        assert_eq!(of_store("stage", 5), None);
        let told = of_store("stage", -3600).unwrap();
        assert_eq!(told.severity, ProblemSeverity::Warn);
        assert!(told.message.contains("1h00m behind the hub's"), "{}", told.message);
    }
}
