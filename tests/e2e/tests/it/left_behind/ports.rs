//! Health check node ports of load balancers: one that the source drew is drawn anew, one that a
//! person chose stays, and with `preserveNodePorts` all stay.

use isthmus_shared::protocol::ObjectAction::Created;
use serde_json::{Value, json};

use super::{Details, standing};
use crate::reading::text;
use crate::world::World;

// Below 30086 a real API server draws ports last, and the lab's own draws from 30000 on.
const SERVICES: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: left-ports}
---
apiVersion: v1
kind: Namespace
metadata: {name: left-kept}
---
apiVersion: v1
kind: Service
metadata: {name: drawn, namespace: left-ports}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  selector: {app: drawn}
  ports: [{port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: chosen, namespace: left-ports}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 30070
  selector: {app: chosen}
  ports: [{port: 80}]
";
const TAKEN: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: left-taken}
---
apiVersion: v1
kind: Service
metadata: {name: taker, namespace: left-taken}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: NUMBER
  selector: {app: taker}
  ports: [{port: 80, nodePort: 30081}]
";
const APPLIED: i64 = 30072;
const APPLIED_PORT: i64 = 30073;
const KEPT: i64 = 30074;
const KEPT_PORT: i64 = 30075;

fn path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/services/{name}")
}

/// A Service as a client without server-side apply leaves it, of whose ports no manager's fields
/// tell that a person chose them.
async fn unmanaged(world: &World, namespace: &str, name: &str, health: i64, port: i64, applied: Value) {
    let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "selector": {"app": name},
        "healthCheckNodePort": health, "ports": [{"port": 80, "nodePort": port}]});
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "annotations": applied}, "spec": spec});
    world.post("east", &format!("/api/v1/namespaces/{namespace}/services"), &service).await;
    let path = path(namespace, name);
    let service = world.patch("east", &path, json!({"metadata": {"managedFields": [{}]}})).await;
    assert_eq!(service["metadata"].get("managedFields"), None);
}

async fn health_port(world: &World, cluster: &str, namespace: &str, name: &str) -> i64 {
    let service = world.get(cluster, &path(namespace, name)).await;
    service["spec"]["healthCheckNodePort"].as_i64().unwrap()
}

async fn settle(world: &World) {
    world.apply("east", SERVICES).await;
    let manifest = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "applied"},
        "spec": {"type": "LoadBalancer", "healthCheckNodePort": APPLIED, "ports": [{"port": 80}]}});
    let applied = json!({"kubectl.kubernetes.io/last-applied-configuration": manifest.to_string()});
    unmanaged(world, "left-ports", "applied", APPLIED, APPLIED_PORT, applied).await;
    unmanaged(world, "left-kept", "kept", KEPT, KEPT_PORT, Value::Null).await;
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.10"}]}}});
    world.patch("east", &format!("{}/status", path("left-ports", "drawn")), status).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drawn_health_check_port_is_drawn_anew_and_a_chosen_or_preserved_one_stays() {
    let world = World::start().await;
    settle(&world).await;
    let drawn = health_port(&world, "east", "left-ports", "drawn").await;
    world.apply("west", &TAKEN.replace("NUMBER", &drawn.to_string())).await;

    // Preserved it cannot be, as another has it there; both are named.
    let kept = json!({"namespaces": ["left-ports"], "preserveNodePorts": true, "dryRun": true});
    let refused = world.run("left-ports-preserved", kept).await.failed();
    let finding = refused.failure("Service left-ports/drawn");
    assert_eq!(finding.reason, "NodePortTaken", "{finding:?}");
    for word in [&drawn.to_string(), "left-taken/taker", "preserveNodePorts"] {
        assert!(finding.message.contains(word), "{finding:?}");
    }

    let spec = json!({"namespaces": ["left-ports"]});
    let report = world.run("left-ports", spec.clone()).await.succeeded();
    report.came_to(
        Created,
        &["Service left-ports/drawn", "Service left-ports/applied", "Service left-ports/chosen"],
    );
    let details = Details::of(&world, "left-ports").await;
    for name in ["drawn", "applied", "chosen"] {
        details.say(&format!("left-ports Service {name}"), &["Created"]);
    }
    let now = health_port(&world, "west", "left-ports", "drawn").await;
    assert!(now != drawn && now > 0, "{now}");
    let service = world.get("west", &path("left-ports", "drawn")).await;
    assert_eq!(service.pointer("/status/loadBalancer/ingress"), None, "the source's balancer");
    assert_eq!(text(&service, "/spec/externalTrafficPolicy"), "Local");
    assert_eq!(health_port(&world, "west", "left-ports", "chosen").await, 30070);
    assert_eq!(health_port(&world, "west", "left-ports", "applied").await, APPLIED);
    let applied = world.get("west", &path("left-ports", "applied")).await;
    let port = applied.pointer("/spec/ports/0/nodePort").and_then(Value::as_i64).unwrap();
    assert_ne!(port, APPLIED_PORT, "nobody asked for this one");

    let before = standing(&world, "left-ports").await;
    world.run("left-ports-again", spec).await.succeeded();
    assert_eq!(standing(&world, "left-ports").await, before);

    let spec = json!({"namespaces": ["left-kept"], "preserveNodePorts": true});
    let report = world.run("left-kept", spec).await.succeeded();
    report.came_to(Created, &["Service left-kept/kept"]);
    assert_eq!(health_port(&world, "west", "left-kept", "kept").await, KEPT);
    let kept = world.get("west", &path("left-kept", "kept")).await;
    assert_eq!(kept.pointer("/spec/ports/0/nodePort"), Some(&json!(KEPT_PORT)));
}
