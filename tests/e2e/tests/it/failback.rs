//! The way back of a cutover: what was handed over is brought up to date, only what changed is moved,
//! and nothing of the first way is left that would act later.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use isthmus_lab::LabOptions;
use isthmus_lab::trees::{CompareOptions, compare_trees};
use isthmus_shared::protocol::ObjectAction;
use isthmus_shared::resources::{
    Active, MIGRATED_BY, MIGRATION_REPLICAS, Migration, MigrationSchedule, MigrationStatus, QUIESCED_BY,
    SCHEDULE,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

use crate::app::{CLAIMS, objects};
use crate::cutover::{marked, marks, running};
use crate::hooks;
use crate::volume_choices as choices;
use crate::volume_options::noise;
use crate::world::{NAMESPACE, PAIR, World, eventually};

fn deployment(namespace: &str, name: &str) -> String {
    format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
}

fn config(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps/{name}")
}

async fn are_equal(world: &World, (a, in_a): (&str, &str), (b, in_b): (&str, &str)) {
    for claim in CLAIMS {
        let (a, b) = (world.volume(a, in_a, claim).await, world.volume(b, in_b, claim).await);
        let differences = compare_trees(&a, &b, &CompareOptions::default()).unwrap();
        assert!(differences.is_empty(), "{claim}: {differences:?}");
    }
}

/// The packs in staging with their sizes.
fn packs(world: &World) -> BTreeMap<String, u64> {
    let s3 = world.lab.s3();
    let keys = s3.list("isthmus", "").into_iter().filter(|key| key.contains("/packs/"));
    keys.map(|key| (key.clone(), s3.object_file("isthmus", &key).unwrap().metadata().unwrap().len()))
        .collect()
}

/// The bytes of packs that have come since.
fn uploaded_since(world: &World, before: &BTreeMap<String, u64>) -> u64 {
    packs(world).into_iter().filter(|(key, _)| !before.contains_key(key)).map(|(_, size)| size).sum()
}

fn uids(status: &MigrationStatus) -> Vec<&str> {
    status.volumes.iter().map(|volume| volume.uid.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_cut_over_comes_back_with_its_changes_and_is_not_made_ours() {
    let world = World::start_on(LabOptions::default()).await;
    world.install_cms("shop").await;
    let extra = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: retired, namespace: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: retired}}
  template:
    metadata: {labels: {app: retired}}
    spec: {containers: [{name: retired, image: "retired:1"}]}
"#;
    world.apply("east", extra).await;
    let data = world.volume("east", "shop", CLAIMS[0]).await;
    fs::write(data.join("noise"), noise(1, 6 << 20)).unwrap();
    let spec = json!({"namespaces": ["shop:shop-green"], "quiesce": true});
    let there = world.run("there", spec).await.succeeded().status;
    assert_eq!(running(world.client("east"), "shop").await, Vec::<String>::new());

    // What happens on the other side meanwhile.
    let (green, before) = ("shop-green", packs(&world));
    world.patch("west", &deployment(green, "wordpress"), json!({"spec": {"replicas": 2}})).await;
    let patch = json!({"data": {"upload_max": null, "new-key": "new"}});
    world.patch("west", &config(green, "wp-settings"), patch).await;
    let made = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: made-there, namespace: shop-green}\ndata: {key: value}";
    world.apply("west", made).await;
    world.delete("west", &deployment(green, "retired")).await;
    let volume = world.volume("west", green, CLAIMS[0]).await;
    File::options()
        .write(true)
        .open(volume.join("noise"))
        .unwrap()
        .write_all_at(b"later", 1_000_000)
        .unwrap();
    fs::write(volume.join("deep/new"), noise(2, 5000)).unwrap();
    fs::remove_file(volume.join("dangling")).unwrap();

    let spec = json!({"namespaces": ["shop-green:shop"], "quiesce": true, "reverse": true});
    let back = world.run("back", spec.clone()).await.succeeded();
    assert_eq!(running(world.client("west"), "shop-green").await, Vec::<String>::new());
    assert_eq!(marks(world.client("east"), "shop").await, marked("true", "west/shop-green"));
    assert_eq!(marks(world.client("west"), "shop-green").await, marked("false", "east/shop"));
    are_equal(&world, ("west", "shop-green"), ("east", "shop")).await;
    // One block of the file that was changed, and the new one.
    assert!(before.values().sum::<u64>() > 6 << 20);
    assert!(uploaded_since(&world, &before) < 1_500_000, "{before:?} {:?}", packs(&world));
    assert_eq!(uids(&there), uids(&back.status), "it is one volume in staging, either way");

    // It starts as it ran there, and carries no mark of either run.
    let wordpress = world.get("east", &deployment("shop", "wordpress")).await;
    assert_eq!(wordpress["spec"]["replicas"], 2);
    for mark in [MIGRATION_REPLICAS, QUIESCED_BY] {
        assert_eq!(wordpress["metadata"]["annotations"].get(mark), None, "{wordpress:#}");
    }
    assert_eq!(wordpress["metadata"]["labels"].get(MIGRATED_BY), None);
    let settings = world.get("east", &config("shop", "wp-settings")).await;
    assert_eq!((settings["data"].get("upload_max"), &settings["data"]["new-key"]), (None, &json!("new")));
    assert_eq!(settings["metadata"]["labels"].get(MIGRATED_BY), None);
    let made = world.get("east", &config("shop", "made-there")).await;
    assert!(made["metadata"]["labels"].get(MIGRATED_BY).is_some(), "the run made it");
    back.came_to(ObjectAction::Updated, &["Deployment shop/wordpress", "ConfigMap shop/wp-settings"]);
    back.came_to(ObjectAction::Unchanged, &["Service shop/wordpress", "Secret shop/mysql-pass"]);
    back.came_to(ObjectAction::Unchanged, &["PersistentVolumeClaim shop/px-wp-pvc"]);

    // What was removed there is not brought back to life.
    let retired = world.get("east", &deployment("shop", "retired")).await;
    assert_eq!(retired["spec"]["replicas"], 0);
    assert_eq!(retired["metadata"]["annotations"].get(MIGRATION_REPLICAS), None);
    let told = back.status.warnings.iter().find(|warning| warning.reason == "GoneFromSource");
    assert!(told.is_some_and(|warning| warning.object == "Deployment shop/retired"), "{:#?}", back.status);

    // The first way cannot be undone any more.
    world.create_migration("undo", json!({"action": "Rollback", "rollbackOf": "there"})).await.unwrap();
    let undo = world.migration_is("undo", "ended", |status| status.status.is_terminal()).await;
    assert_eq!(undo.failures[0].reason, "Superseded", "{undo:#?}");

    // The way back can: what it made goes, what was there stays, and the other side runs again.
    world.create_migration("undo-back", json!({"action": "Rollback", "rollbackOf": "back"})).await.unwrap();
    let undone = world.migration_is("undo-back", "ended", |status| status.status.is_terminal()).await;
    assert!(undone.failures.is_empty(), "{undone:#?}");
    eventually("the other side to run again", || async {
        let running = running(world.client("west"), "shop-green").await;
        if running.iter().any(|pod| pod.starts_with("wordpress-")) {
            Ok(())
        } else {
            Err(format!("{running:?}"))
        }
    })
    .await;
    assert_eq!(running(world.client("east"), "shop").await, Vec::<String>::new());
    let left: Vec<String> =
        objects(world.client("east"), "shop").await.into_iter().map(|(name, _)| name).collect();
    assert!(!left.contains(&"ConfigMap/made-there".to_owned()), "{left:?}");
    for kept in ["ConfigMap/wp-settings", "Deployment/wordpress", "PersistentVolumeClaim/px-wp-pvc"] {
        assert!(left.contains(&kept.to_owned()), "{left:?}");
    }

    // And back once more, after which the first way goes again.
    let before = packs(&world);
    world.run("back-again", spec).await.succeeded();
    are_equal(&world, ("west", "shop-green"), ("east", "shop")).await;
    let again =
        world.run("again", json!({"namespaces": ["shop:shop-green"], "quiesce": true})).await.succeeded();
    assert_eq!(uids(&there), uids(&again.status));
    assert_eq!(uploaded_since(&world, &before), 0, "nothing has changed since");
    are_equal(&world, ("east", "shop"), ("west", "shop-green")).await;
    assert_eq!(running(world.client("east"), "shop").await, Vec::<String>::new());
    assert_eq!(marks(world.client("west"), "shop-green").await, marked("true", "east/shop"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_back_to_a_namespace_that_was_not_handed_over_is_refused() {
    let world = World::start_on(LabOptions::default()).await;
    world.install_cms("mine").await;
    // A promotion hands nothing over.
    world.run("copy", json!({"namespaces": ["mine"]})).await.succeeded();
    let back =
        world.run("over", json!({"namespaces": ["mine"], "quiesce": true, "reverse": true})).await.failed();
    let reasons: Vec<&str> = back.status.failures.iter().map(|failure| failure.reason.as_str()).collect();
    assert!(reasons.contains(&"AlreadyExists"), "{:#?}", back.status);
    assert!(running(world.client("east"), "mine").await.len() >= 4);
}

/// The runs of the schedule that have succeeded, by when they began, the newest last.
async fn runs(world: &World, schedule: &str) -> Vec<MigrationStatus> {
    let migrations = Api::<Migration>::namespaced(world.client("hub"), NAMESPACE);
    let query = ListParams::default().labels(&format!("{SCHEDULE}={schedule}"));
    let all = migrations.list(&query).await.unwrap();
    let mut succeeded: Vec<_> =
        all.into_iter().filter_map(|run| run.status.filter(|status| status.status.is_success())).collect();
    succeeded.sort_by(|a, b| a.started_at.cmp(&b.started_at));
    succeeded
}

/// Why a failback of the schedule cannot be.
async fn refusal(world: &World, name: &str) -> String {
    world.isthmus(&["failback", "often", "--name", name, "--wait"]).await.ends_with(1);
    world.migration(name).await.failures[0].reason.clone()
}

/// Waits for a run of the schedule that began after a moment and has succeeded.
async fn run_since(world: &World, schedule: &str, since: Option<Time>) -> MigrationStatus {
    eventually("the schedule to run", || async {
        let newest = runs(world, schedule).await.pop().filter(|run| run.started_at > since);
        match newest {
            Some(status) => Ok(status),
            None => Err(world.isthmus(&["schedule", "describe", schedule]).await.all()),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_that_was_failed_over_comes_back_with_what_changed_and_runs_again_by_itself() {
    let world = World::start_on(LabOptions::default()).await;
    let (east, west) = (|| world.client("east"), || world.client("west"));
    world.install_cms("shop").await;
    let data = world.volume("east", "shop", CLAIMS[0]).await;
    fs::write(data.join("noise"), noise(1, 6 << 20)).unwrap();
    assert_eq!(refusal(&world, "too-early").await, "NoSuchSchedule");
    let create = ["schedule", "create", "often", "shop:shop-green", "--pair", PAIR, "--cron", "* * * * *"];
    world.isthmus(&create).await.ends_with(0);
    run_since(&world, "often", None).await;
    assert_eq!(refusal(&world, "early").await, "NotFailedOver");

    let spec = json!({"action": "Failover", "schedule": "often"});
    world.create_migration("over", spec).await.unwrap();
    let over = world.migration_is("over", "ended", |status| status.status.is_terminal()).await;
    assert!(over.status.is_success(), "{over:#?}");
    assert_eq!(running(east(), "shop").await, Vec::<String>::new());
    assert_eq!(marks(west(), "shop-green").await, marked("true", "east/shop"));

    let before = packs(&world);
    let volume = world.volume("west", "shop-green", CLAIMS[0]).await;
    File::options()
        .write(true)
        .open(volume.join("noise"))
        .unwrap()
        .write_all_at(b"later", 1_000_000)
        .unwrap();
    let made = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: made-there, namespace: shop-green}\ndata: {key: value}";
    world.apply("west", made).await;
    world.patch("west", &deployment("shop-green", "wordpress"), json!({"spec": {"replicas": 2}})).await;

    let said = world.isthmus(&["failback", "often", "--name", "back", "--wait"]).await;
    let back = world.migration("back").await;
    assert!(matches!(said.code, 0 | 3), "{}\n{back:#?}", said.all());
    assert_eq!((back.source.as_deref(), back.destination.as_deref()), (Some("west"), Some("east")));
    assert_eq!(running(west(), "shop-green").await, Vec::<String>::new());
    assert_eq!(marks(east(), "shop").await, marked("true", "west/shop-green"));
    assert_eq!(marks(west(), "shop-green").await, marked("false", "east/shop"));
    assert!(running(east(), "shop").await.len() >= 3, "it runs where it came from");
    let wordpress = world.get("east", &deployment("shop", "wordpress")).await;
    assert_eq!(wordpress["spec"]["replicas"], 2);
    are_equal(&world, ("west", "shop-green"), ("east", "shop")).await;
    assert_eq!(uids(&over), uids(&back), "it is one volume in staging, either way");
    assert!(uploaded_since(&world, &before) < 1_500_000, "{before:?} {:?}", packs(&world));

    // The schedule goes on by itself, and is in nobody's way on the other side.
    fs::write(data.join("after"), b"it was handed back").unwrap();
    let next = run_since(&world, "often", back.finished_at.clone()).await;
    assert_eq!(uids(&over), uids(&next));
    assert_eq!(fs::read(volume.join("after")).unwrap(), b"it was handed back");
    assert_eq!(running(west(), "shop-green").await, Vec::<String>::new());
    assert!(running(east(), "shop").await.len() >= 3);
    assert_eq!(refusal(&world, "too-late").await, "NotFailedOver");
}

/// A schedule whose runs have these options, and which begins none for the time of a test.
async fn rare(world: &World, name: &str, options: serde_json::Value) {
    let schedule = json!({
        "apiVersion": "isthmus.dev/v1alpha1", "kind": "MigrationSchedule",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"schedule": "0 0 1 1 *", "template": {"spec": options}},
    });
    world.apply("hub", &schedule.to_string()).await;
}

/// Waits until a schedule is held by nothing.
async fn goes_on(world: &World, schedule: &str) {
    let schedules = Api::<MigrationSchedule>::namespaced(world.client("hub"), NAMESPACE);
    let schedules = &schedules;
    eventually("the schedule to go on", || async move {
        let status = schedules.get(schedule).await.unwrap().status.unwrap_or_default();
        match status.held {
            None => Ok(()),
            Some(held) => Err(format!("{held:?}")),
        }
    })
    .await;
}

/// A failover or a failback by the command line, which must go well.
async fn handed(world: &World, way: &str, schedule: &str, name: &str) -> MigrationStatus {
    let said = world.isthmus(&[way, schedule, "--name", name, "--wait"]).await;
    let status = world.migration(name).await;
    assert!(matches!(said.code, 0 | 3), "{}\n{status:#?}", said.all());
    status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_and_kept_volumes_of_a_schedule_are_turned_round_on_the_way_back() {
    const BOTH: &str = "there-and-back";
    let world = World::shared().await;
    let pair = ["pair", "create", BOTH, "--source", "east", "--destination", "west", "--store", "stage"];
    world.isthmus(&[&pair[..], &["--bidirectional"]].concat()).await.ends_with(0);
    let east = hooks::install(world, "turned").await;
    world.apply("east", &choices::on_nfs("turned", "filer-turned")).await;
    eventually("archive to be bound", || async {
        let archive = world.get("east", &choices::claim("turned", "archive")).await;
        let bound = choices::text(&archive, "/status/phase") == "Bound";
        if bound { Ok(()) } else { Err(archive.to_string()) }
    })
    .await;
    let none = json!({});
    let of_job = |name: &str, phase: &str, namespace: &str| {
        let mut hook = hooks::job(name, phase, "echo it is told", &none);
        hook["job"]["namespace"] = json!(namespace);
        hook
    };
    let options = json!({"clusterPair": BOTH, "action": "Stage", "namespaces": ["turned:turned-green"],
    "volumes": [{"namespace": "turned", "claim": "archive", "action": "Keep", "name": "records"}],
    "hooks": [
        hooks::command("freeze", "PreHooks", "echo frozen >> /data/trace", &none),
        of_job("leaves", "PreHooks", "turned"),
        of_job("comes", "BeforeApply", "turned-green"),
        hooks::command("thaw", "PostHooks", "echo thawed >> /data/trace", &none),
    ]});
    rare(world, "turning", options).await;

    handed(world, "failover", "turning", "turned-over").await;
    let west = world.volume("west", "turned-green", "data").await;
    let trace = |folder: &std::path::Path| fs::read_to_string(folder.join("trace")).unwrap();
    assert_eq!((trace(&east), trace(&west)), ("frozen\n".to_owned(), "frozen\nthawed\n".to_owned()));
    let records = world.get("west", &choices::claim("turned-green", "records")).await;
    assert_eq!(choices::text(&records, "/spec/volumeName"), "filer-turned");

    let back = handed(world, "failback", "turning", "turned-back").await;
    let both = "frozen\nthawed\n";
    let (there, here) = (format!("{both}frozen\n"), both.repeat(2));
    assert_eq!((trace(&west), trace(&east)), (there, here), "each hook on its side of the run");
    let log = hooks::log(world, "turned-back").await;
    for made in ["hook leaves: Job turned-green/", "hook comes: Job turned/"] {
        assert!(log.contains(made), "{made:?} is not in\n{log}");
    }
    let moved: Vec<&str> = back.volumes.iter().map(|volume| volume.claim.as_str()).collect();
    assert_eq!(moved, ["data"], "what is kept is not sent");
    assert_eq!(marks(world.client("east"), "turned").await, marked("true", "west/turned-green"));
    assert_eq!(running(world.client("west"), "turned-green").await, Vec::<String>::new());

    let archive = world.get("east", &choices::claim("turned", "archive")).await;
    let bound = (choices::text(&archive, "/spec/volumeName"), choices::text(&archive, "/status/phase"));
    assert_eq!(bound, ("filer-turned", "Bound"));
    let restored = world.get("east", &choices::volume("filer-turned")).await;
    assert_eq!(choices::policy(&restored), "Delete", "its own again: the data is this side's");
    assert_eq!(choices::text(&restored, "/spec/claimRef/namespace"), "turned");
    let left = world.get("west", &choices::volume("filer-turned")).await;
    assert_eq!(choices::policy(&left), "Retain", "whoever removes it there takes nothing from here");
    goes_on(world, "turning").await;

    // And there once more: neither way has left anything that is in the way of the other.
    handed(world, "failover", "turning", "turned-again").await;
    assert_eq!(trace(&west), both.repeat(3));
    let path = choices::volume("filer-turned");
    let [here, there] = [world.get("east", &path).await, world.get("west", &path).await];
    assert_eq!((choices::policy(&here), choices::policy(&there)), ("Retain", "Delete"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_without_its_source_only_what_changed_comes_back_and_the_schedule_goes_on() {
    let mut world = World::start_on(LabOptions::default()).await;
    world.install_cms("lone").await;
    let data = world.volume("east", "lone", CLAIMS[0]).await;
    fs::write(data.join("noise"), noise(1, 6 << 20)).unwrap();
    fs::write(world.volume("east", "lone", CLAIMS[1]).await.join("fails-once"), "").unwrap();
    let once = "test ! -e /var/www/html/fails-once || { rm /var/www/html/fails-once; exit 5; }";
    let of_pods = |app: &str, script: &str| {
        json!({"podSelector": {"matchLabels": {"app": app}}, "command": ["sh", "-c", script],
               "singlePod": true, "allowNoPods": true})
    };
    let options = json!({"clusterPair": PAIR, "namespaces": ["lone"], "hooks": [
        {"name": "flush", "phase": "PreHooks", "exec": of_pods("mysql", "true")},
        {"name": "warm", "phase": "PostHooks", "exec": of_pods("wordpress", once)},
    ]});
    rare(&world, "lonely", options).await;
    world.run_of_schedule("lonely", "lonely-1").await;
    let ended = |status: &MigrationStatus| status.status.is_terminal();
    let first = world.migration_is("lonely-1", "ended", ended).await;
    assert!(first.status.is_success(), "{first:#?}");

    // Written after the last complete run, and lost with the source.
    fs::write(data.join("lost"), b"of nobody").unwrap();
    world.east.program.kill().await.unwrap();
    world.is_not_heard("east").await;
    let over = handed(&world, "failover", "lonely", "lonely-over").await;
    assert_eq!(over.recovers.as_ref().map(|run| run.run.as_str()), Some("lonely-1"));
    let told = |reason: &str| over.warnings.iter().find(|warning| warning.reason == reason);
    let left_out = told("HooksLeftOut").unwrap_or_else(|| panic!("{over:#?}"));
    assert!(left_out.message.contains("flush (PreHooks)"), "{left_out:?}");
    assert!(told("HookFailed").is_some_and(|warning| warning.object == "Hook warm"), "{over:#?}");
    let wordpress = |pods: &[String]| pods.iter().filter(|pod| pod.starts_with("wordpress-")).count();
    let arrived = running(world.client("west"), "lone").await;
    assert_eq!(wordpress(&arrived), 3, "a hook that fails stops nothing: {arrived:?}");

    let before = packs(&world);
    let volume = world.volume("west", "lone", CLAIMS[0]).await;
    let file = File::options().write(true).open(volume.join("noise")).unwrap();
    file.write_all_at(b"later", 1_000_000).unwrap();
    fs::write(volume.join("deep/new"), noise(2, 5000)).unwrap();
    fs::remove_file(volume.join("dangling")).unwrap();

    world.east.program.restart().await.unwrap();
    let settled = |status: &MigrationStatus| status.active == Some(Active::Destination);
    world.migration_is("lonely-over", "settled", settled).await;
    // It is told to stop by then; its Pods end in their own time.
    eventually("the source to stand still", || async {
        match running(world.client("east"), "lone").await {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        }
    })
    .await;
    let back = handed(&world, "failback", "lonely", "lonely-back").await;
    assert_eq!(back.active, Some(Active::Destination), "{back:#?}");
    assert_eq!(marks(world.client("east"), "lone").await, marked("true", "west/lone"));
    assert_eq!(running(world.client("west"), "lone").await, Vec::<String>::new());
    assert_eq!(wordpress(&running(world.client("east"), "lone").await), 3);
    are_equal(&world, ("west", "lone"), ("east", "lone")).await;
    assert!(!data.join("lost").exists(), "the other side has gone on without it");
    assert_eq!(uids(&first), uids(&back), "it is one volume in staging, either way");
    assert!(uploaded_since(&world, &before) < 1_500_000, "{before:?} {:?}", packs(&world));

    goes_on(&world, "lonely").await;
    fs::write(data.join("after"), b"it was handed back").unwrap();
    world.run_of_schedule("lonely", "lonely-2").await;
    let next = world.migration_is("lonely-2", "ended", ended).await;
    assert!(next.status.is_success(), "{next:#?}");
    assert_eq!(uids(&first), uids(&next));
    assert_eq!(fs::read(volume.join("after")).unwrap(), b"it was handed back");
    assert_eq!(running(world.client("west"), "lone").await, Vec::<String>::new());
}
