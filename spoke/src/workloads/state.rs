//! Stopped and started: what a workload looks like in either state, as merge patches.
//!
//! `stop` and `start` are exact inverses. One patch changes the value and the annotation that
//! keeps it, so there is no state in between; both do nothing where there is nothing to do.

use isthmus_shared::resources::{MIGRATION_REPLICAS, MIGRATION_SUSPEND};
use serde_json::{Value, json};

use crate::cluster::{annotation, api_version, kind};

/// A node label that no node has: a DaemonSet that selects it has no pods.
pub const PARKED: &str = "isthmus.dev/parked";

/// How a kind of workload is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// `spec.replicas` 0.
    Replicas,
    /// `spec.suspend` true.
    Suspend,
    /// A node selector that no node meets.
    NodeSelector,
}

/// The kinds that are stopped and started: API group, kind and how.
pub const SWITCHES: &[(&str, &str, Switch)] = &[
    ("apps", "Deployment", Switch::Replicas),
    ("apps", "StatefulSet", Switch::Replicas),
    ("apps", "ReplicaSet", Switch::Replicas),
    ("", "ReplicationController", Switch::Replicas),
    ("apps.openshift.io", "DeploymentConfig", Switch::Replicas),
    ("apps", "DaemonSet", Switch::NodeSelector),
    ("batch", "CronJob", Switch::Suspend),
    ("batch", "Job", Switch::Suspend),
];

/// How an object is stopped, if it is a workload at all.
pub fn switch(object: &Value) -> Option<Switch> {
    let group = api_version(object).split_once('/').map_or("", |(group, _)| group);
    SWITCHES.iter().find(|(g, k, _)| *g == group && *k == kind(object)).map(|(_, _, switch)| *switch)
}

/// The annotation that says that the workload is stopped, and what it had.
pub fn kept(object: &Value) -> Option<&str> {
    match switch(object)? {
        Switch::Replicas => annotation(object, MIGRATION_REPLICAS),
        Switch::Suspend | Switch::NodeSelector => annotation(object, MIGRATION_SUSPEND),
    }
}

/// What the workload would run with once started: its replicas, or 1.
pub fn replicas(object: &Value) -> i64 {
    object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}

/// Whether the workload is in the stopped state.
pub fn is_stopped(object: &Value) -> bool {
    match switch(object) {
        Some(Switch::Replicas) => replicas(object) == 0,
        Some(Switch::Suspend) => suspended(object),
        Some(Switch::NodeSelector) => parked(object),
        None => false,
    }
}

/// The patch that stops a workload; none if it is no workload or stopped with its value kept.
pub fn stop(object: &Value) -> Option<Value> {
    let switch = switch(object)?;
    if is_stopped(object) && kept(object).is_some() {
        return None;
    }
    // An annotation beside a running workload is from before somebody started it by hand: what
    // runs now counts.
    Some(match switch {
        Switch::Replicas => json!({
            "metadata": {"annotations": {MIGRATION_REPLICAS: replicas(object).to_string()}},
            "spec": {"replicas": 0}
        }),
        Switch::Suspend => json!({
            "metadata": {"annotations": {MIGRATION_SUSPEND: suspended(object).to_string()}},
            "spec": {"suspend": true}
        }),
        Switch::NodeSelector => json!({
            "metadata": {"annotations": {MIGRATION_SUSPEND: "false"}},
            "spec": {"template": {"spec": {"nodeSelector": {PARKED: "true"}}}}
        }),
    })
}

/// The patch that starts a workload again with what it had; none if no value is kept.
///
/// A count that is no number is an error of whoever changed it; the workload stays stopped.
pub fn start(object: &Value) -> Result<Option<Value>, BadCount> {
    let (Some(switch), Some(kept)) = (switch(object), kept(object)) else { return Ok(None) };
    let bad = || BadCount { value: kept.to_owned() };
    let clear = |key: &str| json!({"metadata": {"annotations": {key: null}}});
    Ok(Some(match switch {
        // Somebody has started it by hand: their count stays.
        Switch::Replicas if !is_stopped(object) => clear(MIGRATION_REPLICAS),
        Switch::Replicas => {
            let count: u32 = kept.parse().map_err(|_| bad())?;
            let mut patch = clear(MIGRATION_REPLICAS);
            patch["spec"] = json!({"replicas": count});
            patch
        }
        Switch::Suspend => {
            let value: bool = kept.parse().map_err(|_| bad())?;
            let mut patch = clear(MIGRATION_SUSPEND);
            patch["spec"] = json!({"suspend": value && suspended(object)});
            patch
        }
        Switch::NodeSelector => {
            let mut patch = clear(MIGRATION_SUSPEND);
            patch["spec"] = json!({"template": {"spec": {"nodeSelector": {PARKED: null}}}});
            patch
        }
    }))
}

/// A kept value that is none.
#[derive(Debug, thiserror::Error)]
#[error(
    "the kept value {value:?} is neither a count nor true or false: correct the annotation isthmus.dev/migration-replicas or isthmus.dev/migration-suspend, then start again"
)]
pub struct BadCount {
    value: String,
}

fn suspended(object: &Value) -> bool {
    object.pointer("/spec/suspend").and_then(Value::as_bool).unwrap_or_default()
}

fn parked(object: &Value) -> bool {
    object.pointer("/spec/template/spec/nodeSelector").and_then(|s| s.get(PARKED)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::merge;

    fn stopped(object: &Value) -> Value {
        let mut after = object.clone();
        if let Some(patch) = stop(object) {
            merge(&mut after, &patch);
        }
        after
    }

    fn started(object: &Value) -> Value {
        let mut after = object.clone();
        if let Some(patch) = start(object).unwrap() {
            merge(&mut after, &patch);
        }
        // The API server leaves out maps that are empty.
        for (parent, key) in [("/metadata", "annotations"), ("/spec/template/spec", "nodeSelector")] {
            if let Some(map) = after.pointer_mut(parent).and_then(Value::as_object_mut)
                && map.get(key).and_then(Value::as_object).is_some_and(serde_json::Map::is_empty)
            {
                map.remove(key);
            }
        }
        after
    }

    fn workloads() -> Vec<Value> {
        vec![
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"replicas": 3}}),
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "a"}, "spec": {"replicas": 0}}),
            json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "a"}, "spec": {"replicas": 2}}),
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "a"}, "spec": {"suspend": true}}),
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "a"}, "spec": {"suspend": false}}),
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": {"suspend": false}}),
            json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "a"},
                   "spec": {"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}}}),
            json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "a"},
                   "spec": {"template": {"spec": {"containers": []}}}}),
        ]
    }

    #[test]
    fn starting_is_the_exact_inverse_of_stopping() {
        for workload in workloads() {
            let after = stopped(&workload);
            assert!(is_stopped(&after), "{after}");
            assert_eq!(started(&after), workload);
        }
    }

    #[test]
    fn stopping_or_starting_twice_is_doing_it_once() {
        for workload in workloads() {
            let once = stopped(&workload);
            assert!(stop(&once).is_none(), "{once}");
            assert!(start(&started(&once)).unwrap().is_none());
        }
    }

    #[test]
    fn a_count_that_a_person_set_meanwhile_is_the_one_that_counts() {
        let mut workload = stopped(&workloads()[0]);
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
        let mut workload = stopped(&workloads()[0]);
        workload["metadata"]["annotations"][MIGRATION_REPLICAS] = json!("many");
        assert!(start(&workload).is_err());
    }

    #[test]
    fn other_objects_are_neither_stopped_nor_started() {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {}});
        assert!(stop(&service).is_none() && start(&service).unwrap().is_none());
    }
}
