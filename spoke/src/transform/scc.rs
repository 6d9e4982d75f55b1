//! OpenShift gives each namespace its own range of user and group ids, and refuses pods that ask
//! for others. What pods pin and the destination's namespace does not allow is found here, before
//! anything is moved.

use std::ops::RangeInclusive;

use serde_json::Value;

use super::notes::Note;
use super::pod_specs;
use crate::cluster::{annotation, describe};

const USERS: &str = "openshift.io/sa.scc.uid-range";
const GROUPS: &str = "openshift.io/sa.scc.supplemental-groups";

/// The ids that objects pin outside of the ranges of the destination's namespace. None where the
/// destination gives none, as clusters other than OpenShift do; ids outside of the source's ranges
/// too run there by a grant of their own, and need the same on the destination.
pub fn scc_collisions<'a>(
    source: &Value,
    destination: &Value,
    objects: impl IntoIterator<Item = &'a Value>,
) -> Vec<Note> {
    let users = (ranges(source, USERS), ranges(destination, USERS));
    let groups = (ranges(source, GROUPS), ranges(destination, GROUPS));
    let mut notes = Vec::new();
    for object in objects {
        for spec in pod_specs::of(object) {
            for (field, id) in pinned(spec) {
                let (from, to) = if field.contains("User") { &users } else { &groups };
                let Some(to) = to.as_deref().filter(|to| !contains(to, id)) else { continue };
                let reason = if from.as_deref().is_some_and(|from| contains(from, id)) {
                    "of the source's namespace"
                } else {
                    "of neither namespace"
                };
                notes.push(Note {
                    reason: "SccRangeCollision",
                    message: format!(
                        "{}: {field} is {id}, an id {reason}; on the destination the namespace has {}: take the field out by a transform so that the namespace's own id is used, or grant its ServiceAccount an SCC that allows the id (nonroot-v2 or anyuid)",
                        describe(object),
                        show(to),
                    ),
                });
            }
        }
    }
    notes.dedup();
    notes
}

/// `1000620000/10000` (from, how many) or `1-5`, several separated by commas.
fn ranges(namespace: &Value, key: &str) -> Option<Vec<RangeInclusive<i64>>> {
    let read = |part: &str| -> Option<RangeInclusive<i64>> {
        if let Some((start, length)) = part.split_once('/') {
            let (start, length): (i64, i64) = (start.trim().parse().ok()?, length.trim().parse().ok()?);
            return (length > 0).then(|| start..=start.saturating_add(length - 1));
        }
        let (start, end) = part.split_once('-')?;
        Some(start.trim().parse().ok()?..=end.trim().parse().ok()?)
    };
    let text = annotation(namespace, key).filter(|text| !text.is_empty())?;
    text.split(',').map(read).collect()
}

fn contains(ranges: &[RangeInclusive<i64>], id: i64) -> bool {
    ranges.iter().any(|range| range.contains(&id))
}

fn show(ranges: &[RangeInclusive<i64>]) -> String {
    let each: Vec<String> =
        ranges.iter().map(|range| format!("{} to {}", range.start(), range.end())).collect();
    each.join(", ")
}

/// The ids that a pod spec pins, and where.
fn pinned(spec: &Value) -> Vec<(String, i64)> {
    let mut ids = Vec::new();
    let mut add = |place: &str, context: Option<&Value>, fields: &[&str]| {
        for field in fields {
            if let Some(id) = context.and_then(|context| context.get(field)).and_then(Value::as_i64) {
                ids.push((format!("{place}securityContext.{field}"), id));
            }
        }
    };
    add("", spec.get("securityContext"), &["runAsUser", "fsGroup"]);
    for container in pod_specs::containers(spec) {
        let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
        add(&format!("container {name} "), container.get("securityContext"), &["runAsUser"]);
    }
    let supplemental = spec.pointer("/securityContext/supplementalGroups").and_then(Value::as_array);
    let supplemental = supplemental.into_iter().flatten().filter_map(Value::as_i64);
    ids.extend(supplemental.map(|id| ("securityContext.supplementalGroups".to_owned(), id)));
    ids
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn namespace(users: &str, groups: &str) -> Value {
        json!({"metadata": {"annotations": {USERS: users, GROUPS: groups}}})
    }

    fn deployment() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "shop"},
            "spec": {"template": {"spec": {
                "securityContext": {"runAsUser": 1_000_620_000, "fsGroup": 1_000_620_005, "supplementalGroups": [7]},
                "containers": [{"name": "c", "securityContext": {"runAsUser": 0}}, {"name": "d"}]}}}})
    }

    #[test]
    fn ids_outside_of_the_destinations_ranges_collide() {
        let source = namespace("1000620000/10000", "1000620000/10000,5-9");
        let destination = namespace("1000700000/10000", "1000700000-1000709999,5-9");
        let notes = scc_collisions(&source, &destination, [&deployment()]);
        let told: Vec<&str> = notes.iter().map(|note| note.message.as_str()).collect();
        assert_eq!(told.len(), 3, "{told:#?}");
        assert!(told[0].starts_with("Deployment shop/d: securityContext.runAsUser is 1000620000, an id of the source's namespace; on the destination the namespace has 1000700000 to 1000709999"));
        assert!(told[1].contains("securityContext.fsGroup is 1000620005"));
        assert!(told[2].contains("container c securityContext.runAsUser is 0, an id of neither namespace"));
    }

    #[test]
    fn nothing_collides_in_the_same_ranges_nor_where_there_are_none() {
        let source = namespace("1000620000/10000", "1000620000/10000");
        let mut plain = deployment();
        plain["spec"]["template"]["spec"]["containers"] = json!([]);
        plain["spec"]["template"]["spec"]["securityContext"]["supplementalGroups"] = json!([]);
        assert!(scc_collisions(&source, &source, [&plain]).is_empty());
        assert!(scc_collisions(&source, &json!({}), [&deployment()]).is_empty());
        assert!(scc_collisions(&json!({}), &namespace("", "many"), [&deployment(), &json!(null)]).is_empty());
    }
}
