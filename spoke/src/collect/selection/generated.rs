//! What Kubernetes and OpenShift make by themselves in every namespace. The destination has or
//! makes its own; bringing the source's would fight with it.

use serde_json::Value;

use super::{Choice, Context, Object, leave_if};
use crate::cluster::{annotation, array, label, text};

/// Reason of everything here.
const GENERATED: &str = "Generated";
const EVERY_NAMESPACE: &str = "every namespace gets its own of this name";

/// `builder`, `deployer` and `pipeline` are made by OpenShift in every project.
const ACCOUNTS: &[&str] = &["default", "builder", "deployer", "pipeline"];
/// ConfigMaps by their names; the last three are made by OpenShift and its Pipelines.
const CONFIGS: &[&str] =
    &["kube-root-ca.crt", "openshift-service-ca.crt", "config-service-cabundle", "config-trusted-cabundle"];
/// RoleBindings that OpenShift and its Pipelines make in every project.
const BINDINGS: &[&str] = &[
    "system:image-pullers",
    "system:image-builders",
    "system:deployers",
    "openshift-pipelines-edit",
    "pipelines-scc-rolebinding",
];
/// Whose annotations on a generated account are no person's.
const MACHINES: &[&str] = &["openshift.io", "tekton.dev"];
/// `kubectl apply` writes it, whatever it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Characters of the random part of a generated name, as Kubernetes draws them.
const RANDOM: &str = "bcdfghjklmnpqrstvwxz2456789";

/// The API server keeps its own addresses in every cluster's `default` namespace.
pub(super) fn by_name(object: &Object<'_>, _: &Context) -> Option<Choice> {
    let own = text(object.value, "/metadata/namespace") == "default"
        && object.name == "kubernetes"
        && matches!(object.kind, "Service" | "Endpoints" | "EndpointSlice");
    leave_if(own, GENERATED, "every API server keeps its own of this name")
}

/// An account that every namespace has goes along where a person changed it, and is merged with
/// the destination's.
pub(super) fn account(object: &Object<'_>, _: &Context) -> Option<Choice> {
    let untouched = object.is("", "ServiceAccount")
        && ACCOUNTS.contains(&object.name)
        && !is_changed(object.value, object.name);
    leave_if(untouched, GENERATED, EVERY_NAMESPACE)
}

/// Whether a generated account has what only a person gives it.
fn is_changed(account: &Value, name: &str) -> bool {
    let made_for_it = |secret: &Value, kinds: &[&str]| {
        kinds.iter().any(|kind| {
            text(secret, "/name")
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix(kind))
                .is_some_and(|rest| rest.starts_with('-'))
        })
    };
    let pulls = array(account, "/imagePullSecrets").iter().any(|s| !made_for_it(s, &["-dockercfg"]));
    let mounts = array(account, "/secrets").iter().any(|s| !made_for_it(s, &["-token", "-dockercfg"]));
    let annotations = account.pointer("/metadata/annotations").and_then(Value::as_object);
    let annotated = annotations.into_iter().flatten().any(|(key, _)| !is_of_a_machine(key));
    let mounting = account.get("automountServiceAccountToken").is_some_and(|v| v == false);
    pulls || mounts || annotated || mounting
}

fn is_of_a_machine(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let of_machine = MACHINES.iter().any(|machine| {
        domain.strip_suffix(machine).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    });
    of_machine || key == LAST_APPLIED
}

pub(super) fn secret(object: &Object<'_>, _: &Context) -> Option<Choice> {
    if !object.is("", "Secret") {
        return None;
    }
    let noted = |keys: &[&str]| keys.iter().any(|key| annotation(object.value, key).is_some());
    match text(object.value, "/type") {
        "kubernetes.io/service-account-token" => leave_if(
            is_drawn_token(object),
            GENERATED,
            "a token of a service account is good in the source only; the destination makes its own",
        ),
        "kubernetes.io/dockercfg" => leave_if(
            noted(&[
                "openshift.io/token-secret.name",
                "openshift.io/internal-registry-auth-token.service-account",
            ]),
            GENERATED,
            "OpenShift makes it for a service account",
        ),
        "bootstrap.kubernetes.io/token" => Some(Choice::leave(GENERATED, "it lets nodes join the source")),
        _ => leave_if(
            noted(&[
                "service.beta.openshift.io/originating-service-name",
                "service.alpha.openshift.io/originating-service-name",
            ]),
            GENERATED,
            "OpenShift issues it for a Service, and anew on the destination",
        ),
    }
}

/// Whether a token's Secret was made by the cluster, by the name that it draws:
/// `<account>-token-<5 characters>`. Others are made by people, who mount them by name.
fn is_drawn_token(object: &Object<'_>) -> bool {
    let account = annotation(object.value, "kubernetes.io/service-account.name").unwrap_or_default();
    let drawn = object.name.strip_prefix(account).and_then(|rest| rest.strip_prefix("-token-"));
    // Long names of accounts are cut before the random part.
    drawn
        .or_else(|| object.name.rsplit_once("-token-").map(|(_, drawn)| drawn))
        .is_some_and(|drawn| drawn.len() == 5 && drawn.chars().all(|c| RANDOM.contains(c)))
}

pub(super) fn config(object: &Object<'_>, _: &Context) -> Option<Choice> {
    if !object.is("", "ConfigMap") {
        return None;
    }
    if annotation(object.value, "control-plane.alpha.kubernetes.io/leader").is_some() {
        return Some(Choice::leave("Lease", "it is a lock that a process of the source holds"));
    }
    let istio = object.name == "istio-ca-root-cert" && label(object.value, "istio.io/config").is_some();
    leave_if(CONFIGS.contains(&object.name) || istio, GENERATED, EVERY_NAMESPACE)
}

pub(super) fn binding(object: &Object<'_>, _: &Context) -> Option<Choice> {
    let generated = object.is("rbac.authorization.k8s.io", "RoleBinding") && BINDINGS.contains(&object.name);
    leave_if(generated, GENERATED, EVERY_NAMESPACE)
}
