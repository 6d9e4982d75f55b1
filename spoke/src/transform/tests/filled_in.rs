//! What the cluster, its controllers and its admission filled in, kind by kind.

use serde_json::{Value, json};

use super::super::{Rewriter, Rewritten};
use super::{ARRIVED, metadata, rewritten, run_of};

fn standard(object: Value) -> Rewritten {
    Rewriter::default().rewrite(object, &ARRIVED).unwrap()
}

fn reasons(rewritten: &Rewritten) -> Vec<&'static str> {
    rewritten.notes.iter().map(|note| note.reason).collect()
}

fn service(annotations: Value, managed: Value, spec: Value) -> Value {
    let mut service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "cms"}});
    service["metadata"]["annotations"] = annotations;
    service["metadata"]["managedFields"] = managed;
    service["spec"] = spec;
    service
}

fn ports() -> Value {
    json!([{"name": "a", "port": 80, "protocol": "TCP", "nodePort": 30080}, {"name": "b", "port": 81, "protocol": "TCP", "nodePort": 30081}])
}

fn managed(manager: &str, spec: Value) -> Value {
    let mut entry = json!({"manager": manager, "operation": "Update"});
    entry["fieldsV1"]["f:spec"] = spec;
    Value::Array(vec![entry])
}

fn node_ports(service: &Rewritten) -> Vec<Option<i64>> {
    service.object["spec"]["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| port.get("nodePort").and_then(Value::as_i64))
        .collect()
}

#[test]
fn node_ports_that_a_person_chose_stay_and_allocated_ones_go() {
    let spec = json!({"type": "LoadBalancer", "ports": ports(), "healthCheckNodePort": 31000});
    let owns_a = json!({"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {"f:nodePort": {}, "f:port": {}},
                                    "k:{\"port\":81,\"protocol\":\"TCP\"}": {"f:port": {}}}, "f:healthCheckNodePort": {}});
    let after = standard(service(json!({}), managed("kubectl-create", owns_a.clone()), spec.clone()));
    assert_eq!(node_ports(&after), [Some(30080), None]);
    assert_eq!(after.object["spec"]["healthCheckNodePort"], 31000);
    let applied = json!({"spec": {"healthCheckNodePort": 31000, "ports": [{"name": "b", "port": 81, "nodePort": 30081}]}});
    let annotations = json!({"kubectl.kubernetes.io/last-applied-configuration": applied.to_string()});
    let after = standard(service(annotations, json!([]), spec.clone()));
    assert_eq!(node_ports(&after), [None, Some(30081)]);
    assert_eq!(after.object["spec"]["healthCheckNodePort"], 31000);
    for nobody in [
        json!([]),
        json!(7),
        managed("before-first-apply", owns_a.clone()),
        managed("gcp-cloud-controller-manager", owns_a),
    ] {
        let after = standard(service(json!({}), nobody, spec.clone()));
        assert_eq!(node_ports(&after), [None, None]);
        assert!(after.object["spec"].get("healthCheckNodePort").is_none());
    }
    let run = run_of(json!({"preserveNodePorts": true}), &[]);
    let after = rewritten(&run, service(json!({}), json!([]), spec));
    assert_eq!(node_ports(&after), [Some(30080), Some(30081)]);
    assert_eq!(after.object["spec"]["healthCheckNodePort"], 31000);
}

#[test]
fn address_families_go_unless_chosen_and_the_policy_stays() {
    let spec = json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                      "sessionAffinity": "ClientIP", "externalName": "x.example"});
    let after = standard(service(json!({}), json!([]), spec.clone()));
    assert_eq!(
        after.object["spec"],
        json!({"ipFamilyPolicy": "SingleStack", "sessionAffinity": "ClientIP", "externalName": "x.example"})
    );
    assert!(after.notes.is_empty());
    let chosen = managed("kubectl-create", json!({"f:ipFamilies": {}, "f:clusterIP": {}}));
    let after = standard(service(json!({}), chosen, spec));
    assert_eq!(after.object["spec"]["ipFamilies"], json!(["IPv4"]));
    assert!(after.object["spec"].get("clusterIP").is_none());
    assert_eq!(reasons(&after), ["ClusterIPNotKept"]);
}

