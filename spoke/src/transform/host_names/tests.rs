use serde_json::{Value, json};

use super::super::tests::{rewritten, run_of};

fn with(asked: bool, object: Value) -> super::super::Rewritten {
    rewritten(&run_of(json!({"rewriteHostNames": asked}), &[("shop", "new")]), object)
}

fn config(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "shop"}, "data": {"app.yaml": value}})
}

#[test]
fn texts_of_programs_are_rewritten_when_asked_and_each_is_listed() {
    let after = with(true, config("a: db.shop.svc\nb: mq.shop.svc.cluster.local\nc: db.other.svc"));
    assert_eq!(
        after.object["data"]["app.yaml"],
        "a: db.new.svc\nb: mq.new.svc.cluster.local\nc: db.other.svc"
    );
    let told: Vec<String> = after.notes.iter().map(|n| format!("{} {}", n.reason, n.message)).collect();
    assert_eq!(
        told,
        [
            "HostNameRewritten data.app.yaml: db.shop.svc -> db.new.svc",
            "HostNameRewritten data.app.yaml: mq.shop.svc.cluster.local -> mq.new.svc.cluster.local"
        ]
    );
    let pod = json!({"containers": [{"name": "c", "env": [{"name": "DB", "value": "db.shop.svc"}],
        "args": ["--db=db.shop.svc"], "command": ["sh", "-c", "curl db.shop.svc"],
        "livenessProbe": {"exec": {"command": ["nc", "db.shop.svc"]}}}],
        "dnsConfig": {"searches": ["shop.svc.cluster.local"]}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "c", "namespace": "shop"},
        "spec": {"template": {"spec": pod}}});
    let after = with(true, deployment);
    assert!(!after.object.to_string().contains("shop.svc"), "{}", after.object);
    assert_eq!(after.notes.len(), 5);
}

#[test]
fn without_being_asked_they_stay_and_are_listed_all_the_same() {
    let object = config("db.shop.svc and db.shop.svc");
    let after = with(false, object.clone());
    assert_eq!(after.object["data"], object["data"]);
    assert_eq!(after.notes.len(), 1, "one of a kind: {:?}", after.notes);
    assert_eq!(after.notes[0].reason, "HostNameOfRenamedNamespace");
    assert!(after.notes[0].message.contains("set rewriteHostNames"), "{}", after.notes[0].message);
    assert!(with(false, config("db.other.svc")).notes.is_empty());
}

#[test]
fn secrets_and_fields_of_custom_resources_are_told_and_left() {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "shop"},
        "data": {"url": "aHR0cDovL3U6cEBkYi5zaG9wLnN2Yy94", "bytes": "/w==", "none": 7}});
    let after = with(true, secret.clone());
    assert_eq!(after.object["data"], secret["data"]);
    assert_eq!(after.notes.len(), 1);
    assert!(after.notes[0].message.starts_with("data.url holds 1 host names"), "{}", after.notes[0].message);
    assert!(!after.notes[0].message.contains("db.shop"));
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "s", "namespace": "shop"},
        "spec": {"hosts": ["db.shop.svc"]}});
    let after = with(true, widget.clone());
    assert_eq!(after.object["spec"], widget["spec"]);
    assert_eq!(after.notes[0].reason, "HostNameOfRenamedNamespace");
}

#[test]
fn settings_that_name_a_renamed_namespace_are_told_and_left() {
    let pod = json!({"containers": [{"name": "c", "args": ["--leader-namespace=shop", "--title=shop"],
        "env": [{"name": "WATCH_NAMESPACE", "value": "shop"}, {"name": "TITLE", "value": "shop"}]}]});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "c", "namespace": "shop"},
        "spec": {"template": {"spec": pod}}});
    let after = with(true, deployment.clone());
    assert_eq!(after.object["spec"], deployment["spec"]);
    let told: Vec<&str> = after.notes.iter().map(|n| n.message.split(" is ").next().unwrap()).collect();
    assert_eq!(
        told,
        [
            "spec.template.spec.containers.args.--leader-namespace",
            "spec.template.spec.containers.env.WATCH_NAMESPACE"
        ]
    );
    let mut config = config("x");
    config["data"] = json!({"namespace": "shop\n", "title": "shop"});
    assert_eq!(with(true, config).notes.len(), 1);
}
