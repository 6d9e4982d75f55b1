//! Objects in, in whatever order, and what becomes of each.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn object(api_version: &str, kind: &str, name: &str, owners: &[Value]) -> Value {
    json!({"apiVersion": api_version, "kind": kind,
           "metadata": {"name": name, "namespace": "cms", "uid": name, "ownerReferences": owners}})
}

fn owner(api_version: &str, kind: &str, name: &str, controller: bool) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": name, "controller": controller})
}

/// What became of each object, and the order in which those that waited go.
fn outcome(objects: Vec<(Value, Choice)>) -> (HashMap<String, String>, Vec<String>) {
    let mut ownership = Ownership::default();
    let mut became = HashMap::new();
    let mut note = |name: String, choice: &Choice| {
        let text = match choice {
            Choice::Keep => "taken".to_owned(),
            Choice::LeaveBehind { reason, message } => format!("{reason}: {message}"),
        };
        assert!(became.insert(name, text).is_none(), "told twice");
    };
    for (object, choice) in objects {
        if let Standing::Decided(object, choice) = ownership.meet(object, choice, 0) {
            note(crate::cluster::name(&object).to_owned(), &choice);
        }
    }
    let mut late = Vec::new();
    for settled in ownership.settle() {
        note(settled.held.id.name.clone(), &settled.choice);
        if settled.choice == Choice::Keep {
            late.push(settled.held.id.name);
        }
    }
    (became, late)
}

fn kept(objects: Vec<Value>) -> Vec<(Value, Choice)> {
    objects.into_iter().map(|object| (object, Choice::Keep)).collect()
}

#[test]
fn what_kubernetes_makes_for_its_owner_stays_whatever_becomes_of_that() {
    let (became, _) = outcome(kept(vec![
        object("apps/v1", "ReplicaSet", "web-1", &[owner("apps/v1", "Deployment", "web", true)]),
        object("v1", "Pod", "web-1-x", &[owner("apps/v1", "ReplicaSet", "web-1", true)]),
        object("batch/v1", "Job", "nightly-1", &[owner("batch/v1", "CronJob", "nightly", true)]),
    ]));
    assert_eq!(became["web-1"], "Owned: its owner Deployment web makes it, wherever that goes along");
    assert!(became["web-1-x"].contains("ReplicaSet web-1"));
    assert!(became["nightly-1"].contains("CronJob nightly"));
}

#[test]
fn what_a_custom_resource_owns_stays_if_that_goes_along_in_whatever_order_they_are_read() {
    let custom = object("example.com/v1", "Database", "db", &[]);
    let made = object("apps/v1", "StatefulSet", "db-set", &[owner("example.com/v1", "Database", "db", true)]);
    let config = object("v1", "ConfigMap", "db-config", &[owner("example.com/v1", "Database", "db", false)]);
    let below = object("v1", "Secret", "db-key", &[owner("apps/v1", "StatefulSet", "db-set", false)]);
    for objects in
        [vec![custom.clone(), made.clone(), config.clone(), below.clone()], vec![below, config, made, custom]]
    {
        let (became, late) = outcome(kept(objects));
        assert_eq!(became["db"], "taken");
        for owned in ["db-set", "db-config", "db-key"] {
            assert!(became[owned].starts_with("Owned"), "{owned}: {}", became[owned]);
        }
        assert!(late.is_empty());
    }
}

#[test]
fn what_an_owner_does_not_take_along_goes_itself() {
    let skipped = (object("example.com/v1", "Database", "db", &[]), Choice::leave("Skipped", "m"));
    let made = object("apps/v1", "StatefulSet", "db-set", &[owner("example.com/v1", "Database", "db", true)]);
    let stranger = object("v1", "ConfigMap", "c", &[owner("example.com/v1", "Tenant", "not-here", true)]);
    let (became, late) = outcome(vec![skipped, (made, Choice::Keep), (stranger, Choice::Keep)]);
    assert_eq!((became["db-set"].as_str(), became["c"].as_str()), ("taken", "taken"));
    assert_eq!(late, ["db-set", "c"]);
}

#[test]
fn what_is_only_collected_with_an_owner_of_kubernetes_goes_after_it() {
    let (became, late) = outcome(kept(vec![
        object("v1", "Secret", "third", &[owner("v1", "ConfigMap", "second", false)]),
        object("v1", "ConfigMap", "second", &[owner("apps/v1", "Deployment", "web", false)]),
        object("v1", "Secret", "controlled", &[owner("apps/v1", "Deployment", "web", true)]),
        object("apps/v1", "Deployment", "web", &[]),
    ]));
    assert_eq!(late, ["second", "third"], "{became:?}");
    assert!(became["controlled"].starts_with("Owned"));
}

