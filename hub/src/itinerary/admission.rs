//! Whether a migration may begin: what only a person can change refuses it, what may come by
//! itself is waited for.

use std::collections::BTreeSet;

use globset::GlobBuilder;
use isthmus_shared::resources::{
    Finding, Migration, MigrationPhase, MigrationSpec, MigrationStatus, NamespaceRule,
};
use jiff::{Timestamp, ToSpan};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::findings::{Severity, add, finding};
use super::plan::plan;
use super::view::{Pair, PairView};

/// How long a migration waits for its pair to become Ready before it fails, seconds.
pub const PENDING_LIMIT_SECONDS: i64 = 600;

/// How long a migration that cannot run waits before it fails, seconds.
pub const SETTLE_SECONDS: i64 = 3;

/// What is to be done with a migration that has not begun.
#[derive(Debug, PartialEq)]
enum Admission {
    /// It begins.
    Begin,
    /// It waits; `limited` says whether not for ever.
    Wait { message: String, limited: bool },
    /// It fails.
    Refuse(Finding),
}

/// Begins a migration, lets it wait with a message, or fails it.
pub(super) fn admit(migration: &Migration, status: &mut MigrationStatus, view: &PairView, now: Timestamp) {
    if migration.metadata.deletion_timestamp.is_some() {
        let name = migration.metadata.name.as_deref().unwrap_or_default();
        let message = "the Migration was deleted before it began; nothing was changed on either side";
        refuse(status, finding(format!("Migration {name}"), "Cancelled", message), now);
        return;
    }
    match decide(migration, view) {
        Admission::Begin => begin(migration, status, view, now),
        // The records are watched one kind beside the other: what was made a moment before the
        // migration may come a moment after it.
        Admission::Refuse(reason) if now < first_seen(status, view, now) + SETTLE_SECONDS.seconds() => {
            status.message = Some(format!("{}: {}", reason.object, reason.message));
        }
        Admission::Refuse(reason) => refuse(status, reason, now),
        Admission::Wait { message, limited } => {
            if limited && now > first_seen(status, view, now) + PENDING_LIMIT_SECONDS.seconds() {
                let object = format!("ClusterPair {}", migration.spec.cluster_pair);
                let message = format!(
                    "gave up after {} minutes of waiting: {message}; put that right, then create the Migration again",
                    PENDING_LIMIT_SECONDS / 60
                );
                refuse(status, finding(object, "WaitedTooLong", message), now);
            } else {
                status.message = Some(message);
            }
        }
    }
}

fn begin(migration: &Migration, status: &mut MigrationStatus, view: &PairView, now: Timestamp) {
    let Some(pair) = &view.pair else { return };
    let (source, destination) = direction(migration, pair);
    status.status = MigrationPhase::InProgress;
    status.message = None;
    status.pair_uid = Some(pair.uid.clone());
    status.source = Some(source.to_owned());
    status.destination = Some(destination.to_owned());
    status.started_at = Some(Time(now));
    status.pipeline = plan(&migration.spec);
}

fn refuse(status: &mut MigrationStatus, reason: Finding, now: Timestamp) {
    status.status = MigrationPhase::Failed;
    status.finished_at = Some(Time(now));
    status.message = Some(format!("{}: {}", reason.object, reason.message));
    add(status, Severity::Failure, None, reason);
}

/// Since when this hub has seen it wait. The condition is set with the first status and keeps
/// its transition time as long as the run neither succeeds nor fails.
fn first_seen(status: &MigrationStatus, view: &PairView, now: Timestamp) -> Timestamp {
    let condition = status.conditions.iter().find(|c| c.type_ == "Succeeded");
    condition.map_or(now, |condition| condition.last_transition_time.0.max(view.since))
}

/// Source and destination cluster of a run through a pair.
pub(super) fn direction<'a>(migration: &Migration, pair: &'a Pair) -> (&'a str, &'a str) {
    if migration.spec.reverse { (&pair.destination, &pair.source) } else { (&pair.source, &pair.destination) }
}

