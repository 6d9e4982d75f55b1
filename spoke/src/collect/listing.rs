//! One collection, page by page, whole and without repetition.
//!
//! A list that is read for longer than the API server keeps its past (five minutes, by default)
//! is refused in the middle with 410. It is begun anew then, and what was given before is left
//! out, by uid: nothing is lost, and nothing comes twice.
//!
//! Pages are as large as their objects allow: the first is small, and later ones hold about
//! [`PAGE_BYTES`], at most [`MAX_PAGE`] objects.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use futures::stream::{self, Stream};
use serde_json::Value;

use crate::cluster::{Cluster, ClusterError, name, uid};

/// Objects to a page at the most.
pub const MAX_PAGE: usize = 500;
/// Objects to the first page, of which the size is not known yet.
const FIRST_PAGE: usize = 100;
/// Objects to a page at the least.
const MIN_PAGE: usize = 5;
/// Bytes of JSON that a page should hold.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// How often a list is begun anew. Each time it gets further, because what was given already is
/// only passed over.
const MAX_RESTARTS: usize = 8;

struct Walk {
    cluster: Cluster,
    path: String,
    token: Token,
    limit: usize,
    given: HashSet<u64>,
    hasher: RandomState,
    restarts: usize,
}

enum Token {
    First,
    Next(String),
    Done,
}

/// The pages of a collection; after an error there are no more.
pub fn pages(
    cluster: &Cluster,
    path: String,
) -> impl Stream<Item = Result<Vec<Value>, ClusterError>> + use<> {
    let walk = Walk {
        cluster: cluster.clone(),
        path,
        token: Token::First,
        limit: FIRST_PAGE,
        given: HashSet::new(),
        hasher: RandomState::new(),
        restarts: 0,
    };
    stream::unfold(walk, |mut walk| async move {
        let page = walk.step().await?;
        Some((page, walk))
    })
}

impl Walk {
    async fn step(&mut self) -> Option<Result<Vec<Value>, ClusterError>> {
        loop {
            let token = match &self.token {
                Token::First => None,
                Token::Next(token) => Some(token.as_str()),
                Token::Done => return None,
            };
            match self.cluster.page_of(self.limit, &self.path, "", token).await {
                Ok(page) => {
                    self.limit = fitting(page.items.len(), page.bytes);
                    self.token = page.next.map_or(Token::Done, Token::Next);
                    let new = self.new_ones(page.items);
                    if !new.is_empty() || matches!(self.token, Token::Done) {
                        return Some(Ok(new));
                    }
                }
                Err(error) if error.code() == Some(410) && self.restarts < MAX_RESTARTS => {
                    tracing::debug!(%error, path = self.path, "the list has expired and is begun anew");
                    self.restarts += 1;
                    self.token = Token::First;
                }
                Err(error) => {
                    self.token = Token::Done;
                    return Some(Err(error));
                }
            }
        }
    }

    fn new_ones(&mut self, mut items: Vec<Value>) -> Vec<Value> {
        if matches!(self.token, Token::Done) && self.given.is_empty() {
            // The only page.
            return items;
        }
        items.retain(|item| {
            // Some views have no uids.
            let id = match uid(item) {
                "" => name(item),
                uid => uid,
            };
            self.given.insert(self.hasher.hash_one(id))
        });
        items
    }
}

/// The number of objects for the next page.
fn fitting(objects: usize, bytes: usize) -> usize {
    let each = bytes / objects.max(1);
    (PAGE_BYTES / each.max(1)).clamp(MIN_PAGE, MAX_PAGE)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::StreamExt as _;
    use serde_json::json;

    use super::*;
    use crate::collect::fake::Fake;

    async fn read(cluster: &Cluster) -> Result<Vec<String>, ClusterError> {
        let mut names = Vec::new();
        let mut pages = std::pin::pin!(pages(cluster, "/api/v1/namespaces/cms/configmaps".to_owned()));
        while let Some(page) = pages.next().await {
            names.extend(page?.iter().map(|object| name(object).to_owned()));
        }
        Ok(names)
    }

    fn numbered(count: usize) -> Fake {
        let mut fake = Fake::default();
        for n in 0..count {
            fake.add(json!({"apiVersion": "v1", "kind": "ConfigMap",
                            "metadata": {"name": format!("c{n:05}"), "namespace": "cms"}}));
        }
        fake
    }

    #[tokio::test]
    async fn a_collection_is_read_whole_in_pages_that_grow() {
        let fake = numbered(1_250);
        let limits = fake.requests();
        let names = read(&fake.cluster()).await.unwrap();
        assert_eq!(names.len(), 1_250);
        assert!(names.is_sorted());
        let asked: Vec<String> =
            limits.lock().unwrap().iter().map(|r| r.split('&').next().unwrap().to_owned()).collect();
        let path = "/api/v1/namespaces/cms/configmaps?limit=";
        assert_eq!(
            asked,
            [format!("{path}100"), format!("{path}500"), format!("{path}500"), format!("{path}500")]
        );
    }

    #[tokio::test]
    async fn a_list_that_expires_is_begun_anew_and_nothing_comes_twice_or_is_lost() {
        let expired = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&expired);
        // The second and the fifth continuation are too late.
        let fake = numbered(2_250).refusing(move |request| {
            let late =
                request.contains("continue=") && matches!(count.fetch_add(1, Ordering::Relaxed), 1 | 4);
            late.then(|| (410, json!({"kind": "Status", "reason": "Expired", "message": "too old"})))
        });
        let mut names = read(&fake.cluster()).await.unwrap();
        assert!(expired.load(Ordering::Relaxed) > 4);
        assert_eq!(names.len(), 2_250);
        names.dedup();
        assert_eq!(names.len(), 2_250);
    }

    #[tokio::test]
    async fn a_list_that_expires_again_and_again_comes_to_an_end() {
        let fake = numbered(1_200).refusing(|request| {
            request.contains("continue=").then(|| (410, json!({"kind": "Status", "reason": "Expired"})))
        });
        assert_eq!(read(&fake.cluster()).await.unwrap_err().code(), Some(410));
    }

    #[test]
    fn pages_of_large_objects_hold_few() {
        assert_eq!(fitting(100, 100 * 1_000), MAX_PAGE);
        assert_eq!(fitting(100, 100 * 40 * 1024), 102);
        assert_eq!(fitting(100, 150 * 1024 * 1024), MIN_PAGE);
        assert_eq!(fitting(0, 300), MAX_PAGE);
    }
}
