//! The metadata rules that all objects obey.

use serde_json::{Value, json};

use crate::apiserver::error::FieldError;
use crate::apiserver::json::{at, list, text};
use crate::apiserver::registry::Resource;

/// The most bytes that annotations may take together.
const MAX_ANNOTATIONS: usize = 256 * 1024;
const SUBDOMAIN: &str = r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = r"a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED: &str = r"name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

fn lower(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// Whether the text is a DNS label.
pub fn is_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name.chars().all(|c| lower(c) || c == '-')
        && name.starts_with(lower)
        && name.ends_with(lower)
}

/// What is wrong with a DNS label, if anything.
pub fn label_problem(name: &str) -> Option<String> {
    if name.len() > 63 {
        return Some("must be no more than 63 characters".to_owned());
    }
    if name.contains('.') {
        return Some("must not contain dots".to_owned());
    }
    (!is_label(name)).then(|| LABEL.to_owned())
}

/// What is wrong with a DNS subdomain, if anything.
pub fn subdomain_problem(name: &str) -> Option<String> {
    if name.len() > 253 {
        return Some("must be no more than 253 characters".to_owned());
    }
    let part = |p: &str| {
        !p.is_empty() && p.chars().all(|c| lower(c) || c == '-') && p.starts_with(lower) && p.ends_with(lower)
    };
    (!name.split('.').all(part)).then(|| SUBDOMAIN.to_owned())
}

fn name_problem(resource: &Resource, name: &str) -> Option<String> {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Namespace") => label_problem(name),
        ("", "Service") => {
            if name.len() > 63 {
                return Some("must be no more than 63 characters".to_owned());
            }
            (!is_label(name) || !name.starts_with(|c: char| c.is_ascii_lowercase()))
                .then(|| LABEL_1035.to_owned())
        }
        ("rbac.authorization.k8s.io", _) => match name {
            "." | ".." => Some(format!("may not be '{name}'")),
            _ => name.chars().find(|c| matches!(c, '/' | '%')).map(|c| format!("may not contain '{c}'")),
        },
        _ => subdomain_problem(name),
    }
}

/// What is wrong with a key of labels or annotations.
fn key_problems(key: &str) -> Vec<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((_, rest)) if rest.contains('/') => {
            let part = QUALIFIED.replacen("name part", "a valid label key", 1);
            return vec![format!(
                "{part} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let mut problems = Vec::new();
    match prefix {
        Some("") => problems.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => problems.extend(subdomain_problem(prefix).map(|p| format!("prefix part {p}"))),
        None => {}
    }
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        problems.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_label_text(name) || name.is_empty() {
        problems.push(QUALIFIED.to_owned());
    }
    problems
}

fn is_qualified(key: &str) -> bool {
    key_problems(key).is_empty()
}

/// Whether the characters are those of a label's value.
fn is_label_text(value: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    value.is_empty()
        || (value.chars().all(|c| edge(c) || matches!(c, '-' | '_' | '.'))
            && value.starts_with(edge)
            && value.ends_with(edge))
}

/// What is wrong with an object's metadata.
pub fn validate(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let metadata = &object["metadata"];
    let name = text(metadata, &["name"]);
    let generate = text(metadata, &["generateName"]);
    // What the server appends makes up for a last character that no name may end with.
    let stem = generate.strip_suffix('-').map_or_else(|| generate.to_owned(), |stem| format!("{stem}a"));
    let stem: String = stem.chars().take(58).collect();
    if let Some(problem) = name_problem(resource, &stem).filter(|_| !generate.is_empty()) {
        errors.push(FieldError::invalid("metadata.generateName", &json!(generate), &problem));
    }
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else if let Some(problem) = name_problem(resource, name) {
        errors.push(FieldError::invalid("metadata.name", &json!(name), &problem));
    }
    errors.extend(labels(at(metadata, &["labels"]), "metadata.labels"));
    let mut size = 0;
    for (key, value) in at(metadata, &["annotations"]).as_object().into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        for problem in key_problems(&key.to_lowercase()) {
            errors.push(FieldError::invalid("metadata.annotations", &json!(key), &problem));
        }
    }
    if size > MAX_ANNOTATIONS {
        errors.push(FieldError::too_long("metadata.annotations", MAX_ANNOTATIONS as u64));
    }
    for finalizer in list(metadata, &["finalizers"]).iter().filter_map(Value::as_str) {
        if !is_qualified(finalizer) {
            errors.push(FieldError::invalid("metadata.finalizers", &json!(finalizer), QUALIFIED));
        } else if !finalizer.contains('/')
            && !matches!(finalizer, "orphan" | "foregroundDeletion" | "kubernetes")
            && !resource.is_custom()
            && resource.group != "apiextensions.k8s.io"
        {
            errors.push(FieldError::invalid(
                "metadata.finalizers[0]",
                &json!(finalizer),
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    let mut controllers = 0;
    for owner in list(metadata, &["ownerReferences"]) {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if text(owner, &[field]).is_empty() {
                let field = format!("metadata.ownerReferences.{field}");
                errors.push(FieldError::invalid(field, &json!(""), "must not be empty"));
            }
        }
        if owner["controller"] == Value::Bool(true) {
            controllers += 1;
        }
    }
    if controllers > 1 {
        errors.push(FieldError::invalid(
            "metadata.ownerReferences",
            at(metadata, &["ownerReferences"]),
            "Only one reference can have Controller set to true. Found more than one",
        ));
    }
    errors
}

/// What is wrong with the labels by which a namespace chooses how its pods are checked.
pub fn validate_namespace(namespace: &Value) -> Vec<FieldError> {
    let labels = at(namespace, &["metadata", "labels"]);
    let modes = ["enforce", "audit", "warn"].map(|mode| format!("pod-security.kubernetes.io/{mode}"));
    modes
        .iter()
        .filter_map(|label| {
            let level = labels.get(label)?;
            let known = level.as_str().is_some_and(|l| matches!(l, "privileged" | "baseline" | "restricted"));
            let why = "must be one of privileged, baseline, restricted";
            (!known).then(|| FieldError::invalid(format!("metadata.labels[{label}]"), level, why))
        })
        .collect()
}

/// What is wrong with a map of labels.
pub fn labels(labels: &Value, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels.as_object().into_iter().flatten() {
        for problem in key_problems(key) {
            errors.push(FieldError::invalid(field, &json!(key), &problem));
        }
        if value.as_str().is_some_and(|v| v.len() > 63) {
            errors.push(FieldError::invalid(field, value, "must be no more than 63 bytes"));
        }
        if !value.as_str().is_some_and(is_label_text) {
            errors.push(FieldError::invalid(field, value, LABEL_VALUE));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_names() {
        assert!(subdomain_problem("a.b-c.d").is_none());
        assert!(subdomain_problem("A").is_some());
        assert!(subdomain_problem("a..b").is_some());
        assert!(is_label("a-1"));
        assert!(!is_label("-a"));
        assert!(is_qualified("app.kubernetes.io/name"));
        assert!(!is_qualified("a/b/c"));
    }
}
