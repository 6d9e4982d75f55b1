//! What the server does for particular built-in kinds: defaults, what it sets itself, and what it
//! refuses. [`names`] holds the rules that all objects obey.

pub mod classes;
pub mod config;
pub mod crd;
pub mod jobs;
pub mod names;
pub mod networking;
pub mod pods;
pub mod policy;
pub mod registrations;
pub mod service;
pub mod service_rules;
pub mod storage;
pub mod workloads;

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use super::error::FieldError;
use super::json::{default, remove, set};
use super::registry::Resource;
use super::store::Transaction;

/// What the cluster hands out.
#[derive(Debug, Clone)]
pub struct Ranges {
    /// Addresses of services.
    pub services: service::Cidr,
    /// Ports of services on nodes.
    pub node_ports: RangeInclusive<u16>,
}

/// Fills in a built-in kind's defaults.
pub fn set_defaults(resource: &Resource, object: &mut Value) {
    if resource.is_custom() {
        return;
    }
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pods::default_pod(object),
        ("", "PodTemplate") => {
            if let Some(template) = object.get_mut("template") {
                pods::default_template(template);
            }
        }
        ("", "Service") => service::set_defaults(object),
        ("", "Secret") => config::default_secret(object),
        ("", "PersistentVolumeClaim") => storage::default_claim(object),
        ("", "PersistentVolume") => storage::default_volume(object),
        ("storage.k8s.io", "StorageClass") => storage::default_class(object),
        ("", "Endpoints") => networking::default_endpoints(object),
        ("discovery.k8s.io", "EndpointSlice") => networking::default_slice(object),
        ("networking.k8s.io", "NetworkPolicy") => networking::default_policy(object),
        (
            "apps" | "",
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController",
        ) => {
            workloads::set_defaults(&resource.kind, object);
        }
        ("batch", "Job") => jobs::default_job(object),
        ("batch", "CronJob") => jobs::default_cron_job(object),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            policy::default_binding(object);
        }
        ("autoscaling", _) => policy::default_autoscaler(object),
        ("", "LimitRange") => policy::default_limit_range(object),
        ("apiextensions.k8s.io", _) => crd::set_defaults(object),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration") => {
            registrations::default_webhooks(object, false);
        }
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration") => {
            registrations::default_webhooks(object, true);
        }
        ("apiregistration.k8s.io", _) => registrations::default_api_service(object),
        ("scheduling.k8s.io", _) => default(object, &["preemptionPolicy"], "PreemptLowerPriority"),
        _ => {}
    }
}

/// What the server warns of and takes all the same.
pub fn warnings(resource: &Resource, object: &Value) -> Vec<String> {
    if resource.is_custom() {
        return Vec::new();
    }
    let path: &[&str] = match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => &["spec"],
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job")
        | ("", "ReplicationController") => &["spec", "template", "spec"],
        ("batch", "CronJob") => &["spec", "jobTemplate", "spec", "template", "spec"],
        _ => return Vec::new(),
    };
    pods::warnings(super::json::at(object, path), &path.join("."))
}

/// What the server itself sets on a new object; the status is not the client's to write.
pub fn prepare_create(
    transaction: &Transaction<'_>,
    ranges: &Ranges,
    resource: &Resource,
    object: &mut Value,
) -> Vec<FieldError> {
    if resource.has(super::builtins::Sub::Status) {
        remove(object, &["status"]);
    }
    if resource.is_custom() {
        return Vec::new();
    }
    let mut errors = Vec::new();
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Namespace") => {
            let name = super::json::name(object).to_owned();
            set(object, &["metadata", "labels", "kubernetes.io/metadata.name"], name);
            set(object, &["status"], json!({"phase": "Active"}));
            let finalizers = super::json::place(object, &["spec", "finalizers"]);
            match finalizers.as_array_mut() {
                Some(list) if list.contains(&json!("kubernetes")) => {}
                Some(list) => list.push(json!("kubernetes")),
                None => *finalizers = json!(["kubernetes"]),
            }
        }
        ("", "Pod") => pods::begin(object),
        ("", "Service") => {
            set(object, &["status"], json!({"loadBalancer": {}}));
            errors = service::allocate(transaction, ranges, None, object);
        }
        ("", "PersistentVolumeClaim") => storage::begin_claim(transaction, object),
        ("", "PersistentVolume") => storage::begin_volume(object),
        ("", "ReplicationController") | ("apps", "ReplicaSet") => {
            set(object, &["status"], json!({"replicas": 0}));
        }
        ("apps", "Deployment") | ("batch", "CronJob") | ("apiregistration.k8s.io", _) => {
            set(object, &["status"], json!({}));
        }
        ("apps", "StatefulSet") => set(object, &["status"], json!({"replicas": 0, "availableReplicas": 0})),
        ("apps", "DaemonSet") => {
            let none = json!({"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0});
            set(object, &["status"], none);
        }
        ("batch", "Job") => {
            jobs::begin(object);
            set(object, &["status"], json!({}));
        }
        ("networking.k8s.io", "Ingress") => set(object, &["status"], json!({"loadBalancer": {}})),
        ("apiextensions.k8s.io", _) => crd::begin(object),
        ("policy", "PodDisruptionBudget") => {
            let none =
                json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
            set(object, &["status"], none);
        }
        ("autoscaling", _) => set(object, &["status"], json!({"currentMetrics": null, "desiredReplicas": 0})),
        _ => {}
    }
    errors
}

