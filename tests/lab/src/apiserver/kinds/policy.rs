//! RBAC objects, autoscalers and limit ranges.

use serde_json::{Value, json};

use crate::apiserver::error::FieldError;
use crate::apiserver::json::{at, default, list, place, remove, set, text};

const RBAC: &str = "rbac.authorization.k8s.io";

/// Defaults of a role binding.
pub fn default_binding(binding: &mut Value) {
    if binding["roleRef"].is_object() && text(binding, &["roleRef", "apiGroup"]).is_empty() {
        set(binding, &["roleRef", "apiGroup"], RBAC);
    }
    for subject in binding.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
        if matches!(text(subject, &["kind"]), "User" | "Group") && text(subject, &["apiGroup"]).is_empty() {
            set(subject, &["apiGroup"], RBAC);
        }
    }
}

/// What is wrong with an RBAC object.
pub fn validate_rbac(kind: &str, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if kind.ends_with("Binding") {
        if text(object, &["roleRef", "name"]).is_empty() {
            errors.push(FieldError::required("roleRef.name", ""));
        }
        let kinds: &[&str] = if kind == "RoleBinding" { &["ClusterRole", "Role"] } else { &["ClusterRole"] };
        let role = at(object, &["roleRef", "kind"]);
        if !role.as_str().is_some_and(|k| kinds.contains(&k)) {
            let supported: Vec<String> = kinds.iter().map(|k| (*k).to_owned()).collect();
            errors.push(FieldError::unsupported("roleRef.kind", role, &supported));
        }
        for (index, subject) in list(object, &["subjects"]).iter().enumerate() {
            if text(subject, &["name"]).is_empty() {
                errors.push(FieldError::required(format!("subjects[{index}].name"), ""));
            }
            let subjects = ["ServiceAccount", "User", "Group"].map(str::to_owned);
            if !subjects.iter().any(|kind| kind == text(subject, &["kind"])) {
                let field = format!("subjects[{index}].kind");
                errors.push(FieldError::unsupported(field, at(subject, &["kind"]), &subjects));
            }
            if text(subject, &["kind"]) == "ServiceAccount"
                && text(subject, &["namespace"]).is_empty()
                && kind == "ClusterRoleBinding"
            {
                errors.push(FieldError::required(format!("subjects[{index}].namespace"), ""));
            }
        }
        return errors;
    }
    for (index, rule) in list(object, &["rules"]).iter().enumerate() {
        if list(rule, &["verbs"]).is_empty() {
            errors.push(FieldError::required(
                format!("rules[{index}].verbs"),
                "verbs must contain at least one value",
            ));
        }
        if list(rule, &["nonResourceURLs"]).is_empty() {
            if list(rule, &["apiGroups"]).is_empty() {
                errors.push(FieldError::required(
                    format!("rules[{index}].apiGroups"),
                    "resource rules must supply at least one api group",
                ));
            }
            if list(rule, &["resources"]).is_empty() {
                errors.push(FieldError::required(
                    format!("rules[{index}].resources"),
                    "resource rules must supply at least one resource",
                ));
            }
        } else if kind == "Role" {
            errors.push(FieldError::invalid(
                format!("rules[{index}].nonResourceURLs"),
                at(rule, &["nonResourceURLs"]),
                "namespaced rules cannot apply to non-resource URLs",
            ));
        }
    }
    errors
}

/// What is wrong with a disruption budget.
pub fn validate_budget(budget: &Value) -> Vec<FieldError> {
    let spec = &budget["spec"];
    if spec["minAvailable"].is_null() || spec["maxUnavailable"].is_null() {
        return Vec::new();
    }
    let why = "minAvailable and maxUnavailable cannot be both set";
    vec![FieldError::invalid("spec", spec, why)]
}

/// Defaults of an autoscaler, at either version.
pub fn default_autoscaler(autoscaler: &mut Value) {
    if !autoscaler["spec"].is_object() {
        return;
    }
    default(autoscaler, &["spec", "minReplicas"], 1);
    let others = at(autoscaler, &["metadata", "annotations", "autoscaling.alpha.kubernetes.io/metrics"]);
    if text(autoscaler, &["apiVersion"]) == "autoscaling/v1" && others.is_null() {
        default(autoscaler, &["spec", "targetCPUUtilizationPercentage"], 80);
    }
    if at(autoscaler, &["spec", "behavior"]).is_object() {
        default_behavior(autoscaler);
    }
    if text(autoscaler, &["apiVersion"]) == "autoscaling/v2"
        && list(autoscaler, &["spec", "metrics"]).is_empty()
    {
        let cpu = json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
        set(autoscaler, &["spec", "metrics"], cpu);
    }
}

