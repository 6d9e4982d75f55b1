//! Server-side apply and the books of managers.

use serde_json::{Value, json};

use super::{APPLY, JSON, MERGE, message, send, servers};

fn config(data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

#[tokio::test]
async fn applying_twice_changes_nothing_and_what_is_no_longer_applied_goes() {
    for s in servers().await {
        let path = format!("{}/a?fieldManager=one", s.path("configmaps"));
        let (code, first) = s.patch(&path, APPLY, &config(&json!({"x": "1", "y": "1"}))).await;
        assert_eq!(code, 201);
        assert_eq!(
            first["metadata"]["managedFields"][0]["fieldsV1"],
            json!({"f:data": {"f:x": {}, "f:y": {}}})
        );
        let (code, again) = s.patch(&path, APPLY, &config(&json!({"x": "1", "y": "1"}))).await;
        assert_eq!(code, 200);
        assert_eq!(again["metadata"], first["metadata"]);
        let less = s.patch(&path, APPLY, &config(&json!({"x": "1"}))).await.1;
        assert_eq!(less["data"], json!({"x": "1"}));
        s.done().await;
    }
}

#[tokio::test]
async fn conflicts_name_the_fields_and_their_managers() {
    for s in servers().await {
        let one = format!("{}/a?fieldManager=one", s.path("configmaps"));
        let two = format!("{}/a?fieldManager=two", s.path("configmaps"));
        s.patch(&one, APPLY, &config(&json!({"x": "1", "y": "1"}))).await;
        let conflict = s.patch(&two, APPLY, &config(&json!({"x": "2"}))).await;
        assert_eq!(
            (conflict.0, message(&conflict)),
            (409, "Apply failed with 1 conflict: conflict with \"one\": .data.x")
        );
        assert_eq!(
            conflict.1["details"]["causes"],
            json!([{"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.x"}])
        );
        let conflict = s.patch(&two, APPLY, &config(&json!({"x": "2", "y": "2"}))).await;
        assert_eq!(
            message(&conflict),
            "Apply failed with 2 conflicts: conflicts with \"one\":\n- .data.x\n- .data.y"
        );
        s.patch(&format!("{}/a", s.path("configmaps")), MERGE, &json!({"data": {"z": "1"}})).await;
        let conflict = s.patch(&two, APPLY, &config(&json!({"z": "2"}))).await;
        assert_eq!(
            message(&conflict),
            "Apply failed with 1 conflict: conflict with \"lab-test\" using v1: .data.z"
        );
        let (code, forced) = s.patch(&format!("{two}&force=true"), APPLY, &config(&json!({"x": "2"}))).await;
        assert_eq!(code, 200);
        assert_eq!(forced["data"], json!({"x": "2", "y": "1", "z": "1"}));
        let anonymous = s.patch(&format!("{}/a", s.path("configmaps")), APPLY, &config(&json!({}))).await;
        assert_eq!(anonymous.0, 422);
        assert!(
            message(&anonymous).ends_with("fieldManager: Required value: is required for apply patch"),
            "{}",
            message(&anonymous)
        );
        s.done().await;
    }
}

#[tokio::test]
async fn lists_are_merged_by_their_keys() {
    for s in servers().await {
        let deployments = s.group_path("apps/v1", "deployments");
        let with = |containers: Value| {
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 0,
                "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}}}})
        };
        let one = format!("{deployments}/d?fieldManager=one");
        let two = format!("{deployments}/d?fieldManager=two");
        let port = |n: i64, protocol: Option<&str>| {
            let mut port = json!({"containerPort": n});
            if let Some(protocol) = protocol {
                port["protocol"] = json!(protocol);
            }
            port
        };
        let (code, made) = s
            .patch(
                &one,
                APPLY,
                &with(json!([{"name": "a", "image": "1", "ports": [port(53, None), port(53, Some("UDP"))]}])),
            )
            .await;
        assert_eq!(code, 201, "{made}");
        let (code, both) = s.patch(&two, APPLY, &with(json!([{"name": "b", "image": "1"}]))).await;
        assert_eq!(code, 200, "{both}");
        let names = |object: &Value| -> Vec<String> {
            object["spec"]["template"]["spec"]["containers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|c| c["name"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(names(&both), ["a", "b"]);
        assert_eq!(both["spec"]["template"]["spec"]["containers"][0]["ports"].as_array().unwrap().len(), 2);
        let (code, gone) = s.patch(&one, APPLY, &with(json!([{"name": "c", "image": "1"}]))).await;
        assert_eq!(code, 200, "{gone}");
        let mut left = names(&gone);
        left.sort();
        assert_eq!(left, ["b", "c"]);
        let twice = s
            .patch(&one, APPLY, &with(json!([{"name": "c", "image": "1"}, {"name": "c", "image": "2"}])))
            .await;
        assert!(message(&twice).contains("duplicate entries for key [name=\"c\"]"), "{}", message(&twice));
        s.done().await;
    }
}

#[tokio::test]
async fn strategic_merge_and_json_patch_change_what_they_name() {
    for s in servers().await {
        let pods = s.path("pods");
        let pod = json!({"metadata": {"name": "p", "finalizers": ["lab.isthmus.dev/a"]}, "spec": {"automountServiceAccountToken": false,
            "containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}});
        let (code, made) = s.post(&pods, &pod).await;
        assert_eq!(code, 201, "{made}");
        let path = format!("{pods}/p");
        let strategic = "application/strategic-merge-patch+json";
        let patch = json!({"metadata": {"finalizers": ["lab.isthmus.dev/b"]}, "spec": {"containers": [{"name": "b", "image": "2"}]}});
        let (code, patched) = s.patch(&path, strategic, &patch).await;
        assert_eq!(code, 200, "{patched}");
        assert_eq!(patched["spec"]["containers"][0]["image"], "1");
        assert_eq!(patched["spec"]["containers"][1]["image"], "2");
        assert_eq!(patched["metadata"]["finalizers"].as_array().unwrap().len(), 2);
        let gone = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["lab.isthmus.dev/a", "lab.isthmus.dev/b"]}});
        let (_, patched) = s.patch(&path, strategic, &gone).await;
        assert!(patched["metadata"].get("finalizers").is_none(), "{patched}");
        let test = json!([{"op": "test", "path": "/spec/containers/0/image", "value": "9"}]);
        assert_eq!(s.patch(&path, "application/json-patch+json", &test).await.0, 422);
        let replace = json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "9"}]);
        let (code, patched) = s.patch(&path, "application/json-patch+json", &replace).await;
        assert_eq!((code, &patched["spec"]["containers"][0]["image"]), (200, &json!("9")));
        let node = s.patch(&path, MERGE, &json!({"spec": {"hostNetwork": true}})).await;
        assert_eq!(node.0, 422);
        assert!(
            message(&node).contains("spec: Forbidden: pod updates may not change fields other than"),
            "{}",
            message(&node)
        );
        send(&s.client, "DELETE", &path, JSON, &json!({"gracePeriodSeconds": 0})).await;
        s.done().await;
    }
}

