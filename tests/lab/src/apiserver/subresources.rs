//! The parts of objects with paths of their own: scale, token, binding, eviction, log, proxy.

use std::sync::Arc;

use futures::StreamExt;
use hyper::{Method, Response};
use serde_json::{Value, json};

use super::builtins::Sub;
use super::error::{ApiError, ApiResult, FieldError};
use super::json::{at, list, name, number, set, text, uid};
use super::managed::update;
use super::options::WriteOptions;
use super::read::{replicas_path, selector_text};
use super::registry::Resource;
use super::reply::{self, Body};
use super::request::{Call, Target, body};
use super::write::Writing;
use super::write::deletion::{DeleteOptions, delete_one};
use super::write::patching::patched;
use super::{LogRequest, Server, jsonpath, kinds};

/// Where a kubelet tells of its pods' volumes.
const SUMMARY: &str = "stats/summary";

/// Answers a request for a part.
pub async fn answer(
    server: &Arc<Server>,
    call: &Call,
    target: &Target,
    resource: &Arc<Resource>,
    sub: Sub,
) -> ApiResult<Response<Body>> {
    match (sub, call.method.as_str()) {
        (Sub::Status, "GET") => super::read::get(server, call, target, resource),
        (Sub::Status | Sub::Finalize, "PUT") => {
            Writing::new(server, call, target, resource, Some(sub)).replace()
        }
        (Sub::Status, "PATCH") => Writing::new(server, call, target, resource, Some(sub)).patch(),
        (Sub::Scale, "GET") => {
            let stored = existing(server, target, resource)?;
            Ok(reply::json(200, &scale_of(resource, &stored)))
        }
        (Sub::Scale, "PUT" | "PATCH") => scale(server, call, target, resource),
        (Sub::Token, "POST") => {
            let account = existing(server, target, resource)?;
            let request = body(&call.content_type, &call.body)?;
            Ok(reply::json(201, &server.tokens.request(&account, &request, &server.store)?))
        }
        (Sub::Binding, "POST") => bind(server, call, target, resource),
        (Sub::Eviction, "POST") => evict(server, call, target, resource),
        (Sub::Log, "GET") => log(server, call, target, resource).await,
        (Sub::Proxy, "GET") => proxied(server, target, resource).await,
        _ => Err(ApiError::method_not_allowed()),
    }
}

fn existing(server: &Server, target: &Target, resource: &Resource) -> ApiResult<Arc<Value>> {
    let key = (target.namespace_key(resource), target.name.clone());
    server
        .store
        .get(&resource.storage, &key)
        .ok_or_else(|| ApiError::not_found(&resource.group, &resource.plural, &target.name))
}

fn scale_of(resource: &Resource, object: &Value) -> Value {
    let (spec, status, selector) = replicas_path(resource).unwrap_or_default();
    let one = |path: &str| {
        if path.is_empty() {
            Value::Null
        } else {
            jsonpath::find(object, path).first().copied().cloned().unwrap_or(Value::Null)
        }
    };
    let mut status = json!({"replicas": one(&status).as_i64().unwrap_or(0)});
    let selector = selector_text(&one(&selector));
    if !selector.is_empty() {
        status["selector"] = json!(selector);
    }
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": one(&spec).as_i64().unwrap_or(0)}, "status": status})
}

