//! Endpoints, ingresses and network policies.

use serde_json::{Value, json};

use crate::apiserver::error::FieldError;
use crate::apiserver::json::{at, default, list, text};

/// Defaults of endpoints.
pub fn default_endpoints(endpoints: &mut Value) {
    for subset in endpoints.get_mut("subsets").and_then(Value::as_array_mut).into_iter().flatten() {
        for port in subset.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            default(port, &["protocol"], "TCP");
        }
    }
}

/// Defaults of an endpoint slice.
pub fn default_slice(slice: &mut Value) {
    for port in slice.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        default(port, &["name"], "");
        default(port, &["protocol"], "TCP");
    }
}

/// Defaults of a network policy.
pub fn default_policy(policy: &mut Value) {
    if !policy["spec"].is_object() {
        return;
    }
    let egress = !list(policy, &["spec", "egress"]).is_empty();
    let types = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    default(policy, &["spec", "policyTypes"], types);
    for direction in ["ingress", "egress"] {
        for rule in policy["spec"].get_mut(direction).and_then(Value::as_array_mut).into_iter().flatten() {
            for port in rule.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                default(port, &["protocol"], "TCP");
            }
        }
    }
}

/// What is wrong with an ingress.
pub fn validate_ingress(ingress: &Value) -> Vec<FieldError> {
    let spec = &ingress["spec"];
    let mut errors = Vec::new();
    if list(spec, &["rules"]).is_empty() && spec["defaultBackend"].is_null() {
        errors.push(FieldError::invalid(
            "spec",
            &json!({}),
            "either `defaultBackend` or `rules` must be specified",
        ));
    }
    for (r, rule) in list(spec, &["rules"]).iter().enumerate() {
        let host = text(rule, &["host"]);
        let plain = host.strip_prefix("*.").unwrap_or(host);
        if let Some(why) = super::names::subdomain_problem(plain).filter(|_| !host.is_empty()) {
            errors.push(FieldError::invalid(format!("spec.rules[{r}].host"), &json!(host), &why));
        }
        for (p, path) in list(rule, &["http", "paths"]).iter().enumerate() {
            let field = format!("spec.rules[{r}].http.paths[{p}]");
            let kinds = ["Exact", "ImplementationSpecific", "Prefix"].map(str::to_owned);
            let kind = text(path, &["pathType"]);
            if kind.is_empty() {
                errors.push(FieldError::required(format!("{field}.pathType"), "pathType must be specified"));
            } else if !kinds.iter().any(|k| k == kind) {
                errors.push(FieldError::unsupported(format!("{field}.pathType"), &path["pathType"], &kinds));
            }
            if matches!(kind, "Exact" | "Prefix") && !text(path, &["path"]).starts_with('/') {
                errors.push(FieldError::invalid(
                    format!("{field}.path"),
                    &json!(text(path, &["path"])),
                    "must be an absolute path",
                ));
            }
            let service = at(path, &["backend", "service"]);
            if service.is_null() && at(path, &["backend", "resource"]).is_null() {
                errors.push(FieldError::required(
                    format!("{field}.backend"),
                    "cannot set both resource and service backends",
                ));
            } else if service.is_object() && service["port"].is_null() {
                errors.push(FieldError::required(
                    format!("{field}.backend"),
                    "port name or number is required",
                ));
            }
        }
    }
    errors
}
