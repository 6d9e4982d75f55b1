//! What the destination has, learnt by listing and not object by object.
//!
//! The first object of a kind in a namespace makes that kind be listed there, page by page, so
//! what is known is as fresh as it can be. Kept are small facts of every name, and the content of
//! objects that are compared, compressed, within [`MAX_CONTENT`]; what goes beyond is read singly
//! when it is needed.
//!
//! How stale it may be: an object may appear, change or go between the listing and the write.
//! That is why no write relies on it blindly - a creation is a POST, which never overwrites; a
//! replacement and a merge carry the resource version; a deletion carries the uid - and why an
//! object whose write was refused is read anew ([`LiveIndex::distrust`]). Left open is this: a
//! server-side apply over an object of ours that was replaced meanwhile by somebody else's of the
//! same name would take that over. It is sent with the uid, which the server refuses then.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::OnceCell;

use super::decision::{Facts, Subject};
use super::ownership;
use crate::cluster::{Cluster, ClusterError, Kind, name};

/// Names of one kind in one namespace that are kept; objects beyond are read singly.
const MAX_NAMES: usize = 100_000;
/// Bytes of compressed content that are kept in all.
const MAX_CONTENT: usize = 32 * 1024 * 1024;
/// Objects are small and many: speed counts more than size.
const LEVEL: i32 = 1;

/// What there is of one name.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// An object that is not ours and whose content does not matter, as little of it as is known.
    Facts {
        /// Whether it is being deleted.
        deleting: bool,
    },
    /// An object.
    Object(Box<Value>),
}

#[derive(Debug)]
enum Known {
    /// Not ours; being deleted or not.
    Foreign { deleting: bool },
    /// The object, compressed.
    Content { packed: Box<[u8]>, size: usize },
    /// There, and to be read singly.
    Unread,
}

#[derive(Debug)]
struct Place {
    names: HashMap<Box<str>, Known>,
    /// Whether there are names beyond.
    cut: bool,
}

/// What the destination has, as far as the run came across it.
#[derive(Debug, Default)]
pub struct LiveIndex {
    places: Mutex<HashMap<String, Arc<OnceCell<Place>>>>,
    distrusted: Mutex<HashSet<String>>,
    content: AtomicUsize,
}

impl LiveIndex {
    /// What there is of a name; `content` asks for the object also where it is not ours, of all
    /// objects of its place or of none.
    pub async fn find(
        &self,
        cluster: &Cluster,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        content: bool,
    ) -> Result<Found, ClusterError> {
        let path = kind.object(namespace, name);
        if self.distrusted.lock().unwrap_or_else(PoisonError::into_inner).contains(&path) || !kind.can("list")
        {
            return read(cluster, &path).await;
        }
        let collection = kind.collection(namespace);
        let cell = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(places.entry(collection.clone()).or_default())
        };
        let place = cell.get_or_try_init(|| self.list(cluster, kind, &collection, content)).await?;
        match place.names.get(name) {
            None if place.cut => read(cluster, &path).await,
            None => Ok(Found::Nothing),
            Some(Known::Foreign { deleting }) if !content => Ok(Found::Facts { deleting: *deleting }),
            Some(Known::Foreign { .. } | Known::Unread) => read(cluster, &path).await,
            Some(Known::Content { packed, size }) => match unpack(packed, *size) {
                Some(object) => Ok(Found::Object(Box::new(object))),
                None => read(cluster, &path).await,
            },
        }
    }

    /// Reads a name singly from now on: a write showed that it has changed.
    pub fn distrust(&self, path: &str) {
        self.distrusted.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
    }

    async fn list(
        &self,
        cluster: &Cluster,
        kind: &Kind,
        collection: &str,
        content: bool,
    ) -> Result<Place, ClusterError> {
        let subject = Subject { group: &kind.group, kind: &kind.kind, namespaced: kind.namespaced };
        // Shared kinds are compared also where they are not ours.
        let all = content || subject.is_merged() || !subject.namespaced;
        let mut place = Place { names: HashMap::new(), cut: false };
        let mut next = None;
        loop {
            let page = cluster.page(collection, "", next.as_deref()).await?;
            for object in page.items {
                if place.names.len() >= MAX_NAMES {
                    place.cut = true;
                    return Ok(place);
                }
                let name = name(&object).into();
                place.names.insert(name, self.known(object, all));
            }
            next = page.next;
            if next.is_none() {
                return Ok(place);
            }
        }
    }

    fn known(&self, mut object: Value, all: bool) -> Known {
        let facts = Facts::of(&object);
        if facts.mark.is_none() && !all {
            return Known::Foreign { deleting: facts.deleting };
        }
        ownership::keep_ours(&mut object);
        let Ok(json) = serde_json::to_vec(&object) else { return Known::Unread };
        let Ok(packed) = zstd::bulk::compress(&json, LEVEL) else { return Known::Unread };
        let before = self.content.fetch_add(packed.len(), Ordering::Relaxed);
        if before + packed.len() > MAX_CONTENT {
            self.content.fetch_sub(packed.len(), Ordering::Relaxed);
            return Known::Unread;
        }
        Known::Content { packed: packed.into_boxed_slice(), size: json.len() }
    }
}

async fn read(cluster: &Cluster, path: &str) -> Result<Found, ClusterError> {
    Ok(cluster.find(path).await?.map_or(Found::Nothing, |object| Found::Object(Box::new(object))))
}

fn unpack(packed: &[u8], size: usize) -> Option<Value> {
    serde_json::from_slice(&zstd::bulk::decompress(packed, size).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn content_is_kept_of_what_is_ours_and_only_facts_of_what_is_not() {
        let index = LiveIndex::default();
        let ours = json!({"metadata": {"name": "a", "labels": {"isthmus.dev/migrated-by": "m"},
            "managedFields": [{"manager": "kubectl"}, {"manager": "isthmus"}]}, "data": {"k": "v"}});
        let Known::Content { packed, size } = index.known(ours, false) else { panic!() };
        let object = unpack(&packed, size).unwrap();
        assert_eq!(object["data"]["k"], "v");
        assert_eq!(object["metadata"]["managedFields"], json!([{"manager": "isthmus"}]));
        let theirs = json!({"metadata": {"name": "b", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert!(matches!(index.known(theirs.clone(), false), Known::Foreign { deleting: true }));
        assert!(matches!(index.known(theirs, true), Known::Content { .. }));
    }

    #[test]
    fn what_does_not_fit_is_read_singly() {
        let index = LiveIndex::default();
        index.content.store(MAX_CONTENT, Ordering::Relaxed);
        let ours = json!({"metadata": {"name": "a", "labels": {"isthmus.dev/migrated-by": "m"}}});
        assert!(matches!(index.known(ours, false), Known::Unread));
        assert_eq!(index.content.load(Ordering::Relaxed), MAX_CONTENT);
    }
}
