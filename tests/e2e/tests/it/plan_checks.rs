//! What the check of a plan tells, provoked: much at once, as each check of a plan looks at everything.

use isthmus_lab::s3::KeyAccess;
use isthmus_shared::resources::{MigrationPlanStatus, PlanPhase, ProblemSeverity};
use serde_json::json;

use crate::obstacles::{self, CRITICAL, NAMESPACES, OBSTACLES, WARN};
use crate::plans::{change, checked};
use crate::reading::text;
use crate::versions::{definition, resource};
use crate::volume_options::claim;
use crate::world::{NAMESPACE, PAIR, World, eventually};

/// Whether a problem is among those that were found.
pub fn tells(
    status: &MigrationPlanStatus,
    severity: ProblemSeverity,
    reason: &str,
    object: &str,
    part: &str,
) -> bool {
    status.problems.iter().any(|problem| {
        problem.severity == severity
            && problem.reason == reason
            && problem.object == object
            && problem.message.contains(part)
    })
}

/// Makes a plan and waits for its check.
pub async fn plan(world: &World, name: &str, namespaces: &[&str], options: &[&str]) -> MigrationPlanStatus {
    let line = [&["plan", "create", name], namespaces, &["--pair", PAIR], options].concat();
    world.isthmus(&line).await.ends_with(0);
    checked(world, name).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_tells_of_everything_that_the_destination_lacks() {
    let world = World::shared().await;
    obstacles::put(world).await;
    let status = plan(world, "checked", &NAMESPACES, &["--quiesce"]).await;
    assert_eq!(status.phase, PlanPhase::NotReady, "{status:#?}");
    for (severity, reason, object, part) in OBSTACLES {
        assert!(tells(&status, severity, reason, object, part), "{reason} of {object}: {status:#?}");
    }
    let unwell = |problem: &&isthmus_shared::resources::PlanProblem| problem.reason == "UnhealthyPod";
    let unwell = status.problems.iter().find(unwell);
    assert!(unwell.is_some_and(|pod| pod.object.starts_with("Pod checked/pinned-")), "{status:#?}");

    // Each is put right where it says, in the plan or on the destination.
    obstacles::concede(world).await;
    let spec = json!({
        "storageClassMapping": {"checks-gone": "checks-small"},
        "accessModeMapping": {"ReadWriteMany": "ReadWriteOnce"},
        "imageMapping": {"registry.tools.svc:5000": "registry.example.com"},
        "existingResourcePolicy": "Update",
    });
    change(world, "checked", &spec).await;
    let status = checked(world, "checked").await;
    assert_eq!(status.critical, 0, "{status:#?}");
    assert!(!status.problems.iter().any(|problem| problem.reason == "PullSecretNotFound"), "{status:#?}");
    assert!(!tells(&status, WARN, "ImageNotPullable", "Deployment checked/local", ""), "{status:#?}");
    world.isthmus(&["plan", "delete", "checked"]).await.ends_with(0);
}

/// A volume that only certain nodes reach, and the claim that is bound to it.
fn on_node(namespace: &str, name: &str, node: &str) -> String {
    format!(
        "apiVersion: v1
kind: PersistentVolume
metadata: {{name: {namespace}-{name}}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: by-hand
  claimRef: {{apiVersion: v1, kind: PersistentVolumeClaim, namespace: {namespace}, name: {name}}}
  hostPath: {{path: /nowhere/{name}}}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [{node}]}}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: by-hand
  volumeName: {namespace}-{name}
  resources: {{requests: {{storage: 1Gi}}}}
"
    )
}

