//! Kinds of OpenShift, played by definitions of the same groups and names: what OpenShift's own
//! controllers filled in on the source stays there, and what a person chose comes along.

use isthmus_shared::protocol::ObjectAction;
use isthmus_shared::resources::MIGRATION_REPLICAS;
use serde_json::{Value, json};

use crate::reading::text;
use crate::world::World;

/// What OpenShift serves of these kinds, as far as an API server needs to know it.
fn definitions() -> String {
    let kinds = [
        ("route.openshift.io", "Route", "routes"),
        ("image.openshift.io", "ImageStream", "imagestreams"),
        ("apps.openshift.io", "DeploymentConfig", "deploymentconfigs"),
    ];
    let definition = |(group, kind, plural): (&str, &str, &str)| {
        let kept = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": kept}}],
            },
        })
        .to_string()
    };
    kinds.map(definition).join("\n---\n")
}

const PROJECT: &str = r#"
apiVersion: v1
kind: Namespace
metadata:
  name: project
  labels: {team: web}
  annotations:
    openshift.io/sa.scc.uid-range: 1000620000/10000
    openshift.io/sa.scc.supplemental-groups: 1000620000/10000
    openshift.io/sa.scc.mcs: "s0:c25,c10"
    openshift.io/display-name: The project
---
apiVersion: route.openshift.io/v1
kind: Route
metadata: {name: generated, namespace: project, annotations: {openshift.io/host.generated: "true"}}
spec: {host: generated-project.apps.east.example.com, to: {kind: Service, name: web, weight: 100}, wildcardPolicy: None}
status: {ingress: [{host: generated-project.apps.east.example.com, routerName: default}]}
---
apiVersion: route.openshift.io/v1
kind: Route
metadata: {name: chosen, namespace: project}
spec: {host: www.example.com, path: /shop, to: {kind: Service, name: web, weight: 100}, tls: {termination: edge}}
---
apiVersion: image.openshift.io/v1
kind: ImageStream
metadata:
  name: app
  namespace: project
  annotations: {openshift.io/image.dockerRepositoryCheck: "2026-01-01T00:00:00Z"}
spec:
  lookupPolicy: {local: true}
  tags:
  - {name: built, generation: 3, from: {kind: DockerImage, name: "image-registry.openshift-image-registry.svc:5000/project/app@sha256:12"}}
  - {name: base, generation: 2, from: {kind: ImageStreamTag, name: "base:1", namespace: project}}
  - {name: shared, generation: 2, from: {kind: ImageStreamTag, name: "ruby:3", namespace: openshift}}
  - {name: upstream, generation: 1, from: {kind: DockerImage, name: "quay.io/project/app:2"}}
status: {dockerImageRepository: "image-registry.openshift-image-registry.svc:5000/project/app"}
---
apiVersion: apps.openshift.io/v1
kind: DeploymentConfig
metadata: {name: web, namespace: project}
spec:
  replicas: 3
  selector: {app: web}
  triggers:
  - {type: ConfigChange}
  - type: ImageChange
    imageChangeParams:
      automatic: true
      containerNames: [web]
      from: {kind: ImageStreamTag, name: "app:built", namespace: project}
      lastTriggeredImage: "image-registry.openshift-image-registry.svc:5000/project/app@sha256:12"
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: "image-registry.openshift-image-registry.svc:5000/project/app@sha256:12"}]
status: {latestVersion: 7, replicas: 3}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: pinned, namespace: project}
spec:
  replicas: 1
  selector: {matchLabels: {app: pinned}}
  template:
    metadata: {labels: {app: pinned}}
    spec:
      securityContext: {runAsUser: 1000620003, fsGroup: 1000620003}
      containers: [{name: c, image: "c:1"}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: free, namespace: project}
spec:
  replicas: 1
  selector: {matchLabels: {app: free}}
  template:
    metadata: {labels: {app: free}}
    spec: {containers: [{name: c, image: "c:1"}]}
"#;
/// The destination has made the project already, with ranges of its own, and serves one of the
/// hosts elsewhere.
const WEST: &str = r#"
apiVersion: v1
kind: Namespace
metadata:
  name: project-green
  annotations:
    openshift.io/sa.scc.uid-range: 1000700000/10000
    openshift.io/sa.scc.supplemental-groups: 1000700000/10000
    openshift.io/sa.scc.mcs: "s0:c27,c4"
---
apiVersion: v1
kind: Namespace
metadata: {name: project-neighbour}
---
apiVersion: route.openshift.io/v1
kind: Route
metadata: {name: first, namespace: project-neighbour}
spec: {host: www.example.com, path: /shop, to: {kind: Service, name: shop}}
"#;

