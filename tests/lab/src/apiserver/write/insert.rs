//! Create: what a new object goes through.

use std::sync::Arc;

use hyper::Response;
use serde_json::{Value, json};

use super::{CRD_CLEANUP, NAMESPACES};
use super::{Source, Writing};
use super::{check_size, quota_refresh};
use crate::apiserver::admission::{classes, limits, service_account};
use crate::apiserver::error::{ApiError, ApiResult};
use crate::apiserver::json::{name, now, remove, set, terminating, text};
use crate::apiserver::kinds::{self, names};
use crate::apiserver::managed::update;
use crate::apiserver::options::WriteOptions;
use crate::apiserver::registry::Resource;
use crate::apiserver::reply::Body;
use crate::apiserver::request::body;
use crate::apiserver::schema::validate;
use crate::apiserver::store::Transaction;
use crate::apiserver::versions::to_storage;

impl Writing<'_> {
    /// Answers a create.
    pub fn create(mut self) -> ApiResult<Response<Body>> {
        self.options = WriteOptions::of(self.call)?;
        let mut object = body(&self.call.content_type, &self.call.body)?;
        self.decode(&mut object, Source::Body)?;
        let dry_run = self.options.dry_run;
        let server = self.server;
        let stored = server.store.write(dry_run, |t| self.insert(t, object, true))?;
        if !dry_run {
            server.after_write(self.resource);
        }
        self.answer(201, &stored)
    }

    /// Puts a new object; its managers' books are made here unless an apply has made them.
    pub(super) fn insert(
        &mut self,
        t: &mut Transaction<'_>,
        mut object: Value,
        track: bool,
    ) -> ApiResult<Arc<Value>> {
        let resource = Arc::clone(self.resource);
        self.place(&mut object)?;
        let (group, plural) = (resource.group.as_str(), resource.plural.as_str());
        let generate = text(&object, &["metadata", "generateName"]).to_owned();
        if name(&object).is_empty() && !generate.is_empty() {
            let base: String = generate.chars().take(58).collect();
            set(&mut object, &["metadata", "name"], format!("{base}{}", service_account::suffix()));
        }
        let object_name = name(&object).to_owned();
        let place = if resource.namespaced { self.target.namespace.clone() } else { String::new() };
        self.check_namespace(t, &resource, &object_name)?;
        if !text(&object, &["metadata", "resourceVersion"]).is_empty() {
            // Strange, and the real server's.
            return Err(ApiError::new(500, "", "resourceVersion should not be set on objects to be created"));
        }
        let key = (place.clone(), object_name.clone());
        if t.get(&resource.storage, &key).is_some() {
            return Err(ApiError::already_exists(group, plural, &object_name));
        }
        if track {
            remove(&mut object, &["metadata", "managedFields"]);
        }
        for field in
            ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"]
        {
            remove(&mut object, &["metadata", field]);
        }
        set(&mut object, &["metadata", "uid"], uuid::Uuid::new_v4().to_string());
        set(&mut object, &["metadata", "creationTimestamp"], now());
        if resource.generation {
            set(&mut object, &["metadata", "generation"], 1);
        }
        // What the server allocates, and what admission gives a Pod, is in nobody's book: that was
        // written before.
        let is_filled = resource.is("", "Service") || resource.is("", "Pod");
        let asked = (track && is_filled).then(|| object.clone());
        let asked_finalizers = object["metadata"].get("finalizers").cloned();
        let allocation = kinds::prepare_create(t, &self.server.ranges, &resource, &mut object);
        if resource.is("", "Pod") {
            limits::set_defaults(t, &mut object);
            service_account::admit(t, &mut object)?;
            classes::prioritise(t, &mut object)?;
            classes::runtime(t, &mut object)?;
            kinds::set_defaults(&resource, &mut object);
        }
        if resource.is("apiextensions.k8s.io", "CustomResourceDefinition") && !self.options.dry_run {
            let finalizers = crate::apiserver::json::place(&mut object, &["metadata", "finalizers"]);
            match finalizers.as_array_mut() {
                Some(list) if list.iter().any(|f| f == CRD_CLEANUP) => {}
                Some(list) => list.push(json!(CRD_CLEANUP)),
                None => *finalizers = json!([CRD_CLEANUP]),
            }
        }
        let mut errors = names::validate(&resource, &object);
        errors.extend(allocation);
        errors.extend(kinds::validate(&resource, &object));
        if resource.is_custom() {
            errors.extend(validate::validate(&object, None, resource.schema()));
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid(group, &resource.kind, &object_name, &errors));
        }
        self.admit(t, &resource, &object, None)?;
        if track {
            let manager = self.manager();
            let api_version = resource.api_version();
            let write = self.write_of(&manager, &api_version, &resource);
            if let Some(mut asked) = asked {
                update::track(None, &mut asked, &write);
                set(&mut object, &["metadata", "managedFields"], asked["metadata"]["managedFields"].take());
            } else {
                // Nor are the finalizers that it puts.
                let finalizers = object["metadata"].get("finalizers").cloned();
                restore(&mut object, asked_finalizers);
                update::track(None, &mut object, &write);
                restore(&mut object, finalizers);
            }
        }
        to_storage(&resource, &mut object);
        check_size(t, &object)?;
        let stored = t.put(&resource.storage, key, object);
        quota_refresh(t, &resource, &place);
        Ok(stored)
    }

    pub(super) fn check_namespace(
        &self,
        t: &Transaction<'_>,
        resource: &Resource,
        object_name: &str,
    ) -> ApiResult<()> {
        if !resource.namespaced {
            return Ok(());
        }
        let place = &self.target.namespace;
        let Some(found) = t.get(NAMESPACES, &(String::new(), place.clone())) else {
            return Err(ApiError::not_found("", "namespaces", place));
        };
        if terminating(&found) {
            return Err(ApiError::namespace_terminating(
                &resource.group,
                &resource.plural,
                object_name,
                place,
            ));
        }
        Ok(())
    }
}

fn restore(object: &mut Value, finalizers: Option<Value>) {
    if let Some(finalizers) = finalizers {
        object["metadata"]["finalizers"] = finalizers;
    } else {
        remove(object, &["metadata", "finalizers"]);
    }
}
