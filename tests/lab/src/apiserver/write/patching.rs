//! The patches, and server-side apply.

use std::sync::Arc;

use hyper::Response;
use serde_json::Value;

use super::Writing;
use crate::apiserver::builtins::Sub;
use crate::apiserver::error::{ApiError, ApiResult, FieldError};
use crate::apiserver::json::{list, remove, set, text, uid};
use crate::apiserver::managed::{apply, typed};
use crate::apiserver::patch;
use crate::apiserver::reply::Body;
use crate::apiserver::request::{Call, yaml};
use crate::apiserver::schema::{Schema, shape};
use crate::apiserver::versions::presented;

impl Writing<'_> {
    /// Answers a patch.
    pub fn patch(mut self) -> ApiResult<Response<Body>> {
        let dry_run = self.call.query.dry_run()?;
        let server = self.server;
        if self.call.content_type == "application/apply-patch+yaml" {
            let (stored, created) = self.apply(dry_run)?;
            if !dry_run {
                server.after_write(self.resource);
            }
            return self.answer(if created { 201 } else { 200 }, &stored);
        }
        if self.call.query.get("force").is_some() {
            return Err(ApiError::invalid(
                "meta.k8s.io",
                "PatchOptions",
                "",
                &[FieldError::forbidden("force", "may not be specified for non-apply patch")],
            ));
        }
        let stored = server.store.write(dry_run, |t| {
            let old = t.get(&self.resource.storage, &self.key()).ok_or_else(|| self.not_found())?;
            let shown = presented(self.resource, &old);
            let mut new = self.patched(&shown)?;
            self.decode(&mut new, true)?;
            self.place(&mut new)?;
            self.exchange(t, &old, new, true)
        })?;
        if !dry_run {
            server.after_write(self.resource);
        }
        self.answer(200, &stored)
    }

    /// The object with the request's patch on it.
    fn patched(&self, object: &Value) -> ApiResult<Value> {
        patched(self.call, object, self.resource.schema(), self.resource.is_custom())
    }

    /// Server-side apply; says whether the object was created.
    fn apply(&mut self, dry_run: bool) -> ApiResult<(Arc<Value>, bool)> {
        let resource = Arc::clone(self.resource);
        let Some(manager) = self.call.query.get("fieldManager").map(str::to_owned) else {
            return Err(ApiError::invalid(
                "meta.k8s.io",
                "PatchOptions",
                "",
                &[FieldError::required("fieldManager", "is required for apply patch")],
            ));
        };
        let mut config =
            yaml(&self.call.body).map_err(|e| ApiError::bad_request(format!("error decoding YAML: {e}")))?;
        if !list(&config, &["metadata", "managedFields"]).is_empty() {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        let wanted = resource.api_version();
        if text(&config, &["apiVersion"]) != wanted || text(&config, &["kind"]) != resource.kind {
            return Err(ApiError::bad_request(format!(
                "Incorrect version specified in apply patch. Specified patch version: {}, expected: {wanted}",
                text(&config, &["apiVersion"])
            )));
        }
        self.place(&mut config)?;
        let named = format!(
            "({}; {wanted}, Kind={})",
            if resource.namespaced {
                format!("{}/{}", self.target.namespace, self.target.name)
            } else {
                format!("/{}", self.target.name)
            },
            resource.kind
        );
        if let Some(field) = typed::undeclared(&config, resource.schema()).first() {
            return Err(ApiError::new(
                500,
                "",
                format!(
                    "failed to create typed patch object {named}: .{field}: field not declared in schema"
                ),
            ));
        }
        // Plain text of secrets is turned into data before the managers' books see it.
        if resource.is_custom() {
            shape::drop_nulls(&mut config, resource.schema());
        } else {
            shape::normalise(&mut config, resource.schema(), "").map_err(|why| {
                ApiError::new(500, "", format!("failed to create typed patch object {named}: {why}"))
            })?;
        }
        match self.sub {
            Some(Sub::Status) => {
                remove(&mut config, &["spec"]);
            }
            _ if resource.has(Sub::Status) => {
                remove(&mut config, &["status"]);
            }
            _ => {}
        }
        let request = apply::Apply {
            manager: &manager,
            subresource: self.subresource(),
            api_version: &wanted,
            has_status: resource.has(Sub::Status),
            schema: resource.schema(),
            force: self.call.query.flag("force") && self.call.query.get("force").is_some(),
            named,
        };
        let server = self.server;
        server.store.write(dry_run, |t| {
            let old = t.get(&resource.storage, &self.key());
            match &old {
                None if self.sub.is_some() => Err(self.not_found()),
                None => {
                    // A configuration that names a uid means an object that is gone.
                    if !uid(&config).is_empty() {
                        return Err(ApiError::conflict(&resource.group, &resource.plural, &self.target.name, &format!("uid mismatch: the provided object specified uid {}, and no existing object was found", uid(&config))));
                    }
                    let mut new = apply::apply(None, &config, &request)?;
                    self.decode(&mut new, false)?;
                    Ok((self.insert(t, new, false)?, true))
                }
                Some(stored) => {
                    let shown = presented(&resource, stored);
                    let mut new = apply::apply(Some(&shown), &config, &request)?;
                    self.decode(&mut new, false)?;
                    if let Some(version) = config["metadata"].get("resourceVersion") {
                        set(&mut new, &["metadata", "resourceVersion"], version.clone());
                    }
                    Ok((self.exchange(t, stored, new, false)?, false))
                }
            }
        })
    }
}

/// An object with a request's patch on it.
pub fn patched(call: &Call, object: &Value, schema: &Schema, custom: bool) -> ApiResult<Value> {
    match call.content_type.as_str() {
        "application/json-patch+json" => patch::json_patch(object, &call.body),
        "application/merge-patch+json" => patch::merge_patch(object, &call.body),
        "application/strategic-merge-patch+json" if !custom => {
            patch::strategic::strategic_merge(object, &call.body, schema)
        }
        other => Err(ApiError::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml{} (it was {other})",
                if custom { "" } else { ", application/strategic-merge-patch+json" }
            ),
        )),
    }
}
