//! What a workload asks for its Pods: pure. Small, so that those of a whole run are kept.

use std::collections::BTreeMap;

use isthmus_shared::quantity::Amount;
use isthmus_shared::resources::{MIGRATION_REPLICAS, MIGRATION_SUSPEND};
use serde_json::Value;

use crate::cluster::{annotation, api_version, array, kind, text};
use crate::workloads::state::{Switch, switch};

/// Amounts by resource: `cpu`, `memory`, `nvidia.com/gpu`.
pub type Amounts = BTreeMap<String, Amount>;

/// One container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerShape {
    /// Its name.
    pub name: String,
    /// Runs before the others, and ends.
    pub init: bool,
    /// What it asks for.
    pub requests: Amounts,
    /// What it may take.
    pub limits: Amounts,
}

/// A Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodShape {
    /// Its containers, those that run before the others too.
    pub containers: Vec<ContainerShape>,
    /// What its runtime class adds.
    pub overhead: Amounts,
    /// Its priority class.
    pub priority_class: Option<String>,
    /// Its runtime class.
    pub runtime_class: Option<String>,
    /// Whether it ends at a deadline.
    pub terminating: bool,
}

/// Where the template of a workload's Pods is: the Pod itself is its own.
pub fn template(object: &Value) -> Option<&Value> {
    match (api_version(object), kind(object)) {
        ("v1", "Pod") => Some(object),
        (_, "CronJob") => object.pointer("/spec/jobTemplate/spec/template"),
        _ => switch(object).and_then(|_| object.pointer("/spec/template")),
    }
    .filter(|template| template.get("spec").is_some())
}

/// How many Pods a workload has once it runs: what it says, or what was kept when it was stopped.
/// Those of a DaemonSet are as many as there are nodes, and count as one; those of a CronJob come
/// and go.
pub fn pods(object: &Value) -> i64 {
    let count = |pointer: &str, unset: i64| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(unset);
    match (switch(object), kind(object)) {
        (None, "Pod") | (Some(Switch::NodeSelector), _) => 1,
        (None, _) | (_, "CronJob") => 0,
        (Some(Switch::Replicas), _) => match annotation(object, MIGRATION_REPLICAS) {
            Some(kept) => kept.parse().unwrap_or(0),
            None => count("/spec/replicas", 1),
        },
        (Some(Switch::Suspend), _) => match annotation(object, MIGRATION_SUSPEND) {
            Some("true") => 0,
            _ => count("/spec/parallelism", 1).min(count("/spec/completions", i64::MAX)),
        },
    }
}

/// How many Pods a workload on the destination has now.
pub fn running_pods(live: &Value) -> i64 {
    if matches!(switch(live), Some(Switch::Replicas)) {
        live.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
    } else {
        pods(live)
    }
}

impl PodShape {
    /// Of a template.
    pub fn of(template: &Value) -> Self {
        let of = |pointer: &str, init: bool| -> Vec<ContainerShape> {
            array(template, pointer)
                .iter()
                .map(|container| ContainerShape {
                    name: text(container, "/name").to_owned(),
                    // One that is restarted always runs beside the others.
                    init: init && text(container, "/restartPolicy") != "Always",
                    requests: amounts(container.pointer("/resources/requests")),
                    limits: amounts(container.pointer("/resources/limits")),
                })
                .collect()
        };
        let mut containers = of("/spec/initContainers", true);
        containers.extend(of("/spec/containers", false));
        let named =
            |pointer: &str| Some(text(template, pointer)).filter(|n| !n.is_empty()).map(str::to_owned);
        Self {
            containers,
            overhead: amounts(template.pointer("/spec/overhead")),
            priority_class: named("/spec/priorityClassName"),
            runtime_class: named("/spec/runtimeClassName"),
            terminating: template.pointer("/spec/activeDeadlineSeconds").is_some_and(Value::is_number),
        }
    }

    /// With the values that a container has when it says none: a limit alone is a request too.
    pub fn with_defaults(mut self, requests: &Amounts, limits: &Amounts) -> Self {
        for container in &mut self.containers {
            let said = container.limits.clone();
            for (resource, limit) in limits {
                container.limits.entry(resource.clone()).or_insert(*limit);
            }
            for (resource, limit) in &said {
                container.requests.entry(resource.clone()).or_insert(*limit);
            }
            for (resource, request) in requests {
                container.requests.entry(resource.clone()).or_insert(*request);
            }
        }
        self
    }

