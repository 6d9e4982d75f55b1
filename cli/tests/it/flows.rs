//! What commands leave in a cluster, and how they end.

use isthmus_shared::protocol::identity::SigningKey;
use serde_json::{Value, json};

use crate::fake_api::{FakeApi, core, record};
use crate::{printed, refused};

/// A hub that never answers.
fn no_hub(_: &Value) -> Vec<(String, Value)> {
    Vec::new()
}

/// A hub that issues join tokens, and ends migrations and activations as their names say.
fn hub(object: &Value) -> Vec<(String, Value)> {
    let (name, mut answer) = (object["metadata"]["name"].as_str().unwrap(), object.clone());
    match object["kind"].as_str() {
        Some("Cluster") => {
            let request = &object["spec"]["joinRequest"];
            let id = format!("id of {request}");
            let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap();
            let token = SigningKey::generate().unwrap().join_token(name, &id, "aa", now).unwrap();
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {},
                "data": {"token": base64(&token), "hub": base64("https://hub.example.com:8443")},
            });
            let asked = object["spec"]["activations"].as_array().cloned().unwrap_or_default();
            let done: Vec<_> = asked
                .into_iter()
                .map(|mut activation| {
                    let fails = activation["namespace"] == "broken";
                    activation["phase"] = json!(if fails { "Failed" } else { "Succeeded" });
                    activation["workloads"] = json!(2);
                    activation
                })
                .collect();
            answer["status"] = json!({
                "join": {"request": request, "tokenId": id, "expires": "2100-01-01T00:00:00Z"}, "activations": done,
            });
            vec![(core("secrets", &format!("{name}-join-token")), secret), (record("clusters", name), answer)]
        }
        Some("Migration") => {
            answer["status"] = status(match name {
                "good" => "Succeeded",
                "so-so" => "SucceededWithWarnings",
                _ => "Failed",
            });
            vec![(record("migrations", name), answer)]
        }
        _ => Vec::new(),
    }
}

/// A hub that answers what is asked about staging.
fn collector(object: &Value) -> Vec<(String, Value)> {
    let wanted = &object["spec"]["prune"];
    if object["kind"] != "ClusterPair" || !wanted.is_object() {
        return Vec::new();
    }
    let volume = json!({"uid": "u1", "cluster": "east", "namespace": "cms", "claim": "data", "passes": wanted["keep"],
                        "newestPass": 4, "bytesKept": 1024, "bytesRemoved": 2048, "objectsRemoved": 2});
    let problems = i32::from(wanted["gone"] == true);
    let mut answer = object.clone();
    answer["status"] = json!({"prune": {
        "request": wanted["request"], "dryRun": wanted["dryRun"], "phase": "Succeeded", "volumes": [volume],
        "totals": {"volumes": 1, "objectsRemoved": 2, "bytesRemoved": 2048, "bytesKept": 1024, "problems": problems},
    }});
    vec![(record("clusterpairs", object["metadata"]["name"].as_str().unwrap()), answer)]
}

fn base64(text: &str) -> String {
    serde_json::to_value(k8s_openapi::ByteString(text.as_bytes().to_vec()))
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}

fn status(phase: &str) -> Value {
    json!({
        "status": phase, "message": "the end", "volumesSummary": "2/2", "resourcesSummary": "14/14",
        "bytesDone": 2048, "bytesTotal": 2048, "failuresTotal": 0, "warningsTotal": 0, "fence": 1,
        "resources": {"total": 14, "done": 14, "created": 14, "updated": 0, "unchanged": 0, "failed": 0, "leftBehind": 0},
    })
}

fn with_pair(api: &FakeApi) {
    let spec = json!({"source": "east", "destination": "west", "objectStore": "main"});
    let pair =
        json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "ClusterPair", "metadata": {}, "spec": spec});
    api.put(&record("clusterpairs", "prod"), pair);
}

fn with_cluster(api: &FakeApi, name: &str) {
    let cluster =
        json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "Cluster", "metadata": {}, "spec": {}});
    api.put(&record("clusters", name), cluster);
}

