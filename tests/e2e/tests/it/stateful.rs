//! A StatefulSet with claim templates, on its way to another storage class.

use isthmus_lab::trees::{CompareOptions, compare_trees};
use isthmus_shared::protocol::ObjectAction;
use serde_json::json;

use crate::reading::text;
use crate::world::{World, eventually};

const QUEUE: &str = r"
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: east-ssd}
provisioner: lab.isthmus.dev/local
---
apiVersion: v1
kind: Namespace
metadata: {name: queue}
---
apiVersion: v1
kind: Service
metadata: {name: queue, namespace: queue}
spec: {clusterIP: None, selector: {app: queue}, ports: [{port: 5672}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: queue, namespace: queue}
spec: {minAvailable: 2, selector: {matchLabels: {app: queue}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: queue, namespace: queue}
spec:
  serviceName: queue
  replicas: 3
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: queue}}
  template:
    metadata: {labels: {app: queue}}
    spec:
      containers:
      - name: queue
        image: rabbitmq:4
        volumeMounts: [{name: data, mountPath: /var/lib/queue}]
  volumeClaimTemplates:
  - metadata: {name: data, labels: {app: queue}}
    spec:
      storageClassName: east-ssd
      accessModes: [ReadWriteOnce]
      resources: {requests: {storage: 1Gi}}
";
const WEST_CLASS: &str = r"
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: west-premium}
provisioner: lab.isthmus.dev/local
";
const SET: &str = "/apis/apps/v1/namespaces/queue/statefulsets/queue";

async fn all_ready(world: &World, cluster: &str) {
    eventually(&format!("all of the queue to run in {cluster}"), || async {
        let set = world.get(cluster, SET).await;
        let ready = set.pointer("/status/readyReplicas") == Some(&json!(3));
        if ready { Ok(()) } else { Err(set["status"].to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_arrives_with_its_claims_in_another_storage_class_and_finds_its_data() {
    let world = World::shared().await;
    world.apply("east", QUEUE).await;
    world.apply("west", WEST_CLASS).await;
    all_ready(world, "east").await;
    for ordinal in 0..3 {
        let volume = world.volume("east", "queue", &format!("data-queue-{ordinal}")).await;
        std::fs::create_dir(volume.join("segments")).unwrap();
        let messages = format!("message of {ordinal}\n").repeat(10_000 * (ordinal + 1));
        std::fs::write(volume.join("segments/0001"), messages).unwrap();
    }

    // Its class is nowhere on the destination: without a map the run is refused, by the claim's name.
    let refused = world.run("queue-unmapped", json!({"namespaces": ["queue"]})).await.failed();
    let finding = &refused.status.failures[0];
    assert!(finding.object.starts_with("PersistentVolumeClaim queue/data-queue-"), "{finding:?}");
    assert!(finding.message.contains("east-ssd"), "{finding:?}");
    assert_eq!(world.find("west", "/api/v1/namespaces/queue").await, None);

    let spec = json!({
        "namespaces": ["queue"],
        "storageClassMapping": {"east-ssd": "west-premium"},
        "startApplications": true,
    });
    let report = world.run("queue", spec).await.succeeded();
    report.came_to(ObjectAction::Created, &["StatefulSet queue/queue", "PodDisruptionBudget queue/queue"]);
    assert_eq!(report.status.volumes_summary.as_deref(), Some("3/3"));

    let set = world.get("west", SET).await;
    assert_eq!(text(&set, "/spec/volumeClaimTemplates/0/spec/storageClassName"), "west-premium");
    assert_eq!(set.pointer("/spec/replicas"), Some(&json!(3)));
    all_ready(world, "west").await;
    for ordinal in 0..3 {
        let name = format!("data-queue-{ordinal}");
        let claim =
            world.get("west", &format!("/api/v1/namespaces/queue/persistentvolumeclaims/{name}")).await;
        assert_eq!(text(&claim, "/spec/storageClassName"), "west-premium");
        let east = world.volume("east", "queue", &name).await;
        let west = world.volume("west", "queue", &name).await;
        let differences = compare_trees(&east, &west, &CompareOptions::default()).unwrap();
        assert!(differences.is_empty(), "{name}: {differences:?}");
        let pod = world.get("west", &format!("/api/v1/namespaces/queue/pods/queue-{ordinal}")).await;
        let mounts = |volume: &serde_json::Value| text(volume, "/persistentVolumeClaim/claimName") == name;
        assert!(pod.pointer("/spec/volumes").unwrap().as_array().unwrap().iter().any(mounts), "{pod}");
    }
}
