//! Host names of Ingresses and Routes: whether another namespace of the destination serves the
//! same host and path. Pure.
//!
//! Most controllers take the older of the two, or refuse the second in a status that nobody looks
//! at; some share a host on purpose. So it is a warning.

use std::collections::BTreeMap;

use serde_json::Value;

use super::concern::Concern;
use crate::cluster::{api_version, array, describe, kind, namespace, text};

/// Hosts and paths that the run brings, and who brings them.
#[derive(Clone, Debug, Default)]
pub struct Hosts(BTreeMap<(String, String), Served>);

#[derive(Clone, Debug)]
struct Served {
    object: String,
    place: String,
}

/// Whether an object serves hosts.
pub fn serves_hosts(object: &Value) -> bool {
    let version = api_version(object);
    match kind(object) {
        "Ingress" => version.starts_with("networking.k8s.io/"),
        "Route" => version.starts_with("route.openshift.io/"),
        _ => false,
    }
}

impl Hosts {
    /// Notes what an object serves, as it would be applied.
    pub fn see(&mut self, object: &Value) {
        for key in hosts(object) {
            let served = Served { object: describe(object), place: namespace(object).to_owned() };
            self.0.entry(key).or_insert(served);
        }
    }

    /// Whether there is anything to look at.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares with what the destination has.
    pub fn meet(&self, live: &Value, concerns: &mut Vec<Concern>) {
        for (host, path) in hosts(live) {
            let Some(served) = self.0.get(&(host.clone(), path.clone())) else { continue };
            if served.place == namespace(live) {
                // The object itself, or one that shares the host with it already.
                continue;
            }
            let message = format!(
                "{} on the destination serves {host}{path} already, and only one of the two may be reached: remove that \
                 one, or have this one get another host by a transform",
                describe(live)
            );
            concerns.push(Concern::warning(&served.object, "HostTaken", message));
        }
    }
}

/// Hosts with their paths; those without a host serve all of them, and are no one's.
fn hosts(object: &Value) -> Vec<(String, String)> {
    let path = |path: &str| if path.is_empty() { "/".to_owned() } else { path.to_owned() };
    if kind(object) == "Route" {
        let host = text(object, "/spec/host");
        return if host.is_empty() {
            Vec::new()
        } else {
            vec![(host.to_owned(), path(text(object, "/spec/path")))]
        };
    }
    let mut all = Vec::new();
    for rule in array(object, "/spec/rules") {
        let host = text(rule, "/host");
        if host.is_empty() {
            continue;
        }
        let paths = array(rule, "/http/paths");
        all.extend(paths.iter().map(|one| (host.to_owned(), path(text(one, "/path")))));
        if paths.is_empty() {
            all.push((host.to_owned(), path("")));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ingress(namespace: &str, host: &str, path: &str) -> Value {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web", "namespace": namespace},
               "spec": {"rules": [{"host": host, "http": {"paths": [{"path": path}]}}]}})
    }

    fn route(namespace: &str, host: &str) -> Value {
        json!({"apiVersion": "route.openshift.io/v1", "kind": "Route", "metadata": {"name": "web", "namespace": namespace},
               "spec": {"host": host}})
    }

    #[test]
    fn a_host_and_path_that_another_namespace_serves_is_a_warning() {
        let mut hosts = Hosts::default();
        hosts.see(&ingress("cms", "www.example.com", "/"));
        hosts.see(&route("cms", "shop.example.com"));
        let mut concerns = Vec::new();
        hosts.meet(&ingress("cms", "www.example.com", "/"), &mut concerns);
        hosts.meet(&ingress("old", "www.example.com", "/api"), &mut concerns);
        hosts.meet(&ingress("old", "", "/"), &mut concerns);
        assert!(concerns.is_empty(), "its own namespace, another path, no host");
        hosts.meet(&ingress("old", "www.example.com", ""), &mut concerns);
        hosts.meet(&route("old", "shop.example.com"), &mut concerns);
        let objects: Vec<&str> = concerns.iter().map(|c| c.finding.object.as_str()).collect();
        assert_eq!(objects, ["Ingress cms/web", "Route cms/web"]);
        assert!(
            concerns[0]
                .finding
                .message
                .contains("Ingress old/web on the destination serves www.example.com/")
        );
    }
}
