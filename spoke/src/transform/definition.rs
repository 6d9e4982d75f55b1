//! CustomResourceDefinitions that were made before `v1`.
//!
//! `spec.preserveUnknownFields: true` can no longer be written. What it did, to keep every field
//! that the schema does not name, at any depth, is said in each version's schema instead; and a
//! version may lack a schema no longer.

use serde_json::{Map, Value, json};

use super::{Scope, is, remove};

/// The word for it in a schema. It reaches down to the next object whose fields are named.
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
/// Of a whole object the API server itself looks after these.
const HEAD: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Says it there.
pub fn rewrite(object: &mut Value, scope: &mut Scope<'_>) {
    if !is(object, "apiextensions.k8s.io", "CustomResourceDefinition") {
        return;
    }
    let preserve = object.pointer("/spec/preserveUnknownFields").and_then(Value::as_bool);
    remove(object, "/spec", &["preserveUnknownFields"]);
    if preserve != Some(true) {
        return;
    }
    let versions = object.pointer_mut("/spec/versions").and_then(Value::as_array_mut);
    for version in versions.into_iter().flatten().filter_map(Value::as_object_mut) {
        let schema = version.entry("schema").or_insert_with(|| json!({}));
        let Some(schema) = schema.as_object_mut() else { continue };
        let schema = schema.entry("openAPIV3Schema").or_insert_with(|| json!({}));
        let Some(schema) = schema.as_object_mut() else { continue };
        schema.entry("type").or_insert_with(|| json!("object"));
        keep_unknown(schema, true);
    }
    let message = "spec.preserveUnknownFields was true, which the API no longer takes; each version's schema now says x-kubernetes-preserve-unknown-fields instead";
    scope.notes.push("PreserveUnknownFields", message.to_owned());
}

/// Has each object in a schema keep the fields that are not named. Free keys are all kept as it is.
fn keep_unknown(schema: &mut Map<String, Value>, whole_object: bool) {
    if schema.get("type").and_then(Value::as_str) == Some("object")
        && !schema.contains_key("additionalProperties")
    {
        schema.insert(PRESERVE.to_owned(), Value::Bool(true));
    }
    let whole_object = whole_object || schema.get("x-kubernetes-embedded-resource") == Some(&json!(true));
    for below in ["items", "additionalProperties"] {
        if let Some(Value::Object(below)) = schema.get_mut(below) {
            keep_unknown(below, false);
        }
    }
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (name, property) in properties.into_iter().flatten() {
        if let Value::Object(property) = property
            && !(whole_object && HEAD.contains(&name.as_str()))
        {
            keep_unknown(property, false);
        }
    }
}
