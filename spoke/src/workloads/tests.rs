//! Stopping, going back and starting, on an API server in memory.

mod operators;
mod server;

use std::sync::Arc;

use isthmus_shared::protocol::{Outcome, Run};
use isthmus_shared::resources::{
    ACTIVE, COUNTERPART, MIGRATION_REPLICAS, MigrationSpec, QUIESCED_BY, TargetState, UndoneRun,
};
use serde_json::{Value, json};

use super::*;
use crate::cluster::{annotation, label};
use crate::serve::MoverSettings;
use crate::task::Spoke;
use server::Server;

fn context(server: &Server) -> TaskContext {
    let movers = MoverSettings {
        image: String::new(),
        pull_secrets: Vec::new(),
        node_selector: std::collections::BTreeMap::new(),
        tolerations: Vec::new(),
        endpoint: String::new(),
        port: 0,
        ca: String::new(),
    };
    let spoke = Spoke {
        cluster: server.cluster(),
        name: "east".to_owned(),
        namespace: "isthmus-spoke".to_owned(),
        movers,
        sessions: crate::volumes::Sessions::default(),
        nodes: crate::volumes::Nodes::default(),
        hook_commands: true,
        renewals: crate::hooks::Renewals::default(),
        stores: crate::staging_area::Stores::default(),
        journals: crate::journals::Journals::default(),
    };
    let id = "m1/Quiesce/source".parse().unwrap();
    TaskContext::new(Arc::new(spoke), id, None, Arc::default())
}

fn run() -> Run {
    let mut spec = serde_json::to_value(MigrationSpec::through("pair")).unwrap();
    spec["quiesce"] = json!(true);
    serde_json::from_value(json!({
        "migration": "m1", "name": "isthmus/m1", "source": "east", "destination": "west", "spec": spec,
        "namespaces": [{"from": "cms", "to": "cms"}],
        "staging": {"pair": "p", "key": "", "access": {"endpoint": "", "region": "", "bucket": "", "accessKeyId": "",
                                                       "secretAccessKey": ""}}
    }))
    .unwrap()
}

fn object(version: &str, kind: &str, name: &str, spec: Value) -> Value {
    let mut object =
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "cms"}});
    object["spec"] = spec;
    object
}

fn owned(mut object: Value, owner: (&str, &str, &str)) -> Value {
    let (version, kind, name) = owner;
    object["metadata"]["ownerReferences"] = json!([
        {"apiVersion": version, "kind": kind, "name": name, "uid": format!("{kind}/{name}"), "controller": true}]);
    object
}

fn pod(name: &str, claim: Option<&str>) -> Value {
    let volumes = claim.map(|claim| json!([{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]));
    let mut pod = object("v1", "Pod", name, json!({"volumes": volumes, "nodeName": "n1"}));
    pod["status"] = json!({"phase": "Running"});
    pod
}

fn namespace(server: &Server) {
    server.add(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "cms"}}));
}

