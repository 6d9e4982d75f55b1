//! Plans: checked by themselves, staged as often as wanted, and changed while a run goes on.

use std::fs;

use isthmus_shared::resources::{
    MigrationPhase, MigrationPlan, MigrationPlanStatus, MigrationStatus, PlanPhase, ProblemSeverity,
};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::volume_options::{claim, noise};
use crate::world::{NAMESPACE, PAIR, World, eventually};

const CLASSY: &str = r"
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: plans-only-east}
provisioner: lab.isthmus.dev/local
---
apiVersion: v1
kind: Namespace
metadata: {name: planned}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: planned}
spec:
  storageClassName: plans-only-east
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
";

/// Waits until a plan's status passes the check, and gives it back.
pub async fn plan_is(
    world: &World,
    name: &str,
    what: &str,
    check: impl Fn(&MigrationPlan, &MigrationPlanStatus) -> bool,
) -> MigrationPlanStatus {
    let plans = Api::<MigrationPlan>::namespaced(world.client("hub"), NAMESPACE);
    let (plans, check) = (&plans, &check);
    eventually(&format!("plan {name} to be {what}"), || async move {
        let plan = plans.get(name).await.unwrap();
        let status = plan.status.clone().unwrap_or_default();
        if check(&plan, &status) { Ok(status) } else { Err(format!("{status:?}")) }
    })
    .await
}

/// Waits until a plan's newest generation was checked.
pub async fn checked(world: &World, name: &str) -> MigrationPlanStatus {
    plan_is(world, name, "checked", |plan, status| {
        status.checked_at.is_some()
            && status.observed_generation == plan.metadata.generation
            && status.check.is_none()
    })
    .await
}

pub async fn change(world: &World, name: &str, spec: &Value) {
    let plans = Api::<MigrationPlan>::namespaced(world.client("hub"), NAMESPACE);
    let patch = json!({ "spec": spec });
    plans.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

/// Makes a Stage of a plan and waits for its end.
async fn stage(world: &World, plan: &str, name: &str) -> MigrationStatus {
    let said = world.isthmus(&["stage", plan, "--name", name, "--wait"]).await;
    let status = world.migration(name).await;
    assert!(matches!(said.code, 0 | 3), "{said:#?}\n{status:#?}");
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_checked_as_it_changes_and_says_what_to_do() {
    let world = World::shared().await;
    let create = ["plan", "create", "planned", "planned", "--pair", PAIR];
    world.isthmus(&create).await.ends_with(0);

    // The namespace is not there.
    let status = checked(world, "planned").await;
    assert_eq!(status.phase, PlanPhase::NotReady, "{status:#?}");
    assert!(status.critical > 0 && status.problems[0].severity == ProblemSeverity::Critical);
    assert!(status.problems[0].object.contains("planned"), "{status:#?}");

    // It is now, and its claim is of a class that the destination does not have.
    world.apply("east", CLASSY).await;
    world.volume("east", "planned", "data").await;
    let said = world.isthmus(&["plan", "check", "planned"]).await.ends_with(1);
    assert!(said.out.contains("planned/data") && said.out.contains("plans-only-east"), "{}", said.out);
    let status = checked(world, "planned").await;
    assert!(status.answered.is_some() && status.phase == PlanPhase::NotReady, "{status:#?}");

    // A mapping puts it right, and the plan is checked by itself.
    let classes = world.isthmus(&["cluster", "describe", "west", "-o", "json"]).await.ends_with(0).out;
    let classes: Value = serde_json::from_str(&classes).unwrap();
    let class = classes["status"]["storageClasses"][0]["name"].as_str().unwrap();
    change(world, "planned", &json!({"storageClassMapping": {"plans-only-east": class}})).await;
    let status = checked(world, "planned").await;
    assert_eq!((status.phase, status.critical), (PlanPhase::Ready, 0), "{status:#?}");
    assert_eq!(status.conditions[0].status, "True");

    // Another plan of the same namespace is told.
    world.isthmus(&["plan", "create", "planned-too", "planned", "--pair", PAIR]).await.ends_with(0);
    let other = checked(world, "planned-too").await;
    let told = other.problems.iter().find(|problem| problem.reason == "OtherPlan");
    assert!(told.is_some_and(|told| told.object == "MigrationPlan isthmus/planned"), "{other:#?}");

    let list = world.isthmus(&["plan", "list"]).await.ends_with(0).out;
    assert!(list.contains("planned-too") && list.contains("NotReady"), "{list}");
    for plan in ["planned", "planned-too"] {
        world.isthmus(&["plan", "delete", plan]).await.ends_with(0);
    }
    let plans = Api::<MigrationPlan>::namespaced(world.client("hub"), NAMESPACE);
    let plans = &plans;
    eventually("the plans to be gone", || async move {
        match plans.get_opt("planned").await.unwrap() {
            None => Ok(()),
            Some(plan) => Err(format!("{plan:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_staged_is_not_staged_again() {
    let world = World::shared().await;
    world.apply("east", &claim("staged")).await;
    let east = world.volume("east", "staged", "data").await;
    for file in 0..4 {
        fs::write(east.join(format!("file-{file}")), noise(file, 1 << 20)).unwrap();
    }
    world.isthmus(&["plan", "create", "staged", "staged", "--pair", PAIR]).await.ends_with(0);
    let first = stage(world, "staged", "stage-1").await;
    assert!(first.volumes[0].bytes_uploaded >= 4 << 20, "{first:#?}");
    assert_eq!(first.resources.done, 0, "a stage moves no objects");

    fs::write(east.join("file-0"), noise(100, 1 << 20)).unwrap();
    let second = stage(world, "staged", "stage-2").await;
    let sent = second.volumes[0].bytes_uploaded;
    assert!((1 << 20..2 << 20).contains(&sent), "one file was changed, and {sent} bytes were sent");
    let west = world.volume("west", "staged", "data").await;
    for file in 0..4 {
        let name = format!("file-{file}");
        assert!(fs::read(east.join(&name)).unwrap() == fs::read(west.join(&name)).unwrap(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_changes_while_a_run_goes_on_does_not_change_the_run() {
    let world = World::shared().await;
    world.apply("east", &claim("edited")).await;
    let east = world.volume("east", "edited", "data").await;
    fs::write(east.join("file"), noise(1, 4 << 20)).unwrap();
    let slowly = ["plan", "create", "edited", "edited", "--pair", PAIR, "--bandwidth-limit", "1Mi"];
    world.isthmus(&slowly).await.ends_with(0);
    world.isthmus(&["stage", "edited", "--name", "edited-1"]).await.ends_with(0);
    world.migration_is("edited-1", "sending", |status| status.bytes_total > 0).await;

    change(world, "edited", &json!({"namespaces": ["elsewhere"], "bandwidthLimit": "64Mi"})).await;
    // The namespaces of the changed plan are nobody's, so its check need not wait for the run.
    let status = checked(world, "edited").await;
    assert!(status.problems.iter().any(|problem| problem.object.contains("elsewhere")), "{status:#?}");
    let ended = world.migration_is("edited-1", "ended", |status| status.status.is_terminal()).await;
    assert!(
        matches!(ended.status, MigrationPhase::Succeeded | MigrationPhase::SucceededWithWarnings),
        "{ended:#?}"
    );
    let options = ended.options.as_ref().unwrap();
    assert_eq!(options.bandwidth_limit.as_deref(), Some("1Mi"));
    assert_eq!(ended.namespaces[0].from, "edited");
    let west = world.volume("west", "edited", "data").await;
    assert!(fs::read(west.join("file")).unwrap() == noise(1, 4 << 20));
}
