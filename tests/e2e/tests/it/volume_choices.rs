//! `spec.volumes`: single claims that arrive otherwise than the rest, or do not move at all.

use std::fs;

use isthmus_shared::resources::{MigrationPhase, MigrationStatus};
use serde_json::{Value, json};

use crate::runs::name_of;
use crate::world::{PAIR, World};

/// A namespace with two claims, and a Deployment that mounts both and has no Pods.
fn application(namespace: &str) -> String {
    let claim = |name: &str| {
        format!(
            "apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  accessModes: [ReadWriteOnce]
  resources: {{requests: {{storage: 1Gi}}}}
"
        )
    };
    format!(
        "apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
{}---
{}---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: {namespace}}}
spec:
  replicas: 0
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers: [{{name: web, image: example.com/web, volumeMounts: [{{name: d, mountPath: /d}}, {{name: s, mountPath: /s}}]}}]
      volumes:
      - {{name: d, persistentVolumeClaim: {{claimName: data}}}}
      - {{name: s, persistentVolumeClaim: {{claimName: scratch}}}}
",
        claim("data"),
        claim("scratch")
    )
}

/// An NFS volume that nothing mounts, and the claim that is bound to it.
pub fn on_nfs(namespace: &str, volume: &str) -> String {
    format!(
        "apiVersion: v1
kind: PersistentVolume
metadata: {{name: {volume}}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteMany]
  persistentVolumeReclaimPolicy: Delete
  storageClassName: filer
  claimRef: {{apiVersion: v1, kind: PersistentVolumeClaim, namespace: {namespace}, name: archive}}
  nfs: {{server: filer.example.com, path: /exports/{volume}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: archive, namespace: {namespace}}}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: filer
  volumeName: {volume}
  resources: {{requests: {{storage: 1Gi}}}}
"
    )
}

pub fn claim(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}")
}

pub fn volume(name: &str) -> String {
    format!("/api/v1/persistentvolumes/{name}")
}

pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

async fn ended(world: &World, name: &str) -> MigrationStatus {
    world.migration_is(name, "ended", |status| status.status.is_terminal()).await
}

fn went_well(status: &MigrationStatus) -> bool {
    matches!(status.status, MigrationPhase::Succeeded | MigrationPhase::SucceededWithWarnings)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_arrives_with_the_name_size_and_class_that_were_chosen_and_a_skipped_one_stays() {
    let world = World::shared().await;
    world.apply("east", &application("chosen")).await;
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "roomy"},
        "provisioner": "lab.isthmus.dev/local",
    });
    world.post("west", "/apis/storage.k8s.io/v1/storageclasses", &class).await;
    let east = world.volume("east", "chosen", "data").await;
    fs::write(east.join("file"), "of the source").unwrap();
    world.volume("east", "chosen", "scratch").await;
    let choices = [
        "--volume",
        "chosen/data=copy,class=roomy,size=2Gi,name=content,verify=full",
        "--volume",
        "chosen/scratch=skip",
    ];
    for round in ["chosen-1", "chosen-2"] {
        let line = ["migrate", "chosen", "--pair", PAIR, "--name", round];
        world.isthmus(&[&line, &choices[..]].concat()).await.ends_with(0);
        let status = ended(world, round).await;
        assert!(went_well(&status), "{status:#?}");
        let moved: Vec<&str> = status.volumes.iter().map(|volume| volume.claim.as_str()).collect();
        assert_eq!(moved, ["data"], "what is skipped is not sent");
        assert!(status.volumes[0].verified.unwrap().files_read_back.is_some(), "its own verification counts");
    }
    let content = world.get("west", &claim("chosen", "content")).await;
    assert_eq!(text(&content, "/spec/storageClassName"), "roomy");
    assert_eq!(text(&content, "/spec/resources/requests/storage"), "2Gi");
    let west = world.volume("west", "chosen", "content").await;
    assert_eq!(fs::read_to_string(west.join("file")).unwrap(), "of the source");
    assert!(world.find("west", &claim("chosen", "data")).await.is_none());
    assert!(world.find("west", &claim("chosen", "scratch")).await.is_some());
    let web = world.get("west", "/apis/apps/v1/namespaces/chosen/deployments/web").await;
    let mounted = |at: usize| {
        text(&web, &format!("/spec/template/spec/volumes/{at}/persistentVolumeClaim/claimName")).to_owned()
    };
    assert_eq!((mounted(0), mounted(1)), ("content".to_owned(), "scratch".to_owned()));
    let objects = world.objects_of("chosen-2").await;
    let told = |name: &str| {
        let found = objects.iter().find(|object| name_of(object) == name);
        found.and_then(|object| object.reason.clone()).unwrap_or_default()
    };
    assert_eq!(told("PersistentVolumeClaim chosen/scratch"), "DataLeftBehind");
}

