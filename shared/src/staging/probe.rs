//! Whether a store can be used right now: write, read, list and delete one small object.

use bytes::Bytes;
use uuid::Uuid;

use super::{
    layout,
    store::{ObjectStore, StoreError},
};

/// Writes, reads, lists and deletes a small random object under `<prefix_key>/probes/`.
///
/// `prefix_key` is a key prefix below the store's own, or empty. The first failing call is
/// the answer.
pub async fn probe(store: &dyn ObjectStore, prefix_key: &str) -> Result<(), StoreError> {
    let key = layout::probe(prefix_key, Uuid::new_v4());
    // Listing first: servers that answer a write into a missing bucket in odd ways are clear
    // about listing it.
    store.list(&key, None, 1).await?;
    let body = Bytes::from(Uuid::new_v4().into_bytes().to_vec());
    store.put(&key, body.clone()).await?;
    let checked = check(store, &key, &body).await;
    // The object goes even where reading or listing is denied.
    let deleted = store.delete(std::slice::from_ref(&key)).await;
    checked.and(deleted)
}

async fn check(store: &dyn ObjectStore, key: &str, body: &Bytes) -> Result<(), StoreError> {
    let other = |operation, detail: &str| StoreError::Other {
        store: "the object store".to_owned(),
        operation,
        key: key.to_owned(),
        detail: detail.to_owned(),
    };
    if store.get(key).await? != *body {
        return Err(other("read", "it answers with other bytes than were written"));
    }
    let page = store.list(key, None, 1).await?;
    if page.objects.first().is_none_or(|object| object.key != key) {
        return Err(other("list", "it does not list an object that was just written"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::staging::MemoryStore;

    #[tokio::test]
    async fn a_probe_leaves_nothing_behind() {
        let store = MemoryStore::new();
        probe(&store, "pairs").await.unwrap();
        probe(&store, "").await.unwrap();
        assert!(store.contents().is_empty());
    }
}
