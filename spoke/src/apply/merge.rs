//! Objects that are added to, because they are shared by their nature: `ServiceAccount`s and
//! `ClusterRoleBinding`s. A merge patch in, or none if nothing is lacking; nothing is ever taken
//! away, so whoever uses them besides goes on as before.
//!
//! A merged object that was not ours does not become ours: it gets no mark, is not purged, and
//! the next run merges it again.

use isthmus_shared::resources::{ExistingResourcePolicy as Policy, MIGRATED_BY, PLAN};
use serde_json::{Map, Value, json};

use super::comparison::covers;
use super::decision::is_ours;
use super::problem::Problem;
use crate::cluster::{array, kind, text};
use crate::transform::merge_subjects;

/// The patch that adds what `live` lacks of `wanted`; none if it has all of it. `wanted` carries
/// the marks of this run.
pub fn merged(live: &Value, wanted: &Value, policy: Option<Policy>) -> Result<Option<Value>, Problem> {
    let ours = is_ours(live);
    let mut patch = Map::new();
    if kind(wanted) == "ClusterRoleBinding" {
        bind(live, wanted, &mut patch)?;
    } else {
        for list in ["imagePullSecrets", "secrets"] {
            unite(live, wanted, list, &mut patch);
        }
        if let Some(value) = wanted.get("automountServiceAccountToken")
            && live.get("automountServiceAccountToken").is_none()
        {
            patch.insert("automountServiceAccountToken".to_owned(), value.clone());
        }
    }
    // What somebody else wrote there stays, unless the person who runs this said otherwise.
    let over = ours || matches!(policy, Some(Policy::Update | Policy::Replace));
    let mut metadata = Map::new();
    for which in ["labels", "annotations"] {
        let lacking = lacking(live, wanted, which, over);
        if !lacking.is_empty() {
            metadata.insert(which.to_owned(), Value::Object(lacking));
        }
    }
    if patch.is_empty() && metadata.is_empty() {
        return Ok(None);
    }
    if ours {
        let marks = metadata.entry("labels").or_insert_with(|| json!({}));
        for mark in [MIGRATED_BY, PLAN] {
            if let Some(value) = wanted.pointer("/metadata/labels").and_then(|labels| labels.get(mark)) {
                marks[mark] = value.clone();
            }
        }
    }
    metadata.insert("resourceVersion".to_owned(), text(live, "/metadata/resourceVersion").into());
    patch.insert("metadata".to_owned(), Value::Object(metadata));
    Ok(Some(Value::Object(patch)))
}

/// The labels or annotations that are to be added, our marks aside.
fn lacking(live: &Value, wanted: &Value, which: &str, over: bool) -> Map<String, Value> {
    let of = |object: &Value| {
        object.pointer(&format!("/metadata/{which}")).and_then(Value::as_object).cloned().unwrap_or_default()
    };
    let present = of(live);
    of(wanted)
        .into_iter()
        .filter(|(key, _)| key != MIGRATED_BY && key != PLAN)
        .filter(|(key, value)| match present.get(key) {
            Some(there) => over && there != value,
            None => true,
        })
        .collect()
}

/// Adds the items of a list that are not there.
fn unite(live: &Value, wanted: &Value, list: &str, patch: &mut Map<String, Value>) {
    let pointer = format!("/{list}");
    let present = array(live, &pointer);
    let mut all = present.to_vec();
    for item in array(wanted, &pointer) {
        if !all.iter().any(|there| covers(there, item)) {
            all.push(item.clone());
        }
    }
    if all.len() > present.len() {
        patch.insert(list.to_owned(), Value::Array(all));
    }
}

