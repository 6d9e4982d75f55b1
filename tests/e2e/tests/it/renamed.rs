//! A namespace that gets another name on the destination.

use isthmus_lab::trees::{CompareOptions, compare_trees};
use isthmus_shared::protocol::ObjectAction;
use isthmus_shared::resources::MIGRATION_REPLICAS;
use serde_json::{Value, json};

use crate::reading::{everything, text};
use crate::world::World;

const SHOP: &str = include_str!("../../cases/shop.yaml");
const API_SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

/// An API that the shop's Service serves, or would: nobody answers there.
fn prices() -> Value {
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1.prices.shop.example.com"},
        "spec": {"group": "prices.shop.example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 10,
            "insecureSkipTLSVerify": true, "service": {"namespace": "shop", "name": "web", "port": 8443}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_arrives_under_its_other_name_with_every_reference_to_it() {
    // Not the shared one: an API that nobody answers for is in everybody's way.
    let world = &World::start().await;
    world.apply("east", SHOP).await;
    world.post("east", API_SERVICES, &prices()).await;
    let images = world.volume("east", "shop", "images").await;
    std::fs::write(images.join("logo.svg"), "<svg/>").unwrap();

    let spec = json!({"namespaces": [{"shop": "shop-green"}], "rewriteHostNames": true});
    let report = world.run("green", spec.clone()).await.succeeded();

    let green = |group: &str, plural: &str, name: &str| {
        let prefix = if group == "v1" { "/api/v1".to_owned() } else { format!("/apis/{group}") };
        format!("{prefix}/namespaces/shop-green/{plural}/{name}")
    };
    let west = |path: String| async move { world.get("west", &path).await };
    let namespace = west("/api/v1/namespaces/shop-green".to_owned()).await;
    assert_eq!(text(&namespace, "/metadata/labels/tier"), "front");
    assert_eq!(text(&namespace, "/metadata/labels/kubernetes.io~1metadata.name"), "shop-green");

    let east = world.volume("east", "shop", "images").await;
    let arrived = world.volume("west", "shop-green", "images").await;
    let differences = compare_trees(&east, &arrived, &CompareOptions::default()).unwrap();
    assert!(differences.is_empty(), "{differences:?}");

    let binding = west(green("rbac.authorization.k8s.io/v1", "rolebindings", "reader")).await;
    assert_eq!(text(&binding, "/subjects/0/namespace"), "shop-green");
    assert_eq!(text(&binding, "/subjects/1/namespace"), "monitoring", "of another namespace");
    let binding = west("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/shop-nodes".to_owned()).await;
    assert_eq!(binding.pointer("/subjects").and_then(Value::as_array).map(Vec::len), Some(1), "{binding}");
    assert_eq!(text(&binding, "/subjects/0/namespace"), "shop-green");
    let policy = west(green("networking.k8s.io/v1", "networkpolicies", "from-ourselves")).await;
    let from = policy.pointer("/spec/ingress/0/from").unwrap();
    assert_eq!(from[0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], "shop-green");
    assert_eq!(
        from[1]["namespaceSelector"]["matchExpressions"][0]["values"],
        json!(["monitoring", "shop-green"])
    );
    let monitor = west(green("monitoring.coreos.com/v1", "servicemonitors", "web")).await;
    assert_eq!(
        monitor.pointer("/spec/namespaceSelector/matchNames"),
        Some(&json!(["shop-green", "partners"]))
    );
    let hook =
        west("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/shop-coupons".to_owned())
            .await;
    assert_eq!(text(&hook, "/webhooks/0/clientConfig/service/namespace"), "shop-green");
    let definition =
        west("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/coupons.shop.example.com".to_owned())
            .await;
    let service = "/spec/conversion/webhook/clientConfig/service/namespace";
    assert_eq!(text(&definition, service), "shop-green");
    let prices = west(format!("{API_SERVICES}/v1.prices.shop.example.com")).await;
    assert_eq!(
        prices.pointer("/spec/service"),
        Some(&json!({"namespace": "shop-green", "name": "web", "port": 8443}))
    );
    let scaler = west(green("autoscaling/v2", "horizontalpodautoscalers", "web")).await;
    assert_eq!(text(&scaler, "/spec/scaleTargetRef/name"), "web");

    // Host names of the namespace follow it, and no others; each is told.
    let settings = west(green("v1", "configmaps", "settings")).await;
    assert_eq!(
        settings["data"],
        json!({
            "upstream": "http://api.shop-green.svc.cluster.local:8080/v1",
            "cache": "cache.shop-green.svc:6379",
            "partner": "http://api.partners.svc.cluster.local",
            "workshop": "http://tools.workshop.svc.cluster.local",
        })
    );
    let web = west(green("apps/v1", "deployments", "web")).await;
    let container = web.pointer("/spec/template/spec/containers/0").unwrap();
    assert_eq!(container["args"], json!(["--cache=cache.shop-green.svc", "--verbose"]));
    assert_eq!(container["env"][0]["value"], "http://api.shop-green.svc.cluster.local:8080");
    let details = world.isthmus(&["migration", "describe", "green", "--details"]).await.ends_with(0).out;
    for host in ["api.shop.svc", "cache.shop.svc"] {
        assert!(details.contains(host), "that {host} was rewritten is not told in\n{details}");
    }

    // Nothing is under the old name, whether a namespace or an object in one.
    let all = everything(world.client("west")).await;
    let old: Vec<&String> =
        all.keys().filter(|name| *name == "Namespace shop" || name.contains(" shop/")).collect();
    assert!(old.is_empty(), "under the old name: {old:?}");

    // It stands still until it is started by its new name.
    assert_eq!(web.pointer("/spec/replicas"), Some(&json!(0)));
    assert_eq!(web.pointer("/metadata/annotations").unwrap()[MIGRATION_REPLICAS], "2");
    world.isthmus(&["activate", "shop-green", "--cluster", "west"]).await.ends_with(0);
    let web = west(green("apps/v1", "deployments", "web")).await;
    assert_eq!(web.pointer("/spec/replicas"), Some(&json!(2)));
    world.isthmus(&["deactivate", "shop-green", "--cluster", "west"]).await.ends_with(0);

    let again = world.run("green-again", spec).await.succeeded();
    assert_eq!(again.all(ObjectAction::Created), Vec::<String>::new());
    assert_eq!(again.all(ObjectAction::Updated), Vec::<String>::new());
    assert!(report.status.resources.created >= 12, "{:?}", report.status.resources);
}
