//! Checks, as objects come to them one by one.

use super::*;
use crate::cluster::ObjectId;

fn catalogue() -> Catalogue {
    let kind = |group: &str, kind: &str| Kind {
        group: group.to_owned(),
        version: "v1".to_owned(),
        kind: kind.to_owned(),
        plural: format!("{}s", kind.to_lowercase()),
        namespaced: true,
        verbs: Vec::new(),
    };
    Catalogue::of(vec![kind("", "Service"), kind("", "Pod"), kind("apps", "Deployment")])
}

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "cms"},
           "spec": {"ports": [{"port": 80, "nodePort": 30080}]}})
}

fn deployment(replicas: i64) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "cms"},
           "spec": {"replicas": replicas, "template": {"spec": {"hostNetwork": true, "containers": [{"name": "c"}]}}}})
}

fn tried(wanted: Value, live: Option<Value>, action: ObjectAction, refusal: Option<&str>) -> Tried {
    let id = ObjectId::of(&wanted);
    let concern = refusal.map(|reason| Concern::failure(id.describe(), reason, "the server's words"));
    Tried { line: id.result(action), concern, wanted: Some(wanted), live }
}

fn quota(hard: &Value) -> Quota {
    Quota::there(&json!({"metadata": {"name": "q", "namespace": "cms"}, "spec": {"hard": hard}}))
}

fn reasons(concerns: &[Concern]) -> Vec<&str> {
    concerns.iter().map(|concern| concern.finding.reason.as_str()).collect()
}

#[test]
fn what_a_quota_refuses_object_by_object_is_told_once_for_all() {
    let mut checks = Checks::new(false);
    for name in ["a", "b"] {
        let mut one = tried(service(name), None, ObjectAction::Failed, Some("ExceededQuota"));
        checks.see(&mut one, None, &catalogue(), &Places::default());
        assert!(one.concern.is_none());
    }
    let told = checks.against_quotas(&[quota(&json!({"services": "1"}))]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].finding.message.contains("need 2 of services"));
    let mut one = tried(service("a"), None, ObjectAction::Failed, Some("ExceededQuota"));
    checks.see(&mut one, None, &catalogue(), &Places::default());
    assert_eq!(
        reasons(&checks.against_quotas(&[])),
        ["ExceededQuota"],
        "the server's words, where no sum shows it"
    );
}

#[test]
fn a_port_that_the_server_refuses_waits_for_its_owner_to_be_found() {
    let mut checks = Checks::new(false);
    let mut one = tried(service("web"), None, ObjectAction::Failed, Some("PortTaken"));
    checks.see(&mut one, None, &catalogue(), &Places::default());
    assert!(one.concern.is_none() && !checks.ports.is_empty());
}

#[test]
fn a_custom_resource_that_is_refused_may_be_taken_once_its_definition_is_changed() {
    let severity = |of_definition: ObjectAction| {
        let mut checks = Checks::new(false);
        let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget",
            "metadata": {"name": "w", "namespace": "cms"}});
        let mut one = tried(widget, None, ObjectAction::Failed, Some("Invalid"));
        checks.see(&mut one, None, &catalogue(), &Places::default());
        let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.example.com"},
            "spec": {"group": "example.com", "names": {"kind": "Widget"}}});
        let live = Some(definition.clone());
        checks.see(&mut tried(definition, live, of_definition, None), None, &catalogue(), &Places::default());
        checks.malformed()[0].severity
    };
    assert_eq!(severity(ObjectAction::Updated), super::super::concern::Severity::Warning);
    assert_eq!(severity(ObjectAction::Unchanged), super::super::concern::Severity::Failure);
}

#[test]
fn pods_that_a_workload_has_already_are_not_counted_again() {
    let mut checks = Checks::new(true);
    let mut one = tried(deployment(3), Some(deployment(2)), ObjectAction::Updated, None);
    checks.see(&mut one, None, &catalogue(), &Places::default());
    assert!(checks.against_quotas(&[quota(&json!({"pods": "1"}))]).is_empty());
    let mut stopped = tried(deployment(3), Some(deployment(0)), ObjectAction::Unchanged, None);
    checks.see(&mut stopped, None, &catalogue(), &Places::default());
    assert_eq!(reasons(&checks.against_quotas(&[quota(&json!({"pods": "3"}))])), ["ExceededQuota"]);
}

#[test]
fn pod_security_is_judged_by_labels_where_the_server_cannot_be_asked() {
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
    let judged = |there: bool, server: Option<&str>| {
        let mut checks = Checks::new(true);
        let places = Places::of("cms", &labels, there);
        let of_pods = server.map(|reason| Concern::of_pods(true, "Deployment cms/web", reason, "m"));
        let mut one = tried(deployment(1), None, ObjectAction::Created, None);
        checks.see(&mut one, of_pods, &catalogue(), &places);
        checks.of_pods.iter().map(|concern| concern.finding.reason.clone()).collect::<Vec<_>>()
    };
    assert_eq!(judged(false, None), ["PodSecurity"]);
    assert!(judged(true, None).is_empty(), "the server lets them in");
    assert_eq!(judged(true, Some("PodSecurity")), ["PodSecurity"]);
    assert_eq!(
        judged(true, Some("LimitRange")),
        ["LimitRange", "PodSecurity"],
        "one obstacle behind the other"
    );
}
