//! The newest that this hub knows of the objects of one kind.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch_api};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

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

/// The objects of one kind.
pub(crate) struct Kind<K: Record> {
    watched: Store<K>,
    /// Answers to our own writes that the watch has not brought yet, by uid.
    written: Arc<Mutex<HashMap<String, Arc<K>>>>,
    changes: watch::Sender<u64>,
}

impl<K: Record> Kind<K> {
    /// Begins to watch.
    pub(super) fn watch(api: Api<K>, changes: &watch::Sender<u64>, tasks: &mut JoinSet<()>) -> Self {
        let (watched, mut writer) = store::<K>();
        let written: Arc<Mutex<HashMap<String, Arc<K>>>> = Arc::default();
        let kind = Self { watched, written: Arc::clone(&written), changes: changes.clone() };
        let changes = changes.clone();
        let reader = writer.as_reader();
        let name = K::kind(&());
        tasks.spawn(async move {
            let config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
            let events = watch_api(api, config).default_backoff().modify(|object| {
                object.managed_fields_mut().clear();
            });
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        writer.apply_watcher_event(&event);
                        forget(&written, &event, &reader);
                        if !matches!(event, Event::Init | Event::InitApply(_)) {
                            changes.send_modify(|generation| *generation = generation.wrapping_add(1));
                        }
                    }
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
        if self.watched.wait_until_ready().await.is_err() {
            tracing::debug!(kind = %K::kind(&()), "the watch ended before its first list");
        }
    }

    /// The object of that name.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let object = self.watched.get(&ObjectRef::new(name).within(namespace))?;
        Some(self.newest(object))
    }

    /// The object of that uid.
    pub(crate) fn by_uid(&self, uid: &str) -> Option<Arc<K>> {
        self.watched
            .find(|object| object.meta().uid.as_deref() == Some(uid))
            .map(|object| self.newest(object))
    }

    /// All objects.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.watched.state().into_iter().map(|object| self.newest(object)).collect()
    }

    /// What the watch feeds, for the controllers' queue.
    pub(crate) fn watched(&self) -> Store<K> {
        self.watched.clone()
    }

    /// Takes in what a read or a write of ours was answered with.
    pub(crate) fn remember(&self, object: K) -> Arc<K> {
        let object = Arc::new(object);
        let (Some(uid), Some(namespace)) = (object.uid(), object.namespace()) else { return object };
        // An object that the watch does not hold is gone or not yet seen: either way it will say.
        let watched = self.watched.get(&ObjectRef::new(&object.name_any()).within(&namespace));
        if watched.is_some_and(|watched| {
            watched.uid().as_ref() == Some(&uid) && version(&*watched) < version(&*object)
        }) && let Ok(mut written) = self.written.lock()
        {
            let newest = written.get(&uid).is_none_or(|known| version(&**known) < version(&*object));
            if newest {
                written.insert(uid, Arc::clone(&object));
            }
        }
        self.changes.send_modify(|generation| *generation = generation.wrapping_add(1));
        object
    }

    fn newest(&self, watched: Arc<K>) -> Arc<K> {
        let Ok(written) = self.written.lock() else { return watched };
        let ours = watched.meta().uid.as_ref().and_then(|uid| written.get(uid));
        match ours {
            Some(ours) if version(&**ours) > version(&*watched) => Arc::clone(ours),
            _ => watched,
        }
    }
}

/// Drops answers of ours that the watch has caught up with.
fn forget<K: Record>(written: &Mutex<HashMap<String, Arc<K>>>, event: &Event<K>, watched: &Store<K>) {
    let Ok(mut written) = written.lock() else { return };
    match event {
        Event::Apply(object) => {
            let Some(uid) = object.uid() else { return };
            if written.get(&uid).is_some_and(|ours| version(&**ours) <= version(object)) {
                written.remove(&uid);
            }
        }
        Event::Delete(object) => {
            if let Some(uid) = object.uid() {
                written.remove(&uid);
            }
        }
        Event::InitDone => written.retain(|uid, ours| {
            let object = watched.get(&ObjectRef::from_obj(&**ours));
            object.is_some_and(|object| {
                object.uid().as_ref() == Some(uid) && version(&*object) < version(&**ours)
            })
        }),
        Event::Init | Event::InitApply(_) => {}
    }
}

/// Resource versions are compared as the numbers that they are on every API server whose storage
/// is etcd; where they are not, none is newer and the watch alone counts.
fn version<K: Record>(object: &K) -> u128 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}
