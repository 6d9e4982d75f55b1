//! `includeClusterResources`: what the namespaces' objects need, all, none.

use isthmus_shared::protocol::ObjectAction::Created;
use serde_json::{Value, json};

use super::Details;
use crate::runs::Report;
use crate::world::World;

const SCOPE: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: left-scope}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: app, namespace: left-scope}
---
apiVersion: v1
kind: Service
metadata: {name: hook, namespace: left-scope}
spec: {selector: {app: web}, ports: [{port: 443}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: left-scope}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {serviceAccountName: app, priorityClassName: left-gold, containers: [{name: web, image: "web:1"}]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: left-bound}
rules: [{apiGroups: [""], resources: [nodes], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: left-bound}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: left-bound}
subjects: [{kind: ServiceAccount, name: app, namespace: left-scope}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: left-viewer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: app, namespace: left-scope}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: left-unrelated}
rules: [{apiGroups: [""], resources: [nodes], verbs: [list]}]
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: left-gold}
value: 1000
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: left-unrelated}
value: 10
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: left-hook}
webhooks:
- name: hook.left.example.com
  clientConfig: {service: {namespace: left-scope, name: hook}}
  rules: [{apiGroups: [left.example.com], apiVersions: [v1], operations: [CREATE], resources: [widgets]}]
  failurePolicy: Ignore
  sideEffects: None
  admissionReviewVersions: [v1]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: left-unrelated}
webhooks:
- name: hook.left.example.com
  clientConfig: {url: "https://hooks.left.example.com/"}
  rules: [{apiGroups: [left.example.com], apiVersions: [v1], operations: [CREATE], resources: [widgets]}]
  failurePolicy: Ignore
  sideEffects: None
  admissionReviewVersions: [v1]
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: left-slow}
provisioner: left.example.com/slow
"#;

/// Served by the namespace's Service, or would be: nobody answers there.
fn api() -> Value {
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1.api.left.example.com"},
        "spec": {"group": "api.left.example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 10,
            "insecureSkipTLSVerify": true, "service": {"namespace": "left-scope", "name": "hook"}}})
}

const NEEDED: [&str; 6] = [
    "APIService v1.api.left.example.com",
    "ClusterRole left-bound",
    "ClusterRoleBinding left-bound",
    "ClusterRoleBinding left-viewer",
    "PriorityClass left-gold",
    "ValidatingWebhookConfiguration left-hook",
];
const UNRELATED: [&str; 3] = [
    "ClusterRole left-unrelated",
    "PriorityClass left-unrelated",
    "ValidatingWebhookConfiguration left-unrelated",
];
const OF_KINDS: [(&str, &str); 5] = [
    ("APIService", "apiregistration.k8s.io/v1/apiservices"),
    ("ClusterRole", "rbac.authorization.k8s.io/v1/clusterroles"),
    ("ClusterRoleBinding", "rbac.authorization.k8s.io/v1/clusterrolebindings"),
    ("PriorityClass", "scheduling.k8s.io/v1/priorityclasses"),
    ("ValidatingWebhookConfiguration", "admissionregistration.k8s.io/v1/validatingwebhookconfigurations"),
];

/// Whether the destination has an object, named by kind and name.
async fn is_there(world: &World, object: &str) -> bool {
    let (kind, name) = object.split_once(' ').unwrap();
    let (_, collection) = OF_KINDS.iter().find(|(of, _)| *of == kind).unwrap();
    world.find("west", &format!("/apis/{collection}/{name}")).await.is_some()
}

async fn migrate(world: &World, mode: &str) -> (Report, Details) {
    let name = format!("left-scope-{}", mode.to_lowercase());
    let spec = json!({"namespaces": ["left-scope"], "includeClusterResources": mode});
    (world.run(&name, spec).await.succeeded(), Details::of(world, &name).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_cluster_scope_goes_nothing_or_what_is_needed_or_all() {
    let world = World::start().await;
    world.apply("east", SCOPE).await;
    world.post("east", "/apis/apiregistration.k8s.io/v1/apiservices", &api()).await;

    // None: what the namespace needs is missed, and told.
    let (none, details) = migrate(&world, "None").await;
    none.came_to(Created, &["ServiceAccount left-scope/app", "Deployment left-scope/web"]);
    none.left_behind("ClusterScope", &NEEDED);
    details
        .say("- ClusterRoleBinding.rbac.authorization.k8s.io left-bound", &["Left behind", "ClusterScope"]);
    assert!(UNRELATED.iter().all(|name| none.find(name).is_none()), "nobody misses these");
    for name in NEEDED.iter().chain(&UNRELATED) {
        assert!(!is_there(&world, name).await, "{name}");
    }

    // Auto, the default: exactly that goes along, but for what the destination has itself.
    let (auto, details) = migrate(&world, "Auto").await;
    auto.came_to(Created, &NEEDED);
    auto.left_behind("SystemObject", &["ClusterRole view"]);
    details.say("- ClusterRole.rbac.authorization.k8s.io left-bound", &["Created"]);
    details.say("- ClusterRole.rbac.authorization.k8s.io view", &["Left behind", "SystemObject"]);
    assert!(UNRELATED.iter().all(|name| auto.find(name).is_none()), "{:#?}", auto.objects);
    for name in NEEDED {
        assert!(is_there(&world, name).await, "{name}");
    }
    for name in UNRELATED {
        assert!(!is_there(&world, name).await, "{name}");
    }

    // All: the rest too, except what is the cluster's own.
    let (all, details) = migrate(&world, "All").await;
    all.came_to(Created, &UNRELATED);
    all.left_behind("SystemObject", &["ClusterRole cluster-admin", "PriorityClass system-node-critical"]);
    all.left_behind("Infrastructure", &["StorageClass left-slow"]);
    if world.is_real() {
        all.left_behind("SystemObject", &["APIService v1.apps"]);
    }
    details.say("- ClusterRole.rbac.authorization.k8s.io left-unrelated", &["Created"]);
    details.say("- PriorityClass.scheduling.k8s.io left-unrelated", &["Created"]);
    details.say("- StorageClass.storage.k8s.io left-slow", &["Left behind", "Infrastructure"]);
    for name in UNRELATED {
        assert!(is_there(&world, name).await, "{name}");
    }
}
