//! Strategic merge patch: lists of objects are merged by key where the type says so, and directives
//! (`$patch`, `$setElementOrder/…`, `$deleteFromPrimitiveList/…`, `$retainKeys`) steer it.
//!
//! ```text
//!   strategic_merge   the algorithm, over anything that knows the shape of a type ([`Shape`])
//!        |
//!   rules             which lists are merged, and by which key: `merge_rules.txt`
//!        |
//!   builtin           the shapes of Kubernetes' own kinds
//! ```
//!
//! The API server of the lab and the spoke's transforms both merge with this. It knows no custom
//! resources: Kubernetes gives them no strategic merge either.

pub mod builtin;
pub mod rules;

use serde_json::{Map, Value};

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

/// How strategic merge patch treats a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListMerge {
    /// Objects, merged by this field.
    By(String),
    /// Scalars, united.
    Scalars,
}

/// What the merge has to know of the place that it is at.
pub trait Shape: Copy {
    /// The shape of every object's metadata.
    fn object_meta() -> Option<Self>;
    /// The shape of a field.
    fn field(self, key: &str) -> Option<Self>;
    /// The shape of a list's elements.
    fn item(self) -> Option<Self>;
    /// How the place, a list, is merged; none where it is replaced as a whole.
    fn list_merge(self) -> Option<ListMerge>;
}

/// Why a patch cannot be merged.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StrategicMergeError {
    /// Only objects have fields to merge.
    #[error("error decoding patch: the patch must be an object")]
    NotAnObject,
    /// A directive that is none.
    #[error("Unknown patch type found: {0}; use merge, replace or delete")]
    BadDirective(Value),
    /// A list that is merged by key holds something without keys.
    #[error("error decoding patch: an element of a merged list must be an object")]
    BadElement,
    /// An element that does not say which one it is.
    #[error("map: {element} does not contain declared merge key: {key}")]
    NoMergeKey {
        /// The element of the patch.
        element: Value,
        /// The field that it needs.
        key: String,
    },
}

/// The object with the patch merged into it.
pub fn strategic_merge<S: Shape>(
    object: Value,
    patch: Value,
    shape: Option<S>,
) -> Result<Value, StrategicMergeError> {
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else {
        return Err(StrategicMergeError::NotAnObject);
    };
    merge_maps(object, patch, shape, true).map(Value::Object)
}

fn field<S: Shape>(shape: Option<S>, key: &str, root: bool) -> Option<S> {
    if root && key == "metadata" {
        return S::object_meta();
    }
    shape.and_then(|s| s.field(key))
}

fn merge_maps<S: Shape>(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    shape: Option<S>,
    root: bool,
) -> Result<Map<String, Value>, StrategicMergeError> {
    if let Some(directive) = patch.remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Map::new()),
            Some("merge") => merge_maps(original, patch, shape, root),
            _ => Err(StrategicMergeError::BadDirective(directive)),
        };
    }
    if let Some(retain) = patch.remove(RETAIN) {
        let kept: Vec<&str> = retain.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        original.retain(|key, _| kept.contains(&key.as_str()));
    }
    let orders = take_prefixed(&mut patch, ORDER);
    for (key, gone) in take_prefixed(&mut patch, DELETE) {
        if let (Some(Value::Array(items)), Some(gone)) = (original.get_mut(&key), gone.as_array()) {
            items.retain(|item| !gone.contains(item));
        }
    }
    for (key, value) in patch {
        let known = field(shape, &key, root);
        match (original.remove(&key), value) {
            (_, Value::Null) => {}
            (Some(Value::Object(before)), Value::Object(after)) => {
                let merged = merge_maps(before, after, known, false)?;
                original.insert(key, Value::Object(merged));
            }
            (Some(Value::Array(before)), Value::Array(after)) => {
                original.insert(key, Value::Array(merge_lists(before, after, known)?));
            }
            (None | Some(Value::Null), Value::Array(after)) => {
                original.insert(key, Value::Array(merge_lists(Vec::new(), after, known)?));
            }
            (None | Some(Value::Null), Value::Object(after)) => {
                let deleted = after.get(PATCH).and_then(Value::as_str) == Some("delete");
                if !deleted {
                    original.insert(key, Value::Object(merge_maps(Map::new(), after, known, false)?));
                }
            }
            (_, after) => {
                original.insert(key, after);
            }
        }
    }
    for (key, order) in orders {
        let known = field(shape, &key, root).and_then(S::list_merge);
        if let (Some(Value::Array(items)), Some(order)) = (original.get_mut(&key), order.as_array()) {
            sort(items, order, known.as_ref());
        }
    }
    Ok(original)
}

fn take_prefixed(patch: &mut Map<String, Value>, prefix: &str) -> Vec<(String, Value)> {
    let keys: Vec<String> = patch.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
    keys.into_iter()
        .filter_map(|key| patch.remove(&key).map(|v| (key[prefix.len()..].to_owned(), v)))
        .collect()
}

