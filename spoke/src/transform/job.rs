//! Jobs: selector and labels that the source's Job controller made.
//!
//! A Job with `manualSelector` was given them by a person and keeps them.

use serde_json::Value;

use super::{Scope, is, remove};

const CONTROLLER_LABELS: &[&str] =
    &["controller-uid", "batch.kubernetes.io/controller-uid", "job-name", "batch.kubernetes.io/job-name"];
const CONTROLLER_UIDS: &[&str] = &["controller-uid", "batch.kubernetes.io/controller-uid"];

/// Drops them. The template of a CronJob has none of them unless it was copied from a Job.
pub fn rewrite(object: &mut Value, _: &mut Scope<'_>) {
    let spec = if is(object, "batch", "Job") {
        "/spec"
    } else if is(object, "batch", "CronJob") {
        "/spec/jobTemplate/spec"
    } else {
        return;
    };
    if object.pointer(&format!("{spec}/manualSelector")).and_then(Value::as_bool) == Some(true) {
        return;
    }
    let made = object
        .pointer(&format!("{spec}/selector/matchLabels"))
        .and_then(Value::as_object)
        .is_some_and(|labels| CONTROLLER_UIDS.iter().any(|key| labels.contains_key(*key)));
    if made {
        // The whole selector is the controller's where it selects by the uid.
        remove(object, spec, &["selector"]);
    }
    remove(object, &format!("{spec}/template/metadata/labels"), CONTROLLER_LABELS);
    remove(object, &format!("{spec}/template/metadata"), &["creationTimestamp"]);
    // A Job without labels of its own is given its template's.
    remove(object, "/metadata/labels", CONTROLLER_LABELS);
}
