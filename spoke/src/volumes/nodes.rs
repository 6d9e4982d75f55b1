//! The nodes of the cluster, as far as a mover's place depends on them, and which of them a Pod's
//! selectors and tolerations allow. As the scheduler judges it, but for room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Mutex;

use crate::cluster::{Cluster, ClusterError, array, name, text};

/// Nodes that are looked at; what is said of a cluster with more is said of these.
const MAX_NODES: usize = 10_000;
/// How long what was read is good for: many volumes begin within it.
pub const FRESH: Duration = Duration::from_secs(15);
/// The taint that a cordoned node has.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Taints that keep Pods away: key, value, effect.
    pub taints: Vec<(String, String, String)>,
    /// Whether its kubelet reports.
    pub ready: bool,
    /// Whether its kubelet says where it can be asked.
    pub answers: bool,
}

impl Node {
    /// Of the object.
    pub fn of(node: &Value) -> Self {
        let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
        let labels = labels.into_iter().flatten();
        let mut taints: Vec<(String, String, String)> = array(node, "/spec/taints")
            .iter()
            .filter(|taint| text(taint, "/effect") != "PreferNoSchedule")
            .map(|taint| {
                let of = |field: &str| text(taint, field).to_owned();
                (of("/key"), of("/value"), of("/effect"))
            })
            .collect();
        let cordoned = node.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
        if cordoned && !taints.iter().any(|(key, ..)| key == UNSCHEDULABLE) {
            taints.push((UNSCHEDULABLE.to_owned(), String::new(), "NoSchedule".to_owned()));
        }
        Self {
            name: name(node).to_owned(),
            labels: labels
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
            taints,
            ready: array(node, "/status/conditions")
                .iter()
                .any(|condition| text(condition, "/type") == "Ready" && text(condition, "/status") == "True"),
            answers: node
                .pointer("/status/daemonEndpoints/kubeletEndpoint/Port")
                .and_then(Value::as_i64)
                .is_some_and(|port| port > 0),
        }
    }

    /// Whether it has all these labels.
    pub fn has(&self, selector: &BTreeMap<String, String>) -> bool {
        selector.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }

    /// Whether one of these `nodeSelectorTerms` matches; an empty term matches nothing.
    pub fn matches(&self, terms: &[Value]) -> bool {
        let by_name = BTreeMap::from([("metadata.name".to_owned(), self.name.clone())]);
        terms.iter().any(|term| {
            let (expressions, fields) = (array(term, "/matchExpressions"), array(term, "/matchFields"));
            !(expressions.is_empty() && fields.is_empty())
                && expressions.iter().all(|requirement| holds(requirement, &self.labels))
                && fields.iter().all(|requirement| holds(requirement, &by_name))
        })
    }

    /// Whether its taints are tolerated.
    pub fn takes(&self, tolerations: &[Value]) -> bool {
        self.taints.iter().all(|taint| tolerations.iter().any(|toleration| tolerates(toleration, taint)))
    }
}

fn holds(requirement: &Value, of: &BTreeMap<String, String>) -> bool {
    let values = array(requirement, "/values");
    let actual = of.get(text(requirement, "/key"));
    let among = |actual: &String| values.iter().any(|value| value == actual.as_str());
    let number = |text: &str| text.parse::<i64>().ok();
    let compared = || {
        let bound = values.first().and_then(Value::as_str).and_then(number);
        actual.and_then(|actual| number(actual)).zip(bound)
    };
    match text(requirement, "/operator") {
        "In" => actual.is_some_and(among),
        "NotIn" => !actual.is_some_and(among),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        "Gt" => compared().is_some_and(|(actual, bound)| actual > bound),
        "Lt" => compared().is_some_and(|(actual, bound)| actual < bound),
        _ => false,
    }
}

fn tolerates(toleration: &Value, (key, value, effect): &(String, String, String)) -> bool {
    let of = |field: &str| text(toleration, field);
    let exists = of("/operator") == "Exists";
    (of("/effect").is_empty() || of("/effect") == effect)
        && (of("/key") == key && (exists || of("/value") == value) || of("/key").is_empty() && exists)
}

/// The nodes, read now and then.
#[derive(Debug, Default)]
pub struct Nodes(Mutex<Option<(Instant, Arc<Vec<Node>>)>>);

impl Nodes {
    /// The nodes of the cluster, at most [`FRESH`] old.
    pub async fn read(&self, cluster: &Cluster) -> Result<Arc<Vec<Node>>, ClusterError> {
        let mut known = self.0.lock().await;
        if let Some((at, nodes)) = known.as_ref()
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(nodes));
        }
        let mut nodes = Vec::new();
        let mut next = None;
        loop {
            let page = cluster.page("/api/v1/nodes", "", next.as_deref()).await?;
            nodes.extend(page.items.iter().map(Node::of));
            next = page.next;
            if next.is_none() || nodes.len() >= MAX_NODES {
                break;
            }
        }
        let nodes = Arc::new(nodes);
        *known = Some((Instant::now(), Arc::clone(&nodes)));
        Ok(nodes)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(spec: &Value) -> Node {
        Node::of(&json!({"metadata": {"name": "n1", "labels": {"zone": "a", "cores": "8"}}, "spec": spec,
                         "status": {"conditions": [{"type": "Ready", "status": "True"}]}}))
    }

    #[test]
    fn a_cordoned_node_takes_what_tolerates_that() {
        let cordoned = node(&json!({"unschedulable": true}));
        assert!(cordoned.ready && !cordoned.takes(&[]));
        let key = json!({"key": UNSCHEDULABLE, "operator": "Exists", "effect": "NoSchedule"});
        assert!(cordoned.takes(&[key]));
        assert!(cordoned.takes(&[json!({"operator": "Exists"})]));
    }

    #[test]
    fn taints_are_tolerated_by_key_value_and_effect() {
        let tainted = node(&json!({"taints": [{"key": "db", "value": "yes", "effect": "NoSchedule"},
                                              {"key": "soft", "effect": "PreferNoSchedule"}]}));
        assert!(tainted.takes(&[json!({"key": "db", "value": "yes"})]));
        assert!(tainted.takes(&[json!({"key": "db", "operator": "Exists", "effect": "NoSchedule"})]));
        assert!(!tainted.takes(&[json!({"key": "db", "value": "no"})]));
        assert!(!tainted.takes(&[json!({"key": "db", "operator": "Exists", "effect": "NoExecute"})]));
    }

    #[test]
    fn nodes_are_chosen_by_every_operator() {
        let node = node(&json!({}));
        let by = |key: &str, operator: &str, values: &[&str]| {
            node.matches(&[
                json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}),
            ])
        };
        assert!(by("zone", "In", &["a", "b"]) && !by("zone", "In", &["b"]));
        assert!(by("zone", "NotIn", &["b"]) && by("rack", "NotIn", &["1"]) && !by("zone", "NotIn", &["a"]));
        assert!(by("zone", "Exists", &[]) && by("rack", "DoesNotExist", &[]));
        assert!(by("cores", "Gt", &["4"]) && !by("cores", "Lt", &["8"]));
        assert!(!node.matches(&[json!({})]) && !node.matches(&[]), "an empty term matches nothing");
        let field = |name: &str| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]});
        assert!(node.matches(&[field("other"), field("n1")]) && !node.matches(&[field("other")]));
        assert!(node.has(&BTreeMap::from([("zone".to_owned(), "a".to_owned())])));
    }
}
