//! Delete: finalizers, grace, definitions and their objects.

use std::sync::Arc;

use hyper::Response;
use serde_json::{Value, json};

use super::CRD_CLEANUP;
use super::Writing;
use super::quota_refresh;
use crate::apiserver::error::{ApiError, ApiResult, FieldError};
use crate::apiserver::json::{
    at, default, list, name, namespace, now, number, remove, set, terminating, text, uid,
};
use crate::apiserver::options::dry_run_problem;
use crate::apiserver::read::Selection;
use crate::apiserver::registry::Resource;
use crate::apiserver::reply::{self, Body};
use crate::apiserver::request::{Call, body};
use crate::apiserver::store::{ObjectKey, Range, Transaction};
use crate::apiserver::versions::presented;

/// Kinds whose deletion is answered with the object, not with a status.
const ANSWERED_WITH_OBJECT: [&str; 13] = [
    "CustomResourceDefinition",
    "Pod",
    "Service",
    "ServiceAccount",
    "PersistentVolumeClaim",
    "PersistentVolume",
    "PodTemplate",
    "ResourceQuota",
    "StorageClass",
    "VolumeAttachment",
    "CSIDriver",
    "CSINode",
    "CSIStorageCapacity",
];

impl Writing<'_> {
    /// Answers a delete.
    pub fn delete(self) -> ApiResult<Response<Body>> {
        let options = DeleteOptions::of(self.call)?;
        let dry_run = options.dry_run;
        let server = self.server;
        let resource = self.resource;
        let key = self.key();
        let left = server.store.write(dry_run, |t| {
            let stored = t.get(&resource.storage, &key).ok_or_else(|| self.not_found())?;
            options.check(resource, &stored)?;
            delete_one(t, resource, &stored, &options).map(|left| (left, stored))
        })?;
        if !dry_run {
            server.after_write(resource);
        }
        match left {
            (Some(object), _) => self.answer(200, &object),
            (None, gone) => {
                // Pods and a few other kinds answer with the object; all others with a status.
                if !resource.is_custom() && ANSWERED_WITH_OBJECT.contains(&resource.kind.as_str()) {
                    return self.answer(200, &gone);
                }
                let mut details = json!({"name": name(&gone), "kind": resource.plural, "uid": uid(&gone)});
                if !resource.group.is_empty() {
                    details["group"] = json!(resource.group);
                }
                Ok(reply::json(
                    200,
                    &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}),
                ))
            }
        }
    }

    /// Answers a delete of a collection.
    pub fn delete_collection(self) -> ApiResult<Response<Body>> {
        let options = DeleteOptions::of(self.call)?;
        let selection = Selection::of(self.call, self.target, self.resource)?;
        let range = Range { namespace: selection.namespace(), ..Range::default() };
        let found = self.server.store.list(&self.resource.storage, &range, |o| selection.matches(o))?;
        self.server.store.write(options.dry_run, |t| {
            for object in &found.objects {
                let key = (namespace(object).to_owned(), name(object).to_owned());
                if let Some(stored) = t.get(&self.resource.storage, &key) {
                    delete_one(t, self.resource, &stored, &options)?;
                }
            }
            Ok(())
        })?;
        if !options.dry_run {
            self.server.after_write(self.resource);
        }
        let items: Vec<Value> =
            found.objects.iter().map(|o| presented(self.resource, o).into_owned()).collect();
        Ok(reply::json(
            200,
            &json!({
                "kind": self.resource.list_kind,
                "apiVersion": self.resource.api_version(),
                "metadata": {"resourceVersion": found.version.to_string()},
                "items": items,
            }),
        ))
    }
}

/// Stores an object, or lets it go if it is being deleted and nothing holds it.
pub(super) fn settle(
    t: &mut Transaction<'_>,
    resource: &Resource,
    key: ObjectKey,
    object: Value,
) -> Arc<Value> {
    let held = !list(&object, &["metadata", "finalizers"]).is_empty()
        || resource.is("", "Namespace") && !list(&object, &["spec", "finalizers"]).is_empty()
        || number(&object, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0) > 0;
    if !terminating(&object) || held {
        return t.put(&resource.storage, key, object);
    }
    t.put(&resource.storage, key.clone(), object);
    let gone = erase(t, resource, key);
    gone.unwrap_or_default()
}

