//! Cutovers: the source stands still, one side runs, and going back gives the source back as it was.

use std::collections::BTreeMap;

use isthmus_shared::resources::{ACTIVE, COUNTERPART, QUIESCED_BY};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::app::objects;
use crate::world::{World, eventually};

/// Beside the CMS application: one of every kind that is stopped in a way of its own, something that a
/// person has stopped, and an autoscaler.
const MORE: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: NAMESPACE}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {containers: [{name: agent, image: "agent:1"}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: idle, namespace: NAMESPACE}
spec:
  replicas: 0
  selector: {matchLabels: {app: idle}}
  template:
    metadata: {labels: {app: idle}}
    spec: {containers: [{name: idle, image: "idle:1"}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: paused, namespace: NAMESPACE}
spec:
  schedule: "0 4 * * *"
  suspend: true
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: job, image: "job:1"}]}}}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: reindex, namespace: NAMESPACE}
spec:
  template:
    spec: {restartPolicy: Never, containers: [{name: job, image: "job:1"}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: endless, namespace: NAMESPACE}
spec:
  template:
    spec: {restartPolicy: Never, nodeSelector: {waits: forever}, containers: [{name: job, image: "job:1"}]}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: wordpress, namespace: NAMESPACE}
spec:
  minReplicas: 3
  maxReplicas: 5
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: wordpress}
  metrics:
  - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}
"#;

/// What each workload of a namespace is told to be, with the annotations that are its people's.
async fn workloads(client: Client, namespace: &str) -> BTreeMap<String, Value> {
    let kinds = ["Deployment/", "StatefulSet/", "DaemonSet/", "CronJob/", "Job/"];
    let all = objects(client, namespace).await.into_iter();
    all.filter(|(name, _)| kinds.iter().any(|kind| name.starts_with(kind)))
        .map(|(name, object)| {
            let mut annotations = object["metadata"]["annotations"].clone();
            if let Some(annotations) = annotations.as_object_mut() {
                // Counted by the API server.
                annotations.remove("deprecated.daemonset.template.generation");
                annotations.retain(|key, _| !key.contains("kubernetes.io/"));
            }
            (name, json!({"spec": object["spec"], "annotations": annotations}))
        })
        .collect()
}

/// The Pods of a namespace that have not ended, but for movers.
pub async fn running(client: Client, namespace: &str) -> Vec<String> {
    let pods = Api::<Pod>::namespaced(client, namespace).list(&ListParams::default()).await.unwrap();
    let runs = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
        phase != "Succeeded" && phase != "Failed" && !pod.labels().contains_key("isthmus.dev/component")
    };
    pods.iter().filter(|pod| runs(pod)).map(ResourceExt::name_any).collect()
}

/// The marks of a namespace: whether it is the active side, and the other side.
pub async fn marks(client: Client, namespace: &str) -> (Option<String>, Option<String>) {
    let namespace = Api::<Namespace>::all(client).get(namespace).await.unwrap();
    (namespace.labels().get(ACTIVE).cloned(), namespace.annotations().get(COUNTERPART).cloned())
}

