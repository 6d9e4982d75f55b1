//! Many collections, wave by wave: the kinds of one wave side by side, each in its pages.
//!
//! The waves are the order of applying (see [`crate::apply::order`]), so that what is read goes
//! into its archive as it comes, and Services are known before the endpoints that depend on them.
//! Reading runs ahead of the reader by a few pages, and stops there.

use futures::StreamExt as _;
use futures::stream;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::listing;
use crate::cluster::{Cluster, ClusterError, Kind};

/// Kinds that are read at a time: a page of each of this many is in memory at most, ...
const PARALLEL_KINDS: usize = 6;
/// ... and this many that were read and wait.
const AHEAD: usize = 4;

/// A collection's number, as the caller counts, and a page of it.
pub type NumberedPage = (usize, Result<Vec<Value>, ClusterError>);

/// Reads collections.
pub struct Reader {
    pages: mpsc::Receiver<NumberedPage>,
    _reading: AbortOnDropHandle<()>,
}

impl Reader {
    /// Reads waves of kinds, each kind with its number; of one namespace, or of cluster scope.
    pub fn new(cluster: &Cluster, namespace: Option<&str>, waves: Vec<Vec<(usize, Kind)>>) -> Self {
        let (sender, pages) = mpsc::channel(AHEAD);
        let (cluster, namespace) = (cluster.clone(), namespace.map(str::to_owned));
        let reading = tokio::spawn(async move {
            for wave in waves {
                let collections = stream::iter(wave).map(|(number, kind)| {
                    let path = kind.collection(namespace.as_deref());
                    listing::pages(&cluster, path).map(move |page| (number, page)).boxed()
                });
                let mut pages = collections.flatten_unordered(PARALLEL_KINDS);
                while let Some(page) = pages.next().await {
                    if sender.send(page).await.is_err() {
                        return;
                    }
                }
            }
        });
        Self { pages, _reading: AbortOnDropHandle::new(reading) }
    }

    /// The next page; none once all was read. After an error it goes on with other kinds.
    pub async fn next(&mut self) -> Option<NumberedPage> {
        self.pages.recv().await
    }
}