fn green(group: &str, plural: &str, name: &str) -> String {
    format!("/apis/{group}/v1/namespaces/project-green/{plural}/{name}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openshifts_kinds_arrive_without_what_their_cluster_filled_in() {
    let world = World::shared().await;
    world.apply("east", &format!("{}\n---\n{PROJECT}", definitions())).await;
    world.apply("west", &format!("{}\n---\n{WEST}", definitions())).await;
    let spec = json!({"namespaces": [{"project": "project-green"}]});

    let report = world.run("project", spec.clone()).await.succeeded();
    report.came_to(
        ObjectAction::Created,
        &[
            "Route project-green/generated",
            "Route project-green/chosen",
            "ImageStream project-green/app",
            "DeploymentConfig project-green/web",
        ],
    );

    // The router of the destination gives the one its host; the other has the one it was given.
    let route = world.get("west", &green("route.openshift.io", "routes", "generated")).await;
    assert_eq!(
        route["spec"],
        json!({"to": {"kind": "Service", "name": "web", "weight": 100}, "wildcardPolicy": "None"})
    );
    assert!(route.get("status").is_none() && route["metadata"].get("annotations").is_none(), "{route}");
    let chosen = world.get("west", &green("route.openshift.io", "routes", "chosen")).await;
    let here = world.get("east", "/apis/route.openshift.io/v1/namespaces/project/routes/chosen").await;
    assert_eq!(chosen["spec"], here["spec"]);

    // Images of the cluster's own registry and tags of the renamed project follow it, others stay.
    let stream = world.get("west", &green("image.openshift.io", "imagestreams", "app")).await;
    assert_eq!(
        stream["spec"],
        json!({"lookupPolicy": {"local": true}, "tags": [
            {"name": "built", "from": {"kind": "DockerImage",
                "name": "image-registry.openshift-image-registry.svc:5000/project-green/app@sha256:12"}},
            {"name": "base", "from": {"kind": "ImageStreamTag", "name": "base:1", "namespace": "project-green"}},
            {"name": "shared", "from": {"kind": "ImageStreamTag", "name": "ruby:3", "namespace": "openshift"}},
            {"name": "upstream", "from": {"kind": "DockerImage", "name": "quay.io/project/app:2"}},
        ]})
    );
    assert!(stream.get("status").is_none() && stream["metadata"].get("annotations").is_none(), "{stream}");
    let config = world.get("west", &green("apps.openshift.io", "deploymentconfigs", "web")).await;
    assert_eq!(
        config.pointer("/spec/triggers/1/imageChangeParams"),
        Some(&json!({
            "automatic": true, "containerNames": ["web"],
            "from": {"kind": "ImageStreamTag", "name": "app:built", "namespace": "project-green"},
        }))
    );
    assert_eq!(
        text(&config, "/spec/template/spec/containers/0/image"),
        "image-registry.openshift-image-registry.svc:5000/project-green/app@sha256:12"
    );
    assert_eq!(config.pointer("/spec/replicas"), Some(&json!(0)), "it arrives stopped");
    let kept = config.pointer("/metadata/annotations").and_then(|all| all.get(MIGRATION_REPLICAS));
    assert_eq!(kept, Some(&json!("3")), "{config}");
    assert!(config.get("status").is_none(), "{config}");

    // What the destination's controllers fill in is theirs, whatever a later run brings.
    let filled = json!({"metadata": {"annotations": {"openshift.io/host.generated": "true"}},
                        "spec": {"host": "generated-project-green.apps.west.example.com"}});
    let path = green("route.openshift.io", "routes", "generated");
    let filled = world.patch("west", &path, filled).await;
    let again = world.run("project-again", spec).await.succeeded();
    assert_eq!(again.all(ObjectAction::Updated), Vec::<String>::new());
    assert_eq!(world.get("west", &path).await, filled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projects_id_ranges_stay_the_destinations_and_what_pins_the_sources_is_told() {
    let world = World::shared().await;
    let renamed =
        |yaml: &str| yaml.replace("project", "ranges").replace("www.example.com", "ranges.example.com");
    world.apply("east", &format!("{}\n---\n{}", definitions(), renamed(PROJECT))).await;
    world.apply("west", &format!("{}\n---\n{}", definitions(), renamed(WEST))).await;
    let spec = |dry: bool| json!({"namespaces": [{"ranges": "ranges-green"}], "dryRun": dry});
    let (dry, run) = (world.run("ranges-dry", spec(true)).await, world.run("ranges", spec(false)).await);
    for report in [dry.succeeded(), run.succeeded()] {
        let of = |reason: &str| -> Vec<(&str, &str)> {
            let of = report.status.warnings.iter().filter(|warning| warning.reason == reason);
            of.map(|warning| (warning.object.as_str(), warning.message.as_str())).collect()
        };
        let collisions = of("SccRangeCollision");
        assert_eq!(collisions.len(), 2, "a user and a group: {:#?}", report.status.warnings);
        for (object, message) in collisions {
            assert_eq!(object, "Deployment ranges-green/pinned");
            assert!(
                message.contains("1000620003") && message.contains("1000700000 to 1000709999"),
                "{message}"
            );
        }
        let hosts: Vec<&str> = report
            .status
            .warnings
            .iter()
            .map(|w| w.object.as_str())
            .filter(|o| o.starts_with("Route "))
            .collect();
        assert_eq!(hosts, ["Route ranges-green/chosen"], "{:#?}", report.status.warnings);
    }

    let namespace = world.get("west", "/api/v1/namespaces/ranges-green").await;
    let annotation = |key: &str| namespace["metadata"]["annotations"].get(key).and_then(Value::as_str);
    assert_eq!(annotation("openshift.io/sa.scc.uid-range"), Some("1000700000/10000"));
    assert_eq!(annotation("openshift.io/sa.scc.supplemental-groups"), Some("1000700000/10000"));
    assert_eq!(annotation("openshift.io/sa.scc.mcs"), Some("s0:c27,c4"));
    assert_eq!(annotation("openshift.io/display-name"), Some("The ranges"));
    assert_eq!(text(&namespace, "/metadata/labels/team"), "web");
}
