//! Schedules: what the commands make, refuse and tell.

use serde_json::{Value, json};

use crate::fake_api::{FakeApi, record};
use crate::{printed, refused};

fn quiet(_: &Value) -> Vec<(String, Value)> {
    Vec::new()
}

fn put(api: &FakeApi, kind: &str, plural: &str, name: &str, spec: &Value, status: &Value) {
    let object = json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": kind, "metadata": {}, "spec": spec, "status": status});
    api.put(&record(plural, name), object);
}

fn with_plan(api: &FakeApi, name: &str, quiesce: bool) {
    let pair = json!({"source": "east", "destination": "west", "objectStore": "main"});
    put(api, "ClusterPair", "clusterpairs", "prod", &pair, &json!({}));
    let spec = json!({"clusterPair": "prod", "namespaces": ["cms"], "quiesce": quiesce});
    put(api, "MigrationPlan", "migrationplans", name, &spec, &json!({}));
}

fn with_schedule(api: &FakeApi, name: &str, status: &Value) {
    let spec = json!({"schedule": "@daily", "suspend": true, "template": {"spec": {"plan": "shop"}}});
    put(api, "MigrationSchedule", "migrationschedules", name, &spec, status);
}

#[test]
fn a_schedule_of_a_plan_is_made_only_where_its_runs_could_be() {
    let api = FakeApi::start(quiet);
    with_plan(&api, "shop", false);
    with_plan(&api, "cut", true);
    let create =
        |plan: &str| api.isthmus(&["schedule", "create", "nightly", "--plan", plan, "--cron", "30 2 * * *"]);
    let said = refused(&mut create("none"), 1);
    assert!(said.contains("isthmus plan list"), "{said}");
    let said = refused(&mut create("cut"), 1);
    assert!(said.contains("nothing was created") && said.contains("spec.template.spec.plan"), "{said}");
    assert!(api.all("migrationschedules").is_empty());
    let text = printed(&mut create("shop"));
    assert!(text.contains("first run is due at"), "{text}");
    let made = api.get(&record("migrationschedules", "nightly")).unwrap();
    assert_eq!(made["spec"]["template"]["spec"]["plan"], "shop");
    let said = refused(&mut create("shop"), 1);
    assert!(said.contains("choose another name"), "{said}");
    let bad = ["schedule", "create", "x", "cms", "--pair", "prod", "--cron", "30 2 * *"];
    let said = refused(&mut api.isthmus(&bad), 2);
    assert!(said.contains("spec.schedule") && said.contains("five fields"), "{said}");
}

#[test]
fn a_schedule_that_is_resumed_tells_when_it_stays_held() {
    let api = FakeApi::start(quiet);
    let held = json!({"reason": "FailedOver", "since": "2026-01-01T00:00:00Z",
                      "message": "it was failed over: it goes on once `isthmus failback held` has succeeded"});
    with_schedule(&api, "held", &json!({"held": held}));
    with_schedule(&api, "free", &json!({"active": ["free-29453760"]}));
    let text = printed(&mut api.isthmus(&["schedule", "resume", "held"]));
    assert!(text.contains("stays held") && text.contains("isthmus failback held"), "{text}");
    let text = printed(&mut api.isthmus(&["schedule", "resume", "free"]));
    assert!(text.contains("begins runs again"), "{text}");
    let suspended =
        |api: &FakeApi| api.get(&record("migrationschedules", "free")).unwrap()["spec"]["suspend"].clone();
    assert_eq!(suspended(&api), json!(false));
    let text = printed(&mut api.isthmus(&["schedule", "suspend", "free"]));
    assert!(text.contains("free-29453760 goes on"), "{text}");
    assert_eq!(suspended(&api), json!(true));
    let said = refused(&mut api.isthmus(&["schedule", "suspend", "none"]), 1);
    assert!(said.contains("isthmus schedule list"), "{said}");
}

