//! Where a mover must run: beside the Pods that hold the claim, if only one node may.

use std::collections::BTreeMap;

use isthmus_shared::resources::MoverOptions;
use serde_json::{Value, json};

use super::manifests::is_mover;
use crate::cluster::{Cluster, ClusterError, array, text};

/// Pods of a namespace that are looked at.
const MAX_PODS: usize = 10_000;

/// Where a mover's Pod may be put.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
    /// The one node that it must run on.
    pub node: Option<String>,
    /// Labels that its node must have.
    pub node_selector: BTreeMap<String, String>,
    /// A `nodeAffinity`.
    pub node_affinity: Option<Value>,
    /// Taints that it does not mind.
    pub tolerations: Vec<Value>,
}

impl Placement {
    /// What the run says of all its movers.
    pub fn asked(options: &MoverOptions) -> Self {
        Self {
            node_selector: options.node_selector.clone(),
            // Tolerations have text keys only and serialise always.
            tolerations: options.tolerations.iter().filter_map(|t| serde_json::to_value(t).ok()).collect(),
            ..Self::default()
        }
    }

    /// On this node and no other: where the volume is attached is where it must be read, whatever
    /// the node's taints are and whether or not it is cordoned.
    pub fn on_node(self, node: &str) -> Self {
        Self { node: Some(node.to_owned()), tolerations: vec![json!({"operator": "Exists"})], ..self }
    }

    /// Writes it into the spec of a Pod.
    pub fn write(&self, spec: &mut Value) {
        if let Some(node) = &self.node {
            // By affinity, not by name: a Pod with a node's name passes by the scheduler, which
            // binds claims that wait for their consumer.
            spec["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
                ]
            }}});
        } else if let Some(affinity) = &self.node_affinity {
            spec["affinity"] = json!({"nodeAffinity": affinity});
        }
        if !self.node_selector.is_empty() {
            spec["nodeSelector"] = json!(self.node_selector);
        }
        if !self.tolerations.is_empty() {
            spec["tolerations"] = json!(self.tolerations);
        }
    }
}

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

    #[test]
    fn what_the_run_asks_of_its_movers_is_in_their_pods() {
        let options: MoverOptions = serde_json::from_value(json!({
            "nodeSelector": {"disk": "fast"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]
        }))
        .unwrap();
        let mut spec = json!({});
        Placement::asked(&options).write(&mut spec);
        assert_eq!(
            spec,
            json!({"nodeSelector": {"disk": "fast"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]})
        );
        let mut spec = json!({});
        Placement::asked(&options).on_node("n1").write(&mut spec);
        assert_eq!(spec["nodeSelector"]["disk"], "fast");
        assert_eq!(spec["tolerations"], json!([{"operator": "Exists"}]));
        assert!(
            spec.pointer("/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution").is_some()
        );
    }
}
