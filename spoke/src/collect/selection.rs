//! Which objects are taken: a pure choice, each refusal with its reason.
//!
//! The rules stand in [`RULES`], in the order in which they are asked; the first that has
//! something to say decides. What no rule names is taken.

use std::collections::{BTreeMap, HashSet};

use isthmus_shared::resources::{COMPONENT, GROUP, SKIP};
use kube::core::{Selector, SelectorExt};
use serde_json::Value;

use crate::cluster::{annotation, api_version, array, kind, label, name, text};

/// What a choice depends on beside the object.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The namespace's Services with a selector, whose endpoints a controller keeps.
    pub selecting_services: HashSet<String>,
    /// Only objects that one of these selects; all, if there is none.
    pub selectors: Vec<Selector>,
    /// Not objects that one of these selects.
    pub exclude_selectors: Vec<Selector>,
}

/// What is to become of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It goes along.
    Keep,
    /// It stays, for this reason.
    LeaveBehind {
        /// One word in CamelCase.
        reason: &'static str,
        /// The same for a person.
        message: &'static str,
    },
}

type Rule = fn(&Object<'_>, &Context) -> Option<Choice>;

const RULES: &[Rule] = &[
    skipped,
    our_own,
    being_deleted,
    of_a_kind_that_stays,
    of_the_api_server,
    generated_account,
    generated_secret,
    generated_config,
    generated_binding,
    owned,
    kept_endpoints,
    finished_job,
    not_selected,
];

struct Object<'a> {
    value: &'a Value,
    group: &'a str,
    kind: &'a str,
    name: &'a str,
}

/// Whether an object of a chosen namespace is taken.
pub fn choose(object: &Value, context: &Context) -> Choice {
    let group = api_version(object).split_once('/').map_or("", |(group, _)| group);
    let view = Object { value: object, group, kind: kind(object), name: name(object) };
    RULES.iter().find_map(|rule| rule(&view, context)).unwrap_or(Choice::Keep)
}

#[allow(clippy::unnecessary_wraps, reason = "reads as a rule's verdict")]
fn leave(reason: &'static str, message: &'static str) -> Option<Choice> {
    Some(Choice::LeaveBehind { reason, message })
}

fn skipped(object: &Object<'_>, _: &Context) -> Option<Choice> {
    (annotation(object.value, SKIP) == Some("true"))
        .then(|| leave("Skipped", "it is annotated isthmus.dev/skip: \"true\""))
        .flatten()
}

fn our_own(object: &Object<'_>, _: &Context) -> Option<Choice> {
    (label(object.value, COMPONENT).is_some() || object.group == GROUP)
        .then(|| leave("OwnObject", "it is Isthmus' own, for this cluster"))
        .flatten()
}

fn being_deleted(object: &Object<'_>, _: &Context) -> Option<Choice> {
    (!text(object.value, "/metadata/deletionTimestamp").is_empty())
        .then(|| leave("BeingDeleted", "it is being deleted on the source"))
        .flatten()
}

fn of_a_kind_that_stays(object: &Object<'_>, _: &Context) -> Option<Choice> {
    match (object.group, object.kind) {
        ("", "Pod") => leave("Pod", "Pods are made by their workloads, and anew on the destination"),
        ("" | "events.k8s.io", "Event") => leave("Event", "it tells of the source's past"),
        ("coordination.k8s.io", "Lease") => leave("Lease", "it is held by a process of the source"),
        ("metrics.k8s.io" | "custom.metrics.k8s.io" | "external.metrics.k8s.io", _) => {
            leave("Metrics", "it is a measurement of the source")
        }
        ("authorization.k8s.io" | "authentication.k8s.io", _) => {
            leave("Review", "it is a question, not an object")
        }
        ("storage.k8s.io", "CSIStorageCapacity") => {
            leave("Generated", "the source's storage driver keeps it")
        }
        ("apps", "ControllerRevision") => {
            leave("Generated", "a controller keeps the source's revisions in it")
        }
        ("snapshot.storage.k8s.io", "VolumeSnapshot") => {
            leave("Snapshot", "it names a snapshot in the source's storage, which does not go along")
        }
        _ => None,
    }
}

/// The API server keeps its own addresses in every cluster's `default` namespace.
fn of_the_api_server(object: &Object<'_>, _: &Context) -> Option<Choice> {
    let own = text(object.value, "/metadata/namespace") == "default"
        && object.name == "kubernetes"
        && matches!(object.kind, "Service" | "Endpoints" | "EndpointSlice");
    own.then(|| leave("Generated", "every API server keeps its own of this name")).flatten()
}

