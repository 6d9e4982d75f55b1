//! How much of its volume a claim takes up: measured, not asked for.
//!
//! ```text
//!   the node's kubelet     what the filesystem says, at once, of volumes that a Pod has mounted
//!   a complete pass        what the files took up when that pass was made
//! ```
//!
//! The kubelets are asked through the API server (`nodes/proxy`), which not everybody grants and not
//! every network carries. It only informs: a kubelet that does not answer soon is left aside, and so
//! are the others of that look. What a kubelet says counts only where it speaks of the volume itself:
//! of a folder on a larger disk, or of an NFS export, it tells how full all of that is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use serde_json::Value;

use super::Node;
use crate::cluster::{Cluster, array, escape, text};

/// Kubelets that are asked in one look.
const MAX_ASKED: usize = 64;
/// Kubelets that are asked at a time.
const AT_A_TIME: usize = 8;
/// How long one kubelet is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// A filesystem that has more than this share of the volume's capacity, in percent, is not the
/// volume's own.
const OWN_PERCENT: u64 = 120;

/// What takes up room on a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fullness {
    /// Bytes that are in use.
    pub used: u64,
    /// Who measured it.
    pub by: Measured,
}

/// Who measured a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured {
    /// The kubelet of the node on which it is mounted.
    Kubelet,
    /// The pass of this number.
    Pass(u32),
}

/// What a kubelet says of one filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filesystem {
    used: u64,
    capacity: u64,
}

impl Filesystem {
    /// How full the volume is, if this is the volume's own filesystem.
    pub fn of_volume(self, capacity: u64) -> Option<Fullness> {
        let own = self.capacity > 0
            && u128::from(self.capacity) * 100 <= u128::from(capacity) * u128::from(OWN_PERCENT);
        own.then_some(Fullness { used: self.used, by: Measured::Kubelet })
    }
}

/// What the kubelets of these nodes say of claims, by namespace and name. Nothing of those that
/// cannot be asked.
pub async fn of_kubelets(
    cluster: &Cluster,
    nodes: &[Node],
    wanted: &BTreeSet<String>,
) -> BTreeMap<(String, String), Filesystem> {
    let asked = nodes.iter().filter(|node| node.answers && node.ready && wanted.contains(&node.name));
    let asked: Vec<String> = asked.take(MAX_ASKED).map(|node| node.name.clone()).collect();
    let mut found = BTreeMap::new();
    let mut answers = stream::iter(asked.into_iter().map(|node| async move {
        let path = format!("/api/v1/nodes/{}/proxy/stats/summary", escape(&node));
        let answer = tokio::time::timeout(PATIENCE, cluster.get(&path)).await;
        (node, answer)
    }))
    .buffer_unordered(AT_A_TIME);
    while let Some((node, answer)) = answers.next().await {
        match answer {
            Ok(Ok(summary)) => found.extend(filesystems(&summary)),
            Ok(Err(error)) => {
                tracing::debug!(node, %error, "its kubelet does not say how full volumes are");
                break;
            }
            Err(_) => {
                tracing::debug!(node, "its kubelet does not say in time how full volumes are");
                break;
            }
        }
    }
    found
}

/// The filesystems of claims in a kubelet's summary.
fn filesystems(summary: &Value) -> impl Iterator<Item = ((String, String), Filesystem)> {
    let volumes = array(summary, "/pods").iter().flat_map(|pod| array(pod, "/volume"));
    volumes.filter_map(|volume| {
        let number = |field: &str| volume.get(field).and_then(Value::as_u64);
        let claim = volume.get("pvcRef")?;
        let filesystem = Filesystem { used: number("usedBytes")?, capacity: number("capacityBytes")? };
        Some(((text(claim, "/namespace").to_owned(), text(claim, "/name").to_owned()), filesystem))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_claims_of_a_kubelets_summary_are_found_among_its_other_volumes() {
        let summary = json!({"node": {}, "pods": [
            {"podRef": {"name": "db-0"}, "volume": [
                {"name": "token", "usedBytes": 1, "capacityBytes": 2},
                {"name": "data", "usedBytes": 90, "capacityBytes": 100, "availableBytes": 10,
                 "pvcRef": {"name": "data", "namespace": "cms"}}]},
            {"podRef": {"name": "idle"}}]});
        let found: Vec<_> = filesystems(&summary).collect();
        let data = (("cms".to_owned(), "data".to_owned()), Filesystem { used: 90, capacity: 100 });
        assert_eq!(found, [data]);
        assert_eq!(filesystems(&json!({"pods": null})).count(), 0);
    }

    #[test]
    fn a_filesystem_that_is_much_larger_than_the_volume_is_not_the_volumes_own() {
        let of = |capacity: u64| Filesystem { used: 7, capacity }.of_volume(100);
        assert_eq!(of(98), Some(Fullness { used: 7, by: Measured::Kubelet }));
        assert_eq!(of(120), Some(Fullness { used: 7, by: Measured::Kubelet }));
        assert_eq!(of(500_000), None, "a folder on the node's disk");
        assert_eq!(of(0), None);
    }
}
