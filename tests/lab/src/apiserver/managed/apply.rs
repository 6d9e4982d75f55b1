//! Server-side apply: merges a configuration into the live object, finds conflicts with other
//! managers, and takes away what this manager no longer applies.

use serde_json::{Value, json};

use super::set::FieldSet;
use super::typed;
use super::update::{Books, Entry, Manager, read, strip, write};
use crate::apiserver::error::{ApiError, ApiResult};
use crate::apiserver::schema::Schema;

/// An apply request.
#[derive(Debug)]
pub struct Apply<'a> {
    /// Who applies.
    pub manager: &'a str,
    /// The part that is written; empty for the object.
    pub subresource: &'a str,
    /// The version that the request speaks.
    pub api_version: &'a str,
    /// Whether the kind has a status part.
    pub has_status: bool,
    /// The kind's schema.
    pub schema: &'a Schema,
    /// Take the fields over from other managers.
    pub force: bool,
}

/// Applies a configuration. Without a live object, the result is what is to be created.
pub fn apply(live: Option<&Value>, config: &Value, request: &Apply<'_>) -> ApiResult<Value> {
    let schema = Some(request.schema);
    let nothing = json!({"apiVersion": config["apiVersion"], "kind": config["kind"], "metadata": {}});
    let before = live.map(read).unwrap_or_default();
    let mut old = live.unwrap_or(&nothing).clone();
    crate::apiserver::json::remove(&mut old, &["metadata", "managedFields"]);

    let mut merged = typed::merge(&old, config, schema);
    let mut applied = typed::fields(config, schema, true);
    strip(&mut applied, request.subresource, request.has_status);
    let me = Manager {
        operation: "Apply",
        name: request.manager.to_owned(),
        api_version: String::new(),
        subresource: request.subresource.to_owned(),
    };
    let last = before.get(&me).map(|entry| entry.set.clone()).unwrap_or_default();
    let mut books = before.clone();
    books.insert(
        me.clone(),
        Entry { set: applied.clone(), api_version: request.api_version.to_owned(), time: String::new() },
    );
    if !last.is_empty() {
        let managed = books.values().fold(FieldSet::default(), |all, entry| all.union(&entry.set));
        typed::give_up(&mut merged, &last, &managed, schema);
    }

    let difference = typed::compare(&old, &merged, schema);
    let mut conflicts = Vec::new();
    for (other, entry) in &mut books {
        if *other == me {
            continue;
        }
        let contested = entry.set.and(&difference.changed);
        if !contested.is_empty() {
            if request.force {
                entry.set = entry.set.minus(&contested);
            } else {
                conflicts.push((other.clone(), entry.api_version.clone(), contested));
            }
        }
        entry.set = entry.set.minus(&difference.removed);
    }
    if !conflicts.is_empty() {
        return Err(refusal(&conflicts));
    }
    books.retain(|_, entry| !entry.set.is_empty());
    finish(&mut merged, live, &books, &before);
    Ok(merged)
}

/// Writes the books, unless nothing at all changed: then the live object stays as it is.
fn finish(merged: &mut Value, live: Option<&Value>, books: &Books, before: &Books) {
    write(merged, books, before);
    if let Some(live) = live
        && live["metadata"].get("managedFields").is_none()
        && books.is_empty()
    {
        crate::apiserver::json::remove(merged, &["metadata", "managedFields"]);
    }
}

fn refusal(conflicts: &[(Manager, String, FieldSet)]) -> ApiError {
    let shown = |manager: &Manager, api_version: &str| {
        let mut text = format!("{:?}", manager.name);
        if !manager.subresource.is_empty() {
            text = format!("{text} with subresource {:?}", manager.subresource);
        }
        if manager.operation == "Update" {
            text = format!("{text} using {api_version}");
        }
        text
    };
    let mut causes = Vec::new();
    let mut lines = Vec::new();
    for (manager, api_version, set) in conflicts {
        let who = shown(manager, api_version);
        lines.push(format!("conflicts with {who}:"));
        for path in set.paths() {
            lines.push(format!("- {path}"));
            causes.push((format!("conflict with {who}"), path));
        }
    }
    let message = match causes.as_slice() {
        [(who, path)] => format!("Apply failed with 1 conflict: {who}: {path}"),
        many => format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n")),
    };
    ApiError::apply_conflict(message, &causes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::schema::builtin;

    fn request(manager: &str, force: bool) -> Apply<'_> {
        Apply {
            manager,
            subresource: "",
            api_version: "apps/v1",
            has_status: true,
            schema: builtin::definition("io.k8s.api.apps.v1.Deployment"),
            force,
        }
    }

    fn config(replicas: Option<i64>) -> Value {
        let mut config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
            "spec": {"paused": false}});
        if let Some(replicas) = replicas {
            config["spec"]["replicas"] = json!(replicas);
        }
        config
    }

    #[test]
    fn applying_the_same_again_changes_nothing() {
        let first = apply(None, &config(Some(1)), &request("a", false)).unwrap();
        assert_eq!(apply(Some(&first), &config(Some(1)), &request("a", false)).unwrap(), first);
    }

    #[test]
    fn a_field_of_another_manager_is_a_conflict_unless_forced_or_equal() {
        let first = apply(None, &config(Some(1)), &request("a", false)).unwrap();
        let error = apply(Some(&first), &config(Some(2)), &request("b", false)).unwrap_err();
        assert_eq!(error.code(), 409);
        assert_eq!(error.message(), "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
        assert!(apply(Some(&first), &config(Some(1)), &request("b", false)).is_ok());
        let forced = apply(Some(&first), &config(Some(2)), &request("b", true)).unwrap();
        assert_eq!(forced["spec"]["replicas"], 2);
        assert_eq!(
            read(&forced)
                .iter()
                .filter(|(_, e)| e.set.paths().contains(&".spec.replicas".to_owned()))
                .count(),
            1
        );
    }

    #[test]
    fn a_field_no_longer_applied_goes_if_nobody_else_has_it() {
        let first = apply(None, &config(Some(1)), &request("a", false)).unwrap();
        let without = apply(Some(&first), &config(None), &request("a", false)).unwrap();
        assert!(without["spec"].get("replicas").is_none());
        let shared = apply(Some(&first), &config(Some(1)), &request("b", false)).unwrap();
        let kept = apply(Some(&shared), &config(None), &request("a", false)).unwrap();
        assert_eq!(kept["spec"]["replicas"], 1);
    }
}
