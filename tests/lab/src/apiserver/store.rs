//! The objects, in memory, under one lock and one counter.
//!
//! A write is a transaction: it reads what it needs, says what to put and delete, and all of it
//! becomes visible at once, each change with its own resource version. A refused write and a dry run
//! leave nothing behind. Every change goes into a bounded history, from which watches start in the
//! past and lists continue at the version of their first page.
//!
//! Watchers get changes through bounded queues. One that does not keep up is cut off and told to
//! start again, so that no slow reader holds memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::mpsc;

use super::error::{ApiError, ApiResult};
use super::registry::StorageId;

/// Changes kept for watches and paged lists that start in the past.
const HISTORY: usize = 50_000;
/// Changes that may wait for one watcher.
const WATCH_QUEUE: usize = 16_384;

/// Namespace (empty for cluster scope) and name.
pub type ObjectKey = (String, String);
type Table = BTreeMap<ObjectKey, Arc<Value>>;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It came.
    Added,
    /// It changed.
    Modified,
    /// It went.
    Deleted,
}

/// One change.
#[derive(Debug)]
pub struct Event {
    /// The version that the change made.
    pub version: u64,
    /// The table.
    pub storage: StorageId,
    /// The object's place.
    pub key: ObjectKey,
    /// What happened.
    pub change: Change,
    /// The object after the change; of a deletion, its last state at the deletion's version.
    pub object: Arc<Value>,
    /// The object before the change.
    pub before: Option<Arc<Value>>,
}

#[derive(Debug, Default)]
struct State {
    version: u64,
    tables: HashMap<StorageId, Table>,
    history: VecDeque<Arc<Event>>,
    /// The version of the newest change that history has lost.
    forgotten: u64,
    watchers: HashMap<StorageId, Vec<mpsc::Sender<Arc<Event>>>>,
}

/// The store.
#[derive(Debug, Default)]
pub struct Store {
    state: RwLock<State>,
}

/// The objects of one table at one version.
#[derive(Debug)]
pub struct Listing {
    /// The version at which this was so.
    pub version: u64,
    /// The objects in key order.
    pub objects: Vec<Arc<Value>>,
    /// The key to go on from and how many objects are left, if the page is full.
    pub more: Option<(ObjectKey, usize)>,
}

/// What part of a table to list.
#[derive(Debug, Default)]
pub struct Range<'a> {
    /// One namespace only.
    pub namespace: Option<&'a str>,
    /// Objects after this key only.
    pub after: Option<ObjectKey>,
    /// At most this many.
    pub limit: Option<usize>,
    /// As it was at this version.
    pub at: Option<u64>,
}

/// A watch on a table: what there is to begin with, and what comes.
#[derive(Debug)]
pub struct Subscription {
    /// The version at which the subscription began.
    pub version: u64,
    /// Objects that are there, or changes since the version asked for.
    pub backlog: Backlog,
    /// Changes from now on; closed when the watcher was too slow.
    pub changes: mpsc::Receiver<Arc<Event>>,
}

/// How a watch begins.
#[derive(Debug)]
pub enum Backlog {
    /// With the objects that are there.
    Objects(Vec<Arc<Value>>),
    /// With changes that have happened.
    Changes(Vec<Arc<Event>>),
}

impl Store {
    /// The newest version.
    pub fn version(&self) -> u64 {
        self.state.read().version
    }

    /// One object.
    pub fn get(&self, storage: &str, key: &ObjectKey) -> Option<Arc<Value>> {
        self.state.read().tables.get(storage)?.get(key).cloned()
    }

    /// Objects of a table that a filter keeps.
    pub fn list(
        &self,
        storage: &str,
        range: &Range<'_>,
        keep: impl Fn(&Value) -> bool,
    ) -> ApiResult<Listing> {
        let state = self.state.read();
        let empty = Table::new();
        let current = state.tables.get(storage).unwrap_or(&empty);
        let past;
        let (table, version) = match range.at.filter(|at| *at != state.version) {
            None => (current, state.version),
            Some(at) => {
                past = state.rewind(storage, current, at)?;
                (&past, at)
            }
        };
        let start = match (&range.after, range.namespace) {
            (Some(after), _) => std::ops::Bound::Excluded(after.clone()),
            (None, Some(namespace)) => std::ops::Bound::Included((namespace.to_owned(), String::new())),
            (None, None) => std::ops::Bound::Unbounded,
        };
        let mut listing = Listing { version, objects: Vec::new(), more: None };
        let mut last: Option<&ObjectKey> = None;
        for (key, object) in table.range((start, std::ops::Bound::Unbounded)) {
            if range.namespace.is_some_and(|namespace| key.0 != namespace) {
                break;
            }
            if !keep(object) {
                continue;
            }
            if range.limit.is_some_and(|limit| listing.objects.len() >= limit) {
                listing.more = match (listing.more, last) {
                    (Some((key, left)), _) => Some((key, left + 1)),
                    (None, Some(last)) => Some((last.clone(), 1)),
                    (None, None) => None,
                };
                continue;
            }
            listing.objects.push(Arc::clone(object));
            last = Some(key);
        }
        Ok(listing)
    }

