//! CustomResourceDefinitions that were made before `v1`.
//!
//! `spec.preserveUnknownFields: true` can no longer be written. What it did is said in each
//! version's schema instead, so that the resources keep the fields that their schema does not name.

use serde_json::Value;

use super::{Scope, is, remove};

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
    for version in versions.into_iter().flatten() {
        if let Some(Value::Object(schema)) = version.pointer_mut("/schema/openAPIV3Schema") {
            schema.insert("x-kubernetes-preserve-unknown-fields".to_owned(), Value::Bool(true));
        }
    }
    let message = "spec.preserveUnknownFields was true, which the API no longer takes; each version's schema now says x-kubernetes-preserve-unknown-fields instead";
    scope.notes.push("PreserveUnknownFields", message.to_owned());
}
