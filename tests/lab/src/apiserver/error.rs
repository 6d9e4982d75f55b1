//! What the server refuses, in the API's own words: every failure is a `Status` object whose code,
//! reason, message and causes are those that clients match on.

use serde_json::{Value, json};

/// The result of everything that a request may be refused for.
pub type ApiResult<T> = Result<T, ApiError>;

/// A refusal, ready to be sent as a `Status`.
#[derive(Debug, Clone)]
pub struct ApiError(Box<Refusal>);

#[derive(Debug, Clone)]
struct Refusal {
    code: u16,
    reason: &'static str,
    message: String,
    details: Value,
    retry_after: Option<u64>,
    continue_token: Option<String>,
    /// A body that is no `Status`.
    plain: Option<&'static str>,
}

/// One wrong field of an object, as apimachinery's `field.Error`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    reason: &'static str,
    field: String,
    body: String,
}

/// Renders a value as validation messages show it: strings quoted, everything else as JSON.
fn shown(value: &Value) -> String {
    value.to_string()
}

impl FieldError {
    fn new(reason: &'static str, field: impl Into<String>, body: String) -> Self {
        Self { reason, field: field.into(), body }
    }

    /// A field that must be there is not.
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        let body =
            if detail.is_empty() { "Required value".to_owned() } else { format!("Required value: {detail}") };
        Self::new("FieldValueRequired", field, body)
    }

    /// A value that breaks a rule.
    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self::new("FieldValueInvalid", field, format!("Invalid value: {}: {detail}", shown(value)))
    }

    /// A value of the wrong JSON type.
    pub fn wrong_type(field: impl Into<String>, got: &str, want: &str) -> Self {
        let field = field.into();
        let body = format!("Invalid value: {got:?}: {field} in body must be of type {want}: {got:?}");
        Self::new("FieldValueTypeInvalid", field, body)
    }

    /// A value that may not be there, or may not change.
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self::new("FieldValueForbidden", field, format!("Forbidden: {detail}"))
    }

    /// A value outside an enumeration.
    pub fn unsupported(field: impl Into<String>, value: &Value, supported: &[String]) -> Self {
        let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        let body = format!("Unsupported value: {}: supported values: {}", shown(value), list.join(", "));
        Self::new("FieldValueNotSupported", field, body)
    }

    /// An entry that is there twice.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self::new("FieldValueDuplicate", field, format!("Duplicate value: {}", shown(value)))
    }

    /// A reference to something that is not there.
    pub fn not_found(field: impl Into<String>, value: &Value) -> Self {
        Self::new("FieldValueNotFound", field, format!("Not found: {}", shown(value)))
    }

    /// More entries than allowed.
    pub fn too_many(field: impl Into<String>, have: usize, most: u64) -> Self {
        Self::new("FieldValueTooMany", field, format!("Too many: {have}: must have at most {most} items"))
    }

    /// Text longer than allowed.
    pub fn too_long(field: impl Into<String>, most: u64) -> Self {
        Self::new("FieldValueTooLong", field, format!("Too long: may not be more than {most} bytes"))
    }

    /// The message with its field, as it stands in the summary.
    pub fn line(&self) -> String {
        format!("{}: {}", self.field, self.body)
    }

    fn cause(&self) -> Value {
        json!({"reason": self.reason, "message": self.body, "field": self.field})
    }
}

