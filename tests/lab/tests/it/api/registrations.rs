//! Webhook configurations, APIServices, versions of one kind.

use serde_json::{Value, json};

use super::{APPLY, JSON, exchange, message, servers};

#[tokio::test]
async fn webhook_configurations_are_kept_with_their_defaults() {
    for s in servers().await {
        for kind in ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"] {
            let path = format!("/apis/admissionregistration.k8s.io/v1/{kind}");
            let webhook = json!({"name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "clientConfig": {"service": {"name": "hook", "namespace": s.namespace}},
                "rules": [{"apiGroups": ["none.example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["things"]}]});
            let (code, made) =
                s.post(&path, &json!({"metadata": {"name": s.namespace}, "webhooks": [webhook]})).await;
            assert_eq!(code, 201, "{made}");
            let made = &made["webhooks"][0];
            assert_eq!(
                (&made["failurePolicy"], &made["matchPolicy"], &made["timeoutSeconds"]),
                (&json!("Fail"), &json!("Equivalent"), &json!(10))
            );
            assert_eq!(
                (&made["clientConfig"]["service"]["port"], &made["rules"][0]["scope"]),
                (&json!(443), &json!("*"))
            );
            let bad = json!({"metadata": {"name": format!("{}-x", s.namespace)}, "webhooks": [{"name": "a", "clientConfig": {}}]});
            let refused = s.post(&format!("{path}?dryRun=All"), &bad).await;
            assert_eq!(refused.0, 422);
            for words in [
                "should be a domain with at least three segments",
                "exactly one of url or service is required",
                "must specify one of v1, v1beta1",
            ] {
                assert!(message(&refused).contains(words), "{}", message(&refused));
            }
            assert_eq!(s.delete(&format!("{path}/{}", s.namespace)).await.0, 200);
        }
        s.done().await;
    }
}

#[tokio::test]
async fn an_api_whose_server_is_gone_is_registered_and_unavailable() {
    for s in servers().await {
        let path = "/apis/apiregistration.k8s.io/v1/apiservices";
        let own = s.get(&format!("{path}/v1.apps")).await.1;
        assert_eq!(own["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "onstart");
        assert_eq!(own["spec"].get("service"), None);
        let group = format!("{}.example.com", s.namespace);
        let name = format!("v1.{group}");
        let service = json!({"metadata": {"name": name}, "spec": {"group": group, "version": "v1",
            "groupPriorityMinimum": 100, "versionPriority": 10, "service": {"name": "gone", "namespace": s.namespace}}});
        let (code, made) = s.post(path, &service).await;
        assert_eq!((code, &made["spec"]["service"]["port"]), (201, &json!(443)), "{made}");
        s.until(&format!("/apis/{group}/v1"), |code, _| code == 503).await;
        let mut misnamed = service.clone();
        misnamed["metadata"]["name"] = json!("other");
        let refused = s.post(&format!("{path}?dryRun=All"), &misnamed).await;
        assert_eq!(refused.0, 422);
        assert!(
            message(&refused).contains("must be `spec.version+\".\"+spec.group`"),
            "{}",
            message(&refused)
        );
        assert_eq!(s.delete(&format!("{path}/{name}")).await.0, 200);
        s.until(&format!("/apis/{group}/v1"), |code, body| code == 404 && body.is_string()).await;
        s.done().await;
    }
}

#[tokio::test]
async fn an_autoscaler_is_read_and_applied_in_either_version() {
    for s in servers().await {
        let [one, two] =
            ["autoscaling/v1", "autoscaling/v2"].map(|v| s.group_path(v, "horizontalpodautoscalers"));
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
        let first = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 50}});
        let (code, made) = s.patch(&format!("{one}/a?fieldManager=m"), APPLY, &first).await;
        assert_eq!(code, 201, "{made}");
        let read = s.get(&format!("{two}/a")).await.1;
        assert_eq!(
            read["spec"]["metrics"],
            json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}])
        );
        let again = s.patch(&format!("{one}/a?fieldManager=m"), APPLY, &first).await.1;
        assert_eq!(again["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
        let second = json!({"metadata": {"name": "b"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
            "metrics": [{"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1000Mi"}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}}]}});
        let made = s.post(&two, &second).await.1;
        assert_eq!(made["spec"]["behavior"]["scaleUp"]["selectPolicy"], "Max", "{made}");
        assert_eq!(made["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"], 60);
        let read = s.get(&format!("{one}/b")).await.1;
        assert_eq!(read["spec"]["targetCPUUtilizationPercentage"], 60);
        assert!(
            read["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"].is_string(),
            "{read}"
        );
        s.done().await;
    }
}