#[test]
fn a_plan_stays_as_long_as_a_schedule_takes_its_options_from_it() {
    let api = FakeApi::start(quiet);
    with_plan(&api, "shop", false);
    with_schedule(&api, "nightly", &json!({}));
    let said = refused(&mut api.isthmus(&["plan", "delete", "shop"]), 1);
    assert!(said.contains("nightly") && said.contains("isthmus schedule delete"), "{said}");
    let text = printed(&mut api.isthmus(&["schedule", "delete", "nightly"]));
    assert!(text.contains("its runs go with it"), "{text}");
    printed(&mut api.isthmus(&["plan", "delete", "shop"]));
    assert!(api.all("migrationplans").is_empty() && api.all("migrationschedules").is_empty());
}

#[test]
fn what_a_failback_leaves_out_is_told_before_it_is_made_and_whenever_the_schedule_is_looked_at() {
    let api = FakeApi::start(quiet);
    let pair = json!({"source": "east", "destination": "west", "objectStore": "main", "bidirectional": true});
    put(&api, "ClusterPair", "clusterpairs", "prod", &pair, &json!({}));
    let options = json!({"clusterPair": "prod", "namespaces": ["cms"],
        "transforms": [{"match": {"kind": "Ingress"}, "mergePatch": {"spec": {"ingressClassName": "x"}}}],
        "storageClassMapping": {"gold": "slow", "silver": "slow"}});
    put(&api, "MigrationPlan", "migrationplans", "shop", &options, &json!({}));
    with_schedule(&api, "nightly", &json!({}));
    let own = json!({"schedule": "@daily", "template": {"spec": options}});
    put(&api, "MigrationSchedule", "migrationschedules", "own", &own, &json!({}));
    let plain =
        json!({"schedule": "@daily", "template": {"spec": {"clusterPair": "prod", "namespaces": ["cms"]}}});
    put(&api, "MigrationSchedule", "migrationschedules", "plain", &plain, &json!({}));
    for schedule in ["nightly", "own", "plain", "none"] {
        let output = api.isthmus(&["failback", schedule, "--name", schedule]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        let told: Vec<&str> =
            said.lines().filter(|line| line.starts_with("Not turned round for the way back: ")).collect();
        if matches!(schedule, "plain" | "none") {
            assert_eq!(told, Vec::<&str>::new(), "{said}");
            continue;
        }
        assert_eq!(told.len(), 2, "{said}");
        assert!(
            told[0].contains("spec.storageClassMapping") && told[1].contains("spec.transforms"),
            "{said}"
        );
        assert!(said.find("spec.transforms") < said.find("is created"), "{said}");
        let text = printed(&mut api.isthmus(&["schedule", "describe", schedule]));
        let lines = text.lines().filter(|line| line.starts_with("Not failed back:"));
        assert_eq!(lines.count(), 2, "{text}");
    }
    let text = printed(&mut api.isthmus(&["schedule", "describe", "plain"]));
    assert!(!text.contains("Not failed back"), "{text}");
}

#[test]
fn a_schedule_is_described_with_its_own_runs() {
    let api = FakeApi::start(quiet);
    with_schedule(&api, "daily", &json!({}));
    let uid = api.get(&record("migrationschedules", "daily")).unwrap()["metadata"]["uid"].clone();
    for (name, owner) in [("daily-29453760", uid), ("daily-29453700", json!("another"))] {
        let owner = json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "MigrationSchedule", "name": "daily", "uid": owner});
        let run = json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "Migration",
            "metadata": {"labels": {"isthmus.dev/schedule": "daily"}, "ownerReferences": [owner]},
            "spec": {"plan": "shop"}, "status": {"status": "Failed", "message": "no"}});
        api.put(&record("migrations", name), run);
    }
    let text = printed(&mut api.isthmus(&["schedule", "describe", "daily"]));
    assert!(text.contains("daily-29453760") && !text.contains("daily-29453700"), "{text}");
    assert!(text.contains("2026-01-01T00:00:00+00:00"), "when it was due: {text}");
    let json = printed(&mut api.isthmus(&["schedule", "describe", "daily", "-o", "json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["spec"]["schedule"], json["runs"].as_array().unwrap().len()), (&json!("@daily"), 1));
    let list = printed(&mut api.isthmus(&["schedule", "list"]));
    assert!(list.contains("daily") && list.contains("@daily"), "{list}");
}