/// Takes an object out of the store, and with the last object of a definition that is being deleted,
/// the definition.
fn erase(t: &mut Transaction<'_>, resource: &Resource, key: ObjectKey) -> Option<Arc<Value>> {
    let gone = t.delete(&resource.storage, key);
    if resource.is_custom() && t.list(&resource.storage, None).is_empty() {
        let storage =
            crate::apiserver::registry::storage_id("apiextensions.k8s.io", "customresourcedefinitions");
        let key = (String::new(), format!("{}.{}", resource.plural, resource.group));
        if let Some(definition) = t.get(&storage, &key).filter(|d| terminating(d)) {
            release(t, &definition);
        }
    }
    gone
}

/// Takes the cleanup finalizer from a definition whose objects are gone.
fn release(t: &mut Transaction<'_>, definition: &Value) {
    let storage = crate::apiserver::registry::storage_id("apiextensions.k8s.io", "customresourcedefinitions");
    let key = (String::new(), name(definition).to_owned());
    let mut left = definition.clone();
    let finalizers: Vec<Value> =
        list(definition, &["metadata", "finalizers"]).iter().filter(|f| *f != CRD_CLEANUP).cloned().collect();
    let done = finalizers.is_empty();
    set(&mut left, &["metadata", "finalizers"], finalizers);
    t.put(&storage, key.clone(), left);
    if done {
        t.delete(&storage, key);
    }
}

/// How to delete.
#[derive(Debug, Default)]
pub struct DeleteOptions {
    /// Try, do not do.
    pub dry_run: bool,
    /// `Background`, `Foreground` or `Orphan`.
    pub propagation: Option<String>,
    /// Seconds to let the object end by itself.
    pub grace: Option<i64>,
    /// The uid that the object must have.
    pub uid: Option<String>,
    /// The version that the object must have.
    pub version: Option<String>,
}

impl DeleteOptions {
    /// Reads the options from the body and the query.
    pub fn of(call: &Call) -> ApiResult<Self> {
        let given = if call.body.is_empty() { json!({}) } else { body(&call.content_type, &call.body)? };
        let dry_run: Vec<&str> = match list(&given, &["dryRun"]) {
            [] => call.query.all("dryRun"),
            within => within.iter().filter_map(Value::as_str).collect(),
        };
        if let Some(error) = dry_run_problem(&dry_run) {
            return Err(ApiError::invalid("meta.k8s.io", "DeleteOptions", "", &[error]));
        }
        let string = |path: &[&str]| at(&given, path).as_str().map(str::to_owned);
        let propagation =
            string(&["propagationPolicy"]).or_else(|| call.query.get("propagationPolicy").map(str::to_owned));
        if let Some(policy) =
            propagation.as_deref().filter(|p| !matches!(*p, "Background" | "Foreground" | "Orphan"))
        {
            let supported = ["Foreground", "Background", "Orphan"].map(str::to_owned);
            return Err(ApiError::invalid(
                "meta.k8s.io",
                "DeleteOptions",
                "",
                &[FieldError::unsupported("propagationPolicy", &json!(policy), &supported)],
            ));
        }
        let orphan = at(&given, &["orphanDependents"]).as_bool();
        Ok(Self {
            dry_run: !dry_run.is_empty(),
            propagation: propagation
                .or_else(|| orphan.map(|o| if o { "Orphan" } else { "Background" }.to_owned())),
            grace: number(&given, &["gracePeriodSeconds"])
                .or(call.query.get("gracePeriodSeconds").and_then(|g| g.parse().ok())),
            uid: string(&["preconditions", "uid"]),
            version: string(&["preconditions", "resourceVersion"]),
        })
    }

    fn check(&self, resource: &Resource, object: &Value) -> ApiResult<()> {
        let conflict =
            |why: String| Err(ApiError::conflict(&resource.group, &resource.plural, name(object), &why));
        if let Some(wanted) = self.uid.as_deref().filter(|w| *w != uid(object)) {
            return conflict(format!(
                "Precondition failed: UID in precondition: {wanted}, UID in object meta: {}",
                uid(object)
            ));
        }
        let version = text(object, &["metadata", "resourceVersion"]);
        if let Some(wanted) = self.version.as_deref().filter(|w| *w != version) {
            return conflict(format!(
                "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {version}"
            ));
        }
        Ok(())
    }
}

