//! Namespaces: the labels and annotations that go along.

use serde_json::{Map, Value};

/// Made by the cluster for its own use: identity, ranges of user ids and the like.
const OWN_KEYS: &[&str] = &[
    "kubernetes.io/metadata.name",
    "kubectl.kubernetes.io/last-applied-configuration",
    "security.openshift.io/scc.podSecurityLabelSync",
];

/// Prefixes of such: OpenShift's ranges of ids, the marks of OLM's groups and of Rancher's projects.
const OWN_PREFIXES: &[&str] =
    &["openshift.io/sa.scc.", "olm.operatorgroup.uid/", "field.cattle.io/", "isthmus.dev/"];

/// The labels or annotations of a namespace that its copy gets, and that the destination's does
/// not have: what is there already stays as it is.
pub fn carried(source: &Value, destination: &Value, which: &str) -> Map<String, Value> {
    let of = |namespace: &Value| {
        namespace
            .pointer(&format!("/metadata/{which}"))
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    let present = of(destination);
    of(source)
        .into_iter()
        .filter(|(key, _)| !OWN_KEYS.contains(&key.as_str()) && !present.contains_key(key))
        .filter(|(key, _)| !OWN_PREFIXES.iter().any(|prefix| key.starts_with(prefix)))
        .collect()
}