    /// What the Pod as a whole asks for, or may take, of a resource: the containers that run
    /// together, or the largest of those before them, whichever is more.
    pub fn total(&self, resource: &str, of: impl Fn(&ContainerShape) -> &Amounts) -> Amount {
        let amount = |container: &ContainerShape| of(container).get(resource).copied().unwrap_or_default();
        let together: Amount = self.containers.iter().filter(|c| !c.init).map(amount).sum();
        let before = self.containers.iter().filter(|c| c.init).map(amount).max().unwrap_or_default();
        together.max(before) + self.overhead.get(resource).copied().unwrap_or_default()
    }

    /// Whether no container asks for anything.
    pub fn is_best_effort(&self) -> bool {
        let none = |amounts: &Amounts| !amounts.contains_key("cpu") && !amounts.contains_key("memory");
        self.containers.iter().all(|container| none(&container.requests) && none(&container.limits))
    }
}

/// The amounts of a map; what is no quantity is left out.
pub fn amounts(map: Option<&Value>) -> Amounts {
    let map = map.and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), Amount::read(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_workload_counts_with_the_pods_that_it_has_once_it_runs() {
        let with = |kind: &str, api: &str, spec: Value, annotations: Value| {
            pods(
                &json!({"apiVersion": api, "kind": kind, "metadata": {"annotations": annotations}, "spec": spec}),
            )
        };
        let kept = json!({"isthmus.dev/migration-replicas": "3"});
        assert_eq!(with("Deployment", "apps/v1", json!({"replicas": 0}), kept), 3);
        assert_eq!(with("StatefulSet", "apps/v1", json!({}), json!({})), 1);
        assert_eq!(with("Job", "batch/v1", json!({"parallelism": 4, "completions": 2}), json!({})), 2);
        let suspended = json!({"isthmus.dev/migration-suspend": "true"});
        assert_eq!(with("Job", "batch/v1", json!({}), suspended), 0);
        assert_eq!(with("CronJob", "batch/v1", json!({}), json!({})), 0);
        assert_eq!(with("DaemonSet", "apps/v1", json!({}), json!({})), 1);
        assert_eq!(with("ConfigMap", "v1", json!({}), json!({})), 0);
    }

    #[test]
    fn containers_that_run_together_are_added_and_those_before_them_are_not() {
        let shape = PodShape::of(&json!({"spec": {
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "200m"}}},
                           {"name": "b", "resources": {"requests": {"cpu": "300m"}}}],
            "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "1"}}},
                               {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}}],
            "overhead": {"cpu": "50m"}}}));
        assert_eq!(shape.total("cpu", |c| &c.requests).to_string(), "1050m");
        assert_eq!(shape.total("memory", |c| &c.requests), Amount::ZERO);
    }

    #[test]
    fn a_container_that_says_nothing_gets_the_defaults_and_a_limit_is_a_request() {
        let shape = PodShape::of(&json!({"spec": {"containers": [
            {"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "2"}}}]}}));
        assert!(!shape.is_best_effort());
        let amount = |text| Amounts::from([("cpu".to_owned(), Amount::parse(text).unwrap())]);
        let shape = shape.with_defaults(&amount("100m"), &amount("1"));
        let requests: Vec<String> = shape.containers.iter().map(|c| c.requests["cpu"].to_string()).collect();
        assert_eq!(requests, ["100m", "2"]);
        assert_eq!(shape.containers[0].limits["cpu"].to_string(), "1");
    }

    #[test]
    fn the_template_is_found_in_every_kind_of_workload() {
        let pod = json!({"spec": {"containers": []}});
        let object =
            |api: &str, kind: &str, spec: Value| json!({"apiVersion": api, "kind": kind, "spec": spec});
        assert!(template(&object("apps/v1", "Deployment", json!({"template": pod}))).is_some());
        let cron = json!({"jobTemplate": {"spec": {"template": pod}}});
        assert!(template(&object("batch/v1", "CronJob", cron)).is_some());
        assert!(template(&object("v1", "Pod", json!({"containers": []}))).is_some());
        assert!(template(&object("v1", "ConfigMap", json!({}))).is_none());
    }
}
