//! How many migrations run at a time, on a cluster and through a store, and whose turn it is.
//!
//! Everybody waits in the order of creation: a migration begins when there is room beside those that
//! are under way *and* those that wait for the same room and are older. So nobody is overtaken for
//! ever, at the price that room on one cluster may stay empty for a while for one that waits for the
//! other. What goes back (a rollback) waits for no room.
//!
//! [`Room`] only counts: it is told of every change of a migration, and it may be wrong for a moment
//! where the watch is behind a write of ours, on the side of too many.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use isthmus_shared::resources::{Migration, MigrationPhase};
use jiff::Timestamp;
use kube::ResourceExt as _;

/// How many migrations run at a time from or to one cluster, unless it is set otherwise.
pub(crate) const RUNS_PER_CLUSTER: u32 = 32;
/// How many run at a time through one object store, unless it is set otherwise.
pub(crate) const RUNS_PER_STORE: u32 = 256;
/// How many of those that wait are looked at when a run ends; the others are in the next round.
const WAKE: usize = 32;

/// The limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub per_cluster: u32,
    pub per_store: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_cluster: RUNS_PER_CLUSTER, per_store: RUNS_PER_STORE }
    }
}

/// What a migration needs room on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// The `Cluster`s that it goes between.
    pub clusters: [String; 2],
    /// The `ObjectStore` that it is staged in.
    pub store: String,
    /// The uids of all pairs that are staged there.
    pub pairs: Vec<String>,
}

/// Its place in the order: when it was created, then its uid.
type Turn = (Timestamp, String);

struct Waiting {
    need: Need,
    namespace: String,
    name: String,
}

/// Where a run is under way.
struct Place {
    clusters: [String; 2],
    pair: String,
}

#[derive(Default)]
struct Inner {
    runs: HashMap<String, Place>,
    by_cluster: HashMap<String, HashSet<String>>,
    by_pair: HashMap<String, HashSet<String>>,
    waiting: BTreeMap<Turn, Waiting>,
}

/// Who is under way where, and who waits.
pub(crate) struct Room {
    limits: Limits,
    inner: Mutex<Inner>,
}

