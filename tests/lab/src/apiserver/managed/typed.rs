//! Objects seen through their schema: the fields they set, how two differ, what one applied onto
//! another gives, and what is left when fields are given up.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::set::FieldSet;
use crate::apiserver::schema::{ListType, Schema, builtin};

/// A place's schema; `None` where nothing is known, which makes maps granular and lists atomic.
pub(super) type Known<'a> = Option<&'a Schema>;

pub(super) fn field<'a>(schema: Known<'a>, key: &str, root: bool) -> Known<'a> {
    if key == "metadata" && (root || schema.is_some_and(|s| s.embedded)) {
        return Some(builtin::definition(builtin::OBJECT_META));
    }
    schema.and_then(|s| s.field(key))
}

pub(super) fn item(schema: Known<'_>) -> Known<'_> {
    schema.and_then(Schema::item)
}

pub(super) fn list_type(schema: Known<'_>) -> &ListType {
    schema.map_or(&ListType::Atomic, |s| &s.list)
}

pub(super) fn is_atomic(value: &Value, schema: Known<'_>) -> bool {
    match value {
        Value::Object(_) => schema
            .is_some_and(|s| s.atomic || (s.preserve_unknown && s.properties.is_empty() && s.name.is_some())),
        Value::Array(_) => *list_type(schema) == ListType::Atomic,
        _ => true,
    }
}

/// Whether the key is a field of a struct (and not a key of a map).
fn is_struct_field(schema: Known<'_>, key: &str, root: bool) -> bool {
    (root && matches!(key, "metadata" | "apiVersion" | "kind"))
        || schema.is_some_and(|s| s.properties.contains_key(key))
}

/// The path element of a list's element; elements without their keys have none.
pub(super) fn element_of(child: &Value, schema: Known<'_>) -> Option<String> {
    match list_type(schema) {
        ListType::Atomic => None,
        ListType::Set => Some(format!("v:{child}")),
        ListType::Map(keys) => {
            let item = item(schema);
            let mut identity = Map::new();
            for key in keys {
                let value = child.get(key).cloned().or_else(|| item?.field(key)?.default.clone());
                if let Some(value) = value {
                    identity.insert(key.clone(), value);
                }
            }
            (!identity.is_empty()).then(|| format!("k:{}", Value::Object(identity)))
        }
    }
}

/// The fields that an object sets.
pub fn fields(value: &Value, schema: Known<'_>, root: bool) -> FieldSet {
    if is_atomic(value, schema) {
        return FieldSet::leaf();
    }
    let mut set = FieldSet::default();
    match value {
        Value::Object(map) => {
            for (key, child) in map {
                let mut below = fields(child, field(schema, key, root), false);
                let empty = child.is_null() || child.as_object().is_some_and(Map::is_empty);
                if empty || !is_struct_field(schema, key, root) {
                    below.member = true;
                }
                set.put(format!("f:{key}"), below);
            }
        }
        Value::Array(items) => {
            for child in items {
                let Some(element) = element_of(child, schema) else { continue };
                let mut below = match list_type(schema) {
                    ListType::Map(_) => fields(child, item(schema), false),
                    _ => FieldSet::default(),
                };
                below.member = true;
                set.put(element, below);
            }
        }
        _ => {}
    }
    set
}

/// How a new object differs from an old one.
#[derive(Debug, Default)]
pub struct Difference {
    /// Fields that came or changed.
    pub changed: FieldSet,
    /// Fields that went.
    pub removed: FieldSet,
}

/// Structs that a typed server always writes, so that they never count as added.
const ALWAYS_THERE: [&str; 8] =
    ["metadata", "spec", "status", "template", "jobTemplate", "strategy", "updateStrategy", "containers"];

/// Compares two objects.
pub fn compare(old: &Value, new: &Value, schema: Known<'_>) -> Difference {
    let mut difference = Difference::default();
    compare_at(Some(old), Some(new), schema, true, &mut difference);
    difference
}

fn compare_at(old: Option<&Value>, new: Option<&Value>, schema: Known<'_>, root: bool, out: &mut Difference) {
    match (old, new) {
        (None, None) => {}
        (Some(gone), None) => out.removed = everything(gone, schema, root),
        (None, Some(come)) => out.changed = everything(come, schema, root),
        (Some(old), Some(new)) => {
            if old == new {
                return;
            }
            if is_atomic(old, schema) || is_atomic(new, schema) || old.is_object() != new.is_object() {
                out.changed.member = true;
                return;
            }
            let typed = schema.is_some_and(|s| s.name.is_some());
            for (element, (old, new, child)) in pairs(old, new, schema, root) {
                let mut below = Difference::default();
                let known_struct =
                    typed && element.strip_prefix("f:").is_some_and(|key| ALWAYS_THERE.contains(&key));
                compare_at(old, new, child, false, &mut below);
                if known_struct && old.is_none() {
                    below.changed.member = false;
                }
                out.changed.put(element.clone(), below.changed);
                out.removed.put(element, below.removed);
            }
        }
    }
}

/// Every place of a value, the containers too.
fn everything(value: &Value, schema: Known<'_>, root: bool) -> FieldSet {
    let mut set = FieldSet::leaf();
    if !is_atomic(value, schema) {
        let empty = Value::Null;
        for (element, (child, _, below)) in pairs(value, &empty, schema, root) {
            if let Some(child) = child {
                let typed = schema.is_some_and(|s| s.name.is_some());
                let mut inner = everything(child, below, false);
                if typed
                    && element.strip_prefix("f:").is_some_and(|key| ALWAYS_THERE.contains(&key))
                    && !inner.children.is_empty()
                {
                    inner.member = false;
                }
                set.put(element, inner);
            }
        }
    }
    set
}

type Pair<'a> = (Option<&'a Value>, Option<&'a Value>, Known<'a>);

