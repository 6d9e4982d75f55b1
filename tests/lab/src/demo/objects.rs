//! Compares the objects of a namespace in two clusters.
//!
//! Every kind that either side serves is compared, every object in full, except for what is written
//! down here: [`LEFT_BEHIND`] kinds and objects, and the [`EXPECTED`] differences.

use std::collections::BTreeMap;

use anyhow::Context as _;
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Api, Client};
use serde_json::{Map, Value};

use super::show;
use crate::lab::Lab;

/// Whether the application runs on the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Running {
    Yes,
    No,
}

/// Kinds that a cluster makes itself, by group and plural.
const LEFT_BEHIND: &[(&str, &str, &str)] = &[
    ("", "pods", "made by workloads"),
    ("", "events", "tell what happened in their cluster"),
    ("events.k8s.io", "events", "tell what happened in their cluster"),
    ("", "endpoints", "made for Services"),
    ("discovery.k8s.io", "endpointslices", "made for Services"),
    ("coordination.k8s.io", "leases", "held by processes of their cluster"),
    ("metrics.k8s.io", "pods", "measured"),
];
/// Objects that every namespace gets, by plural and name.
const DEFAULTS: &[(&str, &str)] = &[("serviceaccounts", "default"), ("configmaps", "kube-root-ca.crt")];

/// What must differ: the kind (`*` is any), the place, and why.
const EXPECTED: &[(&str, &str, &str)] = &[
    ("*", "/status", "is written by the cluster"),
    ("*", "/metadata/uid", "names this copy"),
    ("*", "/metadata/resourceVersion", "counts in its cluster"),
    ("*", "/metadata/generation", "counts in its cluster"),
    ("*", "/metadata/creationTimestamp", "is the copy's own"),
    ("*", "/metadata/managedFields", "says who wrote here"),
    ("*", "/metadata/labels/isthmus.dev~1migrated-by", "marks the copy"),
    ("*", "/metadata/labels/isthmus.dev~1plan", "says which namespace the copy is of"),
    ("*", "/metadata/annotations/isthmus.dev~1migration-replicas", "keeps the count of a stopped workload"),
    ("*", "/metadata/annotations/isthmus.dev~1migration-suspend", "keeps the setting of a stopped CronJob"),
    ("*", "/metadata/annotations/deployment.kubernetes.io~1revision", "counts rollouts in its cluster"),
    ("Namespace", "/metadata/annotations", "carries the marks of its cluster"),
    ("Namespace", "/spec", "is the cluster's own"),
    ("Service", "/spec/clusterIP", "is allocated"),
    ("Service", "/spec/clusterIPs", "is allocated"),
    ("Service", "/spec/ports/*/nodePort", "is allocated"),
    ("Service", "/spec/healthCheckNodePort", "is allocated"),
    ("PersistentVolumeClaim", "/spec/volumeName", "names the cluster's volume"),
    (
        "PersistentVolumeClaim",
        "/metadata/annotations/pv.kubernetes.io~1bind-completed",
        "is written at binding",
    ),
    (
        "PersistentVolumeClaim",
        "/metadata/annotations/pv.kubernetes.io~1bound-by-controller",
        "is written at binding",
    ),
    (
        "PersistentVolumeClaim",
        "/metadata/annotations/volume.kubernetes.io~1storage-provisioner",
        "is written at binding",
    ),
    (
        "PersistentVolumeClaim",
        "/metadata/annotations/volume.beta.kubernetes.io~1storage-provisioner",
        "is written at binding",
    ),
    (
        "PersistentVolumeClaim",
        "/metadata/annotations/volume.kubernetes.io~1selected-node",
        "is written at binding",
    ),
];
/// What differs until the application is started.
const STOPPED: &[(&str, &str)] = &[
    ("Deployment", "/spec/replicas"),
    ("StatefulSet", "/spec/replicas"),
    ("ReplicaSet", "/spec/replicas"),
    ("CronJob", "/spec/suspend"),
];

/// All objects of a namespace that count, by kind and name.
type Objects = BTreeMap<(String, String), Value>;

/// Compares and shows; returns how many objects differ.
pub(super) async fn compare(
    lab: &Lab,
    [source, destination]: [&str; 2],
    namespace: &str,
    running: Running,
) -> anyhow::Result<usize> {
    let left =
        read(&lab.client(source)?, namespace).await.with_context(|| format!("reading cluster {source}"))?;
    let right = read(&lab.client(destination)?, namespace)
        .await
        .with_context(|| format!("reading cluster {destination}"))?;
    let differences = differences(&left, &right, running);
    show(&format!("{} objects of namespace {namespace}", left.len()), &differences);
    Ok(differences.len())
}

