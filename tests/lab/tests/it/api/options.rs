//! The options of requests: dry runs, field validation, preconditions, representations.

use serde_json::{Value, json};

use super::{APPLY, JSON, MERGE, Subject, exchange, message, send, servers};

const YAML: &str = "application/yaml";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const PATCH: &str = "application/json-patch+json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

fn map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": 0,
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

/// Everything of a namespace's config maps that a write would change.
async fn stored(s: &Subject) -> Value {
    let list = s.get(&format!("{}?labelSelector=dry", s.path("configmaps"))).await.1;
    list["items"].clone()
}

#[tokio::test]
async fn a_dry_run_of_any_verb_answers_as_if_and_stores_nothing() {
    for s in servers().await {
        let maps = s.path("configmaps");
        let mut there = map("a", &json!({"x": "1"}));
        there["metadata"]["labels"] = json!({"dry": "yes"});
        let (code, there) = s.post(&maps, &there).await;
        assert_eq!(code, 201);
        let before = stored(&s).await;

        let made = s.post(&format!("{maps}?dryRun=All"), &map("b", &json!({}))).await.1;
        assert!(
            made["metadata"]["uid"].is_string() && made["metadata"]["resourceVersion"].is_null(),
            "{made}"
        );
        let one = format!("{maps}/a?dryRun=All");
        let mut put = there.clone();
        put["data"]["x"] = json!("2");
        let jump = json!([{"op": "replace", "path": "/data/x", "value": "2"}]);
        let data = json!({"data": {"x": "2"}});
        for (verb, path, kind, body) in [
            ("PUT", one.clone(), JSON, put),
            ("PATCH", one.clone(), MERGE, data.clone()),
            ("PATCH", one.clone(), STRATEGIC, data),
            ("PATCH", one.clone(), PATCH, jump),
            ("PATCH", format!("{one}&fieldManager=m&force=true"), APPLY, map("a", &json!({"x": "2"}))),
        ] {
            let (code, tried) = send(&s.client, verb, &path, kind, &body).await;
            assert_eq!((code, &tried["data"]["x"]), (200, &json!("2")), "{verb} {kind}: {tried}");
            assert_eq!(tried["metadata"]["resourceVersion"], there["metadata"]["resourceVersion"]);
        }
        let applied = format!("{maps}/c?dryRun=All&fieldManager=m");
        assert_eq!(s.patch(&applied, APPLY, &map("c", &json!({}))).await.0, 201);
        assert_eq!(s.delete(&one).await.0, 200);
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]});
        assert_eq!(send(&s.client, "DELETE", &format!("{maps}/a"), JSON, &options).await.0, 200);
        assert_eq!(s.delete(&format!("{maps}?labelSelector=dry&dryRun=All")).await.0, 200);

        assert_eq!(stored(&s).await, before);
        for name in ["b", "c"] {
            assert_eq!(s.get(&format!("{maps}/{name}")).await.0, 404);
        }
        s.done().await;
    }
}

