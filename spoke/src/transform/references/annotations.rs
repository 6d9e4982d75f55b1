//! Annotations whose value is, or holds, a namespace. They are known by their names: the value
//! alone does not tell.

use serde_json::{Map, Value};

use super::super::Namespaces;

/// `<namespace>`.
const NAMESPACE: &[&str] = &["meta.helm.sh/release-namespace"];

/// `<namespace>/<name>`.
const NAMESPACED_NAME: &[&str] = &[
    "cert-manager.io/inject-ca-from",
    "cert-manager.io/inject-ca-from-secret",
    "nginx.ingress.kubernetes.io/auth-secret",
    "nginx.ingress.kubernetes.io/auth-tls-secret",
    "nginx.ingress.kubernetes.io/proxy-ssl-secret",
    "reflector.v1.k8s.emberstack.com/reflects",
    "replicator.v1.mittwald.de/replicate-from",
];

/// `<namespace>,<namespace>`.
const NAMESPACES: &[&str] = &[
    "reflector.v1.k8s.emberstack.com/reflection-allowed-namespaces",
    "reflector.v1.k8s.emberstack.com/reflection-auto-namespaces",
    "replicator.v1.mittwald.de/replicate-to",
    "replicator.v1.mittwald.de/replication-allowed-namespaces",
];

/// `<application>:<group>/<kind>:<namespace>/<name>`, by which Argo CD knows its objects.
const TRACKING_ID: &str = "argocd.argoproj.io/tracking-id";

/// Maps them.
pub fn rewrite(annotations: &mut Map<String, Value>, names: &Namespaces) {
    for (key, value) in annotations {
        let Some(text) = value.as_str() else { continue };
        let key = key.as_str();
        let after = if NAMESPACE.contains(&key) {
            names.renamed(text).map(str::to_owned)
        } else if NAMESPACED_NAME.contains(&key) {
            namespaced_name(text, names)
        } else if NAMESPACES.contains(&key) {
            list(text, names)
        } else if key == TRACKING_ID {
            text.rsplit_once(':')
                .and_then(|(head, name)| namespaced_name(name, names).map(|name| format!("{head}:{name}")))
        } else {
            None
        };
        if let Some(after) = after {
            *value = Value::from(after);
        }
    }
}

fn namespaced_name(text: &str, names: &Namespaces) -> Option<String> {
    let (namespace, name) = text.split_once('/')?;
    names.renamed(namespace).map(|to| format!("{to}/{name}"))
}

fn list(text: &str, names: &Namespaces) -> Option<String> {
    let parts: Vec<&str> = text.split(',').map(|part| names.renamed(part.trim()).unwrap_or(part)).collect();
    let after = parts.join(",");
    (after != text).then_some(after)
}
