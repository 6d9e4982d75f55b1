//! RBAC: evaluates Roles, ClusterRoles and their bindings as they are in the store.

use std::sync::Arc;

use serde_json::Value;

use super::{Attributes, Identity, MASTERS};
use crate::apiserver::json::{list, text};
use crate::apiserver::selectors::LabelSelector;
use crate::apiserver::store::{Range, Store};

const ROLES: &str = "rbac.authorization.k8s.io/roles";
const CLUSTER_ROLES: &str = "rbac.authorization.k8s.io/clusterroles";
const ROLE_BINDINGS: &str = "rbac.authorization.k8s.io/rolebindings";
const CLUSTER_ROLE_BINDINGS: &str = "rbac.authorization.k8s.io/clusterrolebindings";

/// Whether the user may do it; the text says by which binding.
pub fn allows(store: &Store, identity: &Identity, asked: &Attributes) -> Option<String> {
    if identity.groups.iter().any(|group| group == MASTERS) {
        return Some(String::new());
    }
    rules_for(store, identity, &asked.namespace)
        .into_iter()
        .find(|(_, rule)| covers(rule, asked))
        .map(|(why, _)| why)
}

/// Every rule that holds for the user in a namespace (or cluster-wide, if it is empty), with the
/// binding that gives it.
pub fn rules_for(store: &Store, identity: &Identity, namespace: &str) -> Vec<(String, Value)> {
    let mut rules = Vec::new();
    let all = |storage: &str, namespace: Option<&str>| -> Vec<Arc<Value>> {
        let range = Range { namespace, ..Range::default() };
        store.list(storage, &range, |_| true).map(|listing| listing.objects).unwrap_or_default()
    };
    let mut take = |binding: &Value, binding_namespace: &str| {
        let subject = list(binding, &["subjects"]).iter().find(|s| applies(s, identity, binding_namespace));
        if subject.is_none() {
            return;
        }
        let kind = text(binding, &["roleRef", "kind"]);
        let role = text(binding, &["roleRef", "name"]);
        let why = format!(
            "RBAC: allowed by {} {:?} of {kind} {role:?} to {}",
            if binding_namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" },
            text(binding, &["metadata", "name"]),
            identity.user,
        );
        rules.extend(
            rules_of(store, kind, role, binding_namespace).into_iter().map(|rule| (why.clone(), rule)),
        );
    };
    for binding in all(CLUSTER_ROLE_BINDINGS, None) {
        take(&binding, "");
    }
    if !namespace.is_empty() {
        for binding in all(ROLE_BINDINGS, Some(namespace)) {
            take(&binding, namespace);
        }
    }
    rules
}