#[test]
fn what_load_balancers_wrote_goes_and_a_chosen_address_is_told() {
    let annotations = json!({"metallb.io/ip-allocated-from-pool": "p", "loadbalancer.openstack.org/load-balancer-id": "i",
                             "service.beta.kubernetes.io/aws-load-balancer-type": "nlb"});
    let spec = json!({"type": "LoadBalancer", "loadBalancerIP": "1.2.3.4"});
    let cloud = managed("openstack-cloud-controller-manager", json!({"f:loadBalancerIP": {}}));
    let after = standard(service(annotations.clone(), cloud, spec.clone()));
    assert_eq!(
        after.object["metadata"]["annotations"],
        json!({"service.beta.kubernetes.io/aws-load-balancer-type": "nlb"})
    );
    assert_eq!(after.object["spec"], json!({"type": "LoadBalancer"}));
    let after = standard(service(annotations, managed("helm", json!({"f:loadBalancerIP": {}})), spec));
    assert_eq!(after.object["spec"]["loadBalancerIP"], "1.2.3.4");
    assert_eq!(reasons(&after), ["LoadBalancerIPKept"]);
}

#[test]
fn a_bare_pod_forgets_its_node_its_priority_and_its_tokens() {
    let mounts =
        json!([{"name": "kube-api-access-x7k2p", "mountPath": "/t"}, {"name": "data", "mountPath": "/d"}]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata("p"), "spec": {
        "nodeName": "n", "priority": 1000, "priorityClassName": "high", "preemptionPolicy": "Never", "hostname": "h",
        "serviceAccount": "web", "serviceAccountName": "web", "ephemeralContainers": [{"name": "debug"}],
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
        "imagePullSecrets": [{"name": "web-dockercfg-abcde"}],
        "initContainers": [{"name": "i", "volumeMounts": [{"name": "kube-api-access-x7k2p", "mountPath": "/t"}]}],
        "containers": [{"name": "c", "volumeMounts": mounts}],
        "volumes": [{"name": "kube-api-access-x7k2p", "projected": {"sources": []}}, {"name": "data", "emptyDir": {}}]},
        "status": {"phase": "Running"}});
    assert_eq!(
        standard(pod).object["spec"],
        json!({"priorityClassName": "high", "hostname": "h", "serviceAccountName": "web",
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
            "initContainers": [{"name": "i"}],
            "containers": [{"name": "c", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}],
            "volumes": [{"name": "data", "emptyDir": {}}]})
    );
    let old = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata("p"), "spec": {"serviceAccountName": "web",
        "containers": [{"name": "c", "volumeMounts": [{"name": "web-token-abcde", "mountPath": "/t"}]}],
        "volumes": [{"name": "web-token-abcde", "secret": {"secretName": "web-token-abcde"}}]}});
    assert_eq!(
        standard(old).object["spec"],
        json!({"serviceAccountName": "web", "containers": [{"name": "c"}]})
    );
}

#[test]
fn a_bare_pod_forgets_the_zone_of_its_node_and_keeps_one_that_a_person_gave_it() {
    let pod = |spec: Value| {
        let labels = json!({"app": "web", "topology.kubernetes.io/region": "east", "topology.kubernetes.io/zone": "east-a"});
        let metadata = json!({"name": "p", "namespace": "cms", "labels": labels});
        let mut after =
            standard(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})).object;
        let labels = after["metadata"]["labels"].as_object_mut().unwrap();
        labels.retain(|label, _| !label.starts_with("isthmus.dev/"));
        labels.len()
    };
    assert_eq!(pod(json!({"nodeName": "n", "containers": []})), 1);
    assert_eq!(pod(json!({"containers": []})), 3);
}

#[test]
fn a_token_secret_goes_along_empty_for_the_destination_to_fill() {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "ci", "namespace": "cms", "labels": {"kubernetes.io/legacy-token-last-used": "2026-01-01"},
            "annotations": {"kubernetes.io/service-account.name": "ci", "kubernetes.io/service-account.uid": "u"}},
        "data": {"token": "dA==", "ca.crt": "Yw==", "namespace": "bg==", "extra": "eA=="}});
    let Rewritten { object: after, notes, .. } = standard(secret);
    assert_eq!(after["data"], json!({"extra": "eA=="}));
    assert_eq!(after["metadata"]["annotations"], json!({"kubernetes.io/service-account.name": "ci"}));
    assert_eq!(notes[0].reason, "TokenMadeAnew");
    assert!(notes[0].message.contains("ServiceAccount ci"), "{notes:?}");
    let opaque = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": "s", "namespace": "cms"}, "data": {"token": "dA=="}});
    assert_eq!(standard(opaque.clone()).object["data"], opaque["data"]);
}

