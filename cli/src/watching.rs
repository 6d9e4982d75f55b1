//! Watching one record until it is as it should be.
//!
//! A watch survives what is normal on long waits: the server ends it every few minutes, networks
//! break, API servers restart. Only when nothing was heard for [`MAX_SILENCE`] does it give up.

use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Error as WatcherError, watch_object};

use crate::connect::full;
use crate::records::{ObjectName, Record, RecordError, Records};

/// How long all attempts to reach the API server may fail.
const MAX_SILENCE: Duration = Duration::from_mins(2);

/// A record could not be watched to the end.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The API server refuses.
    #[error(transparent)]
    Refused(#[from] RecordError),
    /// The API server cannot be reached any more.
    #[error(
        "watching {object} failed: the API server could not be reached for {seconds} s: {detail}: it goes on without us; watch it again once the API server answers"
    )]
    Lost {
        /// Which.
        object: ObjectName,
        /// For how long.
        seconds: u64,
        /// The last error.
        detail: String,
    },
}

/// A record that is watched.
pub struct Watched<K: Record> {
    stream: Pin<Box<dyn Stream<Item = Result<Option<K>, WatcherError>> + Send>>,
    records: Records<K>,
    name: String,
    failing_since: Option<Instant>,
}

/// What came of waiting with a deadline.
#[derive(Debug, PartialEq, Eq)]
pub enum Waited<T> {
    /// It is so.
    Reached(T),
    /// It is not, and the time is over.
    TimedOut,
}

impl<K: Record> Watched<K> {
    /// Begins to watch.
    pub fn new(records: Records<K>, name: &str) -> Self {
        let stream = watch_object(records.watches(), name).default_backoff().boxed();
        Self { stream, records, name: name.to_owned(), failing_since: None }
    }

    /// The record as it is now, whenever it has changed; `None` when it is not there (any more).
    pub async fn next(&mut self) -> Result<Option<K>, WatchError> {
        loop {
            match self.stream.next().await {
                Some(Ok(object)) => {
                    self.failing_since = None;
                    return Ok(object);
                }
                Some(Err(error)) => self.judge(&error)?,
                None => return Err(self.lost("the watch ended".to_owned())),
            }
        }
    }

    /// Watches until `reached` finds what it looks for, at most for `limit`.
    pub async fn until<T>(
        mut self,
        limit: Duration,
        mut reached: impl FnMut(Option<&K>) -> Option<T>,
    ) -> Result<Waited<T>, WatchError> {
        let search = async {
            loop {
                let object = self.next().await?;
                if let Some(found) = reached(object.as_ref()) {
                    return Ok(Waited::Reached(found));
                }
            }
        };
        tokio::time::timeout(limit, search).await.unwrap_or(Ok(Waited::TimedOut))
    }

    fn judge(&mut self, error: &WatcherError) -> Result<(), WatchError> {
        tracing::debug!(error = %full(error), name = self.name, "watch interrupted");
        if let WatcherError::InitialListFailed(kube::Error::Api(status)) = error
            && matches!(status.code, 401 | 403 | 404)
        {
            let refused = kube::Error::Api(status.clone());
            return Err(self.records.failed("watching", &self.name, refused).into());
        }
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if since.elapsed() < MAX_SILENCE { Ok(()) } else { Err(self.lost(full(error))) }
    }

    fn lost(&self, detail: String) -> WatchError {
        WatchError::Lost { object: self.records.named(&self.name), seconds: MAX_SILENCE.as_secs(), detail }
    }
}
