//! Two namespaces of the source against which the destination has nearly everything that it can have, and
//! what is told of them: by the check of a plan, by a diff, and by a run.

use isthmus_shared::resources::ProblemSeverity;

use crate::world::World;

pub const CRITICAL: ProblemSeverity = ProblemSeverity::Critical;
pub const WARN: ProblemSeverity = ProblemSeverity::Warn;

/// The namespaces.
pub const NAMESPACES: [&str; 2] = ["checked", "checked-tight"];

/// What is told where the applications are started: how grave it is, the reason, the object, and a part of
/// the message.
pub const OBSTACLES: [(ProblemSeverity, &str, &str, &str); 23] = [
    (CRITICAL, "StorageClassNotFound", "PersistentVolumeClaim checked/gone", "storageClassMapping"),
    (CRITICAL, "AccessModeNotServed", "PersistentVolumeClaim checked/shared", "ebs.csi.aws.com"),
    (CRITICAL, "PriorityClassNotFound", "Deployment checked/classy", "checks-gold"),
    (CRITICAL, "RuntimeClassNotFound", "Deployment checked/boxed", "checks-box"),
    (CRITICAL, "PodSecurity", "Deployment checked/rooted", "baseline"),
    (CRITICAL, "AlreadyExists", "ConfigMap checked/met", "existingResourcePolicy"),
    (CRITICAL, "ExceededQuota", "ResourceQuota checked/none", "services"),
    (CRITICAL, "QuotaNeedsValues", "Deployment checked-tight/silent", "memory"),
    (CRITICAL, "LimitRange", "Deployment checked-tight/hungry", "cpu"),
    (CRITICAL, "LimitRange", "PersistentVolumeClaim checked-tight/wide", "2Gi"),
    (CRITICAL, "LimitRange", "Namespace checked-tight", "movers"),
    (CRITICAL, "MoverForbidden", "Namespace checked-tight", "cpu"),
    (CRITICAL, "NodePortTaken", "Service checked-tight/ported", "31877"),
    (WARN, "NotEnoughCapacity", "PersistentVolumeClaim checked/large", "2Gi"),
    (WARN, "IngressClassNotFound", "Ingress checked/web", "ingressClassMapping"),
    (WARN, "NoDefaultIngressClass", "Ingress checked-tight/hosted", "default"),
    (WARN, "HostTaken", "Ingress checked-tight/hosted", "taken.example.com"),
    (WARN, "NoNodeFits", "Deployment checked/pinned", "nodeSelector"),
    (WARN, "NoNodeFits", "Deployment checked/named", "nodeName"),
    (WARN, "ImageNotPullable", "Deployment checked/local", "imageMapping"),
    (WARN, "ImageNotPullable", "Deployment checked/preloaded", "Never"),
    (WARN, "PullSecretNotFound", "Deployment checked/pulling", "checks-pull"),
    (WARN, "ClaimNotBound", "PersistentVolumeClaim checked/shared", "not bound"),
];

const IMAGE: &str = "image: example.com/web";

/// A Deployment with more in the spec of its Pods.
fn deployment((namespace, name): (&str, &str), replicas: u32, container: &str, pod: &str) -> String {
    format!(
        "---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      automountServiceAccountToken: false
      {pod}
      containers: [{{name: web, {container}}}]
"
    )
}

fn claim(namespace: &str, name: &str, class: &str, mode: &str, size: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  {class}
  accessModes: [{mode}]
  resources: {{requests: {{storage: {size}}}}}
"
    )
}

fn source() -> String {
    let of = |name, container, pod| deployment(("checked", name), 0, container, pod);
    let tight = |name, container| deployment(("checked-tight", name), 0, container, "");
    let once = "ReadWriteOnce";
    [
        "apiVersion: v1
kind: Namespace
metadata: {name: checked}
---
apiVersion: v1
kind: Namespace
metadata: {name: checked-tight}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: met, namespace: checked}
data: {side: source}
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
---
apiVersion: v1
kind: Service
metadata: {name: ported, namespace: checked-tight}
spec: {type: NodePort, selector: {app: a}, ports: [{port: 80, nodePort: 31877}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: hosted, namespace: checked-tight}
spec:
  rules:
  - host: taken.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: ported, port: {number: 80}}}}]}