/// One of everything, with Pods.
fn application() -> Server {
    let server = Server::default();
    namespace(&server);
    let replicas = |count: i64| json!({"replicas": count, "template": {"spec": {}}});
    server.add(object("apps/v1", "Deployment", "web", replicas(3)));
    server.add(object("apps/v1", "Deployment", "idle", replicas(0)));
    let mut deactivated = object("apps/v1", "Deployment", "off", replicas(0));
    deactivated["metadata"]["annotations"] = json!({MIGRATION_REPLICAS: "4"});
    server.add(deactivated);
    // A Deployment hands its annotations on to what it makes.
    server
        .add(owned(object("apps/v1", "ReplicaSet", "web-1", replicas(3)), ("apps/v1", "Deployment", "web")));
    server.add(owned(pod("web-1-a", None), ("apps/v1", "ReplicaSet", "web-1")));
    server.add(object("apps/v1", "StatefulSet", "db", replicas(2)));
    server.add(owned(pod("db-0", Some("data-db-0")), ("apps/v1", "StatefulSet", "db")));
    server.add(object("apps/v1", "ReplicaSet", "bare", replicas(1)));
    server.add(object("apps.kruise.io/v1beta1", "StatefulSet", "advanced", replicas(2)));
    server.add(object(
        "apps/v1",
        "DaemonSet",
        "agent",
        json!({"template": {"spec": {"nodeSelector": {"a": "b"}}}}),
    ));
    server.add(owned(pod("agent-x", None), ("apps/v1", "DaemonSet", "agent")));
    server.add(object("batch/v1", "CronJob", "nightly", json!({"suspend": false})));
    server.add(object("batch/v1", "CronJob", "paused", json!({"suspend": true})));
    server.add(owned(
        object("batch/v1", "Job", "nightly-1", json!({"suspend": false})),
        ("batch/v1", "CronJob", "nightly"),
    ));
    server.add(owned(pod("nightly-1-x", None), ("batch/v1", "Job", "nightly-1")));
    let mut done = object("batch/v1", "Job", "done", json!({"suspend": false}));
    done["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    server.add(done);
    let mut ended = owned(pod("done-x", Some("data")), ("batch/v1", "Job", "done"));
    ended["status"]["phase"] = json!("Succeeded");
    server.add(ended);
    server.add(object("pxc.percona.com/v1", "PerconaXtraDBCluster", "pxc", json!({"crVersion": "1"})));
    server.add(owned(
        object("apps/v1", "StatefulSet", "pxc-pxc", replicas(3)),
        ("pxc.percona.com/v1", "PerconaXtraDBCluster", "pxc"),
    ));
    server.add(owned(pod("pxc-pxc-0", Some("datadir-0")), ("apps/v1", "StatefulSet", "pxc-pxc")));
    server
}

fn reasons(error: &TaskError) -> Vec<String> {
    match error {
        TaskError::Failed(found) => found.list.iter().map(|f| format!("{} {}", f.reason, f.object)).collect(),
        TaskError::Transient(found) => vec![format!("transient {}", found.reason)],
    }
}

fn warnings(context: &TaskContext) -> Vec<String> {
    context.standing().warnings.list.iter().map(|w| format!("{} {}", w.reason, w.object)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_quiesced_source_stands_still_and_going_back_gives_it_back_exactly() {
    let server = application();
    let before = server.picture();
    let outcome = quiesce(&context(&server), &run()).await.unwrap();
    assert!(matches!(outcome, Outcome::Quiesced { workloads: 11, stopped_at: Some(_) }), "{outcome:?}");
    assert_eq!(label(&server.object("cms"), ACTIVE), Some("false"));
    assert_eq!(annotation(&server.object("cms"), COUNTERPART), Some("west/cms"));
    for stopped in ["web", "db", "bare", "advanced"] {
        let object = server.object(stopped);
        assert_eq!((&object["spec"]["replicas"], annotation(&object, QUIESCED_BY)), (&json!(0), Some("m1")));
    }
    assert_eq!(server.object("pxc")["spec"]["pause"], true);
    // Its operator stops it.
    assert_eq!(server.object("pxc-pxc")["spec"]["replicas"], 3);
    for left_alone in ["idle", "off", "paused", "done", "web-1"] {
        assert_eq!(annotation(&server.object(left_alone), QUIESCED_BY), None, "{left_alone}");
    }
    let outcome = restore_source(&context(&server), &run()).await.unwrap();
    assert!(matches!(outcome, Outcome::Workloads { workloads: 8 }), "{outcome:?}");
    assert_eq!(server.picture(), before);
    assert_eq!(label(&server.object("cms"), ACTIVE), Some("true"));
}

#[tokio::test(start_paused = true)]
async fn interrupted_at_any_write_and_done_again_both_ways_come_to_the_same() {
    let before = application().picture();
    for interrupted in 0..12 {
        let server = application();
        server.refuse_write(Some(interrupted));
        let first = quiesce(&context(&server), &run()).await;
        server.refuse_write(None);
        if first.is_err() {
            quiesce(&context(&server), &run()).await.unwrap();
        }
        let stopped = server.picture();
        server.refuse_write(Some(interrupted));
        let first = restore_source(&context(&server), &run()).await;
        server.refuse_write(None);
        if first.is_err() {
            restore_source(&context(&server), &run()).await.unwrap();
        }
        assert_eq!(server.picture(), before, "interrupted at write {interrupted}");
        // Going back from a quiesce that came to an early end.
        let server = application();
        server.refuse_write(Some(interrupted));
        drop(quiesce(&context(&server), &run()).await);
        server.refuse_write(None);
        restore_source(&context(&server), &run()).await.unwrap();
        assert_eq!(server.picture(), before, "called off at write {interrupted}");
        assert_ne!(stopped, before);
    }
}

#[tokio::test(start_paused = true)]
async fn quiescing_waits_until_pods_have_gone_and_volumes_are_detached() {
    let server = application();
    let mut claim = object("v1", "PersistentVolumeClaim", "data-db-0", json!({"volumeName": "pv-1"}));
    claim["status"] = json!({"phase": "Bound"});
    server.add(claim);
    server.add(
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": "csi-1"},
                      "spec": {"nodeName": "n1", "source": {"persistentVolumeName": "pv-1"}}}),
    );
    let mut run = run();
    run.spec.step_timeout_seconds = 60;
    let error = quiesce(&context(&server), &run).await.unwrap_err();
    assert_eq!(reasons(&error), ["StillAttached VolumeAttachment csi-1"]);
    server
        .change("csi-1", |attachment| attachment["spec"]["source"]["persistentVolumeName"] = json!("other"));
    quiesce(&context(&server), &run).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_go_is_named_when_the_time_is_over() {
    let server = application();
    let mut stuck = owned(pod("stuck", Some("data")), ("postgresql.cnpg.io/v1", "Cluster", "pg"));
    stuck["metadata"]["finalizers"] = json!(["example.com/keep"]);
    server.add(stuck.clone());
    server.add(object("postgresql.cnpg.io/v1", "Cluster", "pg", json!({})));
    server.beside(move |objects| {
        let path = "/api/v1/namespaces/cms/pods/stuck";
        objects.put(path, {
            let mut stuck = stuck.clone();
            stuck["metadata"]["uid"] = json!("Pod/stuck");
            stuck["metadata"]["ownerReferences"] = json!([]);
            stuck["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            stuck
        });
    });
    let error = quiesce(&context(&server), &run()).await.unwrap_err();
    assert_eq!(reasons(&error), ["PodStillRuns Pod cms/stuck"]);
    assert!(error.to_string().contains("example.com/keep"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_stopped_is_told_before_anything_is_changed() {
    let server = application();
    server.add(pod("by-hand", Some("data")));
    server.add(owned(
        object("apps/v1", "StatefulSet", "unknown", json!({"replicas": 1})),
        ("example.com/v1", "Database", "d"),
    ));
    let error = quiesce(&context(&server), &run()).await.unwrap_err();
    assert_eq!(reasons(&error), ["NoSuspendRule StatefulSet cms/unknown", "BarePod Pod cms/by-hand"]);
    assert!(server.writes().is_empty(), "{:?}", server.writes());
}

#[tokio::test(start_paused = true)]
async fn a_rule_of_a_config_map_stops_what_is_known_to_nobody_else() {
    let server = application();
    server.add(object("example.com/v1", "Database", "d", json!({"size": 3})));
    server.add(owned(
        object("apps/v1", "StatefulSet", "unknown", json!({"replicas": 1})),
        ("example.com/v1", "Database", "d"),
    ));
    let mut rules = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "own", "namespace": "isthmus-spoke", "labels": {"isthmus.dev/suspend-rules": "true"}},
        "data": {"rules.yaml": "- {group: example.com, kind: Database, fields: [{path: /spec/stopped, value: true}]}"}});
    server.add(rules.clone());
    let before = server.picture();
    quiesce(&context(&server), &run()).await.unwrap();
    assert_eq!(server.object("d")["spec"], json!({"size": 3, "stopped": true}));
    restore_source(&context(&server), &run()).await.unwrap();
    assert_eq!(server.picture(), before);
    rules["data"]["rules.yaml"] = json!("- {group: example.com, kind: Database, fields: []}");
    server.add(rules);
    let error = quiesce(&context(&server), &run()).await.unwrap_err();
    assert_eq!(reasons(&error), ["BadSuspendRule ConfigMap isthmus-spoke/own"]);
}

#[tokio::test(start_paused = true)]
async fn what_something_else_starts_again_is_stopped_again_and_told_and_restored_as_it_was() {
    let server = application();
    let before = server.picture();
    let mut times = 0;
    server.beside(move |objects| {
        objects.change("db", |db| {
            if db["spec"]["replicas"] == 0 && times < 2 {
                times += 1;
                db["spec"]["replicas"] = json!(5);
                db["metadata"]["managedFields"] = json!([
                    {"manager": "argocd-controller", "time": "t", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
            }
        });
    });
    let context = context(&server);
    quiesce(&context, &run()).await.unwrap();
    let told = context.standing().warnings.list.iter().find(|w| w.reason == "StartedAgain").cloned().unwrap();
    assert!(told.message.contains("argocd-controller"), "{}", told.message);
    server.beside(|_| {});
    server.change("db", |db| {
        db["metadata"].as_object_mut().unwrap().remove("managedFields");
    });
    restore_source(&context, &run()).await.unwrap();
    assert_eq!(server.picture(), before);
}

#[tokio::test(start_paused = true)]
async fn going_back_starts_nothing_that_another_run_has_stopped() {
    let server = application();
    quiesce(&context(&server), &run()).await.unwrap();
    let stopped = server.picture();
    let mut other = run();
    other.migration = "m2".to_owned();
    restore_source(&context(&server), &other).await.unwrap();
    assert_eq!(server.picture(), stopped);
    other.undoes = Some(UndoneRun { uid: "m1".to_owned(), started_at: None });
    restore_source(&context(&server), &other).await.unwrap();
    assert_eq!(server.object("web")["spec"]["replicas"], 3);
}

#[tokio::test(start_paused = true)]
async fn a_destination_is_stopped_when_nothing_runs_and_namespaces_that_are_gone_are_stopped() {
    let server = application();
    let mut run = run();
    run.source = "north".to_owned();
    stop_destination(&context(&server), &run).await.unwrap();
    assert_eq!(label(&server.object("cms"), ACTIVE), Some("false"));
    assert_eq!(annotation(&server.object("cms"), COUNTERPART), Some("north/cms"));
    assert_eq!(server.object("web")["spec"]["replicas"], 0);
    assert_eq!(annotation(&server.object("web"), QUIESCED_BY), None);
    let empty = Server::default();
    let outcome = stop_destination(&context(&empty), &run).await.unwrap();
    assert!(matches!(outcome, Outcome::Workloads { workloads: 0 }));
}

#[tokio::test(start_paused = true)]
async fn a_cutover_marks_the_destination_before_the_first_start_and_a_promotion_never() {
    let server = application();
    stop_destination(&context(&server), &run()).await.unwrap();
    server.refuse_write(None);
    // Without objects: nothing in staging is asked what was brought.
    let mut cutover = run();
    cutover.spec.include_resources = false;
    start_applications(&context(&server), &cutover).await.unwrap();
    assert_eq!(server.writes()[0], "PATCH cms");
    assert_eq!(label(&server.object("cms"), ACTIVE), Some("true"));
    assert_eq!(annotation(&server.object("cms"), COUNTERPART), Some("east/cms"));
    assert_eq!(server.object("pxc")["spec"], json!({"crVersion": "1"}));
    let server = application();
    let mut promotion = run();
    promotion.spec.quiesce = false;
    start_applications(&context(&server), &promotion).await.unwrap();
    assert_eq!(label(&server.object("cms"), ACTIVE), None);
}

#[tokio::test(start_paused = true)]
async fn what_was_handed_over_is_not_activated() {
    let server = application();
    quiesce(&context(&server), &run()).await.unwrap();
    let error = activate(&context(&server), "cms", TargetState::Active, (false, None)).await.unwrap_err();
    assert_eq!(reasons(&error), ["ActiveElsewhere Namespace cms"]);
    assert_eq!(server.object("web")["spec"]["replicas"], 0);
    activate(&context(&server), "cms", TargetState::Active, (true, None)).await.unwrap();
    assert_eq!(
        label(&server.object("cms"), ACTIVE),
        Some("true"),
        "the hub knows that the other stands still"
    );
    activate(&context(&server), "cms", TargetState::Inactive, (false, None)).await.unwrap();
    server.change("cms", |cms| cms["metadata"]["labels"][ACTIVE] = json!("true"));
    activate(&context(&server), "cms", TargetState::Active, (false, None)).await.unwrap();
    assert_eq!(server.object("web")["spec"]["replicas"], 3);
    assert_eq!(annotation(&server.object("web"), QUIESCED_BY), None);
    activate(&context(&server), "cms", TargetState::Inactive, (false, None)).await.unwrap();
    assert_eq!(label(&server.object("cms"), ACTIVE), Some("false"));
}

#[tokio::test(start_paused = true)]
async fn what_failed_over_to_the_other_side_is_marked_and_stopped_here() {
    let server = application();
    let over = (false, Some("west/cms-west"));
    for _ in 0..2 {
        activate(&context(&server), "cms", TargetState::Inactive, over).await.unwrap();
        assert_eq!(label(&server.object("cms"), ACTIVE), Some("false"));
        assert_eq!(annotation(&server.object("cms"), COUNTERPART), Some("west/cms-west"));
        assert_eq!(server.object("web")["spec"]["replicas"], 0);
    }
    let error = activate(&context(&server), "cms", TargetState::Active, (false, None)).await.unwrap_err();
    assert_eq!(reasons(&error), ["ActiveElsewhere Namespace cms"]);
    activate(&context(&server), "cms", TargetState::Active, (true, None)).await.unwrap();
    assert_eq!(server.object("web")["spec"]["replicas"], 3, "as it was");
}

#[tokio::test(start_paused = true)]
async fn bare_pods_without_volumes_and_what_would_undo_a_stop_are_told() {
    let server = application();
    server.add(pod("by-hand", None));
    server.add(object(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        "web",
        json!({"scaleTargetRef": {"kind": "Deployment", "name": "web"}}),
    ));
    let context = context(&server);
    quiesce(&context, &run()).await.unwrap();
    assert_eq!(warnings(&context), ["BarePod Pod cms/by-hand", "Autoscaled HorizontalPodAutoscaler cms/web"]);
}

#[tokio::test]
async fn applications_that_are_not_ready_fail_a_cutover_with_what_their_pods_say_and_only_warn_in_a_promotion()
 {
    let server = Server::default();
    namespace(&server);
    let mut web = object(
        "apps/v1",
        "Deployment",
        "web",
        json!({"replicas": 1, "selector": {"matchLabels": {"app": "web"}}}),
    );
    web["status"] = json!({"readyReplicas": 0});
    server.add(web);
    let mut crashing = pod("web-1", None);
    crashing["metadata"]["labels"] = json!({"app": "web"});
    crashing["status"]["containerStatuses"] = json!([{"name": "web", "ready": false, "restartCount": 2,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}}]);
    server.add(crashing);
    let mut event = object("v1", "Event", "web-1.1", json!({}));
    event["type"] = json!("Warning");
    event["reason"] = json!("BackOff");
    event["message"] = json!("Back-off restarting failed container");
    server.add(event);
    server.log("web-1", "starting\nno such host: db\n");
    let mut run = run();
    run.spec.health.timeout_seconds = 0;
    let error = check_health(&context(&server), &run).await.unwrap_err();
    assert_eq!(reasons(&error), ["NotReady Deployment cms/web"]);
    for said in [
        "CrashLoopBackOff",
        "events: BackOff: Back-off restarting",
        "log of web: starting | no such host: db",
    ] {
        assert!(error.to_string().contains(said), "{said}: {error}");
    }
    run.spec.quiesce = false;
    let context = context(&server);
    let outcome = check_health(&context, &run).await.unwrap();
    assert!(matches!(outcome, Outcome::Healthy { workloads: 0, ready_at: None }));
    assert_eq!(warnings(&context), ["NotReady Deployment cms/web"]);
}

#[tokio::test(start_paused = true)]
async fn applications_that_are_ready_tell_since_when() {
    let server = Server::default();
    namespace(&server);
    let mut web = object("apps/v1", "Deployment", "web", json!({"replicas": 1}));
    web["status"] = json!({"readyReplicas": 1});
    server.add(web);
    let mut ready = pod("web-1", None);
    ready["status"]["conditions"] =
        json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:05Z"}]);
    server.add(ready);
    let mut run = run();
    run.spec.health.duration_seconds = Some(0);
    let outcome = check_health(&context(&server), &run).await.unwrap();
    let Outcome::Healthy { workloads: 1, ready_at: Some(at) } = outcome else { panic!("{outcome:?}") };
    assert_eq!(at.0, "2026-01-01T00:00:05Z".parse().unwrap());
}
