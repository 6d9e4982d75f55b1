//! Create, update, patch and delete: one way in for all kinds.
//!
//! A write runs as one transaction: decode, default, let admission change and refuse, validate, enter
//! the managers' books, store. What changes nothing stores nothing.

use std::sync::Arc;

use hyper::{Method, Response};
use serde_json::{Value, json};

use super::Server;
use super::admission::{limits, pod_security, quota, service_account};
use super::auth::{Identity, rbac};
use super::builtins::Sub;
use super::error::{ApiError, ApiResult, FieldError};
use super::json::{at, default, list, name, namespace, now, number, remove, set, terminating, text, uid};
use super::kinds::{self, config, names};
use super::managed::{apply, typed, update};
use super::patch;
use super::read::{self, Selection};
use super::registry::Resource;
use super::reply::{self, Body};
use super::request::{Call, Target, body, yaml};
use super::schema::{Schema, shape, validate};
use super::store::{ObjectKey, Range, Transaction};
use super::versions::{presented, to_storage};

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
    pub fn new(server: &'a Server, call: &'a Call, target: &'a Target, resource: &'a Arc<Resource>, sub: Option<Sub>) -> Self {
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
            ApiError::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
        };
        if !object.is_object() {
            return Err(refused("the body is no object".to_owned()));
        }
        let given = (text(object, &["apiVersion"]).to_owned(), text(object, &["kind"]).to_owned());
        let wanted = resource.api_version();
        if resource.is_custom() && given.0.is_empty() || given.0 != wanted && !given.0.is_empty() {
            return Err(ApiError::bad_request(format!(
                "the API version in the data ({}) does not match the expected API version ({wanted})", given.0
            )));
        }
        if given.1 != *kind && !given.1.is_empty() {
            return Err(ApiError::bad_request(format!("the kind in the data ({}) does not match the expected kind ({kind})", given.1)));
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
            if let Some(problem) = config::undecodable(object).filter(|_| matches!(kind.as_str(), "Secret" | "ConfigMap")) {
                return Err(refused(problem));
            }
        }
        if !unknown.is_empty() {
            let told: Vec<String> = unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
            match self.unknown()? {
                Unknown::Strict if patched => {
                    let patch = String::from_utf8_lossy(&self.call.body).into_owned();
                    let error = FieldError::invalid("patch", &json!(patch), &format!("strict decoding error: {}", told.join(", ")));
                    return Err(ApiError::invalid("", "", "", &[error]));
                }
                Unknown::Strict => return Err(refused(format!("strict decoding error: {}", told.join(", ")))),
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
                    "the name of the object ({given}) does not match the name on the URL ({})", self.target.name
                )));
            }
        }
        Ok(())
    }

    /// Answers a create.
    pub fn create(mut self) -> ApiResult<Response<Body>> {
        let mut object = body(&self.call.content_type, &self.call.body)?;
        self.decode(&mut object, false)?;
        let dry_run = self.call.query.dry_run()?;
        let server = self.server;
        let stored = server.store.write(dry_run, |t| self.insert(t, object, true))?;
        if !dry_run {
            server.after_write(self.resource);
        }
        self.answer(201, &stored)
    }

    /// Puts a new object; its managers' books are made here unless an apply has made them.
    fn insert(&mut self, t: &mut Transaction<'_>, mut object: Value, track: bool) -> ApiResult<Arc<Value>> {
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
            return Err(ApiError::new(400, "BadRequest", "resourceVersion should not be set on objects to be created"));
        }
        let key = (place.clone(), object_name.clone());
        if t.get(&resource.storage, &key).is_some() {
            return Err(ApiError::already_exists(group, plural, &object_name));
        }
        if track {
            remove(&mut object, &["metadata", "managedFields"]);
        }
        for field in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
            remove(&mut object, &["metadata", field]);
        }
        set(&mut object, &["metadata", "uid"], uuid::Uuid::new_v4().to_string());
        set(&mut object, &["metadata", "creationTimestamp"], now());
        if resource.generation {
            set(&mut object, &["metadata", "generation"], 1);
        }
        let allocation = kinds::prepare_create(t, &self.server.ranges, &resource, &mut object)?;
        if resource.is("", "Pod") {
            limits::set_defaults(t, &mut object);
            service_account::admit(t, &mut object)?;
            kinds::set_defaults(&resource, &mut object);
        }
        if resource.is("apiextensions.k8s.io", "CustomResourceDefinition") {
            let finalizers = super::json::place(&mut object, &["metadata", "finalizers"]);
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
            update::track(None, &mut object, &self.write_of(&manager, &api_version, &resource));
        }
        to_storage(&resource, &mut object);
        let stored = t.put(&resource.storage, key, object);
        quota_refresh(t, &resource, &place);
        Ok(stored)
    }

    fn write_of<'w>(&self, manager: &'w str, api_version: &'w str, resource: &'w Resource) -> update::Write<'w> {
        update::Write {
            manager,
            subresource: self.subresource(),
            api_version,
            has_status: resource.has(Sub::Status),
            schema: resource.schema(),
        }
    }

    fn check_namespace(&self, t: &Transaction<'_>, resource: &Resource, object_name: &str) -> ApiResult<()> {
        if !resource.namespaced {
            return Ok(());
        }
        let place = &self.target.namespace;
        let Some(found) = t.get(NAMESPACES, &(String::new(), place.clone())) else {
            return Err(ApiError::not_found("", "namespaces", place));
        };
        if terminating(&found) {
            return Err(ApiError::namespace_terminating(&resource.group, &resource.plural, object_name, place));
        }
        Ok(())
    }

    /// What refuses without changing: privileges that would be given away, Pod Security, quotas.
    fn admit(&mut self, t: &Transaction<'_>, resource: &Resource, object: &Value, old: Option<&Value>) -> ApiResult<()> {
        let place = namespace(object);
        if resource.namespaced {
            let home = t.get(NAMESPACES, &(String::new(), place.to_owned()));
            if let Some(home) = home {
                self.pod_security(&home, resource, object, old)?;
            }
            if old.is_none() {
                limits::check(t, &resource.plural, object)?;
            }
            quota::check(t, resource, place, object, old)?;
        }
        Ok(())
    }

    fn pod_security(&mut self, home: &Value, resource: &Resource, object: &Value, old: Option<&Value>) -> ApiResult<()> {
        let spec = match (resource.group.as_str(), resource.kind.as_str()) {
            ("", "Pod") => {
                if old.is_some_and(|o| o["spec"] == object["spec"]) {
                    return Ok(());
                }
                if let Some((level, found)) = pod_security::violations(home, "enforce", &object["spec"]) {
                    let why = format!("violates PodSecurity {level:?}: {found}");
                    return Err(ApiError::forbidden("", "pods", name(object), &why));
                }
                if let Some((level, found)) = pod_security::violations(home, "warn", &object["spec"]) {
                    self.warnings.push(format!("would violate PodSecurity {level:?}: {found}"));
                }
                return Ok(());
            }
            ("batch", "CronJob") => at(object, &["spec", "jobTemplate", "spec", "template", "spec"]),
            ("apps", _) | ("batch", "Job") | ("", "ReplicationController") => at(object, &["spec", "template", "spec"]),
            _ => return Ok(()),
        };
        // Workloads are let through: their pods will not be.
        let mode = if at(home, &["metadata", "labels", "pod-security.kubernetes.io/warn"]).is_string() { "warn" } else { "enforce" };
        if spec.is_object()
            && mode == "warn"
            && let Some((level, found)) = pod_security::violations(home, mode, spec)
        {
            self.warnings.push(format!("would violate PodSecurity {level:?}: {found}"));
        }
        Ok(())
    }

    /// Answers an update.
    pub fn replace(mut self) -> ApiResult<Response<Body>> {
        let mut object = body(&self.call.content_type, &self.call.body)?;
        self.decode(&mut object, false)?;
        self.place(&mut object)?;
        let dry_run = self.call.query.dry_run()?;
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
    fn exchange(&mut self, t: &mut Transaction<'_>, stored: &Arc<Value>, mut new: Value, track: bool) -> ApiResult<Arc<Value>> {
        let resource = Arc::clone(self.resource);
        let (group, plural) = (resource.group.as_str(), resource.plural.as_str());
        let object_name = name(stored).to_owned();
        let old = presented(&resource, stored).into_owned();
        let given = text(&new, &["metadata", "resourceVersion"]);
        if !given.is_empty() && given != text(&old, &["metadata", "resourceVersion"]) {
            return Err(ApiError::modified(group, plural, &object_name));
        }
        let given = uid(&new);
        if !given.is_empty() && given != uid(&old) {
            let why = format!("Precondition failed: UID in precondition: {given}, UID in object meta: {}", uid(&old));
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
        for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "resourceVersion", "name", "namespace", "selfLink", "generateName"] {
            match old["metadata"].get(field) {
                Some(value) => set(&mut new, &["metadata", field], value.clone()),
                None => {
                    remove(&mut new, &["metadata", field]);
                }
            }
        }
        if track && new["metadata"].get("managedFields").is_none_or(|m| m.as_array().is_some_and(Vec::is_empty)) {
            if let Some(books) = old["metadata"].get("managedFields") {
                set(&mut new, &["metadata", "managedFields"], books.clone());
            }
        }
        let main = !matches!(self.sub, Some(Sub::Status | Sub::Finalize));
        let mut errors = if main { kinds::prepare_update(t, &self.server.ranges, &resource, &old, &mut new) } else { Vec::new() };
        if terminating(&old) && !only_fewer(&old, &new) {
            errors.push(FieldError::forbidden("metadata.finalizers", &format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {}",
                at(&new, &["metadata", "finalizers"])
            )));
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
        let key = (namespace(stored).to_owned(), object_name);
        let place = key.0.clone();
        let stored = settle(t, &resource, key, new);
        quota_refresh(t, &resource, &place);
        Ok(stored)
    }

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
            return Err(ApiError::invalid("meta.k8s.io", "PatchOptions", "", &[FieldError::forbidden("force", "may not be specified for non-apply patch")]));
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
            return Err(ApiError::invalid("meta.k8s.io", "PatchOptions", "", &[FieldError::required("fieldManager", "is required for apply patch")]));
        };
        let mut config = yaml(&self.call.body).map_err(|e| ApiError::bad_request(format!("error decoding YAML: {e}")))?;
        if list(&config, &["metadata", "managedFields"]).first().is_some() {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        let wanted = resource.api_version();
        if text(&config, &["apiVersion"]) != wanted || text(&config, &["kind"]) != resource.kind {
            return Err(ApiError::bad_request(format!(
                "Incorrect version specified in apply patch. Specified patch version: {}, expected: {wanted}", text(&config, &["apiVersion"])
            )));
        }
        self.place(&mut config)?;
        let named = format!(
            "({}; {wanted}, Kind={})",
            if resource.namespaced { format!("{}/{}", self.target.namespace, self.target.name) } else { format!("/{}", self.target.name) },
            resource.kind
        );
        if let Some(field) = typed::undeclared(&config, resource.schema()).first() {
            return Err(ApiError::new(500, "", format!("failed to create typed patch object {named}: .{field}: field not declared in schema")));
        }
        // Plain text of secrets is turned into data before the managers' books see it.
        if resource.is_custom() {
            shape::drop_nulls(&mut config, resource.schema());
        } else {
            shape::normalise(&mut config, resource.schema(), "")
                .map_err(|why| ApiError::new(500, "", format!("failed to create typed patch object {named}: {why}")))?;
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
                if resource.is("", "Pod") || resource.is("", "Service") || resource.is("", "PersistentVolumeClaim") || resource.is("", "PersistentVolume") {
                    return self.answer(200, &gone);
                }
                let mut details = json!({"name": name(&gone), "kind": resource.plural, "uid": uid(&gone)});
                if !resource.group.is_empty() {
                    details["group"] = json!(resource.group);
                }
                Ok(reply::json(200, &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})))
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
        let items: Vec<Value> = found.objects.iter().map(|o| presented(self.resource, o).into_owned()).collect();
        Ok(reply::json(200, &json!({
            "kind": self.resource.list_kind,
            "apiVersion": self.resource.api_version(),
            "metadata": {"resourceVersion": found.version.to_string()},
            "items": items,
        })))
    }

    /// Nobody may give away what they do not have.
    pub fn check_escalation(&self) -> ApiResult<()> {
        let resource = self.resource;
        if resource.group != "rbac.authorization.k8s.io" || resource.is_custom() || self.call.method == Method::DELETE {
            return Ok(());
        }
        let Ok(object) = yaml(&self.call.body) else { return Ok(()) };
        let identity: &Identity = &self.call.identity;
        let (wanted, verb) = if resource.kind.ends_with("Binding") {
            let reference = &object["roleRef"];
            (rbac::rules_of(&self.server.store, text(reference, &["kind"]), text(reference, &["name"]), &self.target.namespace), "bind")
        } else {
            (list(&object, &["rules"]).to_vec(), "escalate")
        };
        let asked = super::auth::Attributes {
            verb: verb.to_owned(),
            group: resource.group.clone(),
            resource: resource.plural.clone(),
            namespace: self.target.namespace.clone(),
            name: name(&object).to_owned(),
            ..Default::default()
        };
        if rbac::allows(&self.server.store, identity, &asked).is_some() {
            return Ok(());
        }
        match rbac::missing(&self.server.store, identity, &self.target.namespace, &wanted) {
            None => Ok(()),
            Some(rule) => Err(ApiError::forbidden(&resource.group, &resource.plural, name(&object), &format!(
                "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{rule}", identity.user, identity.groups
            ))),
        }
    }
}

