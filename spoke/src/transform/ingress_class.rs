//! Ingress classes, by the run's map: of Ingresses, of Gateways, and of the solvers by which
//! cert-manager answers challenges.

use serde_json::Value;

use super::storage::map_text;
use super::{Scope, is};

/// The annotation that older Ingresses name their class by.
const LEGACY: &str = "/metadata/annotations/kubernetes.io~1ingress.class";

/// Maps them.
pub fn rewrite(object: &mut Value, scope: &mut Scope<'_>) {
    let classes = &scope.options.ingress_classes;
    if classes.is_empty() {
        return;
    }
    let map = |object: &mut Value, pointer: &str| {
        if let Some(class) = object.pointer_mut(pointer) {
            map_text(class, classes);
        }
    };
    // The annotation is read by controllers of their own kinds too.
    map(object, LEGACY);
    if is(object, "networking.k8s.io", "Ingress") || is(object, "extensions", "Ingress") {
        map(object, "/spec/ingressClassName");
    } else if is(object, "gateway.networking.k8s.io", "Gateway") {
        map(object, "/spec/gatewayClassName");
    } else if is(object, "cert-manager.io", "Issuer") || is(object, "cert-manager.io", "ClusterIssuer") {
        let solvers = object.pointer_mut("/spec/acme/solvers").and_then(Value::as_array_mut);
        for solver in solvers.into_iter().flatten() {
            map(solver, "/http01/ingress/class");
            map(solver, "/http01/ingress/ingressClassName");
        }
    }
}
