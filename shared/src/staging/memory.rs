//! An object store in memory, for tests: the same answers as S3, no server.

use std::{
    collections::BTreeMap,
    ops::{Bound, Range},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};

use super::store::{ListPage, ListedObject, MAX_OBJECT, MAX_PAGE, ObjectStore, StoreError};

/// How errors name this store.
const NAME: &str = "the store in memory";

/// An object store in memory. Clones share their content.
#[derive(Clone, Default)]
pub struct MemoryStore {
    objects: Arc<Mutex<BTreeMap<String, Bytes>>>,
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").field("objects", &self.objects().len()).finish()
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// All keys with their objects' sizes, in order.
    pub fn contents(&self) -> Vec<(String, usize)> {
        self.objects().iter().map(|(key, body)| (key.clone(), body.len())).collect()
    }

    /// The raw bytes of one object, for tests that damage them.
    pub fn raw(&self, key: &str) -> Option<Bytes> {
        self.objects().get(key).cloned()
    }

    /// Puts raw bytes under a key, for tests that damage objects.
    pub fn set_raw(&self, key: &str, body: Bytes) {
        self.objects().insert(key.to_owned(), body);
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        // Every change is one insertion or removal: a panic elsewhere leaves nothing half done.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &str) -> Result<Bytes, StoreError> {
        self.objects()
            .get(key)
            .cloned()
            .ok_or_else(|| StoreError::NotFound { store: NAME.to_owned(), key: key.to_owned() })
    }

    fn slice(&self, key: &str, range: &Range<u64>) -> Result<Bytes, StoreError> {
        let body = self.find(key)?;
        let truncated = || StoreError::Truncated {
            store: NAME.to_owned(),
            key: key.to_owned(),
            got: (body.len() as u64).saturating_sub(range.start),
            expected: range.end.saturating_sub(range.start),
        };
        let start = usize::try_from(range.start).map_err(|_| truncated())?;
        let end = usize::try_from(range.end).map_err(|_| truncated())?;
        if start > end || end > body.len() {
            return Err(truncated());
        }
        Ok(body.slice(start..end))
    }
}

fn too_large(key: &str, body: &Bytes, limit: usize) -> StoreError {
    let (bytes, limit) = (body.len() as u64, limit as u64);
    StoreError::TooLarge { store: NAME.to_owned(), key: key.to_owned(), bytes, limit }
}

impl ObjectStore for MemoryStore {
    fn put(&self, key: &str, body: Bytes) -> BoxFuture<'_, Result<(), StoreError>> {
        let result = if body.len() > MAX_OBJECT {
            Err(too_large(key, &body, MAX_OBJECT))
        } else {
            // A copy: what a caller lends (a pooled buffer) goes back to it, as with a server.
            self.objects().insert(key.to_owned(), Bytes::copy_from_slice(&body));
            Ok(())
        };
        async move { result }.boxed()
    }

    fn get_at_most(&self, key: &str, limit: usize) -> BoxFuture<'_, Result<Bytes, StoreError>> {
        let limit = limit.min(MAX_OBJECT);
        let result = self
            .find(key)
            .and_then(|body| if body.len() > limit { Err(too_large(key, &body, limit)) } else { Ok(body) });
        async move { result }.boxed()
    }

    fn read_range<'a>(
        &'a self,
        key: &str,
        range: Range<u64>,
        into: &'a mut Vec<u8>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let result = self.slice(key, &range);
        async move {
            into.extend_from_slice(&result?);
            Ok(())
        }
        .boxed()
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ListPage, StoreError>> {
        let limit = limit.clamp(1, MAX_PAGE);
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut objects: Vec<ListedObject> = self
            .objects()
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit + 1)
            .map(|(key, body)| ListedObject { key: key.clone(), size: body.len() as u64 })
            .collect();
        let more = objects.len() > limit;
        objects.truncate(limit);
        async move { Ok(ListPage { objects, more }) }.boxed()
    }

    fn delete(&self, keys: &[String]) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut objects = self.objects();
        for key in keys {
            objects.remove(key);
        }
        async move { Ok(()) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::staging::store::delete_prefix;

    #[tokio::test]
    async fn a_listing_pages_in_key_order_and_below_the_prefix_only() {
        let store = MemoryStore::new();
        for key in ["a/1", "a/2", "a/3", "b/1", "a"] {
            store.put(key, Bytes::from_static(b"x")).await.unwrap();
        }
        let first = store.list("a/", None, 2).await.unwrap();
        assert!(first.more);
        let last = store.list("a/", Some(&first.objects[1].key), 2).await.unwrap();
        assert!(!last.more);
        assert_eq!(last.objects[0].key, "a/3");
        assert_eq!(delete_prefix(&store, "a/").await.unwrap(), 3);
        assert_eq!(store.contents().len(), 2);
    }

    #[tokio::test]
    async fn an_object_that_is_larger_than_the_caller_takes_is_refused() {
        let store = MemoryStore::new();
        store.put("k", Bytes::from_static(b"0123456789")).await.unwrap();
        assert_eq!(store.get_at_most("k", 10).await.unwrap().len(), 10);
        let error = store.get_at_most("k", 9).await.unwrap_err();
        assert!(error.is_too_large() && error.to_string().contains("at most 9"), "{error}");
    }

    #[tokio::test]
    async fn a_range_past_the_end_is_an_error_and_not_a_short_answer() {
        let store = MemoryStore::new();
        store.put("k", Bytes::from_static(b"0123456789")).await.unwrap();
        assert_eq!(&store.get_range("k", 2..5).await.unwrap()[..], b"234");
        assert!(store.get_range("k", 8..11).await.is_err());
    }
}
