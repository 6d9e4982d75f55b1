//! Whether a migration may begin: what only a person can change refuses it, what may come by
//! itself is waited for.

use isthmus_shared::resources::{
    CANCEL, Finding, Migration, MigrationAction, MigrationPhase, MigrationSpec, MigrationStatus,
    OptionProblem, Side, UndoneRun,
};
use jiff::{Timestamp, ToSpan};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::claims::{claims, meeting};
use super::findings::{MAX_MESSAGE, Severity, add, cut, finding};
use super::namespaces;
use super::recovery::{self, Hearing};
use super::view::{Origin, Pair, PairView, Undone};
use super::{lone_hooks, origin, plan, rules, undo};

/// How long a migration waits for its pair to become Ready before it fails, seconds.
pub const PENDING_LIMIT_SECONDS: i64 = 600;

/// How long a migration that cannot run waits before it fails, seconds.
pub const SETTLE_SECONDS: i64 = 3;

/// What is to be done with a migration that has not begun.
#[derive(Debug, PartialEq)]
pub(super) enum Admission {
    /// It begins.
    Begin,
    /// It begins without its source, by what the last complete run of its schedule has staged.
    Recover,
    /// It waits; `limited` says whether not for ever.
    Wait { message: String, limited: bool },
    /// It waits for room beside those that are under way, and its turn.
    NoRoom { message: String },
    /// It fails, for at least one reason.
    Refuse(Vec<Finding>),
}

/// Begins a migration, lets it wait with a message, or fails it.
pub(super) fn admit(migration: &Migration, status: &mut MigrationStatus, view: &PairView, now: Timestamp) {
    if migration.metadata.deletion_timestamp.is_some() {
        let name = migration.metadata.name.as_deref().unwrap_or_default();
        let message = "the Migration was deleted before it began; nothing was changed on either side";
        refuse(status, vec![finding(format!("Migration {name}"), "Cancelled", message)], now);
        return;
    }
    let cancelled = migration.metadata.annotations.as_ref().and_then(|a| a.get(CANCEL));
    if cancelled.is_some_and(|value| value == "true") {
        let name = migration.metadata.name.as_deref().unwrap_or_default();
        let message = "it was cancelled before it began; nothing was changed on either side";
        refuse(status, vec![finding(format!("Migration {name}"), "Cancelled", message)], now);
        return;
    }
    match decide(migration, view, now) {
        Admission::Begin => begin(migration, status, view, (false, now)),
        Admission::Recover => begin(migration, status, view, (true, now)),
        // The records are watched one kind beside the other: what was made a moment before the
        // migration may come a moment after it.
        Admission::Refuse(reasons) if now < first_seen(status, view, now) + SETTLE_SECONDS.seconds() => {
            status.message = told(&reasons);
        }
        Admission::Refuse(reasons) => refuse(status, reasons, now),
        Admission::NoRoom { message } => status.message = Some(message),
        Admission::Wait { message, limited } => {
            if limited && now > first_seen(status, view, now) + PENDING_LIMIT_SECONDS.seconds() {
                let pair = view.origin.options(&migration.spec).map(|options| options.cluster_pair);
                let object = format!("ClusterPair {}", pair.unwrap_or_default());
                let message = format!(
                    "gave up after {} minutes of waiting: {message}; put that right, then create the Migration again",
                    PENDING_LIMIT_SECONDS / 60
                );
                refuse(status, vec![finding(object, "WaitedTooLong", message)], now);
            } else {
                status.message = Some(message);
            }
        }
    }
}

/// Whether it is only room beside others that keeps a migration from beginning.
pub fn waits_for_room(migration: &Migration, view: &PairView, now: Timestamp) -> bool {
    migration.metadata.deletion_timestamp.is_none()
        && matches!(decide(migration, view, now), Admission::NoRoom { .. })
}

fn begin(
    migration: &Migration,
    status: &mut MigrationStatus,
    view: &PairView,
    (recovers, now): (bool, Timestamp),
) {
    let Some(pair) = &view.pair else { return };
    let begun =
        if recovers { recovery::begin(&migration.spec, status, view) } else { options(migration, view).ok() };
    let Some(mut options) = begun else { return };
    let left_out = if recovers { lone_hooks::left_out(&mut options) } else { None };
    let (source, destination) = direction(&options, pair);
    status.status = MigrationPhase::InProgress;
    status.message = None;
    status.pair_uid = Some(pair.uid.clone());
    status.source = Some(source.to_owned());
    status.destination = Some(destination.to_owned());
    status.started_at = Some(Time(now));
    status.pipeline = if recovers { plan::recovery(&options) } else { plan(&options) };
    if let Origin::Undoes(Undone { migration: Some(undone), .. }) = &view.origin {
        let was = undone.status.clone().unwrap_or_default();
        let uid = undone.metadata.uid.clone().unwrap_or_default();
        status.undoes = Some(UndoneRun { uid, started_at: was.started_at.clone() });
        status.pipeline = undo::of(&was);
        status.namespaces = was.namespaces;
        status.active = was.active;
    }
    for OptionProblem { field, reason, message } in view.origin.left_out(&migration.spec) {
        add(status, Severity::Warning, None, finding(field, reason, message));
    }
    if let Some(warning) = left_out {
        add(status, Severity::Warning, None, warning);
    }
    if options != migration.spec {
        status.options = Some(Box::new(options));
    }
}

