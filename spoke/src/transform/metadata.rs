//! What the source's API server and controllers wrote into every object.

use serde_json::Value;

use super::{Scope, remove};

const SERVER_FIELDS: &[&str] = &[
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
    // They name objects and controllers of the source.
    "ownerReferences",
    "finalizers",
];

/// Written by controllers; says how far they got on the source.
const CONTROLLER_ANNOTATIONS: &[&str] = &[
    "deployment.kubernetes.io/revision",
    "deprecated.daemonset.template.generation",
    // Rancher: the addresses at which the source could be reached.
    "field.cattle.io/publicEndpoints",
];

/// Drops them.
pub fn rewrite(object: &mut Value, _: &mut Scope<'_>) {
    remove(object, "/metadata", SERVER_FIELDS);
    remove(object, "/metadata/annotations", CONTROLLER_ANNOTATIONS);
    remove(object, "", &["status"]);
}
