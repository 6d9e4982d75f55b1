//! The patches, and server-side apply.

use std::sync::Arc;

use hyper::Response;
use serde_json::Value;

use super::{Source, Writing};
use crate::apiserver::builtins::Sub;
use crate::apiserver::error::{ApiError, ApiResult, FieldError};
use crate::apiserver::json::{list, name, namespace, remove, set, text, uid};
use crate::apiserver::managed::{apply, check};
use crate::apiserver::options::{FieldValidation, WriteOptions};
use crate::apiserver::patch;
use crate::apiserver::reply::Body;
use crate::apiserver::request::{Call, yaml};
use crate::apiserver::schema::{Schema, shape};
use crate::apiserver::strict;
use crate::apiserver::versions::presented;

impl Writing<'_> {
    /// Answers a patch.
    pub fn patch(mut self) -> ApiResult<Response<Body>> {
        self.options = WriteOptions::of(self.call)?;
        let dry_run = self.options.dry_run;
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
            self.decode(&mut new, Source::Patch)?;
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

    /// Tells of keys that an applied text has twice; the strict refuse it.
    fn repeated_keys(&mut self) -> ApiResult<()> {
        if self.options.validation == FieldValidation::Ignore {
            return Ok(());
        }
        let repeated = strict::repeated_keys(&self.call.body);
        if self.options.validation == FieldValidation::Strict && !repeated.is_empty() {
            return Err(ApiError::bad_request(format!(
                "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {}",
                repeated.join("\n  ")
            )));
        }
        self.warnings.extend(repeated);
        Ok(())
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
        let qualified = |api_version: &str| match api_version.split_once('/') {
            Some(_) => api_version.to_owned(),
            None => format!("/{api_version}"),
        };
        let given = text(&config, &["apiVersion"]);
        if given != wanted || text(&config, &["kind"]) != resource.kind {
            let kind = text(&config, &["kind"]);
            return Err(ApiError::bad_request(format!(
                "invalid object type: {}, Kind={kind}",
                qualified(given)
            )));
        }
        // As the configuration names itself; most leave the namespace to the path.
        let named = format!(
            "({}/{}; {}, Kind={})",
            namespace(&config),
            name(&config),
            qualified(&wanted),
            resource.kind
        );
        self.place(&mut config)?;
        if let Some(problem) = check::problems(&config, resource.schema()) {
            let message = format!("failed to create typed patch object {named}: {problem}");
            return Err(ApiError::new(500, "", message));
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
                    remove(&mut config, &["metadata", "resourceVersion"]);
                    let mut new = apply::apply(None, &config, &request)?;
                    self.repeated_keys()?;
                    self.decode(&mut new, Source::Applied)?;
                    Ok((self.insert(t, new, false)?, true))
                }
                Some(stored) => {
                    let shown = presented(&resource, stored);
                    let mut new = apply::apply(Some(&shown), &config, &request)?;
                    self.repeated_keys()?;
                    self.decode(&mut new, Source::Applied)?;
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
        _ => Err(ApiError::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml{}",
                if custom { "" } else { ", application/strategic-merge-patch+json" }
            ),
        )),
    }
}