#[test]
fn a_helm_release_of_a_renamed_namespace_is_told() {
    let release = json!({"apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1",
        "metadata": {"name": "sh.helm.release.v1.web.v1", "namespace": "cms"}, "data": {"release": "SDRzSQ=="}});
    let after = rewritten(&run_of(json!({}), &[("cms", "new")]), release.clone());
    assert_eq!(after.object["data"], release["data"]);
    assert_eq!(reasons(&after), ["HelmReleaseOfRenamedNamespace"]);
    assert!(standard(release).notes.is_empty());
}

#[test]
fn injected_authorities_go_and_a_persons_own_stay() {
    let webhook = |annotations: Value| {
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "x", "annotations": annotations},
            "webhooks": [{"name": "w", "clientConfig": {"url": "https://x", "caBundle": "Yw=="}}]})
    };
    for annotation in ["cert-manager.io/inject-ca-from", "service.beta.openshift.io/inject-cabundle"] {
        let after = standard(webhook(json!({annotation: "a/b"}))).object;
        assert_eq!(after["webhooks"][0]["clientConfig"], json!({"url": "https://x"}));
    }
    assert_eq!(
        standard(webhook(json!({"a": "b"}))).object["webhooks"][0]["clientConfig"]["caBundle"],
        "Yw=="
    );
    let service = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "x", "annotations": {"cert-manager.io/inject-ca-from": "a/b"}}, "spec": {"caBundle": "Yw==", "group": "g"}});
    assert_eq!(standard(service).object["spec"], json!({"group": "g"}));
    let trusted = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "cms",
        "labels": {"config.openshift.io/inject-trusted-cabundle": "true"}}, "data": {"ca-bundle.crt": "x", "mine": "y"}});
    assert_eq!(standard(trusted).object["data"], json!({"mine": "y"}));
}

#[test]
fn an_old_definition_says_in_its_schemas_that_it_keeps_unknown_fields() {
    let definition = |preserve: bool| {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"},
            "spec": {"group": "example.com", "preserveUnknownFields": preserve,
                "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": {"caBundle": "Yw=="}}},
                "versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "metadata": {"type": "object"},
                    "spec": {"type": "object", "properties": {
                        "size": {"type": "integer"},
                        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                        "parts": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
                        "template": {"type": "object", "x-kubernetes-embedded-resource": true,
                            "properties": {"metadata": {"type": "object"}, "spec": {"type": "object"}}}}}}}}},
                    {"name": "v2"}]},
            "status": {"storedVersions": ["v1"]}})
    };
    let after = standard(definition(true));
    let kept = |pointer: &str| {
        let place =
            after.object.pointer(&format!("/spec/versions/0/schema/openAPIV3Schema{pointer}")).unwrap();
        place.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true))
    };
    let spec = "/properties/spec/properties";
    for place in [
        String::new(),
        "/properties/spec".to_owned(),
        format!("{spec}/parts/items"),
        format!("{spec}/template"),
        format!("{spec}/template/properties/spec"),
    ] {
        assert!(kept(&place), "fields that {place:?} does not name would be lost: {}", after.object);
    }
    for place in [
        "/properties/metadata".to_owned(),
        format!("{spec}/size"),
        format!("{spec}/labels"),
        format!("{spec}/parts"),
        format!("{spec}/template/properties/metadata"),
    ] {
        assert!(!kept(&place), "{place} takes no such word: {}", after.object);
    }
    assert_eq!(
        after.object["spec"]["versions"][1]["schema"]["openAPIV3Schema"],
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        "v1 wants a schema of every version"
    );
    assert!(
        after.object["spec"].get("preserveUnknownFields").is_none() && after.object.get("status").is_none()
    );
    assert_eq!(after.object["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"], "Yw==");
    assert_eq!(reasons(&after), ["PreserveUnknownFields"]);
    let after = standard(definition(false));
    assert_eq!(after.object["spec"]["versions"], definition(false)["spec"]["versions"]);
    assert!(after.object["spec"].get("preserveUnknownFields").is_none() && after.notes.is_empty());
}

