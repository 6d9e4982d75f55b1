//! Starting and stopping a namespace's applications.

use kube::Client;
use serde_json::Value;

use crate::app::objects;
use crate::world::World;

const WORKLOADS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:1"}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: idle, namespace: shop}
spec:
  replicas: 0
  selector: {matchLabels: {app: idle}}
  template:
    metadata: {labels: {app: idle}}
    spec: {containers: [{name: idle, image: "idle:1"}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  replicas: 2
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, image: "db:1"}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: shop}
spec:
  schedule: "0 3 * * *"
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: job, image: "job:1"}]}}}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: paused, namespace: shop}
spec:
  schedule: "0 4 * * *"
  suspend: true
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: job, image: "job:1"}]}}}}
"#;

/// The part of each workload that says how much of it runs.
async fn counts(client: Client) -> Vec<(String, Option<Value>)> {
    let objects = objects(client, "shop").await;
    let counted =
        |name: &str| ["Deployment/", "StatefulSet/", "CronJob/"].iter().any(|kind| name.starts_with(kind));
    objects
        .into_iter()
        .filter(|(name, _)| counted(name))
        .map(|(name, object)| {
            let value = object.pointer("/spec/replicas").or(object.pointer("/spec/suspend")).cloned();
            // An absent `suspend` and a false one are the same.
            (name, value.filter(|value| value != &Value::Bool(false)))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn activate_and_deactivate_are_exact_inverses_however_often() {
    let world = World::joined().await;
    world.apply("west", WORKLOADS).await;
    let as_it_was = counts(world.client("west")).await;
    for _ in 0..2 {
        world.isthmus(&["deactivate", "shop", "--cluster", "west"]).await.ends_with(0);
        let stopped = counts(world.client("west")).await;
        for (name, value) in &stopped {
            assert!(
                *value == Some(Value::from(0)) || *value == Some(Value::Bool(true)),
                "{name} runs: {value:?}"
            );
        }
        world.isthmus(&["deactivate", "shop", "--cluster", "west"]).await.ends_with(0);
        world.isthmus(&["activate", "shop", "--cluster", "west"]).await.ends_with(0);
        assert_eq!(counts(world.client("west")).await, as_it_was);
    }
    let said = world.isthmus(&["activate", "nowhere", "--cluster", "west"]).await.ends_with(1);
    assert!(said.all().contains("nowhere"), "{}", said.all());
    let said = world.isthmus(&["activate", "shop", "--cluster", "north"]).await.ends_with(1);
    assert!(said.all().contains("north"), "{}", said.all());
}
