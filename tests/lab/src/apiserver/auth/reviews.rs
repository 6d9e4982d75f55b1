//! TokenReview, SubjectAccessReview and their kin: answered, never stored.

use serde_json::{Value, json};

use super::rbac;
use super::tokens::{ISSUER, Tokens};
use super::{Attributes, Identity};
use crate::apiserver::error::{ApiError, ApiResult};
use crate::apiserver::json::{at, list, text};
use crate::apiserver::store::Store;

fn strings(value: &Value, path: &[&str]) -> Vec<String> {
    list(value, path).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Answers a review of that kind.
pub fn answer(
    kind: &str,
    mut review: Value,
    asker: &Identity,
    namespace: &str,
    tokens: &Tokens,
    store: &Store,
) -> ApiResult<Value> {
    let status = match kind {
        "TokenReview" => token(&review, tokens, store),
        "SelfSubjectReview" => json!({"userInfo": asker.user_info()}),
        "SelfSubjectAccessReview" => access(&review, asker, store)?,
        "SelfSubjectRulesReview" => rules(&review, asker, store),
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            if kind.starts_with("Local")
                && text(&review, &["spec", "resourceAttributes", "namespace"]) != namespace
            {
                return Err(ApiError::bad_request(format!(
                    "spec.resourceAttributes.namespace must match namespace: {namespace}"
                )));
            }
            let spec = &review["spec"];
            let identity = Identity {
                user: text(spec, &["user"]).to_owned(),
                uid: text(spec, &["uid"]).to_owned(),
                groups: strings(spec, &["groups"]),
                ..Identity::default()
            };
            if identity.user.is_empty() && identity.groups.is_empty() {
                let error = crate::apiserver::error::FieldError::invalid(
                    "spec.user",
                    &json!(""),
                    "at least one of user or group must be specified",
                );
                return Err(ApiError::invalid("authorization.k8s.io", kind, "", &[error]));
            }
            access(&review, &identity, store)?
        }
        other => return Err(ApiError::bad_request(format!("{other} is no review that this server answers"))),
    };
    review["status"] = status;
    Ok(review)
}

fn token(review: &Value, tokens: &Tokens, store: &Store) -> Value {
    let audiences = strings(review, &["spec", "audiences"]);
    match tokens.identify(text(review, &["spec", "token"]), &audiences, store) {
        Some((identity, good)) => {
            let mut status = json!({"authenticated": true, "user": identity.user_info()});
            status["audiences"] = if audiences.is_empty() { json!([ISSUER]) } else { json!(good) };
            status
        }
        None => json!({
            "authenticated": false,
            "user": {},
            "error": "[invalid bearer token, service account token has been invalidated or has another audience]",
        }),
    }
}

fn access(review: &Value, identity: &Identity, store: &Store) -> ApiResult<Value> {
    let resource = at(review, &["spec", "resourceAttributes"]);
    let path = at(review, &["spec", "nonResourceAttributes"]);
    if resource.is_object() == path.is_object() {
        return Err(ApiError::bad_request(
            "exactly one of spec.nonResourceAttributes or spec.resourceAttributes must be specified",
        ));
    }
    let of = |key: &str| text(resource, &[key]).to_owned();
    let asked = if resource.is_object() {
        Attributes {
            verb: of("verb"),
            group: of("group"),
            resource: of("resource"),
            subresource: of("subresource"),
            namespace: of("namespace"),
            name: of("name"),
            path: String::new(),
        }
    } else {
        Attributes {
            verb: text(path, &["verb"]).to_owned(),
            path: text(path, &["path"]).to_owned(),
            ..Attributes::default()
        }
    };
    Ok(match rbac::allows(store, identity, &asked) {
        Some(why) if why.is_empty() => json!({"allowed": true}),
        Some(why) => json!({"allowed": true, "reason": why}),
        None => json!({"allowed": false}),
    })
}

fn rules(review: &Value, asker: &Identity, store: &Store) -> Value {
    let namespace = text(review, &["spec", "namespace"]);
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    if asker.groups.iter().any(|group| group == super::MASTERS) {
        resources.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        paths.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    for (_, rule) in rbac::rules_for(store, asker, namespace) {
        if rule.get("resources").is_some() {
            resources.push(rule);
        } else {
            paths.push(rule);
        }
    }
    json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
}
