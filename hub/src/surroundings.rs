//! From the records and who was heard to the values that the itinerary decides on.

mod plans;
pub(crate) mod schedules;

pub(crate) use plans::{around, plans_beside};

use std::sync::Arc;

use isthmus_shared::resources::{
    Cluster, ClusterPair, Finding, LinkState, Migration, MigrationAction, MigrationPhase,
};
use kube::ResourceExt as _;

use crate::itinerary::{Busy, Origin, Pair, PairView, Site, Undone, claims, meeting};
use crate::presence::Presence;
use crate::records::Records;
use crate::{pruning, staging};

/// The surroundings of a migration as they are now.
pub(crate) fn view(records: &Records, presence: &Presence, migration: &Migration) -> PairView {
    let namespace = migration.namespace().unwrap_or_default();
    let origin = origin(records, migration);
    let status = migration.status.as_ref();
    let begun = status.is_some_and(|status| status.pair_uid.is_some());
    // One that has begun goes by what it was begun with, whatever became of its plan.
    let options = if begun { Some(migration.options().clone()) } else { origin.options(&migration.spec) };
    let pair = options.as_ref().and_then(|options| records.pairs.get(&namespace, &options.cluster_pair));
    let reverse = options.as_ref().is_some_and(|options| options.reverse);
    let named = |kept: Option<&String>, first: bool| {
        kept.cloned().or_else(|| {
            let spec = &pair.as_ref()?.spec;
            Some(if first == reverse { spec.destination.clone() } else { spec.source.clone() })
        })
    };
    let source = named(status.and_then(|s| s.source.as_ref()), true);
    let destination = named(status.and_then(|s| s.destination.as_ref()), false);
    PairView {
        origin,
        since: presence.since,
        pair: pair.as_deref().map(|pair| pair_facts(records, pair)),
        source: site(records, presence, source.as_deref()),
        destination: site(records, presence, destination.as_deref()),
        busy: busy(records, migration, [source.as_deref(), destination.as_deref()]),
        held: if begun { None } else { schedules::held(records, presence, migration) },
        full: None,
    }
}

/// Where a migration that has not begun takes its options from.
fn origin(records: &Records, migration: &Migration) -> Origin {
    let namespace = migration.namespace().unwrap_or_default();
    if let Some(plan) = &migration.spec.plan {
        let plan = records.plans.get(&namespace, plan);
        return Origin::Plan(plan.map(|plan| Box::new(plan.spec.options.clone())));
    }
    let Some(name) = &migration.spec.rollback_of else { return Origin::Own };
    let undone = records.migrations.get(&namespace, name);
    let superseded_by = undone.as_deref().and_then(|undone| superseded(records, undone));
    Origin::Undoes(Undone { migration: undone.map(|undone| Box::new((*undone).clone())), superseded_by })
}

/// A later run that has moved a namespace of this one's clusters that this one has moved.
fn superseded(records: &Records, undone: &Migration) -> Option<String> {
    let known = undone.status.as_ref()?;
    let claims_of = |migration: &Migration| {
        let status = migration.status.as_ref()?;
        Some(claims(
            migration.options(),
            Some(status),
            status.source.as_deref()?,
            status.destination.as_deref()?,
        ))
    };
    let ours = claims_of(undone)?;
    let finished = known.finished_at.as_ref()?;
    let later = |other: &Migration| {
        let status = other.status.as_ref()?;
        let changed = other.options().action == MigrationAction::Final
            && !other.options().dry_run
            && matches!(status.status, MigrationPhase::Succeeded | MigrationPhase::SucceededWithWarnings)
            && status.started_at.as_ref().is_some_and(|started| started >= finished);
        (changed && meeting(&ours, &claims_of(other)?).is_some())
            .then(|| format!("{}/{}", other.namespace().unwrap_or_default(), other.name_any()))
    };
    records
        .migrations
        .all()
        .iter()
        .filter(|other| other.metadata.uid != undone.metadata.uid)
        .find_map(|other| later(other))
}

