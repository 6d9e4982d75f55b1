//! ResourceQuotas: whether what a run brings fits into what a namespace has left. Pure.
//!
//! ```text
//!   demand   what an object counts for, by the names that quotas use
//!      |
//!   quota    hard minus used, against the sum of it ──▶ concerns
//! ```
//!
//! Objects are counted when they are made, so a quota that is there already refuses them then; one
//! that comes along is applied after them. Pods count once they run.

mod demand;

use std::collections::{BTreeMap, BTreeSet};

use isthmus_shared::quantity::Amount;
use serde_json::Value;

pub use demand::{Workload, of_object, of_pod};

use super::concern::Concern;
use super::pod_shape::{Amounts, PodShape, amounts};
use crate::cluster::{array, name, namespace, text};

/// A quota's limits, and what is used of them.
#[derive(Clone, Debug)]
pub struct Quota {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    hard: Amounts,
    used: Amounts,
    scopes: Vec<Scope>,
    /// Whether it is on the destination already.
    there: bool,
}

/// Which Pods a quota is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Scope {
    Terminating(bool),
    BestEffort(bool),
    Priority {
        among: Option<Vec<String>>,
        inverse: bool,
    },
    /// One that is not known here: the quota is not judged.
    Other,
}

impl Quota {
    /// A quota of the destination.
    pub fn there(quota: &Value) -> Self {
        let hard = amounts(quota.pointer("/status/hard"));
        let hard = if hard.is_empty() { amounts(quota.pointer("/spec/hard")) } else { hard };
        Self { hard, used: amounts(quota.pointer("/status/used")), there: true, ..Self::coming(quota) }
    }

    /// A quota that comes along.
    pub fn coming(quota: &Value) -> Self {
        Self {
            namespace: namespace(quota).to_owned(),
            name: name(quota).to_owned(),
            hard: amounts(quota.pointer("/spec/hard")),
            used: Amounts::new(),
            scopes: scopes(quota),
            there: false,
        }
    }

    /// The resources that each container of a Pod must say something of.
    fn demanded(&self) -> Vec<(&str, bool)> {
        let keys = self.hard.keys().map(String::as_str);
        keys.filter_map(|key| match key {
            "cpu" | "requests.cpu" => Some(("cpu", false)),
            "memory" | "requests.memory" => Some(("memory", false)),
            "limits.cpu" => Some(("cpu", true)),
            "limits.memory" => Some(("memory", true)),
            _ => None,
        })
        .collect()
    }

    /// What it limits.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.hard.keys().map(String::as_str)
    }

    /// Whether it counts such a Pod.
    pub fn is_for(&self, shape: &PodShape) -> bool {
        self.scopes.iter().all(|scope| match scope {
            Scope::Terminating(wanted) => shape.terminating == *wanted,
            Scope::BestEffort(wanted) => shape.is_best_effort() == *wanted,
            Scope::Priority { among: None, inverse } => shape.priority_class.is_some() != *inverse,
            Scope::Priority { among: Some(classes), inverse } => {
                let class = shape.priority_class.clone().unwrap_or_default();
                classes.contains(&class) != *inverse
            }
            Scope::Other => false,
        })
    }

    /// How much is left of what it limits.
    pub fn left(&self, key: &str) -> Option<Amount> {
        Some(*self.hard.get(key)? - self.used.get(key).copied().unwrap_or_default())
    }
}

fn scopes(quota: &Value) -> Vec<Scope> {
    let plain = |scope: &str| match scope {
        "Terminating" => Scope::Terminating(true),
        "NotTerminating" => Scope::Terminating(false),
        "BestEffort" => Scope::BestEffort(true),
        "NotBestEffort" => Scope::BestEffort(false),
        _ => Scope::Other,
    };
    let mut scopes: Vec<Scope> =
        array(quota, "/spec/scopes").iter().filter_map(Value::as_str).map(plain).collect();
    for expression in array(quota, "/spec/scopeSelector/matchExpressions") {
        let values =
            array(expression, "/values").iter().filter_map(Value::as_str).map(str::to_owned).collect();
        scopes.push(match (text(expression, "/scopeName"), text(expression, "/operator")) {
            ("PriorityClass", "In") => Scope::Priority { among: Some(values), inverse: false },
            ("PriorityClass", "NotIn") => Scope::Priority { among: Some(values), inverse: true },
            ("PriorityClass", "Exists") => Scope::Priority { among: None, inverse: false },
            ("PriorityClass", "DoesNotExist") => Scope::Priority { among: None, inverse: true },
            (scope, "Exists") => plain(scope),
            _ => Scope::Other,
        });
    }
    scopes
}

/// What a run brings to one namespace.
#[derive(Clone, Debug, Default)]
pub struct Brought {
    /// What its new objects count for.
    pub objects: Amounts,
    /// Its workloads.
    pub workloads: Vec<Workload>,
}

