//! What the source's API server and controllers wrote into every object.

use isthmus_shared::resources::QUIESCED_BY;
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

/// Written by controllers, and by cutovers: how far they got on the source, and what they made there.
const CONTROLLER_ANNOTATIONS: &[&str] = &[
    "autoscaling.alpha.kubernetes.io/conditions",
    "autoscaling.alpha.kubernetes.io/current-metrics",
    "batch.kubernetes.io/job-tracking",
    // Who leads among the replicas of a controller that ran on the source.
    "control-plane.alpha.kubernetes.io/leader",
    "deployment.kubernetes.io/revision",
    "deprecated.daemonset.template.generation",
    "endpoints.kubernetes.io/last-change-trigger-time",
    // Rancher: the addresses at which the source could be reached.
    "field.cattle.io/publicEndpoints",
    // Google's load balancers.
    "ingress.kubernetes.io/backends",
    "ingress.kubernetes.io/forwarding-rule",
    "ingress.kubernetes.io/https-forwarding-rule",
    "ingress.kubernetes.io/https-target-proxy",
    "ingress.kubernetes.io/ssl-cert",
    "ingress.kubernetes.io/target-proxy",
    "ingress.kubernetes.io/url-map",
    QUIESCED_BY,
];

/// Drops them.
pub fn rewrite(object: &mut Value, _: &mut Scope<'_>) {
    remove(object, "/metadata", SERVER_FIELDS);
    remove(object, "/metadata/annotations", CONTROLLER_ANNOTATIONS);
    remove(object, "", &["status"]);
}
