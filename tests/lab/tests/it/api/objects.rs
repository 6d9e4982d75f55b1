//! Objects: created, read, changed, listed, deleted.

use serde_json::{Value, json};

use super::{JSON, MERGE, message, send, servers};

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

#[tokio::test]
async fn errors_have_the_words_that_clients_know() {
    for s in servers().await {
        let maps = s.path("configmaps");
        assert_eq!(s.post(&maps, &config_map("a")).await.0, 201);
        let taken = s.post(&maps, &config_map("a")).await;
        assert_eq!((taken.0, message(&taken)), (409, "configmaps \"a\" already exists"));
        let missing = s.get(&format!("{maps}/b")).await;
        assert_eq!((missing.0, message(&missing)), (404, "configmaps \"b\" not found"));
        assert_eq!(missing.1["details"], json!({"name": "b", "kind": "configmaps"}));
        let nowhere = s.post("/api/v1/namespaces/no-such-place/configmaps", &config_map("a")).await;
        assert_eq!((nowhere.0, message(&nowhere)), (404, "namespaces \"no-such-place\" not found"));
        let bad = s.post(&maps, &config_map("Bad_Name")).await;
        assert_eq!(bad.0, 422);
        assert!(message(&bad).starts_with("ConfigMap \"Bad_Name\" is invalid: metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 subdomain must"), "{}", message(&bad));
        let nothing = s.get("/apis/no.such.group/v1/things").await;
        assert_eq!(nothing.0, 404);
        let mut stale = s.get(&format!("{maps}/a")).await.1;
        s.patch(&format!("{maps}/a"), MERGE, &json!({"data": {"a": "2"}})).await;
        stale["data"]["a"] = json!("3");
        let conflict = s.put(&format!("{maps}/a"), &stale).await;
        assert_eq!(
            (conflict.0, message(&conflict)),
            (
                409,
                "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
            )
        );
        s.done().await;
    }
}

#[tokio::test]
async fn what_changes_nothing_stores_nothing_and_only_the_spec_counts_generations() {
    for s in servers().await {
        let deployments = s.group_path("apps/v1", "deployments");
        let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i",
                "resources": {"requests": {"memory": "1024Mi"}}}]}}}});
        let (code, made) = s.post(&deployments, &deployment).await;
        assert_eq!(code, 201, "{made}");
        assert_eq!(made["spec"]["strategy"]["rollingUpdate"]["maxSurge"], "25%");
        assert_eq!(
            made["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["memory"],
            "1Gi"
        );
        assert_eq!(made["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"], "Always");
        let path = format!("{deployments}/d");
        // A controller may write the status and an annotation in between.
        let labelled = s.patch(&path, MERGE, &json!({"metadata": {"labels": {"x": "y"}}})).await.1;
        assert_eq!(labelled["metadata"]["generation"], 1);
        let again = s
            .patch(&path, MERGE, &json!({"metadata": {"labels": {"x": "y"}}, "spec": {"replicas": 0}}))
            .await
            .1;
        assert_eq!(again["metadata"]["generation"], 1);
        let scaled = s.patch(&path, MERGE, &json!({"spec": {"paused": true}})).await.1;
        assert_eq!(scaled["metadata"]["generation"], 2);
        let frozen = s.patch(&path, MERGE, &json!({"spec": {"selector": {"matchLabels": {"a": "c"}}, "template": {"metadata": {"labels": {"a": "c"}}}}})).await;
        assert_eq!(frozen.0, 422);
        assert!(
            message(&frozen).contains("spec.selector: Invalid value")
                && message(&frozen).contains("field is immutable"),
            "{}",
            message(&frozen)
        );
        // Config maps have no controller, so their versions can be compared.
        let maps = s.path("configmaps");
        let first = s.post(&maps, &config_map("a")).await.1;
        let same = s.patch(&format!("{maps}/a"), MERGE, &json!({"data": {"a": "1"}})).await.1;
        assert_eq!(first["metadata"]["resourceVersion"], same["metadata"]["resourceVersion"]);
        s.done().await;
    }
}