/// What the quotas have against it; `starts` says whether the applications are started.
pub fn concerns(quotas: &[Quota], brought: &BTreeMap<String, Brought>, starts: bool) -> Vec<Concern> {
    let mut concerns = Vec::new();
    for quota in quotas {
        let Some(brought) = brought.get(&quota.namespace) else { continue };
        let object = format!("ResourceQuota {}/{}", quota.namespace, quota.name);
        if quota.there && quota.scopes.is_empty() {
            for (key, amount) in &brought.objects {
                if let Some(left) = quota.left(key).filter(|left| left < amount) {
                    let message = too_much(quota, key, *amount, left, "the objects that are made");
                    concerns.push(Concern::failure(&object, "ExceededQuota", message));
                }
            }
        }
        let (sums, silent) = demand::of_pods(quota, &brought.workloads);
        for (key, amount) in sums {
            if let Some(left) = quota.left(&key).filter(|left| *left < amount && amount > Amount::ZERO) {
                let message = too_much(quota, &key, amount, left, "the Pods once the applications run");
                concerns.push(Concern::of_pods(starts, &object, "ExceededQuota", message));
            }
        }
        for (workload, lacking) in silent {
            let resources: BTreeSet<&str> = lacking.iter().map(String::as_str).collect();
            let message = format!(
                "ResourceQuota {} wants every container to say its {}, which those of its Pods do not, so they are \
                 refused: add a LimitRange with defaults to the namespace, or set them by a transform",
                quota.name,
                resources.into_iter().collect::<Vec<_>>().join(", ")
            );
            concerns.push(Concern::of_pods(starts, workload, "QuotaNeedsValues", message));
        }
    }
    concerns
}

fn too_much(quota: &Quota, key: &str, amount: Amount, left: Amount, of: &str) -> String {
    let hard = quota.hard.get(key).copied().unwrap_or_default();
    let used = quota.used.get(key).copied().unwrap_or_default();
    format!(
        "{of} need {amount} of {key}, and of {hard} {used} is used: raise the quota's {key} by at least {} on the \
         destination, or leave something behind",
        amount - left
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn brought(objects: &[(&str, i64)], workloads: Vec<Workload>) -> BTreeMap<String, Brought> {
        let objects = objects.iter().map(|(key, count)| ((*key).to_owned(), Amount::of(*count))).collect();
        BTreeMap::from([("cms".to_owned(), Brought { objects, workloads })])
    }

    fn quota(hard: &Value, used: &Value) -> Value {
        json!({"metadata": {"name": "q", "namespace": "cms"}, "spec": {"hard": hard},
               "status": {"hard": hard, "used": used}})
    }

    fn workload(more: i64, resources: &Value) -> Workload {
        let pod = json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
        Workload { object: "Deployment cms/web".to_owned(), more, shape: PodShape::of(&pod) }
    }

    fn said(quota: &Quota, brought: &BTreeMap<String, Brought>, starts: bool) -> Vec<(bool, String)> {
        let all = concerns(std::slice::from_ref(quota), brought, starts);
        let failure = |concern: &Concern| concern.severity == super::super::concern::Severity::Failure;
        all.iter().map(|concern| (failure(concern), concern.finding.message.clone())).collect()
    }

    #[test]
    fn objects_beyond_what_is_left_are_a_failure_that_says_how_much_is_lacking() {
        let quota = Quota::there(&quota(
            &json!({"services": "5", "count/widgets.example.com": "9"}),
            &json!({"services": "3"}),
        ));
        assert!(said(&quota, &brought(&[("services", 2), ("configmaps", 99)], vec![]), false).is_empty());
        let found = said(&quota, &brought(&[("services", 4)], vec![]), false);
        assert!(
            found[0].0 && found[0].1.contains("of 5 3 is used") && found[0].1.contains("by at least 2"),
            "{found:?}"
        );
    }

    #[test]
    fn pods_count_once_they_run() {
        let quota = Quota::there(&quota(
            &json!({"pods": "3", "requests.cpu": "1"}),
            &json!({"pods": "1", "requests.cpu": "500m"}),
        ));
        let web = |more| brought(&[], vec![workload(more, &json!({"requests": {"cpu": "200m"}}))]);
        assert!(said(&quota, &web(2), true).is_empty());
        let found = said(&quota, &web(3), true);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|(failure, _)| *failure));
        assert!(
            said(&quota, &web(3), false).iter().all(|(failure, _)| !failure),
            "not started, it is a warning"
        );
    }

    #[test]
    fn a_quota_wants_containers_to_say_what_it_limits() {
        let quota = Quota::coming(&quota(&json!({"limits.memory": "1Gi"}), &json!({})));
        let found = said(&quota, &brought(&[], vec![workload(1, &json!({}))]), true);
        assert!(found[0].1.contains("say its limits.memory"), "{found:?}");
        assert!(
            said(&quota, &brought(&[], vec![workload(1, &json!({"limits": {"memory": "1Gi"}}))]), true)
                .is_empty()
        );
    }

    #[test]
    fn a_quota_that_comes_along_counts_pods_and_not_the_objects_made_before_it() {
        let quota = Quota::coming(&quota(&json!({"services": "0", "pods": "0"}), &json!({})));
        assert_eq!(said(&quota, &brought(&[("services", 4)], vec![workload(1, &json!({}))]), true).len(), 1);
    }

    #[test]
    fn a_scoped_quota_is_for_its_pods_alone() {
        let mut scoped = quota(&json!({"pods": "0"}), &json!({}));
        scoped["spec"]["scopes"] = json!(["NotTerminating", "BestEffort"]);
        let all = brought(&[("pods", 9)], vec![workload(1, &json!({}))]);
        assert_eq!(said(&Quota::there(&scoped), &all, true).len(), 1);
        scoped["spec"]["scopes"] = json!(["Terminating"]);
        assert!(said(&Quota::there(&scoped), &all, true).is_empty());
        scoped["spec"]["scopes"] = json!([]);
        scoped["spec"]["scopeSelector"] = json!({"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]});
        assert!(said(&Quota::there(&scoped), &all, true).is_empty());
    }
}
