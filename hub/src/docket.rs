//! What a spoke should be doing now: the tasks of the migrations from and to its cluster, of its
//! cluster's record, of its pairs and of the checks of plans, with the keys that they need.
//!
//! A poll is woken by what concerns its cluster and by nothing else: whatever [`task_list`] reads
//! must be told of in [`crate::records`]' `concerns`, or be looked at again by time.

use isthmus_shared::protocol::{
    MAX_POLL_SECONDS, PollRequest, Staging, StoreToProbe, Task, TaskId, TaskList, Work,
};
use isthmus_shared::resources::{
    Activation, ActivationPhase, Cluster, ClusterPair, Migration, MigrationPhase,
};
use kube::ResourceExt as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::itinerary::tasks;
use crate::presence::Presence;
use crate::records::Records;
use crate::{checks, fencing, pruning, staging, surroundings};

/// The most tasks that are handed out at a time.
pub(crate) const MAX_TASKS: usize = 1000;
/// The most stores that a spoke is asked to probe.
const MAX_STORES: usize = 256;
/// The step of the tasks that start or stop a namespace's applications.
pub(crate) const ACTIVATE: &str = "Activate";
/// A held poll's list is made at most this often: the first change is answered at once, and of a
/// burst that follows not every one has the list made anew.
const REST: Duration = Duration::from_millis(25);
/// How often a list is made anew in which applications wait to be started until the other side is
/// known to stand still, which time alone may tell.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Everything that a cluster's spoke should be doing now.
pub(crate) fn task_list(records: &Records, presence: &Presence, cluster: &Cluster) -> TaskList {
    let mut tasks = activations(records, presence, cluster);
    let name = cluster.name_any();
    let mut migrations: Vec<Arc<Migration>> =
        records.under_way(&name).into_iter().filter(|migration| is_under_way(migration)).collect();
    // The oldest first, so that it is always the same ones that find room.
    migrations.sort_by(|a, b| {
        (&a.metadata.creation_timestamp, &a.metadata.uid)
            .cmp(&(&b.metadata.creation_timestamp, &b.metadata.uid))
    });
    tasks.extend(collections(records, &name));
    for migration in migrations {
        if tasks.len() >= MAX_TASKS {
            break;
        }
        tasks.extend(of_migration(records, presence, &migration, &name));
    }
    // Checks of plans come last: they find room where runs leave it.
    let mut checks: Vec<Migration> =
        records.plans.all().iter().filter_map(|plan| checks::as_migration(plan)).collect();
    checks.sort_by(|a, b| a.metadata.uid.cmp(&b.metadata.uid));
    for check in checks.iter().filter(|check| is_under_way(check)) {
        tasks.extend(of_migration(records, presence, check, &name));
    }
    tasks.truncate(MAX_TASKS);
    let revision = staging::fingerprint(&serde_json::to_vec(&tasks).unwrap_or_default());
    TaskList { revision, tasks }
}

/// Answers a poll: at once if the spoke's list is not the newest, else when it changes, after
/// the wait, or when `stop` says so.
pub(crate) async fn poll(
    records: &Records,
    presence: &Presence,
    cluster_name: &str,
    request: &PollRequest,
    stop: &CancellationToken,
) -> TaskList {
    let wait = Duration::from_secs(request.wait_seconds.min(MAX_POLL_SECONDS));
    let deadline = tokio::time::sleep(wait);
    tokio::pin!(deadline);
    let mut changes = records.listen(cluster_name);
    loop {
        changes.mark();
        let made = tokio::time::Instant::now();
        let list = records
            .cluster(cluster_name)
            .map_or_else(TaskList::default, |cluster| task_list(records, presence, &cluster));
        if request.known.as_deref() != Some(list.revision.as_str()) {
            return list;
        }
        let again = waits_for_the_other_side(&list);
        tokio::select! {
            () = &mut deadline => return list,
            () = stop.cancelled() => return list,
            () = tokio::time::sleep(LOOK_AGAIN), if again => {}
            rung = changes.rung() => if !rung { return list },
        }
        tokio::select! {
            () = &mut deadline => {}
            () = stop.cancelled() => {}
            () = tokio::time::sleep_until(made + REST) => {}
        }
    }
}

/// Whether a list holds applications that may not be started yet.
fn waits_for_the_other_side(list: &TaskList) -> bool {
    list.tasks.iter().any(|task| matches!(task.work, Work::Activate { cleared: false, .. }))
}

fn is_under_way(migration: &Migration) -> bool {
    migration.status.as_ref().is_some_and(|status| status.status == MigrationPhase::InProgress)
}

