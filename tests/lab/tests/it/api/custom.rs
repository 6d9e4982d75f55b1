//! CustomResourceDefinitions and their objects.

use serde_json::{Value, json};

use super::{APPLY, MERGE, Subject, message, servers};

fn spec_schema() -> Value {
    let parts = json!({"type": "array", "maxItems": 5, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
        "items": {"type": "object", "required": ["name"],
            "properties": {"name": {"type": "string", "maxLength": 9}, "count": {"type": "integer"}}}});
    json!({"type": "object", "required": ["size"],
        "x-kubernetes-validations": [
            {"rule": "self.size <= self.max", "message": "size must not pass max"},
            {"rule": "!has(self.parts) || self.parts.all(p, p.name != 'bad')", "message": "bad part"},
            {"rule": "self.size >= oldSelf.size", "message": "size must not shrink"}],
        "properties": {
            "size": {"type": "integer", "minimum": 1},
            "max": {"type": "integer", "default": 10},
            "replicas": {"type": "integer"},
            "color": {"type": "string", "enum": ["red", "blue"], "maxLength": 4},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "parts": parts}})
}

fn definition(group: &str) -> Value {
    let status = json!({"type": "object", "properties": {"replicas": {"type": "integer"}, "phase": {"type": "string"}}});
    let schema = json!({"type": "object", "required": ["spec"], "properties": {"spec": spec_schema(), "status": status}});
    let scale = json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"});
    let version = json!({"name": "v1", "served": true, "storage": true,
        "subresources": {"status": {}, "scale": scale}, "schema": {"openAPIV3Schema": schema}});
    json!({"metadata": {"name": format!("widgets.{group}")}, "spec": {"group": group, "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets"}, "versions": [version]}})
}

async fn define(s: &Subject) -> (String, String, String) {
    let group = format!("{}.example.dev", s.namespace);
    let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.{group}");
    let made = s.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition(&group)).await;
    assert_eq!(made.0, 201, "{}", made.1);
    s.until(&path, |_, d| {
        d["status"]["conditions"]
            .as_array()
            .is_some_and(|c| c.iter().any(|c| c["type"] == "Established" && c["status"] == "True"))
    })
    .await;
    let widgets = s.group_path(&format!("{group}/v1"), "widgets");
    s.until(&widgets, |code, _| code == 200).await;
    (group, path, widgets)
}

fn widget(s: &Subject, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": format!("{}.example.dev/v1", s.namespace), "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn objects_are_pruned_defaulted_and_checked_by_their_schema() {
    for s in servers().await {
        let (group, path, widgets) = define(&s).await;
        let (code, made) =
            s.post(&widgets, &widget(&s, "a", &json!({"size": 2, "other": 1, "free": {"any": [1]}}))).await;
        assert_eq!(code, 201, "{made}");
        assert_eq!(made["spec"], json!({"size": 2, "max": 10, "free": {"any": [1]}}));
        let strict = s
            .post(
                &format!("{widgets}?fieldValidation=Strict"),
                &widget(&s, "b", &json!({"size": 2, "other": 1})),
            )
            .await;
        assert_eq!(strict.0, 400);
        assert!(
            message(&strict).ends_with("strict decoding error: unknown field \"spec.other\""),
            "{}",
            message(&strict)
        );
        let refusal = |name: &str, what: &str| format!("Widget.{group} \"{name}\" is invalid: {what}");
        for (name, spec, what) in [
            ("c", json!({}), "spec.size: Required value"),
            (
                "d",
                json!({"size": "x"}),
                "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
            ),
            (
                "e",
                json!({"size": 0}),
                "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
            ),
            (
                "f",
                json!({"size": 1, "color": "tan"}),
                "spec.color: Unsupported value: \"tan\": supported values: \"red\", \"blue\"",
            ),
            ("h", json!({"size": 1, "parts": [{"name": "bad"}]}), ": bad part"),
            ("i", json!({"size": 20}), ": size must not pass max"),
        ] {
            let refused = s.post(&widgets, &widget(&s, name, &spec)).await;
            assert_eq!(refused.0, 422, "{}", refused.1);
            assert!(
                message(&refused).starts_with(&refusal(name, what)) || message(&refused).contains(what),
                "{} is not {what}",
                message(&refused)
            );
        }
        let shrunk = s.patch(&format!("{widgets}/a"), MERGE, &json!({"spec": {"size": 1}})).await;
        // From 1.34 on the type is no longer shown as the value.
        assert_eq!(shrunk.0, 422);
        assert!(message(&shrunk).starts_with(&refusal("a", "spec: Invalid value: ")), "{}", message(&shrunk));
        assert!(message(&shrunk).ends_with(": size must not shrink"), "{}", message(&shrunk));
        assert_eq!(s.delete(&path).await.0, 200);
        s.until(&path, |code, _| code == 404).await;
        s.until(&widgets, |code, _| code == 404).await;
        s.done().await;
    }
}

#[tokio::test]
async fn status_and_scale_are_written_apart_from_the_spec() {
    for s in servers().await {
        let (_, path, widgets) = define(&s).await;
        let one = format!("{widgets}/a");
        let mut with_status = widget(&s, "a", &json!({"size": 2, "replicas": 1}));
        with_status["status"] = json!({"phase": "Done"});
        let made = s.post(&widgets, &with_status).await.1;
        assert!(made.get("status").is_none(), "{made}");
        let both = json!({"status": {"phase": "Ready"}, "spec": {"size": 9}});
        let written = s.patch(&format!("{one}/status"), MERGE, &both).await.1;
        assert_eq!((&written["spec"]["size"], &written["status"]["phase"]), (&json!(2), &json!("Ready")));
        assert_eq!(written["metadata"]["generation"], 1);
        let scaled = s.patch(&format!("{one}/scale"), MERGE, &json!({"spec": {"replicas": 3}})).await;
        assert_eq!(
            (scaled.0, &scaled.1["kind"], &scaled.1["spec"]["replicas"]),
            (200, &json!("Scale"), &json!(3))
        );
        assert_eq!(s.get(&one).await.1["metadata"]["generation"], 2);
        let mut config = widget(&s, "a", &json!({}));
        config.as_object_mut().unwrap().remove("spec");
        config["status"] = json!({"replicas": 3});
        let (code, applied) = s.patch(&format!("{one}/status?fieldManager=m"), APPLY, &config).await;
        assert_eq!(code, 200, "{applied}");
        assert_eq!(applied["status"], json!({"phase": "Ready", "replicas": 3}));
        let (code, merged) = s
            .patch(
                &format!("{one}?fieldManager=m"),
                APPLY,
                &widget(&s, "a", &json!({"parts": [{"name": "x", "count": 1}]})),
            )
            .await;
        assert_eq!((code, &merged["spec"]["parts"][0]["count"]), (200, &json!(1)), "{merged}");
        assert_eq!(s.delete(&path).await.0, 200);
        s.until(&path, |code, _| code == 404).await;
        s.done().await;
    }
}

#[tokio::test]
async fn a_rule_that_does_not_compile_refuses_the_definition() {
    for s in servers().await {
        let mut broken = definition(&format!("{}.example.dev", s.namespace));
        broken["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"] =
            json!([{"rule": "self.size <= other.max"}]);
        let refused = s.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &broken).await;
        assert_eq!(refused.0, 422);
        assert!(
            message(&refused).contains("compilation failed")
                && message(&refused).contains("undeclared reference to 'other'"),
            "{}",
            message(&refused)
        );
        s.done().await;
    }
}
