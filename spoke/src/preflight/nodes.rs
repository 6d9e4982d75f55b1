//! Whether a node of the destination is one that a workload's Pods may go to. Pure.
//!
//! What is told is never sure: nodes are made as Pods ask for them where there is an autoscaler. So
//! it is a warning, and of a cluster whose nodes are not known nothing is said.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::concern::Concern;
use crate::cluster::{array, describe, kind, text};
use crate::volumes::Node;

/// The most different wishes that are looked at.
const MAX_WISHES: usize = 500;
/// The terms of which one must hold.
const REQUIRED: &str =
    "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";

/// What workloads wish of nodes, each wish once.
#[derive(Debug, Default)]
pub struct Wishes(BTreeMap<String, Wish>);

#[derive(Debug)]
struct Wish {
    /// The one node that it names, past the scheduler.
    named: Option<String>,
    selector: BTreeMap<String, String>,
    terms: Option<Vec<Value>>,
    tolerations: Vec<Value>,
    /// The first workload that wishes so, and how many do.
    first: String,
    count: u64,
}

impl Wishes {
    /// Notes what a workload wishes of nodes. DaemonSets go wherever they may, and nowhere is where
    /// they are stopped.
    pub fn see(&mut self, workload: &Value, template: &Value) {
        let selector: BTreeMap<String, String> = template
            .pointer("/spec/nodeSelector")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        let terms = template.pointer(REQUIRED).and_then(Value::as_array).cloned();
        let named = Some(text(template, "/spec/nodeName")).filter(|name| !name.is_empty()).map(str::to_owned);
        if kind(workload) == "DaemonSet" || (named.is_none() && selector.is_empty() && terms.is_none()) {
            return;
        }
        let tolerations = array(template, "/spec/tolerations").to_vec();
        let mark = json!([named, selector, terms, tolerations]).to_string();
        if !self.0.contains_key(&mark) && self.0.len() >= MAX_WISHES {
            return;
        }
        let first = || Wish { named, selector, terms, tolerations, first: describe(workload), count: 0 };
        self.0.entry(mark).or_insert_with(first).count += 1;
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Wishes that no node fulfils.
    pub fn concerns(&self, nodes: &[Node], cluster: &str) -> Vec<Concern> {
        if nodes.is_empty() {
            return Vec::new();
        }
        self.0.values().filter_map(|wish| wish.concern(nodes, cluster)).collect()
    }
}

impl Wish {
    fn concern(&self, nodes: &[Node], cluster: &str) -> Option<Concern> {
        let fits = |node: &&Node| {
            self.named.as_ref().is_none_or(|named| *named == node.name)
                && node.has(&self.selector)
                && self.terms.as_ref().is_none_or(|terms| node.matches(terms))
        };
        // Whoever names a node goes there whatever its taints.
        let takes = |node: &Node| self.named.is_some() || node.takes(&self.tolerations);
        if nodes.iter().filter(fits).any(takes) {
            return None;
        }
        let why = if self.named.is_some() {
            "does not have the node that its nodeName names: take nodeName out by a transform"
        } else if nodes.iter().any(|node| fits(&node)) {
            "has taints on each node that it selects, and does not tolerate them: let it tolerate them by a transform"
        } else {
            "has no node that its nodeSelector and node affinity choose: label nodes there, or change them by a transform"
        };
        let more = match self.count {
            0 | 1 => String::new(),
            count => format!(" ({} more workloads wish the same)", count - 1),
        };
        let message = format!("its Pods would wait for a node: cluster {cluster} {why}{more}");
        Some(Concern::warning(&self.first, "NoNodeFits", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(labels: &Value, taints: &Value) -> Node {
        Node::of(&json!({"metadata": {"name": "n", "labels": labels}, "spec": {"taints": taints}}))
    }

    fn wishing(kind: &str, spec: &Value) -> Wishes {
        let workload =
            json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web", "namespace": "cms"}});
        let mut wishes = Wishes::default();
        wishes.see(&workload, &json!({ "spec": spec }));
        wishes
    }

    fn told(wishes: &Wishes, nodes: &[Node]) -> Vec<String> {
        wishes.concerns(nodes, "west").into_iter().map(|concern| concern.finding.message).collect()
    }

    #[test]
    fn a_selector_that_no_node_meets_is_told() {
        let wishes = wishing("Deployment", &json!({"nodeSelector": {"disk": "fast"}}));
        assert!(told(&wishes, &[node(&json!({"disk": "fast"}), &json!([]))]).is_empty());
        let told = told(&wishes, &[node(&json!({"disk": "slow"}), &json!([]))]);
        assert!(told[0].contains("cluster west has no node"), "{told:?}");
    }

    #[test]
    fn a_required_affinity_counts_as_a_selector_does() {
        let term = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]});
        let required = json!({"nodeSelectorTerms": [term]});
        let wishes = wishing(
            "StatefulSet",
            &json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}),
        );
        assert!(told(&wishes, &[node(&json!({"zone": "a"}), &json!([]))]).is_empty());
        assert_eq!(told(&wishes, &[node(&json!({"zone": "b"}), &json!([]))]).len(), 1);
    }

    #[test]
    fn nodes_that_keep_the_pods_away_do_not_count() {
        let taint = json!([{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]);
        let nodes = [node(&json!({"disk": "fast"}), &taint)];
        let told_of = |spec: &Value| told(&wishing("Deployment", spec), &nodes);
        assert!(told_of(&json!({"nodeSelector": {"disk": "fast"}}))[0].contains("taints"));
        let tolerates =
            json!({"nodeSelector": {"disk": "fast"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]});
        assert!(told_of(&tolerates).is_empty());
    }

    #[test]
    fn a_node_that_is_named_must_be_there() {
        let wishes = wishing("Deployment", &json!({"nodeName": "n"}));
        let taint = json!([{"key": "gpu", "effect": "NoSchedule"}]);
        assert!(told(&wishes, &[node(&json!({}), &taint)]).is_empty(), "past the scheduler no taint counts");
        let gone =
            told(&wishing("Deployment", &json!({"nodeName": "east-1"})), &[node(&json!({}), &json!([]))]);
        assert!(gone[0].contains("nodeName"), "{gone:?}");
    }

    #[test]
    fn nothing_is_said_of_what_goes_anywhere_or_of_a_cluster_without_known_nodes() {
        assert!(wishing("Deployment", &json!({})).is_empty());
        assert!(wishing("DaemonSet", &json!({"nodeSelector": {"never": "there"}})).is_empty());
        assert!(told(&wishing("Deployment", &json!({"nodeSelector": {"a": "b"}})), &[]).is_empty());
    }
}
