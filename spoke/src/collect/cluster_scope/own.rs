//! What belongs to a cluster itself: its machines and their drivers, what its control plane makes
//! at its start, what its platform keeps up to date. Another cluster has its own.

use serde_json::Value;

use crate::cluster::{api_version, kind, label, name, text};
use crate::collect::selection::Choice;

/// Kinds that describe a cluster's machines, storage, network and control plane; no kind is all
/// of a group.
const INFRASTRUCTURE: &[(&str, Option<&str>)] = &[
    ("", Some("Node")),
    ("", Some("Namespace")),
    ("", Some("PersistentVolume")),
    ("", Some("ComponentStatus")),
    ("storage.k8s.io", None),
    ("snapshot.storage.k8s.io", None),
    ("groupsnapshot.storage.k8s.io", None),
    ("node.k8s.io", None),
    ("resource.k8s.io", None),
    ("certificates.k8s.io", None),
    ("coordination.k8s.io", None),
    ("flowcontrol.apiserver.k8s.io", None),
    ("internal.apiserver.k8s.io", None),
    ("storagemigration.k8s.io", None),
    ("migration.k8s.io", None),
    ("metrics.k8s.io", None),
    ("networking.k8s.io", Some("IngressClass")),
    ("networking.k8s.io", Some("IPAddress")),
    ("networking.k8s.io", Some("ServiceCIDR")),
    ("project.openshift.io", None),
    ("config.openshift.io", None),
    ("operator.openshift.io", None),
    ("imageregistry.operator.openshift.io", None),
    ("ingress.operator.openshift.io", None),
    ("network.operator.openshift.io", None),
    ("machineconfiguration.openshift.io", None),
    ("machine.openshift.io", None),
    ("network.openshift.io", None),
    ("oauth.openshift.io", None),
    ("user.openshift.io", None),
    ("image.openshift.io", Some("Image")),
    ("k8s.ovn.org", None),
    ("crd.projectcalico.org", None),
    ("projectcalico.org", None),
    ("cilium.io", Some("CiliumNode")),
    ("cilium.io", Some("CiliumIdentity")),
    ("csi.storage.k8s.io", None),
];

/// ClusterRoles that every cluster has.
const ROLES: &[&str] = &["cluster-admin", "admin", "edit", "view"];

/// Why an object is the cluster's own, if it is.
pub(super) fn stays(object: &Value) -> Option<Choice> {
    let group = api_version(object).split_once('/').map_or("", |(group, _)| group);
    let kind = kind(object);
    // A definition belongs where its kind belongs.
    let (group_of, kind_of) = match (group, kind) {
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            (text(object, "/spec/group"), text(object, "/spec/names/kind"))
        }
        other => other,
    };
    if INFRASTRUCTURE.iter().any(|(g, k)| *g == group_of && k.is_none_or(|k| k == kind_of)) {
        let message = "it describes the source's machines, storage, network or control plane; the destination has its own";
        return Some(Choice::leave("Infrastructure", message));
    }
    if is_of_the_system(object, group, kind) {
        return Some(Choice::leave("SystemObject", "every cluster has its own of it"));
    }
    if is_kept_by_the_platform(object) {
        return Some(Choice::leave(
            "SystemObject",
            "the source's platform keeps it, and the destination's its own",
        ));
    }
    None
}

fn is_of_the_system(object: &Value, group: &str, kind: &str) -> bool {
    let name = name(object);
    match (group, kind) {
        ("rbac.authorization.k8s.io", _) => {
            name.starts_with("system:")
                || label(object, "kubernetes.io/bootstrapping").is_some()
                || (kind == "ClusterRole" && ROLES.contains(&name))
        }
        ("scheduling.k8s.io", _) => name.starts_with("system-"),
        ("apiregistration.k8s.io", _) => {
            label(object, "kube-aggregator.kubernetes.io/automanaged").is_some()
                || object.pointer("/spec/service").is_none_or(Value::is_null)
        }
        _ => false,
    }
}

fn is_kept_by_the_platform(object: &Value) -> bool {
    let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
    label(object, "addonmanager.kubernetes.io/mode").is_some()
        || annotations.into_iter().flatten().any(|(key, _)| key.starts_with("include.release.openshift.io/"))
}