async fn read(client: &Client, namespace: &str) -> anyhow::Result<Objects> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let mut objects = Objects::new();
    for (resource, capabilities) in
        discovery.groups().flat_map(kube::discovery::ApiGroup::recommended_resources)
    {
        let cluster_made = LEFT_BEHIND
            .iter()
            .any(|(group, plural, _)| *group == resource.group && *plural == resource.plural);
        if cluster_made
            || capabilities.scope != Scope::Namespaced
            || !capabilities.supports_operation(verbs::LIST)
        {
            continue;
        }
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
        for object in api.list(&ListParams::default()).await?.items {
            let name = object.metadata.name.clone().unwrap_or_default();
            let owned = object.metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty());
            let default = DEFAULTS.contains(&(resource.plural.as_str(), name.as_str()));
            if !owned && !default {
                objects.insert((resource.kind.clone(), name), serde_json::to_value(&object)?);
            }
        }
    }
    let own = Api::<k8s_openapi::api::core::v1::Namespace>::all(client.clone()).get(namespace).await?;
    objects.insert(("Namespace".to_owned(), namespace.to_owned()), serde_json::to_value(own)?);
    Ok(objects)
}

fn differences(left: &Objects, right: &Objects, running: Running) -> Vec<String> {
    let mut found = Vec::new();
    for ((kind, name), object) in left {
        match right.get(&(kind.clone(), name.clone())) {
            None => found.push(format!("{kind} {name} did not arrive")),
            Some(other) => {
                let mut paths = Vec::new();
                unequal("", &normal(kind, object, running), &normal(kind, other, running), &mut paths);
                found.extend(paths.into_iter().map(|path| format!("{kind} {name}: {path}")));
            }
        }
    }
    let extra = right.keys().filter(|key| !left.contains_key(*key));
    found.extend(extra.map(|(kind, name)| format!("{kind} {name} is only on the destination")));
    found
}

/// The object without what must differ.
fn normal(kind: &str, object: &Value, running: Running) -> Value {
    let mut object = object.clone();
    for (of, path, _) in EXPECTED {
        if *of == "*" || *of == kind {
            remove(&mut object, path);
        }
    }
    if running == Running::No {
        for (of, path) in STOPPED {
            if *of == kind {
                remove(&mut object, path);
            }
        }
    }
    // An empty map says the same as none.
    for map in ["labels", "annotations"] {
        if object["metadata"][map].as_object().is_some_and(Map::is_empty) {
            remove(&mut object, &format!("/metadata/{map}"));
        }
    }
    object
}

/// Removes what a JSON pointer names; `*` stands for every element of a list.
fn remove(object: &mut Value, path: &str) {
    let Some((parent, last)) = path.rsplit_once('/') else { return };
    if let Some((list, rest)) = parent.split_once("/*") {
        let elements = object.pointer_mut(list).and_then(Value::as_array_mut);
        for element in elements.into_iter().flatten() {
            remove(element, &format!("{rest}/{last}"));
        }
        return;
    }
    if let Some(parent) = object.pointer_mut(parent).and_then(Value::as_object_mut) {
        parent.remove(&last.replace("~1", "/").replace("~0", "~"));
    }
}

fn unequal(path: &str, left: &Value, right: &Value, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            for key in keys {
                let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                unequal(&format!("{path}/{key}"), &of(left), &of(right), found);
            }
        }
        (left, right) if left != right => found.push(format!("{path} was {left} and is {right}")),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn objects(kind: &str, object: Value) -> Objects {
        [((kind.to_owned(), "x".to_owned()), object)].into()
    }

    #[test]
    fn allocated_ports_may_differ_and_others_may_not() {
        let service = |node: u16, port: u16| {
            objects(
                "Service",
                json!({"spec": {"clusterIP": node.to_string(), "ports": [{"port": port, "nodePort": node}]}}),
            )
        };
        assert!(differences(&service(1, 80), &service(2, 80), Running::Yes).is_empty());
        assert_eq!(differences(&service(1, 80), &service(2, 81), Running::Yes).len(), 1);
    }

    #[test]
    fn counts_differ_only_until_the_application_is_started() {
        let deployment = |replicas: u8| objects("Deployment", json!({"spec": {"replicas": replicas}}));
        assert!(differences(&deployment(3), &deployment(0), Running::No).is_empty());
        assert_eq!(differences(&deployment(3), &deployment(0), Running::Yes).len(), 1);
    }

    #[test]
    fn an_object_that_is_missing_or_left_over_is_a_difference() {
        let secret = objects("Secret", json!({"data": {}}));
        assert_eq!(differences(&secret, &Objects::new(), Running::No), ["Secret x did not arrive"]);
        assert_eq!(
            differences(&Objects::new(), &secret, Running::No),
            ["Secret x is only on the destination"]
        );
    }
}
