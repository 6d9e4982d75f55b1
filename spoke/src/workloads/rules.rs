//! Custom resources whose operators run the workloads: how they are stopped, as data.
//!
//! An operator makes anew, or scales up again, what is stopped under it. So the field by which the
//! operator itself stops is set on the custom resource, and what it had is kept in an annotation
//! beside it, in one patch. A [`Rule`] says which field that is.
//!
//! ```text
//!   rules      pure: a rule, and the patches that stop and start by it
//!   built_in   those that come along
//!   custom     those of ConfigMaps in the spoke's own namespace
//! ```
//!
//! Promise: `start` after `stop` gives the object as it was, fields that were not there included.

mod built_in;
mod custom;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use isthmus_shared::resources::MIGRATION_SUSPEND;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::state::{self, BadKept, Way};
use crate::cluster::{annotation, api_version, kind, label, name};
use crate::transform::merge;

pub use custom::{SUSPEND_RULES, read};

/// What stands for the custom resource's name in the labels of what belongs to it.
const NAME: &str = "{name}";

/// How a kind of custom resource is stopped.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// The API group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// What its operator stops by.
    pub fields: Vec<Field>,
    /// Labels of the Pods and workloads that belong to it, where no owner reference says so; a value
    /// may hold `{name}`, for the custom resource's name.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Kinds of workloads which belong to it and which its operator does not stop: these are stopped
    /// themselves, after it.
    #[serde(default)]
    pub stops: Vec<String>,
    /// Kinds of objects that it owns, that keep Pods running, and that its operator makes anew: these
    /// are deleted once it is stopped.
    #[serde(default)]
    pub deletes: Vec<Dependent>,
    /// What shows that it has stopped, beside its Pods being gone.
    #[serde(default)]
    pub stopped: Option<Shown>,
}

/// A field, and the value by which the operator stops.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Field {
    /// A JSON pointer through maps: `/spec/pause`, `/metadata/annotations/example.com~1paused`.
    pub path: String,
    /// The value.
    pub value: Value,
    /// Only where the field is there: of two that exclude each other an object has one.
    #[serde(default)]
    pub if_present: bool,
}

/// A kind of objects that a custom resource owns.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dependent {
    /// The API group.
    pub group: String,
    /// The kind.
    pub kind: String,
}

/// A field of a status, and the value that it has once all is stopped.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shown {
    /// A JSON pointer: `/status/state`.
    pub path: String,
    /// The value.
    pub value: Value,
}

/// All rules of a spoke: a custom one stands for a built-in one of the same kind.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    rules: Vec<Rule>,
}

impl Registry {
    /// The rules that come along.
    pub fn built_in() -> &'static Self {
        static BUILT_IN: LazyLock<Registry> = LazyLock::new(|| Registry { rules: built_in::rules() });
        &BUILT_IN
    }

    /// The built-in rules with these before them.
    fn with(custom: Vec<Rule>) -> Self {
        let mut rules = custom;
        rules.extend(Self::built_in().rules.iter().cloned());
        Self { rules }
    }

    /// The rule of a kind.
    pub fn rule(&self, group: &str, kind: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.group == group && rule.kind == kind)
    }

    /// Group and kind of all rules, each once.
    pub fn kinds(&self) -> Vec<(&str, &str)> {
        let mut kinds: Vec<_> =
            self.rules.iter().map(|rule| (rule.group.as_str(), rule.kind.as_str())).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// How an object is stopped, if it is a workload at all.
    pub fn way(&self, object: &Value) -> Option<Way<'_>> {
        let group = api_version(object).split_once('/').map_or("", |(group, _)| group);
        match state::switch(object) {
            Some(switch) => Some(Way::Switch(switch)),
            None => self.rule(group, kind(object)).map(Way::Rule),
        }
    }
}

impl Rule {
    /// The fields that this object is stopped by.
    fn fields_of<'a>(&'a self, object: &'a Value) -> impl Iterator<Item = &'a Field> {
        self.fields.iter().filter(|field| field.fits(object))
    }

    /// Whether the object is told to stop.
    pub fn is_stopped(&self, object: &Value) -> bool {
        let mut fields = self.fields_of(object).peekable();
        fields.peek().is_some() && fields.all(|field| field.is_set(object))
    }