/// How an autoscaler scales, where that is not said. Rules are whole: one that is given is not added to.
fn default_behavior(autoscaler: &mut Value) {
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    for (direction, policies) in [("scaleUp", json!([pods, percent])), ("scaleDown", json!([percent]))] {
        let path = ["spec", "behavior", direction];
        default(autoscaler, &[path[0], path[1], path[2], "policies"], policies);
        default(autoscaler, &[path[0], path[1], path[2], "selectPolicy"], "Max");
    }
    default(autoscaler, &["spec", "behavior", "scaleUp", "stabilizationWindowSeconds"], 0);
}

/// What is wrong with an autoscaler.
pub fn validate_autoscaler(autoscaler: &Value) -> Vec<FieldError> {
    let spec = &autoscaler["spec"];
    let mut errors = Vec::new();
    let most = spec["maxReplicas"].as_i64().unwrap_or(0);
    if most < 1 {
        errors.push(FieldError::required("spec.maxReplicas", "must be set and greater than 0"));
    }
    if spec["minReplicas"].as_i64().is_some_and(|least| least > most) {
        errors.push(FieldError::invalid(
            "spec.maxReplicas",
            &json!(most),
            "must be greater than or equal to `minReplicas`",
        ));
    }
    for field in ["kind", "name"] {
        if text(spec, &["scaleTargetRef", field]).is_empty() {
            errors.push(FieldError::required(format!("spec.scaleTargetRef.{field}"), ""));
        }
    }
    errors
}

/// Turns an autoscaler from one version into another: the cpu target of v1 is a metric of v2.
pub fn convert_autoscaler(autoscaler: &mut Value, to: &str) {
    const REST: &str = "autoscaling.alpha.kubernetes.io/metrics";
    let from = text(autoscaler, &["apiVersion"]).to_owned();
    if from == to {
        return;
    }
    set(autoscaler, &["apiVersion"], to);
    if to == "autoscaling/v2" {
        let mut metrics = Vec::new();
        if let Some(percent) = remove(autoscaler, &["spec", "targetCPUUtilizationPercentage"]) {
            metrics.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}}));
        }
        let others = remove(autoscaler, &["metadata", "annotations", REST]);
        let parsed =
            others.as_ref().and_then(Value::as_str).and_then(|t| serde_json::from_str::<Vec<Value>>(t).ok());
        metrics.extend(parsed.unwrap_or_default());
        if !metrics.is_empty() {
            set(autoscaler, &["spec", "metrics"], metrics);
        }
        return;
    }
    let metrics =
        remove(autoscaler, &["spec", "metrics"]).and_then(|m| m.as_array().cloned()).unwrap_or_default();
    let is_cpu = |metric: &Value| {
        text(metric, &["resource", "name"]) == "cpu"
            && at(metric, &["resource", "target", "averageUtilization"]).is_number()
    };
    let cpu = metrics
        .iter()
        .find(|m| is_cpu(m))
        .map(|m| at(m, &["resource", "target", "averageUtilization"]).clone());
    let others: Vec<&Value> = metrics.iter().filter(|m| !is_cpu(m)).collect();
    if let Some(cpu) = cpu {
        set(autoscaler, &["spec", "targetCPUUtilizationPercentage"], cpu);
    }
    if !others.is_empty() {
        set(autoscaler, &["metadata", "annotations", REST], json!(others).to_string());
    }
    remove(autoscaler, &["spec", "behavior"]);
    remove(autoscaler, &["status", "currentMetrics"]);
    remove(autoscaler, &["status", "conditions"]);
    default(autoscaler, &["status", "currentReplicas"], 0);
    default(autoscaler, &["status", "desiredReplicas"], 0);
}

/// Defaults of a limit range: what a limit says, its default and its request say too.
pub fn default_limit_range(range: &mut Value) {
    for item in range.pointer_mut("/spec/limits").and_then(Value::as_array_mut).into_iter().flatten() {
        if text(item, &["type"]) != "Container" {
            continue;
        }
        for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
            let given = at(item, &[from]).clone();
            for (resource, amount) in given.as_object().into_iter().flatten() {
                let here = place(item, &[to, resource]);
                if here.is_null() {
                    *here = amount.clone();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_target_goes_from_version_to_version_and_back() {
        let first = json!({"apiVersion": "autoscaling/v1", "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 70}});
        let mut autoscaler = first.clone();
        convert_autoscaler(&mut autoscaler, "autoscaling/v2");
        assert_eq!(autoscaler["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 70);
        convert_autoscaler(&mut autoscaler, "autoscaling/v1");
        assert_eq!(autoscaler["spec"], first["spec"]);
    }
}