#[tokio::test]
async fn a_dry_run_refuses_what_the_write_would_be_refused_for() {
    for s in servers().await {
        let deployments = s.group_path("apps/v1", "deployments");
        assert_eq!(s.post(&deployments, &deployment("d")).await.0, 201);
        let mut other = deployment("d");
        other["spec"]["selector"] = json!({"matchLabels": {"a": "c"}});
        other["spec"]["template"]["metadata"]["labels"] = json!({"a": "c"});
        let frozen =
            s.patch(&format!("{deployments}/d?dryRun=All&fieldManager=m&force=true"), APPLY, &other).await;
        assert_eq!(frozen.0, 422);
        assert!(message(&frozen).ends_with("field is immutable"), "{}", message(&frozen));
        let missing = "/api/v1/namespaces/no-such-place/configmaps/a?dryRun=All&fieldManager=m";
        let missing = s.patch(missing, APPLY, &map("a", &json!({}))).await;
        assert_eq!((missing.0, message(&missing)), (404, "namespaces \"no-such-place\" not found"));
        // A dry run takes no ports: the next may ask for the same.
        let service = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 32111}]}});
        for _ in 0..2 {
            assert_eq!(s.post(&format!("{}?dryRun=All", s.path("services")), &service).await.0, 201);
        }
        s.done().await;
    }
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused_before_anything_is_done() {
    for s in servers().await {
        let maps = s.path("configmaps");
        assert_eq!(s.post(&maps, &map("a", &json!({}))).await.0, 201);
        let one = format!("{maps}/a");
        for (verb, path, kind, options) in [
            ("POST", maps.clone(), JSON, "CreateOptions"),
            ("PUT", one.clone(), JSON, "UpdateOptions"),
            ("PATCH", one.clone(), MERGE, "PatchOptions"),
            ("DELETE", one.clone(), JSON, "DeleteOptions"),
        ] {
            let body = if verb == "DELETE" { Value::Null } else { map("a", &json!({})) };
            let refused = send(&s.client, verb, &format!("{path}?dryRun=Some"), kind, &body).await;
            let said = format!(
                "{options}.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\""
            );
            assert_eq!((refused.0, message(&refused)), (422, said.as_str()), "{verb}");
        }
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["Some"]});
        assert_eq!(send(&s.client, "DELETE", &one, JSON, &options).await.0, 422);
        let validation = s.post(&format!("{maps}?fieldValidation=Maybe"), &map("b", &json!({}))).await;
        assert_eq!(
            message(&validation),
            "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Maybe\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
        );
        let manager =
            s.post(&format!("{maps}?fieldManager={}", "x".repeat(129)), &map("b", &json!({}))).await;
        assert!(message(&manager).ends_with("fieldManager: Too long: may not be more than 128 bytes"));
        for (query, said) in [
            (
                "resourceVersionMatch=Exact",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
            ("resourceVersionMatch=Exact&resourceVersion=0", "is forbidden for resourceVersion \"0\""),
            (
                "resourceVersionMatch=Near&resourceVersion=5",
                "supported values: \"Exact\", \"NotOlderThan\", \"\"",
            ),
        ] {
            let refused = s.get(&format!("{maps}?{query}")).await;
            assert_eq!(refused.0, 422);
            assert!(message(&refused).ends_with(said), "{}", message(&refused));
        }
        assert_eq!(s.get(&format!("{maps}?resourceVersion=x")).await.0, 400);
        assert_eq!(s.get(&format!("{maps}?labelSelector=a%3D%3D%3Db")).await.0, 400);
        assert_eq!(s.get(&one).await.0, 200, "nothing was deleted");
        s.done().await;
    }
}

