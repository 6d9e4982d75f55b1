//! Definitions that were made before `apiextensions.k8s.io/v1`, and what their resources hold.

use serde_json::{Value, json};

use crate::reading::text;
use crate::world::{World, eventually};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const NAME: &str = "presses.workshop.example.com";
const PRESSES: &str = "/apis/workshop.example.com/v1/namespaces/workshop-of-old/presses";

fn definition() -> Value {
    let parts =
        json!({"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}});
    let spec = json!({"type": "object", "properties": {"tons": {"type": "integer"}, "parts": parts}});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": NAME},
        "spec": {
            "group": "workshop.example.com", "scope": "Namespaced",
            "names": {"kind": "Press", "plural": "presses", "singular": "press", "listKind": "PressList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    })
}

fn press(name: &str) -> Value {
    json!({
        "apiVersion": "workshop.example.com/v1", "kind": "Press", "metadata": {"name": name},
        "spec": {
            "tons": 40, "colour": "green",
            "parts": [{"name": "ram", "maker": "somebody"}], "drive": {"belt": {"width": 12}},
        },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_from_before_v1_arrives_as_v1_and_its_resources_keep_every_field() {
    let world = World::shared().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "workshop-of-old"}});
    world.apply("east", &namespace.to_string()).await;
    world.post("east", DEFINITIONS, &definition()).await;
    let told = json!({"spec": {"preserveUnknownFields": true}});
    let refused = world.try_patch("east", &format!("{DEFINITIONS}/{NAME}"), told).await.unwrap_err();
    assert!(refused.contains("preserveUnknownFields"), "the API of today does not take it: {refused}");

    // It was let in long ago, and the cluster was upgraded since.
    let mut old = eventually("the definition to be served", || async {
        let made = world.get("east", &format!("{DEFINITIONS}/{NAME}")).await;
        let conditions = made.pointer("/status/conditions").and_then(Value::as_array);
        let established =
            conditions.into_iter().flatten().any(|c| c["type"] == "Established" && c["status"] == "True");
        if established { Ok(made) } else { Err(made.to_string()) }
    })
    .await;
    old["spec"]["preserveUnknownFields"] = Value::Bool(true);
    world.lab.cluster("east").unwrap().store_definition(&old).await.unwrap();
    eventually("the definition of old to be in force", || async {
        let made = world.post("east", PRESSES, &press("one")).await;
        if made["spec"] == press("one")["spec"] {
            return Ok(());
        }
        world.delete("east", &format!("{PRESSES}/one")).await;
        Err(made.to_string())
    })
    .await;

    let report = world.run("workshop", json!({"namespaces": ["workshop-of-old"]})).await.succeeded();

    let arrived = world.get("west", &format!("{DEFINITIONS}/{NAME}")).await;
    assert_ne!(arrived.pointer("/spec/preserveUnknownFields"), Some(&Value::Bool(true)));
    let one = world.get("west", &format!("{PRESSES}/one")).await;
    assert_eq!(one["spec"], press("one")["spec"], "no field is lost, named by the schema or not");
    let told = report.of(&format!("CustomResourceDefinition {NAME}"));
    assert!(format!("{told:?}").contains("preserveUnknownFields was true"), "{told:?}");
    assert_eq!(text(&one, "/metadata/namespace"), "workshop-of-old");
}