fn scale(
    server: &Server,
    call: &Call,
    target: &Target,
    resource: &Arc<Resource>,
) -> ApiResult<Response<Body>> {
    let dry_run = WriteOptions::of(call)?.dry_run;
    let manager = update::manager_name(call.query.get("fieldManager"), &call.user_agent);
    let (spec_path, _, _) = replicas_path(resource).unwrap_or_default();
    let stored = server.store.write(dry_run, |t| {
        let key = (target.namespace_key(resource), target.name.clone());
        let old = t
            .get(&resource.storage, &key)
            .ok_or_else(|| ApiError::not_found(&resource.group, &resource.plural, &target.name))?;
        let current = scale_of(resource, &old);
        let wanted = if call.method == Method::PUT {
            body(&call.content_type, &call.body)?
        } else {
            // A scale has no lists, so strategic merge is merge.
            match call.content_type.as_str() {
                "application/strategic-merge-patch+json" | "application/apply-patch+yaml" => {
                    let patch = super::request::yaml(&call.body)
                        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
                    super::patch::merge_patch(&current, patch.to_string().as_bytes())?
                }
                _ => patched(call, &current, &super::schema::Schema::default(), true)?,
            }
        };
        let version = text(&wanted, &["metadata", "resourceVersion"]);
        if !version.is_empty() && version != text(&old, &["metadata", "resourceVersion"]) {
            return Err(ApiError::modified(&resource.group, &resource.plural, &target.name));
        }
        let replicas = number(&wanted, &["spec", "replicas"]).unwrap_or(0);
        if replicas < 0 {
            let error =
                FieldError::invalid("spec.replicas", &json!(replicas), "must be greater than or equal to 0");
            return Err(ApiError::invalid("autoscaling", "Scale", &target.name, &[error]));
        }
        let mut new = Value::clone(&old);
        let path: Vec<&str> = spec_path.split('.').filter(|p| !p.is_empty()).collect();
        if at(&new, &path).as_i64() == Some(replicas) {
            return Ok(old);
        }
        set(&mut new, &path, replicas);
        if resource.generation {
            let next = number(&old, &["metadata", "generation"]).unwrap_or(0) + 1;
            set(&mut new, &["metadata", "generation"], next);
        }
        let api_version = resource.api_version();
        let write = update::Write {
            manager: &manager,
            subresource: "scale",
            api_version: &api_version,
            has_status: true,
            schema: resource.schema(),
        };
        update::track(Some(&old), &mut new, &write);
        Ok(t.put(&resource.storage, key, new))
    })?;
    Ok(reply::json(200, &scale_of(resource, &stored)))
}

fn success(status: u16) -> Response<Body> {
    reply::json(
        status,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": status}),
    )
}

/// Puts a pod on a node.
fn bind(
    server: &Server,
    call: &Call,
    target: &Target,
    resource: &Arc<Resource>,
) -> ApiResult<Response<Body>> {
    let binding = body(&call.content_type, &call.body)?;
    let node = text(&binding, &["target", "name"]).to_owned();
    if node.is_empty() {
        return Err(ApiError::invalid(
            "",
            "Binding",
            &target.name,
            &[FieldError::required("target.name", "")],
        ));
    }
    server.store.write(WriteOptions::of(call)?.dry_run, |t| {
        let key = (target.namespace.clone(), target.name.clone());
        let pod = t.get(&resource.storage, &key).ok_or_else(|| ApiError::not_found("", "pods", &target.name))?;
        let there = text(&pod, &["spec", "nodeName"]);
        if !there.is_empty() {
            let why = format!("pod {} is already assigned to node {there:?}", target.name);
            return Err(ApiError::conflict("", "pods/binding", &target.name, &why));
        }
        let mut bound = Value::clone(&pod);
        set(&mut bound, &["spec", "nodeName"], node.clone());
        let conditions = super::json::place(&mut bound, &["status", "conditions"]);
        let scheduled = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": super::json::now()});
        match conditions.as_array_mut() {
            Some(list) => {
                list.retain(|c| c["type"] != "PodScheduled");
                list.push(scheduled);
            }
            None => *conditions = json!([scheduled]),
        }
        t.put(&resource.storage, key, bound);
        Ok(())
    })?;
    Ok(success(201))
}