    /// Starts a watch: with what is there, or with what happened after a version.
    pub fn watch(&self, storage: &StorageId, since: Option<u64>) -> ApiResult<Subscription> {
        let mut state = self.state.write();
        let backlog = match since {
            None => Backlog::Objects(
                state.tables.get(storage).map(|table| table.values().cloned().collect()).unwrap_or_default(),
            ),
            Some(since) if since < state.forgotten => {
                return Err(ApiError::expired(format!(
                    "too old resource version: {since} ({})",
                    state.forgotten
                )));
            }
            Some(since) => {
                let start = state.history.partition_point(|event| event.version <= since);
                let missed = state.history.range(start..).filter(|event| event.storage == *storage);
                Backlog::Changes(missed.cloned().collect())
            }
        };
        let (sender, changes) = mpsc::channel(WATCH_QUEUE);
        state.watchers.entry(Arc::clone(storage)).or_default().push(sender);
        Ok(Subscription { version: state.version, backlog, changes })
    }

    /// The version up to which a watcher has seen everything, if nothing waits in its queue.
    pub fn settled(&self, changes: &mpsc::Receiver<Arc<Event>>) -> Option<u64> {
        let state = self.state.read();
        changes.is_empty().then_some(state.version)
    }

    /// Forgets all changes: what began before now gets 410.
    pub fn compact(&self) {
        let mut state = self.state.write();
        state.history.clear();
        // Nothing lies between the newest version and this one, but lists that show it are too old too.
        state.version += 1;
        state.forgotten = state.version;
    }

    /// Ends the watches of a table that is served no more.
    pub fn end_watches(&self, storage: &str) {
        self.state.write().watchers.remove(storage);
    }

    /// Runs a transaction; what it says happens if it succeeds and is not a dry run.
    pub fn write<T>(
        &self,
        dry_run: bool,
        work: impl FnOnce(&mut Transaction<'_>) -> ApiResult<T>,
    ) -> ApiResult<T> {
        let mut state = self.state.write();
        let mut transaction = Transaction { state: &state, pending: Vec::new(), dry_run };
        let result = work(&mut transaction)?;
        let pending = transaction.pending;
        if !dry_run {
            for change in pending {
                state.commit(change);
            }
        }
        Ok(result)
    }
}

impl State {
    /// The table as it was at a version, by undoing what happened since.
    fn rewind(&self, storage: &str, current: &Table, at: u64) -> ApiResult<Table> {
        if at < self.forgotten {
            return Err(ApiError::expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.",
            ));
        }
        if at > self.version {
            return Err(ApiError::too_new_version(at, self.version));
        }
        let mut table = current.clone();
        let start = self.history.partition_point(|event| event.version <= at);
        for event in self.history.range(start..).rev().filter(|event| &*event.storage == storage) {
            match &event.before {
                Some(before) => table.insert(event.key.clone(), Arc::clone(before)),
                None => table.remove(&event.key),
            };
        }
        Ok(table)
    }

    fn commit(&mut self, event: Event) {
        self.version = event.version;
        let table = self.tables.entry(Arc::clone(&event.storage)).or_default();
        match event.change {
            Change::Deleted => table.remove(&event.key),
            Change::Added | Change::Modified => table.insert(event.key.clone(), Arc::clone(&event.object)),
        };
        let event = Arc::new(event);
        if let Some(watchers) = self.watchers.get_mut(&event.storage) {
            // A full queue closes: its watcher reads what is there and is then told to start again.
            watchers.retain(|watcher| watcher.try_send(Arc::clone(&event)).is_ok());
        }
        self.history.push_back(event);
        if self.history.len() > HISTORY
            && let Some(lost) = self.history.pop_front()
        {
            self.forgotten = lost.version;
        }
    }
}

/// A write in the making.
#[derive(Debug)]
pub struct Transaction<'a> {
    state: &'a State,
    pending: Vec<Event>,
    /// What is tried gets no version: it keeps the one that it has, and a new object has none.
    dry_run: bool,
}

