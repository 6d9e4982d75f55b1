//! Pure: what of an object is shown and compared.

use isthmus_shared::resources::{MIGRATED_BY, PLAN};
use serde_json::Value;

/// What the API server and its controllers keep in an object's metadata.
const SERVERS_OWN: &[&str] =
    &["managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"];
/// Who brought an object is no difference in it.
const OUR_MARKS: &[&str] = &[MIGRATED_BY, PLAN];
/// The whole object once more, in one line; of a Secret with its values.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The object without what the API server keeps, and without our marks.
pub fn content(object: &Value) -> Value {
    let mut object = object.clone();
    let Some(map) = object.as_object_mut() else { return object };
    map.remove("status");
    if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| !SERVERS_OWN.contains(&key.as_str()));
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.retain(|key, _| !OUR_MARKS.contains(&key.as_str()));
        }
        // An API server leaves out what is empty.
        metadata.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
    }
    object
}

/// Both states as they may be shown: what is confidential is replaced by its length.
pub fn pair(before: &Value, after: &Value) -> (Value, Value) {
    let (mut before, mut after) = (content(before), content(after));
    conceal(&mut before, &mut after, "/metadata/annotations", Some(LAST_APPLIED));
    if [&before, &after].iter().any(|object| crate::cluster::kind(object) == "Secret") {
        conceal(&mut before, &mut after, "/data", None);
        conceal(&mut before, &mut after, "/stringData", None);
    }
    (before, after)
}

/// Replaces the values of a map, or one of them, in both states.
fn conceal(before: &mut Value, after: &mut Value, pointer: &str, only: Option<&str>) {
    let value = |object: &Value, key: &str| object.pointer(pointer)?.get(key).cloned();
    let keys = |object: &Value| -> Vec<String> {
        let map = object.pointer(pointer).and_then(Value::as_object);
        map.into_iter().flat_map(serde_json::Map::keys).cloned().collect()
    };
    let mut all = keys(before);
    all.extend(keys(after));
    all.sort_unstable();
    all.dedup();
    for key in all.into_iter().filter(|key| only.is_none_or(|only| only == key)) {
        let (old, new) = (value(before, &key), value(after, &key));
        let changed = old.is_some() && new.is_some() && old != new;
        if let Some(old) = &old {
            replace(before, pointer, &key, length(old, pointer));
        }
        if let Some(new) = &new {
            let length = length(new, pointer);
            replace(after, pointer, &key, if changed { format!("<changed> {length}") } else { length });
        }
    }
}

fn replace(object: &mut Value, pointer: &str, key: &str, text: String) {
    if let Some(slot) = object.pointer_mut(pointer).and_then(|map| map.get_mut(key)) {
        *slot = Value::from(text);
    }
}

/// `<7 bytes>`: of `data` as the bytes that its base64 stands for.
fn length(value: &Value, pointer: &str) -> String {
    let text = value.as_str().unwrap_or_default();
    let bytes = if pointer == "/data" { text.trim_end_matches('=').len() * 3 / 4 } else { text.len() };
    format!("<{bytes} bytes>")
}
