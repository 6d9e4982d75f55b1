//! The kinds' controllers: read, ask what ought to be, write.
//!
//! All are fed the same way, by [`rounds`]: an object is looked at when it changed, and all that may
//! need something again and again. Looking is cheap and pure; only what differs is written.

mod cluster;
mod cluster_pair;
mod failover;
mod migration;
mod object_store;
mod pair_state;
mod plan;
mod rounds;
mod schedule;

pub(crate) use plan::changed;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use isthmus_shared::protocol::identity::SigningKey;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::controller::{Action, Config, applier};
use kube::runtime::events::Recorder;
use kube::{Api, ResourceExt as _};
use tokio::task::JoinSet;

use crate::api::Office;
use crate::causes::chain;
use crate::metrics::Metrics;
use crate::records::{Kind, Record, Records, WriteError};
use crate::staging::Stores;
use rounds::{Lanes, queue};

/// How long an object rests after its reconciliation failed.
const RETRY: Duration = Duration::from_secs(5);
/// How often what is kept in memory is rid of what has no record any more.
const SWEEP: Duration = Duration::from_secs(30);
/// The most objects of a kind that are reconciled at a time.
const CONCURRENCY: u16 = 32;

/// What a controller does with one object.
type Reconcile<K> = fn(Arc<Desk>, Arc<K>) -> BoxFuture<'static, Result<(), WriteError>>;

/// What the controllers work with.
pub(crate) struct Desk {
    pub office: Arc<Office>,
    pub stores: Arc<Stores>,
    pub recorder: Recorder,
    pub metrics: Metrics,
    /// The hub's URL, for join tokens' Secrets.
    pub url: String,
    /// The hash of the hub's CA, for join tokens.
    pub ca_hash: String,
}

impl Desk {
    fn records(&self) -> &Arc<Records> {
        &self.office.records
    }

    fn signing(&self) -> &SigningKey {
        &self.office.signing
    }

    /// The Secrets of the hub's namespace.
    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.office.writer.client.clone(), &self.office.records.namespace)
    }
}

/// Starts all controllers; they end when the set of tasks is dropped.
pub(crate) fn start(desk: &Arc<Desk>, tasks: &mut JoinSet<()>) {
    let records = desk.records();
    let start = Start { desk, tasks };
    let start = start.controller("cluster", &records.clusters, Lanes::all(), cluster::reconcile);
    let start = start.controller("objectstore", &records.stores, Lanes::all(), object_store::reconcile);
    let start = start.controller("clusterpair", &records.pairs, Lanes::all(), cluster_pair::reconcile);
    let lanes = Lanes { concerns: migration::concerns, ahead: migration::has_not_begun };
    let start = start.controller("migration", &records.migrations, lanes, migration::reconcile);
    let start = start.controller("migrationplan", &records.plans, Lanes::all(), plan::reconcile);
    let start = start.controller("migrationschedule", &records.schedules, Lanes::all(), schedule::reconcile);
    let desk = Arc::clone(desk);
    start.tasks.spawn(async move { sweep(&desk).await });
}

struct Start<'a> {
    desk: &'a Arc<Desk>,
    tasks: &'a mut JoinSet<()>,
}

impl Start<'_> {
    fn controller<K: Record>(
        self,
        name: &'static str,
        kind: &Kind<K>,
        lanes: Lanes<K>,
        reconcile: Reconcile<K>,
    ) -> Self {
        let desk = Arc::clone(self.desk);
        let (watched, queue) = (kind.watched(), queue(desk.records(), kind, lanes));
        self.tasks.spawn(async move {
            let act =
                move |object: Arc<K>, desk: Arc<Desk>| -> BoxFuture<'static, Result<Action, WriteError>> {
                    Box::pin(async move { run(name, desk, object, reconcile).await })
                };
            let config = Config::default().concurrency(CONCURRENCY);
            let done = applier(act, |_, _, _| Action::requeue(RETRY), desk, watched, queue, config);
            // What became of each is told where it is known what it was.
            done.for_each(|_| std::future::ready(())).await;
        });
        self
    }
}

/// One reconciliation, counted and told of when it fails.
async fn run<K: Record>(
    name: &'static str,
    desk: Arc<Desk>,
    object: Arc<K>,
    reconcile: Reconcile<K>,
) -> Result<Action, WriteError> {
    let what = object.name_any();
    let metrics = desk.metrics.clone();
    let result = reconcile(desk, object).await;
    let failed = result.as_ref().is_err_and(|error| !error.is_gone());
    metrics.reconciled(name, failed);
    match result {
        Ok(()) => Ok(Action::await_change()),
        Err(error) if !failed => {
            tracing::debug!(controller = name, object = what, %error, "the object is gone");
            Ok(Action::await_change())
        }
        Err(error) => {
            tracing::warn!(
                controller = name,
                object = what,
                error = chain(&error),
                "reconciling failed; trying again"
            );
            Err(error)
        }
    }
}

/// Rids memory of what has no record any more.
async fn sweep(desk: &Desk) {
    let mut tick = tokio::time::interval(SWEEP);
    loop {
        tick.tick().await;
        let records = desk.records();
        let clusters = records.clusters.all().iter().filter_map(|cluster| cluster.uid()).collect();
        let stores = records.stores.all().iter().filter_map(|store| store.uid()).collect();
        desk.office.presence.retain(&clusters, &stores);
        let under_way: std::collections::HashSet<String> = records
            .migrations
            .all()
            .iter()
            .filter(|migration| migration::concerns(migration))
            .filter_map(|migration| migration.uid())
            .collect();
        desk.office.runs.retain(|uid| under_way.contains(uid));
        let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
        desk.office.gate.sweep(now);
    }
}
