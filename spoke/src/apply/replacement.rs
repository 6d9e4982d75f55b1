//! `existingResourcePolicy: Replace`: the body of an update that makes an object as on the
//! source, and what may be deleted where an update cannot do it.
//!
//! Kept is what the destination itself wrote, and what a full update would otherwise break:
//! addresses and ports that it allocated, a claim's volume, a Job's selector, finalizers, owners
//! and status.

use serde_json::Value;

use crate::cluster::{api_version, array, kind};

/// Fields of the live object that a kind keeps where the wanted object does not set them.
const KEPT: &[(&str, &str, &[&str])] = &[
    (
        "",
        "Service",
        &[
            "/spec/clusterIP",
            "/spec/clusterIPs",
            "/spec/ipFamilies",
            "/spec/ipFamilyPolicy",
            "/spec/healthCheckNodePort",
        ],
    ),
    ("", "PersistentVolumeClaim", &["/spec/volumeName", "/spec/storageClassName", "/spec/volumeMode"]),
    ("", "ServiceAccount", &["/secrets"]),
    ("batch", "Job", &["/spec/selector", "/spec/template/metadata/labels"]),
];
/// Fields of the live object that all kinds keep.
const KEPT_BY_ALL: &[&str] = &[
    "/metadata/resourceVersion",
    "/metadata/uid",
    "/metadata/finalizers",
    "/metadata/ownerReferences",
    "/status",
];
/// Annotations of the destination's controllers.
const KEPT_ANNOTATIONS: &[&str] = &[
    "deployment.kubernetes.io/revision",
    "deprecated.daemonset.template.generation",
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/selected-node",
];

fn group(object: &Value) -> &str {
    api_version(object).split_once('/').map_or("", |(group, _)| group)
}

/// The body of the update.
pub fn replacement(live: &Value, mut wanted: Value) -> Value {
    let (group, kind) = (group(&wanted).to_owned(), kind(&wanted).to_owned());
    let own = KEPT.iter().find(|(g, k, _)| *g == group && *k == kind).map_or(&[][..], |(_, _, kept)| kept);
    for pointer in KEPT_BY_ALL.iter().chain(own) {
        keep(live, &mut wanted, pointer);
    }
    for annotation in KEPT_ANNOTATIONS {
        let escaped = annotation.replace('/', "~1");
        keep(live, &mut wanted, &format!("/metadata/annotations/{escaped}"));
    }
    if group.is_empty() && kind == "Service" {
        keep_node_ports(live, &mut wanted);
    }
    wanted
}

/// Copies what stands at a pointer where the wanted object has nothing.
fn keep(live: &Value, wanted: &mut Value, pointer: &str) {
    let Some(value) = live.pointer(pointer) else { return };
    let (parent, name) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    let mut place = wanted;
    for part in parent.split('/').skip(1) {
        let Some(map) = place.as_object_mut() else { return };
        place = map.entry(part).or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    if let Some(map) = place.as_object_mut() {
        map.entry(name.replace("~1", "/")).or_insert_with(|| value.clone());
    }
}

fn keep_node_ports(live: &Value, wanted: &mut Value) {
    let ports = array(live, "/spec/ports").to_vec();
    let same = |a: &Value, b: &Value| {
        let protocol =
            |port: &Value| port.get("protocol").and_then(Value::as_str).unwrap_or("TCP").to_owned();
        a.get("port") == b.get("port") && protocol(a) == protocol(b)
    };
    let is_internal =
        !matches!(wanted.pointer("/spec/type").and_then(Value::as_str), Some("NodePort" | "LoadBalancer"));
    if is_internal {
        return;
    }
    let Some(Value::Array(wanted)) = wanted.pointer_mut("/spec/ports") else { return };
    for port in wanted {
        let allocated = ports.iter().find(|live| same(live, port)).and_then(|live| live.get("nodePort"));
        if let (Some(port), Some(allocated)) = (port.as_object_mut(), allocated) {
            port.entry("nodePort").or_insert_with(|| allocated.clone());
        }
    }
}

/// Why an object is not deleted to be made anew; none if it may be. `in_use`: whether a Pod uses
/// it, for a claim.
pub fn undeletable(object: &Value, in_use: bool) -> Option<&'static str> {
    match (group(object), kind(object)) {
        ("", "Service") => Some(
            "a Service is not deleted to be made anew, as its address and its load balancer would be lost: change or \
             delete it on the destination yourself",
        ),
        ("", "Namespace") => Some("a Namespace is not deleted, as all that is in it would go with it"),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            Some("a CustomResourceDefinition is not deleted, as all objects of its kind would go with it")
        }
        ("", "PersistentVolume") => Some("a PersistentVolume is not deleted, as its data may go with it"),
        ("", "PersistentVolumeClaim") if in_use => Some(
            "the claim is in use by a Pod and is not deleted, as its data would go with it: stop what uses it on the \
             destination",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_keeps_its_address_and_the_node_ports_of_its_ports() {
        let live = json!({"metadata": {"name": "s", "resourceVersion": "5", "uid": "u", "labels": {"old": "x"}}, "spec": {
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "type": "NodePort",
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 90, "nodePort": 30090}]}});
        let wanted = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {
            "type": "NodePort", "ports": [{"port": 80}]}});
        let body = replacement(&live, wanted);
        assert_eq!(body["spec"]["clusterIP"], "10.0.0.1");
        assert_eq!(body["spec"]["ports"], json!([{"port": 80, "nodePort": 30080}]));
        assert_eq!(body["metadata"]["resourceVersion"], "5");
        assert!(body["metadata"].get("labels").is_none(), "what the source lacks goes");
    }

    #[test]
    fn a_service_that_is_to_be_internal_keeps_no_node_port() {
        let live = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}});
        let wanted = json!({"apiVersion": "v1", "kind": "Service", "spec": {"type": "ClusterIP", "ports": [{"port": 80}]}});
        assert_eq!(replacement(&live, wanted)["spec"]["ports"], json!([{"port": 80}]));
    }

    #[test]
    fn a_claim_keeps_its_volume_and_a_headless_service_stays_headless() {
        let live = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes", "note": "n"}},
                          "spec": {"volumeName": "pv-1"}});
        let wanted = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {}, "spec": {}});
        let body = replacement(&live, wanted);
        assert_eq!(body["spec"]["volumeName"], "pv-1");
        assert_eq!(body["metadata"]["annotations"], json!({"pv.kubernetes.io/bind-completed": "yes"}));
        let wanted = json!({"apiVersion": "v1", "kind": "Service", "spec": {"clusterIP": "None"}});
        assert_eq!(
            replacement(&json!({"spec": {"clusterIP": "10.0.0.1"}}), wanted)["spec"]["clusterIP"],
            "None"
        );
    }

    #[test]
    fn what_holds_data_or_addresses_is_never_deleted_to_be_made_anew() {
        let object = |api: &str, kind: &str| json!({"apiVersion": api, "kind": kind});
        for (api, kind) in
            [("v1", "Service"), ("v1", "Namespace"), ("apiextensions.k8s.io/v1", "CustomResourceDefinition")]
        {
            assert!(undeletable(&object(api, kind), false).is_some(), "{kind}");
        }
        let claim = object("v1", "PersistentVolumeClaim");
        assert!(undeletable(&claim, true).is_some() && undeletable(&claim, false).is_none());
        assert!(undeletable(&object("batch/v1", "Job"), false).is_none());
    }
}