fn decide(migration: &Migration, view: &PairView) -> Admission {
    let spec = &migration.spec;
    let pair_name = format!("ClusterPair {}", spec.cluster_pair);
    let Some(pair) = view.pair.as_ref().filter(|pair| !pair.deleting) else {
        let namespace = migration.metadata.namespace.as_deref().unwrap_or_default();
        let message = format!(
            "there is no ClusterPair {} in namespace {namespace}: create it with `isthmus pair create {}` or name another pair, then create the Migration again",
            spec.cluster_pair, spec.cluster_pair
        );
        return Admission::Refuse(finding(pair_name, "NoSuchPair", message));
    };
    if spec.reverse && !pair.bidirectional {
        let message = "the pair goes one way only and the Migration asks for the reverse: set `spec.bidirectional: true` on the pair, then create the Migration again";
        return Admission::Refuse(finding(pair_name, "NotBidirectional", message));
    }
    if let Some(refused) =
        named(spec).iter().find_map(|name| namespace_refusal(&spec.cluster_pair, pair, name))
    {
        return Admission::Refuse(refused);
    }
    if let Some(defect) = &pair.defect {
        return Admission::Refuse(defect.clone());
    }
    if !pair.ready {
        let message =
            format!("waits for ClusterPair {} to become Ready: {}", spec.cluster_pair, pair.message);
        return Admission::Wait { message, limited: true };
    }
    let wanted = named(spec);
    if let Some(busy) = view.busy.iter().find(|busy| wanted.contains(&busy.namespace)) {
        let message = format!(
            "waits for migration {} to end, which moves namespace {} between these clusters now",
            busy.migration, busy.namespace
        );
        return Admission::Wait { message, limited: false };
    }
    Admission::Begin
}

/// The namespaces that a spec names outright, on either side.
fn named(spec: &MigrationSpec) -> BTreeSet<String> {
    let rules = spec.namespaces.iter().filter_map(|entry| entry.rule().ok());
    rules
        .flat_map(|rule| match rule {
            NamespaceRule::Name(name) => vec![name],
            NamespaceRule::Mapped(moved) => vec![moved.from, moved.to],
            NamespaceRule::Glob(_) => Vec::new(),
        })
        .collect()
}

/// Why a namespace may not be moved through a pair.
fn namespace_refusal(pair_name: &str, pair: &Pair, namespace: &str) -> Option<Finding> {
    let object = format!("Namespace {namespace}");
    if !is_dns_label(namespace) {
        let message = format!(
            "{namespace:?} is not a namespace's name (1 to 63 of a-z, 0-9 and '-'): correct spec.namespaces and create the Migration again"
        );
        return Some(finding(object, "BadNamespaceName", message));
    }
    if !pair.in_hub_namespace && namespace != pair.namespace {
        let message = format!(
            "ClusterPair {pair_name} lies in namespace {} and may move only the namespace of that name: use a pair in the hub's own namespace to move {namespace}",
            pair.namespace
        );
        return Some(finding(object, "NamespaceNotAllowed", message));
    }
    let allowed = pair.allowed_namespaces.as_ref()?;
    for pattern in allowed {
        match GlobBuilder::new(pattern).build() {
            Ok(glob) if glob.compile_matcher().is_match(namespace) => return None,
            Ok(_) => {}
            Err(error) => {
                let message = format!(
                    "spec.allowedNamespaces has {pattern:?}, which is not a glob ({}): correct it on the pair, then create the Migration again",
                    error.kind()
                );
                return Some(finding(format!("ClusterPair {pair_name}"), "BadGlob", message));
            }
        }
    }
    let message = format!(
        "ClusterPair {pair_name} does not allow namespace {namespace} (allowedNamespaces: {}): have it added there or use another pair, then create the Migration again",
        allowed.join(", ")
    );
    Some(finding(object, "NamespaceNotAllowed", message))
}

fn is_dns_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}