"
        .to_owned(),
        deployment(("checked", "pinned"), 1, IMAGE, "nodeSelector: {disk: checks-nowhere}"),
        of("named", IMAGE, "nodeName: checks-nowhere"),
        of("classy", IMAGE, "priorityClassName: checks-gold"),
        of("boxed", IMAGE, "runtimeClassName: checks-box"),
        of("rooted", IMAGE, "hostNetwork: true"),
        of("pulling", IMAGE, "imagePullSecrets: [{name: checks-pull}]"),
        of("local", "image: 'registry.tools.svc:5000/web:1'", ""),
        of("preloaded", "image: web, imagePullPolicy: Never", ""),
        tight(
            "hungry",
            "image: web, resources: {requests: {cpu: 2, memory: 1Mi}, limits: {cpu: 2, memory: 1Mi}}",
        ),
        tight("silent", IMAGE),
        claim("checked", "gone", "storageClassName: checks-gone", once, "1Gi"),
        claim("checked", "shared", "storageClassName: checks-disk", "ReadWriteMany", "1Gi"),
        claim("checked", "large", "storageClassName: checks-small", once, "5Gi"),
        claim("checked-tight", "wide", "", once, "3Gi"),
    ]
    .concat()
}

const DESTINATION: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: checked, labels: {pod-security.kubernetes.io/enforce: baseline}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: met, namespace: checked}
data: {side: destination}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: none, namespace: checked}
spec: {hard: {services: '0'}}
---
apiVersion: v1
kind: Namespace
metadata: {name: checked-tight}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: little, namespace: checked-tight}
spec: {hard: {requests.memory: 1Gi}}
---
apiVersion: v1
kind: LimitRange
metadata: {name: small, namespace: checked-tight}
spec:
  limits:
  - {type: Container, max: {cpu: 500m}}
  - {type: PersistentVolumeClaim, max: {storage: 2Gi}}
---
apiVersion: v1
kind: Namespace
metadata: {name: checked-neighbour}
---
apiVersion: v1
kind: Service
metadata: {name: first, namespace: checked-neighbour}
spec: {type: NodePort, selector: {app: first}, ports: [{port: 80, nodePort: 31877}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: first, namespace: checked-neighbour}
spec:
  rules:
  - host: taken.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: first, port: {number: 80}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: checks-nginx}
spec: {controller: example.com/nginx}
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
metadata: {name: checks-small-a, namespace: default}
storageClassName: checks-small
capacity: 2Gi
nodeTopology: {matchLabels: {topology.kubernetes.io/zone: a}}
---
apiVersion: storage.k8s.io/v1
kind: CSIStorageCapacity
metadata: {name: checks-small-b, namespace: default}
storageClassName: checks-small
capacity: 4Gi
maximumVolumeSize: 1Gi
nodeTopology: {matchLabels: {topology.kubernetes.io/zone: b}}
";

/// What puts right on the destination whatever the plan cannot.
const CONCESSIONS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: checked, labels: {pod-security.kubernetes.io/enforce: privileged}}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: none, namespace: checked}
spec: {hard: {services: '5'}}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: little, namespace: checked-tight}
spec: {hard: {pods: '50'}}
---
apiVersion: v1
kind: LimitRange
metadata: {name: small, namespace: checked-tight}
spec:
  limits:
  - {type: Container, max: {cpu: 4}}
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
";

/// Puts them in the way.
pub async fn put(world: &World) {
    world.apply("east", &source()).await;
    world.apply("west", DESTINATION).await;
    world.volume("east", "checked-tight", "wide").await;
}

/// Takes those away that no option of a run gets past.
pub async fn concede(world: &World) {
    world.apply("west", CONCESSIONS).await;
    world.delete("west", "/api/v1/namespaces/checked-neighbour/services/first").await;
}
