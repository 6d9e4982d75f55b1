//! What may not change once it is there: 422, in words that name the field.

use serde_json::{Value, json};

use super::{APPLY, MERGE, Subject, message, servers};

fn pod_spec() -> Value {
    json!({"containers": [{"name": "c", "image": "i"}]})
}

fn template() -> Value {
    json!({"metadata": {"labels": {"a": "b"}}, "spec": pod_spec()})
}

/// Creates an object, then tries changes that must be refused with these words.
async fn refuses(s: &Subject, path: &str, object: &Value, changes: &[(Value, &str)]) {
    let (code, made) = s.post(path, object).await;
    assert_eq!(code, 201, "{made}");
    let one = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
    for (change, words) in changes {
        for dry_run in ["?dryRun=All", ""] {
            let refused = s.patch(&format!("{one}{dry_run}"), MERGE, change).await;
            assert_eq!(refused.0, 422, "{change}: {}", refused.1);
            assert!(message(&refused).contains(words), "{} is not {words}", message(&refused));
        }
    }
}

#[tokio::test]
async fn workloads_keep_their_selectors_templates_and_claims() {
    for s in servers().await {
        let apps = |plural: &str| s.group_path("apps/v1", plural);
        let selector = json!({"matchLabels": {"a": "b"}});
        let other = json!({"spec": {"selector": {"matchLabels": {"a": "c"}}, "template": {"metadata": {"labels": {"a": "c"}}}}});
        let deployment = json!({"metadata": {"name": "w"}, "spec": {"replicas": 0, "selector": selector, "template": template()}});
        refuses(&s, &apps("deployments"), &deployment, &[(other.clone(), "field is immutable")]).await;
        let mut placed = template();
        placed["spec"]["nodeSelector"] = json!({"no": "where"});
        let daemons = json!({"metadata": {"name": "w"}, "spec": {"selector": selector, "template": placed}});
        refuses(&s, &apps("daemonsets"), &daemons, &[(other, "field is immutable")]).await;
        let claims = |size: &str| {
            json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": size}}}}])
        };
        let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "w"}, "spec": {
            "serviceName": "w", "replicas": 0, "selector": selector, "template": template(),
            "volumeClaimTemplates": claims("1Gi")}});
        let words = "spec: Forbidden: updates to statefulset spec for fields other than 'replicas'";
        let changes = [
            (json!({"spec": {"volumeClaimTemplates": claims("2Gi")}}), words),
            (json!({"spec": {"serviceName": "x"}}), words),
            (json!({"spec": {"podManagementPolicy": "Parallel"}}), words),
        ];
        refuses(&s, &apps("statefulsets"), &set, &changes).await;
        // The same once more is no change, whatever the server has filled in.
        let path = format!("{}/w?fieldManager=m&force=true", apps("statefulsets"));
        assert_eq!(s.patch(&path, APPLY, &set).await.0, 200);
        let mut finished = pod_spec();
        finished["restartPolicy"] = json!("Never");
        let job =
            json!({"metadata": {"name": "w"}, "spec": {"suspend": true, "template": {"spec": finished}}});
        let changes = [
            (
                json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "other"}]}}}}),
                "spec.template",
            ),
            (json!({"spec": {"completions": 3}}), "spec.completions: Invalid value: 3: field is immutable"),
        ];
        refuses(&s, &s.group_path("batch/v1", "jobs"), &job, &changes).await;
        s.delete(&format!("{}/w?propagationPolicy=Background", s.group_path("batch/v1", "jobs"))).await;
        s.done().await;
    }
}

