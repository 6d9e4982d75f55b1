//! Reads the structural schema of a CustomResourceDefinition's version.

use std::sync::Arc;

use serde_json::Value;

use super::cel::Rule;
use super::validate::{Constraints, Pattern};
use super::{ListType, Node, Schema, Type};
use crate::apiserver::error::FieldError;
use crate::apiserver::json::{at, list, text};

/// Reads a schema; the errors say which parts of it cannot be used.
pub fn read(definition: &Value, field: &str, errors: &mut Vec<FieldError>) -> Schema {
    let any = definition.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
    let ty = match text(definition, &["type"]) {
        _ if any => Type::IntOrString,
        "object" => Type::Object,
        "array" => Type::Array,
        "string" => Type::String,
        "integer" => Type::Integer,
        "number" => Type::Number,
        "boolean" => Type::Boolean,
        "" => Type::Any,
        other => {
            errors.push(FieldError::unsupported(
                format!("{field}.type"),
                &Value::String(other.to_owned()),
                &["array", "boolean", "integer", "number", "object", "string"].map(str::to_owned),
            ));
            Type::Any
        }
    };
    let flag = |key: &str| definition.get(key) == Some(&Value::Bool(true));
    let preserve = flag("x-kubernetes-preserve-unknown-fields");
    if ty == Type::Any && !preserve && definition.get("properties").is_some() {
        errors.push(FieldError::required(
            format!("{field}.type"),
            "must not be empty for specified object fields",
        ));
    }
    let node = |value: &Value, at: String, errors: &mut Vec<FieldError>| {
        Node::Here(Arc::new(read(value, &at, errors)))
    };
    let mut schema = Schema {
        ty,
        preserve_unknown: preserve,
        embedded: flag("x-kubernetes-embedded-resource"),
        nullable: flag("nullable"),
        atomic: text(definition, &["x-kubernetes-map-type"]) == "atomic",
        default: definition.get("default").cloned(),
        ..Schema::default()
    };
    if let Some(properties) = definition.get("properties").and_then(Value::as_object) {
        for (key, value) in properties {
            let child = node(value, format!("{field}.properties[{key}]"), errors);
            schema.properties.insert(key.clone(), child);
        }
    }
    match definition.get("additionalProperties") {
        Some(value @ Value::Object(_)) => {
            schema.additional = Some(node(value, format!("{field}.additionalProperties"), errors));
        }
        Some(Value::Bool(true)) => schema.additional = Some(Node::Here(Arc::default())),
        _ => {}
    }
    if let Some(items) = definition.get("items") {
        schema.items = Some(node(items, format!("{field}.items"), errors));
    } else if ty == Type::Array {
        errors.push(FieldError::required(format!("{field}.items"), "must be specified"));
    }
    schema.list = match text(definition, &["x-kubernetes-list-type"]) {
        "set" => ListType::Set,
        "map" => ListType::Map(
            list(definition, &["x-kubernetes-list-map-keys"])
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
        ),
        _ => ListType::Atomic,
    };
    let constraints = constraints(definition, field, errors);
    schema.constraints = (!constraints.is_empty()).then(|| Box::new(constraints));
    schema
}

/// Refuses a rule over fields whose type CEL cannot know.
fn check_fields(rule: Rule, definition: &Value) -> Result<Rule, String> {
    let Some(properties) = definition.get("properties").and_then(Value::as_object) else { return Ok(rule) };
    let unknown = rule
        .fields()
        .into_iter()
        .find(|field| !is_head(field) && !properties.get(*field).is_some_and(is_declared))
        .map(|field| format!("ERROR: <input>:1:1: undefined field '{field}'"));
    match unknown {
        Some(why) => Err(why),
        None => Ok(rule),
    }
}

/// Fields that rules at the root of an object may always use.
fn is_head(field: &str) -> bool {
    matches!(field, "apiVersion" | "kind" | "metadata")
}

/// Whether a place has a type that rules can be checked against; one that takes anything has none.
fn is_declared(definition: &Value) -> bool {
    if definition.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        return true;
    }
    match text(definition, &["type"]) {
        "" => false,
        "array" => definition.get("items").is_some_and(is_declared),
        "object" => definition.get("additionalProperties").filter(|a| a.is_object()).is_none_or(is_declared),
        _ => true,
    }
}

fn constraints(definition: &Value, field: &str, errors: &mut Vec<FieldError>) -> Constraints {
    let size = |key: &str| definition.get(key).and_then(Value::as_u64);
    let pattern =
        definition.get("pattern").and_then(Value::as_str).and_then(|source| match Pattern::new(source) {
            Ok(pattern) => Some(pattern),
            Err(why) => {
                errors.push(FieldError::invalid(
                    format!("{field}.pattern"),
                    &Value::String(source.to_owned()),
                    &format!("must be a valid regular expression, but isn't: {why}"),
                ));
                None
            }
        });
    let mut rules = Vec::new();
    for (index, rule) in list(definition, &["x-kubernetes-validations"]).iter().enumerate() {
        match Rule::compile(rule).and_then(|compiled| check_fields(compiled, definition)) {
            Ok(rule) => rules.push(rule),
            Err(why) => errors.push(FieldError::invalid(
                format!("{field}.x-kubernetes-validations[{index}].rule"),
                at(rule, &["rule"]),
                &format!("compilation failed: {why}"),
            )),
        }
    }
    let several = |key: &str, errors: &mut Vec<FieldError>| -> Vec<Schema> {
        list(definition, &[key])
            .iter()
            .enumerate()
            .map(|(i, branch)| read(branch, &format!("{field}.{key}[{i}]"), errors))
            .collect()
    };
    Constraints {
        required: list(definition, &["required"])
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        one_of_values: list(definition, &["enum"]).to_vec(),
        pattern,
        minimum: definition.get("minimum").and_then(Value::as_f64),
        maximum: definition.get("maximum").and_then(Value::as_f64),
        exclusive_minimum: definition.get("exclusiveMinimum") == Some(&Value::Bool(true)),
        exclusive_maximum: definition.get("exclusiveMaximum") == Some(&Value::Bool(true)),
        multiple_of: definition.get("multipleOf").and_then(Value::as_f64),
        min_length: size("minLength"),
        max_length: size("maxLength"),
        min_items: size("minItems"),
        max_items: size("maxItems"),
        min_properties: size("minProperties"),
        max_properties: size("maxProperties"),
        all_of: several("allOf", errors),
        any_of: several("anyOf", errors),
        one_of: several("oneOf", errors),
        not: definition.get("not").map(|n| read(n, &format!("{field}.not"), errors)),
        rules,
    }
}