fn pair_facts(records: &Records, pair: &ClusterPair) -> Pair {
    let status = pair.status.clone().unwrap_or_default();
    let ready = status.scheduler_status == LinkState::Ready && status.storage_status == LinkState::Ready;
    let namespace = pair.namespace().unwrap_or_default();
    let uid = pair.uid().unwrap_or_default();
    let has_key = staging::pair_key(records, &uid).is_some();
    let why: Vec<String> = [
        (status.scheduler_status != LinkState::Ready).then_some(status.scheduler_message).flatten(),
        (status.storage_status != LinkState::Ready).then_some(status.storage_message).flatten(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let message = if why.is_empty() { "it is being checked".to_owned() } else { why.join("; ") };
    Pair {
        uid,
        in_hub_namespace: namespace == records.namespace,
        namespace,
        deleting: pair.metadata.deletion_timestamp.is_some(),
        bidirectional: pair.spec.bidirectional,
        allowed_namespaces: pair.spec.allowed_namespaces.clone(),
        source: pair.spec.source.clone(),
        destination: pair.spec.destination.clone(),
        defect: defect(records, pair),
        ready: ready && has_key,
        pruning: pruning::is_under_way(pair),
        message,
    }
}

/// What is wrong with a pair that only a person can put right.
pub(crate) fn defect(records: &Records, pair: &ClusterPair) -> Option<Finding> {
    let missing = |object: String, reason: &str, message: String| {
        Some(Finding { object, reason: reason.to_owned(), message, step: None })
    };
    for cluster in [&pair.spec.source, &pair.spec.destination] {
        if records.cluster(cluster).is_none() {
            let message = format!(
                "the hub has no cluster {cluster}, which the pair names: add it with `isthmus cluster add {cluster}` and join it"
            );
            return missing(format!("Cluster {cluster}"), "NoSuchCluster", message);
        }
    }
    let name = &pair.spec.object_store;
    match records.store(name) {
        None => {
            let message = format!(
                "the hub has no object store {name}, which the pair names: create it with `isthmus store create {name}`"
            );
            missing(format!("ObjectStore {name}"), "NoSuchStore", message)
        }
        Some(store) => staging::access(records, &store).err(),
    }
}

fn site(records: &Records, presence: &Presence, cluster: Option<&str>) -> Site {
    let Some(cluster) = cluster.and_then(|name| records.cluster(name)) else { return Site::default() };
    Site { exists: true, heard_at: heard_at(presence, &cluster) }
}

fn heard_at(presence: &Presence, cluster: &Cluster) -> Option<jiff::Timestamp> {
    cluster.metadata.uid.as_deref().and_then(|uid| presence.heard_at(uid))
}

/// The other migrations that are under way from or to these clusters.
fn busy(records: &Records, migration: &Migration, clusters: [Option<&str>; 2]) -> Vec<Busy> {
    // Only a migration that has not begun asks.
    if migration.status.as_ref().is_some_and(|status| status.status != MigrationPhase::Pending) {
        return Vec::new();
    }
    let mut others: Vec<Arc<Migration>> =
        clusters.into_iter().flatten().flat_map(|cluster| records.under_way(cluster)).collect();
    others.sort_by(|a, b| a.metadata.uid.cmp(&b.metadata.uid));
    others.dedup_by(|a, b| a.metadata.uid == b.metadata.uid);
    let others = others.iter().filter(|other| other.metadata.uid != migration.metadata.uid);
    others
        .filter_map(|other| {
            let status = other.status.as_ref().filter(|s| s.status == MigrationPhase::InProgress)?;
            let (source, destination) = (status.source.as_deref()?, status.destination.as_deref()?);
            Some(Busy {
                migration: format!("{}/{}", other.namespace().unwrap_or_default(), other.name_any()),
                dry_run: other.options().dry_run,
                claims: claims(other.options(), Some(status), source, destination),
            })
        })
        .collect()
}