#[test]
fn a_claim_goes_along_with_whatever_owns_it_except_a_pod() {
    let claim = |name: &str, by: Value| object("v1", "PersistentVolumeClaim", name, &[by]);
    let (became, late) = outcome(kept(vec![
        object("apps/v1", "StatefulSet", "db", &[]),
        object("example.com/v1", "Database", "custom", &[]),
        claim("of-set", owner("apps/v1", "StatefulSet", "db", true)),
        claim("of-custom", owner("example.com/v1", "Database", "custom", true)),
        claim("of-pod", owner("v1", "Pod", "db-0", true)),
        claim("of-pod-too", owner("v1", "Pod", "db-0", false)),
    ]));
    assert_eq!(late, ["of-set", "of-custom"]);
    assert!(became["of-pod"].starts_with("Owned") && became["of-pod-too"].starts_with("Owned"));
}

#[test]
fn owners_in_a_circle_come_to_an_end() {
    let (became, _) = outcome(kept(vec![
        object("v1", "ConfigMap", "a", &[owner("v1", "ConfigMap", "b", false)]),
        object("v1", "ConfigMap", "b", &[owner("v1", "ConfigMap", "a", false)]),
        object("v1", "ConfigMap", "self", &[owner("v1", "ConfigMap", "self", false)]),
    ]));
    assert!(became.values().all(|text| text == "taken"), "{became:?}");
}

#[test]
fn what_is_made_for_something_that_stays_is_not_made_anew() {
    let skipped = (object("apps/v1", "Deployment", "web", &[]), Choice::leave("Skipped", "m"));
    let (became, _) = outcome(vec![
        skipped,
        (
            object("apps/v1", "ReplicaSet", "web-1", &[owner("apps/v1", "Deployment", "web", true)]),
            Choice::Keep,
        ),
        (object("v1", "ConfigMap", "c", &[owner("apps/v1", "ReplicaSet", "web-1", false)]), Choice::Keep),
    ]);
    assert!(became["web-1"].starts_with("Owned"));
    assert_eq!(became["c"], "taken");
}

#[test]
fn owners_of_cluster_scope_count_if_they_are_known_to_go_along() {
    let mut scope = Ownership::default();
    scope.meet(object("example.com/v1", "Tenant", "t", &[]), Choice::Keep, 0);
    let mut namespace = Ownership::with(scope.into_fates());
    let config = object("v1", "ConfigMap", "c", &[owner("example.com/v1", "Tenant", "t", true)]);
    assert!(matches!(namespace.meet(config, Choice::Keep, 0), Standing::Waits));
    assert!(matches!(namespace.settle()[0].choice, Choice::LeaveBehind { reason: "Owned", .. }));
}

#[test]
fn beyond_its_bound_content_is_not_held_but_read_again() {
    let mut ownership = Ownership::default();
    let big = "x".repeat(MAX_HELD_BYTES / 2);
    for n in 0..4 {
        let mut config = object("v1", "ConfigMap", &n.to_string(), &[owner("v1", "ConfigMap", "o", false)]);
        config["data"] = json!({"big": big});
        ownership.meet(config, Choice::Keep, 0);
    }
    let held: Vec<bool> = ownership.settle().iter().map(|s| s.held.content.is_some()).collect();
    assert_eq!(held, [true, true, false, false]);
}

proptest! {
    /// Objects that own each other at random: each is told once, whatever the order, and what goes
    /// along goes after the owners that go along.
    #[test]
    fn each_object_is_told_once_and_after_its_owners(
        links in proptest::collection::vec((0..20usize, 0..20usize, any::<bool>(), any::<bool>()), 0..40)
    ) {
        let objects: Vec<Value> = (0..20)
            .map(|n| {
                let owners: Vec<Value> = links
                    .iter()
                    .filter(|(owned, by, ..)| *owned == n && by < owned)
                    .map(|(_, by, controller, custom)| {
                        let version = if *custom { "example.com/v1" } else { "v1" };
                        owner(version, "Thing", &by.to_string(), *controller)
                    })
                    .collect();
                object("v1", "Thing", &n.to_string(), &owners)
            })
            .collect();
        let (forward, late) = outcome(kept(objects.clone()));
        let (backward, _) = outcome(kept(objects.iter().rev().cloned().collect()));
        prop_assert_eq!(&forward.len(), &20);
        let taken = |became: &HashMap<String, String>| {
            let mut names: Vec<String> = became.iter().filter(|(_, t)| *t == "taken").map(|(n, _)| n.clone()).collect();
            names.sort();
            names
        };
        prop_assert_eq!(taken(&forward), taken(&backward));
        for (at, name) in late.iter().enumerate() {
            let own: usize = name.parse().unwrap();
            for (_, by, ..) in links.iter().filter(|(owned, by, ..)| *owned == own && by < owned) {
                let by = by.to_string();
                prop_assert!(!late[at..].contains(&by), "{} goes before its owner {}", name, by);
            }
        }
    }
}
