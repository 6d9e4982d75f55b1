//! A set of fields as a tree, and its `fieldsV1` form.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A set of fields below some place. Keys are path elements in their `fieldsV1` spelling: `f:name`,
/// `k:{"name":"x"}`, `v:"value"`, `i:0`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Whether the place itself is in the set.
    pub member: bool,
    /// What is in the set below it.
    pub children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// Only the place itself.
    pub fn leaf() -> Self {
        Self { member: true, children: BTreeMap::new() }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(Self::is_empty)
    }

    /// Puts a subset below a path element, unless it is empty.
    pub fn put(&mut self, element: String, child: Self) {
        if !child.is_empty() {
            self.children.insert(element, child);
        }
    }

    /// What is in either.
    pub fn union(&self, other: &Self) -> Self {
        let mut result = self.clone();
        result.member |= other.member;
        for (element, child) in &other.children {
            let merged = result.children.get(element).map_or_else(|| child.clone(), |mine| mine.union(child));
            result.children.insert(element.clone(), merged);
        }
        result
    }

    /// What is in this and not in the other.
    pub fn minus(&self, other: &Self) -> Self {
        let mut result = Self { member: self.member && !other.member, children: BTreeMap::new() };
        for (element, child) in &self.children {
            let rest =
                other.children.get(element).map_or_else(|| child.clone(), |theirs| child.minus(theirs));
            result.put(element.clone(), rest);
        }
        result
    }

    /// What is in both.
    pub fn and(&self, other: &Self) -> Self {
        let mut result = Self { member: self.member && other.member, children: BTreeMap::new() };
        for (element, child) in &self.children {
            if let Some(theirs) = other.children.get(element) {
                result.put(element.clone(), child.and(theirs));
            }
        }
        result
    }

    /// Removes a path.
    pub fn forget(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => {
                self.children.remove(*last);
            }
            [first, rest @ ..] => {
                let emptied = self.children.get_mut(*first).is_some_and(|child| {
                    child.forget(rest);
                    child.is_empty()
                });
                if emptied {
                    self.children.remove(*first);
                }
            }
        }
    }

    /// Every field in the set, as messages show it: `.spec.containers[name="a"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.collect("", &mut found);
        found
    }

    fn collect(&self, prefix: &str, found: &mut Vec<String>) {
        if self.member {
            found.push(prefix.to_owned());
        }
        for (element, child) in &self.children {
            child.collect(&format!("{prefix}{}", shown(element)), found);
        }
    }

    /// The `fieldsV1` object.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, child) in &self.children {
            map.insert(element.clone(), child.to_json());
        }
        Value::Object(map)
    }

    /// Reads a `fieldsV1` object.
    pub fn from_json(value: &Value) -> Self {
        let mut set = Self::default();
        for (element, child) in value.as_object().into_iter().flatten() {
            if element == "." {
                set.member = true;
                continue;
            }
            let mut below = Self::from_json(child);
            if below.children.is_empty() {
                below.member = true;
            }
            set.children.insert(element.clone(), below);
        }
        set
    }
}

fn shown(element: &str) -> String {
    let (kind, rest) = element.split_at(2.min(element.len()));
    match kind {
        "f:" => format!(".{rest}"),
        "k:" => match serde_json::from_str::<Map<String, Value>>(rest) {
            Ok(keys) => {
                let parts: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
                format!("[{}]", parts.join(","))
            }
            Err(_) => format!("[{rest}]"),
        },
        "v:" => format!("[={rest}]"),
        _ => format!("[{rest}]"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_json_form_comes_back_as_it_went() {
        let fields = json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}}, "f:replicas": {}},
        });
        let set = FieldSet::from_json(&fields);
        assert_eq!(set.to_json(), fields);
        assert_eq!(
            set.paths(),
            [
                ".metadata.labels",
                ".metadata.labels.app",
                ".spec.containers[name=\"a\"]",
                ".spec.containers[name=\"a\"].image",
                ".spec.replicas",
            ]
        );
    }

    #[test]
    fn difference_and_intersection_work_on_single_fields() {
        let a = FieldSet::from_json(&json!({"f:x": {"f:a": {}, "f:b": {}}}));
        let b = FieldSet::from_json(&json!({"f:x": {"f:b": {}, "f:c": {}}}));
        assert_eq!(a.minus(&b).paths(), [".x.a"]);
        assert_eq!(a.and(&b).paths(), [".x.b"]);
        assert_eq!(a.union(&b).paths(), [".x.a", ".x.b", ".x.c"]);
    }
}
