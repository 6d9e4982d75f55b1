//! What the check of a plan tells of claims and volumes: those that are there already, those that are to be
//! kept, and how full they are.

use std::fs;

use isthmus_shared::resources::PlanPhase;
use serde_json::json;

use crate::obstacles::{CRITICAL, WARN};
use crate::plan_checks::{plan, tells};
use crate::plans::{change, checked};
use crate::reading::{in_namespace, text};
use crate::volume_options::noise;
use crate::world::{PAIR, World, eventually};

/// A claim, and what it asks for beside its size.
fn sized(name: &str, size: &str, mode: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}, namespace: meeting}}
spec:
  accessModes: [ReadWriteOnce]
  volumeMode: {mode}
  resources: {{requests: {{storage: {size}}}}}
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_tells_of_what_is_there_already_and_cannot_be_written_into() {
    let world = World::shared().await;
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: meeting}\n";
    let secret = |value: &str| {
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: sealed, namespace: meeting}}\nimmutable: true\n\
             stringData: {{value: {value}}}\n"
        )
    };
    let service = "---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: meeting}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: plain, namespace: meeting}
";
    let source = [
        sized("small", "2Gi", "Filesystem"),
        sized("files", "1Gi", "Filesystem"),
        sized("raw", "1Gi", "Block"),
        sized("busy", "1Gi", "Filesystem"),
    ];
    let destination = [
        sized("small", "1Gi", "Filesystem"),
        sized("files", "1Gi", "Block"),
        sized("raw", "1Gi", "Filesystem"),
        sized("busy", "1Gi", "Filesystem"),
    ];
    world.apply("east", &[namespace, &source.concat(), &secret("ours"), service].concat()).await;
    let user = "---
apiVersion: v1
kind: Pod
metadata: {name: user, namespace: meeting}
spec:
  automountServiceAccountToken: false
  containers: [{name: c, image: 'c:1', volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, persistentVolumeClaim: {claimName: busy}}]
";
    world.apply("west", &[namespace, &destination.concat(), &secret("theirs"), user].concat()).await;
    for cluster in ["east", "west"] {
        for claim in ["small", "files", "raw", "busy"] {
            world.volume(cluster, "meeting", claim).await;
        }
    }
    let taken = json!({
        "existingResourcePolicy": "Update",
        "mover": {"nodeSelector": {"disk": "checks-nowhere"}},
        "transforms": [
            {"name": "far-off", "match": {"kind": "Service"}, "mergePatch": {"spec": {"ports": [{"port": 70_000}]}}},
            {"name": "odd", "match": {"kind": "ConfigMap"}, "mergePatch": {"oddity": "yes"}},
        ],
    });
    plan(world, "meeting", &["meeting"], &[]).await;
    change(world, "meeting", &taken).await;
    let status = checked(world, "meeting").await;
    let claim = |name: &str| format!("PersistentVolumeClaim meeting/{name}");
    for (severity, reason, object, part) in [
        (CRITICAL, "ClaimTooSmall", claim("small"), "smaller"),
        (CRITICAL, "ClaimIsBlock", claim("files"), "delete it"),
        (CRITICAL, "ClaimIsNotBlock", claim("raw"), "delete"),
        (CRITICAL, "ClaimInUse", claim("busy"), "isthmus deactivate meeting --cluster west"),
        (CRITICAL, "ImmutableField", "Secret meeting/sealed".to_owned(), ""),
        (CRITICAL, "Invalid", "Service meeting/web".to_owned(), "70000"),
        (CRITICAL, "UnknownField", "ConfigMap meeting/plain".to_owned(), "oddity"),
        (WARN, "NoNodeForMover", "spec.mover".to_owned(), "spec.mover.nodeSelector"),
    ] {
        assert!(tells(&status, severity, reason, &object, part), "{reason} of {object}: {status:#?}");
    }
    world.isthmus(&["plan", "delete", "meeting"]).await.ends_with(0);
}

