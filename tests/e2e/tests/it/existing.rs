//! A destination that has half of it already: some brought by an earlier run, some by other hands.

use isthmus_shared::protocol::ObjectAction;
use isthmus_shared::resources::MIGRATED_BY;
use serde_json::{Value, json};

use crate::reading::{in_namespace, text, versions};
use crate::runs::Report;
use crate::world::World;

const FIRST: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: NAME}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ours, namespace: NAME}
data: {colour: blue}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: steady, namespace: NAME}
data: {colour: grey}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: NAME}
spec: {type: NodePort, selector: {app: front}, ports: [{port: 80}]}
";
const THEN: &str = r"
apiVersion: v1
kind: ConfigMap
metadata: {name: ours, namespace: NAME}
data: {colour: green}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: foreign, namespace: NAME}
data: {colour: green}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: fresh, namespace: NAME}
data: {colour: green}
";
const BY_HAND: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: foreign, namespace: NAME}
data: {colour: red, local: "kept by hand"}
"#;

/// What stands in a namespace of the destination: each object's resourceVersion.
async fn standing(world: &World, namespace: &str) -> Value {
    let objects = in_namespace(world.client("west"), namespace).await;
    let mut versions = versions(&objects);
    versions.retain(|name, _| !name.starts_with("Event "));
    serde_json::to_value(versions).unwrap()
}

/// A namespace half of which an earlier run brought, with one object of other hands in the way,
/// and a source that has changed since.
async fn half_there(world: &World, namespace: &str) {
    world.apply("east", &FIRST.replace("NAME", namespace)).await;
    world.run(&format!("{namespace}-first"), json!({"namespaces": [namespace]})).await.succeeded();
    world.apply("east", &THEN.replace("NAME", namespace)).await;
    world.apply("west", &BY_HAND.replace("NAME", namespace)).await;
    let ours = format!("/api/v1/namespaces/{namespace}/configmaps/ours");
    world.patch("west", &ours, json!({"data": {"local": "added by hand"}})).await;
}