const STORE: [&str; 7] =
    ["store", "create", "main", "--endpoint", "https://s3.example.com", "--bucket", "staging"];
const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "the-id"), ("AWS_SECRET_ACCESS_KEY", "the-secret")];

#[test]
fn a_cluster_that_is_added_gets_a_token_and_how_to_use_it() {
    let api = FakeApi::start(hub);
    let text = printed(&mut api.isthmus(&["cluster", "add", "east"]));
    assert!(text.contains("--hub https://hub.example.com:8443 --join-token-file east.token"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("ey") && line.matches('.').count() == 2), "{text}");
    let again = refused(&mut api.isthmus(&["cluster", "add", "east"]), 1);
    assert!(again.contains("isthmus cluster token east"), "{again}");
}

#[test]
fn a_token_that_goes_to_a_file_is_not_printed() {
    let api = FakeApi::start(hub);
    with_cluster(&api, "east");
    let file = api.file("east.token");
    let mut command = api.isthmus(&["cluster", "token", "east", "-o", "json", "--token-file"]);
    let joining: Value = serde_json::from_str(&printed(command.arg(&file))).unwrap();
    assert_eq!(joining["tokenFile"], file.to_str().unwrap());
    assert_eq!(joining["token"], Value::Null);
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("ey"));
}

#[test]
fn no_hub_is_said_in_time_and_the_file_is_not_written() {
    let api = FakeApi::start(no_hub);
    let file = api.file("east.token");
    let mut command = api.isthmus(&["cluster", "add", "east", "--timeout", "1s", "--token-file"]);
    let said = refused(command.arg(&file), 1);
    assert!(said.contains("no hub has issued its join token within 1s"), "{said}");
    assert!(!file.exists());
}

#[test]
fn a_cluster_stays_as_long_as_pairs_refer_to_it() {
    let api = FakeApi::start(no_hub);
    with_cluster(&api, "west");
    with_pair(&api);
    let said = refused(&mut api.isthmus(&["cluster", "remove", "west"]), 1);
    assert!(said.contains("isthmus/prod") && said.contains("isthmus pair delete"), "{said}");
    api.forbid_lists_of_all_namespaces();
    let said = refused(&mut api.isthmus(&["cluster", "remove", "west"]), 1);
    assert!(said.contains("only those of isthmus") && said.contains("isthmus/prod"), "{said}");
    printed(&mut api.isthmus(&["pair", "delete", "prod"]));
    printed(&mut api.isthmus(&["cluster", "remove", "west"]));
    assert_eq!(api.count(), 0);
}

#[test]
fn a_store_is_made_with_its_keys_which_are_never_printed() {
    let api = FakeApi::start(no_hub);
    let output = api.isthmus(&STORE).args(["-o", "yaml"]).envs(KEYS).assert().success().get_output().clone();
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    for secret in ["the-secret", &base64("the-secret"), "the-id"] {
        assert!(!printed.contains(secret), "{printed}");
    }
    let store = api.get(&record("objectstores", "main")).unwrap();
    let secret = api.get(&core("secrets", "main-credentials")).unwrap();
    assert_eq!(store["spec"]["credentialsSecretRef"]["name"], "main-credentials");
    assert_eq!(secret["data"]["AWS_SECRET_ACCESS_KEY"], base64("the-secret"));
    assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], store["metadata"]["uid"]);
}

#[test]
fn a_store_that_is_refused_leaves_no_keys_behind() {
    let api = FakeApi::start(no_hub);
    let args =
        ["store", "create", "main", "--endpoint", "https://s3.example.com", "--bucket", "refused-bucket"];
    let said = refused(api.isthmus(&args).envs(KEYS), 1);
    assert!(said.contains("the bucket is not allowed"), "{said}");
    assert_eq!(api.count(), 0);
}