    /// Whether its status shows that it has stopped, where the rule says what shows it.
    pub fn shows_stopped(&self, object: &Value) -> bool {
        self.stopped.as_ref().is_none_or(|shown| object.pointer(&shown.path) == Some(&shown.value))
    }

    /// The patch that stops it; none if it is told to already, or has none of the fields.
    pub fn stop(&self, object: &Value) -> Option<Value> {
        if self.is_stopped(object) && annotation(object, MIGRATION_SUSPEND).is_some() {
            return None;
        }
        let mut kept = Map::new();
        let mut patch = json!({});
        for field in self.fields_of(object) {
            if let Some(missing) = field.missing(object) {
                kept.insert(missing.to_owned(), Value::Null);
            }
            kept.insert(field.path.clone(), object.pointer(&field.path).cloned().unwrap_or_default());
            put(&mut patch, &field.path, field.value.clone());
        }
        if kept.is_empty() {
            return None;
        }
        let kept = Value::Object(kept).to_string();
        put(&mut patch, &format!("/metadata/annotations/{}", escape(MIGRATION_SUSPEND)), kept.into());
        Some(patch)
    }

    /// The patch that gives it back what it had; none if nothing is kept. A field that somebody has
    /// changed meanwhile stays as they left it.
    pub fn start(&self, object: &Value) -> Result<Option<Value>, BadKept> {
        let Some(kept) = annotation(object, MIGRATION_SUSPEND) else { return Ok(None) };
        let places: Map<String, Value> = serde_json::from_str(kept).map_err(|_| BadKept::of(kept))?;
        let mut patch = json!({});
        let (fields, maps): (Vec<_>, Vec<_>) =
            places.iter().partition(|(place, _)| self.fields.iter().any(|field| field.path == **place));
        for (place, value) in fields {
            if self.fields.iter().any(|field| field.path == *place && field.is_set(object)) {
                put(&mut patch, place, value.clone());
            }
        }
        let mut after = object.clone();
        merge(&mut after, &patch);
        for (place, value) in maps {
            if !value.is_null() || !self.fields.iter().any(|field| field.lies_in(place)) {
                return Err(BadKept::of(kept));
            }
            if after.pointer(place).is_some_and(is_hollow) {
                put(&mut patch, place, Value::Null);
            }
        }
        put(&mut patch, &format!("/metadata/annotations/{}", escape(MIGRATION_SUSPEND)), Value::Null);
        Ok(Some(patch))
    }

    /// Whether something belongs to the custom resource by its labels.
    pub fn claims(&self, resource: &Value, other: &Value) -> bool {
        !self.labels.is_empty()
            && self.labels.iter().all(|(key, value)| {
                label(other, key).is_some_and(|found| found == value.replace(NAME, name(resource)))
            })
    }
}

impl Field {
    /// Whether the object has it, or may be given it.
    fn fits(&self, object: &Value) -> bool {
        if self.if_present {
            return object.pointer(&self.path).is_some();
        }
        // A merge patch would put a map in the place of what is none.
        ancestors(&self.path).all(|place| object.pointer(place).is_none_or(Value::is_object))
    }

    fn is_set(&self, object: &Value) -> bool {
        object.pointer(&self.path) == Some(&self.value)
    }

    /// The first map on the way to the field that is not there. Those of the metadata come and go by
    /// themselves.
    fn missing(&self, object: &Value) -> Option<&str> {
        ancestors(&self.path)
            .filter(|place| !place.starts_with("/metadata"))
            .find(|place| object.pointer(place).is_none())
    }

    fn lies_in(&self, place: &str) -> bool {
        self.path.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// Whether a value is a map with nothing in it but such maps.
fn is_hollow(value: &Value) -> bool {
    value.as_object().is_some_and(|map| map.values().all(is_hollow))
}

/// The places above a JSON pointer, from the top.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.char_indices().skip(1).filter(|(_, c)| *c == '/').map(|(at, _)| &path[..at])
}

/// Sets a value at a JSON pointer, with all maps above it.
fn put(patch: &mut Value, path: &str, value: Value) {
    let mut place = patch;
    for part in path.split('/').skip(1) {
        let key = part.replace("~1", "/").replace("~0", "~");
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[key.as_str()];
    }
    *place = value;
}

/// A key as a part of a JSON pointer.
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