/// Kubernetes' name for a resource in messages: `deployments.apps`, or `pods` in the core group.
pub fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl ApiError {
    /// A refusal without details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Refusal {
            code,
            reason,
            message: message.into(),
            details: json!({}),
            retry_after: None,
            continue_token: None,
            plain: None,
        }))
    }

    fn with_details(mut self, details: Value) -> Self {
        self.0.details = details;
        self
    }

    /// 404 for an object.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} {name:?} not found", qualified(resource, group)))
            .with_details(object_details(group, resource, name))
    }

    /// 404 for a path or a resource that is not served.
    pub fn no_such_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// 409 for a name that is taken.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} {name:?} already exists", qualified(resource, group)))
            .with_details(object_details(group, resource, name))
    }

    /// 409 for a lost race or a failed precondition.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        Self::new(
            409,
            "Conflict",
            format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(resource, group)),
        )
        .with_details(object_details(group, resource, name))
    }

    /// 409 for a write that was computed from an older version.
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        Self::conflict(
            group,
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 409 for a server-side apply that meets other managers' fields; the pairs are (message, field).
    pub fn apply_conflict(message: String, causes: &[(String, String)]) -> Self {
        let causes: Vec<Value> = causes
            .iter()
            .map(|(message, field)| json!({"reason": "FieldManagerConflict", "message": message, "field": field}))
            .collect();
        Self::new(409, "Conflict", message).with_details(json!({ "causes": causes }))
    }

    /// 422 with a cause for each wrong field.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let lines: Vec<String> = errors.iter().map(FieldError::line).collect();
        let summary = match lines.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let causes: Vec<Value> = errors.iter().map(FieldError::cause).collect();
        Self::new(422, "Invalid", format!("{} {name:?} is invalid: {summary}", qualified(kind, group)))
            .with_details(invalid_details(group, kind, name, &causes))
    }

    /// 403 that an admission check gives for an object.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        Self::new(403, "Forbidden", format!("{} {name:?} is forbidden: {why}", qualified(resource, group)))
            .with_details(object_details(group, resource, name))
    }

    /// 403 for a create in a namespace that is being deleted.
    pub fn namespace_terminating(group: &str, resource: &str, name: &str, namespace: &str) -> Self {
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut error = Self::forbidden(group, resource, name, &why);
        error.0.details["causes"] = json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }]);
        error
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 410 for a resource version or a continue token that history no longer reaches.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// The same, with a token to go on with, at the price of consistency.
    pub fn with_continue(mut self, token: &str) -> Self {
        self.0.continue_token = Some(token.to_owned());
        self
    }

    /// 504 for a version that the server has not reached.
    pub fn too_new_version(wanted: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
        let causes = json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
        let mut error = Self::new(504, "Timeout", message)
            .with_details(json!({"causes": causes, "retryAfterSeconds": 1}));
        error.0.retry_after = Some(1);
        error
    }

    /// 404 for a group and version that nothing serves: no `Status`, as the real server's.
    pub fn no_such_page() -> Self {
        let mut error = Self::no_such_resource();
        error.0.plain = Some("404 page not found\n");
        error
    }

    /// 503 for an API that is registered and whose server cannot be reached.
    pub fn unavailable_page() -> Self {
        let mut error = Self::new(503, "ServiceUnavailable", "service unavailable");
        error.0.plain = Some("service unavailable\n");
        error
    }

    /// 429 of an overloaded server: no `Status`, as the real server's.
    pub fn overloaded(seconds: u64) -> Self {
        let text = "Too many requests, please try again later.\n";
        let mut error = Self::too_many_requests(text.trim_end(), seconds);
        error.0.plain = Some(text);
        error
    }

    /// 500 for an object that the store does not take.
    pub fn too_large_to_store(bytes: usize) -> Self {
        /// A message of so many bytes does not even reach the store.
        const MESSAGE: usize = 2 * 1024 * 1024;
        let message = if bytes > MESSAGE {
            format!(
                "rpc error: code = ResourceExhausted desc = trying to send message larger than max ({bytes} vs. {MESSAGE})"
            )
        } else {
            "etcdserver: request is too large".to_owned()
        };
        Self::new(500, "", message)
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }

    /// 415.
    pub fn unsupported_media(media: &str) -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format ({media}) - accepted media types include: application/json, application/yaml"
            ),
        )
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit}"))
    }

    /// 429 with the seconds after which to ask again.
    pub fn too_many_requests(message: impl Into<String>, seconds: u64) -> Self {
        let mut error =
            Self::new(429, "TooManyRequests", message).with_details(json!({"retryAfterSeconds": seconds}));
        error.0.retry_after = Some(seconds);
        error
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {}", message.into()))
    }

    /// The HTTP status code.
    pub fn code(&self) -> u16 {
        self.0.code
    }

    /// The seconds for a `Retry-After` header.
    pub fn retry_after(&self) -> Option<u64> {
        self.0.retry_after
    }

    /// The body of an answer that is no `Status`.
    pub fn plain(&self) -> Option<&'static str> {
        self.0.plain
    }

    /// The message alone.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The `Status` object.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.0.message,
            "code": self.0.code,
        });
        if !self.0.reason.is_empty() {
            status["reason"] = json!(self.0.reason);
        }
        if let Some(token) = &self.0.continue_token {
            status["metadata"]["continue"] = json!(token);
        }
        if self.0.details.as_object().is_some_and(|d| !d.is_empty()) {
            status["details"] = self.0.details.clone();
        }
        status
    }
}

fn object_details(group: &str, resource: &str, name: &str) -> Value {
    let mut details = json!({"name": name, "kind": resource});
    if !group.is_empty() {
        details["group"] = json!(group);
    }
    details
}

/// As [`object_details`], with the kind's own spelling; what is empty is left out.
fn invalid_details(group: &str, kind: &str, name: &str, causes: &[Value]) -> Value {
    let mut details = json!({"causes": causes});
    for (field, value) in [("name", name), ("group", group), ("kind", kind)] {
        if !value.is_empty() {
            details[field] = json!(value);
        }
    }
    details
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_field_is_told_without_brackets_and_several_within_them() {
        let one = [FieldError::required("spec.foo", "")];
        assert_eq!(
            ApiError::invalid("isthmus.dev", "Migration", "x", &one).message(),
            "Migration.isthmus.dev \"x\" is invalid: spec.foo: Required value"
        );
        let two = [FieldError::required("a", ""), FieldError::invalid("b", &json!("v"), "no")];
        assert_eq!(
            ApiError::invalid("", "Pod", "p", &two).message(),
            "Pod \"p\" is invalid: [a: Required value, b: Invalid value: \"v\": no]"
        );
    }
}
