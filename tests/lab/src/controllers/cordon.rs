//! Taints cordoned nodes, as the node lifecycle controller does.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::cache::{Cache, Topic};
use super::{Again, Context, Controller, Error, Settled};

/// The taint of a node that takes no new pods.
pub(super) const CORDONED: &str = "node.kubernetes.io/unschedulable";

pub(super) struct Cordons(pub Context);

impl Controller for Cordons {
    type Object = Node;
    const TOPICS: &'static [Topic] = &[Topic::Nodes];

    fn objects(&self, cache: &Cache) -> Vec<Arc<Node>> {
        cache.nodes.state()
    }

    async fn reconcile(&self, node: &Node) -> Result<Again, Error> {
        let Some(taints) = wanted(node) else { return Ok(None) };
        // The version keeps this from undoing another's change of the list.
        let patch = json!({
            "metadata": {"resourceVersion": node.resource_version()},
            "spec": {"taints": taints},
        });
        Api::<Node>::all(self.0.client.clone())
            .patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .settled("tainting", node)?;
        Ok(None)
    }
}

/// The taints that the node should have, if others than it has.
fn wanted(node: &Node) -> Option<Vec<Taint>> {
    let spec = node.spec.as_ref()?;
    let cordoned = spec.unschedulable == Some(true);
    let mut taints = spec.taints.clone().unwrap_or_default();
    let tainted = taints.iter().any(|taint| taint.key == CORDONED);
    match (cordoned, tainted) {
        (true, false) => taints.push(Taint {
            key: CORDONED.to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        }),
        (false, true) => taints.retain(|taint| taint.key != CORDONED),
        _ => return None,
    }
    Some(taints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_tainted_for_as_long_as_it_is_cordoned_and_keeps_its_other_taints() {
        let node = |spec| -> Node {
            serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": spec})).unwrap()
        };
        let other = json!({"key": "db", "effect": "NoSchedule"});
        let keys = |node: &Node| -> Option<Vec<String>> {
            wanted(node).map(|taints| taints.into_iter().map(|taint| taint.key).collect())
        };
        let cordoned = node(json!({"unschedulable": true, "taints": [other]}));
        assert_eq!(keys(&cordoned).unwrap(), ["db", CORDONED]);
        let free = node(json!({"taints": [other, {"key": CORDONED, "effect": "NoSchedule"}]}));
        assert_eq!(keys(&free).unwrap(), ["db"]);
        assert_eq!(keys(&node(json!({"taints": [other]}))), None);
    }
}
