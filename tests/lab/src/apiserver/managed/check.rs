//! Whether an applied configuration can be typed by its schema at all: fields that are declared,
//! values of the declared types, list elements that can be told apart.

use std::collections::BTreeSet;

use serde_json::Value;

use super::set::FieldSet;
use super::typed::{Known, element_of, field, is_atomic, item, list_type};
use crate::apiserver::schema::{ListType, Schema, Type};

/// The most problems that are told of one configuration.
const MAX_TOLD: usize = 20;

/// What keeps a configuration from being typed, in the words of structured-merge-diff.
pub fn problems(config: &Value, schema: &Schema) -> Option<String> {
    let mut found = Vec::new();
    walk(config, Some(schema), true, "", &mut found);
    found.truncate(MAX_TOLD);
    match found.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("errors:\n  {}", many.join("\n  "))),
    }
}

fn walk(value: &Value, schema: Known<'_>, root: bool, path: &str, found: &mut Vec<String>) {
    if let Some(problem) = schema.and_then(|schema| wrong_type(value, schema)) {
        found.push(format!("{path}: {problem}"));
        return;
    }
    match value {
        Value::Object(map) => {
            for (key, child) in map {
                let below = format!("{path}.{key}");
                match (field(schema, key, root), schema) {
                    (None, Some(_)) if root && matches!(key.as_str(), "apiVersion" | "kind") => {}
                    (None, Some(s)) if !(s.keeps_unknown() || s.embedded && is_head(key)) => {
                        found.push(format!("{below}: field not declared in schema"));
                    }
                    (known, _) => walk(child, known, false, &below, found),
                }
            }
        }
        Value::Array(items) => elements(items, schema, is_atomic(value, schema), path, found),
        _ => {}
    }
}

fn is_head(key: &str) -> bool {
    matches!(key, "apiVersion" | "kind" | "metadata")
}

fn elements(items: &[Value], schema: Known<'_>, atomic: bool, path: &str, found: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (index, child) in items.iter().enumerate() {
        if atomic {
            walk(child, item(schema), false, &format!("{path}[{index}]"), found);
            continue;
        }
        let Some(element) = element_of(child, schema) else {
            found.push(format!("{path}: element {index}: {}", without_keys(list_type(schema))));
            continue;
        };
        let mut one = FieldSet::default();
        one.put(element.clone(), FieldSet::leaf());
        let shown = one.paths().concat();
        if !seen.insert(element) {
            found.push(format!("{path}: duplicate entries for key {shown}"));
            continue;
        }
        walk(child, item(schema), false, &format!("{path}{shown}"), found);
    }
}

fn without_keys(list: &ListType) -> String {
    let keys = match list {
        ListType::Map(keys) => keys.as_slice(),
        _ => &[],
    };
    let named: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
    format!(
        "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
        named.join(" ")
    )
}

/// What is wrong with a value's type; null stands for nothing at all.
fn wrong_type(value: &Value, schema: &Schema) -> Option<String> {
    // Go's wrapper around a scalar, as it prints.
    let wrapped = |value: &Value| format!("&value.valueUnstructured{{Value:{value}}}");
    let got = match value {
        Value::Object(_) => "map".to_owned(),
        Value::Array(_) => "list".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Bool(_) => "boolean".to_owned(),
        Value::Number(_) | Value::Null => "number".to_owned(),
    };
    let want = match (schema.ty, value) {
        (_, Value::Null)
        | (Type::Any, _)
        | (Type::Object, Value::Object(_))
        | (Type::Array, Value::Array(_))
        | (Type::String, Value::String(_))
        | (Type::Integer | Type::Number, Value::Number(_))
        | (Type::IntOrString, Value::Number(_) | Value::String(_))
        | (Type::Boolean, Value::Bool(_)) => return None,
        // A quantity may be written as a number.
        (Type::String, Value::Number(_)) if schema.quantity => return None,
        (Type::Object, _) => return Some(format!("expected map, got {}", wrapped(value))),
        (Type::Array, _) => return Some(format!("expected list, got {}", wrapped(value))),
        (Type::String, _) => return Some(format!("expected string, got {}", wrapped(value))),
        (Type::Integer | Type::Number | Type::IntOrString, _) => "numeric (int or float)",
        (Type::Boolean, _) => "boolean",
    };
    Some(format!("expected {want}, got {got}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::apiserver::schema::builtin;

    fn told(config: &Value) -> Option<String> {
        problems(config, builtin::definition("io.k8s.api.apps.v1.Deployment"))
    }

    fn containers(containers: &Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"template": {"spec": {"containers": containers}}}})
    }

    #[test]
    fn a_configuration_that_the_schema_can_type_has_no_problems() {
        let good = json!([{"name": "c", "resources": {"limits": {"cpu": 1}}, "ports": [
            {"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]}]);
        assert_eq!(told(&containers(&good)), None);
    }

    #[test]
    fn what_is_undeclared_or_of_another_type_or_twice_is_told_with_its_path() {
        let head = ".spec.template.spec.containers";
        for (bad, why) in [
            (json!([{"name": "c", "imagee": 1}]), "[name=\"c\"].imagee: field not declared in schema"),
            (json!([{"name": "c"}, {"name": "c"}]), ": duplicate entries for key [name=\"c\"]"),
            (json!([{"name": "c", "tty": "x"}]), "[name=\"c\"].tty: expected boolean, got string"),
            (
                json!([{"name": "c", "image": 1}]),
                "[name=\"c\"].image: expected string, got &value.valueUnstructured{Value:1}",
            ),
            (
                json!([{"image": "i"}]),
                ": element 0: associative list with keys has an element that omits all key fields [\"name\"] (and doesn't have default values for any key fields)",
            ),
        ] {
            assert_eq!(told(&containers(&bad)), Some(format!("{head}{why}")));
        }
    }

    #[test]
    fn several_problems_are_told_line_by_line() {
        let bad = json!({"spec": {"foo": 1, "bar": 2}});
        assert_eq!(
            told(&bad).unwrap(),
            "errors:\n  .spec.bar: field not declared in schema\n  .spec.foo: field not declared in schema"
        );
    }
}
