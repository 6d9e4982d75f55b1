//! Stopped and started: what a workload looks like in either state, as merge patches.
//!
//! `stop` and `start` are exact inverses. One patch changes the value and the annotation that
//! keeps it, so there is no state in between; both do nothing where there is nothing to do.
//!
//! A migration that stops a workload writes its mark in the same patch ([`Way::quiesce`]), and going
//! back starts what carries the mark ([`Way::restore`]): what was stopped before it came is neither
//! marked nor started.

use isthmus_shared::resources::{MIGRATION_REPLICAS, MIGRATION_SUSPEND, QUIESCED_BY};
use serde_json::{Value, json};

use super::rules::{Registry, Rule};
use crate::cluster::{annotation, api_version, array, kind, text};

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
    ("apps.kruise.io", "StatefulSet", Switch::Replicas),
    ("apps.kruise.io", "CloneSet", Switch::Replicas),
    ("argoproj.io", "Rollout", Switch::Replicas),
    ("apps", "DaemonSet", Switch::NodeSelector),
    ("apps.kruise.io", "DaemonSet", Switch::NodeSelector),
    ("batch", "CronJob", Switch::Suspend),
    ("batch", "Job", Switch::Suspend),
];

/// How one object is stopped.
#[derive(Clone, Copy, Debug)]
pub enum Way<'a> {
    /// As its kind is.
    Switch(Switch),
    /// By its operator.
    Rule(&'a Rule),
}

/// How an object is stopped, if it is a workload of Kubernetes' own or one alike.
pub fn switch(object: &Value) -> Option<Switch> {
    let group = api_version(object).split_once('/').map_or("", |(group, _)| group);
    SWITCHES.iter().find(|(g, k, _)| *g == group && *k == kind(object)).map(|(_, _, switch)| *switch)
}

/// How an object is stopped by what every spoke knows, if it is a workload at all.
fn way(object: &Value) -> Option<Way<'static>> {
    Registry::built_in().way(object)
}

/// What the workload would run with once started: its replicas, or 1.
pub fn replicas(object: &Value) -> i64 {
    object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}

/// Whether the workload is in the stopped state.
pub fn is_stopped(object: &Value) -> bool {
    way(object).is_some_and(|way| way.is_stopped(object))
}

/// The patch that stops a workload; none if it is no workload or stopped with its value kept.
pub fn stop(object: &Value) -> Option<Value> {
    way(object)?.stop(object)
}

/// A Job that has run cannot be suspended any more, and need not be.
pub fn has_finished(object: &Value) -> bool {
    kind(object) == "Job"
        && array(object, "/status/conditions")
            .iter()
            .any(|c| matches!(text(c, "/type"), "Complete" | "Failed") && text(c, "/status") == "True")
}

