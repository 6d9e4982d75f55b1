//! A run's own maps and transforms.

use isthmus_shared::protocol::ObjectAction;
use serde_json::{Value, json};

use crate::reading::{everything, text};
use crate::world::World;

const STUDIO: &str = r#"
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: studio-nginx}
spec: {controller: example.com/nginx}
---
apiVersion: v1
kind: Namespace
metadata: {name: studio}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: palette-warm, namespace: studio, labels: {kind-of: palette}}
data: {first: red, second: orange, keep: "me"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: palette-cold, namespace: studio, labels: {kind-of: palette}}
data: {first: blue}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: brushes, namespace: studio}
data: {first: flat}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: easel, namespace: studio}
spec:
  replicas: 1
  selector: {matchLabels: {app: easel}}
  template:
    metadata: {labels: {app: easel}}
    spec:
      initContainers: [{name: init, image: "docker.io/library/busybox:1.36"}]
      containers:
      - {name: canvas, image: "registry.old.example.com/studio/canvas:2.0", env: [{name: A, value: "1"}, {name: B, value: "2"}]}
      - {name: log, image: "registry.old.example.com/infra/log@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: door, namespace: studio}
spec:
  ingressClassName: studio-nginx
  rules:
  - host: studio.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: easel, port: {number: 80}}}}]}
"#;
const WEST_CLASS: &str = r"
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: studio-traefik}
spec: {controller: example.com/traefik}
";

fn spec(transforms: &Value) -> Value {
    json!({
        "namespaces": ["studio"],
        "imageMapping": {
            "registry.old.example.com": "mirror.example.com/old",
            "registry.old.example.com/studio": "mirror.example.com/art",
        },
        "ingressClassMapping": {"studio-nginx": "studio-traefik"},
        "transforms": transforms,
    })
}