#[test]
fn a_migration_through_a_pair_that_is_not_there_is_not_created() {
    let api = FakeApi::start(no_hub);
    let said = refused(&mut api.isthmus(&["migrate", "cms", "--pair", "prod"]), 1);
    assert!(said.contains("ClusterPair isthmus/prod") && said.contains("isthmus pair list"), "{said}");
    assert_eq!(api.count(), 0);
}

#[test]
fn a_migration_whose_name_is_taken_changes_nothing() {
    let api = FakeApi::start(no_hub);
    with_pair(&api);
    let args = ["migrate", "cms", "--pair", "prod", "--name", "monday"];
    printed(&mut api.isthmus(&args));
    let before = api.get(&record("migrations", "monday"));
    let said = refused(api.isthmus(&args).arg("--wait"), 1);
    assert!(said.contains("Migration isthmus/monday is there already"), "{said}");
    assert_eq!(api.get(&record("migrations", "monday")), before);
}

#[test]
fn waiting_for_a_migration_ends_as_the_migration_does() {
    let api = FakeApi::start(hub);
    with_pair(&api);
    for (name, code) in [("good", 0), ("so-so", 3), ("bad", 1)] {
        let mut command = api.isthmus(&["migrate", "cms", "--pair", "prod", "--wait", "--name", name]);
        let output = command.assert().code(code).get_output().clone();
        let (said, notes) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(said.starts_with(&format!("Migration isthmus/{name}: ")), "{said}");
        assert!(notes.contains("objects: Succeeded 100% 14 of 14"), "{notes}");
        api.isthmus(&["migration", "wait", name, "-o", "json"]).assert().code(code);
    }
}

#[test]
fn a_deleted_migration_is_gone_when_the_waiting_ends() {
    let api = FakeApi::start(no_hub);
    with_pair(&api);
    printed(&mut api.isthmus(&["migrate", "cms", "--pair", "prod", "--name", "monday"]));
    let text = printed(&mut api.isthmus(&["migration", "delete", "monday", "--wait"]));
    assert_eq!(text, "Migration isthmus/monday is deleted.\n");
    let said = refused(&mut api.isthmus(&["migration", "delete", "monday"]), 1);
    assert!(said.contains("there is no Migration isthmus/monday"), "{said}");
}

#[test]
fn what_the_hub_still_holds_is_said_to_be_on_its_way() {
    let api = FakeApi::start(no_hub);
    with_pair(&api);
    let mut pair = api.get(&record("clusterpairs", "prod")).unwrap();
    pair["metadata"]["finalizers"] = json!(["isthmus.dev/hub"]);
    api.put(&record("clusterpairs", "prod"), pair);
    let text = printed(&mut api.isthmus(&["pair", "delete", "prod"]));
    assert!(text.contains("is being deleted, and goes once the hub"), "{text}");
    let text = printed(&mut api.isthmus(&["pair", "describe", "prod"]));
    assert!(text.contains("Deleting:           since 2026-01-01T00:00:00Z"), "{text}");
}

#[test]
fn applications_are_started_however_often_others_write_meanwhile() {
    let api = FakeApi::start(hub);
    with_cluster(&api, "west");
    api.interfere(3);
    let text = printed(&mut api.isthmus(&["activate", "cms", "shop", "--cluster", "west", "-o", "json"]));
    let answers: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answers["activations"][1]["phase"], "Succeeded");
    let cluster = api.get(&record("clusters", "west")).unwrap();
    assert_eq!(cluster["spec"]["activations"].as_array().unwrap().len(), 2);
}

#[test]
fn an_activation_that_fails_ends_with_1_and_shows_each_namespace() {
    let api = FakeApi::start(hub);
    with_cluster(&api, "west");
    let mut command = api.isthmus(&["deactivate", "cms", "broken", "--cluster", "west"]);
    let output = command.assert().code(1).get_output().clone();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("cms        Inactive  Succeeded") && text.contains("broken     Inactive  Failed"),
        "{text}"
    );
}

#[test]
fn someone_who_always_writes_meanwhile_does_not_keep_us_for_ever() {
    let api = FakeApi::start(no_hub);
    with_cluster(&api, "west");
    api.interfere(1000);
    let said = refused(&mut api.isthmus(&["activate", "cms", "--cluster", "west"]), 1);
    assert!(said.contains("others changed it"), "{said}");
}

