//! Pod Security, quotas, limit ranges, claims.

use serde_json::{Value, json};

use super::{MERGE, message, servers};

fn pod(name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "c", "image": "i"}]);
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn a_restricted_namespace_refuses_pods_with_the_reasons() {
    for s in servers().await {
        let home = format!("/api/v1/namespaces/{}", s.namespace);
        s.patch(
            &home,
            MERGE,
            &json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}),
        )
        .await;
        let deadline = tokio::time::Instant::now() + super::PATIENCE;
        let refused = loop {
            let answer = s.post(&s.path("pods"), &pod("p", &json!({}))).await;
            // The plugin may see the label a moment later.
            if answer.0 == 403 || tokio::time::Instant::now() > deadline {
                break answer;
            }
            s.delete(&format!("{}/p", s.path("pods"))).await;
        };
        assert_eq!(
            message(&refused),
            "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
        let spec = json!({"hostNetwork": true, "securityContext": {"runAsUser": 0, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
            "containers": [{"name": "c", "image": "i", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}}]});
        let refused = s.post(&s.path("pods"), &pod("p", &spec)).await;
        assert_eq!(
            message(&refused),
            "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": host namespaces (hostNetwork=true), unrestricted capabilities (container \"c\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add), restricted volume types (volume \"v\" uses restricted volume type \"hostPath\"), runAsUser=0 (pod must not set runAsUser=0)"
        );
        s.done().await;
    }
}

#[tokio::test]
async fn a_quota_counts_and_refuses() {
    for s in servers().await {
        let quotas = s.path("resourcequotas");
        s.post(&quotas, &json!({"metadata": {"name": "q"}, "spec": {"hard": {"count/secrets": "1", "requests.cpu": "1", "requests.storage": "1Gi"}}})).await;
        s.until(&format!("{quotas}/q"), |_, q| q["status"]["used"]["count/secrets"].is_string()).await;
        assert_eq!(
            s.post(&s.path("secrets"), &json!({"metadata": {"name": "a"}, "stringData": {"k": "v"}})).await.0,
            201
        );
        let deadline = tokio::time::Instant::now() + super::PATIENCE;
        let refused = loop {
            let answer = s.post(&s.path("secrets"), &json!({"metadata": {"name": "b"}})).await;
            // The quota controller may count once more before it has seen "a", and write over what
            // admission counted; it counts again when a Secret goes.
            if answer.0 == 403 || !s.is_real() || tokio::time::Instant::now() > deadline {
                break answer;
            }
            s.delete(&format!("{}/b", s.path("secrets"))).await;
            s.until(&format!("{quotas}/q"), |_, q| q["status"]["used"]["count/secrets"] == "1").await;
        };
        assert_eq!(
            (refused.0, message(&refused)),
            (
                403,
                "secrets \"b\" is forbidden: exceeded quota: q, requested: count/secrets=1, used: count/secrets=1, limited: count/secrets=1"
            )
        );
        let silent = s.post(&s.path("pods"), &pod("p", &json!({}))).await;
        assert_eq!(
            (silent.0, message(&silent)),
            (403, "pods \"p\" is forbidden: failed quota: q: must specify requests.cpu for: c")
        );
        let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}});
        let refused = s.post(&s.path("persistentvolumeclaims"), &claim).await;
        assert_eq!(
            message(&refused),
            "persistentvolumeclaims \"c\" is forbidden: exceeded quota: q, requested: requests.storage=2Gi, used: requests.storage=0, limited: requests.storage=1Gi"
        );
        s.done().await;
    }
}

#[tokio::test]
async fn secrets_claims_and_jobs_get_what_the_server_sets() {
    for s in servers().await {
        let secret = s
            .post(
                &s.path("secrets"),
                &json!({"metadata": {"name": "a"}, "stringData": {"k": "v"}, "immutable": true}),
            )
            .await
            .1;
        assert_eq!((&secret["data"]["k"], &secret["type"]), (&json!("dg=="), &json!("Opaque")));
        assert!(secret.get("stringData").is_none());
        let frozen =
            s.patch(&format!("{}/a", s.path("secrets")), MERGE, &json!({"data": {"k": "dw=="}})).await;
        assert_eq!(
            (frozen.0, message(&frozen)),
            (422, "Secret \"a\" is invalid: data: Forbidden: field is immutable when `immutable` is set")
        );
        let claims = s.path("persistentvolumeclaims");
        let claim = s.post(&claims, &json!({"metadata": {"name": "c"}, "spec": {"storageClassName": "none-such", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}})).await.1;
        assert_eq!(
            (&claim["spec"]["volumeMode"], &claim["status"]["phase"]),
            (&json!("Filesystem"), &json!("Pending"))
        );
        assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "1Gi");
        assert_eq!(claim["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
        let changed = s
            .patch(&format!("{claims}/c"), MERGE, &json!({"spec": {"accessModes": ["ReadWriteMany"]}}))
            .await;
        assert_eq!(changed.0, 422);
        assert!(message(&changed).starts_with("PersistentVolumeClaim \"c\" is invalid: spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"), "{}", message(&changed));
        let jobs = s.group_path("batch/v1", "jobs");
        let (code, job) = s.post(&jobs, &json!({"metadata": {"name": "j"}, "spec": {"suspend": true, "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}})).await;
        assert_eq!(code, 201, "{job}");
        let uid = &job["metadata"]["uid"];
        assert_eq!(
            job["spec"]["selector"],
            json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}})
        );
        assert_eq!(
            job["spec"]["template"]["metadata"]["labels"],
            json!({"batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": "j", "controller-uid": uid, "job-name": "j"})
        );
        assert_eq!(
            (&job["spec"]["backoffLimit"], &job["spec"]["completions"], &job["spec"]["parallelism"]),
            (&json!(6), &json!(1), &json!(1))
        );
        s.delete(&format!("{jobs}/j?propagationPolicy=Background")).await;
        s.done().await;
    }
}
