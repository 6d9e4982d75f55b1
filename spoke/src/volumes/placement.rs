//! Where a mover must run: beside the Pods that hold the claim, if only one node may.

use serde_json::Value;

use super::manifests::is_mover;
use crate::cluster::{Cluster, ClusterError, array, text};

/// Pods of a namespace that are looked at.
const MAX_PODS: usize = 10_000;

/// The Pods that use a claim now; our own movers aside.
pub async fn pods_of_claims(
    cluster: &Cluster,
    namespace: &str,
    claim: &str,
) -> Result<Vec<Value>, ClusterError> {
    let pods = cluster.list(&format!("/api/v1/namespaces/{namespace}/pods"), "", MAX_PODS).await?;
    Ok(pods.into_iter().filter(|pod| uses(pod, claim)).collect())
}

fn uses(pod: &Value, claim: &str) -> bool {
    let ended = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    !ended
        && !is_mover(pod)
        && array(pod, "/spec/volumes").iter().any(|v| text(v, "/persistentVolumeClaim/claimName") == claim)
}

/// The node that a source's mover is bound to: where the claim is mounted, unless several nodes
/// may mount it.
pub fn node_of(claim: &Value, pods: &[Value]) -> Option<String> {
    let shared = array(claim, "/spec/accessModes")
        .iter()
        .any(|mode| mode == "ReadWriteMany" || mode == "ReadOnlyMany");
    if shared {
        return None;
    }
    pods.iter().map(|pod| text(pod, "/spec/nodeName")).find(|node| !node.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(phase: &str, node: &str, claim: &str) -> Value {
        json!({"metadata": {"name": "p"}, "status": {"phase": phase},
               "spec": {"nodeName": node, "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": claim}}]}})
    }

    #[test]
    fn a_claim_of_one_node_is_read_where_it_is_mounted() {
        let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"]}});
        let pods: Vec<Value> =
            [pod("Succeeded", "a", "data"), pod("Running", "b", "data"), pod("Running", "c", "other")]
                .into_iter()
                .filter(|pod| uses(pod, "data"))
                .collect();
        assert_eq!(node_of(&claim, &pods).as_deref(), Some("b"));
        assert_eq!(node_of(&json!({"spec": {"accessModes": ["ReadWriteMany"]}}), &pods), None);
        assert_eq!(node_of(&claim, &[]), None);
    }

    #[test]
    fn our_own_mover_is_no_user_of_a_claim() {
        let mut mover = pod("Running", "a", "data");
        mover["metadata"]["labels"] = json!({"isthmus.dev/component": "mover"});
        assert!(!uses(&mover, "data"));
    }
}
