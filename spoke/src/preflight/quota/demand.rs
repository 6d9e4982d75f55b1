//! What objects and Pods count for, by the names that quotas use. Pure.

use isthmus_shared::quantity::Amount;
use serde_json::Value;

use super::Quota;
use crate::cluster::{Kind, array, text};
use crate::preflight::pod_shape::{Amounts, PodShape};

/// Kinds that quotas count by a name of their own, beside `count/`.
const NAMED: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];

/// A workload and its Pods.
#[derive(Clone, Debug)]
pub struct Workload {
    /// How messages name it.
    pub object: String,
    /// How many Pods it has more once it runs than it has on the destination now.
    pub more: i64,
    /// What each asks for, the namespace's defaults given.
    pub shape: PodShape,
}

/// What a new object counts for. Pods count by their workloads.
pub fn of_object(kind: &Kind, object: &Value) -> Amounts {
    let one = Amount::of(1);
    let mut amounts = Amounts::from([(format!("count/{}", kind.resource()), one)]);
    if !kind.group.is_empty() {
        return amounts;
    }
    if NAMED.contains(&kind.plural.as_str()) {
        amounts.insert(kind.plural.clone(), one);
    }
    match kind.kind.as_str() {
        "Service" => {
            let kind = text(object, "/spec/type");
            let allocates =
                object.pointer("/spec/allocateLoadBalancerNodePorts").and_then(Value::as_bool) != Some(false);
            if kind == "LoadBalancer" {
                amounts.insert("services.loadbalancers".to_owned(), one);
            }
            if kind == "NodePort" || (kind == "LoadBalancer" && allocates) {
                let ports = i64::try_from(array(object, "/spec/ports").len()).unwrap_or(i64::MAX);
                amounts.insert("services.nodeports".to_owned(), Amount::of(ports));
            }
        }
        "PersistentVolumeClaim" => {
            let size = object.pointer("/spec/resources/requests/storage").and_then(Amount::read);
            let size = size.unwrap_or_default();
            amounts.insert("requests.storage".to_owned(), size);
            let class = text(object, "/spec/storageClassName");
            if !class.is_empty() {
                let of_class = format!("{class}.storageclass.storage.k8s.io");
                amounts.insert(format!("{of_class}/requests.storage"), size);
                amounts.insert(format!("{of_class}/persistentvolumeclaims"), one);
            }
        }
        _ => {}
    }
    amounts
}

/// What the Pods of workloads come to for a quota, and those whose containers do not say what it
/// wants said.
pub fn of_pods(quota: &Quota, workloads: &[Workload]) -> (Amounts, Vec<(String, Vec<String>)>) {
    let mut sums = Amounts::new();
    let mut silent = Vec::new();
    let concerned = workloads.iter().filter(|workload| workload.more > 0 && quota.is_for(&workload.shape));
    for Workload { object, more, shape } in concerned {
        for key in quota.hard.keys() {
            if let Some(amount) = of_pod(key, shape) {
                *sums.entry(key.clone()).or_default() += amount * *more;
            }
        }
        let mut lacking = Vec::new();
        for (resource, limit) in quota.demanded() {
            let says = |container: &crate::preflight::pod_shape::ContainerShape| {
                let of = if limit { &container.limits } else { &container.requests };
                of.contains_key(resource) || (!limit && container.limits.contains_key(resource))
            };
            if !shape.containers.iter().all(says) {
                lacking.push(format!("{}.{resource}", if limit { "limits" } else { "requests" }));
            }
        }
        if !lacking.is_empty() {
            silent.push((object.clone(), lacking));
        }
    }
    (sums, silent)
}

/// What one Pod counts for under a name; none if the name is not about Pods.
pub fn of_pod(key: &str, shape: &PodShape) -> Option<Amount> {
    match key {
        "pods" | "count/pods" => Some(Amount::of(1)),
        "cpu" | "memory" => Some(requested(shape, key)),
        _ => {
            if let Some(resource) = key.strip_prefix("limits.") {
                return Some(shape.total(resource, |container| &container.limits));
            }
            let resource = key.strip_prefix("requests.")?;
            // Storage is the claims'.
            (resource != "storage").then(|| requested(shape, resource))
        }
    }
}

/// A limit alone is a request too.
fn requested(shape: &PodShape, resource: &str) -> Amount {
    let none = Amounts::new();
    let shape = shape.clone().with_defaults(&none, &none);
    shape.total(resource, |container| &container.requests)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kind(group: &str, kind: &str, plural: &str) -> Kind {
        Kind {
            group: group.to_owned(),
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            namespaced: true,
            verbs: Vec::new(),
        }
    }

    fn counted(kind: &Kind, object: &Value) -> Vec<String> {
        of_object(kind, object).into_iter().map(|(key, amount)| format!("{key}={amount}")).collect()
    }

    #[test]
    fn objects_count_under_every_name_that_quotas_have_for_them() {
        let service = json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}});
        assert_eq!(
            counted(&kind("", "Service", "services"), &service),
            ["count/services=1", "services=1", "services.loadbalancers=1", "services.nodeports=2"]
        );
        let claim =
            json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "2Gi"}}}});
        assert_eq!(
            counted(&kind("", "PersistentVolumeClaim", "persistentvolumeclaims"), &claim),
            [
                "count/persistentvolumeclaims=1",
                "fast.storageclass.storage.k8s.io/persistentvolumeclaims=1",
                "fast.storageclass.storage.k8s.io/requests.storage=2Gi",
                "persistentvolumeclaims=1",
                "requests.storage=2Gi"
            ]
        );
        assert_eq!(
            counted(&kind("apps", "Deployment", "deployments"), &json!({})),
            ["count/deployments.apps=1"]
        );
    }
}
