//! Whatever is killed, the migration finishes, with nothing lost or doubled.

use std::time::Duration;

use isthmus_shared::resources::{COMPONENT, COMPONENT_MOVER, Migration, MigrationPhase, Step};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};

use crate::app::{CMS_OBJECTS, objects};
use crate::world::{NAMESPACE, PAIR, World, eventually};

/// Kills hub and spokes as soon as a migration is at a step, starts them again, and waits for
/// the end.
async fn survives_at(world: &mut World, step: Step) {
    let namespace = format!("cms-{step:?}").to_lowercase();
    let name = format!("at-{step:?}").to_lowercase();
    world.install_cms(&namespace).await;
    world
        .isthmus(&["migrate", &namespace, "--pair", PAIR, "--name", &name, "--start-applications"])
        .await
        .ends_with(0);
    world.migration_is(&name, &format!("at {step:?}"), |status| status.step >= Some(step)).await;

    world.hub.program.kill().await.unwrap();
    world.east.program.kill().await.unwrap();
    world.west.program.kill().await.unwrap();
    world.hub.program.restart().await.unwrap();
    world.east.program.restart().await.unwrap();
    world.west.program.restart().await.unwrap();

    let status = world.migration_is(&name, "ended", |status| status.status.is_terminal()).await;
    assert_eq!(status.status, MigrationPhase::Succeeded, "killed at {step:?}: {status:?}");
    world.volumes_are_equal(&namespace).await;
    let arrived: Vec<String> =
        objects(world.client("west"), &namespace).await.into_iter().map(|(name, _)| name).collect();
    for object in CMS_OBJECTS {
        assert!(arrived.iter().any(|name| name == object), "killed at {step:?}: {object} is missing");
    }
    no_mover_stays(world, &namespace).await;
}

/// Nothing that Isthmus made for its own use is left in a namespace of either side.
async fn no_mover_stays(world: &World, namespace: &str) {
    for cluster in ["east", "west"] {
        eventually("the movers to be gone", || async {
            let ours: Vec<String> = objects(world.client(cluster), namespace)
                .await
                .into_iter()
                .map(|(name, _)| name)
                .filter(|name| name.contains("isthmus"))
                .collect();
            if ours.is_empty() { Ok(()) } else { Err(format!("{ours:?}")) }
        })
        .await;
    }
}

/// The mover Pods of a namespace.
async fn movers(world: &World, cluster: &str, namespace: &str) -> Vec<String> {
    let pods = Api::<Pod>::namespaced(world.client(cluster), namespace);
    let ours = ListParams::default().labels(&format!("{COMPONENT}={COMPONENT_MOVER}"));
    pods.list(&ours).await.unwrap().iter().map(ResourceExt::name_any).collect()
}

/// Begins a migration whose movers are slow, and waits until each side has one.
async fn slow_movers(world: &World, name: &str) {
    world.install_cms("cms").await;
    world.lab.s3().faults().delay(Duration::from_millis(400));
    world.begin("cms", name).await;
    for cluster in ["east", "west"] {
        eventually("a mover to run", || async {
            if movers(world, cluster, "cms").await.is_empty() { Err("none".to_owned()) } else { Ok(()) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn movers_that_are_deleted_midway_are_replaced_and_nothing_is_lost() {
    let world = World::start().await;
    slow_movers(&world, "evicted").await;
    for cluster in ["east", "west"] {
        let pods = Api::<Pod>::namespaced(world.client(cluster), "cms");
        for pod in movers(&world, cluster, "cms").await {
            pods.delete(&pod, &DeleteParams::default().grace_period(0)).await.unwrap();
        }
    }
    world.lab.s3().faults().clear();
    let status = world.migration_is("evicted", "ended", |status| status.status.is_terminal()).await;
    assert_eq!(status.status, MigrationPhase::Succeeded, "{status:?}");
    world.volumes_are_equal("cms").await;
    no_mover_stays(&world, "cms").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_is_deleted_midway_takes_its_movers_and_its_staging_with_it() {
    let world = World::start().await;
    slow_movers(&world, "cancelled").await;
    let migrations = Api::<Migration>::namespaced(world.client("hub"), NAMESPACE);
    let uid = migrations.get("cancelled").await.unwrap().uid().unwrap();
    world.lab.s3().faults().clear();
    world.isthmus(&["migration", "delete", "cancelled", "--wait"]).await.ends_with(0);
    no_mover_stays(&world, "cms").await;
    let staged: Vec<String> =
        world.lab.s3().list("isthmus", "").into_iter().filter(|key| key.contains(&uid)).collect();
    assert!(staged.is_empty(), "{staged:?}");
    let at_home = objects(world.client("east"), "cms").await;
    for object in CMS_OBJECTS {
        assert!(at_home.iter().any(|(name, _)| name == object), "{object} is gone from the source");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_survives_the_death_of_hub_and_spokes_in_its_first_steps() {
    let mut world = World::start().await;
    for step in [Step::Preflight, Step::PrepareDestination, Step::ExportResources, Step::FinalVolumes] {
        survives_at(&mut world, step).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_survives_the_death_of_hub_and_spokes_in_its_last_steps() {
    let mut world = World::start().await;
    let steps =
        [Step::ApplyResources, Step::Verify, Step::StartApplications, Step::HealthCheck, Step::Cleanup];
    for step in steps {
        survives_at(&mut world, step).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_stumbles_delays_a_migration_and_no_more() {
    let world = World::start().await;
    world.install_cms("cms").await;
    world.begin("cms", "bumpy").await;
    world.migration_is("bumpy", "at its volumes", |status| status.step >= Some(Step::FinalVolumes)).await;
    world.lab.s3().faults().fail_next(12);
    let status = world.migration_is("bumpy", "ended", |status| status.status.is_terminal()).await;
    assert_eq!(status.status, MigrationPhase::Succeeded, "{status:?}");
    world.volumes_are_equal("cms").await;
}
