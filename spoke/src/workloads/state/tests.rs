use proptest::prelude::*;

use super::*;
use crate::transform::merge;

/// As the API server stores it: maps of its own kinds that are empty are left out.
fn patched(object: &Value, patch: Option<Value>) -> Value {
    let mut after = object.clone();
    if let Some(patch) = patch {
        merge(&mut after, &patch);
    }
    for (parent, key) in [("/metadata", "annotations"), ("/spec/template/spec", "nodeSelector")] {
        if let Some(map) = after.pointer_mut(parent).and_then(Value::as_object_mut)
            && map.get(key).and_then(Value::as_object).is_some_and(serde_json::Map::is_empty)
        {
            map.remove(key);
        }
    }
    after
}

fn stopped(object: &Value) -> Value {
    patched(object, stop(object))
}

fn started(object: &Value) -> Value {
    patched(object, way(object).unwrap().start(object).unwrap())
}

fn quiesced(object: &Value, migration: &str) -> Value {
    patched(object, way(object).unwrap().quiesce(object, migration))
}

fn restored(object: &Value, migration: &str) -> Value {
    patched(object, way(object).unwrap().restore(object, migration).unwrap())
}

/// A workload of any kind that is known, with a spec as its kind may have it.
fn workload() -> impl Strategy<Value = Value> {
    let switches = SWITCHES.iter().map(|(group, kind, _)| ((*group).to_owned(), (*kind).to_owned()));
    let ruled = Registry::built_in().kinds().into_iter().map(|(g, k)| (g.to_owned(), k.to_owned()));
    let kinds: Vec<(String, String)> = switches.chain(ruled).collect();
    let note = proptest::option::of("[a-z]{1,8}");
    (proptest::sample::select(kinds), 0..5_i64, any::<[bool; 4]>(), note).prop_map(
        |((group, kind), count, [flag, selects, has_spec, on], note)| {
            let version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
            let mut object =
                json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a", "namespace": "cms"}});
            if let Some(note) = note {
                object["metadata"]["annotations"] = json!({"team": note});
            }
            match switch(&object) {
                Some(Switch::Replicas) => object["spec"] = json!({"replicas": count}),
                Some(Switch::Suspend) => object["spec"] = json!({"suspend": flag, "schedule": "x"}),
                Some(Switch::NodeSelector) => {
                    object["spec"] = json!({"template": {"spec": {"containers": []}}});
                    if selects {
                        object["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "ssd"});
                    }
                }
                None => {
                    if has_spec {
                        object["spec"] = json!({"other": {"b": count}});
                        for (field, value) in [
                            ("pause", json!(flag)),
                            ("shutdown", json!(flag)),
                            ("count", json!(count)),
                            ("replicas", json!(count)),
                            ("numberOfInstances", json!(count)),
                            ("running", json!(flag)),
                        ] {
                            if on {
                                object["spec"][field] = value;
                            }
                        }
                    }
                    if selects {
                        object["metadata"]["annotations"]["cnpg.io/hibernation"] = json!("off");
                        object["metadata"]["annotations"]["strimzi.io/pause-reconciliation"] = json!("true");
                    }
                }
            }
            object
        },
    )
}

/// What happens to a workload while a migration stops it and goes back, in any order and as often.
#[derive(Clone, Copy, Debug)]
enum Event {
    Quiesce,
    /// Something that knows nothing of marks starts it again.
    Undone,
}

proptest! {
    #[test]
    fn starting_is_the_exact_inverse_of_stopping(workload in workload()) {
        let after = stopped(&workload);
        prop_assert_eq!(started(&after), workload);
    }

    #[test]
    fn stopping_or_starting_twice_is_doing_it_once(workload in workload()) {
        let once = stopped(&workload);
        prop_assert!(stop(&once).is_none(), "{}", once);
        let again = started(&once);
        prop_assert!(way(&again).unwrap().start(&again).unwrap().is_none());
    }

    #[test]
    fn going_back_gives_the_workload_as_it_was_however_often_it_was_stopped(
        workload in workload(),
        events in proptest::collection::vec(prop_oneof![Just(Event::Quiesce), Just(Event::Undone)], 0..6),
    ) {
        let way = way(&workload).unwrap();
        let mut now = quiesced(&workload, "m1");
        for event in events {
            now = match event {
                Event::Quiesce => quiesced(&now, "m1"),
                // It goes back to what runs, and leaves annotations that it does not know.
                Event::Undone => {
                    let mut running = workload.clone();
                    let marks = json!({"metadata": {"annotations": now.pointer("/metadata/annotations").cloned()}});
                    merge(&mut running, &marks);
                    match way {
                        Way::Switch(_) => running,
                        // A rule's field may be one of the annotations.
                        Way::Rule(_) => now,
                    }
                }
            };
        }
        now = quiesced(&now, "m1");
        prop_assert!(way.is_stopped(&now) || way.stop(&workload).is_none(), "{}", now);
        prop_assert_eq!(restored(&now, "m1"), workload);
    }

    #[test]
    fn what_was_stopped_before_is_neither_marked_nor_changed_nor_started(workload in workload()) {
        let before = stopped(&workload);
        prop_assert_eq!(&quiesced(&before, "m1"), &before);
        prop_assert_eq!(&restored(&before, "m1"), &before);
        let other = quiesced(&workload, "m2");
        prop_assert_eq!(&quiesced(&other, "m1"), &other);
        prop_assert_eq!(&restored(&other, "m1"), &other);
    }

    #[test]
    fn restoring_twice_is_doing_it_once(workload in workload()) {
        let back = restored(&quiesced(&workload, "m1"), "m1");
        prop_assert_eq!(&restored(&back, "m1"), &back);
    }
}

fn deployment(count: i64) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"replicas": count}})
}

#[test]
fn a_count_that_a_person_set_meanwhile_is_the_one_that_counts() {
    let mut workload = stopped(&deployment(3));
    workload["spec"]["replicas"] = json!(7);
    assert_eq!(started(&workload)["spec"]["replicas"], 7);
    assert_eq!(stopped(&workload)["metadata"]["annotations"][MIGRATION_REPLICAS], "7");
}

#[test]
fn a_missing_count_is_one_replica() {
    let workload =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {}});
    assert_eq!(started(&stopped(&workload))["spec"]["replicas"], 1);
}

#[test]
fn a_kept_value_that_is_no_count_is_an_error_and_starts_nothing() {
    let mut workload = stopped(&deployment(3));
    workload["metadata"]["annotations"][MIGRATION_REPLICAS] = json!("many");
    assert!(way(&workload).unwrap().start(&workload).is_err());
}

#[test]
fn a_marked_workload_whose_kept_value_is_gone_is_an_error_while_it_is_stopped() {
    let mut workload = quiesced(&deployment(3), "m1");
    workload["metadata"]["annotations"].as_object_mut().unwrap().remove(MIGRATION_REPLICAS);
    let way = way(&workload).unwrap();
    assert_eq!(way.restore(&workload, "m1"), Err(BadKept::of("")));
    workload["spec"]["replicas"] = json!(2);
    assert_eq!(restored(&workload, "m1"), deployment(2));
}

#[test]
fn starting_by_hand_takes_the_mark_off() {
    let workload = quiesced(&deployment(3), "m1");
    assert!(is_quiesced_by(&workload, "m1"));
    assert_eq!(started(&workload), deployment(3));
}

#[test]
fn other_objects_are_neither_stopped_nor_started() {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {}});
    assert!(stop(&service).is_none() && way(&service).is_none());
}
