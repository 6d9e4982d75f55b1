//! The object store as the rest of Isthmus sees it: five calls, all bounded.
//!
//! An implementation retries what may be retried (see [`StoreError::is_retryable`]) before it
//! answers, so callers do not. Keys are relative to the store's own prefix.

use std::{fmt, ops::Range};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};

/// The largest object that staging holds, in bytes; a larger one is refused on both ways.
pub const MAX_OBJECT: usize = 64 * 1024 * 1024;

/// The most keys one page of a listing, or one deletion, carries (the limit of S3 itself).
pub const MAX_PAGE: usize = 1000;

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// The key below the store's prefix.
    pub key: String,
    /// The object's size in bytes.
    pub size: u64,
}

/// One page of a listing, in the byte order of the keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPage {
    /// The objects of this page.
    pub objects: Vec<ListedObject>,
    /// Whether there are more: ask again with the last key as `after`.
    pub more: bool,
}

/// S3-compatible staging, or its like in memory.
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// Writes an object of at most [`MAX_OBJECT`] bytes, replacing one of the same key.
    fn put(&self, key: &str, body: Bytes) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Reads a whole object of at most `limit` bytes, and never more than [`MAX_OBJECT`]. A larger
    /// one is [`StoreError::TooLarge`]: before any of it is read where the server tells its size,
    /// else as soon as more than that has come.
    fn get_at_most(&self, key: &str, limit: usize) -> BoxFuture<'_, Result<Bytes, StoreError>>;

    /// Reads a whole object of at most [`MAX_OBJECT`] bytes.
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Bytes, StoreError>> {
        self.get_at_most(key, MAX_OBJECT)
    }

    /// Appends exactly the bytes of `range` to `into`, which a caller may use again and again.
    /// On an error `into` is as long as it was before. A range past the object's end is an
    /// error, never a short answer.
    fn read_range<'a>(
        &'a self,
        key: &str,
        range: Range<u64>,
        into: &'a mut Vec<u8>,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Reads exactly the bytes of `range`.
    fn get_range(&self, key: &str, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, StoreError>> {
        let key = key.to_owned();
        async move {
            let mut buffer = Vec::new();
            self.read_range(&key, range, &mut buffer).await?;
            Ok(Bytes::from(buffer))
        }
        .boxed()
    }

    /// Lists at most `limit` (and at most [`MAX_PAGE`]) objects whose keys start with `prefix`
    /// and sort after `after`.
    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ListPage, StoreError>>;

    /// Deletes objects; a key that is not there counts as deleted.
    fn delete(&self, keys: &[String]) -> BoxFuture<'_, Result<(), StoreError>>;

    /// By how many seconds the store's clock was ahead of this machine's at its last answer; none
    /// where it does not tell the time.
    fn clock_ahead(&self) -> Option<i64> {
        None
    }
}

/// Deletes every object whose key starts with `prefix`, page by page, and tells how many.
pub async fn delete_prefix(store: &dyn ObjectStore, prefix: &str) -> Result<u64, StoreError> {
    let mut deleted = 0;
    let mut after: Option<String> = None;
    loop {
        let page = store.list(prefix, after.as_deref(), MAX_PAGE).await?;
        let keys: Vec<String> = page.objects.into_iter().map(|object| object.key).collect();
        if !keys.is_empty() {
            store.delete(&keys).await?;
        }
        deleted += keys.len() as u64;
        after = keys.into_iter().next_back();
        if !page.more || after.is_none() {
            return Ok(deleted);
        }
    }
}

