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
//! A rule is a function of the object alone and of [`Rewrite`]; a new rule is a new line in
//! [`RULES`].

mod claim;
mod job;
mod metadata;
mod namespace;
mod service;
mod service_account;

use isthmus_shared::resources::MIGRATED_BY;
use serde_json::{Map, Value};

pub use namespace::carried as namespace_marks;

use crate::workloads::state;

/// What a rewrite depends on beside the object.
#[derive(Clone, Copy, Debug)]
pub struct Rewrite<'a> {
    /// The mark that the object is to carry.
    pub migrated_by: &'a str,
    /// Whether workloads arrive stopped.
    pub stopped: bool,
}

/// The rules in their order. Each looks for itself whether the object is its concern.
const RULES: &[fn(&mut Value)] =
    &[metadata::rewrite, service::rewrite, claim::rewrite, job::rewrite, service_account::rewrite];

/// The object as it is to be applied on the destination.
pub fn rewrite(mut object: Value, options: &Rewrite<'_>) -> Value {
    for rule in RULES {
        rule(&mut object);
    }
    if options.stopped
        && let Some(patch) = state::stop(&object)
    {
        merge(&mut object, &patch);
    }
    set_label(&mut object, MIGRATED_BY, options.migrated_by);
    object
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
