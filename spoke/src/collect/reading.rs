//! Reads a namespace, kind by kind, page by page, with the choice made for each object.
//!
//! Kinds are read in the order in which their objects will be applied (see
//! [`crate::apply::order`]), some kinds at a time: so the archive is in that order, and Services
//! are known before the endpoints that depend on them.

use std::collections::VecDeque;

use futures::stream::{self, BoxStream, StreamExt};
use isthmus_shared::protocol::{ObjectAction, ObjectResult};
use serde_json::Value;

use super::{Choice, Context, choose};
use crate::apply::order;
use crate::cluster::{Cluster, ClusterError, Kind, ObjectId, kind, name};

/// Kinds that are read at a time: pages of 500 objects of this many kinds are in memory at most.
const PARALLEL_KINDS: usize = 6;

/// A page of objects, chosen.
#[derive(Debug)]
pub struct Batch {
    /// Of which kind.
    pub kind: Kind,
    /// What is taken, untouched.
    pub taken: Vec<Value>,
    /// What is not, and why.
    pub left: Vec<ObjectResult>,
}

/// A kind that could not be read.
#[derive(Debug)]
pub struct ReadError {
    /// Which.
    pub kind: Kind,
    /// Why.
    pub error: ClusterError,
}

type Pages = BoxStream<'static, (Kind, Result<Vec<Value>, ClusterError>)>;

/// Reads one namespace.
pub struct Reader {
    cluster: Cluster,
    namespace: String,
    context: Context,
    waves: VecDeque<Vec<Kind>>,
    pages: Option<Pages>,
}

impl Reader {
    /// Reads these kinds of a namespace; `context` needs its selectors only.
    pub fn new(cluster: &Cluster, namespace: &str, kinds: &[Kind], context: Context) -> Self {
        let mut waves: VecDeque<Vec<Kind>> = (0..=order::LAST).map(|_| Vec::new()).collect();
        for kind in kinds {
            waves[order::rank(&kind.group, &kind.kind)].push(kind.clone());
        }
        Self { cluster: cluster.clone(), namespace: namespace.to_owned(), context, waves, pages: None }
    }

    /// The next page; none once all kinds were read. After an error it goes on with other kinds.
    pub async fn next(&mut self) -> Option<Result<Batch, ReadError>> {
        loop {
            if let Some(pages) = &mut self.pages {
                match pages.next().await {
                    Some((kind, Ok(objects))) => return Some(Ok(self.choose(kind, objects))),
                    Some((kind, Err(error))) => return Some(Err(ReadError { kind, error })),
                    None => self.pages = None,
                }
            }
            let wave = self.waves.pop_front()?;
            self.pages = Some(pages(&self.cluster, &self.namespace, wave));
        }
    }

    fn choose(&mut self, page_kind: Kind, objects: Vec<Value>) -> Batch {
        let mut batch = Batch { kind: page_kind, taken: Vec::with_capacity(objects.len()), left: Vec::new() };
        for object in objects {
            if batch.kind.group.is_empty() && kind(&object) == "Service" && selects(&object) {
                self.context.selecting_services.insert(name(&object).to_owned());
            }
            match choose(&object, &self.context) {
                Choice::Keep => batch.taken.push(object),
                Choice::LeaveBehind { reason, message } => {
                    batch.left.push(left_behind(&object, reason, message));
                }
            }
        }
        batch
    }
}

fn selects(service: &Value) -> bool {
    service.pointer("/spec/selector").and_then(Value::as_object).is_some_and(|selector| !selector.is_empty())
}

fn left_behind(object: &Value, reason: &str, message: &str) -> ObjectResult {
    let id = ObjectId::of(object);
    ObjectResult {
        api_version: id.api_version,
        kind: id.kind,
        namespace: id.namespace,
        name: id.name,
        action: ObjectAction::LeftBehind,
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        diff: None,
        rewritten: None,
    }
}

fn pages(cluster: &Cluster, namespace: &str, kinds: Vec<Kind>) -> Pages {
    let (cluster, namespace) = (cluster.clone(), namespace.to_owned());
    let each = move |kind: Kind| {
        let (cluster, path) = (cluster.clone(), kind.collection(Some(&namespace)));
        // The state is the token of the page to ask for; none when there is no more.
        stream::unfold(Some(None::<String>), move |state| {
            let (cluster, path, kind) = (cluster.clone(), path.clone(), kind.clone());
            async move {
                let token = state?;
                match cluster.page(&path, "", token.as_deref()).await {
                    Ok(page) => Some(((kind, Ok(page.items)), page.next.map(Some))),
                    Err(error) => Some(((kind, Err(error)), None)),
                }
            }
        })
        .boxed()
    };
    stream::iter(kinds).map(each).flatten_unordered(PARALLEL_KINDS).boxed()
}
