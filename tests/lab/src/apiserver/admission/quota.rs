//! The ResourceQuota plugin: what a namespace uses is counted from its objects, kept in the quotas'
//! status, and may not pass what they allow.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::apiserver::error::{ApiError, ApiResult, qualified};
use crate::apiserver::json::{at, list, name, set, terminating, text, uid};
use crate::apiserver::quantity::Quantity;
use crate::apiserver::registry::{Resource, StorageId};
use crate::apiserver::store::Transaction;

type Usage = BTreeMap<String, Quantity>;
const QUOTAS: &str = "/resourcequotas";
/// Kinds that quotas know under a short name.
const SHORT: [&str; 7] = [
    "pods",
    "services",
    "configmaps",
    "secrets",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
];

fn add(usage: &mut Usage, key: &str, amount: Quantity) {
    let sum = usage.get(key).copied().unwrap_or(Quantity::ZERO).plus(amount);
    usage.insert(key.to_owned(), sum);
}

/// What one object uses.
fn usage(group: &str, plural: &str, object: &Value) -> Usage {
    let mut used = Usage::new();
    let one = Quantity::whole(1);
    add(&mut used, &format!("count/{}", qualified(plural, group)), one);
    if !group.is_empty() {
        return used;
    }
    match plural {
        "pods" => {
            if matches!(text(object, &["status", "phase"]), "Succeeded" | "Failed") {
                used.retain(|key, _| key.starts_with("count/"));
                return used;
            }
            add(&mut used, "pods", one);
            for container in list(object, &["spec", "containers"]) {
                for (part, prefix) in [("requests", "requests."), ("limits", "limits.")] {
                    for (resource, amount) in
                        at(container, &["resources", part]).as_object().into_iter().flatten()
                    {
                        let Some(amount) = Quantity::from_json(amount) else { continue };
                        add(&mut used, &format!("{prefix}{resource}"), amount);
                        if part == "requests"
                            && matches!(resource.as_str(), "cpu" | "memory" | "ephemeral-storage")
                        {
                            add(&mut used, resource, amount);
                        }
                    }
                }
            }
        }
        "persistentvolumeclaims" => {
            add(&mut used, plural, one);
            let class = text(object, &["spec", "storageClassName"]);
            let size = Quantity::from_json(at(object, &["spec", "resources", "requests", "storage"]))
                .unwrap_or(Quantity::ZERO);
            add(&mut used, "requests.storage", size);
            if !class.is_empty() {
                add(&mut used, &format!("{class}.storageclass.storage.k8s.io/requests.storage"), size);
                add(&mut used, &format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), one);
            }
        }
        "services" => {
            add(&mut used, plural, one);
            match text(object, &["spec", "type"]) {
                "NodePort" => add(
                    &mut used,
                    "services.nodeports",
                    Quantity::whole(list(object, &["spec", "ports"]).len()),
                ),
                "LoadBalancer" => {
                    add(&mut used, "services.loadbalancers", one);
                    add(
                        &mut used,
                        "services.nodeports",
                        Quantity::whole(list(object, &["spec", "ports"]).len()),
                    );
                }
                _ => {}
            }
        }
        plural if SHORT.contains(&plural) => add(&mut used, plural, one),
        _ => {}
    }
    used
}

/// The tables whose objects count against these limits.
fn tables(hard: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for key in hard.as_object().into_iter().flatten().map(|(key, _)| key.as_str()) {
        let (group, plural) = if let Some(counted) = key.strip_prefix("count/") {
            counted.split_once('.').map_or(("", counted), |(plural, group)| (group, plural))
        } else if key.contains("storage") && !key.contains("ephemeral")
            || key == "persistentvolumeclaims"
            || key.ends_with("/persistentvolumeclaims")
        {
            ("", "persistentvolumeclaims")
        } else if key.starts_with("services") {
            ("", "services")
        } else if SHORT.contains(&key) {
            ("", key)
        } else {
            ("", "pods")
        };
        let table = (group.to_owned(), plural.to_owned());
        if !found.contains(&table) {
            found.push(table);
        }
    }
    found
}

fn scoped(quota: &Value, plural: &str, object: &Value) -> bool {
    let scopes = list(quota, &["spec", "scopes"]);
    plural != "pods"
        || scopes.iter().filter_map(Value::as_str).all(|scope| {
            let best_effort = text(object, &["status", "qosClass"]) == "BestEffort";
            let deadline = at(object, &["spec", "activeDeadlineSeconds"]).is_number();
            match scope {
                "BestEffort" => best_effort,
                "NotBestEffort" => !best_effort,
                "Terminating" => deadline,
                "NotTerminating" => !deadline,
                _ => true,
            }
        })
}

