//! Short ways to read and write places inside untyped objects.

use serde_json::{Map, Value};

/// A value that stands for what is not there.
pub static NULL: Value = Value::Null;

/// The value at a path of fields; null where there is none.
pub fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |v, key| v.get(*key).unwrap_or(&NULL))
}

/// The text at a path; empty where there is none.
pub fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).as_str().unwrap_or("")
}

/// The whole number at a path.
pub fn number(value: &Value, path: &[&str]) -> Option<i64> {
    at(value, path).as_i64()
}

/// The elements of the list at a path; none where there is no list.
pub fn list<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path).as_array().map_or(&[], Vec::as_slice)
}

/// The value as an object, made one if it is anything else.
pub fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        // The line above has just made it an object.
        _ => unreachable!("a value that was made an object is one"),
    }
}

/// The place at a path, with the objects on the way made as needed.
pub fn place<'a>(value: &'a mut Value, path: &[&str]) -> &'a mut Value {
    path.iter().fold(value, |v, key| object(v).entry((*key).to_owned()).or_insert(Value::Null))
}

/// Sets a place.
pub fn set(value: &mut Value, path: &[&str], to: impl Into<Value>) {
    *place(value, path) = to.into();
}

/// Sets a place only if nothing (or null) is there.
pub fn default(value: &mut Value, path: &[&str], to: impl Into<Value>) {
    let here = place(value, path);
    if here.is_null() {
        *here = to.into();
    }
}

/// Takes a place away and returns what was there.
pub fn remove(value: &mut Value, path: &[&str]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    let mut here = value;
    for key in parents {
        here = here.get_mut(*key)?;
    }
    here.as_object_mut()?.remove(*last)
}

/// The name of a value's JSON type.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// `metadata.name`.
pub fn name(value: &Value) -> &str {
    text(value, &["metadata", "name"])
}

/// `metadata.namespace`.
pub fn namespace(value: &Value) -> &str {
    text(value, &["metadata", "namespace"])
}

/// `metadata.uid`.
pub fn uid(value: &Value) -> &str {
    text(value, &["metadata", "uid"])
}

/// Whether deletion has begun.
pub fn terminating(value: &Value) -> bool {
    at(value, &["metadata", "deletionTimestamp"]).is_string()
}

/// Now, as Kubernetes writes times: UTC, whole seconds.
pub fn now() -> String {
    after_now(0)
}

/// The time that many seconds from now.
pub fn after_now(seconds: i64) -> String {
    let now = jiff::Timestamp::now();
    let then = now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(now);
    then.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