#[tokio::test(flavor = "multi_thread")]
async fn choices_that_cannot_be_are_refused_together_before_anything_is_made() {
    let world = World::shared().await;
    world.apply("east", &application("choosy")).await;
    world.volume("east", "choosy", "data").await;
    world.volume("east", "choosy", "scratch").await;
    let spec = json!({"clusterPair": PAIR, "namespaces": ["choosy"], "quiesce": true, "volumes": [
        {"namespace": "choosy", "claim": "data", "size": "1Mi"},
        {"namespace": "choosy", "claim": "gone", "action": "Skip"},
        {"namespace": "choosy", "claim": "scratch", "action": "Keep"}]});
    world.create_migration("choosy-1", spec).await.unwrap();
    let status = ended(world, "choosy-1").await;
    let mut reasons: Vec<&str> = status.failures.iter().map(|failure| failure.reason.as_str()).collect();
    reasons.sort_unstable();
    // The lab's volumes are folders of one machine.
    assert_eq!(reasons, ["ClaimNotTaken", "SizeTooSmall", "VolumeOfOneNode"], "{:#?}", status.failures);
    assert!(world.find("west", "/api/v1/namespaces/choosy").await.is_none());
}

/// A cutover of a namespace whose claim `archive` is kept.
fn cutover(namespace: &str, to: &str) -> Value {
    json!({"clusterPair": PAIR, "namespaces": [{namespace: to}], "quiesce": true, "volumes": [
        {"namespace": namespace, "claim": "archive", "action": "Keep", "name": "records"},
        {"namespace": namespace, "claim": "scratch", "action": "Skip"}]})
}

pub fn policy(volume: &Value) -> &str {
    text(volume, "/spec/persistentVolumeReclaimPolicy")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_volume_is_bound_on_the_destination_and_its_data_is_safe_on_the_way_there_and_back() {
    let world = World::shared().await;
    world.apply("east", &application("keeper")).await;
    world.apply("east", &on_nfs("keeper", "filer-1")).await;
    crate::world::eventually("archive to be bound", || async {
        let archive = world.get("east", &claim("keeper", "archive")).await;
        if text(&archive, "/status/phase") == "Bound" { Ok(()) } else { Err(archive.to_string()) }
    })
    .await;
    world.create_migration("keeper-1", cutover("keeper", "kept")).await.unwrap();
    let status = ended(world, "keeper-1").await;
    assert!(went_well(&status), "{status:#?}");
    let moved: Vec<&str> = status.volumes.iter().map(|volume| volume.claim.as_str()).collect();
    assert_eq!(moved, ["data"]);

    let arrived = world.get("west", &volume("filer-1")).await;
    assert_eq!(text(&arrived, "/spec/nfs/path"), "/exports/filer-1");
    assert_eq!(text(&arrived, "/spec/claimRef/namespace"), "kept");
    assert_eq!(policy(&arrived), "Delete", "its own again after success");
    let records = world.get("west", &claim("kept", "records")).await;
    assert_eq!(text(&records, "/spec/volumeName"), "filer-1");
    assert_eq!(text(&records, "/status/phase"), "Bound");
    assert_eq!(text(&records, "/spec/storageClassName"), "filer");
    let left = world.get("east", &volume("filer-1")).await;
    assert_eq!(policy(&left), "Retain", "the source's is not, for the data is the destination's");

    let back = json!({"action": "Rollback", "rollbackOf": "keeper-1"});
    world.create_migration("keeper-back", back).await.unwrap();
    let status = ended(world, "keeper-back").await;
    assert!(!matches!(status.status, MigrationPhase::Failed), "{status:#?}");
    assert!(world.find("west", &volume("filer-1")).await.is_none());
    assert!(world.find("west", &claim("kept", "records")).await.is_none());
    let restored = world.get("east", &volume("filer-1")).await;
    assert_eq!((policy(&restored), text(&restored, "/status/phase")), ("Delete", "Bound"));
    let marks = restored.pointer("/metadata/annotations").cloned().unwrap_or_default();
    assert!(!marks.to_string().contains("isthmus.dev"), "{marks}");
}