#[tokio::test]
async fn claims_and_frozen_configuration_keep_what_they_say() {
    for s in servers().await {
        let claim = json!({"metadata": {"name": "c"}, "spec": {"storageClassName": "none-such",
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        let words = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        let changes = [
            (json!({"spec": {"storageClassName": "other"}}), words),
            (json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}}), words),
        ];
        refuses(&s, &s.path("persistentvolumeclaims"), &claim, &changes).await;
        let frozen = "field is immutable when `immutable` is set";
        let secret = json!({"metadata": {"name": "f"}, "immutable": true, "stringData": {"k": "v"}});
        let changes = [
            (json!({"stringData": {"k": "w"}}), frozen),
            (json!({"immutable": false}), frozen),
            (
                json!({"type": "example.com/other"}),
                "type: Invalid value: \"example.com/other\": field is immutable",
            ),
        ];
        refuses(&s, &s.path("secrets"), &secret, &changes).await;
        let map = json!({"metadata": {"name": "f"}, "immutable": true, "data": {"k": "v"}});
        let changes = [(json!({"data": {"k": "w"}}), frozen), (json!({"binaryData": {"b": "AAAA"}}), frozen)];
        refuses(&s, &s.path("configmaps"), &map, &changes).await;
        let labelled = json!({"metadata": {"labels": {"a": "b"}}});
        assert_eq!(s.patch(&format!("{}/f", s.path("configmaps")), MERGE, &labelled).await.0, 200);
        s.done().await;
    }
}

#[tokio::test]
async fn bindings_and_classes_keep_what_they_stand_for() {
    for s in servers().await {
        let role = |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
        let binding = json!({"metadata": {"name": "b"}, "roleRef": role("view"), "subjects": [{"kind": "ServiceAccount", "name": "x"}]});
        let bindings = s.group_path("rbac.authorization.k8s.io/v1", "rolebindings");
        refuses(&s, &bindings, &binding, &[(json!({"roleRef": role("edit")}), "cannot change roleRef")])
            .await;

        let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
        let class = json!({"metadata": {"name": s.namespace}, "value": 1000});
        refuses(
            &s,
            classes,
            &class,
            &[(json!({"value": 2000}), "value: Forbidden: may not be changed in an update.")],
        )
        .await;
        let runtimes = "/apis/node.k8s.io/v1/runtimeclasses";
        let runtime = json!({"metadata": {"name": s.namespace}, "handler": "one", "overhead": {"podFixed": {"cpu": "10m"}}});
        refuses(
            &s,
            runtimes,
            &runtime,
            &[(json!({"handler": "two"}), "handler: Invalid value: \"two\": field is immutable")],
        )
        .await;

        let pods = format!("{}?dryRun=All", s.path("pods"));
        let pod = |more: Value| {
            let mut spec = pod_spec();
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"metadata": {"name": "p"}, "spec": spec})
        };
        let classed = s
            .post(&pods, &pod(json!({"priorityClassName": s.namespace, "runtimeClassName": s.namespace})))
            .await
            .1;
        assert_eq!(
            (&classed["spec"]["priority"], &classed["spec"]["overhead"]),
            (&json!(1000), &json!({"cpu": "10m"}))
        );
        for (spec, words) in [
            (json!({"priorityClassName": "none-such"}), "no PriorityClass with name none-such was found"),
            (
                json!({"priority": 5}),
                "the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name",
            ),
            (json!({"runtimeClassName": "none-such"}), "pod rejected: RuntimeClass \"none-such\" not found"),
            (json!({"serviceAccountName": "none-such"}), "serviceaccount \"none-such\" not found"),
        ] {
            let refused = s.post(&pods, &pod(spec)).await;
            assert_eq!(refused.0, 403, "{}", refused.1);
            assert!(message(&refused).ends_with(words), "{} is not {words}", message(&refused));
        }
        for (class, words) in [
            (
                json!({"metadata": {"name": "system-mine"}, "value": 5}),
                "system-mine is not a known system priority class",
            ),
            (
                json!({"metadata": {"name": "high"}, "value": 2_000_000_000}),
                "maximum allowed value of a user defined priority is 1000000000",
            ),
        ] {
            let refused = s.post(&format!("{classes}?dryRun=All"), &class).await;
            assert_eq!(refused.0, 422);
            assert!(message(&refused).ends_with(words), "{}", message(&refused));
        }
        for path in [classes, runtimes] {
            assert_eq!(s.delete(&format!("{path}/{}", s.namespace)).await.0, 200);
        }
        s.done().await;
    }
}
