//! What the check of a plan tells, provoked: much at once, as each check of a plan looks at everything.

use std::fs;

use isthmus_shared::resources::{MigrationPlanStatus, PlanPhase, ProblemSeverity};
use serde_json::json;

use crate::plans::{change, checked};
use crate::volume_options::noise;
use crate::world::{PAIR, World};

const CRITICAL: ProblemSeverity = ProblemSeverity::Critical;
const WARN: ProblemSeverity = ProblemSeverity::Warn;

/// Whether a problem is among those that were found.
fn tells(
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

/// A stopped Deployment in the namespace `checked` with more in the spec of its Pods.
fn deployment(name: &str, replicas: u32, image: &str, pod: &str) -> String {
    format!(
        "---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: checked}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      {pod}
      containers: [{{name: web, {image}}}]
"
    )
}

fn claim(name: &str, class: &str, mode: &str, size: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}, namespace: checked}}
spec:
  storageClassName: {class}
  accessModes: [{mode}]
  resources: {{requests: {{storage: {size}}}}}
"
    )
}

/// What the source has.
fn source() -> String {
    let image = "image: example.com/web";
    [
        "apiVersion: v1
kind: Namespace
metadata: {name: checked}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: checked}
spec: {ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: checked}
spec:
  ingressClassName: checks-alb
  defaultBackend: {service: {name: web, port: {number: 80}}}
"
        .to_owned(),
        deployment("pinned", 1, image, "nodeSelector: {disk: checks-nowhere}"),
        deployment("named", 0, image, "nodeName: checks-nowhere"),
        deployment("classy", 0, image, "priorityClassName: checks-gold"),
        deployment("boxed", 0, image, "runtimeClassName: checks-box"),
        deployment("pulling", 0, image, "imagePullSecrets: [{name: checks-pull}]"),
        deployment(
            "local",
            0,
            "image: 'registry.tools.svc:5000/web:1'",
            "automountServiceAccountToken: false",
        ),
        deployment(
            "preloaded",
            0,
            "image: web, imagePullPolicy: Never",
            "automountServiceAccountToken: false",
        ),
        claim("gone", "checks-gone", "ReadWriteOnce", "1Gi"),
        claim("shared", "checks-disk", "ReadWriteMany", "1Gi"),
        claim("large", "checks-small", "ReadWriteOnce", "5Gi"),
    ]
    .concat()
}

/// What the destination has.
const DESTINATION: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: checked, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: none, namespace: checked}
spec: {hard: {services: '0'}}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: checks-disk}
provisioner: ebs.csi.aws.com
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: checks-small}
provisioner: csi.example.com
---
apiVersion: storage.k8s.io/v1
kind: CSIStorageCapacity
metadata: {name: checks-small, namespace: default}
storageClassName: checks-small
capacity: 2Gi
nodeTopology: {}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_check_tells_of_everything_that_the_destination_lacks() {
    let world = World::shared().await;
    world.apply("east", &source()).await;
    world.apply("west", DESTINATION).await;
    world.isthmus(&["plan", "create", "checked", "checked", "--pair", PAIR, "--quiesce"]).await.ends_with(0);
    let status = checked(world, "checked").await;
    assert_eq!(status.phase, PlanPhase::NotReady, "{status:#?}");
    for (severity, reason, object, part) in [
        (CRITICAL, "StorageClassNotFound", "PersistentVolumeClaim checked/gone", "storageClassMapping"),
        (CRITICAL, "AccessModeNotServed", "PersistentVolumeClaim checked/shared", "ebs.csi.aws.com"),
        (CRITICAL, "PriorityClassNotFound", "Deployment checked/classy", "checks-gold"),
        (CRITICAL, "RuntimeClassNotFound", "Deployment checked/boxed", "checks-box"),
        (CRITICAL, "PodSecurity", "Deployment checked/pinned", "restricted"),
        (CRITICAL, "ExceededQuota", "ResourceQuota checked/none", "services"),
        (WARN, "NotEnoughCapacity", "PersistentVolumeClaim checked/large", "2Gi"),
        (WARN, "IngressClassNotFound", "Ingress checked/web", "ingressClassMapping"),
        (WARN, "NoNodeFits", "Deployment checked/pinned", "nodeSelector"),
        (WARN, "NoNodeFits", "Deployment checked/named", "nodeName"),
        (WARN, "ImageNotPullable", "Deployment checked/local", "imageMapping"),
        (WARN, "ImageNotPullable", "Deployment checked/preloaded", "Never"),
        (WARN, "PullSecretNotFound", "Deployment checked/pulling", "checks-pull"),
        (WARN, "ClaimNotBound", "PersistentVolumeClaim checked/shared", "not bound"),
    ] {
        assert!(tells(&status, severity, reason, object, part), "{reason} of {object}: {status:#?}");
    }
    let unwell = |problem: &&isthmus_shared::resources::PlanProblem| problem.reason == "UnhealthyPod";
    let unwell = status.problems.iter().find(unwell);
    assert!(unwell.is_some_and(|pod| pod.object.starts_with("Pod checked/pinned-")), "{status:#?}");

    // Each is put right where it says, in the plan or on the destination.
    world
        .apply(
            "west",
            "apiVersion: v1
kind: Namespace
metadata: {name: checked, labels: {pod-security.kubernetes.io/enforce: privileged}}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: none, namespace: checked}
spec: {hard: {services: '5'}}
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: checks-gold}
value: 5
---
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: checks-box}
handler: box
---
apiVersion: v1
kind: Secret
metadata: {name: checks-pull, namespace: checked}
",
        )
        .await;
    let spec = json!({
        "storageClassMapping": {"checks-gone": "checks-small"},
        "accessModeMapping": {"ReadWriteMany": "ReadWriteOnce"},
        "imageMapping": {"registry.tools.svc:5000": "registry.example.com"},
        "existingResourcePolicy": "Update",
    });
    change(world, "checked", &spec).await;
    let status = checked(world, "checked").await;
    assert_eq!(status.critical, 0, "{status:#?}");
    for gone in ["AccessModeNotServed", "PullSecretNotFound", "PodSecurity"] {
        assert!(!status.problems.iter().any(|problem| problem.reason == gone), "{gone}: {status:#?}");
    }
    assert!(!tells(&status, WARN, "ImageNotPullable", "Deployment checked/local", ""), "{status:#?}");
    world.isthmus(&["plan", "delete", "checked"]).await.ends_with(0);
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
    ] {
        change(world, "impossible", &spec).await;
        let status = checked(world, "impossible").await;
        assert!(tells(&status, CRITICAL, reason, object, ""), "{reason}: {status:#?}");
    }
    world.isthmus(&["plan", "delete", "impossible"]).await.ends_with(0);
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
