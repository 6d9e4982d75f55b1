//! `isthmus diff`: what a migration would do, and what would be in its way, with nothing changed.

use std::collections::BTreeMap;

use serde_json::json;

use crate::app::CMS_OBJECTS;
use crate::obstacles::{self, CRITICAL, NAMESPACES, OBSTACLES};
use crate::reading::{everything, text, versions};
use crate::world::{PAIR, Said, World, eventually};

/// What is in a cluster, each object with its resourceVersion.
pub async fn standing(world: &World, cluster: &str) -> BTreeMap<String, String> {
    // Controllers go on reporting on what runs.
    let of_controllers =
        ["Deployment ", "ReplicaSet ", "Pod ", "Endpoints ", "EndpointSlice ", "APIService "];
    let mut versions = versions(&everything(world.client(cluster)).await);
    for (name, version) in &mut versions {
        if of_controllers.iter().any(|kind| name.starts_with(kind)) {
            version.clear();
        }
    }
    versions
}

/// Runs `isthmus diff`, which must change neither cluster.
pub async fn diff(world: &World, arguments: &[&str]) -> Said {
    let (east, west) = (standing(world, "east").await, standing(world, "west").await);
    let said = world.isthmus(&[&["diff"], arguments, &["--pair", PAIR]].concat()).await;
    assert_eq!(standing(world, "east").await, east, "the source changed");
    assert_eq!(standing(world, "west").await, west, "the destination changed");
    // Nor do the record and what it staged stay.
    eventually("all traces of the dry run to be gone", || async {
        let records = world.isthmus(&["migration", "list"]).await.ends_with(0).out;
        let staged = world.lab.s3().list("isthmus", "").len();
        let gone = !records.contains("diff-");
        if gone { Ok(()) } else { Err(format!("{staged} keys\n{records}")) }
    })
    .await;
    said
}

/// Whether a diff in a command's output has this line with this sign.
fn has(said: &Said, sign: char, line: &str) -> bool {
    let is = |l: &str| l.trim_start().strip_prefix(sign).is_some_and(|rest| rest.trim() == line);
    said.out.lines().any(is)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diff_shows_what_would_be_made_and_changed_and_touches_nothing() {
    let world = World::start().await;
    world.install_cms("cms").await;
    // An object that nobody holds on to: each field is a plain value.
    let secret = "/api/v1/namespaces/cms/secrets/mysql-pass";

    let said = diff(&world, &["cms"]).await.ends_with(0);
    for object in CMS_OBJECTS {
        let name = object.split_once('/').unwrap().1;
        assert!(said.out.contains(name), "{object} is not in\n{}", said.all());
    }
    assert_eq!(world.find("west", "/api/v1/namespaces/cms").await, None);
    let password = text(&world.get("east", secret).await, "/data/password").to_owned();
    assert!(!said.all().contains(&password) && !said.all().contains("not-a-real-password"), "{}", said.all());

    world.isthmus(&["migrate", "cms", "--pair", PAIR, "--name", "first", "--wait"]).await.ends_with(0);
    let settings = json!({"data": {"upload_max": "128M"}});
    world.patch("east", "/api/v1/namespaces/cms/configmaps/wp-settings", settings).await;
    world.patch("east", secret, json!({"data": {"password": "bmV3LXBhc3N3b3Jk"}})).await;
    world.apply("east", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: brand-new, namespace: cms}").await;
    world
        .apply(
            "west",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: by-hand, namespace: cms}\ndata: {a: b}",
        )
        .await;
    let said = diff(&world, &["cms"]).await.ends_with(0);
    assert!(has(&said, '-', "upload_max: 64M") && has(&said, '+', "upload_max: 128M"), "{}", said.all());
    assert!(said.out.contains("brand-new") && said.out.contains("mysql-pass"), "{}", said.all());
    for value in [password.as_str(), "bmV3LXBhc3N3b3Jk", "new-password", "not-a-real-password"] {
        assert!(!said.all().contains(value), "a Secret's value is shown:\n{}", said.all());
    }

    // What another's hands made is refused by name, with the difference.
    world
        .apply(
            "east",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: by-hand, namespace: cms}\ndata: {a: c}",
        )
        .await;
    let said = diff(&world, &["cms"]).await;
    assert_ne!(said.code, 0, "{}", said.all());
    assert!(said.all().contains("by-hand"), "{}", said.all());

    // As a record, and under another name.
    let dry = json!({"namespaces": [{"cms": "cms-green"}], "dryRun": true});
    let report = world.run("dry", dry).await.succeeded();
    assert_eq!(report.of("ConfigMap cms-green/wp-settings").namespace.as_deref(), Some("cms-green"));
    assert_eq!(world.find("west", "/api/v1/namespaces/cms-green").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diff_names_everything_that_would_be_in_the_way() {
    let world = World::start().await;
    obstacles::put(&world).await;
    let said = diff(&world, &[&NAMESPACES[..], &["--quiesce"]].concat()).await;
    assert_eq!(said.code, 1, "{}", said.all());
    let all = said.all();
    for (_, _, object, part) in OBSTACLES {
        let name = object.rsplit('/').next().unwrap_or(object);
        assert!(all.contains(name) && all.contains(part), "{part} of {object} is not in\n{all}");
    }

    // The run itself is refused for the same, and leaves the destination alone.
    let before = standing(&world, "west").await;
    let report = world.run("tight", json!({"namespaces": NAMESPACES, "quiesce": true})).await.failed();
    for (_, reason, object, _) in OBSTACLES.iter().filter(|(severity, ..)| *severity == CRITICAL) {
        let told = report.status.failures.iter().any(|f| f.object == *object && f.reason == *reason);
        assert!(told, "{reason} of {object}: {:#?}", report.status.failures);
    }
    assert_eq!(standing(&world, "west").await, before);
}
