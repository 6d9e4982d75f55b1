//! Tokens, reviews and RBAC.

use serde_json::{Value, json};

use super::{JSON, message, send, servers};

#[tokio::test]
async fn an_accounts_token_may_do_what_its_roles_say_and_dies_with_the_account() {
    for s in servers().await {
        let ns = s.namespace.clone();
        let accounts = s.path("serviceaccounts");
        s.post(&accounts, &json!({"metadata": {"name": "app"}})).await;
        let roles = s.group_path("rbac.authorization.k8s.io/v1", "roles");
        let bindings = s.group_path("rbac.authorization.k8s.io/v1", "rolebindings");
        let role = json!({"metadata": {"name": "r"}, "rules": [
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]},
            {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["create"]}]});
        assert_eq!(s.post(&roles, &role).await.0, 201);
        let binding = json!({"metadata": {"name": "b"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
            "subjects": [{"kind": "ServiceAccount", "name": "app", "namespace": ns}]});
        assert_eq!(s.post(&bindings, &binding).await.0, 201);
        let (code, answer) =
            s.post(&format!("{accounts}/app/token"), &json!({"spec": {"expirationSeconds": 600}})).await;
        assert_eq!(code, 201, "{answer}");
        let app = s.with_token(answer["status"]["token"].as_str().unwrap()).await;
        // An authorizer may learn of the binding a moment later.
        let deadline = tokio::time::Instant::now() + super::PATIENCE;
        while send(&app, "GET", &s.path("configmaps"), JSON, &Value::Null).await.0 != 200 {
            assert!(tokio::time::Instant::now() < deadline, "the binding has no effect");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let refused = send(&app, "GET", &s.path("secrets"), JSON, &Value::Null).await;
        assert_eq!(
            (refused.0, message(&refused)),
            (403, format!("secrets is forbidden: User \"system:serviceaccount:{ns}:app\" cannot list resource \"secrets\" in API group \"\" in the namespace \"{ns}\"").as_str())
        );
        let more = json!({"metadata": {"name": "more"}, "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
        let escalation = send(&app, "POST", &roles, JSON, &more).await;
        assert_eq!(escalation.0, 403);
        assert!(
            message(&escalation).contains("is attempting to grant RBAC permissions not currently held"),
            "{}",
            message(&escalation)
        );
        let who = send(
            &app,
            "POST",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            JSON,
            &json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}),
        )
        .await;
        assert_eq!(who.1["status"]["userInfo"]["username"], format!("system:serviceaccount:{ns}:app"));
        s.delete(&format!("{accounts}/app")).await;
        let deadline = tokio::time::Instant::now() + super::PATIENCE;
        while send(&app, "GET", &s.path("configmaps"), JSON, &Value::Null).await.0 != 401 {
            assert!(tokio::time::Instant::now() < deadline, "the token outlives its account");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        s.done().await;
    }
}

#[tokio::test]
async fn a_pods_token_is_good_for_its_audience_and_names_the_pod() {
    for s in servers().await {
        let pods = s.path("pods");
        let (code, pod) = s
            .post(
                &pods,
                &json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
            )
            .await;
        assert_eq!(code, 201, "{pod}");
        assert!(pod["spec"]["volumes"][0]["name"].as_str().unwrap().starts_with("kube-api-access-"), "{pod}");
        assert_eq!(
            pod["spec"]["containers"][0]["volumeMounts"][0]["mountPath"],
            "/var/run/secrets/kubernetes.io/serviceaccount"
        );
        let uid = pod["metadata"]["uid"].as_str().unwrap();
        let request = json!({"spec": {"audiences": ["isthmus-spoke"], "expirationSeconds": 3600,
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}}});
        let (code, answer) = s.post(&format!("{}/default/token", s.path("serviceaccounts")), &request).await;
        assert_eq!(code, 201, "{answer}");
        let token = answer["status"]["token"].as_str().unwrap();
        let review = |audience: &str| json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token, "audiences": [audience]}});
        let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
        let good = s.post(reviews, &review("isthmus-spoke")).await.1;
        assert_eq!(good["status"]["authenticated"], true, "{good}");
        assert_eq!(good["status"]["audiences"], json!(["isthmus-spoke"]));
        let extra = &good["status"]["user"]["extra"];
        assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["p"]));
        assert_eq!(extra["authentication.kubernetes.io/pod-uid"], json!([uid]));
        assert_ne!(s.post(reviews, &review("other")).await.1["status"]["authenticated"], true);
        let other = s.with_token(token).await;
        assert_eq!(send(&other, "GET", "/api/v1/namespaces", JSON, &Value::Null).await.0, 401);
        send(&s.client, "DELETE", &format!("{pods}/p"), JSON, &json!({"gracePeriodSeconds": 0})).await;
        s.until(&format!("{pods}/p"), |code, _| code == 404).await;
        let deadline = tokio::time::Instant::now() + super::PATIENCE;
        while s.post(reviews, &review("isthmus-spoke")).await.1["status"]["authenticated"] == true {
            assert!(tokio::time::Instant::now() < deadline, "the token outlives its pod");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        s.done().await;
    }
}

#[tokio::test]
async fn access_reviews_answer_for_others() {
    for s in servers().await {
        let review = |user: &str| {
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": user,
            "groups": [if user == "root" { "system:masters" } else { "system:authenticated" }],
            "resourceAttributes": {"verb": "create", "group": "isthmus.dev", "resource": "migrations", "namespace": s.namespace}}})
        };
        let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        assert_eq!(s.post(reviews, &review("root")).await.1["status"]["allowed"], true);
        assert_eq!(s.post(reviews, &review("joe")).await.1["status"]["allowed"], false);
        s.done().await;
    }
}