/// A volume of other storage, for a claim of that name, and the claim that is bound to it.
fn volume(namespace: &str, name: &str, storage: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: PersistentVolume
metadata: {{name: keeping-{name}}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteMany]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: filer
  claimRef: {{apiVersion: v1, kind: PersistentVolumeClaim, namespace: {namespace}, name: {name}}}
  {storage}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}, namespace: keeping}}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: filer
  volumeName: keeping-{name}
  resources: {{requests: {{storage: 1Gi}}}}
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_tells_of_kept_volumes_that_the_destination_cannot_have() {
    let world = World::shared().await;
    let nfs = |path: &str| format!("nfs: {{server: filer.example.com, path: {path}}}");
    let affinity = "nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: \
                    [{key: checks-nowhere, operator: Exists}]}]}}";
    let driver = "csi: {driver: checks.example.com, volumeHandle: one, \
                  nodePublishSecretRef: {name: key, namespace: checks-keys}}";
    let source = [
        ("driven", driver.to_owned()),
        ("bound", format!("{}\n  {affinity}", nfs("/bound"))),
        ("named", nfs("/named")),
        ("used", nfs("/used")),
        ("left", nfs("/left")),
        ("claimed", nfs("/claimed")),
    ];
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: keeping}\n";
    let volumes: String = source.iter().map(|(name, storage)| volume("keeping", name, storage)).collect();
    world.apply("east", &[namespace, &volumes].concat()).await;
    let only_volume = |namespace: &str, name: &str, path: &str| {
        let both = volume(namespace, name, &nfs(path));
        both.rsplit_once("---").unwrap().0.to_owned()
    };
    let left = only_volume("keeping", "left", "/left").replace("name: left}", "name: left, uid: gone}");
    let claimed = volume("keeping", "claimed", &nfs("/claimed"));
    let claimed = claimed.rsplit_once("---").unwrap().1.replace("keeping-claimed", "keeping-another");
    let destination = [
        namespace,
        &only_volume("keeping", "named", "/another"),
        &only_volume("elsewhere", "used", "/used"),
        &left,
        "---",
        &claimed,
    ];
    world.apply("west", &destination.concat()).await;
    // As its controller does, which the embedded lab lacks for volumes made by hand.
    let released = json!({"status": {"phase": "Released"}});
    world.patch("west", "/api/v1/persistentvolumes/keeping-left/status", released).await;
    for (name, _) in &source {
        let path = format!("/api/v1/namespaces/keeping/persistentvolumeclaims/{name}");
        eventually(&format!("claim {name} to be bound"), || async {
            let live = world.get("east", &path).await;
            if text(&live, "/status/phase") == "Bound" { Ok(()) } else { Err(live.to_string()) }
        })
        .await;
    }
    plan(world, "keeping", &["keeping"], &["--quiesce"]).await;
    let keep = |(name, _): &(&str, String)| json!({"namespace": "keeping", "claim": name, "action": "Keep"});
    change(world, "keeping", &json!({"volumes": source.iter().map(keep).collect::<Vec<_>>()})).await;
    let status = checked(world, "keeping").await;
    for (severity, reason, object, part) in [
        (CRITICAL, "DriverNotFound", "PersistentVolume keeping-driven", "checks.example.com"),
        (WARN, "SecretNotFound", "PersistentVolume keeping-driven", "checks-keys/key"),
        (CRITICAL, "NoNodeReachesVolume", "PersistentVolume keeping-bound", "nodeAffinity"),
        (CRITICAL, "VolumeNameTaken", "PersistentVolume keeping-named", "other storage"),
        (CRITICAL, "VolumeInUse", "PersistentVolume keeping-used", "elsewhere/used"),
        (CRITICAL, "VolumeReleased", "PersistentVolume keeping-left", "Retain"),
        (CRITICAL, "ClaimTaken", "PersistentVolumeClaim keeping/claimed", "keeping-another"),
    ] {
        assert!(tells(&status, severity, reason, object, part), "{reason} of {object}: {status:#?}");
    }
    world.isthmus(&["plan", "delete", "keeping"]).await.ends_with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kubelet_measures_of_a_mounted_volume_is_told_before_any_pass() {
    let world = World::shared().await;
    let mounted = "apiVersion: v1
kind: Namespace
metadata: {name: mounted}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: mounted}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 16Mi}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: db, namespace: mounted}
spec:
  replicas: 1
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      containers: [{name: db, image: 'db:1', volumeMounts: [{name: data, mountPath: /data}]}]
      volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