fn refuse(status: &mut MigrationStatus, reasons: Vec<Finding>, now: Timestamp) {
    status.status = MigrationPhase::Failed;
    status.finished_at = Some(Time(now));
    status.message = told(&reasons);
    for reason in reasons {
        add(status, Severity::Failure, None, reason);
    }
}

/// The first reason, and how many there are beside.
fn told(reasons: &[Finding]) -> Option<String> {
    let first = reasons.first()?;
    let more = match reasons.len() {
        0 | 1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    Some(cut(&format!("{}: {}{more}", first.object, first.message), MAX_MESSAGE))
}

/// Since when this hub has seen it wait. The condition is set with the first status and keeps
/// its transition time as long as the run neither succeeds nor fails.
fn first_seen(status: &MigrationStatus, view: &PairView, now: Timestamp) -> Timestamp {
    let condition = status.conditions.iter().find(|c| c.type_ == "Succeeded");
    condition.map_or(now, |condition| condition.last_transition_time.0.max(view.since))
}

/// Source and destination cluster of a run through a pair.
pub(super) fn direction<'a>(options: &MigrationSpec, pair: &'a Pair) -> (&'a str, &'a str) {
    if options.reverse { (&pair.destination, &pair.source) } else { (&pair.source, &pair.destination) }
}

/// The options that a migration would be begun with, its rules' hooks among them, or why there are
/// none.
fn options(migration: &Migration, view: &PairView) -> Result<MigrationSpec, Finding> {
    let namespace = migration.metadata.namespace.as_deref().unwrap_or_default();
    rules::with_rules(origin::options(migration, &view.origin)?, &view.rules, namespace)
}

fn decide(migration: &Migration, view: &PairView, now: Timestamp) -> Admission {
    let refuse = |reason: Finding| Admission::Refuse(vec![reason]);
    let spec = &match options(migration, view) {
        Ok(options) => options,
        Err(reason) => return refuse(reason),
    };
    // What the spec itself says wrongly no surroundings can put right.
    let problems = spec.problems();
    if !problems.is_empty() {
        let of = |problem: OptionProblem| {
            let message = format!("{}; then create the Migration again", problem.message);
            finding(problem.field, problem.reason, message)
        };
        return Admission::Refuse(problems.into_iter().map(of).collect());
    }
    let pair_name = format!("ClusterPair {}", spec.cluster_pair);
    let Some(pair) = view.pair.as_ref().filter(|pair| !pair.deleting) else {
        let namespace = migration.metadata.namespace.as_deref().unwrap_or_default();
        let message = format!(
            "there is no ClusterPair {} in namespace {namespace}: create it with `isthmus pair create {}` or name another pair, then create the Migration again",
            spec.cluster_pair, spec.cluster_pair
        );
        return refuse(finding(pair_name, "NoSuchPair", message));
    };
    if spec.reverse && !pair.bidirectional {
        let message = "the pair goes one way only and the Migration asks for the reverse: set `spec.bidirectional: true` on the pair, then create the Migration again";
        return refuse(finding(pair_name, "NotBidirectional", message));
    }
    if let Some(refused) = namespaces::refusal(spec, pair) {
        return refuse(refused);
    }
    if let Some(defect) = &pair.defect {
        return refuse(defect.clone());
    }
    if let Some(held) = &view.held {
        return Admission::Wait { message: held.clone(), limited: false };
    }
    if spec.action == MigrationAction::Failover {
        let (source, _) = direction(spec, pair);
        match recovery::hearing(view, Side::Source, now) {
            Hearing::Heard => {}
            Hearing::Silent => return recovery::decide(spec, pair, view, now),
            Hearing::Unsure => {
                let message = format!("waits for a sign of life of cluster {source}");
                return Admission::Wait { message, limited: false };
            }
        }
    }
    if !pair.ready {
        let message =
            format!("waits for ClusterPair {} to become Ready: {}", spec.cluster_pair, pair.message);
        return Admission::Wait { message, limited: true };
    }
    let moves_volumes = spec.include_volumes && spec.action != MigrationAction::Rollback;
    if pair.pruning && moves_volumes && !spec.dry_run {
        let message = format!(
            "waits for the collection of staging of ClusterPair {} to end, as `isthmus pair describe {}` shows it",
            spec.cluster_pair, spec.cluster_pair
        );
        return Admission::Wait { message, limited: false };
    }
    let (source, destination) = direction(spec, pair);
    let undone = match &view.origin {
        Origin::Undoes(undone) => undone.migration.as_ref().and_then(|m| m.status.as_ref()),
        Origin::Own | Origin::Plan(_) | Origin::Schedule(_) => None,
    };
    let wanted = claims(spec, undone, source, destination);
    // Dry runs change nothing, so they are in nobody's way but that of what they look at.
    let others = view.busy.iter().filter(|busy| !(busy.dry_run && spec.dry_run));
    let met = others.filter_map(|busy| meeting(&wanted, &busy.claims).map(|claim| (busy, claim)));
    if let Some((busy, claim)) = met.min_by(|(a, _), (b, _)| a.migration.cmp(&b.migration)) {
        let does = if busy.dry_run { "looks at" } else { "moves" };
        let message = format!("waits for migration {} to end, which {does} {claim} now", busy.migration);
        return Admission::Wait { message, limited: false };
    }
    // Going back is not made to wait for those that go ahead.
    if let Some(full) = view.full.as_ref().filter(|_| !spec.action.is_urgent()) {
        return Admission::NoRoom { message: format!("waits for room on {full}") };
    }
    Admission::Begin
}
