//! Rules of the cluster's own people: ConfigMaps in the spoke's namespace.
//!
//! One that is labelled `isthmus.dev/suspend-rules: "true"` holds a list of rules as YAML under the key
//! `rules.yaml`. A rule that is no good is told by ConfigMap and place in the list: that a database is
//! not stopped because of a typing error must not be found out by its data.

use isthmus_shared::resources::Finding;
use serde_json::Value;

use super::{Registry, Rule, ancestors};
use crate::cluster::{Cluster, ClusterError, describe, text};
use crate::findings::{Findings, finding};
use crate::workloads::state;

/// The label of ConfigMaps with rules.
pub const SUSPEND_RULES: &str = "isthmus.dev/suspend-rules";
/// The key that holds the rules.
const KEY: &str = "rules.yaml";
/// ConfigMaps that are read.
const MAX_CONFIG_MAPS: usize = 50;
/// Rules of all ConfigMaps.
const MAX_RULES: usize = 200;

/// Why a rule is none.
#[derive(Debug, thiserror::Error)]
pub enum BadRule {
    /// The ConfigMap has no rules at all.
    #[error("it has no key {KEY}: put the list of rules there, or take the label {SUSPEND_RULES} off")]
    NoKey,
    /// No YAML, or no list.
    #[error("{KEY} is no list of rules: {0}; correct it")]
    NoList(String),
    /// Fields that are missing, of the wrong type or not known.
    #[error("rule {place} of {KEY} is not sound: {why}; correct it")]
    Unsound {
        /// Which, from 1.
        place: usize,
        /// Why.
        why: String,
    },
    /// A kind that Kubernetes itself has a way to stop.
    #[error("rule {place} of {KEY} is for {kind}, which needs none: take it out")]
    NotNeeded {
        /// Which, from 1.
        place: usize,
        /// The kind.
        kind: String,
    },
    /// A field that cannot be patched by itself.
    #[error(
        "rule {place} of {KEY} ({kind}): {path:?} is no place in an object's spec or annotations; write it as \
         /spec/field or /metadata/annotations/key, with ~1 for a / in a key"
    )]
    BadPath {
        /// Which, from 1.
        place: usize,
        /// The kind.
        kind: String,
        /// The path.
        path: String,
    },
    /// No field, so nothing would be stopped.
    #[error("rule {place} of {KEY} ({kind}) names no field that stops it: list one under `fields`")]
    NoFields {
        /// Which, from 1.
        place: usize,
        /// The kind.
        kind: String,
    },
    /// A value that an object cannot have.
    #[error("rule {place} of {KEY} ({kind}): null is no value of {path}: name the value that stops it")]
    NullValue {
        /// Which, from 1.
        place: usize,
        /// The kind.
        kind: String,
        /// The path.
        path: String,
    },
    /// There are too many.
    #[error("the ConfigMaps hold more than {MAX_RULES} rules: take out those that are not needed")]
    TooMany,
}

/// All rules of a spoke, and those that are no good.
pub async fn read(cluster: &Cluster, namespace: &str) -> Result<(Registry, Findings), ClusterError> {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    let query = format!("labelSelector={}", crate::cluster::escape(&format!("{SUSPEND_RULES}=true")));
    let found = cluster.list(&path, &query, MAX_CONFIG_MAPS).await?;
    Ok(of(&found))
}

/// The rules of ConfigMaps.
fn of(config_maps: &[Value]) -> (Registry, Findings) {
    let (mut rules, mut refused) = (Vec::new(), Findings::default());
    for config_map in config_maps {
        let (sound, bad) = parse(config_map);
        rules.extend(sound);
        refused.extend(bad.into_iter().map(|bad| told(config_map, &bad)));
    }
    if rules.len() > MAX_RULES {
        rules.truncate(MAX_RULES);
        refused.push(finding("the suspend rules", "BadSuspendRule", BadRule::TooMany.to_string()));
    }
    (Registry::with(rules), refused)
}

fn told(config_map: &Value, bad: &BadRule) -> Finding {
    finding(describe(config_map), "BadSuspendRule", format!("{bad}, then run again"))
}

fn parse(config_map: &Value) -> (Vec<Rule>, Vec<BadRule>) {
    let Some(yaml) = config_map.get("data").and_then(|data| data.get(KEY)).and_then(Value::as_str) else {
        return (Vec::new(), vec![BadRule::NoKey]);
    };
    let list: Vec<Value> = match serde_saphyr::from_str(yaml) {
        Ok(list) => list,
        Err(error) => return (Vec::new(), vec![BadRule::NoList(error.to_string())]),
    };
    let (mut rules, mut bad) = (Vec::new(), Vec::new());
    for (at, value) in list.into_iter().enumerate() {
        match check(at + 1, value) {
            Ok(rule) => rules.push(rule),
            Err(error) => bad.push(error),
        }
    }
    (rules, bad)
}

