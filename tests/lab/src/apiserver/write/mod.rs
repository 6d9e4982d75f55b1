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
use super::options::{FieldValidation, WriteOptions};
use super::read;
use super::registry::Resource;
use super::reply::{self, Body};
use super::request::{Call, Target};
use super::schema::{shape, validate};
use super::store::{ObjectKey, Transaction};
use super::strict::{self, Reading};

/// The finalizer that keeps a definition until its objects are gone.
const CRD_CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
const NAMESPACES: &str = "/namespaces";

/// Where an object that is written comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The request's body is the object.
    Body,
    /// The body is a patch, and this is the object with it.
    Patch,
    /// The body is an applied configuration, and this is the object with it.
    Applied,
}

/// A write in the context of its request.
pub struct Writing<'a> {
    server: &'a Server,
    call: &'a Call,
    target: &'a Target,
    resource: &'a Arc<Resource>,
    sub: Option<Sub>,
    options: WriteOptions,
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
        // Those of a delete are its own.
        let options = WriteOptions { dry_run: false, validation: FieldValidation::Warn };
        Self { server, call, target, resource, sub, options, warnings: Vec::new() }
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

    fn answer(self, status: u16, object: &Value) -> ApiResult<Response<Body>> {
        let mut response = reply::json(status, &read::show(self.call, self.resource, object)?);
        reply::warn(&mut response, &self.warnings);
        Ok(response)
    }

    /// Brings an object into the shape of its kind.
    fn decode(&mut self, object: &mut Value, source: Source) -> ApiResult<()> {
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
        self.report(object, source, unknown)?;
        if source != Source::Patch || self.sub.is_none() {
            self.warnings.extend(kinds::warnings(resource, object));
        }
        kinds::set_defaults(resource, object);
        Ok(())
    }

    /// Tells of fields that were dropped, and of keys that are there twice; the strict refuse them.
    fn report(&mut self, object: &Value, source: Source, mut unknown: Vec<String>) -> ApiResult<()> {
        if self.options.validation == FieldValidation::Ignore || source == Source::Applied {
            return Ok(());
        }
        let reading = Reading::of_json(&self.call.body);
        let twice = if source == Source::Patch && self.call.content_type == "application/json-patch+json" {
            "json patch duplicate field"
        } else {
            "duplicate field"
        };
        // Custom objects are pruned field by field, in the order of names.
        if !self.resource.is_custom() {
            reading.sort(&mut unknown);
        }
        let mut told: Vec<String> = match (reading.order.is_empty(), source) {
            // What is no JSON is YAML, or has no names at all.
            (true, Source::Body) if self.call.content_type == "application/yaml" => {
                strict::repeated_keys(&self.call.body)
            }
            _ => reading.duplicates.iter().map(|path| format!("{twice} {path:?}")).collect(),
        };
        told.extend(unknown.iter().map(|path| format!("unknown field {path:?}")));
        if told.is_empty() || self.options.validation == FieldValidation::Warn {
            self.warnings.extend(told);
            return Ok(());
        }
        let why = format!("strict decoding error: {}", told.join(", "));
        if source == Source::Patch {
            let shown = match self.call.content_type.as_str() {
                "application/strategic-merge-patch+json" => {
                    String::from_utf8_lossy(&self.call.body).into_owned()
                }
                _ => object.to_string(),
            };
            let error = FieldError::invalid("patch", &json!(shown), &why);
            return Err(ApiError::invalid("", "", "", &[error]));
        }
        let (kind, version) = (&self.resource.kind, &self.resource.version);
        Err(ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
        )))
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

/// Refuses what etcd would: its requests have a limit.
fn check_size(t: &Transaction<'_>, object: &Value) -> ApiResult<()> {
    /// As etcd's `--max-request-bytes` is by default.
    const MAX_REQUEST: usize = 1536 * 1024;
    struct Counted(usize);
    impl std::io::Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    if t.is_dry_run() {
        return Ok(());
    }
    let mut counted = Counted(0);
    serde_json::to_writer(&mut counted, object).map_err(|e| ApiError::internal(e.to_string()))?;
    if counted.0 > MAX_REQUEST { Err(ApiError::too_large_to_store(counted.0)) } else { Ok(()) }
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
