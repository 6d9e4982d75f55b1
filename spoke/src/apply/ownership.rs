//! Which fields of an object are ours, read from its `metadata.managedFields`.
//!
//! Objects are created by a plain POST: it costs the API server a third less than an apply, and
//! it can never overwrite what somebody else made a moment before. The server then notes our
//! fields in an entry of the operation `Update`, and an object that was applied has one of the
//! operation `Apply`. Both are read here, for two questions:
//!
//! - [`surplus`]: do we own a field that is no longer wanted, because it is gone from the source?
//! - [`as_applied`]: the entries as they would be had all of ours been applied, so that the next
//!   apply removes such fields. It is what `kubectl` does when it moves to server-side apply.
//!
//! The format of `fieldsV1` is that of sigs.k8s.io/structured-merge-diff: `f:` a field, `k:` a
//! list item by its keys, `v:` a list item by its value, `i:` one by its index, `.` the thing
//! itself.

use isthmus_shared::resources::FIELD_MANAGER;
use serde_json::{Map, Value, json};

use crate::cluster::{array, text};

/// How deep field sets are followed; objects are less deep than this.
const MAX_DEPTH: usize = 64;

fn is_ours(entry: &Value) -> bool {
    text(entry, "/manager") == FIELD_MANAGER && text(entry, "/subresource").is_empty()
}

fn entries(live: &Value) -> impl Iterator<Item = &Value> {
    array(live, "/metadata/managedFields").iter().filter(|entry| is_ours(entry))
}

/// Whether some of our fields stand in an entry that an apply does not go by.
pub fn was_created(live: &Value) -> bool {
    entries(live).any(|entry| text(entry, "/operation") != "Apply")
}

/// Whether it was ever applied, after it was created or instead.
pub fn was_applied(live: &Value) -> bool {
    entries(live).any(|entry| text(entry, "/operation") == "Apply")
}

/// Whether we own fields that `wanted` lacks, or an entry of ours cannot be read.
pub fn surplus(live: &Value, wanted: &Value) -> bool {
    entries(live).any(|entry| match entry.get("fieldsV1") {
        Some(fields) => lacks(wanted, fields, 0),
        None => true,
    })
}

/// Whether `value` lacks one of the fields.
fn lacks(value: &Value, fields: &Value, depth: usize) -> bool {
    let Some(fields) = fields.as_object() else { return true };
    if depth > MAX_DEPTH {
        return true;
    }
    fields.iter().any(|(key, below)| {
        // What is empty is left out by the server, or by whoever wrote the object.
        key != "." && step(value, key).is_none_or(|found| !found.is_null() && lacks(found, below, depth + 1))
    })
}

/// The part of a value that a key of a field set names.
fn step<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    let (form, rest) = key.split_once(':')?;
    match form {
        "f" => value.get(rest),
        "i" => value.get(rest.parse::<usize>().ok()?),
        "v" => {
            let wanted: Value = serde_json::from_str(rest).ok()?;
            value.as_array()?.iter().find(|item| **item == wanted)
        }
        "k" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
            value.as_array()?.iter().find(|item| has_keys(item, &keys))
        }
        _ => None,
    }
}

/// A key that the item lacks is one that has its default, such as a port's protocol.
fn has_keys(item: &Value, keys: &Map<String, Value>) -> bool {
    keys.iter().all(|(key, wanted)| item.get(key).is_none_or(|found| found == wanted))
}

/// The object without the fields that we own and `wanted` lacks: what a replacement is tried with
/// to learn whether they are more than defaults.
pub fn without_surplus(live: &Value, wanted: &Value) -> Value {
    let mut object = live.clone();
    for entry in entries(live) {
        if let Some(fields) = entry.get("fieldsV1") {
            drop_lacking(&mut object, wanted, fields, 0);
        }
    }
    object
}

fn drop_lacking(object: &mut Value, wanted: &Value, fields: &Value, depth: usize) {
    let Some(fields) = fields.as_object() else { return };
    if depth > MAX_DEPTH {
        return;
    }
    for (key, below) in fields.iter().filter(|(key, _)| *key != ".") {
        match step(wanted, key) {
            Some(wanted) => {
                if let Some(object) = step_mut(object, key) {
                    drop_lacking(object, wanted, below, depth + 1);
                }
            }
            None => remove(object, key),
        }
    }
}

/// Where in a list the item is that a key names.
fn position(list: &[Value], form: &str, rest: &str) -> Option<usize> {
    match form {
        "i" => rest.parse().ok().filter(|index| *index < list.len()),
        "v" => {
            let wanted: Value = serde_json::from_str(rest).ok()?;
            list.iter().position(|item| *item == wanted)
        }
        "k" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
            list.iter().position(|item| has_keys(item, &keys))
        }
        _ => None,
    }
}

fn step_mut<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let (form, rest) = key.split_once(':')?;
    if form == "f" {
        return value.get_mut(rest);
    }
    let list = value.as_array_mut()?;
    let index = position(list, form, rest)?;
    list.get_mut(index)
}

