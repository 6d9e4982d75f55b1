//! The LimitRanger plugin: containers get a namespace's default requests and limits, and may not
//! leave its bounds.

use serde_json::Value;

use crate::apiserver::error::{ApiError, ApiResult};
use crate::apiserver::json::{at, list, name, namespace, place, text};
use crate::apiserver::quantity::Quantity;
use crate::apiserver::store::Transaction;

/// Gives a new pod's containers what they do not say.
pub fn set_defaults(transaction: &Transaction<'_>, pod: &mut Value) {
    for range in transaction.list("/limitranges", Some(namespace(pod))) {
        for item in list(&range, &["spec", "limits"]).iter().filter(|i| text(i, &["type"]) == "Container") {
            for kind in ["initContainers", "containers"] {
                for container in pod["spec"].get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten()
                {
                    for (from, to) in [("default", "limits"), ("defaultRequest", "requests")] {
                        for (resource, amount) in at(item, &[from]).as_object().into_iter().flatten() {
                            let here = place(container, &["resources", to, resource]);
                            if here.is_null() {
                                *here = amount.clone();
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Refuses a pod or a claim outside its namespace's bounds.
pub fn check(transaction: &Transaction<'_>, resource: &str, object: &Value) -> ApiResult<()> {
    let mut problems = Vec::new();
    for range in transaction.list("/limitranges", Some(namespace(object))) {
        for item in list(&range, &["spec", "limits"]) {
            match (text(item, &["type"]), resource) {
                ("Container", "pods") => {
                    for kind in ["initContainers", "containers"] {
                        for container in list(object, &["spec", kind]) {
                            bounds(item, at(container, &["resources"]), "Container", &mut problems);
                        }
                    }
                }
                ("PersistentVolumeClaim", "persistentvolumeclaims") => {
                    bounds(item, at(object, &["spec", "resources"]), "PersistentVolumeClaim", &mut problems);
                }
                _ => {}
            }
        }
    }
    match problems.as_slice() {
        [] => Ok(()),
        [one] => Err(ApiError::forbidden("", resource, name(object), one)),
        many => Err(ApiError::forbidden("", resource, name(object), &format!("[{}]", many.join(", ")))),
    }
}

fn bounds(item: &Value, resources: &Value, what: &str, problems: &mut Vec<String>) {
    for (bound, parts, sign) in
        [("min", ["requests", "requests"], "minimum"), ("max", ["limits", "requests"], "maximum")]
    {
        for (resource, amount) in at(item, &[bound]).as_object().into_iter().flatten() {
            let Some(allowed) = Quantity::from_json(amount) else { continue };
            let part = parts.iter().find(|p| !at(resources, &[p, resource]).is_null());
            let Some(part) = part else {
                problems.push(format!(
                    "{sign} {resource} usage per {what} is {}.  No {} is specified",
                    allowed.canonical(),
                    if bound == "max" { "limit" } else { "request" }
                ));
                continue;
            };
            let Some(given) = Quantity::from_json(at(resources, &[part, resource])) else { continue };
            let word = part.trim_end_matches('s');
            if bound == "min" && given < allowed {
                problems.push(format!(
                    "minimum {resource} usage per {what} is {}, but {word} is {}",
                    allowed.canonical(),
                    given.canonical()
                ));
            }
            if bound == "max" && given > allowed {
                problems.push(format!(
                    "maximum {resource} usage per {what} is {}, but {word} is {}",
                    allowed.canonical(),
                    given.canonical()
                ));
            }
        }
    }
}
