//! Clusters that serve different versions of the same kinds.

use std::collections::BTreeMap;

use isthmus_lab::LabOptions;
use isthmus_lab::cluster::ClusterTraits;
use isthmus_shared::protocol::ObjectAction;
use serde_json::{Value, json};

use crate::reading::text;
use crate::world::World;

/// A definition of the group `versions.example.com`, whose last version is the stored one.
pub fn definition(kind: &str, versions: &[&str]) -> String {
    let singular = kind.to_lowercase();
    let last = versions.last().copied().unwrap_or_default();
    let version = |name: &&str| {
        json!({
            "name": name, "served": true, "storage": *name == last,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{singular}s.versions.example.com")},
        "spec": {
            "group": "versions.example.com",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": format!("{singular}s"), "singular": singular, "listKind": format!("{kind}List")},
            "versions": versions.iter().map(version).collect::<Vec<_>>(),
        },
    })
    .to_string()
}

pub fn resource(kind: &str, version: &str, namespace: &str) -> String {
    json!({
        "apiVersion": format!("versions.example.com/{version}"), "kind": kind,
        "metadata": {"name": "one", "namespace": namespace}, "spec": {"colour": "blue"},
    })
    .to_string()
}

fn namespace(name: &str) -> String {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).to_string()
}

fn scaler(version: &str, namespace: &str, metrics: &Value) -> String {
    let mut spec = json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "minReplicas": 2,
        "maxReplicas": 9,
    });
    spec.as_object_mut().unwrap().extend(metrics.as_object().unwrap().clone());
    let metadata = json!({"name": "web", "namespace": namespace});
    json!({"apiVersion": format!("autoscaling/{version}"), "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec})
        .to_string()
}

/// East is the older cluster: it has never heard of `autoscaling/v2`.
async fn an_older_east() -> World {
    let east = ClusterTraits::without(["autoscaling/v2"]);
    let traits = BTreeMap::from([("east".to_owned(), east)]);
    World::start_on(LabOptions { traits, ..LabOptions::default() }).await
}

async fn apply(world: &World, cluster: &str, documents: &[String]) {
    world.apply(cluster, &documents.join("\n---\n")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_moves_in_a_version_that_both_clusters_serve_whichever_is_older() {
    let world = an_older_east().await;

    // Kinds of Kubernetes, from the older cluster and to it.
    let percent = json!({"targetCPUUtilizationPercentage": 61});
    apply(&world, "east", &[namespace("up"), scaler("v1", "up", &percent)]).await;
    let report = world.run("up", json!({"namespaces": ["up"]})).await.succeeded();
    assert_eq!(report.of("HorizontalPodAutoscaler up/web").api_version, "autoscaling/v1");
    let path = "/apis/autoscaling/v2/namespaces/up/horizontalpodautoscalers/web";
    let arrived = world.get("west", path).await;
    assert_eq!(arrived.pointer("/spec/maxReplicas"), Some(&json!(9)));
    assert_eq!(arrived.pointer("/spec/metrics/0/resource/target/averageUtilization"), Some(&json!(61)));

    let metrics = json!({"metrics": [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 62}}},
    ]});
    apply(&world, "west", &[namespace("down"), scaler("v2", "down", &metrics)]).await;
    let report = world.run("down", json!({"namespaces": ["down"], "reverse": true})).await.succeeded();
    assert_eq!(report.of("HorizontalPodAutoscaler down/web").api_version, "autoscaling/v1");
    let path = "/apis/autoscaling/v1/namespaces/down/horizontalpodautoscalers/web";
    let arrived = world.get("east", path).await;
    assert_eq!(arrived.pointer("/spec/targetCPUUtilizationPercentage"), Some(&json!(62)));

    // Custom resources, likewise; the definition that the destination has is its own.
    let here = [
        namespace("custom"),
        definition("Gadget", &["v1"]),
        resource("Gadget", "v1", "custom"),
        definition("Gizmo", &["v1", "v2"]),
        resource("Gizmo", "v2", "custom"),
    ];
    apply(&world, "east", &here).await;
    let there = [definition("Gadget", &["v1", "v2"]), definition("Gizmo", &["v1"])];
    apply(&world, "west", &there).await;
    let crd = |plural: &str| {
        format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.versions.example.com")
    };
    let before = [world.get("west", &crd("gadgets")).await, world.get("west", &crd("gizmos")).await];
    let report = world.run("custom", json!({"namespaces": ["custom"]})).await.succeeded();
    report.came_to(ObjectAction::Created, &["Gadget custom/one", "Gizmo custom/one"]);
    for (plural, version) in [("gadgets", "v2"), ("gizmos", "v1")] {
        let path = format!("/apis/versions.example.com/{version}/namespaces/custom/{plural}/one");
        assert_eq!(text(&world.get("west", &path).await, "/spec/colour"), "blue");
    }
    let after = [world.get("west", &crd("gadgets")).await, world.get("west", &crd("gizmos")).await];
    assert_eq!(after, before, "a definition of the destination was changed");
    let again = world.run("custom-again", json!({"namespaces": ["custom"]})).await.succeeded();
    assert_eq!(again.all(ObjectAction::Updated), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_without_a_common_version_stops_the_run_unless_it_is_excluded() {
    let world = World::shared().await;
    let here = [
        namespace("apart"),
        definition("Part", &["v1beta1"]),
        resource("Part", "v1beta1", "apart"),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rest", "namespace": "apart"}})
            .to_string(),
    ];
    apply(world, "east", &here).await;
    apply(world, "west", &[definition("Part", &["v1"])]).await;

    let refused = world.run("apart", json!({"namespaces": ["apart"]})).await.failed();
    let told = refused.status.failures.iter().find(|f| f.object.contains("Part"));
    let told = told.unwrap_or_else(|| panic!("{:?}", refused.status.failures));
    for part in ["v1", "excludedResourceTypes"] {
        assert!(told.message.contains(part), "{part} is not in {told:?}");
    }
    assert_eq!(world.find("west", "/api/v1/namespaces/apart").await, None);

    let spec = json!({"namespaces": ["apart"], "excludedResourceTypes": ["parts.versions.example.com"]});
    let report = world.run("apart-without", spec).await.succeeded();
    report.came_to(ObjectAction::Created, &["ConfigMap apart/rest"]);
    report.came_to(ObjectAction::LeftBehind, &["Part apart/one"]);
}
