//! From the records and who was heard to the values that the itinerary decides on.

mod clocks;
mod failover;
mod plans;
pub(crate) mod schedules;
mod template;

pub(crate) use clocks::wrong_clocks;
pub(crate) use failover::kept;
pub(crate) use plans::{around, plans_beside};

use std::sync::Arc;

use isthmus_shared::protocol::{HEARTBEAT_EXPIRY_SECONDS, HeldPass};
use isthmus_shared::resources::{
    ActivationPhase, Cluster, ClusterPair, Finding, LinkState, Migration, MigrationAction, MigrationPhase,
    MigrationSpec, MigrationStatus, Side, Step, StepState, TargetState, TaskRecord,
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use crate::itinerary::{
    self, Busy, Origin, Pair, PairView, Rules, Site, Told, Undone, claims, meeting, request,
};
use crate::presence::Presence;
use crate::records::Records;
use crate::{pruning, staging};

/// The surroundings of a migration as they are now.
pub(crate) fn view(records: &Records, presence: &Presence, migration: &Migration) -> PairView {
    let namespace = migration.namespace().unwrap_or_default();
    let status = migration.status.as_ref();
    let begun = status.is_some_and(|status| status.pair_uid.is_some());
    let origin = origin(records, migration, begun);
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
    let rules = if begun { Rules::default() } else { rules(records, &namespace, options.as_ref()) };
    let busy = busy(records, migration, [source.as_deref(), destination.as_deref()]);
    let source = site(records, presence, source.as_deref());
    let may_turn = begun
        && status.is_some_and(|s| s.status == MigrationPhase::InProgress && s.recovers.is_none())
        && migration.spec.action == MigrationAction::Failover;
    // What a failover would go on by is looked up only where its source is silent.
    let limit = SignedDuration::from_secs(HEARTBEAT_EXPIRY_SECONDS.cast_signed());
    let silent = source.heard_at.is_none_or(|at| Timestamp::now().duration_since(at) > limit);
    let origin = match &migration.spec.schedule {
        Some(schedule) if may_turn && silent => {
            Origin::Schedule(Box::new(failover::scheduled(records, migration, schedule)))
        }
        _ => origin,
    };
    PairView {
        origin,
        rules,
        since: presence.since,
        patience: presence.patience,
        pair: pair.as_deref().map(|pair| pair_facts(records, presence, pair, destination.as_deref())),
        source,
        destination: site(records, presence, destination.as_deref()),
        busy,
        held: if begun { None } else { schedules::held(records, presence, migration) },
        full: None,
        told: told(records, migration),
        kept: kept_for_failovers(records, migration),
    }
}

/// What the clean-up of a run has to leave in staging.
fn kept_for_failovers(records: &Records, migration: &Migration) -> Vec<HeldPass> {
    let status = migration.status.as_ref().filter(|status| status.step == Some(Step::Cleanup));
    let pair = status.and_then(|status| status.pair_uid.as_deref());
    pair.map_or_else(Vec::new, |pair| kept(records, pair, Some(migration)))
}

/// What the source of a failover that went by without it has been told.
fn told(records: &Records, migration: &Migration) -> Told {
    let status = migration.status.as_ref().filter(|status| status.recovers.is_some());
    let source = status.and_then(|status| records.cluster(status.source.as_deref()?));
    let (Some(status), Some(source), Some(uid)) = (status, source, migration.uid()) else {
        return Told::default();
    };
    let answers = source.status.as_ref().map(|status| status.activations.as_slice()).unwrap_or_default();
    for state in [TargetState::Inactive, TargetState::Active] {
        let request = request(&uid, state);
        let asked = |namespace: &str| {
            source.spec.activations.iter().any(|a| a.namespace == namespace && a.request == request)
        };
        if status.namespaces.is_empty() || !status.namespaces.iter().all(|moved| asked(&moved.from)) {
            continue;
        }
        let of_this: Vec<_> = answers.iter().filter(|answer| answer.request == request).collect();
        let done = of_this.iter().filter(|answer| answer.phase == ActivationPhase::Succeeded).count();
        let refused = of_this.iter().find(|answer| answer.phase == ActivationPhase::Failed);
        return Told {
            state: Some(state),
            done: done == status.namespaces.len(),
            refused: refused.map(|answer| {
                format!("namespace {}: {}", answer.namespace, answer.message.clone().unwrap_or_default())
            }),
        };
    }
    Told::default()
}

/// The rules that options name, as they are now.
fn rules(records: &Records, namespace: &str, options: Option<&MigrationSpec>) -> Rules {
    let named = |name: fn(&MigrationSpec) -> Option<&String>| {
        records.rules.get(namespace, options.and_then(name).filter(|name| !name.is_empty())?)
    };
    Rules {
        before: named(|options| options.pre_exec_rule.as_ref()),
        after: named(|options| options.post_exec_rule.as_ref()),
    }
}

/// Where a migration that has not begun takes its options from.
fn origin(records: &Records, migration: &Migration, begun: bool) -> Origin {
    let namespace = migration.namespace().unwrap_or_default();
    if let Some(schedule) = &migration.spec.schedule {
        if begun {
            return Origin::Own;
        }
        return Origin::Schedule(Box::new(failover::scheduled(records, migration, schedule)));
    }
    if let Some(plan) = &migration.spec.plan {
        let plan = records.plans.get(&namespace, plan);
        return Origin::Plan(plan.map(|plan| Box::new(plan.spec.options.clone())));
    }
    let Some(name) = &migration.spec.rollback_of else { return Origin::Own };
    let undone = records.migrations.get(&namespace, name);
    let superseded_by = undone.as_deref().and_then(|undone| superseded(records, undone));
    Origin::Undoes(Undone { migration: undone.map(|undone| Box::new((*undone).clone())), superseded_by })
}

/// A later run after which this one cannot be undone any more.
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
    let later = |other: &Migration| {
        let changed = itinerary::supersedes(other.options(), other.status.as_ref()?, known);
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

fn pair_facts(records: &Records, presence: &Presence, pair: &ClusterPair, destination: Option<&str>) -> Pair {
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
        out_of_reach: if has_key {
            out_of_reach(records, presence, pair, destination)
        } else {
            Some("it has no key yet".to_owned())
        },
        pruning: pruning::is_under_way(pair),
        message,
    }
}

/// Why a cluster cannot use the store of a pair, as far as its own last probe of it tells.
fn out_of_reach(
    records: &Records,
    presence: &Presence,
    pair: &ClusterPair,
    cluster: Option<&str>,
) -> Option<String> {
    let store = records.store(&pair.spec.object_store)?;
    let cluster = records.cluster(cluster?)?;
    presence.probe_by(&cluster.uid()?, &store.uid()?)?.error
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
    let steady_since = cluster.uid().and_then(|uid| presence.steady_since(&uid));
    Site { exists: true, heard_at: heard_at(presence, &cluster), steady_since }
}

fn heard_at(presence: &Presence, cluster: &Cluster) -> Option<Timestamp> {
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
            let mut claims = claims(other.options(), Some(status), source, destination);
            claims.retain(|claim| {
                let side = if claim.cluster == destination { Side::Destination } else { Side::Source };
                !has_left(status, side)
            });
            Some(Busy {
                migration: format!("{}/{}", other.namespace().unwrap_or_default(), other.name_any()),
                dry_run: other.options().dry_run,
                claims,
            })
        })
        .collect()
}

/// Whether a run does nothing more on a side: it is cleaning up, and has done so there.
fn has_left(status: &MigrationStatus, side: Side) -> bool {
    let cleanup = status.pipeline.iter().find(|step| step.step == Step::Cleanup);
    cleanup.filter(|step| step.state == StepState::InProgress).is_some_and(|step| {
        let of_side = |task: &&TaskRecord| task.side == side;
        step.tasks
            .iter()
            .filter(of_side)
            .all(|task| !matches!(task.state, StepState::Pending | StepState::InProgress))
    })
}
