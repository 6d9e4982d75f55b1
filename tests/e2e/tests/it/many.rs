//! Five thousand objects in one namespace.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use isthmus_shared::protocol::ObjectAction;
use serde_json::{Value, json};

use crate::reading::{in_namespace, versions};
use crate::world::{World, eventually};

const NAMESPACE: &str = "many";
/// Requests in flight while the source is filled.
const PARALLEL: usize = 24;
/// What a run over all of them may take, on a machine that runs three clusters beside it.
const PATIENCE: Duration = Duration::from_mins(2);

/// The kinds, and how many there are of each.
const KINDS: [(&str, &str, usize); 5] = [
    ("ConfigMap", "/api/v1/namespaces/many/configmaps", 2_500),
    ("Secret", "/api/v1/namespaces/many/secrets", 1_500),
    ("ServiceAccount", "/api/v1/namespaces/many/serviceaccounts", 500),
    ("Service", "/api/v1/namespaces/many/services", 400),
    ("Deployment", "/apis/apps/v1/namespaces/many/deployments", 100),
];

fn object(kind: &str, number: usize) -> Value {
    let name = format!("{}-{number:05}", kind.to_lowercase());
    let label = format!("group-{}", number % 7);
    let metadata =
        json!({"name": name, "labels": {"group": label}, "annotations": {"number": number.to_string()}});
    let rest = match kind {
        "ConfigMap" => json!({"data": {"number": number.to_string(), "text": "settings ".repeat(20)}}),
        "Secret" => json!({"stringData": {"password": format!("not-a-secret-{number}")}}),
        "ServiceAccount" => json!({"automountServiceAccountToken": false}),
        "Service" => {
            json!({"spec": {"ports": [{"name": "http", "port": 80}, {"name": "admin", "port": 8080}]}})
        }
        _ => json!({"apiVersion": "apps/v1", "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "many:1"}]}},
        }}),
    };
    let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": metadata});
    object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    object
}

/// Puts them all on the source.
async fn fill(world: &World) {
    let client = world.client("east");
    let all =
        KINDS.iter().flat_map(|(kind, path, count)| (0..*count).map(move |number| (kind, path, number)));
    stream::iter(all)
        .map(|(kind, path, number)| {
            let client = client.clone();
            async move {
                let request = http::Request::post(*path)
                    .header("content-type", "application/json")
                    .body(serde_json::to_vec(&object(kind, number)).unwrap())
                    .unwrap();
                client.request::<Value>(request).await.map(drop)
            }
        })
        .buffer_unordered(PARALLEL)
        .try_collect::<()>()
        .await
        .unwrap();
}

/// How many objects of each kind there are.
fn counts(objects: &BTreeMap<String, Value>) -> Vec<usize> {
    let of = |kind: &str| {
        let prefix = format!("{kind} {NAMESPACE}/{}-", kind.to_lowercase());
        objects.keys().filter(|name| name.starts_with(&prefix)).count()
    };
    KINDS.iter().map(|(kind, ..)| of(kind)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_objects_arrive_and_a_second_run_writes_none_of_them() {
    let world = World::start().await;
    world.apply("east", &format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}")).await;
    fill(&world).await;
    let total: usize = KINDS.iter().map(|(.., count)| count).sum();
    assert_eq!(total, 5_000);

    let began = Instant::now();
    let report = world.run("many", json!({"namespaces": [NAMESPACE]})).await.succeeded();
    assert!(began.elapsed() < PATIENCE, "it took {:?}", began.elapsed());
    let ours = |report: &crate::runs::Report, action| {
        let named = |name: &String| {
            KINDS.iter().any(|(kind, ..)| name.contains(&format!("{}-", kind.to_lowercase())))
        };
        report.all(action).iter().filter(|name| named(name)).count()
    };
    assert_eq!(ours(&report, ObjectAction::Created), total);
    assert!(report.status.resources.created >= 5_000, "{:?}", report.status.resources);
    assert_eq!(report.status.resources.done, report.status.resources.total, "{:?}", report.status.resources);

    // Controllers write on what arrives, and come to rest.
    let arrived = eventually("the controllers to be done with what arrived", || async {
        let first = in_namespace(world.client("west"), NAMESPACE).await;
        let second = in_namespace(world.client("west"), NAMESPACE).await;
        let unseen = second.iter().find(|(name, object)| {
            let generation = |pointer| object.pointer(pointer).and_then(Value::as_i64);
            name.starts_with("Deployment ")
                && generation("/status/observedGeneration") != generation("/metadata/generation")
        });
        match unseen {
            Some((name, _)) => Err(format!("{name} is not observed")),
            None if versions(&first) != versions(&second) => Err("something was written".to_owned()),
            None => Ok(second),
        }
    })
    .await;
    assert_eq!(counts(&arrived), KINDS.map(|(.., count)| count));
    let at_home = in_namespace(world.client("east"), NAMESPACE).await;
    for (name, here) in
        at_home.iter().filter(|(name, _)| name.contains("configmap-") || name.contains("secret-"))
    {
        assert_eq!(arrived[name]["data"], here["data"], "{name}");
    }

    let began = Instant::now();
    let again = world.run("many-again", json!({"namespaces": [NAMESPACE]})).await.succeeded();
    assert!(began.elapsed() < PATIENCE, "it took {:?}", began.elapsed());
    assert_eq!(again.all(ObjectAction::Created), Vec::<String>::new());
    assert_eq!(again.all(ObjectAction::Updated), Vec::<String>::new());
    assert_eq!(ours(&again, ObjectAction::Unchanged), total);
    let after = versions(&in_namespace(world.client("west"), NAMESPACE).await);
    for (name, version) in versions(&arrived).iter().filter(|(name, _)| !name.starts_with("Event ")) {
        assert_eq!(after.get(name), Some(version), "{name} was written");
    }
}