impl Room {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, inner: Mutex::default() }
    }

    /// Takes in how a migration stands. Gives the namespaces and names of those that may begin now
    /// that it has ended.
    pub(crate) fn is(&self, migration: &Migration) -> Vec<(String, String)> {
        let (Some(uid), Some(status)) = (migration.uid(), &migration.status) else { return Vec::new() };
        let mut inner = self.lock();
        match status.status {
            MigrationPhase::InProgress => {
                inner.waiting.remove(&turn(migration));
                let text = |name: &Option<String>| name.clone().unwrap_or_default();
                let clusters = [text(&status.source), text(&status.destination)];
                inner.enter(&uid, Place { clusters, pair: text(&status.pair_uid) });
                Vec::new()
            }
            // What comes late from before it began says nothing new.
            MigrationPhase::Pending => Vec::new(),
            _ => {
                inner.waiting.remove(&turn(migration));
                inner.leave(&uid)
            }
        }
    }

    /// A migration is gone; gives the same.
    pub(crate) fn gone(&self, migration: &Migration) -> Vec<(String, String)> {
        let mut inner = self.lock();
        inner.waiting.remove(&turn(migration));
        migration.uid().map_or_else(Vec::new, |uid| inner.leave(&uid))
    }

    /// These are all migrations that there are.
    pub(crate) fn anew<'a>(&self, all: impl Iterator<Item = &'a Migration> + Clone) {
        let mut inner = self.lock();
        let turns: HashSet<Turn> = all.clone().map(turn).collect();
        let mut waiting = std::mem::take(&mut inner.waiting);
        waiting.retain(|turn, _| turns.contains(turn));
        *inner = Inner { waiting, ..Inner::default() };
        drop(inner);
        for migration in all {
            self.is(migration);
        }
    }

    /// The uids of the migrations that are under way from or to a cluster.
    pub(crate) fn on_cluster(&self, cluster: &str) -> Vec<String> {
        self.lock().by_cluster.get(cluster).into_iter().flatten().cloned().collect()
    }

    /// What a migration that has not begun has no room on, in words; nothing if it may begin.
    pub(crate) fn lacks(&self, migration: &Migration, need: &Need) -> Option<String> {
        let inner = self.lock();
        let turn = turn(migration);
        let older = || inner.waiting.range(..&turn).map(|(_, waiting)| &waiting.need);
        let has_room = |runs: usize, limit: u32, wants: &dyn Fn(&Need) -> bool| {
            let limit = limit as usize;
            let left = limit.saturating_sub(runs);
            left > 0 && older().filter(|need| wants(need)).take(left).count() < left
        };
        for cluster in &need.clusters {
            let runs = inner.by_cluster.get(cluster).map_or(0, HashSet::len);
            let limit = self.limits.per_cluster;
            if !has_room(runs, limit, &|other| other.clusters.contains(cluster)) {
                return Some(format!(
                    "cluster {cluster}, where at most {limit} migrations run at a time (--max-runs-per-cluster of the hub)"
                ));
            }
        }
        let runs = need.pairs.iter().map(|pair| inner.by_pair.get(pair).map_or(0, HashSet::len)).sum();
        let limit = self.limits.per_store;
        (!has_room(runs, limit, &|other| other.store == need.store)).then(|| {
            format!(
                "object store {}, through which at most {limit} migrations run at a time (--max-runs-per-store of the hub)",
                need.store
            )
        })
    }

    /// A migration waits for room from now on, or still.
    pub(crate) fn wait(&self, migration: &Migration, need: Need) {
        let (namespace, name) = (migration.namespace().unwrap_or_default(), migration.name_any());
        self.lock().waiting.insert(turn(migration), Waiting { need, namespace, name });
    }

    /// A migration does not wait for room.
    pub(crate) fn waits_not(&self, migration: &Migration) {
        self.lock().waiting.remove(&turn(migration));
    }

    /// Only counters and names are kept, which no panic leaves half done for long.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn enter(&mut self, uid: &str, place: Place) {
        if self.runs.contains_key(uid) {
            return;
        }
        for cluster in &place.clusters {
            self.by_cluster.entry(cluster.clone()).or_default().insert(uid.to_owned());
        }
        self.by_pair.entry(place.pair.clone()).or_default().insert(uid.to_owned());
        self.runs.insert(uid.to_owned(), place);
    }

    fn leave(&mut self, uid: &str) -> Vec<(String, String)> {
        let Some(place) = self.runs.remove(uid) else { return Vec::new() };
        for cluster in &place.clusters {
            remove(&mut self.by_cluster, cluster, uid);
        }
        remove(&mut self.by_pair, &place.pair, uid);
        let concerned = |need: &Need| {
            need.clusters.iter().any(|cluster| place.clusters.contains(cluster))
                || need.pairs.contains(&place.pair)
        };
        let woken = self.waiting.values().filter(|waiting| concerned(&waiting.need)).take(WAKE);
        woken.map(|waiting| (waiting.namespace.clone(), waiting.name.clone())).collect()
    }
}

fn remove(sets: &mut HashMap<String, HashSet<String>>, key: &str, uid: &str) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(uid);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}

