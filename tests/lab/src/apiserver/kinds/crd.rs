//! CustomResourceDefinitions: what makes one acceptable. What they serve is the registry's.

use serde_json::{Value, json};

use super::{names, unchanged};
use crate::apiserver::error::FieldError;
use crate::apiserver::json::{at, default, list, now, set, text};
use crate::apiserver::schema::custom;

/// Defaults of a definition.
pub fn set_defaults(definition: &mut Value) {
    if !definition["spec"].is_object() {
        return;
    }
    let kind = text(definition, &["spec", "names", "kind"]).to_owned();
    let conversion = json!({"strategy": "None"});
    let spec = &mut definition["spec"];
    default(spec, &["conversion"], conversion);
    default(spec, &["names", "singular"], kind.to_lowercase());
    default(spec, &["names", "listKind"], format!("{kind}List"));
}

/// What the server sets on a new definition: its names are accepted and it is served at once.
pub fn begin(definition: &mut Value) {
    let now = now();
    let stored: Vec<Value> = list(definition, &["spec", "versions"])
        .iter()
        .filter(|v| v["storage"] == Value::Bool(true))
        .map(|v| v["name"].clone())
        .collect();
    let names = definition["spec"]["names"].clone();
    set(
        definition,
        &["status"],
        json!({
            "acceptedNames": names,
            "conditions": [
                {"type": "NamesAccepted", "status": "True", "lastTransitionTime": now, "reason": "NoConflicts", "message": "no conflicts found"},
                {"type": "Established", "status": "True", "lastTransitionTime": now, "reason": "InitialNamesAccepted", "message": "the initial names have been accepted"},
            ],
            "storedVersions": stored,
        }),
    );
}

/// Keeps the record of versions that objects may be stored at.
pub fn keep(old: &Value, new: &mut Value) {
    let mut stored = list(old, &["status", "storedVersions"]).to_vec();
    for version in list(new, &["spec", "versions"]).iter().filter(|v| v["storage"] == Value::Bool(true)) {
        if !stored.contains(&version["name"]) {
            stored.push(version["name"].clone());
        }
    }
    set(new, &["status", "storedVersions"], stored);
    set(new, &["status", "acceptedNames"], new["spec"]["names"].clone());
}

/// What is wrong with a definition.
pub fn validate(definition: &Value) -> Vec<FieldError> {
    let spec = &definition["spec"];
    let mut errors = Vec::new();
    let (group, plural) = (text(spec, &["group"]), text(spec, &["names", "plural"]));
    for (field, value) in
        [("group", group), ("names.plural", plural), ("names.kind", text(spec, &["names", "kind"]))]
    {
        if value.is_empty() {
            errors.push(FieldError::required(format!("spec.{field}"), ""));
        }
    }
    if !group.is_empty() && !group.contains('.') {
        errors.push(FieldError::invalid(
            "spec.group",
            &json!(group),
            "should be a domain with at least one dot",
        ));
    } else if let Some(problem) = names::subdomain_problem(group).filter(|_| !group.is_empty()) {
        errors.push(FieldError::invalid("spec.group", &json!(group), &problem));
    }
    let name = crate::apiserver::json::name(definition);
    if name != format!("{plural}.{group}") {
        errors.push(FieldError::invalid(
            "metadata.name",
            &json!(name),
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    let scope = at(spec, &["scope"]);
    let scopes = ["Cluster", "Namespaced"].map(str::to_owned);
    if !scope.as_str().is_some_and(|s| scopes.iter().any(|x| x == s)) {
        errors.push(FieldError::unsupported("spec.scope", scope, &scopes));
    }
    let versions = list(spec, &["versions"]);
    let preserves = at(spec, &["preserveUnknownFields"]);
    if preserves == &Value::Bool(true) {
        errors.push(FieldError::invalid(
            "spec.preserveUnknownFields",
            preserves,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ));
    }
    if versions.iter().filter(|v| v["storage"] == Value::Bool(true)).count() != 1 {
        errors.push(FieldError::invalid(
            "spec.versions",
            at(spec, &["versions"]),
            "must have exactly one version marked as storage version",
        ));
    }
    let group_reserved = group.ends_with(".k8s.io") || group.ends_with(".kubernetes.io");
    if group_reserved && at(definition, &["metadata", "annotations", "api-approved.kubernetes.io"]).is_null()
    {
        errors.push(FieldError::required(
            "metadata.annotations[api-approved.kubernetes.io]",
            "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
        ));
    }
    for (index, version) in versions.iter().enumerate() {
        let field = format!("spec.versions[{index}].schema.openAPIV3Schema");
        let schema = at(version, &["schema", "openAPIV3Schema"]);
        if schema.is_null() {
            errors.push(FieldError::required(field, "schemas are required"));
            continue;
        }
        if text(schema, &["type"]) != "object" {
            errors.push(FieldError::invalid(
                format!("{field}.type"),
                at(schema, &["type"]),
                "must be object at the root",
            ));
        }
        custom::read(schema, &field, &mut errors);
    }
    if text(spec, &["conversion", "strategy"]) == "Webhook" && at(spec, &["conversion", "webhook"]).is_null()
    {
        errors.push(FieldError::required(
            "spec.conversion.webhook",
            "required when strategy is set to Webhook",
        ));
    }
    errors
}

/// What of a definition may not change.
pub fn validate_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = unchanged(old, new, &["spec", "group"], "field is immutable");
    errors.extend(unchanged(old, new, &["spec", "scope"], "field is immutable"));
    errors.extend(unchanged(old, new, &["spec", "names", "kind"], "field is immutable"));
    errors.extend(unchanged(old, new, &["spec", "names", "plural"], "field is immutable"));
    errors
}
