//! Secrets: tokens of service accounts, which only their own cluster can make.
//!
//! A token Secret that a person asked for goes along without its token, and the destination's
//! controller fills it. Those that controllers made are left behind before they come here.

use serde_json::Value;

use super::notes::quote;
use super::{Scope, is, remove};
use crate::cluster::text;

const TOKEN: &str = "kubernetes.io/service-account-token";
/// Whose token it is.
const ACCOUNT: &str = "kubernetes.io/service-account.name";
/// What the controller fills in.
const FILLED: &[&str] = &["ca.crt", "namespace", "service-ca.crt", "token"];
const FILLED_ANNOTATIONS: &[&str] =
    &["kubernetes.io/service-account.uid", "kubernetes.io/created-by", "openshift.io/token-secret.value"];
/// When the token was last used, and whether it was cut off for not being used.
const FILLED_LABELS: &[&str] =
    &["kubernetes.io/legacy-token-last-used", "kubernetes.io/legacy-token-invalid-since"];

/// What Helm keeps of a release.
const HELM: &str = "helm.sh/release.v1";

/// Empties tokens, and tells of what cannot follow a namespace.
pub fn rewrite(object: &mut Value, scope: &mut Scope<'_>) {
    if !is(object, "", "Secret") {
        return;
    }
    match text(object, "/type") {
        TOKEN => {
            remove(object, "/data", FILLED);
            remove(object, "/stringData", FILLED);
            remove(object, "/metadata/annotations", FILLED_ANNOTATIONS);
            remove(object, "/metadata/labels", FILLED_LABELS);
            let account = crate::cluster::annotation(object, ACCOUNT).unwrap_or_default();
            let message = format!(
                "its token is good on the source only and stayed there; the destination makes another for ServiceAccount {}: give that one to whoever uses it from outside",
                quote(account)
            );
            scope.notes.push("TokenMadeAnew", message);
        }
        HELM => {
            let namespace = text(object, "/metadata/namespace");
            if let Some(to) = scope.options.namespaces.renamed(namespace) {
                let message = format!(
                    "Helm's record of the release holds the namespace {namespace:?} in its compressed manifests, and they were left as they are: run helm upgrade with --namespace {to} once, which writes a new record"
                );
                scope.notes.push("HelmReleaseOfRenamedNamespace", message);
            }
        }
        _ => {}
    }
}
