//! References to renamed namespaces, wherever an object has them.
//!
//! One walk finds what is the same in built-in kinds and custom resources: maps that name an
//! object with its namespace, label selectors over namespaces, lists of namespaces, and texts that
//! hold a service account's user name. Namespaces in annotations are known by the annotation's
//! name ([`annotations`]). What looks like a namespace and cannot be known to be one is left as
//! it is and told.
//!
//! Texts that are people's own - data of ConfigMaps and Secrets, environment variables, arguments -
//! are [`super::host_names`]' concern, and the schemas of definitions are nobody's.

mod annotations;

use serde_json::{Map, Value};

use super::notes::Notes;
use super::{Namespaces, Scope, is};

/// The label that every namespace has: its name. Longer keys that end in it are Cilium's.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Cilium's name for a pod's namespace in its selectors.
const CILIUM_NAMESPACE: &str = "io.kubernetes.pod.namespace";

/// Lists whose texts are namespaces: of pod affinity, of policies, of operators' scopes.
const NAMESPACE_LISTS: &[&str] = &[
    "deniedNamespaces",
    "excludedNamespaces",
    "includedNamespaces",
    "matchNames",
    "namespaces",
    "notNamespaces",
    "sourceNamespaces",
    "targetNamespaces",
    "watchNamespaces",
];

/// Fields that are one namespace, whatever stands beside them.
const NAMESPACE_FIELDS: &[&str] =
    &["releaseNamespace", "storageNamespace", "targetNamespace", "watchNamespace"];

/// Fields whose value is not the API's but a person's, or no reference.
const OPAQUE: &[&str] = &["args", "command", "env", "labels", "nodeSelector", "openAPIV3Schema"];

/// Before an account's namespace in its user name; the group of all accounts of a namespace.
const ACCOUNT: &str = "system:serviceaccount:";
const ACCOUNTS: &str = "system:serviceaccounts:";

/// The names under which OpenShift's own registry is reached; the path's first part is a namespace.
const OPENSHIFT_REGISTRIES: &[&str] = &[
    "image-registry.openshift-image-registry.svc:5000/",
    "image-registry.openshift-image-registry.svc.cluster.local:5000/",
    "docker-registry.default.svc:5000/",
];

/// Maps them.
pub fn rewrite(object: &mut Value, scope: &mut Scope<'_>) {
    let names = &scope.options.namespaces;
    if !names.any_renamed() {
        return;
    }
    let people = is(object, "", "ConfigMap") || is(object, "", "Secret");
    let is_namespace = is(object, "", "Namespace");
    let mut walk = Walk { names, notes: &mut scope.notes, path: Vec::new() };
    let Some(fields) = object.as_object_mut() else { return };
    for (key, value) in fields {
        match key.as_str() {
            "metadata" => walk.metadata(value, is_namespace),
            "data" | "binaryData" | "stringData" if people => {}
            _ => walk.field(key, value),
        }
    }
}

/// Where the walk is, and what it looks for.
struct Walk<'a> {
    names: &'a Namespaces,
    notes: &'a mut Notes,
    path: Vec<String>,
}

