//! Config maps and secrets.

use base64::Engine;
use serde_json::{Value, json};

use crate::apiserver::error::FieldError;
use crate::apiserver::json::{at, default, object, place, remove, text};

/// The most bytes that the data of one object may take.
const MAX_SIZE: usize = 1024 * 1024;
const KEY: &str = r"a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

/// Turns `stringData` into `data` and names the type.
pub fn default_secret(secret: &mut Value) {
    if let Some(Value::Object(plain)) = remove(secret, &["stringData"]) {
        let data = object(place(secret, &["data"]));
        for (key, value) in plain {
            let encoded = base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or(""));
            data.insert(key, json!(encoded));
        }
    }
    default(secret, &["type"], "Opaque");
}

/// What is wrong with a config map or a secret.
pub fn validate(config: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let secret = text(config, &["kind"]) == "Secret";
    let mut size = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in at(config, &[field]).as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or("");
            let valid = !key.is_empty()
                && key.len() <= 253
                && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
            if !valid || key == "." || key == ".." {
                errors.push(FieldError::invalid(format!("{field}[{key}]"), &json!(key), KEY));
            }
            let encoded = secret || field == "binaryData";
            size += if encoded { value.trim_end_matches('=').len() * 3 / 4 } else { value.len() };
        }
    }
    for key in at(config, &["binaryData"]).as_object().into_iter().flatten().map(|(key, _)| key) {
        if config["data"].get(key).is_some() {
            let why = "duplicate of key present in binaryData";
            errors.push(FieldError::invalid(format!("data[{key}]"), &json!(key), why));
        }
    }
    if size > MAX_SIZE {
        errors.push(FieldError::too_long(if secret { "data" } else { "[]" }, MAX_SIZE as u64));
    }
    if secret {
        let needs: &[&str] = match text(config, &["type"]) {
            "kubernetes.io/tls" => &["tls.crt", "tls.key"],
            "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
            "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
            _ => &[],
        };
        for key in needs {
            if config["data"].get(*key).is_none() {
                errors.push(FieldError::required(format!("data[{key}]"), ""));
            }
        }
        if text(config, &["type"]) == "kubernetes.io/service-account-token"
            && at(config, &["metadata", "annotations", "kubernetes.io/service-account.name"]).is_null()
        {
            errors.push(FieldError::required("metadata.annotations[kubernetes.io/service-account.name]", ""));
        }
    }
    errors
}

/// The bytes of a secret that are not base64, as a decoding error.
pub fn undecodable(config: &Value) -> Option<String> {
    let field = if text(config, &["kind"]) == "Secret" { "data" } else { "binaryData" };
    at(config, &[field]).as_object()?.values().filter_map(Value::as_str).find_map(|value| {
        let compact: String = value.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
        match base64::engine::general_purpose::STANDARD.decode(compact) {
            Ok(_) => None,
            Err(base64::DecodeError::InvalidByte(offset, _)) => {
                Some(format!("illegal base64 data at input byte {offset}"))
            }
            Err(_) => Some(format!("illegal base64 data at input byte {}", value.len().saturating_sub(1))),
        }
    })
}

/// What may not change.
pub fn validate_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if text(old, &["kind"]) == "Secret" && old["type"] != new["type"] {
        errors.push(FieldError::invalid("type", &new["type"], "field is immutable"));
    }
    if old["immutable"] == Value::Bool(true) {
        let frozen = "field is immutable when `immutable` is set";
        if new["immutable"] != Value::Bool(true) {
            errors.push(FieldError::forbidden("immutable", frozen));
        }
        for field in ["data", "binaryData"] {
            if old[field] != new[field] {
                errors.push(FieldError::forbidden(field, frozen));
            }
        }
    }
    errors
}
