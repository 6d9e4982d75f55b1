//! Which namespaces a migration takes, and what they are called on the destination.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An entry of `spec.namespaces`, as a person wrote it: a name (`cms`), a glob (`team-*`), or a
/// mapping to another name on the destination (`cms: cms-green`, or the text `cms:cms-green`).
///
/// What cannot be read is kept as it is: one bad record must not keep a hub from reading the
/// others. [`NamespaceEntry::rule`] tells what is wrong with it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(transparent)]
pub struct NamespaceEntry(Value);

/// What an entry means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceRule {
    /// The namespace of this name, under the same name.
    Name(String),
    /// Every namespace that the glob matches, under the same names.
    Glob(String),
    /// One namespace, under another name.
    Mapped(NamespaceMove),
}

/// A namespace on its way.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespaceMove {
    /// Its name on the source.
    pub from: String,
    /// Its name on the destination.
    pub to: String,
}

/// An entry that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{entry} names no namespace: write a name, a glob such as team-*, or a mapping such as old: new")]
pub struct BadNamespaceEntry {
    entry: String,
}

impl NamespaceEntry {
    /// What the entry means. Names are not checked against Kubernetes' rules here.
    pub fn rule(&self) -> Result<NamespaceRule, BadNamespaceEntry> {
        let bad = || BadNamespaceEntry { entry: self.to_string() };
        let mapped = |from: &str, to: &str| {
            let (from, to) = (from.trim(), to.trim());
            let plain = |name: &str| !name.is_empty() && !is_glob(name);
            (plain(from) && plain(to))
                .then(|| NamespaceRule::Mapped(NamespaceMove { from: from.to_owned(), to: to.to_owned() }))
                .ok_or_else(bad)
        };
        match &self.0 {
            Value::String(text) => match text.split_once(':') {
                Some((from, to)) => mapped(from, to),
                None if text.trim().is_empty() => Err(bad()),
                None if is_glob(text) => Ok(NamespaceRule::Glob(text.trim().to_owned())),
                None => Ok(NamespaceRule::Name(text.trim().to_owned())),
            },
            Value::Object(map) => match map.iter().next() {
                Some((from, Value::String(to))) if map.len() == 1 => mapped(from, to),
                _ => Err(bad()),
            },
            _ => Err(bad()),
        }
    }
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', ']', '{', '}'])
}

impl From<&str> for NamespaceEntry {
    fn from(text: &str) -> Self {
        Self(Value::from(text))
    }
}

impl From<String> for NamespaceEntry {
    fn from(text: String) -> Self {
        Self(Value::from(text))
    }
}

impl fmt::Display for NamespaceEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0, self.0.as_object().and_then(|map| map.iter().next())) {
            (Value::String(text), _) => f.write_str(text),
            (_, Some((from, Value::String(to)))) => write!(f, "{from}:{to}"),
            (other, _) => write!(f, "{other}"),
        }
    }
}

impl JsonSchema for NamespaceEntry {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NamespaceEntry".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // A text or an object: Kubernetes' schemas have no other word for that.
        schemars::json_schema!({
            "description": "A name, a glob (team-*), or a mapping to another name on the destination (old: new).",
            "x-kubernetes-preserve-unknown-fields": true
        })
    }
}

impl NamespaceMove {
    /// A namespace that keeps its name.
    pub fn same(name: impl Into<String>) -> Self {
        let from: String = name.into();
        Self { to: from.clone(), from }
    }

    /// Whether it gets another name.
    pub fn is_renamed(&self) -> bool {
        self.from != self.to
    }
}

impl fmt::Display for NamespaceMove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_renamed() { write!(f, "{} -> {}", self.from, self.to) } else { f.write_str(&self.from) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(entry: Value) -> Result<NamespaceRule, BadNamespaceEntry> {
        serde_json::from_value::<NamespaceEntry>(entry).unwrap().rule()
    }

    #[test]
    fn an_entry_is_a_name_a_glob_or_a_mapping_in_either_spelling() {
        let mapped = NamespaceRule::Mapped(NamespaceMove { from: "old".into(), to: "new".into() });
        assert_eq!(rule(json!("cms")), Ok(NamespaceRule::Name("cms".into())));
        assert_eq!(rule(json!("team-*")), Ok(NamespaceRule::Glob("team-*".into())));
        assert_eq!(rule(json!("old:new")), Ok(mapped.clone()));
        assert_eq!(rule(json!("old: new")), Ok(mapped.clone()));
        assert_eq!(rule(json!({"old": "new"})), Ok(mapped));
    }

    #[test]
    fn what_means_nothing_is_kept_and_told() {
        for entry in
            [json!(""), json!(7), json!({}), json!({"a": "b", "c": "d"}), json!("a-*:b"), json!(":b")]
        {
            let kept: NamespaceEntry = serde_json::from_value(entry.clone()).unwrap();
            assert!(kept.rule().is_err(), "{entry}");
            assert_eq!(serde_json::to_value(&kept).unwrap(), entry);
        }
    }
}
