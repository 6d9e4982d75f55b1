//! The marks on both sides' namespaces that tell which of them is the active one.
//!
//! In a cutover the source's are set to `"false"` before the first workload stops, and the destination's
//! to `"true"` before the first one starts; going back does the reverse. A promotion, after which both
//! may run, writes none.

use isthmus_shared::protocol::Run;
use isthmus_shared::resources::{ACTIVE, COUNTERPART, Finding};
use serde_json::{Value, json};

use crate::cluster::{PatchKind, annotation, describe, label, name};
use crate::findings::finding;
use crate::task::{TaskContext, TaskError};

/// Marks a namespace; whether it is there. `counterpart` is the other side, where that is known.
pub async fn mark(
    context: &TaskContext,
    namespace: &str,
    active: bool,
    counterpart: Option<&str>,
) -> Result<bool, TaskError> {
    let object = format!("Namespace {namespace}");
    let path = format!("/api/v1/namespaces/{namespace}");
    let failed = |e| TaskError::cluster(&object, "marking which side of the migration runs", &e);
    let Some(found) = context.cluster().find(&path).await.map_err(failed)? else { return Ok(false) };
    let Some(patch) = patch(&found, active, counterpart) else { return Ok(true) };
    match context.cluster().patch(&path, &patch, PatchKind::Merge).await {
        Ok(_) => {
            context.log(format!("{object} is marked {}", if active { "active" } else { "inactive" }));
            Ok(true)
        }
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Marks a namespace that has a mark already by what has become of it.
pub async fn follow(context: &TaskContext, namespace: &Value, active: bool) -> Result<(), TaskError> {
    if is_active(namespace).is_some_and(|marked| marked != active) {
        mark(context, name(namespace), active, None).await?;
    }
    Ok(())
}

/// The other side of a source's namespace.
pub fn of_source(run: &Run, namespace: &str) -> String {
    format!("{}/{}", run.destination, run.destination_of(namespace))
}

/// The other side of a destination's namespace.
pub fn of_destination(run: &Run, namespace: &str) -> String {
    let from =
        run.namespaces.iter().find(|moved| moved.to == namespace).map_or(namespace, |moved| &moved.from);
    format!("{}/{from}", run.source)
}

/// What the mark of a namespace says, if it has one.
pub fn is_active(namespace: &Value) -> Option<bool> {
    label(namespace, ACTIVE).and_then(|active| active.parse().ok())
}

/// Whether a namespace of a run's destination was handed over, by an earlier cutover, to where the run
/// comes from: it is not the active one, and that is its other side.
pub fn is_handed_over(run: &Run, namespace: &Value) -> bool {
    is_active(namespace) == Some(false)
        && annotation(namespace, COUNTERPART) == Some(of_destination(run, name(namespace)).as_str())
}

/// Why a namespace must not be started as it is: its applications run elsewhere, as far as its mark
/// tells.
pub fn active_elsewhere(namespace: &Value) -> Option<Finding> {
    if is_active(namespace) != Some(false) {
        return None;
    }
    let other = annotation(namespace, COUNTERPART).unwrap_or("the other side");
    let message = format!(
        "its applications were handed over to {other}, and would run twice: stop them there first (isthmus deactivate), \
         go back with isthmus rollback or isthmus failback, or force it if {other} is gone for good"
    );
    Some(finding(describe(namespace), "ActiveElsewhere", message))
}

fn patch(namespace: &Value, active: bool, counterpart: Option<&str>) -> Option<Value> {
    let mut metadata = json!({});
    if is_active(namespace) != Some(active) {
        metadata["labels"] = json!({ACTIVE: active.to_string()});
    }
    if let Some(counterpart) = counterpart.filter(|c| annotation(namespace, COUNTERPART) != Some(*c)) {
        metadata["annotations"] = json!({COUNTERPART: counterpart});
    }
    let changes = metadata.as_object().is_some_and(|map| !map.is_empty());
    changes.then(|| json!({"metadata": metadata}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(active: Option<&str>, counterpart: Option<&str>) -> Value {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": "cms", "labels": {ACTIVE: active}, "annotations": {COUNTERPART: counterpart}
        }})
    }

    #[test]
    fn a_mark_is_written_once_and_says_the_other_side() {
        let wanted =
            json!({"metadata": {"labels": {ACTIVE: "false"}, "annotations": {COUNTERPART: "west/cms"}}});
        assert_eq!(patch(&namespace(None, None), false, Some("west/cms")), Some(wanted));
        let marked = namespace(Some("false"), Some("west/cms"));
        assert_eq!(patch(&marked, false, Some("west/cms")), None);
        let turned = json!({"metadata": {"labels": {ACTIVE: "true"}}});
        assert_eq!(patch(&marked, true, Some("west/cms")), Some(turned.clone()));
        assert_eq!(patch(&marked, true, None), Some(turned));
    }

    #[test]
    fn what_was_handed_over_is_not_started_and_the_message_names_where_it_runs() {
        let marked = namespace(Some("false"), Some("west/cms"));
        let found = active_elsewhere(&marked).unwrap();
        assert_eq!((found.object.as_str(), found.reason.as_str()), ("Namespace cms", "ActiveElsewhere"));
        assert!(found.message.contains("west/cms"));
        assert!(active_elsewhere(&namespace(Some("true"), None)).is_none());
        assert!(active_elsewhere(&namespace(None, None)).is_none());
        assert!(active_elsewhere(&namespace(Some("perhaps"), None)).is_none());
    }
}
