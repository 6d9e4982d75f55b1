//! How an object is rewritten on its way: JSON in, JSON out, no I/O, one file a family of rules.
//!
//! ```text
//!   metadata          what the source's API server wrote: uid, resourceVersion, status, ...
//!   service           addresses and ports that were allocated
//!   claim             the binding to the source's volume
//!   job               the labels of the source's Job controller
//!   service_account   token Secrets
//!   namespace         what the source's cluster wrote into it
//!   (stopped)         replica counts kept aside: `crate::workloads::state`
//! ```
//!
//! Promises: rewriting twice is rewriting once, and a field that no rule names stays as it is.
//! A rule is a function of the object alone and of [`Rewriter`]; a new rule is a new line in
//! [`RULES`].

mod claim;
mod job;
mod metadata;
mod namespace;
mod service;
mod service_account;

use isthmus_shared::protocol::Run;
use isthmus_shared::resources::MIGRATED_BY;
use serde_json::{Map, Value};

pub use namespace::carried as namespace_marks;

use crate::workloads::state;

/// Why an object cannot be rewritten as the run asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransformError {}

/// Rewrites the objects of one run: what its spec asks for, made ready once.
#[derive(Clone, Debug, Default)]
pub struct Rewriter {}

/// How an object is to arrive.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrival<'a> {
    /// The value of the mark `isthmus.dev/migrated-by`.
    pub mark: &'a str,
    /// The value of the mark `isthmus.dev/plan`; none for objects of cluster scope.
    pub plan: Option<&'a str>,
    /// Whether workloads arrive stopped.
    pub stopped: bool,
    /// Its owners on the destination.
    pub owners: &'a [Value],
}

/// An object, rewritten.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewritten {
    /// As it is to be applied.
    pub object: Value,
    /// As it would be without the run's own maps and transforms, if those changed it.
    pub standard: Option<Value>,
    /// What a person should know of it.
    pub notes: Vec<Note>,
}

/// What a person should know of a rewriting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// One word in CamelCase.
    pub reason: &'static str,
    /// The same for a person.
    pub message: String,
}

/// The rules in their order. Each looks for itself whether the object is its concern.
const RULES: &[fn(&mut Value)] =
    &[metadata::rewrite, service::rewrite, claim::rewrite, job::rewrite, service_account::rewrite];

impl Rewriter {
    /// Makes ready what a run's spec asks for.
    pub fn new(_run: &Run) -> Result<Self, TransformError> {
        Ok(Self {})
    }

    /// The object as it is to be applied on the destination.
    pub fn rewrite(&self, mut object: Value, arrival: &Arrival<'_>) -> Result<Rewritten, TransformError> {
        for rule in RULES {
            rule(&mut object);
        }
        if arrival.stopped
            && let Some(patch) = state::stop(&object)
        {
            merge(&mut object, &patch);
        }
        set_label(&mut object, MIGRATED_BY, arrival.mark);
        Ok(Rewritten { object, standard: None, notes: Vec::new() })
    }
}

/// Sets a label.
pub fn set_label(object: &mut Value, key: &str, value: &str) {
    merge(object, &serde_json::json!({"metadata": {"labels": {key: value}}}));
}

/// RFC 7386: merges a patch into a value.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
}

/// Whether the object is of a group (in any version) and kind.
fn is(object: &Value, group: &str, kind: &str) -> bool {
    let api_version = crate::cluster::api_version(object);
    let found = api_version.split_once('/').map_or("", |(group, _)| group);
    found == group && crate::cluster::kind(object) == kind
}

/// Removes fields of the map at a pointer; the map itself too, once it is empty.
fn remove(object: &mut Value, pointer: &str, keys: &[&str]) {
    let Some(Value::Object(map)) = object.pointer_mut(pointer) else { return };
    let before = map.len();
    map.retain(|key, _| !keys.contains(&key.as_str()));
    if map.is_empty() && before > 0 && !pointer.is_empty() {
        let (parent, name) = pointer.rsplit_once('/').unwrap_or(("", pointer));
        if let Some(Value::Object(parent)) = object.pointer_mut(parent) {
            parent.remove(name);
        }
    }
}

#[cfg(test)]
mod tests;
