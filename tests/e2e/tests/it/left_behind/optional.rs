//! What stays unless it is asked for: Pods that no controller keeps, and Jobs that have run.

use isthmus_shared::protocol::ObjectAction::{Created, Unchanged};
use serde_json::{Value, json};

use super::Details;
use crate::reading::text;
use crate::world::{World, eventually};

const BARE: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: left-asked}
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: left-asked}
value: 5000
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: app, namespace: left-asked}
---
apiVersion: v1
kind: Pod
metadata: {name: bare, namespace: left-asked}
spec:
  serviceAccountName: app
  priorityClassName: left-asked
  containers:
  - name: main
    image: "bare:1"
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
---
apiVersion: v1
kind: Pod
metadata: {name: ended, namespace: left-asked}
spec: {serviceAccountName: app, restartPolicy: Never, containers: [{name: main, image: "bare:1"}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: done, namespace: left-asked}
spec:
  template:
    spec: {serviceAccountName: app, restartPolicy: Never, containers: [{name: main, image: "batch:1"}]}
"#;

fn pod(name: &str) -> String {
    format!("/api/v1/namespaces/left-asked/pods/{name}")
}

const JOB: &str = "/apis/batch/v1/namespaces/left-asked/jobs/done";

/// A Pod that runs on a node of its cluster.
async fn running(world: &World, cluster: &str) -> Value {
    eventually(&format!("the Pod to run in {cluster}"), || async {
        let pod = world.get(cluster, &pod("bare")).await;
        if text(&pod, "/status/phase") == "Running" { Ok(pod) } else { Err(pod["status"].to_string()) }
    })
    .await
}

/// The names of a Pod's volumes that hold its account's token.
fn tokens(pod: &Value) -> Vec<&str> {
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array).into_iter().flatten();
    volumes.map(|volume| text(volume, "/name")).filter(|name| name.starts_with("kube-api-access-")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bare_pods_and_completed_jobs_go_where_they_are_asked_for_and_become_the_destinations_own() {
    let world = World::shared().await;
    world.apply("east", BARE).await;
    let source = running(world, "east").await;
    assert!(!text(&source, "/spec/nodeName").is_empty());
    world.patch("east", &format!("{}/status", pod("ended")), json!({"status": {"phase": "Succeeded"}})).await;
    eventually("the Job to be complete", || async {
        let status = world.get("east", JOB).await["status"].clone();
        if status["completionTime"].is_string() { Ok(()) } else { Err(status.to_string()) }
    })
    .await;

    let spec = json!({"namespaces": ["left-asked"]});
    let report = world.run("left-unasked", spec).await.succeeded();
    report.left_behind("Pod", &["Pod left-asked/bare", "Pod left-asked/ended"]);
    report.left_behind("Finished", &["Job left-asked/done"]);
    assert_eq!(world.find("west", &pod("bare")).await, None);

    let spec = json!({"namespaces": ["left-asked"], "includeOptionalResourceTypes": ["Pod", "Job"]});
    let report = world.run("left-asked", spec.clone()).await.succeeded();
    report.came_to(Created, &["Pod left-asked/bare", "Job left-asked/done"]);
    report.left_behind("Finished", &["Pod left-asked/ended"]);
    let details = Details::of(world, "left-asked").await;
    details.say("left-asked Pod bare", &["Created"]);
    details.say("left-asked Pod ended", &["Left behind", "Finished: it has run"]);
    details.say("left-asked Job.batch done", &["Created"]);
    assert_eq!(world.find("west", &pod("ended")).await, None);

    let arrived = running(world, "west").await;
    assert_eq!(text(&arrived, "/spec/priorityClassName"), "left-asked");
    assert_eq!(arrived.pointer("/spec/priority"), source.pointer("/spec/priority"), "of the class's value");
    assert_ne!(
        text(&arrived, "/spec/nodeName"),
        text(&source, "/spec/nodeName"),
        "a node of its own cluster"
    );
    // Admission of a real API server gives each Pod a token; the source's volume came not beside it.
    assert_eq!(tokens(&arrived).len(), tokens(&source).len(), "{}", arrived["spec"]);
    assert!(!world.is_real() || tokens(&arrived) != tokens(&source));
    let job = world.get("west", JOB).await;
    assert_eq!(job.pointer("/spec/suspend"), Some(&json!(true)), "it does not run again by itself");
    let labels = job.pointer("/spec/template/metadata/labels").unwrap();
    assert_eq!(labels["controller-uid"], job["metadata"]["uid"]);

    // A Pod's status has its own versions.
    let again = world.run("left-asked-again", spec).await.succeeded();
    again.came_to(Unchanged, &["Pod left-asked/bare", "Job left-asked/done"]);
    assert_eq!(world.get("west", &pod("bare")).await["spec"], arrived["spec"]);
}