/// The children of two objects or lists, matched by path element.
fn pairs<'a>(old: &'a Value, new: &'a Value, schema: Known<'a>, root: bool) -> BTreeMap<String, Pair<'a>> {
    let mut matched: BTreeMap<String, Pair<'a>> = BTreeMap::new();
    for (side, value) in [old, new].into_iter().enumerate() {
        let mut put = |element: String, child: &'a Value, known: Known<'a>| {
            let pair = matched.entry(element).or_insert((None, None, known));
            if side == 0 {
                pair.0 = Some(child);
            } else {
                pair.1 = Some(child);
            }
        };
        match value {
            Value::Object(map) => {
                for (key, child) in map {
                    put(format!("f:{key}"), child, field(schema, key, root));
                }
            }
            Value::Array(items) => {
                let known = match list_type(schema) {
                    ListType::Map(_) => item(schema),
                    _ => None,
                };
                for child in items {
                    if let Some(element) = element_of(child, schema) {
                        put(element, child, known);
                    }
                }
            }
            _ => {}
        }
    }
    matched
}

/// A live object with a configuration applied onto it.
pub fn merge(live: &Value, config: &Value, schema: Known<'_>) -> Value {
    merge_at(live, config, schema, true)
}

fn merge_at(live: &Value, config: &Value, schema: Known<'_>, root: bool) -> Value {
    if is_atomic(config, schema) || is_atomic(live, schema) {
        return config.clone();
    }
    match (live, config) {
        (Value::Object(live), Value::Object(config)) => {
            let mut merged = live.clone();
            for (key, child) in config {
                let value = live.get(key).map_or_else(
                    || child.clone(),
                    |before| merge_at(before, child, field(schema, key, root), false),
                );
                merged.insert(key.clone(), value);
            }
            Value::Object(merged)
        }
        (Value::Array(live), Value::Array(config)) => Value::Array(merge_lists(live, config, schema)),
        _ => config.clone(),
    }
}

/// The elements of both lists. Shared elements come in the configuration's order; what only the live
/// list has stays where it was among them, what only the configuration has follows. The walk is that of
/// structured-merge-diff, so that the order is the real server's.
fn merge_lists(live: &[Value], config: &[Value], schema: Known<'_>) -> Vec<Value> {
    let names =
        |items: &[Value]| -> Vec<Option<String>> { items.iter().map(|i| element_of(i, schema)).collect() };
    let (live_names, config_names) = (names(live), names(config));
    let at_live: BTreeMap<&String, usize> =
        live_names.iter().enumerate().filter_map(|(i, n)| n.as_ref().map(|n| (n, i))).collect();
    let configured: BTreeSet<&String> = config_names.iter().flatten().collect();
    let mut shared = config_names.iter().flatten().filter(|n| at_live.contains_key(n)).peekable();
    let mut done: BTreeSet<&String> = BTreeSet::new();
    let mut merged = Vec::with_capacity(live.len() + config.len());
    let (mut l, mut r) = (0, 0);
    while l < live.len() || r < config.len() {
        let here = live_names.get(l).and_then(Option::as_ref);
        let wanted = config_names.get(r).and_then(Option::as_ref);
        let is_shared = here.is_some_and(|n| configured.contains(n));
        if l < live.len()
            && r < config.len()
            && here != wanted
            && is_shared
            && shared.peek().is_some_and(|next| Some(*next) != here)
        {
            // A shared element, but not the one whose turn it is.
            l += 1;
            continue;
        }
        if l < live.len() && here != wanted {
            if !is_shared {
                merged.push(live[l].clone());
                l += 1;
                continue;
            }
            if here.is_some_and(|n| done.contains(n)) {
                l += 1;
            }
        }
        if r < config.len() {
            let twin = wanted.and_then(|n| at_live.get(n));
            merged.push(match (twin, list_type(schema)) {
                (Some(&at), ListType::Map(_)) => merge_at(&live[at], &config[r], item(schema), false),
                _ => config[r].clone(),
            });
            done.extend(wanted);
            if shared.peek().copied() == wanted {
                shared.next();
            }
            if here == wanted && l < live.len() {
                l += 1;
            }
            r += 1;
        }
    }
    merged
}

