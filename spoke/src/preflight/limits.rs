//! LimitRanges: whether a namespace's bounds refuse what the run brings. Pure.

use isthmus_shared::quantity::Amount;
use serde_json::Value;

use super::pod_shape::{Amounts, ContainerShape, PodShape, amounts};
use crate::cluster::{array, name, text};

/// The bounds of one LimitRange for one type.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// The LimitRange.
    pub range: String,
    /// `Container`, `Pod`, `PersistentVolumeClaim`.
    pub of: String,
    max: Amounts,
    min: Amounts,
    ratio: Amounts,
    default_limits: Amounts,
    default_requests: Amounts,
}

/// The bounds that a LimitRange sets.
pub fn bounds(range: &Value) -> Vec<Bounds> {
    array(range, "/spec/limits")
        .iter()
        .map(|limit| Bounds {
            range: name(range).to_owned(),
            of: text(limit, "/type").to_owned(),
            max: amounts(limit.get("max")),
            min: amounts(limit.get("min")),
            ratio: amounts(limit.get("maxLimitRequestRatio")),
            default_limits: amounts(limit.get("default")),
            default_requests: amounts(limit.get("defaultRequest")),
        })
        .collect()
}

/// The Pod with the defaults of a namespace.
pub fn with_defaults(shape: PodShape, all: &[Bounds]) -> PodShape {
    let containers = all.iter().filter(|bounds| bounds.of == "Container");
    containers
        .fold(shape, |shape, bounds| shape.with_defaults(&bounds.default_requests, &bounds.default_limits))
}

/// What a namespace's bounds have against a Pod, its defaults given.
pub fn against_pod(shape: &PodShape, all: &[Bounds]) -> Vec<String> {
    let mut refusals = Vec::new();
    for bounds in all {
        match bounds.of.as_str() {
            "Container" => {
                for container in &shape.containers {
                    let whose = format!("container {}", container.name);
                    bounds.judge(&whose, &container.requests, &container.limits, &mut refusals);
                }
            }
            "Pod" => {
                let sums = |of: fn(&ContainerShape) -> &Amounts| -> Amounts {
                    let resources = bounds.max.keys().chain(bounds.min.keys()).chain(bounds.ratio.keys());
                    resources
                        .map(|resource| (resource.clone(), shape.total(resource, of)))
                        .filter(|(_, amount)| *amount > Amount::ZERO)
                        .collect()
                };
                bounds.judge("the Pod", &sums(|c| &c.requests), &sums(|c| &c.limits), &mut refusals);
            }
            _ => {}
        }
    }
    refusals
}

/// What a namespace's bounds have against a claim.
pub fn against_claim(claim: &Value, all: &[Bounds]) -> Vec<String> {
    let requests = amounts(claim.pointer("/spec/resources/requests"));
    let mut refusals = Vec::new();
    for bounds in all.iter().filter(|bounds| bounds.of == "PersistentVolumeClaim") {
        // A claim has requests only, and both bounds are for them.
        bounds.judge("the claim", &requests, &requests, &mut refusals);
    }
    refusals
}

impl Bounds {
    fn judge(&self, whose: &str, requests: &Amounts, limits: &Amounts, refusals: &mut Vec<String>) {
        let range = &self.range;
        for (resource, min) in &self.min {
            match requests.get(resource) {
                Some(request) if request < min => refusals.push(format!(
                    "LimitRange {range} asks for at least {min} {resource}, and {whose} requests {request}"
                )),
                None => refusals.push(format!(
                    "LimitRange {range} asks for at least {min} {resource}, and {whose} requests none"
                )),
                Some(_) => {}
            }
        }
        for (resource, max) in &self.max {
            match limits.get(resource) {
                Some(limit) if limit > max => refusals.push(format!(
                    "LimitRange {range} allows at most {max} {resource}, and {whose} may take {limit}"
                )),
                None => refusals.push(format!(
                    "LimitRange {range} allows at most {max} {resource}, and {whose} has no limit"
                )),
                Some(_) => match requests.get(resource) {
                    Some(request) if request > max => refusals.push(format!(
                        "LimitRange {range} allows at most {max} {resource}, and {whose} requests {request}"
                    )),
                    _ => {}
                },
            }
        }
        for (resource, ratio) in &self.ratio {
            if let (Some(request), Some(limit)) = (requests.get(resource), limits.get(resource))
                && limit.thousandths().saturating_mul(1000)
                    > request.thousandths().saturating_mul(ratio.thousandths())
            {
                refusals.push(format!(
                    "LimitRange {range} allows {resource} limits of at most {ratio} times the request, and {whose} has \
                     {limit} over {request}"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn range(of: &str, limit: Value) -> Vec<Bounds> {
        let mut limit = limit;
        limit["type"] = json!(of);
        bounds(&json!({"metadata": {"name": "lr"}, "spec": {"limits": [limit]}}))
    }

    fn pod(resources: &Value) -> PodShape {
        PodShape::of(&json!({"spec": {"containers": [{"name": "web", "resources": resources}]}}))
    }

    #[test]
    fn what_is_outside_the_bounds_is_named_with_both_amounts() {
        let all = range("Container", json!({"max": {"cpu": "1"}, "min": {"memory": "64Mi"}}));
        let found = against_pod(
            &pod(&json!({"requests": {"cpu": "500m", "memory": "32Mi"}, "limits": {"cpu": "2"}})),
            &all,
        );
        assert_eq!(
            found,
            [
                "LimitRange lr asks for at least 64Mi memory, and container web requests 32Mi",
                "LimitRange lr allows at most 1 cpu, and container web may take 2"
            ]
        );
        let good = json!({"requests": {"cpu": "500m", "memory": "64Mi"}, "limits": {"cpu": "1"}});
        assert!(against_pod(&pod(&good), &all).is_empty());
    }

    #[test]
    fn what_is_not_said_is_refused_unless_there_is_a_default() {
        let all = range(
            "Container",
            json!({"max": {"cpu": "1"}, "default": {"cpu": "1"}, "defaultRequest": {"cpu": "100m"}}),
        );
        assert_eq!(against_pod(&pod(&json!({})), &all).len(), 1);
        assert!(against_pod(&with_defaults(pod(&json!({})), &all), &all).is_empty());
    }

    #[test]
    fn pods_claims_and_ratios_have_bounds_too() {
        let whole = range("Pod", json!({"max": {"memory": "1Gi"}}));
        let two = PodShape::of(&json!({"spec": {"containers": [
            {"name": "a", "resources": {"limits": {"memory": "600Mi"}}},
            {"name": "b", "resources": {"limits": {"memory": "600Mi"}}}]}}));
        assert_eq!(against_pod(&two, &whole).len(), 1);
        let ratio = range("Container", json!({"maxLimitRequestRatio": {"cpu": "2"}}));
        assert_eq!(
            against_pod(&pod(&json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "300m"}})), &ratio).len(),
            1
        );
        assert!(
            against_pod(&pod(&json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}})), &ratio)
                .is_empty()
        );
        let claims = range("PersistentVolumeClaim", json!({"max": {"storage": "5Gi"}}));
        let claim = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
        assert_eq!(against_claim(&claim("6Gi"), &claims).len(), 1);
        assert!(against_claim(&claim("5Gi"), &claims).is_empty());
    }
}