";
    world.apply("east", mounted).await;
    let folder = world.volume("east", "mounted", "data").await;
    fs::write(folder.join("file"), noise(3, 15 << 20)).unwrap();
    eventually("the Pod to run", || async {
        let pods = in_namespace(world.client("east"), "mounted").await;
        let runs = pods
            .iter()
            .any(|(name, pod)| name.starts_with("Pod ") && text(pod, "/status/phase") == "Running");
        if runs { Ok(()) } else { Err(format!("{:?}", pods.keys())) }
    })
    .await;
    let object = "PersistentVolumeClaim mounted/data";
    let status = plan(world, "mounted", &["mounted"], &[]).await;
    for part in ["the kubelet", "size: 22Mi"] {
        assert!(tells(&status, WARN, "VolumeNearlyFull", object, part), "{part}: {status:#?}");
    }

    // More than the claim asks for, where nothing keeps it from that.
    fs::write(folder.join("more"), noise(4, 5 << 20)).unwrap();
    world.isthmus(&["plan", "check", "mounted"]).await.ends_with(3);
    let status = checked(world, "mounted").await;
    assert!(tells(&status, WARN, "VolumeTooSmall", object, "size: 29Mi"), "{status:#?}");

    let larger = json!({"volumes": [{"namespace": "mounted", "claim": "data", "size": "29Mi"}]});
    change(world, "mounted", &larger).await;
    let status = checked(world, "mounted").await;
    assert!(!status.problems.iter().any(|problem| problem.object == object), "{status:#?}");
    world.isthmus(&["plan", "delete", "mounted"]).await.ends_with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_nearly_full_gets_a_larger_size_proposed() {
    let world = World::shared().await;
    world
        .apply(
            "east",
            "apiVersion: v1
kind: Namespace
metadata: {name: brimming}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: brimming}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 16Mi}}
",
        )
        .await;
    let folder = world.volume("east", "brimming", "data").await;
    fs::write(folder.join("file"), noise(7, 15 << 20)).unwrap();
    world.isthmus(&["plan", "create", "brimming", "brimming", "--pair", PAIR]).await.ends_with(0);
    let status = checked(world, "brimming").await;
    assert_eq!(status.phase, PlanPhase::Ready, "nothing has measured it yet: {status:#?}");

    let said = world.isthmus(&["stage", "brimming", "--name", "brimming-1", "--wait"]).await;
    assert!(matches!(said.code, 0 | 3), "{said:#?}");
    // It has warnings now.
    world.isthmus(&["plan", "check", "brimming"]).await.ends_with(3);
    let status = checked(world, "brimming").await;
    let object = "PersistentVolumeClaim brimming/data";
    assert!(tells(&status, WARN, "VolumeNearlyFull", object, "size: 22Mi"), "{status:#?}");

    // What it proposes is enough, though the destination's claim has its size by now.
    let larger = json!({"volumes": [{"namespace": "brimming", "claim": "data", "size": "22Mi"}]});
    change(world, "brimming", &larger).await;
    let status = checked(world, "brimming").await;
    assert!(!tells(&status, WARN, "VolumeNearlyFull", object, ""), "{status:#?}");

    // Movers that could not run are in the way.
    change(world, "brimming", &json!({"mover": {"priorityClassName": "checks-nowhere"}})).await;
    let status = checked(world, "brimming").await;
    assert!(
        tells(&status, CRITICAL, "PriorityClassNotFound", "PriorityClass checks-nowhere", ""),
        "{status:#?}"
    );
    world.isthmus(&["plan", "delete", "brimming"]).await.ends_with(0);
}
