//! The records: what the API server holds, watched into memory, and the one way to write it.
//!
//! ```text
//!   watch ──▶ Kind ──▶ bells     the polls of the clusters that a change concerns; the controllers
//!   writer ──▶ │  └──▶ dirty     names for the controllers to look at first
//!              └─────▶ room      which migrations are under way where
//! ```
//!
//! [`Kind`] is the newest that this hub knows of each object of a kind: what the watch brought,
//! or what this hub's own write was answered with, whichever is newer. So nobody here ever reads
//! a state from before its own write.
//!
//! [`Writer`] writes statuses: only during the hub's term, always with the `resourceVersion`
//! that the decision was made on; on a conflict it reads again and has the decision made again.

mod bells;
mod concerns;
mod dirty;
mod kind;
mod writer;

pub(crate) use bells::Listener;
pub(crate) use concerns::JOIN_TOKEN;
pub(crate) use dirty::Following;
pub(crate) use kind::{Kind, Record};
pub(crate) use writer::{WriteError, Writer};

use std::sync::Arc;

use isthmus_shared::resources::{
    Cluster, ClusterPair, Migration, MigrationPlan, MigrationSchedule, ObjectStore, Rule,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinSet;

use bells::{Bells, Whom};
use dirty::Dirty;
use kind::{Change, Follow};

use crate::room::{Limits, Room};

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
    /// The rules, of all namespaces.
    pub rules: Kind<Rule>,
    /// The Secrets of the hub's namespace.
    pub secrets: Kind<Secret>,
    /// Which migrations are under way where, and which wait for room.
    pub room: Arc<Room>,
    bells: Arc<Bells>,
}

impl Records {
    /// Begins to watch; the watches end when the set of tasks is dropped.
    pub(crate) fn watch(
        client: &Client,
        namespace: &str,
        limits: Limits,
        tasks: &mut JoinSet<()>,
    ) -> Arc<Self> {
        let bells = Arc::new(Bells::default());
        let room = Arc::new(Room::new(limits));
        let dirty = Dirty::default();
        let follow = runs(&bells, &room, &dirty);
        let migrations = Kind::watch(Api::all(client.clone()), &bells, dirty, follow, tasks);
        let mut watched = Watched { client, namespace, bells: &bells, tasks };
        Arc::new(Self {
            namespace: namespace.to_owned(),
            clusters: watched.own(concerns::of_cluster),
            // A store is reached, or is not, by whatever goes through it.
            stores: watched.own(|_| Whom::All),
            pairs: watched.all(concerns::of_pair),
            migrations,
            plans: watched.all(concerns::of_plan),
            // A schedule makes migrations, and those make tasks.
            schedules: watched.all(|_| Whom::nobody()),
            // What a rule says is in a run's hooks once it has begun.
            rules: watched.all(|_| Whom::nobody()),
            secrets: watched.own(concerns::of_secret),
            room,
            bells,
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
            self.rules.complete(),
            self.secrets.complete(),
        );
    }

    /// Is woken whenever something may have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.bells.any()
    }

    /// Is woken whenever what a cluster's spoke is to do may have changed.
    pub(crate) fn listen(&self, cluster: &str) -> Listener {
        self.bells.listen(cluster)
    }

    /// Wakes everybody but polls: something has changed that is not a record, and that no task
    /// depends on.
    pub(crate) fn touch(&self) {
        self.bells.touch();
    }

    /// The migrations that are under way from or to a cluster.
    pub(crate) fn under_way(&self, cluster: &str) -> Vec<Arc<Migration>> {
        let uids = self.room.on_cluster(cluster);
        uids.iter().filter_map(|uid| self.migrations.by_uid(uid)).collect()
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

/// How kinds are watched whose changes only ring bells.
struct Watched<'a> {
    client: &'a Client,
    namespace: &'a str,
    bells: &'a Arc<Bells>,
    tasks: &'a mut JoinSet<()>,
}

impl Watched<'_> {
    /// The objects of the hub's own namespace.
    fn own<K: Record>(&mut self, whom: fn(&Change<'_, K>) -> Whom) -> Kind<K> {
        self.kind(Api::namespaced(self.client.clone(), self.namespace), whom)
    }

    /// The objects of all namespaces.
    fn all<K: Record>(&mut self, whom: fn(&Change<'_, K>) -> Whom) -> Kind<K> {
        self.kind(Api::all(self.client.clone()), whom)
    }

    fn kind<K: Record>(&mut self, api: Api<K>, whom: fn(&Change<'_, K>) -> Whom) -> Kind<K> {
        let bells = Arc::clone(self.bells);
        let follow: Follow<K> = Box::new(move |change| bells.ring(&whom(change)));
        Kind::watch(api, self.bells, Dirty::default(), follow, self.tasks)
    }
}

/// What follows from a change of a migration: its place is taken or left, those that waited for it are
/// looked at, and its clusters' polls are woken.
fn runs(bells: &Arc<Bells>, room: &Arc<Room>, dirty: &Dirty) -> Follow<Migration> {
    let (bells, room, dirty) = (Arc::clone(bells), Arc::clone(room), dirty.clone());
    Box::new(move |change| {
        let woken = match change {
            Change::Is { now, .. } => room.is(now),
            Change::Gone(migration) => room.gone(migration),
            Change::Anew(all) => {
                room.anew(all.iter().map(AsRef::as_ref));
                Vec::new()
            }
        };
        for (namespace, name) in woken {
            dirty.put(&namespace, &name);
        }
        bells.ring(&concerns::of_migration(change));
    })
}
