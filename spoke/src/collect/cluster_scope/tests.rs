//! What of cluster scope goes along, and what does not.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;

fn object(api_version: &str, kind: &str, name: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}})
}

fn reason(object: &Value) -> &'static str {
    match choose(object, &Context::default()) {
        Choice::Keep => "Keep",
        Choice::LeaveBehind { reason, .. } => reason,
    }
}

#[test]
fn what_belongs_to_the_cluster_stays() {
    for (api_version, kind) in [
        ("v1", "Node"),
        ("v1", "PersistentVolume"),
        ("v1", "Namespace"),
        ("storage.k8s.io/v1", "StorageClass"),
        ("storage.k8s.io/v1", "CSINode"),
        ("storage.k8s.io/v1", "VolumeAttachment"),
        ("node.k8s.io/v1", "RuntimeClass"),
        ("certificates.k8s.io/v1", "CertificateSigningRequest"),
        ("flowcontrol.apiserver.k8s.io/v1", "FlowSchema"),
        ("networking.k8s.io/v1", "IngressClass"),
        ("config.openshift.io/v1", "ClusterVersion"),
    ] {
        assert_eq!(reason(&object(api_version, kind, "x")), "Infrastructure", "{kind}");
    }
    let mut definition = object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "x");
    definition["spec"] = json!({"group": "config.openshift.io", "names": {"kind": "Ingress"}});
    assert_eq!(reason(&definition), "Infrastructure");
    definition["spec"]["group"] = json!("example.com");
    assert_eq!(reason(&definition), "Keep");
    definition["spec"]["group"] = json!("isthmus.dev");
    assert_eq!(reason(&definition), "OwnObject");
}

#[test]
fn what_every_cluster_has_stays() {
    let rbac = "rbac.authorization.k8s.io/v1";
    for name in ["system:node", "cluster-admin", "admin", "edit", "view"] {
        assert_eq!(reason(&object(rbac, "ClusterRole", name)), "SystemObject", "{name}");
    }
    assert_eq!(reason(&object(rbac, "ClusterRoleBinding", "admin")), "Keep");
    let mut role = object(rbac, "ClusterRole", "other");
    assert_eq!(reason(&role), "Keep");
    role["metadata"]["labels"] = json!({"kubernetes.io/bootstrapping": "rbac-defaults"});
    assert_eq!(reason(&role), "SystemObject");
    let class = |name| object("scheduling.k8s.io/v1", "PriorityClass", name);
    assert_eq!(reason(&class("system-node-critical")), "SystemObject");
    assert_eq!(reason(&class("gold")), "Keep");
    let mut kept = object("example.com/v1", "Widget", "w");
    kept["metadata"]["annotations"] = json!({"include.release.openshift.io/self-managed": "true"});
    assert_eq!(reason(&kept), "SystemObject");
}

#[test]
fn an_api_service_goes_only_if_a_service_serves_it_and_a_person_made_it() {
    let mut api = object("apiregistration.k8s.io/v1", "APIService", "v1.example.com");
    assert_eq!(reason(&api), "SystemObject");
    api["spec"] = json!({"service": {"namespace": "cms", "name": "api"}});
    assert_eq!(reason(&api), "Keep");
    api["metadata"]["labels"] = json!({"kube-aggregator.kubernetes.io/automanaged": "onstart"});
    assert_eq!(reason(&api), "SystemObject");
}

#[test]
fn what_a_person_wants_to_stay_stays_in_cluster_scope_too() {
    let mut role = object("rbac.authorization.k8s.io/v1", "ClusterRole", "r");
    role["metadata"]["annotations"] = json!({"isthmus.dev/skip": "true"});
    assert_eq!(reason(&role), "Skipped");
}

#[test]
fn bindings_of_the_namespaces_accounts_are_needed() {
    let needs = Needs::of(["cms"]);
    let binding = |subject: Value| json!({"kind": "ClusterRoleBinding", "subjects": [{"kind": "User", "name": "me"}, subject]});
    for (subject, needed) in [
        (json!({"kind": "ServiceAccount", "namespace": "cms", "name": "web"}), true),
        (json!({"kind": "ServiceAccount", "namespace": "other", "name": "web"}), false),
        (json!({"kind": "Group", "name": "system:serviceaccounts:cms"}), true),
        (json!({"kind": "Group", "name": "system:serviceaccounts:cms2"}), false),
        (json!({"kind": "Group", "name": "system:serviceaccounts"}), false),
        (json!({"kind": "User", "name": "system:serviceaccount:cms:web"}), true),
        (json!({"kind": "User", "name": "cms"}), false),
    ] {
        assert_eq!(needs.is_bound_by(&binding(subject.clone())), needed, "{subject}");
    }
}

