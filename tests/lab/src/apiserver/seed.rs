//! The objects that every cluster starts with.

use serde_json::{Value, json};

use super::Server;
use super::auth::bootstrap;
use super::error::{ApiError, ApiResult};
use super::json::{name, namespace, now, set};
use super::kinds;
use super::registry::Registry;

/// Puts the namespaces, the default roles, the API's own service, the priority classes and the
/// registrations of the server's own APIs.
pub fn fill(server: &Server, port: u16, ca_pem: &str) -> ApiResult<()> {
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        put(
            server,
            "",
            "v1",
            "namespaces",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        )?;
    }
    for (kind, object) in bootstrap::objects() {
        let plural = if kind == "ClusterRole" { "clusterroles" } else { "clusterrolebindings" };
        put(server, "rbac.authorization.k8s.io", "v1", plural, object)?;
    }
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"clusterIP": server.ranges.services.nth(1).to_string(),
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]}});
    put(server, "", "v1", "services", service)?;
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "kubernetes", "namespace": "default"},
        "subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]});
    put(server, "", "v1", "endpoints", endpoints)?;
    let authentication = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"}, "data": {"client-ca-file": ca_pem}});
    put(server, "", "v1", "configmaps", authentication)?;
    for (name, value) in [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)]
    {
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value});
        put(server, "scheduling.k8s.io", "v1", "priorityclasses", class)?;
    }
    for service in registrations(&server.registry()) {
        put(server, "apiregistration.k8s.io", "v1", "apiservices", service)?;
    }
    Ok(())
}

/// What the server registers of its own APIs: for each group and version an APIService without a service.
fn registrations(registry: &Registry) -> Vec<Value> {
    let now = now();
    let groups = registry.groups().into_iter().chain([(String::new(), vec!["v1".to_owned()])]);
    let service = |group: &str, version: &str| {
        json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": format!("{version}.{group}"),
                "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}},
            "spec": {"group": group, "version": version, "groupPriorityMinimum": 17_000, "versionPriority": 15},
            "status": {"conditions": [{"type": "Available", "status": "True", "reason": "Local",
                "message": "Local APIServices are always available", "lastTransitionTime": now}]}})
    };
    groups
        .flat_map(|(group, versions)| versions.into_iter().map(move |version| (group.clone(), version)))
        .map(|(group, version)| service(&group, &version))
        .collect()
}

fn put(server: &Server, group: &str, version: &str, plural: &str, mut object: Value) -> ApiResult<()> {
    let registry = server.registry();
    // A group that is switched off gets none of its objects.
    let Some(resource) = registry.find(group, version, plural) else { return Ok(()) };
    kinds::set_defaults(resource, &mut object);
    let status = object["status"].clone();
    set(&mut object, &["metadata", "uid"], uuid::Uuid::new_v4().to_string());
    set(&mut object, &["metadata", "creationTimestamp"], now());
    server.store.write(false, |t| {
        let errors = kinds::prepare_create(t, &server.ranges, resource, &mut object);
        if !errors.is_empty() {
            return Err(ApiError::invalid(group, &resource.kind, name(&object), &errors));
        }
        if !status.is_null() {
            set(&mut object, &["status"], status.clone());
        }
        t.put(&resource.storage, (namespace(&object).to_owned(), name(&object).to_owned()), object.clone());
        Ok(())
    })
}