/// Removes what a manager gave up (`last`) and nobody manages (`managed`).
pub fn give_up(value: &mut Value, last: &FieldSet, managed: &FieldSet, schema: Known<'_>) {
    give_up_at(value, last, managed, schema, true);
}

fn give_up_at(value: &mut Value, last: &FieldSet, managed: &FieldSet, schema: Known<'_>, root: bool) {
    if is_atomic(value, schema) {
        return;
    }
    match value {
        Value::Object(map) => {
            for (element, given) in &last.children {
                let Some(key) = element.strip_prefix("f:") else { continue };
                let managed_below = managed.children.get(element);
                // The name and what else the server keeps there is nobody's and never goes.
                let kept_always = FieldSet::default();
                let managed_below = if root && key == "metadata" {
                    managed_below.or(Some(&kept_always))
                } else {
                    managed_below
                };
                match managed_below {
                    None => {
                        map.remove(key);
                    }
                    Some(kept) => {
                        if let Some(child) = map.get_mut(key) {
                            give_up_at(child, given, kept, field(schema, key, root), false);
                        }
                    }
                }
            }
        }
        Value::Array(items) => {
            let inner = match list_type(schema) {
                ListType::Map(_) => item(schema),
                _ => None,
            };
            items.retain_mut(|child| {
                let Some(element) = element_of(child, schema) else { return true };
                let Some(given) = last.children.get(&element) else { return true };
                match managed.children.get(&element) {
                    None => false,
                    Some(kept) => {
                        if child.is_object() {
                            give_up_at(child, given, kept, inner, false);
                        }
                        true
                    }
                }
            });
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[allow(clippy::unnecessary_wraps)]
    fn deployment() -> Known<'static> {
        Some(builtin::definition("io.k8s.api.apps.v1.Deployment"))
    }

    #[test]
    fn an_applied_object_sets_its_leaves_and_list_elements() {
        let value = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}},
            "template": {"spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}}}});
        assert_eq!(
            fields(&value, deployment(), true).to_json(),
            json!({"f:metadata": {"f:labels": {"f:app": {}}}, "f:spec": {"f:replicas": {}, "f:selector": {},
                "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:image": {},
                    "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}}})
        );
    }

    #[test]
    fn merging_keeps_what_the_configuration_does_not_name() {
        let live = json!({"spec": {"replicas": 2, "template": {"spec": {"containers": [
            {"name": "a", "image": "1"}, {"name": "sidecar", "image": "s"}, {"name": "b", "image": "1"}]}}}});
        let config = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "a", "image": "2"}, {"name": "b", "image": "2"}, {"name": "new", "image": "n"}]}}}});
        assert_eq!(
            merge(&live, &config, deployment()),
            json!({"spec": {"replicas": 2, "template": {"spec": {"containers": [
                {"name": "a", "image": "2"}, {"name": "sidecar", "image": "s"}, {"name": "b", "image": "2"}, {"name": "new", "image": "n"}]}}}})
        );
    }

    #[test]
    fn merged_lists_have_the_order_of_the_real_server() {
        let named = |names: &str| -> Value {
            let containers: Vec<Value> = names.split(' ').map(|n| json!({"name": n})).collect();
            json!({"spec": {"template": {"spec": {"containers": containers}}}})
        };
        // As kube-apiserver 1.36 answered.
        for (live, config, merged) in [
            ("a", "b", "a b"),
            ("a b", "x b y", "a x b y"),
            ("x b y", "c", "x b y c"),
            ("x b y c", "y x q", "b y c x q"),
        ] {
            assert_eq!(
                merge(&named(live), &named(config), deployment()),
                named(merged),
                "{live} and {config}"
            );
        }
    }

    #[test]
    fn what_is_given_up_goes_unless_someone_else_manages_it() {
        let mut value = json!({"spec": {"replicas": 2, "paused": true, "template": {"spec": {"containers": [
            {"name": "a", "image": "1", "imagePullPolicy": "Always"}, {"name": "b", "image": "1"}]}}}});
        let last = fields(&value, deployment(), true);
        let managed = FieldSet::from_json(
            &json!({"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {
            "k:{\"name\":\"b\"}": {".": {}, "f:name": {}, "f:image": {}}}}}}}),
        );
        give_up(&mut value, &last, &managed, deployment());
        assert_eq!(
            value,
            json!({"spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "b", "image": "1"}]}}}})
        );
    }
}