/// The rules of a role; those of an aggregated role are gathered from the roles that it selects.
pub fn rules_of(store: &Store, kind: &str, name: &str, namespace: &str) -> Vec<Value> {
    let (storage, namespace) = if kind == "ClusterRole" { (CLUSTER_ROLES, "") } else { (ROLES, namespace) };
    let Some(role) = store.get(storage, &(namespace.to_owned(), name.to_owned())) else { return Vec::new() };
    let mut rules = list(&role, &["rules"]).to_vec();
    for selector in list(&role, &["aggregationRule", "clusterRoleSelectors"]) {
        let labels: Vec<String> = selector["matchLabels"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
            .collect();
        let Ok(selector) = LabelSelector::parse(&labels.join(",")) else { continue };
        let chosen = store.list(CLUSTER_ROLES, &Range::default(), |r| selector.matches(r));
        for other in chosen.map(|listing| listing.objects).unwrap_or_default() {
            rules.extend(list(&other, &["rules"]).iter().cloned());
        }
    }
    rules
}

fn applies(subject: &Value, identity: &Identity, binding_namespace: &str) -> bool {
    let name = text(subject, &["name"]);
    match text(subject, &["kind"]) {
        "User" => name == identity.user,
        "Group" => identity.groups.iter().any(|group| group == name),
        "ServiceAccount" => {
            let given = text(subject, &["namespace"]);
            let namespace = if given.is_empty() { binding_namespace } else { given };
            identity.user == format!("system:serviceaccount:{namespace}:{name}")
        }
        _ => false,
    }
}

fn covers(rule: &Value, asked: &Attributes) -> bool {
    let has = |field: &str, wanted: &str| {
        list(rule, &[field]).iter().filter_map(Value::as_str).any(|item| item == "*" || item == wanted)
    };
    if !has("verbs", &asked.verb) {
        return false;
    }
    if asked.resource.is_empty() {
        return list(rule, &["nonResourceURLs"]).iter().filter_map(Value::as_str).any(|path| {
            path == "*"
                || path == asked.path
                || path.strip_suffix('*').is_some_and(|p| asked.path.starts_with(p))
        });
    }
    let resource_matches = if asked.subresource.is_empty() {
        has("resources", &asked.resource)
    } else {
        has("resources", &format!("{}/{}", asked.resource, asked.subresource))
            || has("resources", &format!("*/{}", asked.subresource))
    };
    let names = list(rule, &["resourceNames"]);
    has("apiGroups", &asked.group)
        && resource_matches
        && (names.is_empty() || names.iter().filter_map(Value::as_str).any(|name| name == asked.name))
}

/// The first of the wanted rules that the user does not have everything of, if any: nobody may give
/// away what they do not have.
pub fn missing(store: &Store, identity: &Identity, namespace: &str, wanted: &[Value]) -> Option<String> {
    if identity.groups.iter().any(|group| group == MASTERS) {
        return None;
    }
    let held = rules_for(store, identity, namespace);
    let strings = |rule: &Value, field: &str| -> Vec<String> {
        list(rule, &[field]).iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let within = |rule: &Value, field: &str, wanted: &str| {
        list(rule, &[field]).iter().filter_map(Value::as_str).any(|item| item == "*" || item == wanted)
    };
    for rule in wanted {
        let names = strings(rule, "resourceNames");
        for verb in strings(rule, "verbs") {
            for group in strings(rule, "apiGroups") {
                for resource in strings(rule, "resources") {
                    let covered = held.iter().any(|(_, have)| {
                        let have_names = strings(have, "resourceNames");
                        within(have, "verbs", &verb)
                            && within(have, "apiGroups", &group)
                            && within(have, "resources", &resource)
                            && (have_names.is_empty()
                                || (!names.is_empty() && names.iter().all(|n| have_names.contains(n))))
                    });
                    if !covered {
                        return Some(format!(
                            "{{APIGroups:[{group:?}], Resources:[{resource:?}], Verbs:[{verb:?}]}}"
                        ));
                    }
                }
            }
            for path in strings(rule, "nonResourceURLs") {
                let asked = Attributes { verb: verb.clone(), path: path.clone(), ..Attributes::default() };
                if !held.iter().any(|(_, have)| covers(have, &asked)) {
                    return Some(format!("{{NonResourceURLs:[{path:?}], Verbs:[{verb:?}]}}"));
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(verb: &str, resource: &str, name: &str) -> Attributes {
        Attributes {
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            namespace: "ns".to_owned(),
            ..Attributes::default()
        }
    }

    #[test]
    fn a_role_binding_allows_what_its_role_says_and_nothing_else() {
        let store = Store::default();
        store
            .write(false, |t| {
                t.put(&ROLES.into(), ("ns".into(), "reader".into()), json!({"metadata": {"name": "reader"},
                    "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]},
                              {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"], "verbs": ["get"]}]}));
                t.put(&ROLE_BINDINGS.into(), ("ns".into(), "b".into()), json!({"metadata": {"name": "b"},
                    "roleRef": {"kind": "Role", "name": "reader"},
                    "subjects": [{"kind": "ServiceAccount", "name": "app"}]}));
                Ok(())
            })
            .unwrap();
        let app = Identity { user: "system:serviceaccount:ns:app".into(), ..Identity::default() };
        assert!(allows(&store, &app, &asked("get", "configmaps", "x")).is_some());
        assert!(allows(&store, &app, &asked("delete", "configmaps", "x")).is_none());
        assert!(allows(&store, &app, &asked("get", "secrets", "a")).is_some());
        assert!(allows(&store, &app, &asked("get", "secrets", "b")).is_none());
        let elsewhere = Attributes { namespace: "other".into(), ..asked("get", "configmaps", "x") };
        assert!(allows(&store, &app, &elsewhere).is_none());
    }
}
