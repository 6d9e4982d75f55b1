//! Applications stopped and started, and whether they are well.
//!
//! ```text
//!   state    pure: what stopped and started look like, as patches
//!     |
//!   switch   all workloads of a namespace, one conflict-checked patch each
//!   health   ready counts, and why pods are not ready
//! ```
//!
//! Promises: `activate` after `deactivate` restores every count exactly, however often either is
//! interrupted and done again; what an owner controls is left to its owner.

mod health;
pub mod state;
mod switch;

pub use health::check_health;
pub use switch::{activate, start_applications};

use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;

use crate::cluster::{Catalogue, Cluster, ClusterError, Kind, array};

/// Workloads of a namespace that are looked at.
const MAX_WORKLOADS: usize = 20_000;
/// Kinds that are listed at a time.
const PARALLEL_KINDS: usize = 4;

/// The workloads of a namespace that nothing else controls, with their kinds.
async fn workloads(
    cluster: &Cluster,
    catalogue: &Catalogue,
    namespace: &str,
) -> Result<Vec<(Kind, Value)>, ClusterError> {
    let lists: Vec<_> = state::SWITCHES
        .iter()
        .filter_map(|(group, kind, _)| catalogue.preferred(group, kind).cloned())
        .map(|kind| of_kind(cluster, kind, namespace))
        .collect();
    let lists: Vec<Vec<(Kind, Value)>> = stream::iter(lists).buffered(PARALLEL_KINDS).try_collect().await?;
    Ok(lists.into_iter().flatten().collect())
}

async fn of_kind(cluster: &Cluster, kind: Kind, namespace: &str) -> Result<Vec<(Kind, Value)>, ClusterError> {
    let objects = cluster.list(&kind.collection(Some(namespace)), "", MAX_WORKLOADS).await?;
    Ok(objects.into_iter().filter(|o| !is_controlled(o)).map(|o| (kind.clone(), o)).collect())
}

fn is_controlled(object: &Value) -> bool {
    array(object, "/metadata/ownerReferences")
        .iter()
        .any(|owner| owner.get("controller") == Some(&Value::Bool(true)))
}
