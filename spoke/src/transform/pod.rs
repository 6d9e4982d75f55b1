//! Bare Pods: what scheduling and admission filled in on the source.
//!
//! The tolerations that admission adds are kept: they are the defaults everywhere.

use serde_json::Value;

use super::service_account::is_pull_secret_made_for;
use super::{Scope, is, pod_specs, remove};
use crate::cluster::text;

/// Written by network plugins, by OpenShift's admission and by LimitRanges about this very pod.
const CLUSTER_MADE: &[&str] = &[
    "cni.projectcalico.org/containerID",
    "cni.projectcalico.org/podIP",
    "cni.projectcalico.org/podIPs",
    "k8s.ovn.org/pod-networks",
    "k8s.v1.cni.cncf.io/network-status",
    "k8s.v1.cni.cncf.io/networks-status",
    "kubernetes.io/limit-ranger",
    "kubernetes.io/psp",
    "openshift.io/scc",
];

/// Copied from the node by the API server when it binds a pod (since 1.35).
const OF_THE_NODE: &[&str] = &["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

/// The volume of the token that admission gives every pod.
const TOKEN_VOLUME: &str = "kube-api-access-";

/// Drops it.
pub fn rewrite(object: &mut Value, _: &mut Scope<'_>) {
    if !is(object, "", "Pod") {
        return;
    }
    remove(object, "/metadata/annotations", CLUSTER_MADE);
    if !text(object, "/spec/nodeName").is_empty() {
        remove(object, "/metadata/labels", OF_THE_NODE);
    }
    // The number and the preemption of a class are the destination's class's, and a pod that
    // differs is refused; ephemeral containers are refused on any new pod.
    remove(object, "/spec", &["nodeName", "priority", "ephemeralContainers"]);
    if !text(object, "/spec/priorityClassName").is_empty() {
        remove(object, "/spec", &["preemptionPolicy"]);
    }
    if !text(object, "/spec/runtimeClassName").is_empty() {
        remove(object, "/spec", &["overhead"]);
    }
    let account = text(object, "/spec/serviceAccountName").to_owned();
    if !account.is_empty() {
        // The deprecated spelling of the same.
        remove(object, "/spec", &["serviceAccount"]);
    }
    if let Some(spec) = object.get_mut("spec") {
        drop_tokens(spec, &account);
        drop_pull_secrets(spec, &account);
    }
}

fn drop_tokens(spec: &mut Value, account: &str) {
    let secret = format!("{account}-token-");
    let is_token = |volume: &Value| {
        let name = text(volume, "/name");
        let projected = name.starts_with(TOKEN_VOLUME) && volume.get("projected").is_some();
        // Until 1.24 the token was in a Secret, which gave the volume its name.
        let of_secret = !account.is_empty()
            && name.starts_with(&secret)
            && text(volume, "/secret/secretName").starts_with(&secret);
        projected || of_secret
    };
    let Some(Value::Array(volumes)) = spec.get_mut("volumes") else { return };
    let (tokens, kept): (Vec<Value>, Vec<Value>) = std::mem::take(volumes).into_iter().partition(is_token);
    *volumes = kept;
    let tokens: Vec<&str> = tokens.iter().map(|volume| text(volume, "/name")).collect();
    if tokens.is_empty() {
        return;
    }
    drop_if_empty(spec, "volumes");
    pod_specs::each_container(spec, |container| {
        if let Some(Value::Array(mounts)) = container.get_mut("volumeMounts") {
            mounts.retain(|mount| !tokens.contains(&text(mount, "/name")));
            drop_if_empty(container, "volumeMounts");
        }
    });
}

fn drop_pull_secrets(spec: &mut Value, account: &str) {
    let Some(Value::Array(secrets)) = spec.get_mut("imagePullSecrets") else { return };
    let before = secrets.len();
    secrets.retain(|secret| !is_pull_secret_made_for(account, text(secret, "/name")));
    if secrets.len() < before {
        drop_if_empty(spec, "imagePullSecrets");
    }
}

fn drop_if_empty(object: &mut Value, list: &str) {
    if object.get(list).and_then(Value::as_array).is_some_and(Vec::is_empty) {
        remove(object, "", &[list]);
    }
}