fn generated_account(object: &Object<'_>, _: &Context) -> Option<Choice> {
    // `builder`, `deployer` and `pipeline` are made by OpenShift in every project.
    let generated = object.group.is_empty()
        && object.kind == "ServiceAccount"
        && matches!(object.name, "default" | "builder" | "deployer" | "pipeline");
    generated.then(|| leave("Generated", "every namespace gets its own of this name")).flatten()
}

fn generated_secret(object: &Object<'_>, _: &Context) -> Option<Choice> {
    if !(object.group.is_empty() && object.kind == "Secret") {
        return None;
    }
    match text(object.value, "/type") {
        "kubernetes.io/service-account-token" => leave(
            "Generated",
            "a token of a service account is good in the source only; the destination makes its own",
        ),
        "kubernetes.io/dockercfg" if annotation(object.value, "openshift.io/token-secret.name").is_some() => {
            leave("Generated", "OpenShift makes it for a service account")
        }
        "bootstrap.kubernetes.io/token" => leave("Generated", "it lets nodes join the source"),
        _ => None,
    }
}

fn generated_config(object: &Object<'_>, _: &Context) -> Option<Choice> {
    let generated = object.group.is_empty()
        && object.kind == "ConfigMap"
        && matches!(object.name, "kube-root-ca.crt" | "openshift-service-ca.crt");
    generated.then(|| leave("Generated", "every namespace gets its own of this name")).flatten()
}

fn generated_binding(object: &Object<'_>, _: &Context) -> Option<Choice> {
    // Made by OpenShift in every project.
    let generated = object.group == "rbac.authorization.k8s.io"
        && object.kind == "RoleBinding"
        && matches!(object.name, "system:image-pullers" | "system:image-builders" | "system:deployers");
    generated.then(|| leave("Generated", "every namespace gets its own of this name")).flatten()
}

/// An object with an owner is there because its owner is (the garbage collector sees to it that
/// an owner exists), and comes to be on the destination when that does. A claim is more than its
/// owner's making: it has data. Only a Pod's own claims go with the Pod.
fn owned(object: &Object<'_>, _: &Context) -> Option<Choice> {
    let owners = array(object.value, "/metadata/ownerReferences");
    let claim = object.group.is_empty() && object.kind == "PersistentVolumeClaim";
    let counts = |owner: &&Value| !claim || text(owner, "/kind") == "Pod";
    owners.iter().find(counts).and_then(|_| leave("Owned", "its owner makes it anew on the destination"))
}

fn kept_endpoints(object: &Object<'_>, context: &Context) -> Option<Choice> {
    let kept = match (object.group, object.kind) {
        ("", "Endpoints") => {
            context.selecting_services.contains(object.name)
                || annotation(object.value, "control-plane.alpha.kubernetes.io/leader").is_some()
        }
        ("discovery.k8s.io", "EndpointSlice") => {
            label(object.value, "endpointslice.kubernetes.io/managed-by")
                .is_some_and(|by| by.ends_with(".k8s.io"))
                || label(object.value, "kubernetes.io/service-name")
                    .is_some_and(|service| context.selecting_services.contains(service))
        }
        _ => false,
    };
    kept.then(|| leave("Endpoints", "a controller keeps it from what the Service selects")).flatten()
}

fn finished_job(object: &Object<'_>, _: &Context) -> Option<Choice> {
    let finished = object.group == "batch"
        && object.kind == "Job"
        && array(object.value, "/status/conditions")
            .iter()
            .any(|c| matches!(text(c, "/type"), "Complete" | "Failed") && text(c, "/status") == "True");
    finished.then(|| leave("Finished", "it has run, and is not to run again")).flatten()
}

fn labels(object: &Value) -> BTreeMap<String, String> {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    labels.into_iter().flatten().filter_map(text).collect()
}

fn not_selected(object: &Object<'_>, context: &Context) -> Option<Choice> {
    let labels = labels(object.value);
    let selected = |by: &[Selector]| by.iter().any(|selector| selector.matches(&labels));
    if !context.selectors.is_empty() && !selected(&context.selectors) {
        return leave("NotSelected", "none of `selectors` selects it");
    }
    if selected(&context.exclude_selectors) {
        return leave("Excluded", "one of `excludeSelectors` selects it");
    }
    None
}

#[cfg(test)]
mod tests {
    use isthmus_shared::resources::parse_selector;
    use serde_json::json;

    use super::*;