impl Walk<'_> {
    fn metadata(&mut self, metadata: &mut Value, is_namespace: bool) {
        let Some(metadata) = metadata.as_object_mut() else { return };
        self.map_field(metadata, "namespace");
        if is_namespace {
            self.map_field(metadata, "name");
            if let Some(Value::Object(labels)) = metadata.get_mut("labels") {
                self.map_field(labels, NAME_LABEL);
            }
        }
        if let Some(Value::Object(map)) = metadata.get_mut("annotations") {
            annotations::rewrite(map, self.names);
        }
    }

    fn field(&mut self, key: &str, value: &mut Value) {
        if OPAQUE.contains(&key) {
            return;
        }
        if key == "annotations" {
            if let Value::Object(map) = value {
                annotations::rewrite(map, self.names);
            }
            return;
        }
        self.path.push(key.to_owned());
        match value {
            Value::Object(map) => self.map(key, map),
            Value::Array(list) => self.list(key, list),
            Value::String(text) => self.text(text, NAMESPACE_FIELDS.contains(&key), key),
            _ => {}
        }
        self.path.pop();
    }

    fn list(&mut self, key: &str, list: &mut [Value]) {
        for item in list {
            match item {
                Value::Object(map) => self.map(key, map),
                Value::Array(list) => self.list(key, list),
                Value::String(text) => self.text(text, NAMESPACE_LISTS.contains(&key), key),
                _ => {}
            }
        }
    }

    fn map(&mut self, key: &str, map: &mut Map<String, Value>) {
        if key == "matchLabels" {
            map.iter_mut()
                .filter(|(label, _)| is_name_label(label))
                .for_each(|(_, value)| self.map_value(value));
            return;
        }
        // An item of matchExpressions.
        if map.get("key").and_then(Value::as_str).is_some_and(is_name_label) {
            let values = map.get_mut("values").and_then(Value::as_array_mut);
            values.into_iter().flatten().for_each(|value| self.map_value(value));
            return;
        }
        let refers = refers(key, map);
        if refers {
            self.map_field(map, "namespace");
        }
        for (key, value) in map.iter_mut().filter(|(key, _)| !(refers && *key == "namespace")) {
            self.field(key, value);
        }
    }

    fn text(&mut self, text: &mut String, is_namespace: bool, key: &str) {
        if let Some(to) = self.names.renamed(text) {
            if is_namespace {
                to.clone_into(text);
            } else if key.to_ascii_lowercase().contains("namespace") {
                self.notes.unsure(&self.path.join("."), text, to);
            }
        } else if let Some(after) = account(text, self.names)
            .or_else(|| identity(text, self.names))
            .or_else(|| registry(text, self.names))
        {
            *text = after;
        }
    }

    fn map_field(&self, map: &mut Map<String, Value>, key: &str) {
        map.get_mut(key).into_iter().for_each(|value| self.map_value(value));
    }

    fn map_value(&self, value: &mut Value) {
        if let Some(to) = value.as_str().and_then(|from| self.names.renamed(from)) {
            *value = Value::from(to);
        }
    }
}

fn is_name_label(label: &str) -> bool {
    label.ends_with(NAME_LABEL) || label.ends_with(CILIUM_NAMESPACE)
}

/// Whether a map names an object (or, as a ReferenceGrant does, the objects of a kind) in the
/// namespace that it gives; or a place to put objects, as Argo CD's `destination` does.
fn refers(key: &str, map: &Map<String, Value>) -> bool {
    let has = |field: &str| map.get(field).is_some_and(Value::is_string);
    has("namespace") && (has("name") || has("kind") || matches!(key, "destination" | "destinations"))
}

/// The user name of a service account, or the group of all of a namespace.
fn account(text: &str, names: &Namespaces) -> Option<String> {
    if let Some(rest) = text.strip_prefix(ACCOUNT) {
        let (namespace, account) = rest.split_once(':')?;
        return names.renamed(namespace).map(|to| format!("{ACCOUNT}{to}:{account}"));
    }
    names.renamed(text.strip_prefix(ACCOUNTS)?).map(|to| format!("{ACCOUNTS}{to}"))
}

/// A workload's identity as meshes write it: `cluster.local/ns/<namespace>/sa/<account>`.
fn identity(text: &str, names: &Namespaces) -> Option<String> {
    let (domain, rest) = text.split_once("/ns/")?;
    let (namespace, account) = rest.split_once("/sa/")?;
    names.renamed(namespace).map(|to| format!("{domain}/ns/{to}/sa/{account}"))
}

/// An image in the registry that OpenShift runs itself.
fn registry(text: &str, names: &Namespaces) -> Option<String> {
    OPENSHIFT_REGISTRIES.iter().find_map(|registry| {
        let (namespace, image) = text.strip_prefix(registry)?.split_once('/')?;
        names.renamed(namespace).map(|to| format!("{registry}{to}/{image}"))
    })
}

#[cfg(test)]
mod tests;
