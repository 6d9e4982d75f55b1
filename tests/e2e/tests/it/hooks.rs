//! Hooks: commands in Pods and Jobs at the points of a run, what their failure comes to, rules as
//! Kubemotion has them, and what becomes of all that when a spoke dies.

use std::fs;
use std::path::PathBuf;

use isthmus_lab::kubelet::SHELL_IMAGE;
use isthmus_lab::programs::SpokeOptions;
use isthmus_shared::resources::{Active, COMPONENT, COMPONENT_HOOK, MigrationPhase, Step};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cutover::{marks, running};
use crate::world::{NAMESPACE, World, bare, eventually};

/// An application of one Pod with a volume.
const APP: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: NAMESPACE}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: NAMESPACE}
spec:
  accessModes: [ReadWriteMany]
  resources: {requests: {storage: 1Gi}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: db, namespace: NAMESPACE}
spec:
  replicas: 1
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      containers: [{name: db, image: "db:1", volumeMounts: [{name: data, mountPath: /data}]}]
      volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
"#;

/// Puts the application into a namespace of cluster east; the folder of its volume once it runs.
pub async fn install(world: &World, namespace: &str) -> PathBuf {
    world.apply("east", &APP.replace("NAMESPACE", namespace)).await;
    runs(world, "east", namespace).await;
    world.volume("east", namespace, "data").await
}

