use serde_json::{Value, json};

use super::super::tests::{rewritten, run_of};

fn mapped(object: Value) -> Value {
    let run =
        run_of(json!({"namespaces": []}), &[("shop", "shop-new"), ("web", "web"), ("a", "b"), ("b", "c")]);
    rewritten(&run, object).object
}

fn of(api_version: &str, kind: &str, spec: &Value) -> Value {
    let object = json!({"apiVersion": api_version, "kind": kind,
                        "metadata": {"name": "x", "namespace": "shop"}, "spec": spec});
    mapped(object)["spec"].clone()
}

#[test]
fn the_namespace_itself_is_mapped_once_even_in_a_chain() {
    for (from, to) in [("shop", "shop-new"), ("web", "web"), ("a", "b"), ("b", "c"), ("other", "other")] {
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": from}});
        assert_eq!(mapped(object)["metadata"]["namespace"], to);
    }
}

#[test]
fn subjects_of_bindings_follow_their_namespace_in_every_spelling() {
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
    "metadata": {"name": "x"},
    "subjects": [
        {"kind": "ServiceAccount", "name": "web", "namespace": "shop"},
        {"kind": "ServiceAccount", "name": "ci", "namespace": "ci"},
        {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:serviceaccounts:shop"},
        {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "system:serviceaccount:shop:web"},
        {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:serviceaccounts"},
        {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "shop"}
    ]});
    let after = mapped(binding)["subjects"].clone();
    assert_eq!(after[0]["namespace"], "shop-new");
    assert_eq!(after[1]["namespace"], "ci");
    assert_eq!(after[2]["name"], "system:serviceaccounts:shop-new");
    assert_eq!(after[3]["name"], "system:serviceaccount:shop-new:web");
    assert_eq!(after[4]["name"], "system:serviceaccounts");
    assert_eq!(after[5]["name"], "shop", "a person of that name is no namespace");
}

#[test]
fn webhooks_api_services_and_conversions_reach_their_service() {
    let webhook = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "x", "annotations": {"cert-manager.io/inject-ca-from": "shop/cert"}},
        "webhooks": [{"name": "a.b.c", "clientConfig": {"service": {"name": "s", "namespace": "shop", "path": "/"}},
                      "namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name",
                                            "operator": "NotIn", "values": ["kube-system", "shop"]}]}}]});
    let after = mapped(webhook);
    assert_eq!(after["webhooks"][0]["clientConfig"]["service"]["namespace"], "shop-new");
    assert_eq!(
        after["webhooks"][0]["namespaceSelector"]["matchExpressions"][0]["values"],
        json!(["kube-system", "shop-new"])
    );
    assert_eq!(after["metadata"]["annotations"]["cert-manager.io/inject-ca-from"], "shop-new/cert");
    let service = of(
        "apiregistration.k8s.io/v1",
        "APIService",
        &json!({"service": {"name": "s", "namespace": "shop"}}),
    );
    assert_eq!(service["service"]["namespace"], "shop-new");
    let crd = of(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        &json!({
        "conversion": {"webhook": {"clientConfig": {"service": {"name": "s", "namespace": "shop"}}}},
        "versions": [{"schema": {"openAPIV3Schema": {"properties": {"x": {"default": {"name": "n", "namespace": "shop"}}}}}}]}),
    );
    assert_eq!(crd["conversion"]["webhook"]["clientConfig"]["service"]["namespace"], "shop-new");
    assert_eq!(
        crd["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["x"]["default"]["namespace"],
        "shop"
    );
}