    fn reason(object: &Value, context: &Context) -> &'static str {
        match choose(object, context) {
            Choice::Keep => "Keep",
            Choice::LeaveBehind { reason, .. } => reason,
        }
    }

    fn object(api_version: &str, kind: &str, name: &str) -> Value {
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "cms"}})
    }

    #[test]
    fn what_every_namespace_gets_by_itself_is_left_behind() {
        let none = Context::default();
        for (api_version, kind, name) in [
            ("v1", "ServiceAccount", "default"),
            ("v1", "ConfigMap", "kube-root-ca.crt"),
            ("v1", "ConfigMap", "openshift-service-ca.crt"),
            ("rbac.authorization.k8s.io/v1", "RoleBinding", "system:deployers"),
        ] {
            assert_eq!(reason(&object(api_version, kind, name), &none), "Generated", "{kind} {name}");
        }
        assert_eq!(reason(&object("v1", "ServiceAccount", "cms"), &none), "Keep");
        assert_eq!(reason(&object("v1", "ConfigMap", "settings"), &none), "Keep");
    }

    #[test]
    fn the_api_servers_own_service_stays_in_the_default_namespace() {
        let mut service = object("v1", "Service", "kubernetes");
        assert_eq!(reason(&service, &Context::default()), "Keep");
        service["metadata"]["namespace"] = json!("default");
        assert_eq!(reason(&service, &Context::default()), "Generated");
    }

    #[test]
    fn token_secrets_stay_and_other_secrets_go() {
        let mut secret = object("v1", "Secret", "s");
        secret["type"] = json!("kubernetes.io/service-account-token");
        assert_eq!(reason(&secret, &Context::default()), "Generated");
        secret["type"] = json!("Opaque");
        assert_eq!(reason(&secret, &Context::default()), "Keep");
    }

    #[test]
    fn what_has_an_owner_stays_except_claims_with_data() {
        let owner = |kind: &str| json!([{"kind": kind, "name": "o", "uid": "u", "controller": true}]);
        let mut replica_set = object("apps/v1", "ReplicaSet", "r");
        replica_set["metadata"]["ownerReferences"] = owner("Deployment");
        assert_eq!(reason(&replica_set, &Context::default()), "Owned");
        let mut claim = object("v1", "PersistentVolumeClaim", "c");
        claim["metadata"]["ownerReferences"] = owner("StatefulSet");
        assert_eq!(reason(&claim, &Context::default()), "Keep");
        claim["metadata"]["ownerReferences"] = owner("Pod");
        assert_eq!(reason(&claim, &Context::default()), "Owned");
    }

    #[test]
    fn endpoints_go_only_where_no_service_selects() {
        let context = Context { selecting_services: HashSet::from(["web".to_owned()]), ..Context::default() };
        assert_eq!(reason(&object("v1", "Endpoints", "web"), &context), "Endpoints");
        assert_eq!(reason(&object("v1", "Endpoints", "outside"), &context), "Keep");
        let mut slice = object("discovery.k8s.io/v1", "EndpointSlice", "outside-1");
        assert_eq!(reason(&slice, &context), "Keep");
        slice["metadata"]["labels"] =
            json!({"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"});
        assert_eq!(reason(&slice, &context), "Endpoints");
    }

    #[test]
    fn pods_events_leases_and_finished_jobs_stay() {
        let none = Context::default();
        assert_eq!(reason(&object("v1", "Pod", "p"), &none), "Pod");
        assert_eq!(reason(&object("events.k8s.io/v1", "Event", "e"), &none), "Event");
        assert_eq!(reason(&object("coordination.k8s.io/v1", "Lease", "l"), &none), "Lease");
        let mut job = object("batch/v1", "Job", "j");
        assert_eq!(reason(&job, &none), "Keep");
        job["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
        assert_eq!(reason(&job, &none), "Finished");
    }

    #[test]
    fn our_own_and_skipped_objects_stay() {
        let mut account = object("v1", "ServiceAccount", "isthmus-mover");
        account["metadata"]["labels"] = json!({COMPONENT: "mover"});
        assert_eq!(reason(&account, &Context::default()), "OwnObject");
        let mut config = object("v1", "ConfigMap", "c");
        config["metadata"]["annotations"] = json!({SKIP: "true"});
        assert_eq!(reason(&config, &Context::default()), "Skipped");
        config["metadata"]["annotations"] = json!({SKIP: "false"});
        assert_eq!(reason(&config, &Context::default()), "Keep");
    }

    #[test]
    fn one_of_the_selectors_has_to_match_and_none_of_the_exclusions() {
        let mut config = object("v1", "ConfigMap", "c");
        config["metadata"]["labels"] = json!({"app": "web", "tier": "front"});
        let read = |texts: &[&str]| texts.iter().map(|text| parse_selector(text).unwrap()).collect();
        let select = |s: &[&str], e: &[&str]| Context {
            selectors: read(s),
            exclude_selectors: read(e),
            ..Context::default()
        };
        assert_eq!(reason(&config, &select(&["app=web,tier=front"], &[])), "Keep");
        assert_eq!(reason(&config, &select(&["app=web,tier=back"], &[])), "NotSelected");
        assert_eq!(reason(&config, &select(&["app=db", "tier in (front)"], &[])), "Keep");
        assert_eq!(reason(&config, &select(&[], &["x=y", "app=web"])), "Excluded");
    }
}