fn merge_lists<S: Shape>(
    mut original: Vec<Value>,
    mut patch: Vec<Value>,
    shape: Option<S>,
) -> Result<Vec<Value>, StrategicMergeError> {
    match shape.and_then(S::list_merge) {
        None => Ok(patch),
        Some(ListMerge::Scalars) => {
            for item in patch {
                if !original.contains(&item) {
                    original.push(item);
                }
            }
            Ok(original)
        }
        Some(ListMerge::By(key)) => {
            let replace = patch.iter().any(|i| i.get(PATCH).and_then(Value::as_str) == Some("replace"));
            if replace {
                patch.retain(|i| i.get(PATCH).is_none());
                return Ok(patch);
            }
            let item_shape = shape.and_then(S::item);
            for item in patch {
                let Value::Object(fields) = item else {
                    return Err(StrategicMergeError::BadElement);
                };
                let Some(identity) = fields.get(&key).cloned() else {
                    return Err(StrategicMergeError::NoMergeKey { element: Value::Object(fields), key });
                };
                let found = original.iter().position(|o| o.get(&key) == Some(&identity));
                let deleted = fields.get(PATCH).and_then(Value::as_str) == Some("delete");
                match (found, deleted) {
                    (Some(_), true) => original.retain(|o| o.get(&key) != Some(&identity)),
                    (None, true) => {}
                    (Some(at), false) => {
                        let before = match std::mem::take(&mut original[at]) {
                            Value::Object(before) => before,
                            _ => Map::new(),
                        };
                        original[at] = Value::Object(merge_maps(before, fields, item_shape, false)?);
                    }
                    (None, false) => {
                        original.push(Value::Object(merge_maps(Map::new(), fields, item_shape, false)?));
                    }
                }
            }
            Ok(original)
        }
    }
}

/// Puts the elements that the order names into that order; the others keep their place relative to
/// what stood before them.
fn sort(items: &mut Vec<Value>, order: &[Value], merge: Option<&ListMerge>) {
    let rank = |item: &Value| match merge {
        Some(ListMerge::By(key)) => {
            order.iter().position(|o| o.get(key).is_some() && o.get(key) == item.get(key))
        }
        _ => order.iter().position(|o| o == item),
    };
    let mut keyed: Vec<(usize, usize, Value)> = Vec::with_capacity(items.len());
    let mut last = 0;
    for (index, item) in std::mem::take(items).into_iter().enumerate() {
        let place = rank(&item).map_or(last, |at| at + 1);
        last = place;
        keyed.push((place, index, item));
    }
    keyed.sort_by_key(|(place, index, _)| (*place, *index));
    *items = keyed.into_iter().map(|(_, _, item)| item).collect();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(object: &Value, patch: &Value) -> Value {
        let shape = builtin::shape("apps", "Deployment").unwrap();
        strategic_merge(object.clone(), patch.clone(), Some(shape)).unwrap()
    }

    fn with_containers(containers: &Value) -> Value {
        json!({"spec": {"template": {"spec": {"containers": containers}}}})
    }

    #[test]
    fn containers_are_merged_by_name_and_deleted_by_directive() {
        let object = with_containers(
            &json!([{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "1"}]),
        );
        let patch = with_containers(
            &json!([{"name": "a", "env": [{"name": "Y", "value": "2"}]}, {"name": "b", "$patch": "delete"}, {"name": "c", "image": "3"}]),
        );
        assert_eq!(
            patched(&object, &patch),
            with_containers(&json!([
                {"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]},
                {"name": "c", "image": "3"}
            ]))
        );
    }

    #[test]
    fn retain_keys_clears_the_other_members_of_a_union() {
        let object =
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
        assert_eq!(patched(&object, &patch), json!({"spec": {"strategy": {"type": "Recreate"}}}));
    }

    #[test]
    fn finalizers_are_united_and_deleted_one_by_one() {
        let object = json!({"metadata": {"finalizers": ["a", "b"]}});
        assert_eq!(
            patched(
                &object,
                &json!({"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}})
            ),
            json!({"metadata": {"finalizers": ["b", "c"]}})
        );
    }

    #[test]
    fn set_element_order_puts_containers_in_order() {
        let object = with_containers(&json!([{"name": "a"}, {"name": "b"}]));
        let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c"}],
            "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}]}}}});
        assert_eq!(
            patched(&object, &patch),
            with_containers(&json!([{"name": "c"}, {"name": "b"}, {"name": "a"}]))
        );
    }

    #[test]
    fn tolerations_are_replaced_as_a_whole() {
        let object = json!({"spec": {"template": {"spec": {"tolerations": [{"key": "a"}]}}}});
        let patch = json!({"spec": {"template": {"spec": {"tolerations": [{"key": "b"}]}}}});
        assert_eq!(patched(&object, &patch), patch);
    }
}