fn check(place: usize, value: Value) -> Result<Rule, BadRule> {
    let of_kind = text(&value, "/kind").to_owned();
    let rule: Rule = serde_json::from_value(value)
        .map_err(|error| BadRule::Unsound { place, why: format!("{of_kind}: {error}") })?;
    let kind = rule.kind.clone();
    if state::SWITCHES.iter().any(|(group, kind, _)| *group == rule.group && *kind == rule.kind) {
        return Err(BadRule::NotNeeded { place, kind });
    }
    if rule.fields.is_empty() {
        return Err(BadRule::NoFields { place, kind });
    }
    for field in &rule.fields {
        if !is_settable(&field.path) {
            return Err(BadRule::BadPath { place, kind, path: field.path.clone() });
        }
        if field.value.is_null() {
            return Err(BadRule::NullValue { place, kind, path: field.path.clone() });
        }
    }
    Ok(rule)
}

/// Whether a path names one field of the spec, or one annotation or label.
fn is_settable(path: &str) -> bool {
    let in_metadata = ["/metadata/annotations/", "/metadata/labels/"].iter().any(|map| path.starts_with(map));
    let depth = ancestors(path).count();
    let parts = path.split('/').skip(1);
    (path.starts_with("/spec/") || (in_metadata && depth == 2))
        && parts.clone().all(|part| !part.is_empty() && part.parse::<usize>().is_err() && part != "-")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config_map(yaml: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own", "namespace": "isthmus-spoke"},
               "data": {"rules.yaml": yaml}})
    }

    #[test]
    fn a_config_map_adds_rules_and_stands_for_built_in_ones() {
        let yaml = "
- group: example.com
  kind: Database
  fields:
    - path: /spec/stopped
      value: true
  labels: {app: '{name}'}
  stopped: {path: /status/phase, value: Stopped}
- group: acid.zalan.do
  kind: postgresql
  fields: [{path: /spec/off, value: 'yes'}]
";
        let (registry, refused) = of(&[config_map(yaml)]);
        assert!(refused.is_empty(), "{:?}", refused.list);
        assert_eq!(registry.rule("example.com", "Database").unwrap().fields[0].value, json!(true));
        assert_eq!(registry.rule("acid.zalan.do", "postgresql").unwrap().fields[0].path, "/spec/off");
        assert!(registry.rule("kubevirt.io", "VirtualMachine").is_some());
        assert_eq!(registry.kinds().iter().filter(|kind| kind.1 == "postgresql").count(), 1);
    }

    #[test]
    fn a_bad_rule_is_named_by_its_config_map_and_place_and_the_others_count() {
        let yaml = "
- {group: example.com, kind: Sound, fields: [{path: /spec/stopped, value: true}]}
- {group: example.com, kind: Typo, feilds: []}
- {group: apps, kind: Deployment, fields: [{path: /spec/replicas, value: 0}]}
- {group: example.com, kind: Listed, fields: [{path: /spec/sets/0/count, value: 0}]}
- {group: example.com, kind: None, fields: []}
- {group: example.com, kind: Status, fields: [{path: /status/off, value: true}]}
";
        let (registry, refused) = of(&[config_map(yaml)]);
        assert!(registry.rule("example.com", "Sound").is_some());
        let messages: Vec<&str> = refused.list.iter().map(|found| found.message.as_str()).collect();
        assert_eq!(refused.total, 5);
        for (message, (place, kind)) in messages.iter().zip([
            ("rule 2", "Typo"),
            ("rule 3", "Deployment"),
            ("rule 4", "Listed"),
            ("rule 5", "None"),
            ("rule 6", "Status"),
        ]) {
            assert!(message.contains(place) && message.contains(kind), "{message}");
        }
        assert_eq!(refused.list[0].object, "ConfigMap isthmus-spoke/own");
    }

    #[test]
    fn a_config_map_without_rules_or_with_other_yaml_is_refused() {
        let empty =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own", "namespace": "n"}});
        for config_map in [empty, config_map("{"), config_map("a: b")] {
            assert_eq!(of(&[config_map]).1.total, 1);
        }
    }

    #[test]
    fn a_path_names_one_field_of_the_spec_or_one_annotation() {
        for good in ["/spec/a", "/spec/a/b", "/metadata/annotations/x.io~1y", "/metadata/labels/y"] {
            assert!(is_settable(good), "{good}");
        }
        for bad in [
            "",
            "spec/a",
            "/spec",
            "/spec/",
            "/spec/a/0",
            "/spec/a/-",
            "/metadata/name",
            "/metadata/annotations/a/b",
        ] {
            assert!(!is_settable(bad), "{bad}");
        }
    }
}
