//! The newest that this hub knows of the objects of one kind, and what follows from each change.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch_api};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::bells::Bells;
use super::dirty::Dirty;
use crate::causes::chain;
use crate::clients::WATCH_SECONDS;

/// Objects to a page when a kind is listed.
const PAGE: u32 = 500;

/// What an object must be to be held here.
pub(crate) trait Record:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
}

impl<K> Record for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync
        + 'static
{
}

/// What became of the objects of a kind.
pub(crate) enum Change<'a, K> {
    /// An object is so now, and was so before, as far as known.
    Is { before: Option<&'a K>, now: &'a K },
    /// An object is gone.
    Gone(&'a K),
    /// All were listed anew, and these are all that there are.
    Anew(&'a [Arc<K>]),
}

/// What is to be done at each change besides keeping the object. It is called one change after the
/// other, when the object can be read already, and must not read the kind itself.
pub(super) type Follow<K> = Box<dyn Fn(&Change<'_, K>) + Send + Sync>;

/// The objects of one kind.
pub(crate) struct Kind<K: Record>(Arc<Inner<K>>);

struct Inner<K: Record> {
    watched: Store<K>,
    side: Mutex<Side<K>>,
    follow: Follow<K>,
    bells: Arc<Bells>,
    dirty: Dirty,
}

/// What is kept beside what the watch has brought.
struct Side<K: Record> {
    /// Answers to our own writes that the watch has not brought yet, by uid.
    written: HashMap<String, Arc<K>>,
    by_uid: HashMap<String, ObjectRef<K>>,
}

impl<K: Record> Side<K> {
    fn newest(&self, watched: Arc<K>) -> Arc<K> {
        let ours = watched.meta().uid.as_ref().and_then(|uid| self.written.get(uid));
        match ours {
            Some(ours) if version(&**ours) > version(&*watched) => Arc::clone(ours),
            _ => watched,
        }
    }
}

impl<K: Record> Kind<K> {
    /// Begins to watch. `dirty` gathers the names of what changes.
    pub(super) fn watch(
        api: Api<K>,
        bells: &Arc<Bells>,
        dirty: Dirty,
        follow: Follow<K>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let (watched, mut writer) = store::<K>();
        let side = Mutex::new(Side { written: HashMap::new(), by_uid: HashMap::new() });
        let inner = Arc::new(Inner { watched, side, follow, bells: Arc::clone(bells), dirty });
        let kind = Self(Arc::clone(&inner));
        let name = K::kind(&());
        tasks.spawn(async move {
            let config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
            let events = watch_api(api, config).default_backoff().modify(|object| {
                object.managed_fields_mut().clear();
            });
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => inner.take(&mut writer, &event),
                    Err(error) => {
                        tracing::warn!(kind = %name, error = %chain(&error), "watching failed; trying again");
                    }
                }
            }
        });
        kind
    }

    /// Waits until the kind has been listed once.
    pub(super) async fn complete(&self) {
        // The writer lives as long as the watch; if that is gone, the hub is ending.
        if self.0.watched.wait_until_ready().await.is_err() {
            tracing::debug!(kind = %K::kind(&()), "the watch ended before its first list");
        }
    }

    /// The object of that name.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let object = self.0.watched.get(&ObjectRef::new(name).within(namespace))?;
        Some(self.0.side().newest(object))
    }

    /// The object of that uid.
    pub(crate) fn by_uid(&self, uid: &str) -> Option<Arc<K>> {
        let side = self.0.side();
        let object = self.0.watched.get(side.by_uid.get(uid)?)?;
        (object.meta().uid.as_deref() == Some(uid)).then(|| side.newest(object))
    }

    /// All objects.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        let objects = self.0.watched.state();
        let side = self.0.side();
        objects.into_iter().map(|object| side.newest(object)).collect()
    }

    /// What the watch feeds, for the controllers' queue.
    pub(crate) fn watched(&self) -> Store<K> {
        self.0.watched.clone()
    }

    /// Where the names of what changes are gathered.
    pub(crate) fn dirty(&self) -> &Dirty {
        &self.0.dirty
    }

    /// Takes in what a read or a write of ours was answered with.
    pub(crate) fn remember(&self, mut object: K) -> Arc<K> {
        object.managed_fields_mut().clear();
        let object = Arc::new(object);
        self.0.remember(&object);
        object
    }
}