/// What the server itself sets on an object that replaces another.
pub fn prepare_update(
    transaction: &Transaction<'_>,
    ranges: &Ranges,
    resource: &Resource,
    old: &Value,
    new: &mut Value,
) -> Vec<FieldError> {
    if resource.is_custom() {
        return Vec::new();
    }
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Namespace") => {
            let name = super::json::name(old).to_owned();
            set(new, &["metadata", "labels", "kubernetes.io/metadata.name"], name);
            set(new, &["spec"], old["spec"].clone());
            Vec::new()
        }
        ("", "Service") => {
            service::keep(old, new);
            service::allocate(transaction, ranges, Some(old), new)
        }
        ("", "PersistentVolumeClaim") => {
            storage::keep_claim(old, new);
            Vec::new()
        }
        ("batch", "Job") => {
            jobs::keep(old, new);
            Vec::new()
        }
        ("apiextensions.k8s.io", _) => {
            crd::keep(old, new);
            Vec::new()
        }
        _ => Vec::new(),
    }
}

/// What is wrong with an object of a built-in kind, alone.
pub fn validate(resource: &Resource, object: &Value) -> Vec<FieldError> {
    if resource.is_custom() {
        return Vec::new();
    }
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pods::validate_spec(&object["spec"], "spec"),
        ("", "Service") => service_rules::validate(object),
        ("", "Namespace") => names::validate_namespace(object),
        ("", "Secret" | "ConfigMap") => config::validate(object),
        ("", "PersistentVolumeClaim") => storage::validate_claim(object),
        ("", "PersistentVolume") => storage::validate_volume(object),
        ("storage.k8s.io", "StorageClass") => storage::validate_class(object),
        (
            "apps" | "",
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController",
        ) => workloads::validate(&resource.kind, object),
        ("batch", "Job") => jobs::validate_job(object, "spec"),
        ("batch", "CronJob") => jobs::validate_cron_job(object),
        ("networking.k8s.io", "Ingress") => networking::validate_ingress(object),
        ("rbac.authorization.k8s.io", kind) => policy::validate_rbac(kind, object),
        ("autoscaling", _) => policy::validate_autoscaler(object),
        ("apiextensions.k8s.io", _) => crd::validate(object),
        ("scheduling.k8s.io", _) => classes::validate_priority(object),
        ("node.k8s.io", _) => classes::validate_runtime(object),
        ("policy", "PodDisruptionBudget") => policy::validate_budget(object),
        (
            "admissionregistration.k8s.io",
            "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration",
        ) => registrations::validate_webhooks(object),
        ("apiregistration.k8s.io", _) => registrations::validate_api_service(object),
        _ => Vec::new(),
    }
}

/// What may not change from one object to the next.
pub fn validate_update(resource: &Resource, old: &Value, new: &Value) -> Vec<FieldError> {
    if resource.is_custom() {
        return Vec::new();
    }
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pods::validate_update(old, new),
        ("", "Service") => service_rules::validate_update(old, new),
        ("", "Secret" | "ConfigMap") => config::validate_update(old, new),
        ("", "PersistentVolumeClaim") => storage::validate_claim_update(old, new),
        ("", "PersistentVolume") => storage::validate_volume_update(old, new),
        ("storage.k8s.io", "StorageClass") => storage::validate_class_update(old, new),
        ("apps", kind) => workloads::validate_update(kind, old, new),
        ("batch", "Job") => jobs::validate_job_update(old, new),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            unchanged(old, new, &["roleRef"], "cannot change roleRef")
        }
        ("apiextensions.k8s.io", _) => crd::validate_update(old, new),
        ("scheduling.k8s.io", _) => classes::validate_priority_update(old, new),
        ("node.k8s.io", _) => classes::validate_runtime_update(old, new),
        _ => Vec::new(),
    }
}

/// An error if a field differs.
pub fn unchanged(old: &Value, new: &Value, path: &[&str], why: &str) -> Vec<FieldError> {
    let (before, after) = (super::json::at(old, path), super::json::at(new, path));
    if before == after { Vec::new() } else { vec![FieldError::invalid(path.join("."), after, why)] }
}