fn of_migration(records: &Records, presence: &Presence, migration: &Migration, cluster: &str) -> Vec<Task> {
    let view = surroundings::view(records, presence, migration);
    let mut assigned = tasks(migration, &view);
    assigned.retain(|assignment| assignment.cluster == cluster);
    if assigned.is_empty() {
        return Vec::new();
    }
    let Some(staging) = staging_of(records, migration) else {
        tracing::debug!(
            migration = migration.name_any(),
            "no tasks are handed out: its store cannot be reached"
        );
        return Vec::new();
    };
    assigned
        .into_iter()
        .map(|assignment| Task {
            id: assignment.id,
            work: assignment.job.into_work(migration, &view, staging.clone()),
        })
        .collect()
}

/// Where a migration is staged, as far as records and Secrets are there.
pub(crate) fn staging_of(records: &Records, migration: &Migration) -> Option<Staging> {
    let pair_uid = migration.status.as_ref()?.pair_uid.clone()?;
    staging_of_pair(records, &*records.pairs.by_uid(&pair_uid)?)
}

fn staging_of_pair(records: &Records, pair: &ClusterPair) -> Option<Staging> {
    let pair_uid = pair.uid()?;
    let store = records.store(&pair.spec.object_store)?;
    let access = staging::access(records, &store).ok()?;
    let key = staging::pair_key(records, &pair_uid)?.to_base64();
    Some(Staging { access, pair: pair_uid, key })
}

/// The collections of staging of the pairs whose source is this cluster.
fn collections(records: &Records, cluster: &str) -> Vec<Task> {
    let pairs = records.pairs.all();
    let of = |pair: &ClusterPair| {
        let uid = pair.uid()?;
        let kept = || surroundings::kept(records, &uid, None);
        pruning::task(pair, || (pruning::in_use(records, &uid), kept()), || staging_of_pair(records, pair))
    };
    let mut tasks: Vec<Task> = pairs
        .iter()
        .filter(|pair| pair.spec.source == cluster)
        .filter_map(|pair| of(pair))
        .map(|(id, prune)| Task { id, work: Work::PruneStaging { prune } })
        .collect();
    tasks.sort_by(|a, b| a.id.cmp(&b.id));
    tasks
}

/// The tasks of a cluster's activations that are not done. What a run is handing over is not started
/// meanwhile. A spoke whose API server does not answer it would try for a while, say that it cannot, and
/// never try again: it is asked once it is answered, within the time of a poll.
fn activations(records: &Records, presence: &Presence, cluster: &Cluster) -> Vec<Task> {
    let Some(uid) = cluster.uid() else { return Vec::new() };
    if presence.is_unanswered(&uid) {
        return Vec::new();
    }
    cluster
        .spec
        .activations
        .iter()
        .filter(|wanted| !is_answered(cluster, wanted))
        .filter(|wanted| fencing::handed_over_by(records, &cluster.name_any(), wanted).is_none())
        .map(|wanted| Task {
            id: activation_task(&uid, &wanted.namespace, &wanted.request),
            work: Work::Activate {
                namespace: wanted.namespace.clone(),
                state: wanted.state,
                cleared: wanted.force
                    || fencing::other_stands_still(records, presence, cluster, &wanted.namespace),
                handed_over_to: wanted.handed_over_to.clone(),
            },
        })
        .collect()
}

/// Whether it is known what became of an activation.
pub(crate) fn is_answered(cluster: &Cluster, wanted: &Activation) -> bool {
    cluster.status.as_ref().is_some_and(|status| {
        status.activations.iter().any(|a| {
            a.namespace == wanted.namespace
                && a.request == wanted.request
                && a.phase != ActivationPhase::InProgress
        })
    })
}

/// The id of an activation's task.
pub(crate) fn activation_task(cluster_uid: &str, namespace: &str, request: &str) -> TaskId {
    TaskId {
        record: cluster_uid.to_owned(),
        step: ACTIVATE.to_owned(),
        item: Some(format!("{namespace}.{request}")),
    }
}

/// The stores that a cluster's spoke is to probe: those of all its pairs.
pub(crate) fn stores_to_probe(records: &Records, cluster: &str) -> Vec<StoreToProbe> {
    let mut stores = BTreeMap::new();
    for pair in records.pairs.all() {
        let concerns = pair.spec.source == cluster || pair.spec.destination == cluster;
        if !concerns || pair.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let Some(store) = records.store(&pair.spec.object_store) else { continue };
        let (Some(uid), Ok(access)) = (store.uid(), staging::access(records, &store)) else { continue };
        stores.entry(uid).or_insert(access);
    }
    stores
        .into_iter()
        .take(MAX_STORES)
        .map(|(store, access)| StoreToProbe { store, revision: staging::revision(&access), access })
        .collect()
}