/// Deletes a pod unless a disruption budget forbids it.
fn evict(
    server: &Server,
    call: &Call,
    target: &Target,
    resource: &Arc<Resource>,
) -> ApiResult<Response<Body>> {
    let eviction = body(&call.content_type, &call.body)?;
    let options = DeleteOptions {
        grace: number(&eviction, &["deleteOptions", "gracePeriodSeconds"]),
        ..DeleteOptions::default()
    };
    server.store.write(WriteOptions::of(call)?.dry_run, |t| {
        let key = (target.namespace.clone(), target.name.clone());
        let pod =
            t.get(&resource.storage, &key).ok_or_else(|| ApiError::not_found("", "pods", &target.name))?;
        let labels = at(&pod, &["metadata", "labels"]).as_object().cloned().unwrap_or_default();
        let finished = matches!(text(&pod, &["status", "phase"]), "Succeeded" | "Failed" | "Pending");
        for budget in t.list("policy/poddisruptionbudgets", Some(&target.namespace)) {
            let selector = at(&budget, &["spec", "selector"]);
            if finished || selector.is_null() || !kinds::workloads::selects(selector, &labels) {
                continue;
            }
            if number(&budget, &["status", "disruptionsAllowed"]).unwrap_or(0) <= 0 {
                return Err(ApiError::too_many_requests(
                    "Cannot evict pod as it would violate the pod's disruption budget.",
                    10,
                ));
            }
        }
        delete_one(t, resource, &pod, &options).map(|_| ())
    })?;
    Ok(success(201))
}

/// A container's output, from whoever runs the pods.
async fn log(
    server: &Arc<Server>,
    call: &Call,
    target: &Target,
    resource: &Resource,
) -> ApiResult<Response<Body>> {
    let pod = existing(server, target, resource)?;
    let container = container_in(&pod, target, call.query.get("container"))?;
    let provider = server.logs.read().clone();
    let Some(provider) = provider else {
        return Err(ApiError::internal(format!(
            "no kubelet is attached to this server that could give the log of pod {}",
            name(&pod)
        )));
    };
    let request = LogRequest {
        namespace: target.namespace.clone(),
        pod: target.name.clone(),
        pod_uid: uid(&pod).to_owned(),
        container,
        follow: call.query.flag("follow") && call.query.get("follow").is_some(),
        previous: call.query.flag("previous") && call.query.get("previous").is_some(),
        tail_lines: call.query.number("tailLines")?,
        limit_bytes: call.query.number("limitBytes")?,
    };
    let chunks = provider.logs(request).await.map_err(ApiError::bad_request)?;
    let stopping = server.stopping.clone();
    Ok(reply::stream("text/plain", chunks.take_until(stopping.cancelled_owned())))
}

/// What a node's kubelet serves, as far as it is asked for: its summary.
async fn proxied(server: &Server, target: &Target, resource: &Resource) -> ApiResult<Response<Body>> {
    let node = existing(server, target, resource)?;
    let provider = server.summaries.read().clone();
    match provider.filter(|_| target.below == SUMMARY) {
        Some(provider) => Ok(reply::json(200, &provider.summary(name(&node)).await)),
        None => Ok(reply::plain(404, "404 page not found")),
    }
}

/// The container that a request for a part of a pod names or means.
pub fn container_of(server: &Server, target: &Target, wanted: Option<&str>) -> ApiResult<String> {
    let pods = server.registry().find("", "v1", "pods").cloned().ok_or_else(ApiError::no_such_resource)?;
    container_in(&*existing(server, target, &pods)?, target, wanted)
}

fn container_in(pod: &Value, target: &Target, wanted: Option<&str>) -> ApiResult<String> {
    let containers: Vec<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|kind| list(pod, &["spec", kind]))
        .map(|c| text(c, &["name"]))
        .collect();
    let container = match wanted {
        Some(wanted) if containers.contains(&wanted) => wanted,
        Some(wanted) => {
            return Err(ApiError::bad_request(format!(
                "container {wanted} is not valid for pod {}",
                target.name
            )));
        }
        None if list(pod, &["spec", "containers"]).len() == 1 => containers.first().copied().unwrap_or(""),
        None => {
            return Err(ApiError::bad_request(format!(
                "a container name must be specified for pod {}, choose one of: {containers:?}",
                target.name
            )));
        }
    };
    Ok(container.to_owned())
}