#[tokio::test]
async fn what_the_server_allocates_is_in_nobodys_book() {
    for s in servers().await {
        let ports =
            json!([{"name": "allocated", "port": 80}, {"name": "chosen", "port": 81, "nodePort": 30777}]);
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
                             "spec": {"type": "NodePort", "selector": {"a": "b"}, "ports": ports}});
        let (code, made) = s.post(&s.path("services"), &service).await;
        assert_eq!(code, 201, "{made}");
        assert!(made["spec"]["ports"][0]["nodePort"].is_number() && made["spec"]["clusterIP"].is_string());
        let set = &made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
        let port = |number: u16| &set["f:ports"][format!("k:{{\"port\":{number},\"protocol\":\"TCP\"}}")];
        assert_eq!(port(81)["f:nodePort"], json!({}));
        assert!(port(80)["f:port"].is_object() && port(80).get("f:nodePort").is_none(), "{set}");
        assert!(set.get("f:clusterIP").is_none() && set.get("f:ipFamilies").is_none(), "{set}");

        // Nor is what admission gives a Pod.
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app"}});
        s.post(&s.path("serviceaccounts"), &account).await;
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
                         "spec": {"serviceAccountName": "app", "containers": [{"name": "main", "image": "a:1"}]}});
        let (code, made) = s.post(&s.path("pods"), &pod).await;
        assert_eq!(code, 201, "{made}");
        assert!(made["spec"]["priority"].is_number() && made["spec"]["volumes"][0].is_object(), "{made}");
        let set = &made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
        assert!(set.get("f:priority").is_none() && set.get("f:volumes").is_none(), "{set}");
        assert!(set["f:restartPolicy"].is_object(), "what is a default is: {set}");
        s.done().await;
    }
}