#[tokio::test]
async fn unknown_and_duplicate_fields_are_refused_or_warned_of_or_dropped() {
    for s in servers().await {
        let maps = s.path("configmaps");
        let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","name":"b"},"zoo":1,"data":{"x":"1","x":"2"},"bar":{}}"#;
        let told = [
            "duplicate field \"metadata.name\"",
            "unknown field \"zoo\"",
            "duplicate field \"data.x\"",
            "unknown field \"bar\"",
        ];
        let post = async |validation: &str| {
            let path = format!("{maps}?dryRun=All{validation}");
            exchange(&s.client, "POST", &path, (JSON, JSON), body).await
        };
        let strict = post("&fieldValidation=Strict").await;
        assert_eq!(strict.code, 400);
        let head = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: ";
        let said = strict.message().strip_prefix(head).unwrap_or_else(|| panic!("{strict:?}"));
        for one in told {
            assert!(said.contains(one), "{said}");
        }
        for validation in ["", "&fieldValidation=Warn"] {
            let warned = post(validation).await;
            assert_eq!((warned.code, &warned.body["data"]), (201, &json!({"x": "2"})));
            let (mut warnings, mut expected) = (warned.warnings.clone(), told.to_vec());
            warnings.sort();
            expected.sort_unstable();
            assert_eq!(warnings, expected);
        }
        let ignored = post("&fieldValidation=Ignore").await;
        assert_eq!((ignored.code, ignored.warnings.len(), &ignored.body["bar"]), (201, 0, &Value::Null));

        let mut unknown = deployment("d");
        unknown["spec"]["foo"] = json!(1);
        let path = format!("{}?dryRun=All&fieldValidation=Strict", s.group_path("apps/v1", "deployments"));
        assert_eq!(
            message(&s.post(&path, &unknown).await),
            "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"spec.foo\""
        );
        s.post(&maps, &map("c", &json!({}))).await;
        let patch = |kind: &'static str, body: &'static str, validation: &str| {
            let path = format!("{maps}/c?dryRun=All&fieldValidation={validation}");
            let client = s.client.clone();
            async move { exchange(&client, "PATCH", &path, (kind, JSON), body).await }
        };
        for (kind, body, said) in [
            (MERGE, r#"{"foo":1}"#, "unknown field \"foo\""),
            (STRATEGIC, r#"{"foo":1}"#, "unknown field \"foo\""),
            (MERGE, r#"{"data":{"x":"1","x":"2"}}"#, "duplicate field \"data.x\""),
            (PATCH, r#"[{"op":"add","path":"/foo","value":1}]"#, "unknown field \"foo\""),
            (
                PATCH,
                r#"[{"op":"add","op":"add","path":"/data","value":{}}]"#,
                "json patch duplicate field \"[0].op\"",
            ),
        ] {
            let refused = patch(kind, body, "Strict").await;
            assert_eq!(refused.code, 422, "{refused:?}");
            assert!(
                refused.message().ends_with(&format!("strict decoding error: {said}")),
                "{}",
                refused.message()
            );
            assert_eq!(patch(kind, body, "Warn").await.warnings, [said]);
        }
        s.done().await;
    }
}

#[tokio::test]
async fn an_applied_text_has_no_unknown_fields_and_each_key_once() {
    for s in servers().await {
        let path = format!("{}/a?dryRun=All&fieldManager=m", s.path("configmaps"));
        let apply = async |body: &str, validation: &str| {
            let path = format!("{path}&fieldValidation={validation}");
            exchange(&s.client, "PATCH", &path, (APPLY, JSON), body).await
        };
        let unknown = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"foo":1}"#;
        // Whatever the validation: what is not in the schema cannot be managed.
        for validation in ["Strict", "Warn", "Ignore"] {
            let refused = apply(unknown, validation).await;
            assert_eq!(refused.code, 500);
            assert_eq!(
                refused.message(),
                "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .foo: field not declared in schema"
            );
        }
        let typed =
            apply(r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"x":1}}"#, "Warn")
                .await;
        assert_eq!(
            (typed.code, typed.message()),
            (
                500,
                "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .data.x: expected string, got &value.valueUnstructured{Value:1}"
            )
        );
        let twice = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  x: \"1\"\n  x: \"2\"\n";
        let strict = apply(twice, "Strict").await;
        assert_eq!(
            (strict.code, strict.message()),
            (
                400,
                "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 7: key \"x\" already set in map"
            )
        );
        let warned = apply(twice, "Warn").await;
        assert_eq!((warned.code, &warned.body["data"]["x"]), (201, &json!("2")));
        assert_eq!(warned.warnings, ["line 7: key \"x\" already set in map"]);
        assert!(apply(twice, "Ignore").await.warnings.is_empty());
        let posted = format!("{}?dryRun=All", s.path("configmaps"));
        let posted = exchange(&s.client, "POST", &posted, (YAML, JSON), twice).await;
        assert_eq!((posted.code, posted.warnings.len()), (201, 1));
        s.done().await;
    }
}

#[tokio::test]
async fn elements_that_cannot_be_told_apart_are_refused_by_apply_and_warned_of_by_create() {
    for s in servers().await {
        let deployments = s.group_path("apps/v1", "deployments");
        let path = format!("{deployments}/d?dryRun=All&fieldManager=m");
        let container = |more: &Value| {
            let mut one = deployment("d");
            let container = one["spec"]["template"]["spec"]["containers"][0].as_object_mut().unwrap();
            container.extend(more.as_object().unwrap().clone());
            one
        };
        let named = "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.template.spec.containers[name=\"c\"]";
        let env = container(&json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}));
        let ports =
            container(&json!({"ports": [{"containerPort": 53}, {"containerPort": 53, "protocol": "TCP"}]}));
        for (body, refusal, warning) in [
            (
                &env,
                ".env: duplicate entries for key [name=\"A\"]",
                "env[1]: hides previous definition of \"A\", which may be dropped when using apply",
            ),
            (
                &ports,
                ".ports: duplicate entries for key [containerPort=53,protocol=\"TCP\"]",
                "ports[1]: duplicate port definition with spec.template.spec.containers[0].ports[0]",
            ),
        ] {
            let refused = s.patch(&path, APPLY, body).await;
            assert_eq!((refused.0, message(&refused)), (500, format!("{named}{refusal}").as_str()));
            let made = exchange(
                &s.client,
                "POST",
                &format!("{deployments}?dryRun=All"),
                (JSON, JSON),
                body.to_string(),
            )
            .await;
            assert_eq!(
                (made.code, made.warnings),
                (201, vec![format!("spec.template.spec.containers[0].{warning}")])
            );
        }
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
            "spec": {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]}});
        let refused =
            s.patch(&format!("{}/s?dryRun=All&fieldManager=m", s.path("services")), APPLY, &service).await;
        assert!(
            message(&refused).ends_with(".spec.ports: duplicate entries for key [port=80,protocol=\"TCP\"]")
        );
        let refused = s.post(&format!("{}?dryRun=All", s.path("services")), &service).await;
        assert_eq!(refused.0, 422);
        assert!(message(&refused).starts_with("Service \"s\" is invalid: spec.ports[1]: Duplicate value: "));
        s.done().await;
    }
}

