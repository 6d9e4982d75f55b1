//! Admission of the destination that refuses what comes: told before anything is changed.
//!
//! The lab's own API server keeps policies and webhook configurations and asks none of them, so
//! that what a real one refuses it takes: there the tests show that only.

mod webhook;

use isthmus_shared::protocol::ObjectAction;
use isthmus_shared::resources::Step;
use serde_json::{Value, json};

use self::webhook::{LABEL, OBJECTION, Webhook};
use crate::diff::{diff, standing};
use crate::reading::text;
use crate::world::{World, eventually};

const RULE: &str = "settings are signed off by the platform team";
const POD_RULE: &str = "every Pod names the team that runs it";
const SOURCE: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: guarded}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: fine, namespace: guarded}
data: {signed: 'yes'}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: loose, namespace: guarded}
data: {unsigned: 'yes', colour: blue}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: nobodys, namespace: guarded}
spec:
  replicas: 1
  selector: {matchLabels: {app: nobodys}}
  template:
    metadata: {labels: {app: nobodys}}
    spec: {containers: [{name: c, image: 'c:1'}]}
";
const CLAIM: &str = r"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: guarded}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";
/// The destination's namespace is there: before it is, nobody can ask its admission.
const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: guarded}";

/// A policy and its binding, for what is made or changed in the namespace.
fn policy(name: &str, resource: &str, expression: &str, message: &str) -> String {
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "guarded"}},
                "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": [resource]}],
            },
            "validations": [{"expression": expression, "message": message}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    });
    format!("{policy}\n---\n{binding}")
}

