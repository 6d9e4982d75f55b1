//! Every rule, with objects that it is about and objects that it is not.

use isthmus_shared::resources::parse_selector;
use serde_json::json;

use super::*;

fn reason(object: &Value, context: &Context) -> &'static str {
    match choose(object, context) {
        Choice::Keep => "Keep",
        Choice::LeaveBehind { reason, .. } => reason,
    }
}

fn object(api_version: &str, kind: &str, name: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "cms"}})
}

#[test]
fn what_every_namespace_gets_by_itself_is_left_behind() {
    let none = Context::default();
    for (api_version, kind, name) in [
        ("v1", "ServiceAccount", "default"),
        ("v1", "ConfigMap", "kube-root-ca.crt"),
        ("v1", "ConfigMap", "openshift-service-ca.crt"),
        ("rbac.authorization.k8s.io/v1", "RoleBinding", "system:deployers"),
    ] {
        assert_eq!(reason(&object(api_version, kind, name), &none), "Generated", "{kind} {name}");
    }
    assert_eq!(reason(&object("v1", "ServiceAccount", "cms"), &none), "Keep");
    assert_eq!(reason(&object("v1", "ConfigMap", "settings"), &none), "Keep");
}

#[test]
fn the_api_servers_own_service_stays_in_the_default_namespace() {
    let mut service = object("v1", "Service", "kubernetes");
    assert_eq!(reason(&service, &Context::default()), "Keep");
    service["metadata"]["namespace"] = json!("default");
    assert_eq!(reason(&service, &Context::default()), "Generated");
}

#[test]
fn endpoints_go_only_where_no_service_selects() {
    let context = Context { selecting_services: HashSet::from(["web".to_owned()]), ..Context::default() };
    assert_eq!(reason(&object("v1", "Endpoints", "web"), &context), "Endpoints");
    assert_eq!(reason(&object("v1", "Endpoints", "outside"), &context), "Keep");
    let mut slice = object("discovery.k8s.io/v1", "EndpointSlice", "outside-1");
    assert_eq!(reason(&slice, &context), "Keep");
    slice["metadata"]["labels"] =
        json!({"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"});
    assert_eq!(reason(&slice, &context), "Endpoints");
}

#[test]
fn our_own_and_skipped_objects_stay() {
    let mut account = object("v1", "ServiceAccount", "isthmus-mover");
    account["metadata"]["labels"] = json!({COMPONENT: "mover"});
    assert_eq!(reason(&account, &Context::default()), "OwnObject");
    let mut config = object("v1", "ConfigMap", "c");
    config["metadata"]["annotations"] = json!({SKIP: "true"});
    assert_eq!(reason(&config, &Context::default()), "Skipped");
    config["metadata"]["annotations"] = json!({SKIP: "false"});
    assert_eq!(reason(&config, &Context::default()), "Keep");
}

#[test]
fn one_of_the_selectors_has_to_match_and_none_of_the_exclusions() {
    let mut config = object("v1", "ConfigMap", "c");
    config["metadata"]["labels"] = json!({"app": "web", "tier": "front"});
    let read = |texts: &[&str]| texts.iter().map(|text| parse_selector(text).unwrap()).collect();
    let select = |s: &[&str], e: &[&str]| Context {
        selectors: read(s),
        exclude_selectors: read(e),
        ..Context::default()
    };
    assert_eq!(reason(&config, &select(&["app=web,tier=front"], &[])), "Keep");
    assert_eq!(reason(&config, &select(&["app=web,tier=back"], &[])), "NotSelected");
    assert_eq!(reason(&config, &select(&["app=db", "tier in (front)"], &[])), "Keep");
    assert_eq!(reason(&config, &select(&[], &["x=y", "app=web"])), "Excluded");
}

