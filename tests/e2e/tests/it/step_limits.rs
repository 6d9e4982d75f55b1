//! Steps that run into their limits, and steps that are begun again.

use isthmus_shared::resources::{MigrationPhase, MigrationStatus, Step};
use serde_json::json;

use crate::cutover::running;
use crate::world::{PAIR, World, eventually};

const NAMESPACE: &str = "lingering";
const SOURCE: &str = "apiVersion: v1
kind: Namespace
metadata: {name: lingering}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: lingering}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, finalizers: [example.com/held]}
    spec:
      automountServiceAccountToken: false
      containers: [{name: web, image: 'web:1'}]
";

/// What a step says that it is at, if it is known yet.
fn message(status: &MigrationStatus, step: Step) -> &str {
    let found = status.pipeline.iter().find(|one| one.step == step);
    found.and_then(|step| step.message.as_deref()).unwrap_or_default()
}

/// Lets the Pods go that were told to.
async fn release(world: &World) {
    for pod in running(world.client("east"), NAMESPACE).await {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}");
        if world.find("east", &path).await.is_some_and(|pod| pod["metadata"]["deletionTimestamp"].is_string())
        {
            // One that is gone already needs no more.
            drop(world.try_patch("east", &path, json!({"metadata": {"finalizers": null}})).await);
        }
    }
}

async fn begin(world: &World, name: &str, options: &[&str]) {
    let line =
        ["migrate", NAMESPACE, "--pair", PAIR, "--name", name, "--quiesce", "--step-limit", "quiesce=10s"];
    world.isthmus(&[&line, options].concat()).await.ends_with(0);
}

async fn ended(world: &World, name: &str) -> MigrationStatus {
    world.migration_is(name, "ended", |status| status.status.is_terminal()).await
}

/// By the hub's count or by the spoke's, which of them comes first: the limit, and how it is set.
fn tells_its_limit(message: &str) -> bool {
    message.contains("10s") && message.contains("Quiesce") && message.contains("spec.timeouts.quiesce")
        || message.contains("10 s of spec.timeouts.quiesce") && message.contains("example.com/held")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_takes_too_long_names_its_limit_and_one_that_is_begun_again_may_succeed() {
    let world = World::shared().await;
    world.apply("east", SOURCE).await;
    eventually("the Pod", || async {
        let pods = running(world.client("east"), NAMESPACE).await;
        if pods.is_empty() { Err("there is none".to_owned()) } else { Ok(()) }
    })
    .await;

    // The Pod does not go: the step is over after its 10 s, and the source goes on.
    begin(world, "lingering-1", &[]).await;
    world
        .migration_is("lingering-1", "waiting for the Pod", |status| {
            message(status, Step::Quiesce).contains("waiting until Pods have gone: Pod lingering/web-")
        })
        .await;
    let status = ended(world, "lingering-1").await;
    assert_eq!(status.status, MigrationPhase::RolledBack, "{status:#?}");
    let failure = status.failures.iter().find(|found| found.step == Some(Step::Quiesce)).unwrap();
    assert!(tells_its_limit(&format!("{} {}", failure.object, failure.message)), "{failure:#?}");
    let described = world.isthmus(&["migration", "describe", "lingering-1"]).await.ends_with(0).out;
    assert!(described.contains("timeouts.quiesce"), "{described}");

    // Begun again, it finds that the Pod has gone.
    begin(world, "lingering-2", &["--step-retries", "quiesce=1"]).await;
    let resting = world
        .migration_is("lingering-2", "resting before it is begun again", |status| {
            message(status, Step::Quiesce).contains("retry 1 of 1 begins in 15s")
        })
        .await;
    assert!(resting.failures.is_empty() && resting.status == MigrationPhase::InProgress, "{resting:#?}");
    let went = async {
        let status = ended(world, "lingering-2").await;
        assert_eq!(status.status, MigrationPhase::SucceededWithWarnings, "{status:#?}");
        status
    };
    let releasing = async {
        loop {
            release(world).await;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    let status = tokio::select! { status = went => status, () = releasing => unreachable!() };
    let again =
        |found: &&isthmus_shared::resources::Finding| found.message.contains("(begun again, retry 1 of 1)");
    let warning = status.warnings.iter().find(again).unwrap_or_else(|| panic!("{:#?}", status.warnings));
    assert!(tells_its_limit(&format!("{} {}", warning.object, warning.message)), "{warning:#?}");
    let step = status.pipeline.iter().find(|one| one.step == Step::Quiesce).unwrap();
    assert_eq!(step.attempt, 1, "{step:#?}");
    assert!(running(world.client("east"), NAMESPACE).await.is_empty());
    release(world).await;
}