fn good() -> Value {
    json!([
        {
            "name": "tint", "match": {"kind": "ConfigMap", "names": ["palette-*"], "labels": {"matchLabels": {"kind-of": "palette"}}},
            "mergePatch": {"data": {"second": null, "tint": "sepia"}},
        },
        {
            "name": "scale", "match": {"group": "apps", "kind": "Deployment"},
            "jsonPatch": [
                {"op": "test", "path": "/metadata/name", "value": "easel"},
                {"op": "add", "path": "/metadata/annotations", "value": {"example.com/painted": "yes"}},
                {"op": "replace", "path": "/spec/template/spec/containers/0/env/0/value", "value": "one"},
            ],
        },
        {
            "name": "sidecar", "match": {"kind": "Deployment", "namespaces": ["stud*"]},
            "strategicMergePatch": {"spec": {"template": {"spec": {"containers": [
                {"name": "canvas", "env": [{"name": "C", "value": "3"}]},
                {"name": "log", "$patch": "delete"},
            ]}}}},
        },
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maps_and_transforms_of_each_form_are_shown_first_and_then_applied() {
    let world = World::shared().await;
    world.apply("east", STUDIO).await;
    world.apply("west", WEST_CLASS).await;

    let mut dry = spec(&good());
    dry["dryRun"] = true.into();
    let shown = world.run("studio-dry", dry).await.succeeded();
    let diff = |name: &str| shown.of(name).rewritten.clone().unwrap_or_default();
    let has = |diff: &str, line: &str, sign: char| {
        diff.lines().any(|l| l.starts_with(sign) && l[1..].trim() == line)
    };
    let tinted = diff("ConfigMap studio/palette-warm");
    assert!(has(&tinted, "second: orange", '-') && has(&tinted, "tint: sepia", '+'), "{tinted}");
    let easel = diff("Deployment studio/easel");
    assert!(easel.contains('+') && easel.contains("mirror.example.com/art/canvas:2.0"), "{easel}");
    assert_eq!(shown.of("ConfigMap studio/brushes").rewritten, None);
    let door = diff("Ingress studio/door");
    assert!(has(&door, "ingressClassName: studio-traefik", '+'), "{door}");
    assert_eq!(world.find("west", "/api/v1/namespaces/studio").await, None, "a dry run made a namespace");

    let report = world.run("studio", spec(&good())).await.succeeded();
    report.came_to(ObjectAction::Created, &["Deployment studio/easel", "Ingress studio/door"]);
    let config = |name: &'static str| world.config("west", "studio", name);
    assert_eq!(config("palette-warm").await, Some(json!({"first": "red", "keep": "me", "tint": "sepia"})));
    assert_eq!(config("palette-cold").await, Some(json!({"first": "blue", "tint": "sepia"})));
    assert_eq!(config("brushes").await, Some(json!({"first": "flat"})));
    let easel = world.get("west", "/apis/apps/v1/namespaces/studio/deployments/easel").await;
    assert_eq!(text(&easel, "/metadata/annotations/example.com~1painted"), "yes");
    let pod = easel.pointer("/spec/template/spec").unwrap();
    let containers = pod["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1, "the strategic merge patch removes one by its name: {containers:?}");
    assert_eq!(containers[0]["image"], "mirror.example.com/art/canvas:2.0");
    let mut env: Vec<(&str, &str)> = containers[0]["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| (text(variable, "/name"), text(variable, "/value")))
        .collect();
    env.sort_unstable();
    assert_eq!(env, [("A", "one"), ("B", "2"), ("C", "3")]);
    assert_eq!(pod["initContainers"][0]["image"], "docker.io/library/busybox:1.36", "no map names it");
    let door = world.get("west", "/apis/networking.k8s.io/v1/namespaces/studio/ingresses/door").await;
    assert_eq!(text(&door, "/spec/ingressClassName"), "studio-traefik");

    let again = world.run("studio-again", spec(&good())).await.succeeded();
    assert_eq!(again.all(ObjectAction::Updated), Vec::<String>::new(), "rewriting twice is rewriting once");

    // A digest stays.
    let without = spec(&json!([]));
    world.run("studio-plain", without).await.succeeded();
    let easel = world.get("west", "/apis/apps/v1/namespaces/studio/deployments/easel").await;
    let images: Vec<&str> = easel
        .pointer("/spec/template/spec/containers")
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .map(|container| text(container, "/image"))
        .collect();
    assert!(
        images.contains(&"mirror.example.com/old/infra/log@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
        "{images:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_transform_names_itself_and_changes_nothing() {
    let world = World::shared().await;
    let namespace = "studio-bad";
    world.apply("east", &STUDIO.replace("studio", namespace)).await;
    world.apply("west", &WEST_CLASS.replace("studio", namespace)).await;
    let is_of = |name: &String| name.contains(namespace);
    let before: Vec<String> = everything(world.client("west")).await.into_keys().filter(is_of).collect();
    let deployment = json!({"kind": "Deployment"});
    for (name, transform) in [
        (
            "finds-nothing",
            json!({"match": deployment, "jsonPatch": [{"op": "replace", "path": "/spec/nowhere/1", "value": 1}]}),
        ),
        (
            "fails-its-test",
            json!({"match": deployment, "jsonPatch": [{"op": "test", "path": "/metadata/name", "value": "other"}]}),
        ),
        (
            "is-refused",
            json!({"match": deployment, "mergePatch": {"spec": {"template": {"metadata": {"labels": {"app": "other"}}}}}}),
        ),
        (
            "is-of-a-wrong-type",
            json!({"match": deployment, "mergePatch": {"spec": {"template": {"spec": {"containers": "none"}}}}}),
        ),
        (
            "is-of-two-forms",
            json!({"match": deployment, "mergePatch": {"a": 1}, "jsonPatch": [{"op": "add", "path": "/a", "value": 1}]}),
        ),
        ("renames", json!({"match": deployment, "mergePatch": {"metadata": {"namespace": "elsewhere"}}})),
    ] {
        let mut transform = transform;
        transform["name"] = name.into();
        let mut spec = json!({"namespaces": [namespace], "transforms": [transform]});
        spec["ingressClassMapping"] = json!({format!("{namespace}-nginx"): format!("{namespace}-traefik")});
        let report = world.run(&format!("bad-{name}"), spec).await.failed();
        // By its name or place; where the server refuses what came of it, the change is shown too.
        let names_it = |text: &str| text.contains(name) || text.contains("spec.transforms[0]");
        let named = report.status.failures.iter().any(|f| names_it(&f.message) || names_it(&f.object));
        let of_server = name.starts_with("is-") && name != "is-of-two-forms";
        let shown =
            report.find(&format!("Deployment {namespace}/easel")).is_some_and(|o| o.rewritten.is_some());
        assert!(named && (shown || !of_server), "{name} does not name itself: {:#?}", report.status.failures);
        let after: Vec<String> = everything(world.client("west")).await.into_keys().filter(is_of).collect();
        assert_eq!(after, before, "{name} changed something");
    }

    // What is no patch at all the API server refuses with the record.
    let explode =
        json!({"name": "explodes", "match": deployment, "jsonPatch": [{"op": "explode", "path": "/"}]});
    let refused = world
        .create_migration(
            "bad-explodes",
            json!({"clusterPair": "east-to-west", "namespaces": [namespace], "transforms": [explode]}),
        )
        .await;
    assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 422), "{refused:?}");
}
