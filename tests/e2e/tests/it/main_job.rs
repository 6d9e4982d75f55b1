//! The main job: an application leaves one cluster for the other.

use isthmus_shared::resources::{
    ClusterPair, ClusterPairSpec, MIGRATED_BY, MIGRATION_REPLICAS, Migration, MigrationPhase,
};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use crate::app::{CMS_OBJECTS, objects};
use crate::world::{NAMESPACE, PAIR, World, apply, eventually};

const KUBEMOTION: &str = include_str!("../../cases/kubemotion-migration.yaml");

fn find<'a>(objects: &'a [(String, Value)], name: &str) -> &'a Value {
    objects
        .iter()
        .find(|(found, _)| found == name)
        .map_or_else(|| panic!("{name} is missing"), |(_, object)| object)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_arrives_stopped_and_whole_and_starts_at_its_counts() {
    let world = World::start().await;
    world.install_cms("cms").await;
    let before = objects(world.client("east"), "cms").await;

    let said =
        world.isthmus(&["migrate", "cms", "--pair", PAIR, "--name", "first", "--wait"]).await.ends_with(0);
    assert!(said.all().contains("px-mysql-pvc"), "{}", said.all());

    world.volumes_are_equal("cms").await;
    let arrived = objects(world.client("west"), "cms").await;
    for name in CMS_OBJECTS {
        let (there, here) = (find(&arrived, name), find(&before, name));
        for field in ["data", "rules", "subjects", "roleRef", "type"] {
            assert_eq!(there.get(field), here.get(field), "{field} of {name}");
        }
        assert!(there.pointer("/metadata/labels").unwrap().get(MIGRATED_BY).is_some(), "{name}");
    }
    let replicas =
        |objects: &[(String, Value)], name: &str| find(objects, name).pointer("/spec/replicas").cloned();
    let kept = |name: &str| {
        find(&arrived, name).pointer("/metadata/annotations").unwrap()[MIGRATION_REPLICAS].clone()
    };
    assert_eq!(replicas(&arrived, "Deployment/wordpress"), Some(json!(0)));
    assert_eq!((kept("Deployment/wordpress"), kept("Deployment/mysql")), (json!("3"), json!("1")));
    assert_eq!(find(&arrived, "CronJob/wp-cron").pointer("/spec/suspend"), Some(&json!(true)));
    let ours = |name: &String| name.starts_with("Job/") || name.contains("isthmus");
    let left: Vec<&String> = arrived.iter().map(|(name, _)| name).filter(|name| ours(name)).collect();
    assert!(left.is_empty(), "left behind by Isthmus on the destination: {left:?}");
    let left_at_home = objects(world.client("east"), "cms").await;
    assert!(!left_at_home.iter().any(|(name, _)| name.contains("isthmus")), "{left_at_home:?}");
    assert_eq!(
        replicas(&left_at_home, "Deployment/wordpress"),
        Some(json!(3)),
        "a promotion leaves the source alone"
    );

    let status = world.migration("first").await;
    assert_eq!(status.status, MigrationPhase::Succeeded, "{status:?}");
    assert_eq!(status.volumes_summary.as_deref(), Some("2/2"));
    assert_eq!(status.resources.failed, 0);
    assert!(status.bytes_done > 3_500_000, "{}", status.bytes_done);

    let described = world.isthmus(&["migration", "describe", "first", "--details"]).await.ends_with(0).out;
    for expected in ["FinalVolumes", "px-wp-pvc", "wordpress", "wp-settings", "kube-root-ca.crt", "Succeeded"]
    {
        assert!(described.contains(expected), "{expected} is not in:\n{described}");
    }
    let logs = world.isthmus(&["migration", "logs", "first"]).await.ends_with(0).out;
    assert!(logs.contains("east") && logs.contains("west"), "{logs}");

    world.isthmus(&["activate", "cms", "--cluster", "west"]).await.ends_with(0);
    let running = objects(world.client("west"), "cms").await;
    assert_eq!(replicas(&running, "Deployment/wordpress"), Some(json!(3)));
    assert_eq!(replicas(&running, "Deployment/mysql"), Some(json!(1)));
    assert_ne!(find(&running, "CronJob/wp-cron").pointer("/spec/suspend"), Some(&json!(true)));

    world.isthmus(&["migration", "delete", "first", "--wait"]).await.ends_with(0);
    let staged: Vec<String> =
        world.lab.s3().list("isthmus", "").into_iter().filter(|key| key.contains("/migrations/")).collect();
    assert!(staged.is_empty(), "{staged:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_run_moves_only_what_changed_and_writes_no_object_anew() {
    let world = World::start().await;
    world.install_cms("cms").await;
    world.isthmus(&["migrate", "cms", "--pair", PAIR, "--name", "first", "--wait"]).await.ends_with(0);
    let versions = |objects: Vec<(String, Value)>| -> Vec<(String, Value)> {
        objects
            .into_iter()
            .filter(|(name, _)| CMS_OBJECTS.contains(&name.as_str()))
            .map(|(name, object)| (name, object.pointer("/metadata/resourceVersion").unwrap().clone()))
            .collect()
    };
    let after_first = versions(objects(world.client("west"), "cms").await);

    let east = world.volume("east", "cms", "px-wp-pvc").await;
    std::fs::write(east.join("deep/er/file-5"), "changed").unwrap();
    std::fs::remove_file(east.join("deep/er/file-6")).unwrap();
    world.isthmus(&["migrate", "cms", "--pair", PAIR, "--name", "second", "--wait"]).await.ends_with(0);

    world.volumes_are_equal("cms").await;
    assert_eq!(versions(objects(world.client("west"), "cms").await), after_first);
    let status = world.migration("second").await;
    let uploaded: u64 = status.volumes.iter().map(|volume| volume.bytes_uploaded).sum();
    assert!(uploaded < 100_000, "{uploaded} bytes were uploaded for a change of seven");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kubemotion_manifest_works_with_only_its_api_version_changed() {
    let world = World::start().await;
    world.install_cms("cms").await;
    apply(world.client("hub"), "apiVersion: v1\nkind: Namespace\nmetadata: {name: cms}").await;
    let pairs = Api::<ClusterPair>::namespaced(world.client("hub"), "cms");
    let spec = ClusterPairSpec {
        source: "east".to_owned(),
        destination: "west".to_owned(),
        object_store: "stage".to_owned(),
        bidirectional: false,
        allowed_namespaces: None,
        prune: None,
    };
    pairs.create(&PostParams::default(), &ClusterPair::new("prodcluster", spec)).await.unwrap();

    let manifest = KUBEMOTION.replace("stork.libopenstorage.org/v1alpha1", "isthmus.dev/v1alpha1");
    apply(world.client("hub"), &manifest).await;
    let migrations = Api::<Migration>::namespaced(world.client("hub"), "cms");
    let status = eventually("the migration to end", || async {
        let status = migrations.get("cmsmigration").await.unwrap().status.unwrap_or_default();
        if status.status.is_terminal() { Ok(status) } else { Err(format!("{status:?}")) }
    })
    .await;
    assert_eq!(status.status, MigrationPhase::Succeeded, "{status:?}");
    let running = objects(world.client("west"), "cms").await;
    assert_eq!(find(&running, "Deployment/wordpress").pointer("/spec/replicas"), Some(&json!(3)));
    world.volumes_are_equal("cms").await;

    // Through that pair no other namespace moves.
    let foreign = manifest.replace("  - cms", "  - default").replace("name: cmsmigration", "name: foreign");
    apply(world.client("hub"), &foreign).await;
    let refused = eventually("the foreign migration to end", || async {
        let status = migrations.get("foreign").await.unwrap().status.unwrap_or_default();
        if status.status.is_terminal() { Ok(status) } else { Err(format!("{status:?}")) }
    })
    .await;
    assert_eq!(refused.status, MigrationPhase::Failed);
    assert!(refused.message.as_deref().unwrap_or_default().contains("default"), "{refused:?}");
    assert_eq!(world.hub.namespace, NAMESPACE);
}