async fn run_by(world: &World, namespace: &str, policy: Option<&str>) -> Report {
    let mut spec = json!({"namespaces": [namespace]});
    if let Some(policy) = policy {
        spec["existingResourcePolicy"] = policy.into();
    }
    world.run(&format!("{namespace}-then"), spec).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_met_as_the_policy_says() {
    let world = World::shared().await;
    let namespaces = ["half-unset", "half-fail", "half-skip", "half-update", "half-replace"];
    futures::future::join_all(namespaces.map(|namespace| half_there(world, namespace))).await;
    let config = |namespace: &'static str, name: &'static str| world.config("west", namespace, name);

    // Unset, another's object refuses the run before it begins; ours alone would be updated.
    let before = standing(world, "half-unset").await;
    let report = run_by(world, "half-unset", None).await.failed();
    report.failure("ConfigMap half-unset/foreign");
    assert_eq!(report.status.failures_total, 1, "{:?}", report.status.failures);
    assert_eq!(standing(world, "half-unset").await, before);

    // Fail: whatever is there.
    let before = standing(world, "half-fail").await;
    let report = run_by(world, "half-fail", Some("Fail")).await.failed();
    report.failure("ConfigMap half-fail/ours");
    report.failure("ConfigMap half-fail/foreign");
    assert_eq!(standing(world, "half-fail").await, before);

    // Skip: what is there stays, what is not comes.
    let report = run_by(world, "half-skip", Some("Skip")).await.succeeded();
    report.came_to(ObjectAction::Skipped, &["ConfigMap half-skip/ours", "ConfigMap half-skip/foreign"]);
    report.came_to(ObjectAction::Created, &["ConfigMap half-skip/fresh"]);
    let ours = json!({"colour": "blue", "local": "added by hand"});
    assert_eq!(config("half-skip", "ours").await, Some(ours));
    assert!(report.status.resources.skipped >= 2, "{:?}", report.status.resources);

    // Update: the source's fields are set, others stay, and what is now ours is marked.
    let service = "/api/v1/namespaces/half-update/services/front";
    let before = world.get("west", service).await;
    let report = run_by(world, "half-update", Some("Update")).await.succeeded();
    report.came_to(ObjectAction::Updated, &["ConfigMap half-update/ours", "ConfigMap half-update/foreign"]);
    report.came_to(ObjectAction::Unchanged, &["ConfigMap half-update/steady", "Service half-update/front"]);
    report.came_to(ObjectAction::Created, &["ConfigMap half-update/fresh"]);
    let ours = json!({"colour": "green", "local": "added by hand"});
    assert_eq!(config("half-update", "ours").await, Some(ours));
    let foreign = json!({"colour": "green", "local": "kept by hand"});
    assert_eq!(config("half-update", "foreign").await, Some(foreign));
    let marked = world.get("west", "/api/v1/namespaces/half-update/configmaps/foreign").await;
    assert!(marked["metadata"]["labels"].get(MIGRATED_BY).is_some(), "{marked}");
    assert_eq!(world.get("west", service).await, before, "its address and node port stay");

    // Replace: it becomes as on the source.
    let report = run_by(world, "half-replace", Some("Replace")).await.succeeded();
    report.came_to(ObjectAction::Updated, &["ConfigMap half-replace/ours", "ConfigMap half-replace/foreign"]);
    report.came_to(ObjectAction::Unchanged, &["ConfigMap half-replace/steady"]);
    for name in ["ours", "foreign", "fresh"] {
        assert_eq!(config("half-replace", name).await, Some(json!({"colour": "green"})), "{name}");
    }

    // Once all of it is ours and as it should be, the policy unset has nothing to say or write.
    let again = world.run("half-update-again", json!({"namespaces": ["half-update"]})).await.succeeded();
    assert_eq!(again.all(ObjectAction::Updated), Vec::<String>::new());
}

const IMMUTABLE: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: NAME}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NAME}
spec:
  replicas: 1
  selector: {matchLabels: {app: CHOICE}}
  template:
    metadata: {labels: {app: CHOICE}}
    spec: {containers: [{name: web, image: 'web:1'}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: NAME, labels: {stubborn: 'yes'}}
spec: {CLUSTER_IP selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: NAME, labels: {stubborn: 'yes'}}
spec: {accessModes: [MODE], resources: {requests: {storage: 1Gi}}}
";
const USER: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: user, namespace: NAME}
spec:
  containers: [{name: user, image: 'user:1', volumeMounts: [{name: data, mountPath: /data}]}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_changed_is_made_anew_by_replace_alone_and_never_a_service_or_a_claim_in_use() {
    let world = World::shared().await;
    let namespace = "immutable";
    let there = IMMUTABLE
        .replace("NAME", namespace)
        .replace("CHOICE", "old")
        .replace("CLUSTER_IP", "")
        .replace("MODE", "ReadWriteMany");
    let here = IMMUTABLE
        .replace("NAME", namespace)
        .replace("CHOICE", "new")
        .replace("CLUSTER_IP", "clusterIP: None,")
        .replace("MODE", "ReadWriteOnce");
    world.apply("east", &here).await;
    world.apply("west", &there).await;
    world.apply("west", &USER.replace("NAME", namespace)).await;
    world.volume("east", namespace, "data").await;
    let precious = world.volume("west", namespace, "data").await.join("precious");
    std::fs::write(&precious, "not to be lost").unwrap();
    let deployment = format!("/apis/apps/v1/namespaces/{namespace}/deployments/web");
    let service = format!("/api/v1/namespaces/{namespace}/services/web");
    let claim = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/data");
    let uid = |path: String| async move { text(&world.get("west", &path).await, "/metadata/uid").to_owned() };
    let uids =
        || async { [uid(deployment.clone()).await, uid(service.clone()).await, uid(claim.clone()).await] };
    let before = uids().await;

    let update = json!({"namespaces": [namespace], "existingResourcePolicy": "Update", "excludeSelectors": {"stubborn": "yes"}});
    let refused = world.run("immutable-update", update).await.failed();
    let finding = refused.failure("Deployment immutable/web");
    assert!(finding.message.contains("selector"), "{finding:?}");
    assert_eq!(uids().await, before);

    let replace = json!({"namespaces": [namespace], "existingResourcePolicy": "Replace"});
    let refused = world.run("immutable-all", replace).await.failed();
    refused.failure("Service immutable/web");
    refused.failure("PersistentVolumeClaim immutable/data");
    assert_eq!(uids().await, before, "something was deleted for a run that was refused");

    let replace = json!({
        "namespaces": [namespace],
        "existingResourcePolicy": "Replace",
        "excludeSelectors": {"stubborn": "yes"},
    });
    world.run("immutable-replace", replace).await.succeeded();
    let after = uids().await;
    assert_ne!(after[0], before[0], "the Deployment is a new one");
    assert_eq!(after[1..], before[1..]);
    let web = world.get("west", &deployment).await;
    assert_eq!(text(&web, "/spec/selector/matchLabels/app"), "new");
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "not to be lost");
}
