//! What an object says of itself: names, marks, and how a message names it.

use isthmus_shared::protocol::{ObjectAction, ObjectResult, Run};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which object: enough to find it again in either cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectId {
    /// `v1`, `apps/v1`.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// The namespace, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl ObjectId {
    /// The identity of an object.
    pub fn of(object: &Value) -> Self {
        Self {
            api_version: api_version(object).to_owned(),
            kind: kind(object).to_owned(),
            namespace: Some(namespace(object)).filter(|n| !n.is_empty()).map(str::to_owned),
            name: name(object).to_owned(),
        }
    }

    /// The identity that an object of a run's source has on the destination.
    #[must_use]
    pub fn on_destination(mut self, run: &Run) -> Self {
        if let Some(namespace) = &mut self.namespace {
            if self.kind == "PersistentVolumeClaim" && self.api_version == "v1" {
                self.name = run.claim_on_destination(namespace, &self.name).to_owned();
            }
            *namespace = run.destination_of(namespace).to_owned();
        }
        self
    }

    /// The API group; empty for the core one.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// A line of a report about it; reason, message and diffs are the caller's.
    pub fn result(&self, action: ObjectAction) -> ObjectResult {
        ObjectResult {
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            action,
            reason: None,
            message: None,
            diff: None,
            rewritten: None,
        }
    }

    /// How messages name it: `Service cms/wordpress`.
    pub fn describe(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} {namespace}/{}", self.kind, self.name),
            None => format!("{} {}", self.kind, self.name),
        }
    }
}

/// The text at a JSON pointer, empty if there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a JSON pointer, empty if there is none.
pub fn array<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// `metadata.namespace`.
pub fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

/// `kind`.
pub fn kind(object: &Value) -> &str {
    text(object, "/kind")
}

/// `apiVersion`.
pub fn api_version(object: &Value) -> &str {
    text(object, "/apiVersion")
}

/// An annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("annotations")?.get(key)?.as_str()
}

/// A label.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("labels")?.get(key)?.as_str()
}

/// How messages name an object: `Service cms/wordpress`.
pub fn describe(object: &Value) -> String {
    ObjectId::of(object).describe()
}
