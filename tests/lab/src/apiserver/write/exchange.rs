//! Update: one object in the place of another.

use std::sync::Arc;

use hyper::{Method, Response};
use serde_json::{Value, json};

use super::deletion::settle;
use super::{Source, Writing};
use super::{check_size, quota_refresh};
use crate::apiserver::builtins::Sub;
use crate::apiserver::error::{ApiError, ApiResult, FieldError};
use crate::apiserver::json::{at, list, name, namespace, number, remove, set, terminating, text, uid};
use crate::apiserver::kinds::{self, names};
use crate::apiserver::managed::update;
use crate::apiserver::options::WriteOptions;
use crate::apiserver::registry::Resource;
use crate::apiserver::reply::Body;
use crate::apiserver::request::body;
use crate::apiserver::schema::validate;
use crate::apiserver::store::Transaction;
use crate::apiserver::versions::{presented, to_storage};

impl Writing<'_> {
    /// Answers an update.
    pub fn replace(mut self) -> ApiResult<Response<Body>> {
        self.options = WriteOptions::of(self.call)?;
        let mut object = body(&self.call.content_type, &self.call.body)?;
        self.decode(&mut object, Source::Body)?;
        self.place(&mut object)?;
        let dry_run = self.options.dry_run;
        let server = self.server;
        let stored = server.store.write(dry_run, |t| {
            let old = t.get(&self.resource.storage, &self.key()).ok_or_else(|| self.not_found())?;
            self.exchange(t, &old, object, true)
        })?;
        if !dry_run {
            server.after_write(self.resource);
        }
        self.answer(200, &stored)
    }

    /// Puts an object in the place of another.
    pub(super) fn exchange(
        &mut self,
        t: &mut Transaction<'_>,
        stored: &Arc<Value>,
        mut new: Value,
        track: bool,
    ) -> ApiResult<Arc<Value>> {
        let resource = Arc::clone(self.resource);
        let (group, plural) = (resource.group.as_str(), resource.plural.as_str());
        let object_name = name(stored).to_owned();
        let old = presented(&resource, stored).into_owned();
        let given = text(&new, &["metadata", "resourceVersion"]);
        if !given.is_empty() && given != text(&old, &["metadata", "resourceVersion"]) {
            return Err(ApiError::modified(group, plural, &object_name));
        }
        let given = uid(&new);
        if !given.is_empty() && given != uid(&old) && self.call.method == Method::PATCH {
            let error = FieldError::invalid("metadata.uid", &json!(given), "field is immutable");
            return Err(ApiError::invalid(group, &resource.kind, &object_name, &[error]));
        }
        if !given.is_empty() && given != uid(&old) {
            let why = format!(
                "Precondition failed: UID in precondition: {given}, UID in object meta: {}",
                uid(&old)
            );
            return Err(ApiError::conflict(group, plural, &object_name, &why));
        }
        match self.sub {
            Some(Sub::Status) => {
                // Only the status is written, and the books.
                let mut kept = old.clone();
                set(&mut kept, &["status"], new["status"].clone());
                if new["status"].is_null() {
                    remove(&mut kept, &["status"]);
                }
                if resource.is("", "PersistentVolume") {
                    kinds::storage::note_phase(&old, &mut kept);
                }
                if let Some(books) = new["metadata"].get("managedFields") {
                    set(&mut kept, &["metadata", "managedFields"], books.clone());
                }
                new = kept;
            }
            Some(Sub::Finalize) => {
                let mut kept = old.clone();
                set(&mut kept, &["spec", "finalizers"], list(&new, &["spec", "finalizers"]).to_vec());
                new = kept;
            }
            _ => {
                if resource.has(Sub::Status) {
                    if old["status"].is_null() {
                        remove(&mut new, &["status"]);
                    } else {
                        set(&mut new, &["status"], old["status"].clone());
                    }
                }
            }
        }
        for field in [
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
            "resourceVersion",
            "name",
            "namespace",
            "selfLink",
            "generateName",
        ] {
            match old["metadata"].get(field) {
                Some(value) => set(&mut new, &["metadata", field], value.clone()),
                None => {
                    remove(&mut new, &["metadata", field]);
                }
            }
        }
        if track
            && new["metadata"].get("managedFields").is_none_or(|m| m.as_array().is_some_and(Vec::is_empty))
            && let Some(books) = old["metadata"].get("managedFields")
        {
            set(&mut new, &["metadata", "managedFields"], books.clone());
        }
        let main = !matches!(self.sub, Some(Sub::Status | Sub::Finalize));
        let mut errors = if main {
            kinds::prepare_update(t, &self.server.ranges, &resource, &old, &mut new)
        } else {
            Vec::new()
        };
        if terminating(&old) && !only_fewer(&old, &new) {
            errors.push(FieldError::forbidden(
                "metadata.finalizers",
                &format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers {}",
                    at(&new, &["metadata", "finalizers"])
                ),
            ));
        }
        if resource.generation && main && counts(&resource, &old, &new) {
            let next = number(&old, &["metadata", "generation"]).unwrap_or(0) + 1;
            set(&mut new, &["metadata", "generation"], next);
        }
        if main {
            errors.extend(names::validate(&resource, &new));
            errors.extend(kinds::validate(&resource, &new));
            errors.extend(kinds::validate_update(&resource, &old, &new));
        }
        if resource.is_custom() && self.sub != Some(Sub::Finalize) {
            errors.extend(validate::validate(&new, Some(&old), resource.schema()));
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid(group, &resource.kind, &object_name, &errors));
        }
        if main {
            self.admit(t, &resource, &new, Some(&old))?;
        }
        if track {
            let manager = self.manager();
            let api_version = resource.api_version();
            update::track(Some(&old), &mut new, &self.write_of(&manager, &api_version, &resource));
        }
        if same(&old, &new) {
            return Ok(Arc::clone(stored));
        }
        to_storage(&resource, &mut new);
        check_size(t, &new)?;
        let key = (namespace(stored).to_owned(), object_name);
        let place = key.0.clone();
        let stored = settle(t, &resource, key, new);
        quota_refresh(t, &resource, &place);
        Ok(stored)
    }
}

/// Whether two objects are the same to everyone who reads them.
fn same(old: &Value, new: &Value) -> bool {
    let stripped = |object: &Value| {
        let mut copy = object.clone();
        remove(&mut copy, &["metadata", "managedFields"]);
        copy
    };
    let books = |object: &Value| -> Vec<(update::Manager, crate::apiserver::managed::set::FieldSet)> {
        update::read(object).into_iter().map(|(manager, entry)| (manager, entry.set)).collect()
    };
    stripped(old) == stripped(new) && books(old) == books(new)
}

/// Whether the change counts as a new generation.
fn counts(resource: &Resource, old: &Value, new: &Value) -> bool {
    let relevant = |object: &Value| {
        let mut copy = object.clone();
        for field in ["metadata", "apiVersion", "kind"] {
            remove(&mut copy, &[field]);
        }
        if resource.has(Sub::Status) || !resource.is_custom() {
            remove(&mut copy, &["status"]);
        }
        copy
    };
    relevant(old) != relevant(new)
}

fn only_fewer(old: &Value, new: &Value) -> bool {
    let before = list(old, &["metadata", "finalizers"]);
    list(new, &["metadata", "finalizers"]).iter().all(|f| before.contains(f))
}