#[test]
fn staging_is_collected_through_the_pairs_record() {
    let api = FakeApi::start(collector);
    with_pair(&api);
    let text = printed(&mut api.isthmus(&["staging", "prune", "--pair", "prod", "--keep", "3"]));
    assert!(text.contains("Removed:            2.0 KiB in 2 objects"), "{text}");
    assert_eq!(api.get(&record("clusterpairs", "prod")).unwrap()["spec"]["prune"]["keep"], 3);
    let text = printed(&mut api.isthmus(&["staging", "list", "--pair", "prod"]));
    assert!(text.contains("3.0 KiB") && !text.contains("Removed"), "a list only looks: {text}");
    assert_eq!(api.get(&record("clusterpairs", "prod")).unwrap()["spec"]["prune"]["dryRun"], true);
    api.isthmus(&["staging", "prune", "--pair", "prod", "--gone"]).assert().code(3);
    let said = refused(&mut api.isthmus(&["staging", "prune", "--pair", "other"]), 1);
    assert!(said.contains("there is no ClusterPair isthmus/other"), "{said}");
}

#[test]
fn a_collection_that_is_not_answered_is_waited_for_and_not_replaced() {
    let api = FakeApi::start(no_hub);
    with_pair(&api);
    let line = ["staging", "prune", "--pair", "prod", "--timeout", "1s"];
    let said = refused(&mut api.isthmus(&line), 1);
    assert!(said.contains("not done within 1s") && said.contains("the request stands"), "{said}");
    let said = refused(&mut api.isthmus(&line), 1);
    assert!(said.contains("is under way"), "{said}");
}

#[test]
fn a_dry_run_says_what_is_in_the_way_and_leaves_nothing() {
    fn finds(object: &Value) -> Vec<(String, Value)> {
        let (name, mut answer) = (object["metadata"]["name"].as_str().unwrap_or_default(), object.clone());
        if object["kind"] != "Migration" || object["metadata"]["deletionTimestamp"].is_string() {
            return Vec::new();
        }
        assert_eq!(object["spec"]["dryRun"], true);
        let reason = if object["spec"]["startApplications"] == true { "QuotaExceeded" } else { "NoNews" };
        answer["status"] = status(if object["spec"]["reverse"] == true { "Succeeded" } else { "Failed" });
        let finding = json!({"object": "ResourceQuota cms/q", "reason": reason, "message": "raise it"});
        answer["status"]["failures"] = json!([finding]);
        answer["status"]["failuresTotal"] = json!(1);
        vec![(record("migrations", name), answer)]
    }
    let api = FakeApi::start(finds);
    with_pair(&api);
    let ends = |flags: &[&str], code: i32| {
        let mut command = api.isthmus(&["diff", "cms", "--pair", "prod"]);
        let output = command.args(flags).assert().code(code).get_output().clone();
        assert_eq!(api.count(), 1, "the dry run's record is removed again");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = ends(&["--start-applications"], 1);
    assert!(text.contains("QuotaExceeded  raise it") && text.contains("Nothing was changed."), "{text}");
    assert!(ends(&["--reverse"], 0).contains("The migration could run."));
    assert!(ends(&[], 4).contains("It could not be told"), "the hub heard nothing");
    let view: Value = serde_json::from_str(&ends(&["--start-applications", "-o", "json"], 1)).unwrap();
    assert_eq!((view["prospect"].as_str(), view["failuresTotal"].as_u64()), (Some("InTheWay"), Some(1)));
}

#[test]
fn a_dry_run_that_takes_too_long_is_removed_again() {
    let api = FakeApi::start(no_hub);
    with_pair(&api);
    let said = refused(&mut api.isthmus(&["diff", "cms", "--pair", "prod", "--timeout", "1s"]), 4);
    assert!(said.contains("had not been looked at within 1s"), "{said}");
    assert_eq!(api.count(), 1);
}