/// Why a call to the object store failed. Each message names the store and the key, and ends
/// with what to do next.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No object has this key.
    #[error(
        "object {key} is not in {store}; check whether something removes objects from the bucket (a lifecycle rule, another cleanup), then run the migration again"
    )]
    NotFound {
        /// The bucket and endpoint.
        store: String,
        /// The key below the store's prefix.
        key: String,
    },
    /// The bucket itself does not exist.
    #[error(
        "{store} has no such bucket; create the bucket or correct the ObjectStore's `bucket` and `endpoint`"
    )]
    NoSuchBucket {
        /// The bucket and endpoint.
        store: String,
    },
    /// The credentials are known, but may not do this.
    #[error(
        "{store} denies {operation} of {key}: {detail}; grant these credentials read, write, list and delete on the bucket's prefix"
    )]
    AccessDenied {
        /// The bucket and endpoint.
        store: String,
        /// The call.
        operation: &'static str,
        /// The key or prefix.
        key: String,
        /// The server's words.
        detail: String,
    },
    /// The credentials themselves are refused.
    #[error(
        "{store} refuses the credentials ({detail}); put a valid access key into the ObjectStore's credentials Secret, and check its region"
    )]
    BadCredentials {
        /// The bucket and endpoint.
        store: String,
        /// The server's words.
        detail: String,
    },
    /// The credentials were temporary, and their time is over.
    #[error(
        "{store} refuses the credentials because their session has expired ({detail}); run again, and if the ObjectStore's credentials Secret holds an AWS_SESSION_TOKEN put new keys there"
    )]
    SessionExpired {
        /// The bucket and endpoint.
        store: String,
        /// The server's words.
        detail: String,
    },
    /// The clocks differ too much for signed requests.
    #[error(
        "{store} refuses the request's time ({detail}); set the clock that is wrong by NTP: this node's, or the store's"
    )]
    ClockSkew {
        /// The bucket and endpoint.
        store: String,
        /// The server's words.
        detail: String,
    },
    /// No connection, or a broken one.
    #[error(
        "cannot reach {store} for {operation} of {key}: {detail}; check the endpoint, DNS, network policies and the CA bundle"
    )]
    Unreachable {
        /// The bucket and endpoint.
        store: String,
        /// The call.
        operation: &'static str,
        /// The key or prefix.
        key: String,
        /// The transport's words.
        detail: String,
    },
    /// The server is there, but not able to serve now (503, SlowDown and the like).
    #[error(
        "{store} is not able to serve {operation} of {key} now: {detail}; look at the object store's own health, then try again"
    )]
    Unavailable {
        /// The bucket and endpoint.
        store: String,
        /// The call.
        operation: &'static str,
        /// The key or prefix.
        key: String,
        /// The server's words.
        detail: String,
    },
    /// No answer in time.
    #[error(
        "{store} did not finish {operation} of {key} within {seconds} s; check the network's rate to the store, then try again"
    )]
    Timeout {
        /// The bucket and endpoint.
        store: String,
        /// The call.
        operation: &'static str,
        /// The key or prefix.
        key: String,
        /// The time that was given to one attempt.
        seconds: u64,
    },
    /// An object is larger than anything that Isthmus writes.
    #[error(
        "object {key} in {store} has {bytes} bytes where at most {limit} are allowed; it was not written by Isthmus: remove it"
    )]
    TooLarge {
        /// The bucket and endpoint.
        store: String,
        /// The key.
        key: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The object ends before the bytes that were asked for.
    #[error(
        "object {key} in {store} ended after {got} of {expected} bytes; it is damaged or was replaced: remove the migration's staging and run it again"
    )]
    Truncated {
        /// The bucket and endpoint.
        store: String,
        /// The key.
        key: String,
        /// Bytes that came.
        got: u64,
        /// Bytes that were expected.
        expected: u64,
    },
    /// The description of the store cannot be used at all.
    #[error("cannot use the object store at {store}: {detail}; correct the ObjectStore")]
    Invalid {
        /// The bucket and endpoint.
        store: String,
        /// What is wrong.
        detail: String,
    },
    /// Anything else that the server said.
    #[error(
        "{operation} of {key} in {store} failed: {detail}; look at the object store's log for this request"
    )]
    Other {
        /// The bucket and endpoint.
        store: String,
        /// The call.
        operation: &'static str,
        /// The key or prefix.
        key: String,
        /// The server's words.
        detail: String,
    },
}

impl StoreError {
    /// Whether the same call may succeed a little later without anybody doing anything.
    pub fn is_retryable(&self) -> bool {
        // An object that is too short stays so: a connection that was cut inside a body is
        // `Unreachable`.
        matches!(self, Self::Unreachable { .. } | Self::Unavailable { .. } | Self::Timeout { .. })
    }

    /// Whether the object is there, but larger than the caller takes.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge { .. })
    }

    /// Whether the object is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// A short, stable word for conditions and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "ObjectNotFound",
            Self::NoSuchBucket { .. } => "NoSuchBucket",
            Self::AccessDenied { .. } => "AccessDenied",
            Self::BadCredentials { .. } => "BadCredentials",
            Self::SessionExpired { .. } => "SessionExpired",
            Self::ClockSkew { .. } => "ClockSkew",
            Self::Unreachable { .. } => "StoreUnreachable",
            Self::Unavailable { .. } => "StoreUnavailable",
            Self::Timeout { .. } => "StoreTimeout",
            Self::TooLarge { .. } => "ObjectTooLarge",
            Self::Truncated { .. } => "ObjectTruncated",
            Self::Invalid { .. } => "InvalidStore",
            Self::Other { .. } => "StoreError",
        }
    }
}