pub fn marked(active: &str, other: &str) -> (Option<String>, Option<String>) {
    (Some(active.to_owned()), Some(other.to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cutover_leaves_one_side_running_and_rolling_back_gives_the_source_back_exactly() {
    let world = World::start().await;
    let (east, west) = (|| world.client("east"), || world.client("west"));
    world.install_cms("shop").await;
    world.apply("east", &MORE.replace("NAMESPACE", "shop")).await;
    // Four of the CMS and the agent; before that the source is not what it is to be.
    eventually("the source's Pods to run", || async {
        let running = running(east(), "shop").await;
        if running.len() >= 6 { Ok(()) } else { Err(format!("{running:?}")) }
    })
    .await;
    eventually("the Job to end", || async {
        let job = Api::<Job>::namespaced(east(), "shop").get("reindex").await.unwrap();
        let done = job.status.and_then(|status| status.completion_time);
        done.map(drop).ok_or_else(|| "it has not".to_owned())
    })
    .await;
    let before = workloads(east(), "shop").await;

    let spec = json!({"namespaces": ["shop"], "quiesce": true, "startApplications": true});
    let report = world.run("cut", spec).await.succeeded();
    assert_eq!(running(east(), "shop").await, Vec::<String>::new());
    assert_eq!(marks(east(), "shop").await, marked("false", "west/shop"));
    assert_eq!(marks(west(), "shop").await, marked("true", "east/shop"));
    world.volumes_are_equal("shop").await;
    let autoscaled = report.status.warnings.iter().find(|warning| warning.reason == "Autoscaled");
    assert!(
        autoscaled.is_some_and(|warning| warning.object.ends_with("shop/wordpress")),
        "{:#?}",
        report.status
    );
    let quiesced = workloads(east(), "shop").await;
    assert_eq!(quiesced["Deployment/wordpress"]["spec"]["replicas"], 0);
    assert_eq!(quiesced["CronJob/wp-cron"]["spec"]["suspend"], true);
    assert_eq!(quiesced["Job/endless"]["spec"]["suspend"], true);
    // The lab's Jobs end soon, and one that has ended is left as it is.
    for left_alone in ["Deployment/idle", "CronJob/paused", "Job/reindex"] {
        assert_eq!(quiesced[left_alone]["annotations"].get(QUIESCED_BY), None, "{left_alone}");
    }
    let arrived = running(west(), "shop").await;
    assert!(arrived.iter().filter(|pod| pod.starts_with("wordpress-")).count() == 3, "{arrived:?}");
    assert_eq!(workloads(west(), "shop").await["Deployment/wordpress"]["annotations"].get(QUIESCED_BY), None);

    let said = world.isthmus(&["activate", "shop", "--cluster", "east"]).await.ends_with(1);
    assert!(said.all().contains("west/shop"), "{}", said.all());
    assert_eq!(running(east(), "shop").await, Vec::<String>::new());

    let spec = json!({"action": "Rollback", "rollbackOf": "cut"});
    world.create_migration("back", spec).await.unwrap();
    let status = world.migration_is("back", "ended", |status| status.status.is_terminal()).await;
    assert!(status.failures.is_empty(), "{status:#?}");
    assert_eq!(workloads(east(), "shop").await, before);
    assert_eq!(marks(east(), "shop").await.0.as_deref(), Some("true"));
    eventually("the source's Pods to run again", || async {
        let running = running(east(), "shop").await;
        if running.len() >= 6 { Ok(()) } else { Err(format!("{running:?}")) }
    })
    .await;
    assert_eq!(running(west(), "shop").await, Vec::<String>::new());

    // The other way round by hand: first the one side, then the other.
    world.isthmus(&["activate", "shop", "--cluster", "west"]).await.ends_with(1);
    world.isthmus(&["deactivate", "shop", "--cluster", "east"]).await.ends_with(0);
    eventually("the other side to be known to stand still", || async {
        let said = world.isthmus(&["activate", "shop", "--cluster", "west"]).await;
        if said.code == 0 { Ok(()) } else { Err(said.all()) }
    })
    .await;
    assert_eq!(marks(west(), "shop").await.0.as_deref(), Some("true"));
    world.isthmus(&["activate", "shop", "--cluster", "east"]).await.ends_with(1);
    world.isthmus(&["activate", "shop", "--cluster", "east", "--force"]).await.ends_with(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cutover_with_a_pod_that_nothing_could_start_again_stops_nothing_at_all() {
    let world = World::shared().await;
    world.install_cms("by-hand").await;
    let pod = r#"
apiVersion: v1
kind: Pod
metadata: {name: shell, namespace: by-hand}
spec:
  containers: [{name: shell, image: "shell:1", volumeMounts: [{name: data, mountPath: /data}]}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: px-wp-pvc}}]
"#;
    world.apply("east", pod).await;
    let before = workloads(world.client("east"), "by-hand").await;
    let spec = json!({"namespaces": ["by-hand"], "quiesce": true, "startApplications": true});
    let report = world.run("refused", spec).await;
    let told = report.status.failures.iter().find(|failure| failure.reason == "BarePod");
    assert!(told.is_some_and(|failure| failure.object == "Pod by-hand/shell"), "{:#?}", report.status);
    assert_eq!(workloads(world.client("east"), "by-hand").await, before);
}
