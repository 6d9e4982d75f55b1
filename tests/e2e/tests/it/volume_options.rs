//! The options of how volumes move, from the command line to what arrives.

use std::fs;
use std::path::Path;
use std::time::Duration;

use isthmus_shared::resources::{MigrationPhase, MigrationStatus, Step};

use crate::world::{PAIR, World};

/// A namespace with one claim, `data`, that no Pod mounts.
pub fn claim(namespace: &str) -> String {
    format!(
        "apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data, namespace: {namespace}}}
spec:
  accessModes: [ReadWriteOnce]
  resources: {{requests: {{storage: 1Gi}}}}
"
    )
}

/// Bytes that do not compress, others for each seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    next.take(length).collect()
}

/// A migration with these options, from the command line to its end.
async fn migrate(world: &World, namespace: &str, name: &str, options: &[&str]) -> MigrationStatus {
    let line = ["migrate", namespace, "--pair", PAIR, "--name", name];
    world.isthmus(&[&line, options].concat()).await.ends_with(0);
    let status = world.migration_is(name, "ended", |status| status.status.is_terminal()).await;
    let well = matches!(status.status, MigrationPhase::Succeeded | MigrationPhase::SucceededWithWarnings);
    assert!(well, "{status:#?}");
    status
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names.retain(|name| name != "lost+found");
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn excluded_paths_are_neither_read_nor_touched_and_a_full_verification_says_so() {
    let world = World::shared().await;
    world.apply("east", &claim("leave-out")).await;
    let east = world.volume("east", "leave-out", "data").await;
    fs::create_dir_all(east.join("cache/deep")).unwrap();
    fs::create_dir(east.join("kept")).unwrap();
    fs::write(east.join("cache/deep/file"), "of the source").unwrap();
    fs::write(east.join("kept/file"), noise(1, 300_000)).unwrap();
    fs::write(east.join("kept/scratch.tmp"), "scratch").unwrap();
    let options =
        ["--exclude-path", "/cache", "--exclude-path", "*.tmp", "--verify", "full", "--method", "live"];
    let status = migrate(world, "leave-out", "leave-out-1", &options).await;
    let volume = &status.volumes[0];
    assert_eq!(volume.method.as_deref(), Some("Live"));
    let verified = volume.verified.unwrap();
    assert!(verified.blocks > 0 && verified.files_read_back.is_some_and(|files| files > 0), "{verified:?}");
    let described = world.isthmus(&["migration", "describe", "leave-out-1"]).await.ends_with(0).out;
    assert!(
        described.contains("files read back") && described.contains("without /cache *.tmp"),
        "{described}"
    );

    let west = world.volume("west", "leave-out", "data").await;
    assert_eq!((names(&west), names(&west.join("kept"))), (vec!["kept".to_owned()], vec!["file".to_owned()]));

    // What the destination has at excluded paths stays, as long as they are excluded.
    fs::create_dir(west.join("cache")).unwrap();
    fs::write(west.join("cache/own"), "of the destination").unwrap();
    migrate(world, "leave-out", "leave-out-2", &options).await;
    assert_eq!(names(&west), ["cache", "kept"]);
    assert_eq!(names(&west.join("cache")), ["own"]);
    migrate(world, "leave-out", "leave-out-3", &[]).await;
    assert_eq!(names(&west.join("cache")), ["deep"]);
    assert_eq!(names(&west.join("kept")), ["file", "scratch.tmp"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bandwidth_limit_is_kept_to() {
    let world = World::shared().await;
    world.apply("east", &claim("slowly")).await;
    let east = world.volume("east", "slowly", "data").await;
    let bytes = noise(7, 5 << 20);
    fs::write(east.join("file"), &bytes).unwrap();
    let status = migrate(world, "slowly", "slowly-1", &["--bandwidth-limit", "1Mi"]).await;
    assert!(status.volumes[0].bytes_uploaded >= 5 << 20);
    let step = status.pipeline.iter().find(|step| step.step == Step::FinalVolumes).unwrap();
    let (started, finished) = (step.started_at.as_ref().unwrap().0, step.finished_at.as_ref().unwrap().0);
    let took = Duration::try_from(finished.duration_since(started)).unwrap();
    // 5 s of transfer, less what a second's allowance in the beginning and whole seconds make of it.
    assert!(took >= Duration::from_secs(3), "{took:?}");
    let west = world.volume("west", "slowly", "data").await;
    assert!(fs::read(west.join("file")).unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_cannot_be_are_refused_before_anything_is_made() {
    let world = World::shared().await;
    for (options, field) in [
        (["--bandwidth-limit", "1k"], "spec.bandwidthLimit"),
        (["--mover-limit", "memory=32Mi"], "spec.mover.resources.limits[memory]"),
        (["--exclude-path", "!x"], "spec.excludePaths[0]"),
        (["--mover-toleration", "a:Sometimes"], "spec.mover.tolerations[0].effect"),
    ] {
        let line = ["migrate", "nowhere", "--pair", PAIR, "--name", "never-made"];
        let said = world.isthmus(&[&line[..], &options].concat()).await.ends_with(2);
        assert!(said.err.contains(field), "{}", said.err);
    }
    // And by the hub, whoever makes the record.
    let spec = serde_json::json!({
        "clusterPair": PAIR, "namespaces": ["nowhere"], "mover": {"nodeSelector": {"a b": "c"}},
    });
    world.create_migration("badly-made", spec).await.unwrap();
    let status = world.migration_is("badly-made", "ended", |status| status.status.is_terminal()).await;
    assert_eq!(status.failures[0].object, "spec.mover.nodeSelector[a b]");
}
