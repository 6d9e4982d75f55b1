//! Whether a pod may run on a node: pure, from the two objects and the pod's volumes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume, Pod, Taint, Toleration,
};
use kube::ResourceExt;

use crate::controllers::cordon::CORDONED;

/// Why the node will not take the pod by its selectors, affinity and taints; `None` if it will.
pub(crate) fn node_refusal(pod: &Pod, node: &Node) -> Option<&'static str> {
    let spec = pod.spec.as_ref()?;
    let labels = node.labels();
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    if !selected {
        return Some("node(s) didn't match Pod's node selector");
    }
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    if required.is_some_and(|required| !selector_matches(required, node)) {
        return Some("node(s) didn't match Pod's node affinity");
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let node_spec = node.spec.clone().unwrap_or_default();
    let cordon = Taint { key: CORDONED.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() };
    if node_spec.unschedulable == Some(true) && !tolerated(&cordon, tolerations) {
        return Some("node(s) were unschedulable");
    }
    let taints = node_spec.taints.unwrap_or_default();
    let hard = taints.iter().filter(|taint| taint.effect != "PreferNoSchedule");
    hard.into_iter().any(|taint| !tolerated(taint, tolerations)).then_some("node(s) had untolerated taints")
}

/// Whether the volume can be reached from the node.
pub(crate) fn reaches(volume: &PersistentVolume, node: &Node) -> bool {
    volume
        .spec
        .as_ref()
        .and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref())
        .is_none_or(|required| selector_matches(required, node))
}

fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        let exists = toleration.operator.as_deref() == Some("Exists");
        let value = toleration.value.as_deref().unwrap_or_default();
        (effect.is_empty() || effect == taint.effect)
            && (key == taint.key && (exists || value == taint.value.as_deref().unwrap_or_default())
                || key.is_empty() && exists)
    })
}

/// Whether one of the terms matches; an empty term matches nothing.
pub(crate) fn selector_matches(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| term_matches(term, node))
}

fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let names: BTreeMap<String, String> = [("metadata.name".to_owned(), node.name_any())].into();
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|requirement| holds(requirement, node.labels()))
        && fields.iter().all(|requirement| holds(requirement, &names))
}

fn holds(requirement: &NodeSelectorRequirement, of: &BTreeMap<String, String>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let actual = of.get(&requirement.key);
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
    match requirement.operator.as_str() {
        "In" => actual.is_some_and(|actual| values.contains(actual)),
        "NotIn" => actual.is_none_or(|actual| !values.contains(actual)),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        "Gt" => number(actual).zip(number(values.first())).is_some_and(|(actual, bound)| actual > bound),
        "Lt" => number(actual).zip(number(values.first())).is_some_and(|(actual, bound)| actual < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(spec: &Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n1", "labels": {"zone": "a"}}, "spec": spec}))
            .unwrap()
    }

    fn pod(spec: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn affinity(term: &Value) -> Value {
        json!({"containers": [], "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [term]}}}})
    }

    #[test]
    fn a_node_is_chosen_by_its_name_in_match_fields() {
        let by_name = |name: &str| {
            pod(&affinity(
                &json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}),
            ))
        };
        assert_eq!(node_refusal(&by_name("n1"), &node(&json!({}))), None);
        assert!(node_refusal(&by_name("n2"), &node(&json!({}))).is_some());
    }

    #[test]
    fn an_empty_term_matches_no_node() {
        assert!(node_refusal(&pod(&affinity(&json!({}))), &node(&json!({}))).is_some());
    }

    #[test]
    fn a_taint_keeps_out_what_does_not_tolerate_it() {
        let tainted = node(&json!({"taints": [{"key": "db", "value": "yes", "effect": "NoSchedule"}]}));
        assert!(node_refusal(&pod(&json!({"containers": []})), &tainted).is_some());
        let all = json!({"containers": [], "tolerations": [{"operator": "Exists"}]});
        assert_eq!(node_refusal(&pod(&all), &tainted), None);
        let other = json!({"containers": [], "tolerations": [{"key": "db", "value": "no"}]});
        assert!(node_refusal(&pod(&other), &tainted).is_some());
    }

    #[test]
    fn a_cordoned_node_takes_only_what_tolerates_it() {
        let cordoned = node(&json!({"unschedulable": true}));
        assert!(node_refusal(&pod(&json!({"containers": []})), &cordoned).is_some());
    }
}