async fn phase_is(world: &World, namespace: &str, claim: &str, phase: &str) {
    let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}");
    eventually(&format!("claim {claim} to be {phase}"), || async {
        let live = world.get("east", &path).await;
        if text(&live, "/status/phase") == phase { Ok(()) } else { Err(live.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_tells_of_everything_that_is_in_the_way_on_the_source() {
    let world = World::shared().await;
    let namespaces = "apiVersion: v1
kind: Namespace
metadata: {name: frail}
---
apiVersion: v1
kind: Namespace
metadata: {name: frail-ending, finalizers: [example.com/held]}
";
    world.apply("east", namespaces).await;
    world.apply("east", &on_node("frail", "astray", "checks-nowhere")).await;
    world.apply("east", &on_node("frail", "lost", "east-node-1")).await;
    for claim in ["astray", "lost"] {
        phase_is(world, "frail", claim, "Bound").await;
    }
    // Somebody takes the volume away under its claim.
    let volume = "/api/v1/persistentvolumes/frail-lost";
    let gone = async {
        eventually("the volume to be told to go", || async {
            match world.find("east", volume).await {
                Some(live) if text(&live, "/metadata/deletionTimestamp").is_empty() => Err(live.to_string()),
                _ => Ok(()),
            }
        })
        .await;
        world.try_patch("east", volume, json!({"metadata": {"finalizers": null}})).await
    };
    let ((), _) = tokio::join!(world.delete("east", volume), gone);
    phase_is(world, "frail", "lost", "Lost").await;
    // Kinds that the destination does not know, or not in these versions.
    for (kind, there) in [("Gauge", None), ("Dial", Some("v1"))] {
        world.apply("east", &definition(kind, &["v1beta1"])).await;
        world.apply("east", &resource(kind, "v1beta1", "frail")).await;
        if let Some(version) = there {
            world.apply("west", &definition(kind, &[version])).await;
        }
    }
    // Claims that are to be called what they cannot.
    let set = "apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: frail}
spec:
  replicas: 0
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: c, image: 'c:1', volumeMounts: [{name: data, mountPath: /data}]}]}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";
    world.apply("east", set).await;
    for name in ["data-db-0", "one", "two"] {
        world.apply("east", &claim("frail").replace("name: data,", &format!("name: {name},"))).await;
    }
    let ending = "/api/v1/namespaces/frail-ending";
    let path = http::Request::delete(ending).body(Vec::new()).unwrap();
    world.client("east").request_text(path).await.unwrap();

    let options = ["--exclude-types", "customresourcedefinitions,nonsense.example.com"];
    plan(world, "frail", &["frail", "frail-ending"], &options).await;
    let choice = |claim: &str, name: &str| json!({"namespace": "frail", "claim": claim, "name": name});
    change(world, "frail", &json!({"volumes": [choice("data-db-0", "kept"), choice("one", "two")]})).await;
    let status = checked(world, "frail").await;
    for (reason, object, part) in [
        ("ClaimLost", "PersistentVolumeClaim frail/lost", "volume"),
        ("VolumeUnreachable", "PersistentVolumeClaim frail/astray", "none any more"),
        ("NamespaceTerminating", "Namespace frail-ending", ""),
        ("ClaimOfTemplate", "PersistentVolumeClaim frail/data-db-0", "leave `name` out"),
        ("NameTwice", "PersistentVolumeClaim frail/two", "a name of its own"),
        ("UnknownType", "spec.excludedResourceTypes", "nonsense"),
        ("KindNotServed", "versions.example.com/v1beta1 Gauge", "install"),
        ("VersionNotServed", "versions.example.com/v1beta1 Dial", "upgrade"),
    ] {
        assert!(tells(&status, CRITICAL, reason, object, part), "{reason} of {object}: {status:#?}");
    }
    world.patch("east", ending, json!({"metadata": {"finalizers": null}})).await;
    world.isthmus(&["plan", "delete", "frail"]).await.ends_with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_tells_of_namespaces_and_pairs_that_cannot_be() {
    let world = World::shared().await;
    let narrow = [
        "pair",
        "create",
        "checks-narrow",
        "--source",
        "east",
        "--destination",
        "west",
        "--store",
        "stage",
        "--allow-namespace",
        "other-*",
    ];
    world.isthmus(&narrow).await.ends_with(0);
    world.isthmus(&["plan", "create", "impossible", "checks-missing", "--pair", PAIR]).await.ends_with(0);
    let status = checked(world, "impossible").await;
    assert!(tells(&status, CRITICAL, "NamespaceNotFound", "Namespace checks-missing", ""), "{status:#?}");
    for (spec, reason, object) in [
        (json!({"namespaces": ["checks-nothing-*"]}), "NoNamespaceFound", "spec.namespaces"),
        (json!({"namespaces": ["checks-[a"]}), "BadNamespace", "spec.namespaces[0]"),
        (json!({"namespaces": ["Upper_Case"]}), "BadNamespaceName", "spec.namespaces[0]"),
        (json!({"namespaces": ["one: same", "two: same"]}), "SameDestination", "spec.namespaces[1]"),
        (json!({"namespaces": ["one: a", "one: b"]}), "NamespaceTwice", "spec.namespaces[1]"),
        (
            json!({"clusterPair": "checks-nowhere", "namespaces": ["one"]}),
            "NoSuchPair",
            "ClusterPair checks-nowhere",
        ),
        (
            json!({"clusterPair": "checks-narrow", "namespaces": ["one"]}),
            "NamespaceNotAllowed",
            "Namespace one",
        ),
        (json!({"clusterPair": PAIR, "reverse": true}), "NotBidirectional", "ClusterPair east-to-west"),
    ] {
        change(world, "impossible", &spec).await;
        let status = checked(world, "impossible").await;
        assert!(tells(&status, CRITICAL, reason, object, ""), "{reason}: {status:#?}");
    }
    // All that the options say wrongly is told at once.
    let options = json!({
        "timeouts": {"quiesce": 9},
        "storageClassMapping": {"No Class": "disk"},
        "selectors": ["a near (b)"],
        "transforms": [{"name": "both", "match": {"kind": "Service"}, "mergePatch": {"a": 1},
                        "jsonPatch": [{"op": "add", "path": "/a", "value": 1}]}],
    });
    change(world, "impossible", &options).await;
    let status = checked(world, "impossible").await;
    for (reason, object) in [
        ("BadLimit", "spec.timeouts.quiesce"),
        ("BadMapping", "spec.storageClassMapping[No Class]"),
        ("BadSelector", "spec.selectors"),
        ("BadTransform", "spec.transforms[0]"),
    ] {
        assert!(tells(&status, CRITICAL, reason, object, ""), "{reason}: {status:#?}");
    }
    world.isthmus(&["plan", "delete", "impossible"]).await.ends_with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_tells_of_pairs_that_cannot_do_their_work() {
    let world = World::shared().await;
    let pair = |name: &str, source: &str, store: &str| {
        format!(
            "apiVersion: isthmus.dev/v1alpha1
kind: ClusterPair
metadata: {{name: checks-{name}, namespace: {NAMESPACE}}}
spec: {{source: {source}, destination: west, objectStore: {store}}}
"
        )
    };
    let locked = world.lab.s3().keys().add(KeyAccess::ReadOnly);
    world.create_store("checks-locked", &locked).await;
    let pairs = [
        pair("clusterless", "checks-gone", "stage"),
        pair("storeless", "east", "checks-gone"),
        pair("locked", "east", "checks-locked"),
    ];
    world.apply("hub", &pairs.join("---\n")).await;
    plan(world, "unpaired", &["checks-missing"], &[]).await;
    for (pair, reason, object, part) in [
        ("checks-clusterless", "NoSuchCluster", "Cluster checks-gone", "isthmus cluster add"),
        ("checks-storeless", "NoSuchStore", "ObjectStore checks-gone", "isthmus store create"),
        ("checks-locked", "PairNotReady", "ClusterPair checks-locked", "isthmus pair describe"),
    ] {
        change(world, "unpaired", &json!({"clusterPair": pair})).await;
        let status = checked(world, "unpaired").await;
        assert!(tells(&status, CRITICAL, reason, object, part), "{reason}: {status:#?}");
    }
    world.isthmus(&["plan", "delete", "unpaired"]).await.ends_with(0);
    for pair in ["checks-clusterless", "checks-storeless", "checks-locked"] {
        world.isthmus(&["pair", "delete", pair]).await.ends_with(0);
    }
}