#[tokio::test]
async fn an_apply_holds_to_the_version_and_the_uid_that_it_names() {
    for s in servers().await {
        let path = |name: &str| format!("{}/{name}?fieldManager=m&force=true", s.path("configmaps"));
        let with = |name: &str, field: &str, value: &str| {
            let mut config = map(name, &json!({"x": "2"}));
            config["metadata"][field] = json!(value);
            config
        };
        let (_, first) = s.patch(&path("a"), APPLY, &map("a", &json!({"x": "1"}))).await;
        let version = first["metadata"]["resourceVersion"].as_str().unwrap();
        let uid = first["metadata"]["uid"].as_str().unwrap();
        let stale = s.patch(&path("a"), APPLY, &with("a", "resourceVersion", "1")).await;
        assert_eq!(stale.0, 409);
        assert!(message(&stale).contains("the object has been modified"), "{}", message(&stale));
        let other = s.patch(&path("a"), APPLY, &with("a", "uid", "other")).await;
        assert_eq!(
            (other.0, message(&other)),
            (422, "ConfigMap \"a\" is invalid: metadata.uid: Invalid value: \"other\": field is immutable")
        );
        let gone = s.patch(&path("b"), APPLY, &with("b", "uid", uid)).await;
        assert_eq!(gone.0, 409);
        assert!(message(&gone).contains("uid mismatch"), "{}", message(&gone));
        // A version is no precondition of what is not there.
        assert_eq!(s.patch(&path("c"), APPLY, &with("c", "resourceVersion", version)).await.0, 201);
        assert_eq!(s.patch(&path("a"), APPLY, &with("a", "resourceVersion", version)).await.0, 200);
        assert_eq!(s.patch(&path("a"), APPLY, &with("a", "uid", uid)).await.0, 200);
        s.done().await;
    }
}

#[tokio::test]
async fn metadata_alone_is_given_to_those_who_ask_for_it() {
    for s in servers().await {
        let maps = s.path("configmaps");
        s.post(&maps, &map("a", &json!({"x": "1"}))).await;
        let get = async |path: &str, accept: &str| exchange(&s.client, "GET", path, (JSON, accept), "").await;
        let one = get(&format!("{maps}/a"), METADATA).await.body;
        assert_eq!(
            (&one["kind"], &one["apiVersion"], &one["data"]),
            (&json!("PartialObjectMetadata"), &json!("meta.k8s.io/v1"), &Value::Null)
        );
        assert_eq!(one["metadata"]["name"], "a");
        let list = format!("{maps}?fieldSelector=metadata.name%3Da");
        for accept in [METADATA_LIST.to_owned(), format!("{METADATA_LIST},{JSON}")] {
            let all = get(&list, &accept).await.body;
            assert_eq!(all["kind"], "PartialObjectMetadataList");
            assert_eq!(all["items"], json!([one]));
        }
        for (path, accept) in [(format!("{maps}/a"), METADATA_LIST), (list, METADATA)] {
            let refused = get(&path, accept).await;
            assert_eq!(refused.code, 406, "{refused:?}");
            assert!(refused.message().starts_with("you requested PartialObjectMetadata"));
        }
        let body = map("a", &json!({"x": "1"})).to_string();
        let applied =
            exchange(&s.client, "PATCH", &format!("{maps}/a?fieldManager=m"), (APPLY, METADATA), body).await;
        assert_eq!((applied.code, &applied.body["kind"]), (200, &json!("PartialObjectMetadata")));
        s.done().await;
    }
}