#[test]
fn webhooks_and_apis_that_the_namespaces_serve_are_needed() {
    let needs = Needs::of(["cms"]);
    let hooks = |namespace| {
        json!({"webhooks": [{"clientConfig": {"url": "https://x"}},
                                                {"clientConfig": {"service": {"namespace": namespace, "name": "hook"}}}]})
    };
    assert!(needs.is_called_by(&hooks("cms")) && !needs.is_called_by(&hooks("other")));
    let api = |namespace| json!({"spec": {"service": {"namespace": namespace}}});
    assert!(needs.is_serving(&api("cms")) && !needs.is_serving(&api("other")));
}

#[test]
fn what_refers_only_to_something_that_stays_is_not_needed() {
    let mut needs = Needs::of(["cms"]);
    let id = |kind: &str, name: &str| crate::cluster::ObjectId {
        api_version: "v1".to_owned(),
        kind: kind.to_owned(),
        namespace: Some("cms".to_owned()),
        name: name.to_owned(),
    };
    needs.note_staying(&id("ServiceAccount", "skipped"), "Skipped");
    needs.note_staying(&id("ServiceAccount", "default"), "Generated");
    needs.note_staying(&id("Service", "skipped"), "NotSelected");
    needs.note_staying(&id("Service", "made"), "Owned");
    let bound = |name: &str| {
        let subject = json!({"kind": "ServiceAccount", "namespace": "cms", "name": name});
        needs.is_bound_by(&json!({"subjects": [subject]}))
    };
    assert!(bound("default") && bound("other") && !bound("skipped"));
    let called = |name: &str| {
        let service = json!({"namespace": "cms", "name": name});
        needs.is_called_by(&json!({"webhooks": [{"clientConfig": {"service": service}}]}))
    };
    assert!(called("made") && !called("skipped"));
    assert!(!needs.is_serving(&json!({"spec": {"service": {"namespace": "cms", "name": "skipped"}}})));
}

#[test]
fn classes_and_roles_are_noted_wherever_objects_name_them() {
    let mut needs = Needs::of(["cms"]);
    let template = |class: &str| json!({"spec": {"priorityClassName": class}});
    for object in [
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": template("gold")}}),
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": template("night")}}}}),
        json!({"apiVersion": "v1", "kind": "PodTemplate", "template": template("plain")}),
        json!({"apiVersion": "v1", "kind": "Pod", "spec": {"priorityClassName": "bare"}}),
        json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "spec": {"template": template("custom")}}),
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
               "spec": {"volumeClaimTemplates": [{"spec": {"storageClassName": "fast"}}]}}),
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {"storageClassName": "fast"}}),
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": {"ingressClassName": "nginx"}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
               "metadata": {"annotations": {"kubernetes.io/ingress.class": "old"}}}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
               "roleRef": {"kind": "ClusterRole", "name": "reader"}}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
               "roleRef": {"kind": "Role", "name": "own"}}),
    ] {
        needs.note(&object);
    }
    assert!(needs.priority_classes.iter().eq(["bare", "custom", "gold", "night", "plain"]));
    assert!(needs.cluster_roles.iter().eq(["reader"]));
    assert_eq!((needs.storage_classes["fast"], needs.storage_classes[""]), (2, 1));
    assert!(needs.ingress_classes.keys().eq(["nginx", "old"]));
}

#[test]
fn an_aggregated_role_goes_with_its_sources_and_the_clusters_own_do_not_count() {
    let role = |name: &str, labels: Value, selector: Option<Value>| {
        let mut role = object("rbac.authorization.k8s.io/v1", "ClusterRole", name);
        role["metadata"]["labels"] = labels;
        if let Some(labels) = selector {
            role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
        }
        RoleFacts::of(&role)
    };
    let all = [
        role("top", json!({}), Some(json!({"to": "top"}))),
        role("middle", json!({"to": "top"}), Some(json!({"to": "middle"}))),
        role("bottom", json!({"to": "middle", "to-admin": "true"}), None),
        role("admin", json!({}), Some(json!({"to-admin": "true"}))),
        role("other", json!({}), None),
    ];
    let needed = |names: &[&str]| -> Vec<String> {
        let names: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
        with_sources(&names, &all).into_iter().collect()
    };
    assert_eq!(needed(&["top"]), ["bottom", "middle", "top"]);
    assert_eq!(needed(&["admin"]), ["admin"]);
    assert_eq!(needed(&["missing"]), ["missing"]);
}

#[test]
fn definitions_lie_first_in_the_archive_and_webhooks_last() {
    let ranks = [
        rank("apiextensions.k8s.io", "CustomResourceDefinition"),
        rank("scheduling.k8s.io", "PriorityClass"),
        rank("rbac.authorization.k8s.io", "ClusterRole"),
        rank("rbac.authorization.k8s.io", "ClusterRoleBinding"),
        rank("example.com", "Tenant"),
        rank("apiregistration.k8s.io", "APIService"),
        rank("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
    ];
    assert_eq!(ranks, [0, 1, 2, 3, 4, 5, LAST]);
}