impl Transaction<'_> {
    /// Whether this is tried and not done.
    pub fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// One object, as this transaction leaves it.
    pub fn get(&self, storage: &str, key: &ObjectKey) -> Option<Arc<Value>> {
        if let Some(event) = self.pending.iter().rev().find(|e| &*e.storage == storage && e.key == *key) {
            return (event.change != Change::Deleted).then(|| Arc::clone(&event.object));
        }
        self.state.tables.get(storage)?.get(key).cloned()
    }

    /// The objects of a table (of one namespace), as this transaction leaves them.
    pub fn list(&self, storage: &str, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let mut found: BTreeMap<&ObjectKey, &Arc<Value>> = BTreeMap::new();
        if let Some(table) = self.state.tables.get(storage) {
            match namespace {
                None => found.extend(table),
                Some(namespace) => found.extend(
                    table
                        .range((namespace.to_owned(), String::new())..)
                        .take_while(|(key, _)| key.0 == namespace),
                ),
            }
        }
        for event in self.pending.iter().filter(|e| &*e.storage == storage) {
            if namespace.is_some_and(|namespace| event.key.0 != namespace) {
                continue;
            }
            match event.change {
                Change::Deleted => found.remove(&event.key),
                Change::Added | Change::Modified => found.insert(&event.key, &event.object),
            };
        }
        found.into_values().cloned().collect()
    }

    fn next_version(&self) -> u64 {
        self.pending.last().map_or(self.state.version, |event| event.version) + 1
    }

    fn stamp(&self, object: &mut Value, version: u64, before: Option<&Value>) {
        const PATH: [&str; 2] = ["metadata", "resourceVersion"];
        let kept = before.map(|b| super::json::text(b, &PATH)).filter(|v| !v.is_empty());
        match (self.dry_run, kept) {
            (false, _) => super::json::set(object, &PATH, version.to_string()),
            (true, Some(kept)) => super::json::set(object, &PATH, kept),
            (true, None) => {
                super::json::remove(object, &PATH);
            }
        }
    }

    /// Puts an object, with its new resource version, and returns it as stored.
    pub fn put(&mut self, storage: &StorageId, key: ObjectKey, mut object: Value) -> Arc<Value> {
        let version = self.next_version();
        let before = self.get(storage, &key);
        self.stamp(&mut object, version, before.as_deref());
        let change = if before.is_some() { Change::Modified } else { Change::Added };
        let object = Arc::new(object);
        self.pending.push(Event {
            version,
            storage: Arc::clone(storage),
            key,
            change,
            object: Arc::clone(&object),
            before,
        });
        object
    }

    /// Deletes an object and returns its last state.
    pub fn delete(&mut self, storage: &StorageId, key: ObjectKey) -> Option<Arc<Value>> {
        let before = self.get(storage, &key)?;
        let version = self.next_version();
        let mut object = Value::clone(&before);
        self.stamp(&mut object, version, Some(&before));
        let object = Arc::new(object);
        self.pending.push(Event {
            version,
            storage: Arc::clone(storage),
            key,
            change: Change::Deleted,
            object: Arc::clone(&object),
            before: Some(before),
        });
        Some(object)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(name: &str) -> ObjectKey {
        ("ns".to_owned(), name.to_owned())
    }

    fn put(store: &Store, name: &str, data: i64) -> u64 {
        let storage: StorageId = "/things".into();
        store
            .write(false, |t| {
                t.put(&storage, key(name), json!({"metadata": {"name": name}, "data": data}));
                Ok(())
            })
            .unwrap();
        store.version()
    }

    #[test]
    fn a_list_at_an_older_version_shows_what_was_there_then() {
        let store = Store::default();
        put(&store, "a", 1);
        let then = put(&store, "b", 1);
        put(&store, "a", 2);
        put(&store, "c", 1);
        let range = Range { at: Some(then), ..Range::default() };
        let names: Vec<_> = store
            .list("/things", &range, |_| true)
            .unwrap()
            .objects
            .iter()
            .map(|o| o["data"].clone())
            .collect();
        assert_eq!(names, [json!(1), json!(1)]);
    }

    #[test]
    fn a_dry_run_and_a_refusal_leave_nothing_behind() {
        let store = Store::default();
        let storage: StorageId = "/things".into();
        store.write(true, |t| Ok(t.put(&storage, key("a"), json!({})))).unwrap();
        let refused: ApiResult<()> = store.write(false, |t| {
            t.put(&storage, key("a"), json!({}));
            Err(ApiError::method_not_allowed())
        });
        assert!(refused.is_err());
        assert_eq!(store.version(), 0);
        assert!(store.get("/things", &key("a")).is_none());
    }

    #[test]
    fn a_watcher_that_does_not_keep_up_is_cut_off() {
        let store = Store::default();
        let storage: StorageId = "/things".into();
        let mut slow = store.watch(&storage, None).unwrap();
        for i in 0..=WATCH_QUEUE {
            put(&store, "a", i64::try_from(i).unwrap());
        }
        let mut seen = 0;
        while slow.changes.try_recv().is_ok() {
            seen += 1;
        }
        assert_eq!(seen, WATCH_QUEUE);
        assert!(slow.changes.is_closed());
    }

    #[test]
    fn a_watch_from_before_the_history_is_refused() {
        let store = Store::default();
        for i in 0..=HISTORY {
            put(&store, "a", i64::try_from(i).unwrap());
        }
        let error = store.watch(&"/things".into(), Some(0)).unwrap_err();
        assert_eq!(error.code(), 410);
    }
}
