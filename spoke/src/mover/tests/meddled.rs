//! A store beside which something happens: a closure hears of each call before it is made, does what
//! it likes meanwhile, and says what becomes of the call.

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use isthmus_shared::staging::{ListPage, ObjectStore, StoreError};
use tokio_util::sync::CancellationToken;

/// What is asked of the store, with its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call<'a> {
    Put(&'a str),
    Get(&'a str),
    ReadRange(&'a str),
    List(&'a str),
    /// With the first of the keys.
    Delete(&'a str),
}

/// What becomes of a call.
pub enum Fate {
    Served,
    /// It is not made.
    Refused(StoreError),
    /// It is made, and its answer lost.
    Lost(StoreError),
    /// It is made and answered, and right then the process is told to stop.
    Last(CancellationToken),
}

type Before = dyn Fn(Call<'_>) -> Fate + Send + Sync;

/// See the module.
pub struct Meddled {
    inner: Arc<dyn ObjectStore>,
    before: Box<Before>,
}

impl fmt::Debug for Meddled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meddled")
    }
}

impl Meddled {
    /// A store that does `before` each call, and then what it says.
    pub fn with(
        inner: Arc<dyn ObjectStore>,
        before: impl Fn(Call<'_>) -> Fate + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { inner, before: Box::new(before) })
    }

    /// A store that does `before` each call, and serves it.
    pub fn serving(
        inner: Arc<dyn ObjectStore>,
        before: impl Fn(Call<'_>) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::with(inner, move |call| {
            before(call);
            Fate::Served
        })
    }

    async fn fated<T>(
        &self,
        call: Call<'_>,
        made: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match (self.before)(call) {
            Fate::Served => made.await,
            Fate::Refused(error) => Err(error),
            Fate::Lost(error) => made.await.and(Err(error)),
            Fate::Last(cancel) => {
                let answer = made.await;
                cancel.cancel();
                answer
            }
        }
    }
}

impl ObjectStore for Meddled {
    fn put(&self, key: &str, body: Bytes) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = key.to_owned();
        async move { self.fated(Call::Put(&key), self.inner.put(&key, body)).await }.boxed()
    }

    fn get_at_most(&self, key: &str, limit: usize) -> BoxFuture<'_, Result<Bytes, StoreError>> {
        let key = key.to_owned();
        async move { self.fated(Call::Get(&key), self.inner.get_at_most(&key, limit)).await }.boxed()
    }

    fn read_range<'a>(
        &'a self,
        key: &str,
        range: Range<u64>,
        into: &'a mut Vec<u8>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let key = key.to_owned();
        async move { self.fated(Call::ReadRange(&key), self.inner.read_range(&key, range, into)).await }
            .boxed()
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ListPage, StoreError>> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        async move {
            self.fated(Call::List(&prefix), self.inner.list(&prefix, after.as_deref(), limit)).await
        }
        .boxed()
    }

    fn delete(&self, keys: &[String]) -> BoxFuture<'_, Result<(), StoreError>> {
        let keys = keys.to_owned();
        async move {
            let first = keys.first().map(String::as_str).unwrap_or_default();
            self.fated(Call::Delete(first), self.inner.delete(&keys)).await
        }
        .boxed()
    }
}