/// Waits until the application runs in a cluster.
async fn runs(world: &World, cluster: &str, namespace: &str) {
    let deployments = Api::<Deployment>::namespaced(world.client(cluster), namespace);
    eventually("the application to run", || async {
        let status = deployments.get("db").await.unwrap().status.unwrap_or_default();
        if status.ready_replicas == Some(1) { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
}

/// A hook that is a command of the application's shell.
pub fn command(name: &str, phase: &str, script: &str, more: &Value) -> Value {
    let exec = json!({"podSelector": {"matchLabels": {"app": "db"}}, "command": ["sh", "-c", script]});
    let mut hook = json!({"name": name, "phase": phase, "exec": exec});
    hook.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    hook
}

/// A hook that is a Job of a program of this machine.
pub fn job(name: &str, phase: &str, script: &str, more: &Value) -> Value {
    let mut hook = json!({"name": name, "phase": phase,
        "job": {"image": SHELL_IMAGE, "command": ["sh", "-c", script]}});
    hook.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    hook
}

/// The run's log.
pub async fn log(world: &World, migration: &str) -> String {
    world.isthmus(&["migration", "logs", migration]).await.ends_with(0).out
}

/// Nothing of the hooks of a run is left in either cluster.
async fn nothing_is_left(world: &World, namespace: &str, uid: &str) {
    for cluster in ["east", "west"] {
        let jobs = Api::<Job>::namespaced(world.client(cluster), namespace);
        let ours = ListParams::default().labels(&format!("{COMPONENT}={COMPONENT_HOOK}"));
        let names: Vec<String> = jobs.list(&ours).await.unwrap().iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, Vec::<String>::new(), "in {cluster}");
        let records = Api::<ConfigMap>::namespaced(world.client(cluster), NAMESPACE);
        let record = records.get_opt(&format!("isthmus-hooks-{uid}")).await.unwrap();
        assert!(record.is_none(), "in {cluster}");
    }
}

/// The uid of a migration.
async fn uid(world: &World, migration: &str) -> String {
    let migrations = Api::<isthmus_shared::resources::Migration>::namespaced(world.client("hub"), NAMESPACE);
    migrations.get(migration).await.unwrap().uid().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cutover_carries_out_its_hooks_at_their_points_and_takes_along_what_they_wrote() {
    let world = World::shared().await;
    install(world, "hooked").await;
    let none = json!({});
    let spec = json!({"namespaces": ["hooked"], "quiesce": true, "hooks": [
        command("freeze", "PreHooks", "echo frozen > /data/frozen; echo told by the command", &none),
        job("before", "PreHooks", "echo at the beginning", &none),
        job("between", "AfterQuiesce", "echo with the source at a stand", &none),
        job("staged", "BeforeApply", "echo before the objects", &json!({"side": "Source"})),
        job("arrived", "BeforeApply", "echo on the destination", &none),
        job("last", "PostHooks", "echo at the end", &none),
        command("thaw", "PostHooks", "echo thawed > /data/thawed", &none),
    ]});
    let report = world.run("hooked", spec).await.succeeded();
    assert_eq!(report.status.warnings_total, 0, "{:#?}", report.status);
    let west = world.volume("west", "hooked", "data").await;
    assert_eq!(fs::read_to_string(west.join("frozen")).unwrap(), "frozen\n");
    assert_eq!(fs::read_to_string(west.join("thawed")).unwrap(), "thawed\n");
    let log = log(world, "hooked").await;
    let said = [
        "told by the command",
        "at the beginning",
        "with the source at a stand",
        "before the objects",
        "on the destination",
        "at the end",
    ];
    for line in said {
        assert!(log.contains(line), "{line:?} is not in\n{log}");
    }
    nothing_is_left(world, "hooked", &uid(world, "hooked").await).await;
    let described = world.isthmus(&["migration", "describe", "hooked"]).await.ends_with(0).out;
    assert!(
        described.contains("freeze (command, PreHooks, source; if it fails, the run fails)"),
        "{described}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_that_fails_past_quiesce_fails_the_run_and_the_source_runs_again() {
    let world = World::shared().await;
    install(world, "guarded").await;
    let spec = json!({"namespaces": ["guarded"], "quiesce": true, "hooks": [
        job("guard", "AfterQuiesce", "echo no room for it; exit 3", &json!({"retries": 1})),
    ]});
    let report = world.run("guarded", spec).await;
    assert_eq!(report.status.status, MigrationPhase::RolledBack, "{:#?}", report.status);
    let failure = report.failure("Hook guard");
    assert_eq!(failure.reason, "HookFailed");
    for part in ["attempt 2 of 2", "Job guarded/isthmus-hook-", "returned 3", "no room for it"] {
        assert!(failure.message.contains(part), "{part:?} is not in {}", failure.message);
    }
    runs(world, "east", "guarded").await;
    nothing_is_left(world, "guarded", &uid(world, "guarded").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_hook_that_fails_has_the_cutover_go_back_and_the_end_says_which_side_runs() {
    let world = World::shared().await;
    install(world, "posted").await;
    let spec = json!({"namespaces": ["posted"], "quiesce": true, "hooks": [
        command("writes", "PostHooks", "echo there > /data/there", &json!({})),
        job("check", "PostHooks", "echo not as it should be; exit 7", &json!({})),
    ]});
    let report = world.run("posted", spec).await;
    assert_eq!(report.status.status, MigrationPhase::RolledBack, "{:#?}", report.status);
    assert_eq!(report.status.active, Some(Active::Source), "{:#?}", report.status);
    let failure = report.failure("Hook check");
    assert!(failure.message.contains("returned 7"), "{failure:?}");
    let message = report.status.message.clone().unwrap();
    let stands = [
        "PostHooks failed: Hook check",
        "The applications run on east, and nothing of the run on west",
        "What they wrote on west meanwhile is in the claims there alone",
    ];
    for part in stands {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    runs(world, "east", "posted").await;
    assert_eq!(running(world.client("west"), "posted").await, Vec::<String>::new());
    assert_eq!(marks(world.client("east"), "posted").await.0.as_deref(), Some("true"));
    assert!(world.volume("west", "posted", "data").await.join("there").exists());
    assert!(!world.volume("east", "posted", "data").await.join("there").exists());
    let described = world.isthmus(&["migration", "describe", "posted"]).await.ends_with(0).out;
    let told = "check (Job, PostHooks, destination; if it fails, the run goes back)";
    assert!(described.contains(told), "{described}");
    nothing_is_left(world, "posted", &uid(world, "posted").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_carries_out_no_commands_says_so_before_anything_is_changed_and_takes_jobs() {
    let args = vec!["--hook-commands=false".to_owned()];
    let east = SpokeOptions { args, ..SpokeOptions::new("east", NAMESPACE) };
    let world = World::start_as(bare().await, east).await;
    let data = install(&world, "mute").await;
    let none = json!({});
    let hooks = json!([
        command("freeze", "PreHooks", "touch /data/carried-out", &none),
        command("note", "PreHooks", "touch /data/carried-out", &json!({"onError": "Continue"})),
        job("before", "PreHooks", "echo at the beginning", &none),
        command("thaw", "PostHooks", "echo on the other side", &none),
    ]);
    for dry_run in [true, false] {
        let spec = json!({"namespaces": ["mute"], "quiesce": true, "dryRun": dry_run, "hooks": hooks});
        let report = world.run(if dry_run { "look" } else { "go" }, spec).await.failed();
        let failure = report.failure("Hook freeze");
        assert_eq!((failure.reason.as_str(), failure.step), ("HookCommandsOff", Some(Step::Preflight)));
        assert!(failure.message.contains("hooks.commands"), "{failure:?}");
        assert_eq!(report.status.failures_total, 1, "{:#?}", report.status);
    }
    assert!(world.find("west", "/api/v1/namespaces/mute").await.is_none(), "nothing was changed");
    runs(&world, "east", "mute").await;

    let spec = json!({"namespaces": ["mute"], "quiesce": true, "hooks": hooks.as_array().unwrap()[1..]});
    let report = world.run("without", spec).await.succeeded();
    let told: Vec<(&str, &str)> = report
        .status
        .warnings
        .iter()
        .map(|warning| (warning.object.as_str(), warning.reason.as_str()))
        .collect();
    assert_eq!(told, [("Hook note", "HookCommandsOff"), ("Hook note", "HookFailed")], "{:#?}", report.status);
    assert!(!data.join("carried-out").exists());
    let log = log(&world, "without").await;
    assert!(log.contains("at the beginning") && log.contains("on the other side"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_are_tried_again_are_ended_in_time_and_may_be_gone_on_without() {
    let world = World::shared().await;
    let data = install(world, "tried").await;
    let third = "n=$(cat /data/n || echo 0); n=$((n + 1)); echo $n > /data/n; test $n -ge 3";
    let unless = |seconds: u32| json!({"timeoutSeconds": seconds, "onError": "Continue"});
    let mut absent = command("absent", "PreHooks", "true", &json!({"onError": "Continue"}));
    absent["exec"]["podSelector"] = json!({"matchLabels": {"app": "nobody"}});
    let spec = json!({"namespaces": ["tried"], "hooks": [
        command("third", "PreHooks", third, &json!({"retries": 2})),
        command("wrong", "PreHooks", "echo never mind; exit 4", &unless(60)),
        command("slow", "PreHooks", "sleep 600", &unless(1)),
        job("endless", "PreHooks", "echo begun; sleep 600", &unless(2)),
        absent,
    ]});
    let report = world.run("tried", spec).await.succeeded();
    assert_eq!(fs::read_to_string(data.join("n")).unwrap(), "3\n");
    let warning = |hook: &str| {
        let found = report.status.warnings.iter().find(|warning| warning.object == format!("Hook {hook}"));
        found.unwrap_or_else(|| panic!("no warning of {hook}: {:#?}", report.status)).message.clone()
    };
    for part in ["Pod tried/db-", "returned 4", "never mind", "went on without it"] {
        assert!(warning("wrong").contains(part), "{}", warning("wrong"));
    }
    assert!(warning("slow").contains("did not end within 1 s"), "{}", warning("slow"));
    assert!(warning("endless").contains("did not end within 2 s"), "{}", warning("endless"));
    assert!(warning("absent").contains("no Pod with these labels runs"), "{}", warning("absent"));
    let log = log(world, "tried").await;
    assert!(log.contains("attempt 2 of 3 failed") || log.contains("attempt 2 of 3: "), "{log}");
    nothing_is_left(world, "tried", &uid(world, "tried").await).await;
}

/// As people have them for Kubemotion, under this apiVersion.
const RULES: &str = r"
apiVersion: isthmus.dev/v1alpha1
kind: Rule
metadata: {name: ruled-before, namespace: isthmus}
rules:
  - podSelector:
      app: db
    actions:
    - type: command
      background: true
      value: echo locked >> /data/trace; ${WAIT_CMD}; echo released >> /data/trace
  - podSelector: {app: nobody}
    actions:
    - {type: command, value: exit 1}
---
apiVersion: isthmus.dev/v1alpha1
kind: Rule
metadata: {name: ruled-after, namespace: isthmus}
rules:
  - podSelector: {app: db}
    actions:
    - {type: command, runInSinglePod: true, value: echo after >> /data/trace}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_of_kubemotion_hold_the_source_while_its_volumes_are_read() {
    let world = World::shared().await;
    let east = install(world, "ruled").await;
    world.apply("hub", RULES).await;
    let args = ["migrate", "ruled", "--pair", crate::world::PAIR, "--name", "ruled"];
    let rules = ["--pre-exec-rule", "ruled-before", "--post-exec-rule", "ruled-after"];
    world.isthmus(&[&args[..], &rules].concat()).await.ends_with(0);
    let status = world.migration_is("ruled", "ended", |status| status.status.is_terminal()).await;
    assert_eq!(status.status, MigrationPhase::SucceededWithWarnings, "{status:#?}");
    assert_eq!(fs::read_to_string(east.join("trace")).unwrap(), "locked\nreleased\nafter\n");
    let west = world.volume("west", "ruled", "data").await;
    assert_eq!(fs::read_to_string(west.join("trace")).unwrap(), "locked\n");
    let told: Vec<&str> = status.warnings.iter().map(|warning| warning.reason.as_str()).collect();
    assert_eq!(told, ["NoPods"], "{status:#?}");
    nothing_is_left(world, "ruled", &uid(world, "ruled").await).await;

    let spec = json!({"namespaces": ["ruled"], "preExecRule": "ruled-never"});
    let report = world.run("unruled", spec).await.failed();
    assert_eq!(report.failure("Rule ruled-never").reason, "NoSuchRule");
    assert!(report.status.pipeline.is_empty(), "{:#?}", report.status);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spoke_that_dies_does_no_hook_again_that_was_done_and_lets_go_what_it_holds() {
    let mut world = World::start().await;
    let data = install(&world, "held").await;
    let mut lock = command(
        "lock",
        "PreHooks",
        "echo locked >> /data/trace; ${WAIT_CMD}; echo released >> /data/trace",
        &json!({}),
    );
    lock["exec"]["background"] = json!(true);
    let spec = json!({"clusterPair": crate::world::PAIR, "namespaces": ["held"], "hooks": [
        lock,
        command("once", "PreHooks", "echo ran >> /data/once", &json!({})),
        command("waits", "PreHooks", "while [ ! -e /data/go ]; do sleep 0.1; done", &json!({})),
        command("ends", "PostHooks", "cp /data/trace /data/held-to-the-end", &json!({"side": "Source"})),
    ]});
    world.create_migration("held", spec).await.unwrap();
    eventually("the hook to be done", || async {
        let said = world.isthmus(&["migration", "logs", "held"]).await;
        if said.out.contains("hook waits: attempt 1") { Ok(()) } else { Err(said.all()) }
    })
    .await;
    world.east.program.kill().await.unwrap();
    world.east.program.restart().await.unwrap();
    fs::write(data.join("go"), "").unwrap();
    let status = world.migration_is("held", "ended", |status| status.status.is_terminal()).await;
    assert_eq!(status.status, MigrationPhase::Succeeded, "{status:#?}");
    assert_eq!(fs::read_to_string(data.join("once")).unwrap(), "ran\n");
    assert_eq!(fs::read_to_string(data.join("held-to-the-end")).unwrap(), "locked\n");
    assert_eq!(fs::read_to_string(data.join("trace")).unwrap(), "locked\nreleased\n");
    nothing_is_left(&world, "held", &uid(&world, "held").await).await;
}
