//! Webhook configurations and APIServices: kept and checked, without effect. No webhook is called, and
//! no API is proxied.

use serde_json::{Value, json};

use crate::apiserver::error::FieldError;
use crate::apiserver::json::{at, default, list, name, number, text};

const PORT: i64 = 443;
/// APIServices may claim less than these.
const GROUP_PRIORITIES: i64 = 20_000;
const VERSION_PRIORITIES: i64 = 1_000;

/// Defaults of a webhook configuration.
pub fn default_webhooks(configuration: &mut Value, mutating: bool) {
    for webhook in configuration.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
        default(webhook, &["failurePolicy"], "Fail");
        default(webhook, &["matchPolicy"], "Equivalent");
        default(webhook, &["namespaceSelector"], json!({}));
        default(webhook, &["objectSelector"], json!({}));
        default(webhook, &["timeoutSeconds"], 10);
        if mutating {
            default(webhook, &["reinvocationPolicy"], "Never");
        }
        if at(webhook, &["clientConfig", "service"]).is_object() {
            default(webhook, &["clientConfig", "service", "port"], PORT);
        }
        for rule in webhook.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten() {
            default(rule, &["scope"], "*");
        }
    }
}

/// What is wrong with a webhook configuration.
pub fn validate_webhooks(configuration: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, webhook) in list(configuration, &["webhooks"]).iter().enumerate() {
        let field = |name: &str| format!("webhooks[{index}].{name}");
        if text(webhook, &["name"]).split('.').filter(|segment| !segment.is_empty()).count() < 3 {
            let why = "should be a domain with at least three segments separated by dots";
            errors.push(FieldError::invalid(field("name"), at(webhook, &["name"]), why));
        }
        match text(webhook, &["sideEffects"]) {
            "" => errors
                .push(FieldError::required(field("sideEffects"), "must specify one of None, NoneOnDryRun")),
            "None" | "NoneOnDryRun" => {}
            _ => errors.push(FieldError::unsupported(
                field("sideEffects"),
                &webhook["sideEffects"],
                &["None", "NoneOnDryRun"].map(str::to_owned),
            )),
        }
        let client = &webhook["clientConfig"];
        if client["url"].is_string() == client["service"].is_object() {
            let why = "exactly one of url or service is required";
            errors.push(FieldError::required(field("clientConfig"), why));
        }
        if list(webhook, &["admissionReviewVersions"]).is_empty() {
            let why = "must specify one of v1, v1beta1";
            errors.push(FieldError::required(field("admissionReviewVersions"), why));
        }
    }
    errors
}

/// Defaults of an APIService.
pub fn default_api_service(service: &mut Value) {
    if at(service, &["spec", "service"]).is_object() {
        default(service, &["spec", "service", "port"], PORT);
    }
}

/// What is wrong with an APIService.
pub fn validate_api_service(service: &Value) -> Vec<FieldError> {
    let spec = &service["spec"];
    let mut errors = Vec::new();
    let wanted = format!("{}.{}", text(spec, &["version"]), text(spec, &["group"]));
    let core = text(spec, &["group"]).is_empty() && name(service) == "v1.";
    if name(service) != wanted && !core {
        let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        errors.push(FieldError::invalid("metadata.name", &json!(name(service)), &why));
    }
    for (field, below) in
        [("groupPriorityMinimum", GROUP_PRIORITIES), ("versionPriority", VERSION_PRIORITIES)]
    {
        let given = number(spec, &[field]).unwrap_or(0);
        if given <= 0 || given > below {
            let why = format!("must be positive and less than {below}");
            errors.push(FieldError::invalid(format!("spec.{field}"), &json!(given), &why));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_gets_the_defaults_of_the_real_server() {
        let mut configuration = json!({"webhooks": [{"name": "a.b.c",
            "clientConfig": {"service": {"name": "s", "namespace": "n"}}, "rules": [{"operations": ["CREATE"]}]}]});
        default_webhooks(&mut configuration, true);
        let webhook = &configuration["webhooks"][0];
        assert_eq!(
            (
                &webhook["failurePolicy"],
                &webhook["timeoutSeconds"],
                &webhook["clientConfig"]["service"]["port"]
            ),
            (&json!("Fail"), &json!(10), &json!(443))
        );
        assert_eq!(
            (&webhook["rules"][0]["scope"], &webhook["reinvocationPolicy"]),
            (&json!("*"), &json!("Never"))
        );
    }

    #[test]
    fn an_api_service_is_named_after_what_it_serves() {
        let service = |name: &str| {
            json!({"metadata": {"name": name}, "spec": {"group": "g.example.com", "version": "v1",
                "groupPriorityMinimum": 100, "versionPriority": 10}})
        };
        assert!(validate_api_service(&service("v1.g.example.com")).is_empty());
        assert_eq!(validate_api_service(&service("other")).len(), 1);
    }
}