/// Deletes an object, or begins to; what is left of it is returned.
pub fn delete_one(
    t: &mut Transaction<'_>,
    resource: &Resource,
    stored: &Arc<Value>,
    options: &DeleteOptions,
) -> ApiResult<Option<Arc<Value>>> {
    let key = (namespace(stored).to_owned(), name(stored).to_owned());
    if resource.is("", "Namespace") && matches!(name(stored), "default" | "kube-system" | "kube-public") {
        return Err(ApiError::forbidden("", "namespaces", name(stored), "this namespace may not be deleted"));
    }
    let mut object = Value::clone(stored);
    let mut finalizers = list(stored, &["metadata", "finalizers"]).to_vec();
    finalizers.retain(|f| {
        !matches!(
            (f.as_str(), options.propagation.as_deref()),
            (Some("orphan" | "foregroundDeletion"), Some(_))
        )
    });
    match options.propagation.as_deref() {
        Some("Orphan") => finalizers.push(json!("orphan")),
        Some("Foreground") => finalizers.push(json!("foregroundDeletion")),
        _ => {}
    }
    if finalizers.is_empty() {
        remove(&mut object, &["metadata", "finalizers"]);
    } else {
        set(&mut object, &["metadata", "finalizers"], finalizers.clone());
    }
    let grace = grace_period(resource, stored, options);
    let mut held = !finalizers.is_empty() || grace > 0;
    if resource.is("", "Namespace") {
        set(&mut object, &["status", "phase"], "Terminating");
        held |= !list(stored, &["spec", "finalizers"]).is_empty();
    }
    if resource.is("apiextensions.k8s.io", "CustomResourceDefinition") && !terminating(stored) {
        return Ok(delete_definition(t, resource, key, object));
    }
    if !held {
        let place = key.0.clone();
        erase(t, resource, key);
        quota_refresh(t, resource, &place);
        return Ok(None);
    }
    let earlier = number(stored, &["metadata", "deletionGracePeriodSeconds"]);
    if !terminating(stored) || earlier.is_some_and(|e| grace < e) {
        set(&mut object, &["metadata", "deletionTimestamp"], crate::apiserver::json::after_now(grace));
        if !resource.is("", "Namespace") {
            set(&mut object, &["metadata", "deletionGracePeriodSeconds"], grace);
        }
        if resource.generation && !terminating(stored) {
            let next = number(stored, &["metadata", "generation"]).unwrap_or(0) + 1;
            set(&mut object, &["metadata", "generation"], next);
        }
    }
    if object == **stored {
        return Ok(Some(Arc::clone(stored)));
    }
    Ok(Some(t.put(&resource.storage, key, object)))
}

/// Only pods end by themselves, and only where a kubelet runs them.
fn grace_period(resource: &Resource, stored: &Value, options: &DeleteOptions) -> i64 {
    if !resource.is("", "Pod") {
        return 0;
    }
    if text(stored, &["spec", "nodeName"]).is_empty()
        || matches!(text(stored, &["status", "phase"]), "Succeeded" | "Failed")
    {
        return 0;
    }
    let own = number(stored, &["spec", "terminationGracePeriodSeconds"]).unwrap_or(30);
    options.grace.unwrap_or(own).max(0)
}

/// Marks a definition and deletes its objects; it goes with the last of them.
fn delete_definition(
    t: &mut Transaction<'_>,
    resource: &Resource,
    key: ObjectKey,
    mut object: Value,
) -> Option<Arc<Value>> {
    set(&mut object, &["metadata", "deletionTimestamp"], now());
    default(&mut object, &["metadata", "deletionGracePeriodSeconds"], 0);
    let (group, plural) = (
        text(&object, &["spec", "group"]).to_owned(),
        text(&object, &["spec", "names", "plural"]).to_owned(),
    );
    let definition = t.put(&resource.storage, key, object);
    let storage = crate::apiserver::registry::storage_id(&group, &plural);
    for instance in t.list(&storage, None) {
        let place = (namespace(&instance).to_owned(), name(&instance).to_owned());
        if list(&instance, &["metadata", "finalizers"]).is_empty() {
            t.delete(&storage, place);
        } else if !terminating(&instance) {
            let mut marked = Value::clone(&instance);
            set(&mut marked, &["metadata", "deletionTimestamp"], now());
            set(&mut marked, &["metadata", "deletionGracePeriodSeconds"], 0);
            t.put(&storage, place, marked);
        }
    }
    if t.list(&storage, None).is_empty() {
        release(t, &definition);
        return None;
    }
    Some(definition)
}
