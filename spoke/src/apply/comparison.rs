//! Whether an object already is as wanted, from two JSON values alone.
//!
//! [`covers`] never says yes wrongly; where it says no, the API server is asked by a dry run. So
//! it may be simple: numbers and texts that mean the same (`1` and `"1"`, `1000m` and `1`) are
//! different to it.

use serde_json::Value;

use super::body::unmarked;
use crate::cluster::{api_version, kind};
use crate::volumes::stands_for;

/// Whether an object of cluster scope that is not ours will do as it is. A volume will where it is
/// the same storage for the same claim, whatever else is said of it: it is what the run would make.
pub fn will_do(live: &Value, wanted: &Value) -> bool {
    if kind(wanted) == "PersistentVolume" && api_version(wanted) == "v1" {
        return stands_for(live, wanted);
    }
    covers(live, &unmarked(wanted))
}

/// Whether everything in `wanted` is in `live` already, lists in the same order and length.
pub fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        // The server leaves out what is null.
        (_, Value::Null) => live.is_null(),
        (Value::Object(live), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| live.get(key).map_or_else(|| wanted.is_null(), |live| covers(live, wanted))),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| covers(live, wanted))
        }
        (live, wanted) => live == wanted,
    }
}

/// The path of the first value of `wanted` that `live` does not have, for a person.
pub fn first_difference(live: &Value, wanted: &Value) -> Option<String> {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().find_map(|(key, wanted)| {
            let below = match live.get(key) {
                Some(live) => first_difference(live, wanted),
                None => (!wanted.is_null()).then(String::new),
            };
            below.map(|below| {
                if key.contains(['.', '/']) { format!("[{key:?}]{below}") } else { format!(".{key}{below}") }
            })
        }),
        (Value::Array(live), Value::Array(wanted)) if live.len() == wanted.len() => {
            let mut pairs = live.iter().zip(wanted).enumerate();
            pairs.find_map(|(index, (live, wanted))| {
                first_difference(live, wanted).map(|below| format!("[{index}]{below}"))
            })
        }
        (live, wanted) => (!covers(live, wanted)).then(String::new),
    }
}

/// The object without what every write changes, whatever it writes, and without its status, which
/// is its controller's to write at any moment.
pub fn content(mut object: Value) -> Value {
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(key);
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_destination_has_beyond_what_is_wanted_is_no_difference() {
        let live = json!({"metadata": {"name": "x", "uid": "1"}, "spec": {"ports": [{"port": 80, "nodePort": 3}], "type": "T"}});
        assert!(covers(&live, &json!({"metadata": {"name": "x"}, "spec": {"ports": [{"port": 80}]}})));
        assert!(!covers(&live, &json!({"spec": {"ports": [{"port": 81}]}})));
        assert!(!covers(&live, &json!({"spec": {"ports": [{"port": 80}, {"port": 81}]}})));
        assert!(!covers(&live, &json!({"spec": {"clusterIP": "None"}})));
    }

    #[test]
    fn a_difference_is_named_by_its_path() {
        let live = json!({"metadata": {"annotations": {"a.b/c": "1"}}, "spec": {"ports": [{"port": 80}]}});
        let path = |wanted: Value| first_difference(&live, &wanted);
        assert_eq!(path(json!({"spec": {"ports": [{"port": 81}]}})).as_deref(), Some(".spec.ports[0].port"));
        assert_eq!(path(json!({"spec": {"ports": []}})).as_deref(), Some(".spec.ports"));
        assert_eq!(
            path(json!({"metadata": {"annotations": {"a.b/c": "2"}}})).as_deref(),
            Some(".metadata.annotations[\"a.b/c\"]")
        );
        assert_eq!(path(live.clone()), None);
    }

    #[test]
    fn null_is_nothing() {
        assert!(covers(&json!({}), &json!({"creationTimestamp": null})));
        assert!(covers(&json!({"a": null}), &json!({"a": null})));
        assert!(!covers(&json!({"a": 1}), &json!({"a": null})));
    }

    #[test]
    fn what_means_the_same_and_is_written_otherwise_is_left_to_the_server() {
        assert!(!covers(&json!({"cpu": "1"}), &json!({"cpu": "1000m"})));
    }

    #[test]
    fn what_every_write_changes_is_no_difference() {
        let a = json!({"metadata": {"name": "x", "resourceVersion": "1", "generation": 1, "managedFields": [1]}, "data": {}});
        let b = json!({"metadata": {"name": "x", "resourceVersion": "2", "generation": 2, "managedFields": []}, "data": {}});
        assert_eq!(content(a), content(b));
    }
}
