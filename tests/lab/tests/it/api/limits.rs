//! Sizes, names, quotas, Pod Security of workloads, namespaces that end.

use serde_json::{Value, json};

use super::{APPLY, JSON, MERGE, exchange, message, servers};

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

#[tokio::test]
async fn names_and_labels_are_as_long_as_they_may_be_and_no_longer() {
    for s in servers().await {
        let maps = format!("{}?dryRun=All", s.path("configmaps"));
        assert_eq!(s.post(&maps, &map(&"a".repeat(253))).await.0, 201);
        let long = s.post(&maps, &map(&"a".repeat(254))).await;
        assert_eq!(long.0, 422);
        assert!(message(&long).ends_with("must be no more than 253 characters"), "{}", message(&long));
        let namespaces = "/api/v1/namespaces?dryRun=All";
        assert_eq!(s.post(namespaces, &json!({"metadata": {"name": "n".repeat(63)}})).await.0, 201);
        let long = s.post(namespaces, &json!({"metadata": {"name": "n".repeat(64)}})).await;
        assert!(message(&long).contains("metadata.name: Invalid value"), "{}", message(&long));
        let dotted = s.post(namespaces, &json!({"metadata": {"name": "a.b"}})).await;
        assert!(message(&dotted).ends_with("must not contain dots"), "{}", message(&dotted));
        let services = format!("{}?dryRun=All", s.path("services"));
        let service = |name: &str| json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
        assert_eq!(s.post(&services, &service(&"s".repeat(63))).await.0, 201);
        assert_eq!(s.post(&services, &service(&"s".repeat(64))).await.0, 422);
        // From 1.34 on, a service may begin with a digit.
        assert_eq!(s.post(&services, &service("1s")).await.0, if s.is_real() { 201 } else { 422 });
        let mut labelled = map("l");
        for (labels, words) in [
            (json!({"k": "v".repeat(64)}), "must be no more than 63 bytes"),
            (json!({"k".repeat(64): "v"}), "name part must be no more than 63 bytes"),
            (
                json!({"a/b/c": "v"}),
                "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
            ),
            (
                json!({"k": "\u{e4}"}),
                "regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ),
        ] {
            labelled["metadata"]["labels"] = labels;
            let refused = s.post(&maps, &labelled).await;
            assert_eq!(refused.0, 422);
            assert!(message(&refused).ends_with(words), "{}", message(&refused));
        }
        let mut told = map("t");
        told["metadata"]["annotations"] = json!({"example.com/note": "gr\u{fc}n \u{65e5}\u{672c} \u{1f389}"});
        let made = s.post(&maps, &told).await;
        assert_eq!((made.0, &made.1["metadata"]["annotations"]), (201, &told["metadata"]["annotations"]));
        told["metadata"]["annotations"] = json!({"a": "x".repeat(256 * 1024)});
        assert!(message(&s.post(&maps, &told).await).ends_with("may not be more than 262144 bytes"));
        let generated = s.post(&maps, &json!({"metadata": {"generateName": "x".repeat(70)}})).await.1;
        assert_eq!(generated["metadata"]["name"].as_str().unwrap().len(), 63);
        s.done().await;
    }
}

#[tokio::test]
async fn an_object_is_as_large_as_the_store_takes() {
    for s in servers().await {
        let group = format!("{}.example.dev", s.namespace);
        let all = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let definition = json!({"metadata": {"name": format!("blobs.{group}")}, "spec": {"group": group, "scope": "Namespaced",
            "names": {"kind": "Blob", "plural": "blobs"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
        assert_eq!(s.post(all, &definition).await.0, 201);
        let blobs = s.group_path(&format!("{group}/v1"), "blobs");
        s.until(&blobs, |code, _| code == 200).await;
        let blob = |name: &str, size: usize| json!({"apiVersion": format!("{group}/v1"), "kind": "Blob", "metadata": {"name": name}, "spec": {"x": "y".repeat(size)}});
        assert_eq!(s.post(&blobs, &blob("a", 1_500_000)).await.0, 201);
        for (size, words) in [
            (1_600_000, "etcdserver: request is too large"),
            (2_200_000, "trying to send message larger than max"),
        ] {
            let refused = s.post(&blobs, &blob("b", size)).await;
            assert_eq!(refused.0, 500);
            assert!(message(&refused).contains(words), "{}", message(&refused));
            let refused = s.patch(&format!("{blobs}/b?fieldManager=m"), APPLY, &blob("b", size)).await;
            assert_eq!(refused.0, 500);
        }
        // A dry run does not come to the store.
        assert_eq!(s.post(&format!("{blobs}?dryRun=All"), &blob("b", 1_600_000)).await.0, 201);
        let maps = s.path("configmaps");
        let config =
            |size: usize| json!({"metadata": {"name": format!("c{size}")}, "data": {"x": "y".repeat(size)}});
        assert_eq!(s.post(&maps, &config(1024 * 1024)).await.0, 201);
        let refused = s.post(&format!("{maps}?dryRun=All"), &config(1024 * 1024 + 1)).await;
        assert_eq!(refused.0, 422);
        assert!(message(&refused).ends_with("may not be more than 1048576 bytes"), "{}", message(&refused));
        assert_eq!(s.delete(&format!("{all}/blobs.{group}")).await.0, 200);
        s.until(&blobs, |code, _| code == 404).await;
        s.done().await;
    }
}

#[tokio::test]
async fn a_quota_counts_objects_of_any_kind_also_in_a_dry_run() {
    for s in servers().await {
        let quotas = s.path("resourcequotas");
        let hard = json!({"secrets": "1", "services": "2", "services.nodeports": "1", "count/deployments.apps": "1",
            "persistentvolumeclaims": "1", "slow.storageclass.storage.k8s.io/requests.storage": "1Gi"});
        s.post(&quotas, &json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).await;
        s.until(&format!("{quotas}/q"), |_, q| q["status"]["used"]["count/deployments.apps"].is_string())
            .await;
        let deployment = |name: &str| {
            json!({"metadata": {"name": name}, "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
        };
        let service = |name: &str, kind: &str| json!({"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80}]}});
        let claim = |size: &str| {
            json!({"metadata": {"name": "c"}, "spec": {"storageClassName": "slow", "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}}}})
        };
        let deployments = s.group_path("apps/v1", "deployments");
        assert_eq!(s.post(&deployments, &deployment("a")).await.0, 201);
        assert_eq!(s.post(&s.path("secrets"), &json!({"metadata": {"name": "a"}})).await.0, 201);
        assert_eq!(s.post(&s.path("services"), &service("a", "NodePort")).await.0, 201);
        let exceeded = |what: &str, requested: &str, used: &str, limited: &str| {
            format!(
                "exceeded quota: q, requested: {what}={requested}, used: {what}={used}, limited: {what}={limited}"
            )
        };
        for (path, object, words) in [
            (deployments.clone(), deployment("b"), exceeded("count/deployments.apps", "1", "1", "1")),
            (s.path("secrets"), json!({"metadata": {"name": "b"}}), exceeded("secrets", "1", "1", "1")),
            (s.path("services"), service("b", "NodePort"), exceeded("services.nodeports", "1", "1", "1")),
            (
                s.path("persistentvolumeclaims"),
                claim("2Gi"),
                exceeded("slow.storageclass.storage.k8s.io/requests.storage", "2Gi", "0", "1Gi"),
            ),
        ] {
            for dry_run in ["?dryRun=All", ""] {
                let refused = s.post(&format!("{path}{dry_run}"), &object).await;
                assert_eq!(refused.0, 403, "{}", refused.1);
                assert!(message(&refused).ends_with(&words), "{} is not {words}", message(&refused));
            }
        }
        assert_eq!(s.post(&s.path("services"), &service("b", "ClusterIP")).await.0, 201);
        let more = s
            .patch(&format!("{}/b", s.path("services")), MERGE, &json!({"spec": {"type": "NodePort"}}))
            .await;
        assert_eq!(more.0, 403, "{}", more.1);
        s.done().await;
    }
}

#[tokio::test]
async fn workloads_whose_pods_will_be_refused_are_taken_with_a_warning() {
    for s in servers().await {
        let home = format!("/api/v1/namespaces/{}", s.namespace);
        let level =
            |level: &str| json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
        let unknown = s.patch(&format!("{home}?dryRun=All"), MERGE, &level("strict")).await;
        assert_eq!(unknown.0, 422);
        assert!(
            message(&unknown).ends_with("must be one of privileged, baseline, restricted"),
            "{}",
            message(&unknown)
        );
        assert_eq!(s.patch(&home, MERGE, &level("baseline")).await.0, 200);
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 0,
            "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
                "spec": {"hostNetwork": true, "containers": [{"name": "c", "image": "i"}]}}}});
        let path = format!("{}/d?fieldManager=m&dryRun=All", s.group_path("apps/v1", "deployments"));
        let words = "would violate PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)";
        let deadline = tokio::time::Instant::now() + super::PATIENCE;
        // The plugin may see the label a moment later.
        loop {
            let taken = exchange(&s.client, "PATCH", &path, (APPLY, JSON), deployment.to_string()).await;
            assert_eq!(taken.code, 201, "{taken:?}");
            if taken.warnings == [words] {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{:?}", taken.warnings);
        }
        s.done().await;
    }
}

#[tokio::test]
async fn nothing_new_comes_into_a_namespace_that_ends() {
    for s in servers().await {
        let name = format!("{}-x", s.namespace);
        let home = format!("/api/v1/namespaces/{name}");
        assert_eq!(s.post("/api/v1/namespaces", &json!({"metadata": {"name": name}})).await.0, 201);
        let maps = format!("{home}/configmaps");
        let mut held = map("held");
        held["metadata"]["finalizers"] = json!(["lab.isthmus.dev/test"]);
        assert_eq!(s.post(&maps, &held).await.0, 201);
        assert_eq!(s.delete(&home).await.1["status"]["phase"], "Terminating");
        let words =
            format!("unable to create new content in namespace {name} because it is being terminated");
        for dry_run in ["", "?dryRun=All"] {
            let refused = s.post(&format!("{maps}{dry_run}"), &map("late")).await;
            assert_eq!(refused.0, 403, "{}", refused.1);
            assert!(message(&refused).ends_with(&words), "{}", message(&refused));
            assert_eq!(refused.1["details"]["causes"][0]["reason"], "NamespaceTerminating");
        }
        let refused = s.patch(&format!("{maps}/late?fieldManager=m"), APPLY, &map("late")).await;
        assert_eq!(refused.0, 403);
        // The embedded server has no controller here that would empty the namespace.
        assert_eq!(
            s.patch(&format!("{maps}/held"), MERGE, &json!({"metadata": {"finalizers": null}})).await.0,
            200
        );
        if s.is_real() {
            s.until(&home, |code, _| code == 404).await;
        }
        s.done().await;
    }
}
