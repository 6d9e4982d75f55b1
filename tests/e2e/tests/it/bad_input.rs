//! Bad input: each ends in a message that names the object and what to do, and changes nothing.

use isthmus_lab::s3::KeyAccess;
use isthmus_shared::resources::{LinkState, MigrationPhase, MigrationStatus};

use crate::app::objects;
use crate::world::{PAIR, World};

const SMALL: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: NAME}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: NAME}
data: {colour: blue}
";

fn small(namespace: &str) -> String {
    SMALL.replace("NAME", namespace)
}

/// Runs a migration that must fail before it changes anything, and gives back what it said.
async fn refused(world: &World, namespace: &str, name: &str) -> MigrationStatus {
    let before = objects(world.client("east"), namespace).await;
    let there = objects(world.client("west"), namespace).await;
    let said =
        world.isthmus(&["migrate", namespace, "--pair", PAIR, "--name", name, "--wait"]).await.ends_with(1);
    let status = world.migration(name).await;
    assert_eq!(status.status, MigrationPhase::Failed, "{status:?}");
    let finding = status.failures.first().unwrap_or_else(|| panic!("no failure in {status:?}"));
    assert!(said.all().contains(&finding.message), "{} is not in\n{}", finding.message, said.all());
    assert_eq!(objects(world.client("east"), namespace).await, before, "the source changed");
    assert_eq!(objects(world.client("west"), namespace).await, there, "the destination changed");
    status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_move_is_refused_by_name_and_nothing_changes() {
    let world = World::start().await;

    let missing = refused(&world, "ghost", "missing").await;
    assert!(missing.failures[0].object.contains("ghost"), "{missing:?}");

    world.apply("east", &small("taken")).await;
    world.apply("west", &small("taken").replace("blue", "red")).await;
    let taken = refused(&world, "taken", "taken").await;
    assert!(taken.failures.iter().any(|f| f.object.contains("ConfigMap taken/settings")), "{taken:?}");

    world.apply("east", &small("classy")).await;
    world
        .apply(
            "east",
            r"
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: only-east}
provisioner: lab.isthmus.dev/local
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: classy}
spec:
  storageClassName: only-east
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
",
        )
        .await;
    world.volume("east", "classy", "data").await;
    let class = refused(&world, "classy", "class").await;
    let finding = &class.failures[0];
    assert!(finding.object.contains("classy/data") && finding.message.contains("only-east"), "{class:?}");

    world.apply("east", &small("strange")).await;
    let crd = |version: &str| {
        format!(
            r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: widgets.example.com}}
spec:
  group: example.com
  names: {{kind: Widget, plural: widgets, singular: widget, listKind: WidgetList}}
  scope: Namespaced
  versions:
  - name: {version}
    served: true
    storage: true
    schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}
"
        )
    };
    world.apply("east", &crd("v1beta1")).await;
    world.apply("west", &crd("v1")).await;
    crate::world::eventually("east to serve widgets", || async {
        let client = world.client("east");
        let request = http_get("/apis/example.com/v1beta1");
        client.request_text(request).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    world
        .apply(
            "east",
            "apiVersion: example.com/v1beta1\nkind: Widget\nmetadata: {name: one, namespace: strange}",
        )
        .await;
    let kind = refused(&world, "strange", "kind").await;
    assert!(kind.failures.iter().any(|f| f.object == "example.com/v1beta1 Widget"), "{kind:?}");

    let taken_name =
        world.isthmus(&["migrate", "taken", "--pair", PAIR, "--name", "missing"]).await.ends_with(1);
    assert!(taken_name.all().contains("missing"), "{}", taken_name.all());
    let no_pair = world.isthmus(&["migrate", "taken", "--pair", "nowhere"]).await.ends_with(1);
    assert!(no_pair.all().contains("nowhere"), "{}", no_pair.all());
    world.isthmus(&["migrate", "Not_A_Name", "--pair", PAIR]).await.ends_with(2);
}

fn http_get(path: &str) -> http::Request<Vec<u8>> {
    http::Request::get(path).body(Vec::new()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_without_write_access_keeps_the_pair_from_becoming_ready() {
    let world = World::joined().await;
    let keys = world.lab.s3().keys().add(KeyAccess::ReadOnly);
    world.create_store("stage", &keys).await;
    let pair = ["pair", "create", PAIR, "--source", "east", "--destination", "west", "--store", "stage"];
    world.isthmus(&pair).await.ends_with(0);
    let pair = world
        .pair_is(PAIR, "in error for its store", |pair, _, storage| {
            let told =
                pair.status.as_ref().and_then(|status| status.storage_message.as_deref()).unwrap_or_default();
            storage == LinkState::Error && told.contains("isthmus") && told.contains("denies")
        })
        .await;
    let status = pair.status.unwrap();
    assert_eq!(status.scheduler_status, LinkState::Ready, "{status:?}");
    let described = world.isthmus(&["pair", "describe", PAIR]).await.ends_with(0).out;
    assert!(described.contains("denies"), "{described}");

    // A migration through it waits, says for what, and touches nothing.
    world.apply("east", &small("patient")).await;
    world.begin("patient", "waits").await;
    let waiting = world
        .migration_is("waits", "waiting for its pair", |status| {
            status.status == MigrationPhase::Pending && status.message.is_some()
        })
        .await;
    assert!(waiting.message.as_deref().unwrap_or_default().contains(PAIR), "{waiting:?}");
    assert!(objects(world.client("west"), "patient").await.is_empty());

    // Once the keys may write, it begins by itself.
    world.lab.s3().keys().restore(&keys, KeyAccess::ReadWrite);
    world.migration_is("waits", "done", |status| status.status == MigrationPhase::Succeeded).await;
}
