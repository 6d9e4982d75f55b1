//! Deleting on the destination what is gone from the source, and nothing else.

use isthmus_shared::protocol::ObjectAction;
use serde_json::json;

use crate::world::World;

const SOURCE: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: purged}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: stays, namespace: purged}
data: {a: b}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: goes, namespace: purged}
data: {a: b}
---
apiVersion: v1
kind: Secret
metadata: {name: goes, namespace: purged}
stringData: {a: b}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: left-out, namespace: purged}
data: {a: b}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: goes, namespace: purged}
spec:
  replicas: 1
  selector: {matchLabels: {app: goes}}
  template:
    metadata: {labels: {app: goes}}
    spec: {containers: [{name: c, image: 'c:1'}]}
";
/// Another namespace of the source, which goes to the same one of the destination.
const NEIGHBOUR: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: purged-neighbour}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: of-the-neighbour, namespace: purged-neighbour}
data: {a: b}
";
const BY_HAND: &str = r"
apiVersion: v1
kind: ConfigMap
metadata: {name: by-hand, namespace: purged}
data: {a: b}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_from_the_source_is_purged_and_what_others_brought_stays() {
    let world = World::shared().await;
    world.apply("east", SOURCE).await;
    world.apply("east", NEIGHBOUR).await;
    world.run("purge-first", json!({"namespaces": ["purged"]})).await.succeeded();
    world.run("purge-neighbour", json!({"namespaces": ["purged-neighbour:purged"]})).await.succeeded();
    world.apply("west", BY_HAND).await;
    let east = "/api/v1/namespaces/purged";
    for path in [
        format!("{east}/configmaps/goes"),
        format!("{east}/secrets/goes"),
        "/apis/apps/v1/namespaces/purged/deployments/goes".to_owned(),
    ] {
        world.delete("east", &path).await;
    }
    // Gone from the source is not the same as left behind there.
    let skip = json!({"metadata": {"annotations": {"isthmus.dev/skip": "true"}}});
    world.patch("east", &format!("{east}/configmaps/left-out"), skip).await;

    // Nothing is purged unless it is asked for, nor by a dry run.
    world.run("purge-not", json!({"namespaces": ["purged"]})).await.succeeded();
    let spec = json!({"namespaces": ["purged"], "purgeDeletedResources": true, "dryRun": true});
    let gone = ["ConfigMap purged/goes", "Secret purged/goes", "Deployment purged/goes"];
    world.run("purge-dry", spec).await.succeeded().came_to(ObjectAction::Deleted, &gone);
    assert!(world.config("west", "purged", "goes").await.is_some());

    let spec = json!({"namespaces": ["purged"], "purgeDeletedResources": true});
    let report = world.run("purge", spec.clone()).await.succeeded();
    report.came_to(ObjectAction::Deleted, &gone);
    assert_eq!(report.status.resources.deleted, 3, "{:?}", report.status.resources);
    assert_eq!(report.all(ObjectAction::Deleted).len(), 3);
    assert_eq!(world.config("west", "purged", "goes").await, None);
    assert_eq!(world.find("west", "/api/v1/namespaces/purged/secrets/goes").await, None);
    assert_eq!(world.find("west", "/apis/apps/v1/namespaces/purged/deployments/goes").await, None);
    for stays in ["stays", "left-out", "of-the-neighbour", "by-hand"] {
        assert!(world.config("west", "purged", stays).await.is_some(), "{stays} is gone");
    }

    let again = world.run("purge-again", spec).await.succeeded();
    assert_eq!(again.all(ObjectAction::Deleted), Vec::<String>::new());
}