impl Way<'_> {
    /// The annotation that keeps what the workload had.
    fn key(self) -> &'static str {
        match self {
            Self::Switch(Switch::Replicas) => MIGRATION_REPLICAS,
            _ => MIGRATION_SUSPEND,
        }
    }

    /// What it had, if it is kept.
    pub fn kept(self, object: &Value) -> Option<&str> {
        annotation(object, self.key())
    }

    /// Whether the workload is in the stopped state.
    pub fn is_stopped(self, object: &Value) -> bool {
        match self {
            Self::Switch(Switch::Replicas) => replicas(object) == 0,
            Self::Switch(Switch::Suspend) => suspended(object),
            Self::Switch(Switch::NodeSelector) => parked(object),
            Self::Rule(rule) => rule.is_stopped(object),
        }
    }

    /// The patch that stops a workload; none if it is stopped with its value kept.
    pub fn stop(self, object: &Value) -> Option<Value> {
        if self.is_stopped(object) && self.kept(object).is_some() {
            return None;
        }
        // An annotation beside a running workload is from before somebody started it by hand: what
        // runs now counts.
        Some(match self {
            Self::Switch(Switch::Replicas) => json!({
                "metadata": {"annotations": {MIGRATION_REPLICAS: replicas(object).to_string()}},
                "spec": {"replicas": 0}
            }),
            Self::Switch(Switch::Suspend) => json!({
                "metadata": {"annotations": {MIGRATION_SUSPEND: suspended(object).to_string()}},
                "spec": {"suspend": true}
            }),
            Self::Switch(Switch::NodeSelector) => json!({
                "metadata": {"annotations": {MIGRATION_SUSPEND: "false"}},
                "spec": {"template": {"spec": {"nodeSelector": {PARKED: "true"}}}}
            }),
            Self::Rule(rule) => return rule.stop(object),
        })
    }

    /// The patch that starts a workload again with what it had; none if no value is kept.
    ///
    /// A kept value that is none is an error of whoever changed it; the workload stays stopped.
    pub fn start(self, object: &Value) -> Result<Option<Value>, BadKept> {
        let Some(kept) = self.kept(object) else { return Ok(None) };
        let mut patch = json!({"metadata": {"annotations": {self.key(): null}}});
        match self {
            // Somebody has started it by hand: their count stays.
            Self::Switch(Switch::Replicas) if !self.is_stopped(object) => {}
            Self::Switch(Switch::Replicas) => {
                let count: u32 = kept.parse().map_err(|_| BadKept::of(kept))?;
                patch["spec"] = json!({"replicas": count});
            }
            Self::Switch(Switch::Suspend) => {
                let value: bool = kept.parse().map_err(|_| BadKept::of(kept))?;
                patch["spec"] = json!({"suspend": value && suspended(object)});
            }
            Self::Switch(Switch::NodeSelector) => {
                patch["spec"] = json!({"template": {"spec": {"nodeSelector": {PARKED: null}}}});
            }
            Self::Rule(rule) => match rule.start(object)? {
                Some(by_rule) => patch = by_rule,
                None => return Ok(None),
            },
        }
        if annotation(object, QUIESCED_BY).is_some() {
            patch["metadata"]["annotations"][QUIESCED_BY] = Value::Null;
        }
        Ok(Some(patch))
    }

    /// The patch that stops a running workload for a migration, with its mark; none for one that is
    /// stopped, by whomever.
    ///
    /// One that the migration has stopped before, and that something has started since, keeps what it
    /// had before the migration.
    pub fn quiesce(self, object: &Value, migration: &str) -> Option<Value> {
        if self.is_stopped(object) {
            return None;
        }
        let mut patch = self.stop(object)?;
        let annotations = &mut patch["metadata"]["annotations"];
        if is_quiesced_by(object, migration)
            && let Some(kept) = self.kept(object)
        {
            annotations[self.key()] = kept.into();
        }
        annotations[QUIESCED_BY] = migration.into();
        Some(patch)
    }

    /// The patch that starts again what the migration has stopped; none for all else.
    pub fn restore(self, object: &Value, migration: &str) -> Result<Option<Value>, BadKept> {
        if !is_quiesced_by(object, migration) {
            return Ok(None);
        }
        match self.start(object)? {
            Some(patch) => Ok(Some(patch)),
            None if self.is_stopped(object) => Err(BadKept::of("")),
            // Somebody has started it and cleared what was kept.
            None => Ok(Some(json!({"metadata": {"annotations": {QUIESCED_BY: null}}}))),
        }
    }

    /// The patch that makes a stopped workload one that nothing starts by itself; none for one that
    /// runs, or of which nothing is kept.
    pub fn forget(self, object: &Value) -> Option<Value> {
        let kept = self.kept(object).is_some() || annotation(object, QUIESCED_BY).is_some();
        (kept && self.is_stopped(object))
            .then(|| json!({"metadata": {"annotations": {self.key(): null, QUIESCED_BY: null}}}))
    }
}

/// Whether a workload carries the migration's mark.
pub fn is_quiesced_by(object: &Value, migration: &str) -> bool {
    annotation(object, QUIESCED_BY) == Some(migration)
}

/// A kept value that is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the kept value {value:?} is not what Isthmus wrote: correct the annotation {MIGRATION_REPLICAS} (a count) or \
     {MIGRATION_SUSPEND} (true, false, or fields with their values), or start it by hand and take the annotation \
     off, then start again"
)]
pub struct BadKept {
    value: String,
}

impl BadKept {
    /// Of this value.
    pub fn of(value: &str) -> Self {
        Self { value: value.to_owned() }
    }
}

fn suspended(object: &Value) -> bool {
    object.pointer("/spec/suspend").and_then(Value::as_bool).unwrap_or_default()
}

fn parked(object: &Value) -> bool {
    object.pointer("/spec/template/spec/nodeSelector").and_then(|s| s.get(PARKED)).is_some()
}

#[cfg(test)]
mod tests;
