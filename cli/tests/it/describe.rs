//! `migration describe` where not everything can be had.

use serde_json::{Value, json};

use crate::fake_api::{FakeApi, core, record};
use crate::printed;

fn no_hub(_: &Value) -> Vec<(String, Value)> {
    Vec::new()
}

fn started() -> FakeApi {
    let api = FakeApi::start(no_hub);
    let migration = json!({
        "apiVersion": "isthmus.dev/v1alpha1", "kind": "Migration", "metadata": {"uid": "the-uid"},
        "spec": {"clusterPair": "prod", "namespaces": ["cms"]},
    });
    api.put(&record("migrations", "monday"), migration);
    for (name, uid) in [("ours", "the-uid"), ("another", "other-uid")] {
        let event = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {}, "involvedObject": {"uid": uid},
            "reason": "StepStarted", "message": format!("event {name}"), "type": "Normal",
        });
        api.put(&core("events", name), event);
    }
    api
}

fn described(api: &FakeApi) -> String {
    printed(&mut api.isthmus(&["migration", "describe", "monday", "--details"]))
}

#[test]
fn without_a_hub_the_status_is_shown_and_why_objects_are_missing() {
    let text = described(&started());
    assert!(text.contains("Status:             Pending"), "{text}");
    assert!(text.contains("the list is missing: reading ConfigMap isthmus/isthmus-hub"), "{text}");
}

#[test]
fn a_hub_that_does_not_answer_is_named() {
    let api = started();
    let ca = some_ca();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {"url": "https://127.0.0.1:1", "ca.crt": ca}});
    api.put(&core("configmaps", "isthmus-hub"), map);
    let text = described(&api);
    assert!(text.contains("the list is missing: no answer from the hub at https://127.0.0.1:1/"), "{text}");
}

#[test]
fn a_hub_without_tls_gets_no_token() {
    let api = started();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {"url": "http://127.0.0.1:1", "ca.crt": ""}});
    api.put(&core("configmaps", "isthmus-hub"), map);
    let text = described(&api);
    assert!(text.contains("is not https"), "{text}");
}

#[test]
fn only_events_of_this_very_migration_are_shown() {
    let text = described(&started());
    assert!(text.contains("event ours") && !text.contains("event another"), "{text}");
}

#[test]
fn a_description_for_programs_has_all_parts() {
    let api = started();
    let text = printed(&mut api.isthmus(&["migration", "describe", "monday", "-o", "json"]));
    let view: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(view["migration"]["spec"]["clusterPair"], "prod");
    assert_eq!(view["events"][0]["message"], "event ours");
    assert!(view["objectsMissing"].as_str().unwrap().contains("isthmus-hub"));
}

/// A certificate that is good for nothing but being read.
fn some_ca() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::new(vec!["hub".to_owned()]).unwrap().self_signed(&key).unwrap().pem()
}