#[tokio::test]
async fn pages_of_a_list_show_one_moment() {
    for s in servers().await {
        let maps = s.path("configmaps");
        for name in ["m1", "m2", "m3", "m4"] {
            let mut map = config_map(name);
            map["metadata"]["labels"] = json!({"page": "yes"});
            s.post(&maps, &map).await;
        }
        let first = s.get(&format!("{maps}?limit=2&labelSelector=page%3Dyes")).await.1;
        let token = first["metadata"]["continue"].as_str().unwrap();
        s.delete(&format!("{maps}/m3")).await;
        let second = s.get(&format!("{maps}?limit=2&labelSelector=page%3Dyes&continue={token}")).await.1;
        let names: Vec<_> = [&first, &second]
            .iter()
            .flat_map(|page| page["items"].as_array().unwrap())
            .map(|map| map["metadata"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["m1", "m2", "m3", "m4"]);
        assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
        s.done().await;
    }
}

#[tokio::test]
async fn finalizers_hold_an_object_until_they_are_gone() {
    for s in servers().await {
        let maps = s.path("configmaps");
        let path = format!("{maps}/held");
        let mut map = config_map("held");
        map["metadata"]["finalizers"] = json!(["lab.isthmus.dev/test"]);
        let uid = s.post(&maps, &map).await.1["metadata"]["uid"].clone();
        let other = json!({"preconditions": {"uid": "other"}});
        assert_eq!(send(&s.client, "DELETE", &path, JSON, &other).await.0, 409);
        let (code, held) =
            send(&s.client, "DELETE", &path, JSON, &json!({"preconditions": {"uid": uid}})).await;
        assert_eq!(code, 200);
        assert!(held["metadata"]["deletionTimestamp"].is_string());
        let more = s
            .patch(
                &path,
                MERGE,
                &json!({"metadata": {"finalizers": ["lab.isthmus.dev/test", "lab.isthmus.dev/more"]}}),
            )
            .await;
        assert_eq!(more.0, 422);
        assert!(
            message(&more).contains("no new finalizers can be added if the object is being deleted"),
            "{}",
            message(&more)
        );
        assert_eq!(s.patch(&path, MERGE, &json!({"metadata": {"finalizers": null}})).await.0, 200);
        assert_eq!(s.get(&path).await.0, 404);
        s.done().await;
    }
}

#[tokio::test]
async fn addresses_and_ports_of_services_are_handed_out_once() {
    for s in servers().await {
        let services = s.path("services");
        let service = |name: &str, more: Value| {
            let mut spec = json!({"type": "NodePort", "ports": [{"port": 80}]});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"metadata": {"name": name}, "spec": spec})
        };
        let (code, made) = s.post(&services, &service("a", json!({}))).await;
        assert_eq!(code, 201, "{made}");
        let ip = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
        let port = made["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
        assert_eq!(made["spec"]["clusterIPs"], json!([ip]));
        assert_eq!(made["spec"]["ports"][0]["targetPort"], 80);
        let taken = s.post(&services, &service("b", json!({"clusterIP": ip}))).await;
        assert_eq!(taken.0, 422);
        assert!(message(&taken).ends_with(&format!("spec.clusterIPs: Invalid value: [\"{ip}\"]: failed to allocate IP {ip}: provided IP is already allocated")), "{}", message(&taken));
        let taken =
            s.post(&services, &service("c", json!({"ports": [{"port": 80, "nodePort": port}]}))).await;
        assert_eq!(taken.0, 422);
        assert!(
            message(&taken).ends_with(&format!(
                "spec.ports[0].nodePort: Invalid value: {port}: provided port is already allocated"
            )),
            "{}",
            message(&taken)
        );
        let headless =
            s.post(&services, &service("d", json!({"type": "ClusterIP", "clusterIP": "None"}))).await;
        assert_eq!((headless.0, &headless.1["spec"]["clusterIP"]), (201, &json!("None")));
        s.done().await;
    }
}

#[tokio::test]
async fn discovery_lists_what_is_served_in_both_forms() {
    for s in servers().await {
        let discovery = kube::Discovery::new(s.client.clone()).run_aggregated().await.unwrap();
        let (deployment, capabilities) =
            discovery.resolve_gvk(&kube::core::GroupVersionKind::gvk("apps", "v1", "Deployment")).unwrap();
        assert_eq!(deployment.plural, "deployments");
        assert!(capabilities.supports_operation("deletecollection"));
        assert_eq!(capabilities.scope, kube::discovery::Scope::Namespaced);
        let plain = kube::Discovery::new(s.client.clone()).run().await.unwrap();
        assert!(plain.has_group("batch"));
        assert_eq!(s.get("/readyz").await.1, json!("ok"));
        s.done().await;
    }
}
