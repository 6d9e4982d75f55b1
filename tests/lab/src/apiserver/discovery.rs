//! What is served, told: the version, the groups, the resources, in both forms of discovery.

use serde_json::{Value, json};

use super::builtins::Sub;
use super::registry::{Registry, Resource, join_version};

/// Whether the client asks for aggregated discovery.
pub fn wants_aggregated(accept: &str) -> bool {
    accept.split(',').any(|part| {
        part.contains("as=APIGroupDiscoveryList") && part.contains("v=v2") && !part.contains("v=v2beta1")
    })
}

/// The media type of aggregated discovery.
pub const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// `/version`.
pub fn version(git_version: &str) -> Value {
    let mut numbers = git_version.trim_start_matches('v').split('.');
    json!({
        "major": numbers.next().unwrap_or("1"),
        "minor": numbers.next().unwrap_or("33"),
        "gitVersion": git_version,
        "gitCommit": "0000000000000000000000000000000000000000",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, if std::env::consts::ARCH == "x86_64" { "amd64" } else { std::env::consts::ARCH }),
    })
}

/// `/api`.
pub fn core_versions(address: &str) -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]})
}

fn group(name: &str, versions: &[String]) -> Value {
    let version = |v: &String| json!({"groupVersion": join_version(name, v), "version": v});
    json!({"name": name, "versions": versions.iter().map(version).collect::<Vec<_>>(), "preferredVersion": versions.first().map(version)})
}

/// `/apis`.
pub fn groups(registry: &Registry) -> Value {
    let groups: Vec<Value> = registry.groups().iter().map(|(name, versions)| group(name, versions)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
pub fn one_group(registry: &Registry, name: &str) -> Option<Value> {
    let groups = registry.groups();
    let mut value = group(name, groups.get(name)?);
    value["kind"] = json!("APIGroup");
    value["apiVersion"] = json!("v1");
    Some(value)
}

/// The group, version, kind and verbs of a part.
fn part(sub: Sub, resource: &Resource) -> (String, String, String, Vec<&'static str>) {
    let own = || (resource.group.clone(), resource.version.clone(), resource.kind.clone());
    let core = |kind: &str| (String::new(), "v1".to_owned(), kind.to_owned());
    let ((group, version, kind), verbs) = match sub {
        Sub::Status => (own(), vec!["get", "patch", "update"]),
        Sub::Scale => {
            (("autoscaling".to_owned(), "v1".to_owned(), "Scale".to_owned()), vec!["get", "patch", "update"])
        }
        Sub::Token => {
            (("authentication.k8s.io".to_owned(), "v1".to_owned(), "TokenRequest".to_owned()), vec!["create"])
        }
        Sub::Binding => (core("Binding"), vec!["create"]),
        Sub::Eviction => (("policy".to_owned(), "v1".to_owned(), "Eviction".to_owned()), vec!["create"]),
        Sub::Log => (core("Pod"), vec!["get"]),
        Sub::Exec => (core("PodExecOptions"), vec!["create", "get"]),
        Sub::Proxy => (core("NodeProxyOptions"), vec!["create", "delete", "get", "patch", "update"]),
        Sub::Finalize => (own(), vec!["update"]),
    };
    (group, version, kind, verbs)
}

/// `/api/v1` and `/apis/GROUP/VERSION`.
pub fn resources(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    if !registry.serves(group, version) {
        return None;
    }
    let mut resources = Vec::new();
    for resource in registry.all().iter().filter(|r| r.group == group && r.version == version) {
        let mut entry = json!({
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": resource.verbs(),
        });
        if !resource.short.is_empty() {
            entry["shortNames"] = json!(resource.short);
        }
        if !resource.categories.is_empty() {
            entry["categories"] = json!(resource.categories);
        }
        if resource.stored {
            entry["storageVersionHash"] = json!(storage_hash(resource));
        }
        resources.push(entry);
        for sub in &resource.subs {
            let (part_group, part_version, kind, verbs) = part(*sub, resource);
            let mut entry = json!({
                "name": format!("{}/{}", resource.plural, sub.name()),
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": kind,
                "verbs": verbs,
            });
            if part_group != resource.group || part_version != resource.version {
                entry["group"] = json!(part_group);
                entry["version"] = json!(part_version);
            }
            resources.push(entry);
        }
    }
    Some(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": join_version(group, version), "resources": resources}),
    )
}

fn storage_hash(resource: &Resource) -> String {
    use base64::Engine;
    let digest = blake3::hash(format!("{}/{}", resource.storage_version, resource.kind).as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&digest.as_bytes()[..8])
}

/// Aggregated discovery of the core group (`core`) or of all others.
pub fn aggregated(registry: &Registry, core: bool) -> Value {
    let groups: Vec<(String, Vec<String>)> = if core {
        vec![(String::new(), vec!["v1".to_owned()])]
    } else {
        registry.groups().into_iter().collect()
    };
    let items: Vec<Value> = groups
        .into_iter()
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> = registry
                        .all()
                        .iter()
                        .filter(|r| r.group == name && r.version == *version)
                        .map(|r| aggregated_resource(r))
                        .collect();
                    json!({"version": version, "freshness": "Current", "resources": resources})
                })
                .collect();
            let metadata = if name.is_empty() { json!({}) } else { json!({ "name": name }) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_resource(resource: &Resource) -> Value {
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs(),
    });
    if !resource.short.is_empty() {
        entry["shortNames"] = json!(resource.short);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    let subs: Vec<Value> = resource
        .subs
        .iter()
        .map(|sub| {
            let (group, version, kind, verbs) = part(*sub, resource);
            json!({"subresource": sub.name(), "responseKind": {"group": group, "version": version, "kind": kind}, "verbs": verbs})
        })
        .collect();
    if !subs.is_empty() {
        entry["subresources"] = json!(subs);
    }
    entry
}