impl<K: Record> Inner<K> {
    /// A panic while it was held leaves at most an answer of ours out, which the watch brings too.
    fn side(&self) -> MutexGuard<'_, Side<K>> {
        self.side.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the watch has brought.
    fn take(&self, writer: &mut Writer<K>, event: &Event<K>) {
        let mut side = self.side();
        let before = match event {
            Event::Apply(object) => self.watched.get(&reference(object)).map(|watched| side.newest(watched)),
            _ => None,
        };
        writer.apply_watcher_event(event);
        match event {
            Event::Apply(object) => self.applied(&mut side, before.as_deref(), object),
            Event::Delete(object) => self.gone(&mut side, object),
            Event::InitDone => self.listed(&mut side),
            // Nothing of a list counts before all of it is there.
            Event::Init | Event::InitApply(_) => return,
        }
        drop(side);
        self.bells.touch();
    }

    fn applied(&self, side: &mut Side<K>, before: Option<&K>, object: &K) {
        let Some(uid) = object.uid() else { return };
        let same = before.filter(|before| before.uid().as_ref() == Some(&uid));
        if let Some(other) = before.filter(|_| same.is_none()) {
            // It was deleted, and another made under its name.
            self.gone(side, other);
        }
        side.by_uid.insert(uid.clone(), reference(object));
        if let Some(ours) = side.written.get(&uid) {
            if version(&**ours) > version(object) {
                // What we have written since was told when we did.
                return;
            }
            side.written.remove(&uid);
        }
        (self.follow)(&Change::Is { before: same, now: object });
        self.mark(object);
    }

    fn gone(&self, side: &mut Side<K>, object: &K) {
        if let Some(uid) = object.uid() {
            side.written.remove(&uid);
            side.by_uid.remove(&uid);
        }
        (self.follow)(&Change::Gone(object));
        self.mark(object);
    }

    fn listed(&self, side: &mut Side<K>) {
        side.written.retain(|uid, ours| {
            let object = self.watched.get(&reference(&**ours));
            object.is_some_and(|object| {
                object.uid().as_ref() == Some(uid) && version(&*object) < version(&**ours)
            })
        });
        let all: Vec<Arc<K>> = self.watched.state().into_iter().map(|object| side.newest(object)).collect();
        side.by_uid = all.iter().filter_map(|object| Some((object.uid()?, reference(&**object)))).collect();
        (self.follow)(&Change::Anew(&all));
        for object in &all {
            self.mark(&**object);
        }
    }

    fn remember(&self, object: &Arc<K>) {
        let mut side = self.side();
        // An object that the watch does not hold is gone or not yet seen: either way it will say.
        let known = self.watched.get(&reference(&**object)).map(|watched| side.newest(watched));
        if let Some(known) = known
            && let Some(uid) = object.uid()
            && known.uid().as_ref() == Some(&uid)
            && version(&*known) < version(&**object)
        {
            side.written.insert(uid, Arc::clone(object));
            (self.follow)(&Change::Is { before: Some(&*known), now: &**object });
            self.mark(&**object);
        }
        drop(side);
        self.bells.touch();
    }

    fn mark(&self, object: &K) {
        let meta = object.meta();
        if let (Some(namespace), Some(name)) = (&meta.namespace, &meta.name) {
            self.dirty.put(namespace, name);
        }
    }
}

/// A reference without what else is known of the object, which would be kept for each.
fn reference<K: Record>(object: &K) -> ObjectRef<K> {
    ObjectRef::new(&object.name_any()).within(&object.namespace().unwrap_or_default())
}

/// Resource versions are compared as the numbers that they are on every API server whose storage
/// is etcd; where they are not, none is newer and the watch alone counts.
fn version<K: Record>(object: &K) -> u128 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}
