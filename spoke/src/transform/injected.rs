//! Certificates of authorities that a controller injects: the destination's injects its own.
//!
//! Where nobody injects one it is a person's, and stays.

use serde_json::Value;

use super::{Scope, is, remove};
use crate::cluster::{annotation, label};

/// Ask a controller to inject; any value but `false` does.
const INJECT: &[&str] = &[
    "cert-manager.io/inject-apiserver-ca",
    "cert-manager.io/inject-ca-from",
    "cert-manager.io/inject-ca-from-secret",
    "certmanager.k8s.io/inject-ca-from",
    "service.alpha.openshift.io/inject-cabundle",
    "service.beta.openshift.io/inject-cabundle",
];
/// The label by which OpenShift fills a ConfigMap with the cluster's trusted certificates.
const INJECT_TRUSTED: &str = "config.openshift.io/inject-trusted-cabundle";

/// Drops them.
pub fn rewrite(object: &mut Value, _: &mut Scope<'_>) {
    let asked = INJECT.iter().any(|key| annotation(object, key).is_some_and(|value| value != "false"));
    if is(object, "", "ConfigMap") {
        if asked {
            remove(object, "/data", &["service-ca.crt"]);
        }
        if label(object, INJECT_TRUSTED) == Some("true") {
            remove(object, "/data", &["ca-bundle.crt"]);
        }
        return;
    }
    if !asked {
        return;
    }
    if is(object, "admissionregistration.k8s.io", "ValidatingWebhookConfiguration")
        || is(object, "admissionregistration.k8s.io", "MutatingWebhookConfiguration")
    {
        let webhooks = object.get_mut("webhooks").and_then(Value::as_array_mut);
        for webhook in webhooks.into_iter().flatten() {
            remove(webhook, "/clientConfig", &["caBundle"]);
        }
    } else if is(object, "apiregistration.k8s.io", "APIService") {
        remove(object, "/spec", &["caBundle"]);
    } else if is(object, "apiextensions.k8s.io", "CustomResourceDefinition") {
        remove(object, "/spec/conversion/webhook/clientConfig", &["caBundle"]);
    }
}
