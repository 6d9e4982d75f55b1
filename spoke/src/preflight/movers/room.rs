//! Whether quotas and LimitRanges of a namespace leave room for its movers. Pure.
//!
//! Pods count while they run, and so many run at a time as the run moves volumes at a time; Jobs
//! count until the run's cleanup removes them.

use isthmus_shared::quantity::Amount;
use serde_json::Value;

use crate::cluster::name;
use crate::preflight::concern::Concern;
use crate::preflight::limits::{self, Bounds};
use crate::preflight::pod_shape::PodShape;
use crate::preflight::quota::{Quota, of_pod};

/// What movers bring to a namespace.
#[derive(Clone, Debug)]
pub struct Load {
    /// A mover's Pod.
    pub pod: Value,
    /// The most that run at a time.
    pub at_once: i64,
    /// All of them.
    pub in_all: i64,
}

/// What is in their way there; `here` names the side.
pub fn concerns(
    namespace: &str,
    load: &Load,
    quotas: &[Value],
    ranges: &[Value],
    here: &str,
) -> Vec<Concern> {
    let bounds: Vec<Bounds> = ranges.iter().flat_map(limits::bounds).collect();
    let shape = limits::with_defaults(PodShape::of(&load.pod), &bounds);
    let mut concerns = Vec::new();
    let found = limits::against_pod(&shape, &bounds);
    if !found.is_empty() {
        let message = format!(
            "movers on {here} would be refused: {}; set spec.mover.resources to what fits, or change the LimitRange for \
             as long as the run lasts",
            found.join("; ")
        );
        concerns.push(Concern::failure(format!("Namespace {namespace}"), "LimitRange", message));
    }
    for quota in quotas {
        let object = format!("ResourceQuota {namespace}/{}", name(quota));
        let quota = Quota::there(quota);
        for key in quota.keys() {
            if let Some(message) = too_much(&quota, key, load, &shape, here) {
                concerns.push(Concern::failure(&object, "ExceededQuota", message));
            }
        }
    }
    concerns
}

fn too_much(quota: &Quota, key: &str, load: &Load, shape: &PodShape, here: &str) -> Option<String> {
    let of_objects = match key {
        "count/jobs.batch" | "count/pods" => Some(load.in_all),
        "count/serviceaccounts" | "count/networkpolicies.networking.k8s.io" => Some(1),
        _ => None,
    };
    let (each, count) = match of_objects {
        Some(count) => (Amount::of(1), count),
        None if quota.is_for(shape) => (of_pod(key, shape)?, load.at_once),
        None => return None,
    };
    let (needed, left) = (each * count, quota.left(key)?);
    if needed <= left || needed == Amount::ZERO {
        return None;
    }
    let raise = format!("raise it by at least {} for as long as the run lasts", needed - left);
    let fewer = (1..load.at_once).rev().find(|count| of_objects.is_none() && each * *count <= left);
    let advice = match fewer {
        Some(fewer) => format!("{raise}, or set parallelVolumes to {fewer}"),
        None if key.contains("cpu") || key.contains("memory") => {
            format!("{raise}, or ask for less in spec.mover.resources")
        }
        None => raise,
    };
    let movers = if count == 1 { "a mover".to_owned() } else { format!("{count} movers") };
    Some(format!("{movers} on {here} need {needed} of {key}, and {left} is left: {advice}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::preflight::concern::Severity;

    fn load(at_once: i64, in_all: i64) -> Load {
        let resources =
            json!({"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}});
        let pod = json!({"spec": {"containers": [{"name": "mover", "resources": resources}]}});
        Load { pod, at_once, in_all }
    }

    fn said(load: &Load, hard: &Value, used: &Value) -> Vec<String> {
        let quota =
            json!({"metadata": {"name": "q", "namespace": "cms"}, "status": {"hard": hard, "used": used}});
        let found = concerns("cms", load, &[quota], &[], "the source (cluster east)");
        assert!(
            found
                .iter()
                .all(|c| c.severity == Severity::Failure && c.finding.object == "ResourceQuota cms/q")
        );
        found.into_iter().map(|concern| concern.finding.message).collect()
    }

    #[test]
    fn movers_that_fit_are_no_concern() {
        let hard = json!({"pods": "4", "limits.cpu": "6", "limits.memory": "4Gi", "count/jobs.batch": "5", "services": "0"});
        let used = json!({"pods": "2", "limits.cpu": "2", "limits.memory": "2Gi"});
        assert!(said(&load(2, 5), &hard, &used).is_empty());
    }

    #[test]
    fn a_quota_that_leaves_too_little_says_how_much_and_what_helps() {
        let found = said(&load(2, 5), &json!({"limits.cpu": "6"}), &json!({"limits.cpu": "3"}));
        assert_eq!(
            found,
            [
                "2 movers on the source (cluster east) need 4 of limits.cpu, and 3 is left: raise it by at least 1 for as \
              long as the run lasts, or set parallelVolumes to 1"
            ]
        );
        let found = said(&load(1, 1), &json!({"limits.memory": "512Mi"}), &json!({}));
        assert!(found[0].contains("a mover") && found[0].contains("spec.mover.resources"), "{found:?}");
        assert_eq!(said(&load(2, 2), &json!({"pods": "3"}), &json!({"pods": "3"})).len(), 1);
    }

    #[test]
    fn jobs_count_until_the_end_of_the_run() {
        let found = said(&load(2, 5), &json!({"count/jobs.batch": "4"}), &json!({}));
        assert!(found[0].contains("5 movers") && !found[0].contains("parallelVolumes"), "{found:?}");
    }

    #[test]
    fn a_quota_for_other_pods_is_no_concern() {
        let scoped = json!({"metadata": {"name": "q", "namespace": "cms"}, "spec": {"scopes": ["BestEffort"]},
                            "status": {"hard": {"pods": "0"}}});
        assert!(concerns("cms", &load(2, 2), &[scoped], &[], "here").is_empty());
    }

    #[test]
    fn bounds_that_a_mover_is_outside_of_are_named() {
        let range = |limit: Value| json!({"metadata": {"name": "lr"}, "spec": {"limits": [limit]}});
        let found = |limit: Value| -> Vec<String> {
            let found = concerns("cms", &load(1, 1), &[], &[range(limit)], "the destination");
            found.into_iter().map(|concern| concern.finding.message).collect()
        };
        let max = found(json!({"type": "Container", "max": {"memory": "512Mi"}}));
        assert!(
            max[0].contains("at most 512Mi memory") && max[0].contains("spec.mover.resources"),
            "{max:?}"
        );
        assert_eq!(found(json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "4"}})).len(), 1);
        assert!(found(json!({"type": "Container", "max": {"memory": "2Gi"}})).is_empty());
    }
}