fn remove(value: &mut Value, key: &str) {
    let Some((form, rest)) = key.split_once(':') else { return };
    match value {
        Value::Object(map) if form == "f" => {
            map.remove(rest);
        }
        Value::Array(list) => {
            if let Some(index) = position(list, form, rest) {
                list.remove(index);
            }
        }
        _ => {}
    }
}

/// All entries of an object, ours made one of the operation `Apply`; to be written with the
/// object's resource version.
pub fn as_applied(live: &Value, api_version: &str) -> Value {
    let mut fields = Map::new();
    for entry in entries(live) {
        if let Some(more) = entry.get("fieldsV1").and_then(Value::as_object) {
            unite(&mut fields, more);
        }
    }
    let others = array(live, "/metadata/managedFields").iter().filter(|entry| !is_ours(entry)).cloned();
    let ours = json!({
        "manager": FIELD_MANAGER,
        "operation": "Apply",
        "apiVersion": api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    });
    Value::Array(std::iter::once(ours).chain(others).collect())
}

fn unite(fields: &mut Map<String, Value>, more: &Map<String, Value>) {
    for (key, below) in more {
        let here = fields.entry(key.as_str()).or_insert_with(|| json!({}));
        if let (Some(here), Some(below)) = (here.as_object_mut(), below.as_object()) {
            unite(here, below);
        }
    }
}

/// The managed fields that are needed for the questions above: ours.
pub fn keep_ours(live: &mut Value) {
    if let Some(Value::Array(all)) = live.pointer_mut("/metadata/managedFields") {
        all.retain(is_ours);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(operation: &str, fields: &Value) -> Value {
        json!({"metadata": {"managedFields": [
            {"manager": "kubectl", "operation": "Apply", "apiVersion": "v1", "fieldsV1": {"f:data": {"f:theirs": {}}}},
            {"manager": "isthmus", "operation": operation, "apiVersion": "v1", "fieldsV1": fields},
        ]}})
    }

    #[test]
    fn a_field_that_is_gone_from_the_source_is_surplus_and_others_are_not() {
        let fields = json!({"f:data": {".": {}, "f:a": {}, "f:b": {}}});
        assert!(!surplus(&live("Update", &fields), &json!({"data": {"a": "1", "b": "2", "c": "3"}})));
        assert!(surplus(&live("Update", &fields), &json!({"data": {"a": "1"}})));
        assert!(surplus(&live("Apply", &fields), &json!({})));
    }

    #[test]
    fn list_items_are_found_by_their_keys_values_and_index() {
        let fields = json!({"f:spec": {
            "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:name": {}}},
            "f:finalizers": {"v:\"a/b\"": {}},
            "f:list": {"i:1": {}},
        }});
        let wanted = json!({"spec": {"ports": [{"port": 81}, {"port": 80, "name": "http"}], "finalizers": ["a/b"], "list": [1, 2]}});
        assert!(!surplus(&live("Update", &fields), &wanted));
        let other = json!({"spec": {"ports": [{"port": 80, "protocol": "UDP", "name": "http"}], "finalizers": ["a/b"], "list": [1, 2]}});
        assert!(surplus(&live("Update", &fields), &other));
    }

    #[test]
    fn surplus_fields_are_taken_out_and_the_rest_stays() {
        let fields = json!({"f:data": {"f:a": {}, "f:gone": {}}, "f:spec": {"f:ports": {"k:{\"port\":80}": {".": {}, "f:port": {}}}}});
        let mut object = live("Update", &fields);
        object["data"] = json!({"a": "1", "gone": "2", "theirs": "3"});
        object["spec"] = json!({"ports": [{"port": 80}, {"port": 443}]});
        let wanted = json!({"data": {"a": "1"}, "spec": {"ports": [{"port": 443}]}});
        let after = without_surplus(&object, &wanted);
        assert_eq!(after["data"], json!({"a": "1", "theirs": "3"}));
        assert_eq!(after["spec"]["ports"], json!([{"port": 443}]));
    }

    #[test]
    fn our_entries_become_one_of_an_apply_and_those_of_others_stay() {
        let mut object = live("Update", &json!({"f:data": {"f:a": {}}}));
        object["metadata"]["managedFields"].as_array_mut().unwrap().push(json!(
            {"manager": "isthmus", "operation": "Apply", "apiVersion": "v1", "fieldsV1": {"f:data": {"f:b": {}}}}
        ));
        assert!(was_created(&object));
        let entries = as_applied(&object, "v1");
        assert_eq!(entries.as_array().unwrap().len(), 2);
        assert_eq!(entries[0]["operation"], "Apply");
        assert_eq!(entries[0]["fieldsV1"], json!({"f:data": {"f:a": {}, "f:b": {}}}));
        assert_eq!(entries[1]["manager"], "kubectl");
    }

    #[test]
    fn an_entry_of_a_subresource_says_nothing_about_the_object() {
        let object = json!({"metadata": {"managedFields": [
            {"manager": "isthmus", "operation": "Update", "subresource": "status", "fieldsV1": {"f:status": {}}}
        ]}});
        assert!(!surplus(&object, &json!({})) && !was_created(&object));
    }
}