fn turn(migration: &Migration) -> Turn {
    let created = migration.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |at| at.0);
    (created, migration.uid().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use isthmus_shared::resources::{MigrationSpec, MigrationStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn migration(uid: &str, second: i64, phase: MigrationPhase, ends: [&str; 2]) -> Migration {
        let mut migration = Migration::new(uid, MigrationSpec::through("p"));
        migration.metadata.namespace = Some("isthmus".into());
        migration.metadata.uid = Some(uid.into());
        migration.metadata.creation_timestamp =
            Some(Time(Timestamp::from_second(1_800_000_000 + second).unwrap()));
        migration.status = Some(MigrationStatus {
            status: phase,
            source: Some(ends[0].into()),
            destination: Some(ends[1].into()),
            pair_uid: Some(format!("{}-{}", ends[0], ends[1])),
            ..MigrationStatus::default()
        });
        migration
    }

    fn need(ends: [&str; 2]) -> Need {
        let pairs = vec!["east-west".into(), "north-south".into()];
        Need { clusters: ends.map(str::to_owned), store: "s3".into(), pairs }
    }

    fn room(per_cluster: u32, per_store: u32) -> Room {
        Room::new(Limits { per_cluster, per_store })
    }

    const EW: [&str; 2] = ["east", "west"];
    const NS: [&str; 2] = ["north", "south"];

    #[test]
    fn as_many_run_on_a_cluster_as_the_limit_says() {
        let room = room(1, 9);
        let running = |uid, ends| migration(uid, 0, MigrationPhase::InProgress, ends);
        let next = migration("next", 9, MigrationPhase::Pending, EW);
        assert_eq!(room.lacks(&next, &need(EW)), None);
        room.is(&running("a", EW));
        assert!(room.lacks(&next, &need(EW)).unwrap().starts_with("cluster east, where at most 1 "));
        assert!(room.lacks(&next, &need(["north", "west"])).unwrap().starts_with("cluster west,"));
        assert_eq!(room.lacks(&next, &need(NS)), None);
        assert_eq!(room.on_cluster("west"), ["a"]);
        room.is(&migration("a", 0, MigrationPhase::Succeeded, EW));
        assert_eq!(room.lacks(&next, &need(EW)), None);
        assert!(room.on_cluster("west").is_empty());
    }

    #[test]
    fn as_many_run_through_a_store_as_the_limit_says_whatever_their_pair() {
        let room = room(9, 2);
        room.is(&migration("a", 0, MigrationPhase::InProgress, EW));
        let next = migration("next", 9, MigrationPhase::Pending, NS);
        assert_eq!(room.lacks(&next, &need(NS)), None);
        room.is(&migration("b", 0, MigrationPhase::InProgress, NS));
        let lacks = room.lacks(&next, &need(["up", "down"])).unwrap();
        assert!(lacks.starts_with("object store s3, through which at most 2 "), "{lacks}");
        room.gone(&migration("a", 0, MigrationPhase::InProgress, EW));
        assert_eq!(room.lacks(&next, &need(["up", "down"])), None);
    }

    #[test]
    fn the_older_of_two_that_wait_begins_first() {
        let room = room(1, 9);
        room.is(&migration("a", 0, MigrationPhase::InProgress, EW));
        let [older, younger] = [1, 2].map(|n| migration(&format!("m{n}"), n, MigrationPhase::Pending, EW));
        room.wait(&younger, need(EW));
        room.wait(&older, need(EW));
        let woken = room.is(&migration("a", 0, MigrationPhase::Failed, EW));
        assert_eq!(woken.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["m1", "m2"]);
        assert!(room.lacks(&younger, &need(EW)).is_some(), "the older comes first");
        assert_eq!(room.lacks(&older, &need(EW)), None);
        room.is(&migration("m1", 1, MigrationPhase::InProgress, EW));
        assert!(room.lacks(&younger, &need(EW)).is_some(), "now it runs");
        room.gone(&migration("m1", 1, MigrationPhase::InProgress, EW));
        assert_eq!(room.lacks(&younger, &need(EW)), None);
    }

    #[test]
    fn whoever_does_not_wait_any_more_is_in_nobodys_way() {
        let room = room(1, 9);
        let [older, younger] = [1, 2].map(|n| migration(&format!("m{n}"), n, MigrationPhase::Pending, EW));
        room.wait(&older, need(EW));
        assert!(room.lacks(&younger, &need(EW)).is_some());
        room.waits_not(&older);
        assert_eq!(room.lacks(&younger, &need(EW)), None);
        room.wait(&older, need(EW));
        room.gone(&older);
        assert_eq!(room.lacks(&younger, &need(EW)), None);
    }

    #[test]
    fn what_comes_late_of_a_run_changes_nothing_and_a_list_counts_anew() {
        let room = room(1, 9);
        let next = migration("next", 9, MigrationPhase::Pending, EW);
        room.is(&migration("a", 0, MigrationPhase::InProgress, EW));
        room.is(&migration("a", 0, MigrationPhase::InProgress, EW));
        room.is(&migration("a", 0, MigrationPhase::Pending, EW));
        assert!(room.lacks(&next, &need(EW)).is_some());
        room.wait(&next, need(EW));
        room.anew([].into_iter());
        assert_eq!(room.lacks(&next, &need(EW)), None);
        room.anew([migration("b", 0, MigrationPhase::InProgress, EW)].iter());
        assert!(room.lacks(&next, &need(EW)).is_some());
    }
}