fn definition(group: &str, versions: &Value) -> Value {
    json!({"metadata": {"name": format!("gadgets.{group}")}, "spec": {"group": group, "scope": "Namespaced",
        "names": {"kind": "Gadget", "plural": "gadgets"}, "versions": versions}})
}

fn version(name: &str, served: bool, storage: bool) -> Value {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}});
    json!({"name": name, "served": served, "storage": storage, "deprecated": name != "v1", "schema": {"openAPIV3Schema": schema}})
}

#[tokio::test]
async fn a_definition_serves_one_object_in_its_versions_until_one_is_taken_away() {
    for s in servers().await {
        let group = format!("{}.example.dev", s.namespace);
        let all = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let versions = json!([version("v1", true, true), version("v1beta1", true, false)]);
        assert_eq!(s.post(all, &definition(&group, &versions)).await.0, 201);
        let [new, old] = ["v1", "v1beta1"].map(|v| s.group_path(&format!("{group}/{v}"), "gadgets"));
        s.until(&new, |code, _| code == 200).await;
        s.until(&old, |code, _| code == 200).await;
        let gadget = json!({"apiVersion": format!("{group}/v1beta1"), "kind": "Gadget", "metadata": {"name": "g"}, "spec": {"size": 1}});
        let made = exchange(&s.client, "POST", &old, (JSON, JSON), gadget.to_string()).await;
        assert_eq!(made.code, 201, "{made:?}");
        assert_eq!(made.warnings, [format!("{group}/v1beta1 Gadget is deprecated; use {group}/v1 Gadget")]);
        assert_eq!(s.get(&format!("{new}/g")).await.1["apiVersion"], format!("{group}/v1"));
        let preferred = s.get(&format!("/apis/{group}")).await.1;
        assert_eq!(preferred["preferredVersion"]["version"], "v1");
        let only_new =
            json!({"spec": {"versions": [version("v1", true, true), version("v1beta1", false, false)]}});
        let changed = s.patch(&format!("{all}/gadgets.{group}"), super::MERGE, &only_new).await;
        assert_eq!(changed.0, 200, "{}", changed.1);
        s.until(&old, |code, body| code == 404 && body == "404 page not found\n").await;
        assert_eq!(s.get(&format!("{new}/g")).await.1["spec"]["size"], 1);
        assert_eq!(s.delete(&format!("{all}/gadgets.{group}")).await.1["kind"], "CustomResourceDefinition");
        s.until(&new, |code, _| code == 404).await;
        s.done().await;
    }
}

#[tokio::test]
async fn a_rule_over_a_field_of_any_type_refuses_the_definition() {
    for s in servers().await {
        let group = format!("{}.example.dev", s.namespace);
        let mut versions = json!([version("v1", true, true)]);
        let spec = &mut versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        spec["properties"]["any"] = json!({"x-kubernetes-preserve-unknown-fields": true});
        spec["properties"]["anys"] =
            json!({"type": "array", "maxItems": 5, "items": {"x-kubernetes-preserve-unknown-fields": true}});
        for field in ["any", "anys"] {
            let mut one = versions.clone();
            one[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"] =
                json!([{"rule": format!("has(self.{field}) || has(self.size)")}]);
            let refused = s
                .post(
                    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?dryRun=All",
                    &definition(&group, &one),
                )
                .await;
            assert_eq!(refused.0, 422, "{}", refused.1);
            assert!(
                message(&refused).contains(&format!("undefined field '{field}'")),
                "{}",
                message(&refused)
            );
        }
        s.done().await;
    }
}
