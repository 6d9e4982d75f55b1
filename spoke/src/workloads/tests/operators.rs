//! What the operators that a run names have to do with stopping, going back and starting.

use super::*;

/// An application whose database an operator runs from a namespace of its own; no rule is known for it.
fn managed() -> Server {
    let server = application();
    let mut operator = object("apps/v1", "Deployment", "operator", json!({"replicas": 1}));
    operator["metadata"]["namespace"] = json!("operators");
    operator["spec"]["selector"] = json!({"matchLabels": {"app": "operator"}});
    server.add(operator);
    server.add(object("example.com/v1", "Database", "d", json!({"size": 2})));
    server.add(owned(
        object("apps/v1", "StatefulSet", "managed", json!({"replicas": 2})),
        ("example.com/v1", "Database", "d"),
    ));
    server
}

/// A run that names the operator.
fn naming() -> Run {
    let mut run = run();
    run.spec.operators =
        serde_json::from_value(json!([{"namespace": "operators", "name": "operator"}])).unwrap();
    run
}

fn replicas(server: &Server, name: &str) -> Value {
    server.object(name)["spec"]["replicas"].clone()
}

#[tokio::test(start_paused = true)]
async fn operators_stop_first_and_start_first() {
    let server = managed();
    let before = server.picture();
    let mut run = naming();
    quiesce(&context(&server), &run).await.unwrap();
    let writes = server.writes();
    assert_eq!(writes[..2], ["PATCH cms", "PATCH operator"], "{writes:?}");
    assert!(writes.contains(&"PATCH managed".to_owned()));
    server.refuse_write(None);
    restore_source(&context(&server), &run).await.unwrap();
    assert_eq!(server.writes()[1], "PATCH operator");
    assert_eq!(server.picture(), before);
    run.spec.operators = serde_json::from_value(json!([{"namespace": "operators", "name": "gone"}])).unwrap();
    let error = quiesce(&context(&server), &run).await.unwrap_err();
    assert_eq!(reasons(&error), ["OperatorNotFound Deployment operators/gone"]);
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_is_stopped_itself_is_not_waited_for_to_say_that_it_has_stopped_something() {
    let server = managed();
    server.add(json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "own", "namespace": "isthmus-spoke", "labels": {"isthmus.dev/suspend-rules": "true"}},
        "data": {"rules.yaml": "- {group: example.com, kind: Database, fields: [{path: /spec/paused, value: true}], \
                                stopped: {path: /status/phase, value: Stopped}}"}}));
    let before = server.picture();
    let mut run = naming();
    run.spec.step_timeout_seconds = 60;
    quiesce(&context(&server), &run).await.unwrap();
    assert_eq!(server.object("d")["spec"]["paused"], true);
    assert_eq!(replicas(&server, "managed"), 0);
    restore_source(&context(&server), &run).await.unwrap();
    assert_eq!(server.picture(), before);
    // Where its operator runs, its word is waited for.
    run.spec.operators.clear();
    let error = quiesce(&context(&server), &run).await.unwrap_err();
    assert_eq!(reasons(&error), ["NotSettled Database cms/d"]);
}

#[tokio::test(start_paused = true)]
async fn going_back_stops_an_operator_of_the_destination_before_what_it_runs_there() {
    let server = managed();
    let run = naming();
    stop_destination(&context(&server), &run).await.unwrap();
    let writes = server.writes();
    assert_eq!(writes[..2], ["PATCH cms", "PATCH operator"], "{writes:?}");
    assert_eq!((replicas(&server, "operator"), replicas(&server, "managed")), (json!(0), json!(0)));
    assert_eq!(annotation(&server.object("operator"), QUIESCED_BY), Some("m1"), "it is others' too");
    assert_eq!(annotation(&server.object("managed"), QUIESCED_BY), None);
}

#[tokio::test(start_paused = true)]
async fn an_operator_of_the_destination_starts_again_once_what_it_would_start_is_going() {
    let server = managed();
    let run = naming();
    stop_destination(&context(&server), &run).await.unwrap();
    let kept = context(&server);
    release_operators(&kept, &run).await.unwrap();
    assert_eq!(warnings(&kept), ["OperatorStaysStopped Deployment operators/operator"]);
    assert_eq!(replicas(&server, "operator"), 0);
    server.change("d", |database| database["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    release_operators(&context(&server), &run).await.unwrap();
    assert_eq!(replicas(&server, "operator"), 1);
    assert_eq!(annotation(&server.object("operator"), QUIESCED_BY), None);
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_runs_starts_with_it_where_an_earlier_run_has_stopped_both() {
    let server = managed();
    let mut run = naming();
    run.spec.include_resources = false;
    quiesce(&context(&server), &run).await.unwrap();
    server.refuse_write(None);
    // The way back: this side is the destination.
    run.migration = "m2".to_owned();
    start_applications(&context(&server), &run).await.unwrap();
    assert_eq!(server.writes()[..2], ["PATCH cms", "PATCH operator"]);
    assert_eq!((replicas(&server, "operator"), replicas(&server, "managed")), (json!(1), json!(2)));
    assert_eq!(annotation(&server.object("operator"), QUIESCED_BY), None);
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_a_person_has_stopped_is_not_started() {
    let server = managed();
    server.change("operator", |operator| {
        operator["spec"]["replicas"] = json!(0);
        operator["metadata"]["annotations"] = json!({MIGRATION_REPLICAS: "1"});
    });
    let mut run = naming();
    run.spec.include_resources = false;
    start_applications(&context(&server), &run).await.unwrap();
    assert_eq!(replicas(&server, "operator"), 0);
}

#[tokio::test]
async fn what_an_operator_runs_must_be_ready_too() {
    let server = Server::default();
    namespace(&server);
    server.add(object("example.com/v1", "Database", "d", json!({"size": 2})));
    let mut set = owned(
        object("apps/v1", "StatefulSet", "managed", json!({"replicas": 2})),
        ("example.com/v1", "Database", "d"),
    );
    set["status"] = json!({"readyReplicas": 1});
    server.add(set);
    let mut run = run();
    run.spec.health.timeout_seconds = 0;
    run.spec.health.duration_seconds = Some(0);
    let error = check_health(&context(&server), &run).await.unwrap_err();
    assert_eq!(reasons(&error), ["NotReady StatefulSet cms/managed"]);
    server.change("managed", |set| set["status"]["readyReplicas"] = json!(2));
    let outcome = check_health(&context(&server), &run).await.unwrap();
    assert!(matches!(outcome, Outcome::Healthy { workloads: 1, .. }), "{outcome:?}");
}
