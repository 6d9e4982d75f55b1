//! Create, update, patch and delete: one way in for all kinds.
//!
//! A write runs as one transaction: decode, default, let admission change and refuse, validate, enter
//! the managers' books, store. What changes nothing stores nothing.

mod admit;
pub mod deletion;
mod exchange;
mod insert;
pub mod patching;

use std::sync::Arc;

use hyper::Response;
use serde_json::{Value, json};

use super::Server;
use super::admission::quota;
use super::builtins::Sub;
use super::error::{ApiError, ApiResult, FieldError};
use super::json::{name, namespace, remove, set, text};
use super::kinds::{self, config};
use super::managed::update;
use super::read;
use super::registry::Resource;
use super::reply::{self, Body};
use super::request::{Call, Target};
use super::schema::{shape, validate};
use super::store::{ObjectKey, Transaction};

/// The finalizer that keeps a definition until its objects are gone.
const CRD_CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
const NAMESPACES: &str = "/namespaces";

/// What a client said about unknown fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Ignore,
    Warn,
    Strict,
}

/// A write in the context of its request.
pub struct Writing<'a> {
    server: &'a Server,
    call: &'a Call,
    target: &'a Target,
    resource: &'a Arc<Resource>,
    sub: Option<Sub>,
    warnings: Vec<String>,
}

impl<'a> Writing<'a> {
    /// Prepares a write.
    pub fn new(
        server: &'a Server,
        call: &'a Call,
        target: &'a Target,
        resource: &'a Arc<Resource>,
        sub: Option<Sub>,
    ) -> Self {
        Self { server, call, target, resource, sub, warnings: Vec::new() }
    }

    fn key(&self) -> ObjectKey {
        (self.target.namespace_key(self.resource), self.target.name.clone())
    }

    fn not_found(&self) -> ApiError {
        ApiError::not_found(&self.resource.group, &self.resource.plural, &self.target.name)
    }

    fn subresource(&self) -> &'static str {
        self.sub.map_or("", Sub::name)
    }

    fn manager(&self) -> String {
        update::manager_name(self.call.query.get("fieldManager"), &self.call.user_agent)
    }

    fn answer(mut self, status: u16, object: &Value) -> ApiResult<Response<Body>> {
        if let Some(warning) = self.resource.custom.as_ref().and_then(|c| c.deprecation.clone()) {
            self.warnings.push(warning);
        }
        let mut response = reply::json(status, &read::show(self.call, self.resource, object)?);
        reply::warn(&mut response, &self.warnings);
        Ok(response)
    }

    fn unknown(&self) -> ApiResult<Unknown> {
        match self.call.query.get("fieldValidation") {
            Some("Strict") => Ok(Unknown::Strict),
            Some("Ignore") => Ok(Unknown::Ignore),
            None | Some("Warn") => Ok(Unknown::Warn),
            Some(other) => Err(ApiError::bad_request(format!(
                "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Warn\", \"Strict\""
            ))),
        }
    }

    /// Brings an object into the shape of its kind.
    fn decode(&mut self, object: &mut Value, patched: bool) -> ApiResult<()> {
        let resource = self.resource;
        let kind = &resource.kind;
        let version = &resource.version;
        let refused = |why: String| {
            ApiError::bad_request(format!(
                "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
            ))
        };
        if !object.is_object() {
            return Err(refused("the body is no object".to_owned()));
        }
        let given = (text(object, &["apiVersion"]).to_owned(), text(object, &["kind"]).to_owned());
        let wanted = resource.api_version();
        if resource.is_custom() && given.0.is_empty() || given.0 != wanted && !given.0.is_empty() {
            return Err(ApiError::bad_request(format!(
                "the API version in the data ({}) does not match the expected API version ({wanted})",
                given.0
            )));
        }
        if given.1 != *kind && !given.1.is_empty() {
            return Err(ApiError::bad_request(format!(
                "the kind in the data ({}) does not match the expected kind ({kind})",
                given.1
            )));
        }
        set(object, &["apiVersion"], wanted);
        set(object, &["kind"], kind.clone());
        let mut unknown = Vec::new();
        let schema = resource.schema();
        if resource.is_custom() {
            default_metadata(object, &refused)?;
            shape::prune(object, schema, &mut unknown);
            shape::default(object, schema);
            shape::drop_nulls(object, schema);
        } else {
            shape::normalise(object, schema, "").map_err(&refused)?;
            shape::prune(object, schema, &mut unknown);
            if let Some(problem) =
                config::undecodable(object).filter(|_| matches!(kind.as_str(), "Secret" | "ConfigMap"))
            {
                return Err(refused(problem));
            }
        }
        if !unknown.is_empty() {
            let told: Vec<String> = unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
            match self.unknown()? {
                Unknown::Strict if patched => {
                    let patch = String::from_utf8_lossy(&self.call.body).into_owned();
                    let error = FieldError::invalid(
                        "patch",
                        &json!(patch),
                        &format!("strict decoding error: {}", told.join(", ")),
                    );
                    return Err(ApiError::invalid("", "", "", &[error]));
                }
                Unknown::Strict => {
                    return Err(refused(format!("strict decoding error: {}", told.join(", "))));
                }
                Unknown::Warn => self.warnings.extend(told),
                Unknown::Ignore => {}
            }
        }
        kinds::set_defaults(resource, object);
        Ok(())
    }

    /// Makes the name and the namespace of the object those of the path.
    fn place(&self, object: &mut Value) -> ApiResult<()> {
        let given = namespace(object).to_owned();
        if self.resource.namespaced {
            let wanted = &self.target.namespace;
            if !given.is_empty() && given != *wanted {
                return Err(ApiError::bad_request(format!(
                    "the namespace of the provided object does not match the namespace sent on the request ({given} and {wanted})"
                )));
            }
            set(object, &["metadata", "namespace"], wanted.clone());
        } else {
            remove(object, &["metadata", "namespace"]);
        }
        if !self.target.name.is_empty() {
            let given = name(object).to_owned();
            if given.is_empty() {
                set(object, &["metadata", "name"], self.target.name.clone());
            } else if given != self.target.name {
                return Err(ApiError::bad_request(format!(
                    "the name of the object ({given}) does not match the name on the URL ({})",
                    self.target.name
                )));
            }
        }
        Ok(())
    }

    fn write_of<'w>(
        &self,
        manager: &'w str,
        api_version: &'w str,
        resource: &'w Resource,
    ) -> update::Write<'w> {
        update::Write {
            manager,
            subresource: self.subresource(),
            api_version,
            has_status: resource.has(Sub::Status),
            schema: resource.schema(),
        }
    }
}

/// Custom objects have the metadata of all objects, so its types are checked as theirs are.
fn default_metadata(object: &mut Value, refused: &impl Fn(String) -> ApiError) -> ApiResult<()> {
    if let Some(metadata) = object.get_mut("metadata") {
        shape::normalise(metadata, validate::metadata(), "metadata").map_err(refused)?;
    }
    Ok(())
}

fn quota_refresh(t: &mut Transaction<'_>, resource: &Resource, place: &str) {
    if resource.namespaced && !resource.is("", "Event") && resource.group != "coordination.k8s.io" {
        quota::refresh(t, place);
    }
}