#[test]
fn a_generated_account_goes_along_where_a_person_changed_it() {
    let changed = |change: Value| {
        let mut account = object("v1", "ServiceAccount", "default");
        crate::transform::merge(&mut account, &change);
        reason(&account, &Context::default())
    };
    for generated in [
        json!({}),
        json!({"secrets": [{"name": "default-token-abc12"}, {"name": "default-dockercfg-xyz"}]}),
        json!({"imagePullSecrets": [{"name": "default-dockercfg-xyz"}]}),
        json!({"metadata": {"annotations": {"openshift.io/internal-registry-pull-secret-ref": "x"}}}),
        json!({"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}}}),
        json!({"automountServiceAccountToken": true}),
    ] {
        assert_eq!(changed(generated.clone()), "Generated", "{generated}");
    }
    for by_a_person in [
        json!({"imagePullSecrets": [{"name": "default-dockercfg-xyz"}, {"name": "registry"}]}),
        json!({"secrets": [{"name": "vault"}]}),
        json!({"metadata": {"annotations": {"eks.amazonaws.com/role-arn": "x"}}}),
        json!({"automountServiceAccountToken": false}),
    ] {
        assert_eq!(changed(by_a_person.clone()), "Keep", "{by_a_person}");
    }
    for name in ["builder", "deployer", "pipeline"] {
        assert_eq!(reason(&object("v1", "ServiceAccount", name), &Context::default()), "Generated");
    }
}

#[test]
fn generated_secrets_stay_and_those_of_people_and_of_helm_go() {
    let secret = |kind: &str, name: &str, annotations: Value| {
        let mut secret = object("v1", "Secret", name);
        secret["type"] = json!(kind);
        secret["metadata"]["annotations"] = annotations;
        reason(&secret, &Context::default())
    };
    let token = "kubernetes.io/service-account-token";
    let of = |account: &str| json!({"kubernetes.io/service-account.name": account});
    assert_eq!(secret(token, "default-token-x7k2p", of("default")), "Generated");
    assert_eq!(secret(token, "builder-token-bcdfg", of("builder")), "Generated");
    // Made by hand, and mounted by its name.
    assert_eq!(secret(token, "ci", of("ci")), "Keep");
    assert_eq!(secret(token, "ci-token-for-the-robot", of("ci")), "Keep");
    let docker = "kubernetes.io/dockercfg";
    assert_eq!(
        secret(docker, "default-dockercfg-x", json!({"openshift.io/token-secret.name": "t"})),
        "Generated"
    );
    let newer = json!({"openshift.io/internal-registry-auth-token.service-account": "default"});
    assert_eq!(secret(docker, "default-dockercfg-x", newer), "Generated");
    assert_eq!(secret(docker, "registry", json!({})), "Keep");
    assert_eq!(secret("bootstrap.kubernetes.io/token", "bootstrap-token-abcdef", json!({})), "Generated");
    let served = json!({"service.beta.openshift.io/originating-service-name": "web"});
    assert_eq!(secret("kubernetes.io/tls", "web-tls", served), "Generated");
    assert_eq!(secret("kubernetes.io/tls", "web-tls", json!({})), "Keep");
    assert_eq!(secret("helm.sh/release.v1", "sh.helm.release.v1.web.v1", json!({})), "Keep");
    assert_eq!(secret("Opaque", "s", json!({})), "Keep");
}

#[test]
fn generated_configuration_stays_and_what_only_is_filled_goes() {
    let config = |name: &str, labels: Value, annotations: Value| {
        let mut config = object("v1", "ConfigMap", name);
        config["metadata"]["labels"] = labels;
        config["metadata"]["annotations"] = annotations;
        reason(&config, &Context::default())
    };
    assert_eq!(config("config-trusted-cabundle", json!({}), json!({})), "Generated");
    assert_eq!(config("istio-ca-root-cert", json!({"istio.io/config": "true"}), json!({})), "Generated");
    assert_eq!(config("istio-ca-root-cert", json!({}), json!({})), "Keep");
    let lock = json!({"control-plane.alpha.kubernetes.io/leader": "{}"});
    assert_eq!(config("my-operator-lock", json!({}), lock), "Lease");
    let injected = json!({"service.beta.openshift.io/inject-cabundle": "true"});
    assert_eq!(config("ca", json!({}), injected), "Keep");
}

#[test]
fn kinds_that_stay_are_told_apart_from_those_beside_them() {
    for (api_version, kind, expected) in [
        ("v1", "Event", "Event"),
        ("events.k8s.io/v1", "Event", "Event"),
        ("eventing.example.com/v1", "Event", "Keep"),
        ("coordination.k8s.io/v1", "Lease", "Lease"),
        ("metrics.k8s.io/v1beta1", "PodMetrics", "Metrics"),
        ("custom.metrics.k8s.io/v1beta2", "MetricValueList", "Metrics"),
        ("authorization.k8s.io/v1", "LocalSubjectAccessReview", "Review"),
        ("storage.k8s.io/v1", "CSIStorageCapacity", "Generated"),
        ("apps/v1", "ControllerRevision", "Generated"),
        ("cilium.io/v2", "CiliumEndpoint", "Generated"),
        ("cilium.io/v2", "CiliumNetworkPolicy", "Keep"),
        ("snapshot.storage.k8s.io/v1", "VolumeSnapshot", "Snapshot"),
        ("groupsnapshot.storage.k8s.io/v1beta1", "VolumeGroupSnapshot", "Snapshot"),
        ("v1", "LimitRange", "Keep"),
        ("v1", "ResourceQuota", "Keep"),
        ("v1", "PodTemplate", "Keep"),
    ] {
        assert_eq!(reason(&object(api_version, kind, "x"), &Context::default()), expected, "{kind}");
    }
}

#[test]
fn bare_pods_go_only_where_they_are_asked_for() {
    let asked =
        Context { optional: Optional { bare_pods: true, ..Optional::default() }, ..Context::default() };
    let pod = |change: Value| {
        let mut pod = object("v1", "Pod", "p");
        crate::transform::merge(&mut pod, &change);
        (reason(&pod, &Context::default()), reason(&pod, &asked))
    };
    assert_eq!(pod(json!({})), ("Pod", "Keep"));
    assert_eq!(pod(json!({"status": {"phase": "Succeeded"}})), ("Pod", "Finished"));
    let mirrored = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}});
    assert_eq!(pod(mirrored), ("Generated", "Generated"));
    let loosely = json!({"metadata": {"ownerReferences": [{"kind": "Widget", "name": "w", "uid": "w"}]}});
    assert_eq!(pod(loosely), ("Pod", "Keep"));
}

#[test]
fn jobs_that_have_run_go_only_where_they_are_asked_for() {
    let asked =
        Context { optional: Optional { finished_jobs: true, ..Optional::default() }, ..Context::default() };
    let mut job = object("batch/v1", "Job", "j");
    assert_eq!(reason(&job, &Context::default()), "Keep");
    for end in ["Complete", "Failed"] {
        job["status"] = json!({"conditions": [{"type": end, "status": "True"}]});
        assert_eq!((reason(&job, &Context::default()), reason(&job, &asked)), ("Finished", "Keep"));
    }
    job["status"] = json!({"conditions": [{"type": "Complete", "status": "False"}]});
    assert_eq!(reason(&job, &Context::default()), "Keep");
}

#[test]
fn what_is_being_deleted_stays() {
    let mut config = object("v1", "ConfigMap", "c");
    config["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(reason(&config, &Context::default()), "BeingDeleted");
}

#[test]
fn locks_in_endpoints_are_locks() {
    let mut endpoints = object("v1", "Endpoints", "lock");
    endpoints["metadata"]["annotations"] = json!({"control-plane.alpha.kubernetes.io/leader": "{}"});
    assert_eq!(reason(&endpoints, &Context::default()), "Lease");
}