#[test]
fn openshifts_generated_hosts_and_resolved_images_go() {
    let route = |generated: Value| {
        json!({"apiVersion": "route.openshift.io/v1", "kind": "Route", "metadata": {"name": "r", "namespace": "cms", "annotations": generated},
            "spec": {"host": "r-cms.apps.east.example", "to": {"kind": "Service", "name": "web"}}, "status": {"ingress": [{}]}})
    };
    assert_eq!(
        standard(route(json!({"openshift.io/host.generated": "true"}))).object["spec"],
        json!({"to": {"kind": "Service", "name": "web"}})
    );
    assert_eq!(standard(route(json!({}))).object["spec"]["host"], "r-cms.apps.east.example");
    let config = json!({"apiVersion": "apps.openshift.io/v1", "kind": "DeploymentConfig", "metadata": {"name": "d", "namespace": "cms"},
        "spec": {"triggers": [{"type": "ConfigChange"}, {"type": "ImageChange", "imageChangeParams": {"automatic": true, "lastTriggeredImage": "x@sha256:1"}}]}});
    assert_eq!(
        standard(config).object["spec"]["triggers"],
        json!([{"type": "ConfigChange"}, {"type": "ImageChange", "imageChangeParams": {"automatic": true}}])
    );
    let build = json!({"apiVersion": "build.openshift.io/v1", "kind": "BuildConfig", "metadata": {"name": "b", "namespace": "cms"},
        "spec": {"triggers": [{"type": "ImageChange", "imageChange": {"lastTriggeredImageID": "x"}}]}, "status": {"lastVersion": 3}});
    assert_eq!(
        standard(build).object["spec"]["triggers"],
        json!([{"type": "ImageChange", "imageChange": {}}])
    );
    let stream = json!({"apiVersion": "image.openshift.io/v1", "kind": "ImageStream", "metadata": {"name": "i", "namespace": "cms"},
        "spec": {"tags": [{"name": "1", "generation": 2, "from": {"kind": "DockerImage", "name": "quay.io/a"}}]},
        "status": {"dockerImageRepository": "registry/cms/i"}});
    let after = standard(stream).object;
    assert_eq!(
        after["spec"]["tags"],
        json!([{"name": "1", "from": {"kind": "DockerImage", "name": "quay.io/a"}}])
    );
    assert!(after.get("status").is_none());
}

#[test]
fn a_kept_volume_waits_for_the_claim_of_the_same_names_and_is_retained() {
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": "pv", "annotations": {"pv.kubernetes.io/bound-by-controller": "yes", "pv.kubernetes.io/provisioned-by": "csi"}},
        "spec": {"persistentVolumeReclaimPolicy": "Delete", "claimRef": {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "name": "c",
                 "namespace": "cms", "uid": "u", "resourceVersion": "7"}}, "status": {"phase": "Bound"}});
    let after = rewritten(&run_of(json!({}), &[("cms", "new")]), volume).object;
    assert_eq!(
        after["spec"]["claimRef"],
        json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1", "name": "c", "namespace": "new"})
    );
    assert_eq!(after["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    assert_eq!(
        after["metadata"]["annotations"],
        json!({"isthmus.dev/reclaim-policy": "Delete", "pv.kubernetes.io/provisioned-by": "csi"})
    );
}

#[test]
fn a_cron_job_loses_the_labels_of_the_job_that_its_template_was_copied_from() {
    let labels = json!({"app": "x", "controller-uid": "u", "batch.kubernetes.io/controller-uid": "u", "job-name": "j", "batch.kubernetes.io/job-name": "j"});
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c", "namespace": "cms"}, "spec": {"schedule": "@daily",
        "jobTemplate": {"spec": {"selector": {"matchLabels": {"controller-uid": "u"}}, "template": {"metadata": {"labels": labels}}}}}});
    let after = standard(cron).object;
    assert_eq!(
        after["spec"]["jobTemplate"]["spec"],
        json!({"template": {"metadata": {"labels": {"app": "x"}}}})
    );
}

#[test]
fn grants_to_accounts_of_other_namespaces_are_told() {
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "b"},
        "roleRef": {"kind": "ClusterRole", "name": "admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "web", "namespace": "cms"}, {"kind": "ServiceAccount", "name": "ci", "namespace": "ci"}]});
    let after = rewritten(&run_of(json!({}), &[("cms", "new")]), binding.clone());
    assert_eq!(reasons(&after), ["SubjectOutsideRun"]);
    assert!(
        after.notes[0].message.contains("ClusterRole admin to ServiceAccount ci/ci"),
        "{}",
        after.notes[0].message
    );
    assert!(standard(binding).notes.is_empty(), "a run that does not know its namespaces yet tells nothing");
}