/// Waits until the destination refuses to make this ConfigMap in the namespace, for this reason: an API server learns
/// of its policies and webhooks by watching.
async fn refuses(world: &World, object: &Value, why: &str) {
    let collection = if object["kind"] == "Pod" { "pods" } else { "configmaps" };
    eventually(&format!("the destination to say: {why}"), || async {
        let request = http::Request::post(format!("/api/v1/namespaces/guarded/{collection}?dryRun=All"))
            .header("content-type", "application/json")
            .body(serde_json::to_vec(object).unwrap())
            .unwrap();
        match world.client("west").request::<Value>(request).await {
            Err(kube::Error::Api(status)) if status.message.contains(why) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

fn config(name: &str, metadata: &Value, data: &Value) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
    object["metadata"]["name"] = name.into();
    object
}

/// What refuses an object refuses it in a diff, in a dry run and in a run, each with the same
/// words, and nothing is changed.
async fn all_tell(world: &World, run: &str, object: &str, words: &[&str]) {
    let said = diff(world, &["guarded"]).await.ends_with(1);
    for word in [words, &[object]].concat() {
        assert!(said.all().contains(word), "{word} is not in\n{}", said.all());
    }
    let before = standing(world, "west").await;
    for dry in [true, false] {
        let name = if dry { format!("{run}-dry") } else { run.to_owned() };
        let report = world.run(&name, json!({"namespaces": ["guarded"], "dryRun": dry})).await.failed();
        let finding = report.failure(object);
        assert_eq!((finding.reason.as_str(), finding.step), ("WebhookRefused", Some(Step::Preflight)));
        for word in words {
            assert!(finding.message.contains(word), "{word} is not in {finding:?}");
        }
        assert_eq!(report.status.failures_total, 1, "{:?}", report.status.failures);
        report.came_to(ObjectAction::Failed, &[object]);
        assert_eq!(standing(world, "west").await, before, "{name} changed something");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_admission_policy_of_the_destination_refuses_is_told_and_nothing_is_changed() {
    let world = World::start().await;
    world.apply("east", SOURCE).await;
    world.apply("west", NAMESPACE).await;
    let signed = "!has(object.data) || !('unsigned' in object.data)";
    world.apply("west", &policy("signed-settings", "configmaps", signed, RULE)).await;
    let team = "has(object.metadata.labels) && 'team' in object.metadata.labels";
    world.apply("west", &policy("pods-of-teams", "pods", team, POD_RULE)).await;
    if !world.is_real() {
        let taken = world.run("taken", json!({"namespaces": ["guarded"]})).await.succeeded();
        taken.came_to(ObjectAction::Created, &["ConfigMap guarded/loose"]);
        return;
    }
    refuses(&world, &config("x", &json!({}), &json!({"unsigned": "yes"})), RULE).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"},
                     "spec": {"containers": [{"name": "c", "image": "c:1"}]}});
    refuses(&world, &pod, POD_RULE).await;

    all_tell(&world, "loose", "ConfigMap guarded/loose", &[RULE, "signed-settings", "transform"]).await;

    // A Deployment is taken whose Pods are refused: in the way of those who start it.
    let transform = json!({"name": "sign", "match": {"kind": "ConfigMap", "names": ["loose"]},
                           "mergePatch": {"data": {"unsigned": null, "signed": "later"}}});
    let spec = |start: bool, dry: bool| json!({"namespaces": ["guarded"], "transforms": [transform], "startApplications": start, "dryRun": dry});
    let refused = world.run("started", spec(true, false)).await.failed();
    let finding = refused.failure("Deployment guarded/nobodys");
    assert!(finding.message.contains(POD_RULE) && finding.step == Some(Step::Preflight), "{finding:?}");
    assert_eq!(world.config("west", "guarded", "fine").await, None);

    // What the policy wants done is done by a transform, and the rest is a warning.
    for (name, dry) in [("signed-dry", true), ("signed", false)] {
        let report = world.run(name, spec(false, dry)).await.succeeded();
        report.came_to(ObjectAction::Created, &["ConfigMap guarded/loose", "ConfigMap guarded/fine"]);
        let warned = report.status.warnings.iter().find(|w| w.object == "Deployment guarded/nobodys");
        assert!(warned.is_some_and(|w| w.message.contains(POD_RULE)), "{:?}", report.status.warnings);
    }
    let brought = world.config("west", "guarded", "loose").await;
    assert_eq!(brought, Some(json!({"colour": "blue", "signed": "later"})));

    // A change that the policy refuses is refused likewise, and the object stays as it is.
    let path = "/api/v1/namespaces/guarded/configmaps/fine";
    world.patch("east", path, json!({"data": {"unsigned": "now"}})).await;
    let refused = world.run("changed", spec(false, false)).await.failed();
    assert!(refused.failure("ConfigMap guarded/fine").message.contains(RULE));
    assert_eq!(world.get("west", path).await["data"], json!({"signed": "yes"}));

    // Movers have no team, and the policy is for all Pods.
    world.apply("east", CLAIM).await;
    world.volume("east", "guarded", "data").await;
    let refused =
        world.run("moved", json!({"namespaces": ["guarded"], "includeResources": false})).await.failed();
    let finding = refused.failure("Namespace guarded");
    assert_eq!((finding.reason.as_str(), finding.step), ("MoverForbidden", Some(Step::Preflight)));
    assert!(finding.message.contains(POD_RULE), "{finding:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_webhook_of_the_destination_refuses_is_told_and_nothing_is_changed() {
    let world = World::start().await;
    let webhook = Webhook::start().await;
    world.apply("east", SOURCE).await;
    let labelled = json!({"metadata": {"labels": {LABEL: "yes"}}});
    world.patch("east", "/api/v1/namespaces/guarded/configmaps/loose", labelled).await;
    world.apply("west", NAMESPACE).await;
    world.apply("west", &webhook.configuration("architects", "guarded")).await;
    if !world.is_real() {
        let taken = world.run("taken", json!({"namespaces": ["guarded"]})).await.succeeded();
        taken.came_to(ObjectAction::Created, &["ConfigMap guarded/loose"]);
        return;
    }
    refuses(&world, &config("x", &json!({"labels": {LABEL: "yes"}}), &json!({})), OBJECTION).await;
    all_tell(&world, "unwanted", "ConfigMap guarded/loose", &[OBJECTION, "architects.example.com"]).await;

    // Without what it objects to, it lets the object in.
    let bare = json!({"metadata": {"labels": {LABEL: null}}});
    world.patch("east", "/api/v1/namespaces/guarded/configmaps/loose", bare).await;
    let report = world.run("wanted", json!({"namespaces": ["guarded"]})).await.succeeded();
    report.came_to(ObjectAction::Created, &["ConfigMap guarded/loose"]);

    // One that does not answer any more is in the way too, by its name.
    drop(webhook);
    let path = "/api/v1/namespaces/guarded/configmaps/fine";
    world.patch("east", path, json!({"data": {"late": "change"}})).await;
    let refused = world.run("unanswered", json!({"namespaces": ["guarded"]})).await.failed();
    let finding = refused.failure("ConfigMap guarded/fine");
    assert_eq!(finding.reason, "WebhookUnreachable");
    assert!(finding.message.contains("architects.example.com"), "{finding:?}");
    assert_eq!(text(&world.get("west", path).await, "/data/late"), "");
}
