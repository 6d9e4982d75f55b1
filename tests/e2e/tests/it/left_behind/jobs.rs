//! Jobs: those that wait go with labels of the destination's own making, those that have run and
//! those that a CronJob makes stay.

use isthmus_shared::protocol::ObjectAction::Created;
use serde_json::{Value, json};

use super::{Details, standing};
use crate::reading::text;
use crate::world::{World, eventually};

const JOBS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: left-jobs}
---
apiVersion: batch/v1
kind: Job
metadata: {name: later, namespace: left-jobs, labels: {app: later}}
spec:
  suspend: true
  template:
    metadata: {labels: {app: later}}
    spec: {restartPolicy: Never, containers: [{name: main, image: "batch:1"}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: none-yet, namespace: left-jobs}
spec:
  parallelism: 0
  template:
    spec: {restartPolicy: Never, containers: [{name: main, image: "batch:1"}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: done, namespace: left-jobs}
spec:
  template:
    spec: {restartPolicy: Never, containers: [{name: main, image: "batch:1"}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: broken, namespace: left-jobs}
spec:
  backoffLimit: 0
  template:
    metadata: {annotations: {lab.isthmus.dev/exit-code: "3"}}
    spec: {restartPolicy: Never, containers: [{name: main, image: "batch:1"}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: left-jobs}
spec:
  schedule: "0 3 1 1 *"
  suspend: true
  jobTemplate:
    spec:
      template:
        spec: {restartPolicy: Never, containers: [{name: main, image: "batch:1"}]}
"#;
const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];
const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];

fn path(kind: &str, name: &str) -> String {
    format!("/apis/batch/v1/namespaces/left-jobs/{kind}/{name}")
}

/// Makes the source's Jobs: one has run, one is a CronJob's, and one carries in its own labels too
/// what older API servers copied there.
async fn settle(world: &World) {
    world.apply("east", JOBS).await;
    let later = world.get("east", &path("jobs", "later")).await;
    let made = later.pointer("/spec/template/metadata/labels").unwrap();
    for label in UID_LABELS {
        assert_eq!(made[label], later["metadata"]["uid"], "{made}");
    }
    for label in NAME_LABELS {
        assert_eq!(made[label], "later", "{made}");
    }
    world.patch("east", &path("jobs", "later"), json!({"metadata": {"labels": made}})).await;

    let cron = world.get("east", &path("cronjobs", "nightly")).await;
    let owner = json!({"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": cron["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true});
    let job = json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "nightly-1", "namespace": "left-jobs", "ownerReferences": [owner]},
        "spec": {"suspend": true, "template": cron["spec"]["jobTemplate"]["spec"]["template"]}});
    world.post("east", "/apis/batch/v1/namespaces/left-jobs/jobs", &job).await;
    for (name, end) in [("done", "Complete"), ("broken", "Failed")] {
        eventually(&format!("Job {name} to be {end}"), || async {
            let job = world.get("east", &path("jobs", name)).await;
            let is_end = |condition: &Value| condition["type"] == end && condition["status"] == "True";
            let ended = job["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(is_end));
            if ended { Ok(()) } else { Err(job["status"].to_string()) }
        })
        .await;
    }
}

/// Everything by which a Job of the destination knows its Pods is its own.
async fn knows_its_pods(world: &World, name: &str) {
    let (there, here) =
        (world.get("east", &path("jobs", name)).await, world.get("west", &path("jobs", name)).await);
    let (source, own) = (text(&there, "/metadata/uid"), text(&here, "/metadata/uid"));
    assert_ne!(source, own);
    let labels = here.pointer("/spec/template/metadata/labels").unwrap();
    for label in UID_LABELS {
        assert_eq!(labels[label], own, "{labels}");
    }
    for label in NAME_LABELS {
        assert_eq!(labels[label], name, "{labels}");
    }
    let selector = here.pointer("/spec/selector/matchLabels").and_then(Value::as_object).unwrap();
    assert!(!selector.is_empty() && selector.values().all(|value| *value == own), "{selector:?}");
    // Nowhere, not even among its own labels; who migrated it is told by another uid.
    assert!(!here.to_string().contains(source), "the source's uid is in {here}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_waits_arrives_as_the_destinations_own_and_one_that_has_run_stays() {
    let world = World::shared().await;
    settle(world).await;

    let spec = json!({"namespaces": ["left-jobs"]});
    let report = world.run("left-jobs", spec.clone()).await.succeeded();
    report.came_to(Created, &["Job left-jobs/later", "Job left-jobs/none-yet", "CronJob left-jobs/nightly"]);
    report.left_behind("Finished", &["Job left-jobs/done", "Job left-jobs/broken"]);
    report.left_behind("Owned", &["Job left-jobs/nightly-1"]);
    let pods: Vec<&str> =
        report.objects.iter().filter(|o| o.kind == "Pod").map(|o| o.reason.as_deref().unwrap()).collect();
    assert!(
        pods.len() >= 2 && pods.iter().all(|reason| *reason == "Owned"),
        "of the Jobs that have run: {pods:?}"
    );
    let details = Details::of(world, "left-jobs").await;
    details.say("left-jobs Job.batch later", &["Created"]);
    details.say("left-jobs Job.batch done", &["Left behind", "Finished: it has run"]);
    details.say("left-jobs Job.batch nightly-1", &["Left behind", "Owned: its owner CronJob nightly"]);
    for absent in ["done", "broken", "nightly-1"] {
        assert_eq!(world.find("west", &path("jobs", absent)).await, None);
    }
    for name in ["later", "none-yet"] {
        knows_its_pods(world, name).await;
    }
    let later = world.get("west", &path("jobs", "later")).await;
    assert_eq!(text(&later, "/metadata/labels/app"), "later", "a person's own label");

    // Nothing of what the destination made is taken away or written again.
    let before = standing(world, "left-jobs").await;
    world.run("left-jobs-again", spec).await.succeeded();
    assert_eq!(standing(world, "left-jobs").await, before);

    // And they work: each makes its Pod, and counts it.
    for (name, go) in
        [("later", json!({"suspend": false})), ("none-yet", json!({"suspend": false, "parallelism": 1}))]
    {
        let job = world.patch("west", &path("jobs", name), json!({"spec": go})).await;
        eventually(&format!("Job {name} to have run"), || async {
            let status = world.get("west", &path("jobs", name)).await["status"].clone();
            if status["succeeded"] == 1 { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
        let uid = text(&job, "/metadata/uid");
        let pods = format!("/api/v1/namespaces/left-jobs/pods?labelSelector=controller-uid%3D{uid}");
        let pods = world.get("west", &pods).await;
        assert_eq!(pods["items"].as_array().map(Vec::len), Some(1), "{pods}");
    }
}