#[test]
fn selectors_and_lists_of_namespaces_follow() {
    let monitor = of(
        "monitoring.coreos.com/v1",
        "ServiceMonitor",
        &json!({"namespaceSelector": {"matchNames": ["shop", "other"]}, "selector": {"matchLabels": {"app": "shop"}}}),
    );
    assert_eq!(
        monitor,
        json!({"namespaceSelector": {"matchNames": ["shop-new", "other"]}, "selector": {"matchLabels": {"app": "shop"}}})
    );
    let policy = of(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        &json!({"ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "a", "team": "a"}}}]}]}),
    );
    assert_eq!(
        policy["ingress"][0]["from"][0]["namespaceSelector"]["matchLabels"],
        json!({"kubernetes.io/metadata.name": "b", "team": "a"})
    );
    let term = json!({"topologyKey": "zone", "namespaces": ["shop", "a"], "labelSelector": {"matchLabels": {"app": "a"}}});
    let deployment = of(
        "apps/v1",
        "Deployment",
        &json!({"template": {"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}}}),
    );
    assert_eq!(
        deployment
            .pointer("/template/spec/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/0")
            .unwrap(),
        &json!({"topologyKey": "zone", "namespaces": ["shop-new", "b"], "labelSelector": {"matchLabels": {"app": "a"}}})
    );
}

#[test]
fn gateways_grants_and_references_of_custom_resources_follow() {
    let route = of(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        &json!({
        "parentRefs": [{"name": "gw", "namespace": "shop"}],
        "rules": [{"backendRefs": [{"name": "s", "namespace": "a", "port": 80}, {"name": "t", "port": 80}]}]}),
    );
    assert_eq!(route["parentRefs"][0]["namespace"], "shop-new");
    assert_eq!(
        route["rules"][0]["backendRefs"],
        json!([{"name": "s", "namespace": "b", "port": 80}, {"name": "t", "port": 80}])
    );
    let grant = of(
        "gateway.networking.k8s.io/v1beta1",
        "ReferenceGrant",
        &json!({"from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "shop"}], "to": [{"group": "", "kind": "Service"}]}),
    );
    assert_eq!(grant["from"][0]["namespace"], "shop-new");
    let store = of(
        "external-secrets.io/v1",
        "ClusterSecretStore",
        &json!({
        "conditions": [{"namespaces": ["shop"]}],
        "provider": {"vault": {"auth": {"kubernetes": {"serviceAccountRef": {"name": "v", "namespace": "shop"}}}}}}),
    );
    assert_eq!(store["conditions"][0]["namespaces"], json!(["shop-new"]));
    assert_eq!(
        store.pointer("/provider/vault/auth/kubernetes/serviceAccountRef/namespace").unwrap(),
        "shop-new"
    );
    let hpa = of(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        &json!({"scaleTargetRef": {"kind": "Deployment", "name": "shop"}}),
    );
    assert_eq!(hpa["scaleTargetRef"]["name"], "shop");
    let policy = of(
        "security.istio.io/v1",
        "AuthorizationPolicy",
        &json!({"rules": [{"from": [{"source": {"principals": ["cluster.local/ns/shop/sa/web"]}}]}]}),
    );
    assert_eq!(policy["rules"][0]["from"][0]["source"]["principals"][0], "cluster.local/ns/shop-new/sa/web");
}

#[test]
fn image_triggers_and_images_of_openshifts_own_registry_follow() {
    let config = of(
        "apps.openshift.io/v1",
        "DeploymentConfig",
        &json!({
        "template": {"spec": {"containers": [{"name": "c", "image": "image-registry.openshift-image-registry.svc:5000/shop/app@sha256:1"}]}},
        "triggers": [{"type": "ImageChange", "imageChangeParams": {"from": {"kind": "ImageStreamTag", "name": "app:latest", "namespace": "shop"}}}]}),
    );
    assert_eq!(config["triggers"][0]["imageChangeParams"]["from"]["namespace"], "shop-new");
    assert_eq!(
        config["template"]["spec"]["containers"][0]["image"],
        "image-registry.openshift-image-registry.svc:5000/shop-new/app@sha256:1"
    );
}

#[test]
fn what_cannot_be_known_to_be_a_namespace_is_left_and_told() {
    let run = run_of(json!({}), &[("shop", "shop-new")]);
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "x", "namespace": "web"},
        "spec": {"watchedNamespace": "shop", "title": "shop", "queue": {"namespace": "shop", "topic": "t"}}});
    let after = rewritten(&run, widget.clone());
    assert_eq!(after.object["spec"], widget["spec"]);
    let told: Vec<&str> = after.notes.iter().map(|note| note.reason).collect();
    assert_eq!(told, ["NamespaceNotRewritten", "NamespaceNotRewritten"]);
    assert!(
        after.notes.iter().any(|note| note.message.contains("spec.queue.namespace")),
        "{:?}",
        after.notes
    );
}

#[test]
fn annotations_known_to_hold_a_namespace_follow() {
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x", "namespace": "shop", "annotations": {
        "meta.helm.sh/release-namespace": "shop",
        "argocd.argoproj.io/tracking-id": "app:apps/Deployment:shop/x",
        "reflector.v1.k8s.emberstack.com/reflection-allowed-namespaces": "other,shop",
        "example.com/team": "shop"}}, "spec": {}});
    assert_eq!(
        mapped(object)["metadata"]["annotations"],
        json!({"meta.helm.sh/release-namespace": "shop-new",
               "argocd.argoproj.io/tracking-id": "app:apps/Deployment:shop-new/x",
               "reflector.v1.k8s.emberstack.com/reflection-allowed-namespaces": "other,shop-new",
               "example.com/team": "shop"})
    );
}
