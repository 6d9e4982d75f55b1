//! Brings an object into the shape that its schema gives: unknown fields go, defaults come, and
//! built-in objects lose what a typed server would not have kept.

use serde_json::{Map, Value};

use super::{Node, Schema, Type, builtin};
use crate::apiserver::json::type_name;
use crate::apiserver::quantity::Quantity;

/// Lists that a typed server writes even when they are empty.
const KEPT_WHEN_EMPTY: [&str; 4] = ["containers", "rules", "items", "webhooks"];

/// Drops fields that the schema does not know and reports their paths.
pub fn prune(value: &mut Value, schema: &Schema, unknown: &mut Vec<String>) {
    prune_object(value, schema, true, "", unknown);
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn prune_object(value: &mut Value, schema: &Schema, root: bool, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let whole = root || schema.embedded;
            let mut gone = Vec::new();
            for (key, child) in map.iter_mut() {
                if whole && matches!(key.as_str(), "apiVersion" | "kind") {
                    continue;
                }
                let here = join(path, key);
                if whole && key == "metadata" {
                    prune_object(child, builtin::definition(builtin::OBJECT_META), false, &here, unknown);
                } else if let Some(field) = schema.field(key) {
                    prune_object(child, field, false, &here, unknown);
                } else if !schema.keeps_unknown() {
                    unknown.push(here);
                    gone.push(key.clone());
                }
            }
            for key in gone {
                map.remove(&key);
            }
        }
        Value::Array(items) => {
            if let Some(item) = schema.item() {
                for (index, child) in items.iter_mut().enumerate() {
                    prune_object(child, item, false, &format!("{path}[{index}]"), unknown);
                }
            }
        }
        _ => {}
    }
}

/// Fills in the schema's defaults.
pub fn default(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) => {
            for (key, node) in &schema.properties {
                let field = node.get();
                if let Some(given) = &field.default {
                    let absent = map.get(key).is_none_or(|v| v.is_null() && !field.nullable);
                    if absent {
                        map.insert(key.clone(), given.clone());
                    }
                }
                if let Some(child) = map.get_mut(key) {
                    default(child, field);
                }
            }
            if let Some(additional) = &schema.additional {
                let known = &schema.properties;
                for (_, child) in map.iter_mut().filter(|(key, _)| !known.contains_key(*key)) {
                    default(child, additional.get());
                }
            }
        }
        Value::Array(items) => {
            if let Some(item) = schema.item() {
                for child in items {
                    default(child, item);
                }
            }
        }
        _ => {}
    }
}

/// Drops nulls where the schema does not allow them, so that an explicit null means absence.
pub fn drop_nulls(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) => {
            map.retain(|key, child| {
                !child.is_null() || schema.field(key).is_some_and(|f| f.nullable) || schema.keeps_unknown()
            });
            for (key, child) in map.iter_mut() {
                if let Some(field) = schema.field(key) {
                    drop_nulls(child, field);
                }
            }
        }
        Value::Array(items) => {
            if let Some(item) = schema.item() {
                for child in items {
                    drop_nulls(child, item);
                }
            }
        }
        _ => {}
    }
}

/// What a typed server does to a built-in object by decoding and encoding it: nulls and empty lists
/// and maps go, quantities take their canonical form. Says where a value has the wrong type.
pub fn normalise(value: &mut Value, schema: &Schema, path: &str) -> Result<(), String> {
    check_type(value, schema, path)?;
    match value {
        Value::Object(map) => normalise_fields(map, schema, path),
        Value::Array(items) => {
            let Some(item) = schema.item() else { return Ok(()) };
            for child in items.iter_mut() {
                normalise(child, item, path)?;
            }
            Ok(())
        }
        Value::String(_) | Value::Number(_) if schema.quantity => match Quantity::from_json(value) {
            Some(quantity) => {
                *value = Value::String(quantity.canonical());
                Ok(())
            }
            None => Err(format!(
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$' ({path} is {value})"
            )),
        },
        _ => Ok(()),
    }
}

fn normalise_fields(map: &mut Map<String, Value>, schema: &Schema, path: &str) -> Result<(), String> {
    if schema.preserve_unknown || schema.ty == Type::Any {
        return Ok(());
    }
    for (key, child) in map.iter_mut() {
        if child.is_null() {
            continue;
        }
        if let Some(field) = schema.field(key) {
            normalise(child, field, &join(path, key))?;
        }
    }
    map.retain(|key, child| match child {
        Value::Null => false,
        Value::Array(items) => !items.is_empty() || KEPT_WHEN_EMPTY.contains(&key.as_str()),
        Value::Object(fields) if fields.is_empty() => !schema.field(key).is_some_and(is_free_map),
        _ => true,
    });
    Ok(())
}

/// Free maps are left out when empty; an empty struct behind a pointer (`emptyDir: {}`) says something.
fn is_free_map(schema: &Schema) -> bool {
    schema.properties.is_empty() && schema.additional.as_ref().map(Node::get).is_some()
}

fn check_type(value: &Value, schema: &Schema, path: &str) -> Result<(), String> {
    let fits = match (schema.ty, value) {
        (Type::Any, _)
        | (_, Value::Null)
        | (Type::Object, Value::Object(_))
        | (Type::Array, Value::Array(_))
        | (Type::String | Type::IntOrString, Value::String(_))
        | (Type::Number | Type::IntOrString, Value::Number(_))
        | (Type::Boolean, Value::Bool(_)) => true,
        (Type::Integer, Value::Number(n)) => n.as_i64().is_some(),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let want = match schema.ty {
        Type::Object if is_free_map(schema) => "map[string]string",
        Type::Object => "object",
        Type::Array => "[]array",
        Type::String => "string",
        Type::Integer => "int32",
        Type::Number => "float64",
        Type::Boolean => "bool",
        Type::IntOrString | Type::Any => "int-or-string",
    };
    let got = match type_name(value) {
        "boolean" => "bool",
        "integer" => "number",
        other => other,
    };
    Err(format!("json: cannot unmarshal {got} into Go struct field .{path} of type {want}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn typed_objects_lose_nulls_and_empty_maps_but_keep_empty_structs() {
        let schema = builtin::definition("io.k8s.api.core.v1.Pod");
        let mut pod = json!({
            "metadata": {"name": "a", "labels": {}, "creationTimestamp": null},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"memory": "1024Mi"}}}],
                     "volumes": [{"name": "v", "emptyDir": {}}]},
        });
        normalise(&mut pod, schema, "").unwrap();
        assert_eq!(
            pod,
            json!({
                "metadata": {"name": "a"},
                "spec": {"containers": [{"name": "c", "resources": {"limits": {"memory": "1Gi"}}}],
                         "volumes": [{"name": "v", "emptyDir": {}}]},
            })
        );
    }

    #[test]
    fn unknown_fields_are_dropped_and_named() {
        let schema = builtin::definition("io.k8s.api.core.v1.Pod");
        let mut pod =
            json!({"apiVersion": "v1", "spec": {"containers": [{"name": "c", "imagee": "x"}], "foo": 1}});
        let mut unknown = Vec::new();
        prune(&mut pod, schema, &mut unknown);
        assert_eq!(unknown, ["spec.containers[0].imagee", "spec.foo"]);
        assert_eq!(pod["spec"], json!({"containers": [{"name": "c"}]}));
    }
}
