//! Priority classes and runtime classes.

use serde_json::Value;

use super::unchanged;
use crate::apiserver::error::FieldError;
use crate::apiserver::json::{name, number};

/// The highest priority that is not the system's.
const HIGHEST_USER: i64 = 1_000_000_000;
const SYSTEM: [&str; 2] = ["system-cluster-critical", "system-node-critical"];

/// What is wrong with a priority class.
pub fn validate_priority(class: &Value) -> Vec<FieldError> {
    let name = name(class);
    if name.starts_with("system-") {
        if SYSTEM.contains(&name) {
            return Vec::new();
        }
        return vec![FieldError::forbidden(
            "metadata.name",
            &format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {name} is not a known system priority class"
            ),
        )];
    }
    if number(class, &["value"]).unwrap_or(0) > HIGHEST_USER {
        return vec![FieldError::forbidden(
            "value",
            &format!("maximum allowed value of a user defined priority is {HIGHEST_USER}"),
        )];
    }
    Vec::new()
}

/// What of a priority class may not change.
pub fn validate_priority_update(old: &Value, new: &Value) -> Vec<FieldError> {
    ["value", "preemptionPolicy"]
        .into_iter()
        .filter(|field| old[*field] != new[*field])
        .map(|field| match field {
            "value" => FieldError::forbidden(field, "may not be changed in an update."),
            _ => FieldError::invalid(field, &new[field], "field is immutable"),
        })
        .collect()
}

/// What is wrong with a runtime class.
pub fn validate_runtime(class: &Value) -> Vec<FieldError> {
    let handler = class["handler"].as_str().unwrap_or("");
    super::names::label_problem(handler)
        .map(|why| FieldError::invalid("handler", &class["handler"], &why))
        .into_iter()
        .collect()
}

/// What of a runtime class may not change.
pub fn validate_runtime_update(old: &Value, new: &Value) -> Vec<FieldError> {
    unchanged(old, new, &["handler"], "field is immutable")
}