/// An object with a request's patch on it.
pub fn patched(call: &Call, object: &Value, schema: &Schema, custom: bool) -> ApiResult<Value> {
    match call.content_type.as_str() {
        "application/json-patch+json" => patch::json_patch(object, &call.body),
        "application/merge-patch+json" => patch::merge_patch(object, &call.body),
        "application/strategic-merge-patch+json" if !custom => patch::strategic::strategic_merge(object, &call.body, schema),
        other => Err(ApiError::new(415, "UnsupportedMediaType", format!(
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml{} (it was {other})",
            if custom { "" } else { ", application/strategic-merge-patch+json" }
        ))),
    }
}

/// Custom objects have the metadata of all objects, so its types are checked as theirs are.
fn default_metadata(object: &mut Value, refused: &impl Fn(String) -> ApiError) -> ApiResult<()> {
    if let Some(metadata) = object.get_mut("metadata") {
        shape::normalise(metadata, validate::metadata(), "metadata").map_err(refused)?;
    }
    Ok(())
}

/// Whether two objects are the same to everyone who reads them.
fn same(old: &Value, new: &Value) -> bool {
    let stripped = |object: &Value| {
        let mut copy = object.clone();
        remove(&mut copy, &["metadata", "managedFields"]);
        copy
    };
    let books = |object: &Value| -> Vec<(update::Manager, super::managed::set::FieldSet)> {
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

/// Stores an object, or lets it go if it is being deleted and nothing holds it.
fn settle(t: &mut Transaction<'_>, resource: &Resource, key: ObjectKey, object: Value) -> Arc<Value> {
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
        let storage = super::registry::storage_id("apiextensions.k8s.io", "customresourcedefinitions");
        let key = (String::new(), format!("{}.{}", resource.plural, resource.group));
        if let Some(definition) = t.get(&storage, &key).filter(|d| terminating(d)) {
            release(t, &definition);
        }
    }
    gone
}

/// Takes the cleanup finalizer from a definition whose objects are gone.
fn release(t: &mut Transaction<'_>, definition: &Value) {
    let storage = super::registry::storage_id("apiextensions.k8s.io", "customresourcedefinitions");
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

fn quota_refresh(t: &mut Transaction<'_>, resource: &Resource, place: &str) {
    if resource.namespaced && !resource.is("", "Event") && resource.group != "coordination.k8s.io" {
        quota::refresh(t, place);
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
        let string = |path: &[&str]| at(&given, path).as_str().map(str::to_owned);
        let propagation = string(&["propagationPolicy"]).or_else(|| call.query.get("propagationPolicy").map(str::to_owned));
        if let Some(policy) = propagation.as_deref().filter(|p| !matches!(*p, "Background" | "Foreground" | "Orphan")) {
            let supported = ["Foreground", "Background", "Orphan"].map(str::to_owned);
            return Err(ApiError::invalid("meta.k8s.io", "DeleteOptions", "", &[FieldError::unsupported("propagationPolicy", &json!(policy), &supported)]));
        }
        let orphan = at(&given, &["orphanDependents"]).as_bool();
        Ok(Self {
            dry_run: call.query.dry_run()? || list(&given, &["dryRun"]).iter().any(|d| d == "All"),
            propagation: propagation.or_else(|| orphan.map(|o| if o { "Orphan" } else { "Background" }.to_owned())),
            grace: number(&given, &["gracePeriodSeconds"]).or(call.query.get("gracePeriodSeconds").and_then(|g| g.parse().ok())),
            uid: string(&["preconditions", "uid"]),
            version: string(&["preconditions", "resourceVersion"]),
        })
    }

    fn check(&self, resource: &Resource, object: &Value) -> ApiResult<()> {
        let conflict = |why: String| Err(ApiError::conflict(&resource.group, &resource.plural, name(object), &why));
        if let Some(wanted) = self.uid.as_deref().filter(|w| *w != uid(object)) {
            return conflict(format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {}", uid(object)));
        }
        let version = text(object, &["metadata", "resourceVersion"]);
        if let Some(wanted) = self.version.as_deref().filter(|w| *w != version) {
            return conflict(format!("Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {version}"));
        }
        Ok(())
    }
}

/// Deletes an object, or begins to; what is left of it is returned.
pub fn delete_one(t: &mut Transaction<'_>, resource: &Resource, stored: &Arc<Value>, options: &DeleteOptions) -> ApiResult<Option<Arc<Value>>> {
    let key = (namespace(stored).to_owned(), name(stored).to_owned());
    if resource.is("", "Namespace") && matches!(name(stored), "default" | "kube-system" | "kube-public") {
        return Err(ApiError::forbidden("", "namespaces", name(stored), "this namespace may not be deleted"));
    }
    let mut object = Value::clone(stored);
    let mut finalizers = list(stored, &["metadata", "finalizers"]).to_vec();
    finalizers.retain(|f| !matches!((f.as_str(), options.propagation.as_deref()), (Some("orphan" | "foregroundDeletion"), Some(_))));
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
        return delete_definition(t, resource, key, object);
    }
    if !held {
        let place = key.0.clone();
        erase(t, resource, key);
        quota_refresh(t, resource, &place);
        return Ok(None);
    }
    let earlier = number(stored, &["metadata", "deletionGracePeriodSeconds"]);
    if !terminating(stored) || earlier.is_some_and(|e| grace < e) {
        set(&mut object, &["metadata", "deletionTimestamp"], super::json::after_now(grace));
        set(&mut object, &["metadata", "deletionGracePeriodSeconds"], grace);
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
    if text(stored, &["spec", "nodeName"]).is_empty() || matches!(text(stored, &["status", "phase"]), "Succeeded" | "Failed") {
        return 0;
    }
    let own = number(stored, &["spec", "terminationGracePeriodSeconds"]).unwrap_or(30);
    options.grace.unwrap_or(own).max(0)
}

/// Marks a definition and deletes its objects; it goes with the last of them.
fn delete_definition(t: &mut Transaction<'_>, resource: &Resource, key: ObjectKey, mut object: Value) -> ApiResult<Option<Arc<Value>>> {
    set(&mut object, &["metadata", "deletionTimestamp"], now());
    default(&mut object, &["metadata", "deletionGracePeriodSeconds"], 0);
    let (group, plural) = (text(&object, &["spec", "group"]).to_owned(), text(&object, &["spec", "names", "plural"]).to_owned());
    let definition = t.put(&resource.storage, key, object);
    let storage = super::registry::storage_id(&group, &plural);
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
        return Ok(None);
    }
    Ok(Some(definition))
}
