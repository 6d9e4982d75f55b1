//! A changed byte in the bucket is found, named, and goes no further.

use std::fs;

use isthmus_shared::resources::{MigrationPhase, Step};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::DeleteParams;

use crate::app::objects;
use crate::world::{PAIR, World, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_a_pack_fails_the_volume_and_applies_nothing() {
    let world = World::start().await;
    world.install_cms("cms").await;
    world.isthmus(&["migrate", "cms", "--pair", PAIR, "--name", "sound", "--wait"]).await.ends_with(0);

    // The destination loses everything, so the next run has to read the old packs again.
    let namespaces = Api::<Namespace>::all(world.client("west"));
    namespaces.delete("cms", &DeleteParams::default()).await.unwrap();
    eventually("the namespace to be gone", || async {
        namespaces.get_opt("cms").await.unwrap().map_or(Ok(()), |_| Err("still there".to_owned()))
    })
    .await;
    let s3 = world.lab.s3();
    let packs: Vec<String> =
        s3.list("isthmus", "").into_iter().filter(|key| key.contains("/packs/")).collect();
    assert!(!packs.is_empty());
    for key in &packs {
        let file = s3.object_file("isthmus", key).unwrap();
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
    }

    world.isthmus(&["migrate", "cms", "--pair", PAIR, "--name", "damaged", "--wait"]).await.ends_with(1);
    let status = world.migration("damaged").await;
    assert_eq!(status.status, MigrationPhase::Failed);
    let failure =
        status.failures.iter().find(|f| f.object.contains("px-")).unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!(failure.step, Some(Step::FinalVolumes));
    assert!(failure.message.contains("pack"), "{failure:?}");
    let applied = objects(world.client("west"), "cms").await;
    assert!(!applied.iter().any(|(name, _)| name.starts_with("Deployment/")), "{applied:?}");
    let at_home = objects(world.client("east"), "cms").await;
    let wordpress = at_home.iter().find(|(name, _)| name == "Deployment/wordpress").unwrap();
    assert_eq!(wordpress.1.pointer("/spec/replicas"), Some(&serde_json::json!(3)));
}
