//! Plans and their runs: what the commands make, in which order, and how they end.

use serde_json::{Value, json};

use crate::fake_api::{FakeApi, record};
use crate::{printed, refused};

/// A hub that checks plans, and ends runs: stages upload 100 MiB each, what is called `bad` fails, and
/// what is cancelled goes back.
fn hub(object: &Value) -> Vec<(String, Value)> {
    let name = object["metadata"]["name"].as_str().unwrap();
    let mut answer = object.clone();
    match object["kind"].as_str() {
        Some("MigrationPlan") => {
            let asked = &object["metadata"]["annotations"]["isthmus.dev/check"];
            let critical = u64::from(name == "bad");
            answer["status"] = json!({
                "phase": if critical > 0 { "NotReady" } else { "Ready" }, "answered": asked, "critical": critical,
                "warnings": 0, "checkedAt": "2026-01-01T00:00:00Z",
            });
            vec![(record("migrationplans", name), answer)]
        }
        Some("Migration") => {
            let (spec, cancelled) =
                (&object["spec"], &object["metadata"]["annotations"]["isthmus.dev/cancel"]);
            if name == "running" && cancelled != "true" {
                return Vec::new();
            }
            let cutover = spec["quiesce"] == true;
            let failed = spec["plan"] == "bad";
            let phase = if failed { "Failed" } else { "Succeeded" };
            let mut status = json!({
                "status": if cancelled == "true" { "RolledBack" } else { phase }, "source": "east", "destination": "west",
                "volumes": [{"namespace": "cms", "claim": "data", "uid": "u", "bytesUploaded": 100 << 20}],
            });
            if cutover {
                status["active"] = json!(if failed { "Source" } else { "Destination" });
                status["stoppedAt"] = json!("2026-01-01T00:00:00Z");
                status["readyAt"] = json!("2026-01-01T00:00:42Z");
            }
            answer["status"] = status;
            vec![(record("migrations", name), answer)]
        }
        _ => Vec::new(),
    }
}

fn with_plan(api: &FakeApi, name: &str) {
    let spec = json!({"clusterPair": "prod", "namespaces": ["cms"], "quiesce": true});
    let plan =
        json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "MigrationPlan", "metadata": {}, "spec": spec});
    api.put(&record("migrationplans", name), plan);
}

fn with_migration(api: &FakeApi, name: &str, spec: &Value) {
    let migration =
        json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "Migration", "metadata": {}, "spec": spec});
    api.put(&record("migrations", name), migration);
}

/// Everything that there is of a kind, the oldest first.
fn runs(api: &FakeApi) -> Vec<Value> {
    let mut runs = api.all("migrations");
    runs.sort_by_key(|run| {
        run["metadata"]["uid"].as_str().map(|uid| uid.replace("uid-", "").parse::<u32>().ok())
    });
    runs
}

fn actions(api: &FakeApi) -> Vec<String> {
    runs(api).iter().map(|run| run["spec"]["action"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_cutover_stages_until_the_limit_and_then_stops_the_source() {
    let api = FakeApi::start(hub);
    with_plan(&api, "shop");
    let text = printed(&mut api.isthmus(&["cutover", "shop", "--max-stages", "2"]));
    assert_eq!(actions(&api), ["Stage", "Stage", "Final"]);
    let last = runs(&api).pop().unwrap();
    assert_eq!((&last["spec"]["quiesce"], &last["spec"]["plan"]), (&json!(true), &json!("shop")));
    assert!(text.contains("Active side: west") && text.contains("Downtime: 42s"), "{text}");
}

#[test]
fn a_cutover_stages_no_more_once_little_is_left_to_move() {
    let api = FakeApi::start(hub);
    with_plan(&api, "shop");
    printed(&mut api.isthmus(&["cutover", "shop", "--until", "200Mi"]));
    assert_eq!(actions(&api), ["Stage", "Final"]);
    printed(&mut api.isthmus(&["cutover", "shop", "--max-stages", "0"]));
    assert_eq!(actions(&api), ["Stage", "Final", "Final"]);
}

#[test]
fn there_is_no_cutover_after_a_stage_that_failed() {
    let api = FakeApi::start(hub);
    with_plan(&api, "bad");
    let ended = api.isthmus(&["cutover", "bad"]).assert().code(1).get_output().clone();
    assert!(String::from_utf8_lossy(&ended.stderr).contains("the applications go on running"));
    assert_eq!(actions(&api), ["Stage"]);
    api.isthmus(&["cutover", "bad", "--max-stages", "0"]).assert().code(1);
    let none = refused(&mut api.isthmus(&["cutover", "none"]), 1);
    assert!(none.contains("isthmus plan list"), "{none}");
}

#[test]
fn a_check_is_answered_for_the_very_request() {
    let api = FakeApi::start(hub);
    with_plan(&api, "shop");
    with_plan(&api, "bad");
    let text = printed(&mut api.isthmus(&["plan", "check", "shop"]));
    assert!(text.contains("Ready: a run of it may begin"), "{text}");
    api.isthmus(&["plan", "check", "bad"]).assert().code(1);
    let silent = FakeApi::start(|_| Vec::new());
    with_plan(&silent, "shop");
    let said = refused(&mut silent.isthmus(&["plan", "check", "shop", "--timeout", "1s"]), 4);
    assert!(said.contains("was not checked within 1s"), "{said}");
}

#[test]
fn a_run_is_cancelled_begun_again_and_undone_by_its_name() {
    let api = FakeApi::start(hub);
    with_migration(
        &api,
        "running",
        &json!({"clusterPair": "prod", "namespaces": ["cms"], "parallelVolumes": 7}),
    );
    let early = refused(&mut api.isthmus(&["migration", "retry", "running"]), 1);
    assert!(early.contains("isthmus migration wait running"), "{early}");
    let early = refused(&mut api.isthmus(&["rollback", "running"]), 1);
    assert!(early.contains("isthmus migration cancel running"), "{early}");
    let text = printed(&mut api.isthmus(&["migration", "cancel", "running", "--wait"]));
    assert!(text.contains("RolledBack"), "{text}");
    let late = refused(&mut api.isthmus(&["migration", "cancel", "running"]), 1);
    assert!(late.contains("isthmus rollback running"), "{late}");

    for _ in 0..2 {
        printed(&mut api.isthmus(&["migration", "retry", "running"]));
    }
    let again = api.get(&record("migrations", "running-retry-2")).unwrap();
    assert_eq!(again["spec"]["parallelVolumes"], 7);
    assert_eq!(again["metadata"]["annotations"], Value::Null, "it was cancelled from the beginning");

    let undo = ["rollback", "running", "--reclaim", "Delete", "--name", "back", "--wait"];
    printed(&mut api.isthmus(&undo));
    let back = api.get(&record("migrations", "back")).unwrap();
    assert_eq!(back["spec"]["rollbackOf"], "running");
    assert_eq!((&back["spec"]["action"], &back["spec"]["reclaim"]), (&json!("Rollback"), &json!("Delete")));
}
