//! An operator, its definitions and rights, and the resources that it keeps.

use isthmus_lab::trees::{CompareOptions, compare_trees};
use isthmus_shared::protocol::ObjectAction;
use isthmus_shared::resources::MIGRATED_BY;
use serde_json::{Value, json};

use crate::reading::text;
use crate::world::{World, eventually};

const OPERATOR: &str = include_str!("../../cases/operator.yaml");
const ORDERS: &str = "/apis/data.example.com/v1/namespaces/databases/databases/orders";
const CLAIM: &str = "/api/v1/namespaces/databases/persistentvolumeclaims/orders-data";

/// What an operator makes for its resource `orders`, as it makes it.
async fn kept_by_the_operator(world: &World) {
    let orders = world.get("east", ORDERS).await;
    let uid = text(&orders, "/metadata/uid");
    let owned = |kind: &str, name: &str, rest: Value| {
        let mut object = json!({
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {
                "name": name,
                "ownerReferences": [{"apiVersion": "data.example.com/v1", "kind": "Database", "name": "orders",
                                     "uid": uid, "controller": true, "blockOwnerDeletion": true}],
            },
        });
        object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        object
    };
    let config = owned("ConfigMap", "orders-config", json!({"data": {"port": "5432"}}));
    let credentials = owned("Secret", "orders-credentials", json!({"stringData": {"password": "not-one"}}));
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let claim = owned("PersistentVolumeClaim", "orders-data", json!({ "spec": spec }));
    let namespace = "/api/v1/namespaces/databases";
    world.post("east", &format!("{namespace}/configmaps"), &config).await;
    world.post("east", &format!("{namespace}/secrets"), &credentials).await;
    world.post("east", &format!("{namespace}/persistentvolumeclaims"), &claim).await;
    let volume = world.volume("east", "databases", "orders-data").await;
    std::fs::write(volume.join("table"), "a thousand orders").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_arrives_with_all_that_it_needs_and_what_it_makes_stays_behind() {
    let world = World::shared().await;
    world.apply("east", OPERATOR).await;
    kept_by_the_operator(world).await;
    eventually("the operator to run", || async {
        let operator = world.get("east", "/apis/apps/v1/namespaces/databases/deployments/db-operator").await;
        let ready = operator.pointer("/status/readyReplicas") == Some(&json!(2));
        if ready { Ok(()) } else { Err(operator.to_string()) }
    })
    .await;

    let report = world.run("operator", json!({"namespaces": ["databases"]})).await.succeeded();

    report.came_to(
        ObjectAction::Created,
        &[
            "CustomResourceDefinition databases.data.example.com",
            "ClusterRole db-operator",
            "ClusterRoleBinding db-operator",
            "PriorityClass db-critical",
            "ValidatingWebhookConfiguration db-operator",
            "Database databases/orders",
            "Database databases/sessions",
            "Deployment databases/db-operator",
            "PersistentVolumeClaim databases/orders-data",
            "Role databases/leader",
            "RoleBinding databases/leader",
            "Secret databases/db-operator-token",
            "Secret databases/registry",
            "Service databases/db-operator-webhook",
            "ServiceAccount databases/db-operator",
        ],
    );
    report
        .left_behind("Owned", &["ConfigMap databases/orders-config", "Secret databases/orders-credentials"]);
    report.left_behind("Lease", &["Lease databases/db-operator"]);
    report.left_behind("Generated", &["ConfigMap databases/kube-root-ca.crt"]);
    let pods = report.objects.iter().filter(|object| object.kind == "Pod").count();
    assert_eq!(pods, 2, "both Pods of the operator are told of");

    // What nobody in the namespace uses is nothing of this migration's.
    for stranger in [
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/nobody-in-databases",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/nobody-in-databases",
        "/apis/scheduling.k8s.io/v1/priorityclasses/db-unused",
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/not-of-databases",
        "/api/v1/namespaces/databases/configmaps/orders-config",
        "/api/v1/namespaces/databases/secrets/orders-credentials",
    ] {
        assert_eq!(world.find("west", stranger).await, None, "{stranger} was brought along");
    }
    // A token that a person asked for is asked for anew: the source's would be good for nothing.
    let token = "/api/v1/namespaces/databases/secrets/db-operator-token";
    let (here, there) = (world.get("east", token).await, world.get("west", token).await);
    let token = |secret: &Value| secret.pointer("/data/token").cloned();
    assert!(token(&there).is_none() || token(&there) != token(&here), "the source's token was brought along");

    // The definition serves both of its versions, and its resources are as they were.
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/databases.data.example.com";
    let definition = world.get("west", definition).await;
    let conditions = definition.pointer("/status/conditions").unwrap().as_array().unwrap();
    assert!(conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True"), "{conditions:?}");
    let orders = world.get("west", ORDERS).await;
    let at_home = world.get("east", ORDERS).await;
    assert_eq!(orders["spec"], at_home["spec"]);
    assert_eq!(orders.pointer("/metadata/finalizers"), None, "nobody on the destination would remove it");
    assert!(!text(&at_home, "/metadata/finalizers/0").is_empty(), "the source is left alone");
    let older = ORDERS.replace("/v1/", "/v1beta1/");
    assert_eq!(world.get("west", &older).await["spec"], at_home["spec"]);

    // The claim is owned by the resource of the destination, not by the uid of the source's.
    let claim = world.get("west", CLAIM).await;
    let owner = claim.pointer("/metadata/ownerReferences/0").unwrap_or_else(|| panic!("no owner: {claim}"));
    assert_eq!((&owner["kind"], &owner["name"]), (&json!("Database"), &json!("orders")));
    assert_eq!(owner["uid"], orders.pointer("/metadata/uid").unwrap().clone());
    let east = world.volume("east", "databases", "orders-data").await;
    let west = world.volume("west", "databases", "orders-data").await;
    let differences = compare_trees(&east, &west, &CompareOptions::default()).unwrap();
    assert!(differences.is_empty(), "{differences:?}");

    let account = world.get("west", "/api/v1/namespaces/databases/serviceaccounts/db-operator").await;
    assert_eq!(account["imagePullSecrets"], json!([{"name": "registry"}]));
    assert_eq!(account.pointer("/metadata/annotations/iam.example.com~1role"), Some(&json!("databases")));
    assert!(account.pointer("/metadata/labels").unwrap().get(MIGRATED_BY).is_some(), "{account}");
    let hook = world
        .get("west", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/db-operator")
        .await;
    assert_eq!(hook.pointer("/webhooks/0/clientConfig/service/namespace"), Some(&json!("databases")));

    let details = world.isthmus(&["migration", "describe", "operator", "--details"]).await.ends_with(0).out;
    for told in [
        "orders-config",
        "Owned",
        "db-operator-token",
        "registry",
        "databases.data.example.com",
        "db-critical",
    ] {
        assert!(details.contains(told), "{told} is not in:\n{details}");
    }

    // Again: nothing is written, whatever its scope.
    let again = world.run("operator-again", json!({"namespaces": ["databases"]})).await.succeeded();
    let written = [again.all(ObjectAction::Created), again.all(ObjectAction::Updated)].concat();
    assert!(written.is_empty(), "written by a second run: {written:?}");
    assert_eq!(world.get("west", ORDERS).await, orders);
}
