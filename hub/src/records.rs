//! The records: what the API server holds, watched into memory, and the one way to write it.
//!
//! [`Kind`] is the newest that this hub knows of each object of a kind: what the watch brought,
//! or what this hub's own write was answered with, whichever is newer. So nobody here ever reads
//! a state from before its own write.
//!
//! [`Writer`] writes statuses: only during the hub's term, always with the `resourceVersion`
//! that the decision was made on; on a conflict it reads again and has the decision made again.

mod kind;
mod writer;

pub(crate) use kind::{Kind, Record};
pub(crate) use writer::{WriteError, Writer};

use std::sync::Arc;

use isthmus_shared::resources::{
    Cluster, ClusterPair, Migration, MigrationPlan, MigrationSchedule, ObjectStore,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Everything that the hub watches.
pub(crate) struct Records {
    /// The hub's own namespace.
    pub namespace: String,
    /// The clusters, of the hub's namespace.
    pub clusters: Kind<Cluster>,
    /// The object stores, of the hub's namespace.
    pub stores: Kind<ObjectStore>,
    /// The pairs, of all namespaces.
    pub pairs: Kind<ClusterPair>,
    /// The migrations, of all namespaces.
    pub migrations: Kind<Migration>,
    /// The plans, of all namespaces.
    pub plans: Kind<MigrationPlan>,
    /// The schedules, of all namespaces.
    pub schedules: Kind<MigrationSchedule>,
    /// The Secrets of the hub's namespace.
    pub secrets: Kind<Secret>,
    changes: watch::Sender<u64>,
}

impl Records {
    /// Begins to watch; the watches end when the set of tasks is dropped.
    pub(crate) fn watch(client: &Client, namespace: &str, tasks: &mut JoinSet<()>) -> Arc<Self> {
        let (changes, _) = watch::channel(0);
        let own = namespace;
        Arc::new(Self {
            namespace: own.to_owned(),
            clusters: Kind::watch(Api::namespaced(client.clone(), own), &changes, tasks),
            stores: Kind::watch(Api::namespaced(client.clone(), own), &changes, tasks),
            pairs: Kind::watch(Api::all(client.clone()), &changes, tasks),
            migrations: Kind::watch(Api::all(client.clone()), &changes, tasks),
            plans: Kind::watch(Api::all(client.clone()), &changes, tasks),
            schedules: Kind::watch(Api::all(client.clone()), &changes, tasks),
            secrets: Kind::watch(Api::namespaced(client.clone(), own), &changes, tasks),
            changes,
        })
    }

    /// Waits until all kinds have been listed once.
    pub(crate) async fn complete(&self) {
        tokio::join!(
            self.clusters.complete(),
            self.stores.complete(),
            self.pairs.complete(),
            self.migrations.complete(),
            self.plans.complete(),
            self.schedules.complete(),
            self.secrets.complete(),
        );
    }

    /// Is woken whenever something may have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Wakes everybody who waits for a change: something that is not a record has changed.
    pub(crate) fn touch(&self) {
        self.changes.send_modify(|generation| *generation = generation.wrapping_add(1));
    }

    /// A cluster.
    pub(crate) fn cluster(&self, name: &str) -> Option<Arc<Cluster>> {
        self.clusters.get(&self.namespace, name)
    }

    /// An object store.
    pub(crate) fn store(&self, name: &str) -> Option<Arc<ObjectStore>> {
        self.stores.get(&self.namespace, name)
    }

    /// A Secret of the hub's namespace.
    pub(crate) fn secret(&self, name: &str) -> Option<Arc<Secret>> {
        self.secrets.get(&self.namespace, name)
    }
}