/// What a namespace uses of what a quota limits.
fn used(transaction: &Transaction<'_>, quota: &Value, namespace: &str, except: &str) -> Usage {
    let mut total = Usage::new();
    for (group, plural) in tables(at(quota, &["spec", "hard"])) {
        for object in transaction.list(&format!("{group}/{plural}"), Some(namespace)) {
            if (except.is_empty() || uid(&object) != except) && scoped(quota, &plural, &object) {
                for (key, amount) in usage(&group, &plural, &object) {
                    add(&mut total, &key, amount);
                }
            }
        }
    }
    total
}

fn joined(amounts: &[(String, Quantity)]) -> String {
    let parts: Vec<String> =
        amounts.iter().map(|(key, amount)| format!("{key}={}", amount.canonical())).collect();
    parts.join(",")
}

/// Refuses an object that a quota has no room for; `old` is what it replaces.
pub fn check(
    transaction: &Transaction<'_>,
    resource: &Resource,
    namespace: &str,
    object: &Value,
    old: Option<&Value>,
) -> ApiResult<()> {
    let wanted = usage(&resource.group, &resource.plural, object);
    let before = old.map(|old| usage(&resource.group, &resource.plural, old)).unwrap_or_default();
    for quota in transaction.list(QUOTAS, Some(namespace)) {
        if !scoped(&quota, &resource.plural, object) {
            continue;
        }
        let hard = at(&quota, &["spec", "hard"]);
        let refuse =
            |why: String| Err(ApiError::forbidden(&resource.group, &resource.plural, name(object), &why));
        if resource.is("", "Pod") && old.is_none() {
            let missing = unspecified(hard, object);
            if !missing.is_empty() {
                return refuse(format!(
                    "failed quota: {}: must specify {}",
                    name(&quota),
                    missing.join("; ")
                ));
            }
        }
        let mut relevant = Vec::new();
        for (key, limit) in hard.as_object().into_iter().flatten() {
            let (Some(limit), Some(amount)) = (Quantity::from_json(limit), wanted.get(key)) else { continue };
            if before.get(key).is_some_and(|b| amount <= b) {
                continue;
            }
            relevant.push((key.clone(), limit, *amount));
        }
        if relevant.is_empty() {
            continue;
        }
        let total = used(transaction, &quota, namespace, uid(object));
        let of = |key: &str| total.get(key).copied().unwrap_or(Quantity::ZERO);
        let exceeded: Vec<_> =
            relevant.into_iter().filter(|(key, limit, amount)| of(key).plus(*amount) > *limit).collect();
        if !exceeded.is_empty() {
            let requested: Vec<_> = exceeded.iter().map(|(k, _, a)| (k.clone(), *a)).collect();
            let now: Vec<_> = exceeded.iter().map(|(k, _, _)| (k.clone(), of(k))).collect();
            let limited: Vec<_> = exceeded.iter().map(|(k, l, _)| (k.clone(), *l)).collect();
            return refuse(format!(
                "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                name(&quota),
                joined(&requested),
                joined(&now),
                joined(&limited)
            ));
        }
    }
    Ok(())
}

/// The compute resources that a quota limits and a container does not speak of.
fn unspecified(hard: &Value, pod: &Value) -> Vec<String> {
    let mut missing = Vec::new();
    for key in hard.as_object().into_iter().flatten().map(|(key, _)| key.as_str()) {
        let (part, resource) = match key {
            "cpu" | "memory" => ("requests", key),
            _ => match key.split_once('.') {
                Some((part @ ("requests" | "limits"), resource @ ("cpu" | "memory"))) => (part, resource),
                _ => continue,
            },
        };
        let silent: Vec<&str> = list(pod, &["spec", "containers"])
            .iter()
            .filter(|c| at(c, &["resources", part, resource]).is_null())
            .map(|c| text(c, &["name"]))
            .collect();
        if !silent.is_empty() {
            missing.push(format!("{key} for: {}", silent.join(",")));
        }
    }
    missing
}

/// Brings the status of a namespace's quotas up to date.
pub fn refresh(transaction: &mut Transaction<'_>, namespace: &str) {
    let storage: StorageId = QUOTAS.into();
    for quota in transaction.list(QUOTAS, Some(namespace)) {
        if terminating(&quota) {
            continue;
        }
        let total = used(transaction, &quota, namespace, "");
        let hard = at(&quota, &["spec", "hard"]).clone();
        let counted: serde_json::Map<String, Value> = hard
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| {
                (key.clone(), json!(total.get(key).copied().unwrap_or(Quantity::ZERO).canonical()))
            })
            .collect();
        let status = json!({"hard": hard, "used": counted});
        if quota["status"] != status {
            let mut updated = Value::clone(&quota);
            set(&mut updated, &["status"], status);
            transaction.put(&storage, (namespace.to_owned(), name(&quota).to_owned()), updated);
        }
    }
}