fn bind(live: &Value, wanted: &Value, patch: &mut Map<String, Value>) -> Result<(), Problem> {
    let role = |binding: &Value| {
        (text(binding, "/roleRef/kind").to_owned(), text(binding, "/roleRef/name").to_owned())
    };
    if role(live) != role(wanted) {
        let ((live_kind, live_name), (kind, name)) = (role(live), role(wanted));
        return Err(Problem::lasting(
            "RoleDiffers",
            format!(
                "the destination's binding of this name grants the {live_kind} {live_name}, and the source's the \
                 {kind} {name}; a binding's role cannot be changed, and others may depend on it: rename the \
                 source's, or remove the destination's, then run again"
            ),
        ));
    }
    let subjects = merge_subjects(wanted, live);
    // Only ever longer.
    if array(live, "/subjects").len() < subjects.as_array().map_or(0, Vec::len) {
        patch.insert("subjects".to_owned(), subjects);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(subjects: &[&str], mark: Option<&str>) -> Value {
        let subjects: Vec<Value> = subjects
            .iter()
            .map(|name| json!({"kind": "ServiceAccount", "name": name, "namespace": "a"}))
            .collect();
        let labels = mark.map_or(json!({}), |mark| json!({MIGRATED_BY: mark}));
        json!({"kind": "ClusterRoleBinding", "metadata": {"name": "b", "resourceVersion": "7", "labels": labels},
               "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": subjects})
    }

    fn apply(live: &Value, wanted: &Value) -> Value {
        let mut after = live.clone();
        if let Some(patch) = merged(live, wanted, None).unwrap() {
            crate::transform::merge(&mut after, &patch);
        }
        after
    }

    #[test]
    fn two_plans_share_a_binding_in_either_order_and_run_again_unchanged() {
        for (first, second) in [(["one"], ["two"]), (["two"], ["one"])] {
            let made = binding(&first, Some("m1"));
            let shared = apply(&made, &binding(&second, Some("m2")));
            assert_eq!(array(&shared, "/subjects").len(), 2);
            assert_eq!(shared["metadata"]["labels"][MIGRATED_BY], "m2");
            for again in [first, second] {
                assert_eq!(merged(&shared, &binding(&again, Some("m3")), None).unwrap(), None);
            }
        }
    }

    #[test]
    fn a_foreign_binding_is_added_to_and_gets_no_mark() {
        let patch = merged(&binding(&["one"], None), &binding(&["two"], Some("m")), None).unwrap().unwrap();
        assert_eq!(array(&patch, "/subjects").len(), 2);
        assert!(patch.pointer("/metadata/labels").is_none());
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
    }

    #[test]
    fn a_binding_of_another_role_is_a_problem() {
        let mut other = binding(&["one"], None);
        other["roleRef"]["name"] = json!("x");
        assert_eq!(merged(&other, &binding(&["one"], None), None).unwrap_err().reason, "RoleDiffers");
    }

    #[test]
    fn the_default_account_keeps_what_it_has_and_gets_what_it_lacks() {
        let live = json!({"kind": "ServiceAccount", "metadata": {"name": "default", "resourceVersion": "3",
            "annotations": {"role": "theirs"}}, "imagePullSecrets": [{"name": "here"}]});
        let wanted = json!({"kind": "ServiceAccount", "metadata": {"name": "default",
            "labels": {MIGRATED_BY: "m"}, "annotations": {"role": "ours", "note": "n"}},
            "imagePullSecrets": [{"name": "pull"}], "automountServiceAccountToken": false});
        let after = apply(&live, &wanted);
        assert_eq!(after["imagePullSecrets"], json!([{"name": "here"}, {"name": "pull"}]));
        assert_eq!(after["metadata"]["annotations"], json!({"role": "theirs", "note": "n"}));
        assert_eq!(after["automountServiceAccountToken"], false);
        assert!(after["metadata"].get("labels").is_none());
        assert_eq!(merged(&after, &wanted, None).unwrap(), None, "merging twice is merging once");
        let over = merged(&live, &wanted, Some(Policy::Update)).unwrap().unwrap();
        assert_eq!(over["metadata"]["annotations"]["role"], "ours");
    }
}
