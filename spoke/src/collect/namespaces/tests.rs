//! What a person wrote, what the source has, and what it comes to.

#![allow(clippy::needless_pass_by_value, reason = "json! makes values")]

use serde_json::{Value, json};

use super::*;

const PRESENT: &[&str] =
    &["cms", "default", "isthmus", "kube-public", "kube-system", "team-a", "team-b", "team-gone"];

fn present() -> Vec<NamespaceFacts> {
    let facts = |name: &&str| NamespaceFacts {
        name: (*name).to_owned(),
        labels: name
            .strip_prefix("team-")
            .map(|team| ("team".to_owned(), team.to_owned()))
            .into_iter()
            .collect(),
        terminating: *name == "team-gone",
    };
    PRESENT.iter().map(facts).collect()
}

fn resolved(entries: &Value, selector: Option<Value>) -> Resolved {
    let mut spec = MigrationSpec::through("p");
    spec.namespaces = serde_json::from_value(entries.clone()).unwrap();
    spec.namespace_selector = selector.map(|selector| serde_json::from_value(selector).unwrap());
    resolve(&spec, &present(), Place { cluster: "east", own: "isthmus" })
}

fn moves(entries: Value) -> Vec<String> {
    let resolved = resolved(&entries, None);
    assert!(resolved.failures.is_empty(), "{:?}", resolved.failures);
    resolved.moves.iter().map(ToString::to_string).collect()
}

fn reasons(entries: Value) -> Vec<String> {
    resolved(&entries, None).failures.list.into_iter().map(|f| f.reason).collect()
}

#[test]
fn names_globs_and_mappings_are_resolved_each_namespace_once() {
    assert_eq!(moves(json!(["cms", "cms", "team-?"])), ["cms", "team-a", "team-b"]);
    assert_eq!(moves(json!(["team-{a,b}"])), ["team-a", "team-b"]);
    assert_eq!(moves(json!(["team-[b-z]"])), ["team-b"]);
    assert_eq!(moves(json!([{"cms": "cms-green"}])), ["cms -> cms-green"]);
}

#[test]
fn a_mapping_goes_before_a_glob_that_finds_the_same_namespace() {
    assert_eq!(moves(json!(["team-*", "team-a: blue"])), ["team-a -> blue", "team-b"]);
}

#[test]
fn globs_and_selectors_never_find_the_systems_namespaces_or_the_spokes() {
    assert_eq!(moves(json!(["*"])), ["cms", "default", "team-a", "team-b"]);
    let all = resolved(&json!([]), Some(json!({})));
    assert_eq!(all.moves.len(), 4);
    assert_eq!(moves(json!(["kube-system", "isthmus"])), ["isthmus", "kube-system"]);
    let only_system = resolved(&json!(["kube-*"]), None);
    assert!(only_system.failures.list[0].message.contains("by its name only"), "{only_system:?}");
}

#[test]
fn a_selector_adds_the_namespaces_with_its_labels() {
    let found = resolved(&json!(["cms"]), Some(json!({"matchLabels": {"team": "a"}})));
    let names: Vec<&str> = found.moves.iter().map(|moved| moved.from.as_str()).collect();
    assert_eq!(names, ["cms", "team-a"]);
    let expression = json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["b"]}]});
    assert_eq!(resolved(&json!([]), Some(expression)).moves[0].from, "team-b");
}

#[test]
fn a_pattern_that_finds_nothing_is_named() {
    let found = resolved(&json!(["prod-*"]), Some(json!({"matchLabels": {"team": "z"}})));
    let messages: Vec<&str> = found.failures.list.iter().map(|f| f.message.as_str()).collect();
    assert!(messages[0].contains("prod-*") && messages[1].contains("team=z"), "{messages:?}");
}

#[test]
fn what_is_being_deleted_stops_its_name_and_only_warns_of_a_glob() {
    assert_eq!(reasons(json!(["team-gone"])), ["NamespaceTerminating"]);
    let found = resolved(&json!(["team-*"]), None);
    assert!(found.failures.is_empty() && found.moves.len() == 2);
    assert_eq!(found.warnings[0].object, "Namespace team-gone");
}

#[test]
fn two_sources_of_one_destination_and_two_destinations_of_one_source_are_refused() {
    assert_eq!(reasons(json!(["cms: team-a", "team-a"])), ["SameDestination"]);
    assert_eq!(reasons(json!(["cms:x", "team-a:x"])), ["SameDestination"]);
    assert_eq!(reasons(json!(["cms:x", "cms:y"])), ["NamespaceTwice"]);
    assert_eq!(reasons(json!(["cms", "cms:y"])), ["NamespaceTwice"]);
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    assert_eq!(
        reasons(json!(["gone", "Bad_Name", 7, "nothing-*", "cms:-x", "[", "../x"])),
        [
            "NamespaceNotFound",
            "BadNamespace",
            "BadNamespace",
            "NoNamespaceFound",
            "BadNamespace",
            "BadNamespace",
            "BadNamespace"
        ]
    );
}

#[test]
fn more_namespaces_than_a_run_takes_are_refused() {
    let many: Vec<NamespaceFacts> = (0..=MAX_NAMESPACES)
        .map(|n| NamespaceFacts { name: format!("n{n}"), ..NamespaceFacts::default() })
        .collect();
    let mut spec = MigrationSpec::through("p");
    spec.namespaces = vec!["n*".into()];
    let found = resolve(&spec, &many, Place { cluster: "east", own: "isthmus" });
    assert_eq!(found.failures.list[0].reason, "TooManyNamespaces");
    assert_eq!(found.moves.len(), MAX_NAMESPACES);
}
