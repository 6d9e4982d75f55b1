//! An API server in memory: as much of one as the hub asks for. Objects are JSON by path;
//! optimistic concurrency, status subresource, merge patch, apply (as a merge), watches.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The token that the server knows as that of a person who may read everything.
pub(super) const PERSON: &str = "person";
/// The token of somebody who may read nothing.
pub(super) const STRANGER: &str = "stranger";

#[derive(Default)]
struct State {
    /// By `<group version>/<plural>/<namespace>/<name>`.
    objects: BTreeMap<String, Value>,
    version: u64,
    /// Status writes that are to fail with a conflict, as if somebody had written in between.
    conflicts: u32,
}

#[derive(Clone)]
pub(super) struct FakeApi {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<(String, Value)>,
}

impl FakeApi {
    pub(super) fn new() -> Self {
        let (events, _) = broadcast::channel(4096);
        Self { state: Arc::default(), events }
    }

    pub(super) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }.boxed()
        });
        Client::new(service, "isthmus")
    }

    /// Lets the next status writes fail with a conflict.
    pub(super) fn conflict(&self, times: u32) {
        self.state.lock().unwrap().conflicts = times;
    }

    /// The objects of a plural.
    pub(super) fn all(&self, plural: &str) -> Vec<Value> {
        let part = format!("/{plural}/");
        let state = self.state.lock().unwrap();
        state
            .objects
            .iter()
            .filter(|(path, _)| path.contains(&part))
            .map(|(_, object)| object.clone())
            .collect()
    }

    async fn answer(&self, request: Request<Body>) -> Reply {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let path = Path::parse(head.uri.path());
        let query = head.uri.query().unwrap_or_default();
        if head.method == Method::GET && path.name.is_none() {
            return if query.contains("watch=true") { self.watch(&path, query) } else { self.list(&path) };
        }
        match path.plural.as_str() {
            "tokenreviews" => return reply(StatusCode::CREATED, &review_token(&body)),
            "subjectaccessreviews" => return reply(StatusCode::CREATED, &review_access(&body)),
            _ => {}
        }
        let mut state = self.state.lock().unwrap();
        match head.method {
            Method::GET => match state.objects.get(&path.key()) {
                Some(object) => reply(StatusCode::OK, object),
                None => failure(StatusCode::NOT_FOUND, "NotFound"),
            },
            Method::POST => {
                let name = body["metadata"]["name"].as_str().unwrap().to_owned();
                let path = Path { name: Some(name), ..path };
                if state.objects.contains_key(&path.key()) {
                    return failure(StatusCode::CONFLICT, "AlreadyExists");
                }
                self.store(&mut state, &path, body, StatusCode::CREATED)
            }
            Method::PUT | Method::PATCH => self.write(&mut state, &path, &head.method, query, body),
            Method::DELETE => match state.objects.remove(&path.key()) {
                Some(object) => {
                    drop(self.events.send((path.key(), json!({"type": "DELETED", "object": object}))));
                    reply(StatusCode::OK, &object)
                }
                None => failure(StatusCode::NOT_FOUND, "NotFound"),
            },
            _ => failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }

    fn write(&self, state: &mut State, path: &Path, method: &Method, query: &str, body: Value) -> Reply {
        let Some(held) = state.objects.get(&path.key()).cloned() else {
            let applies = method == Method::PATCH && query.contains("fieldManager");
            return if applies {
                self.store(state, path, body, StatusCode::CREATED)
            } else {
                failure(StatusCode::NOT_FOUND, "NotFound")
            };
        };
        let given = &body["metadata"]["resourceVersion"];
        let outdated = !given.is_null() && *given != held["metadata"]["resourceVersion"];
        let disturbed = path.sub.is_some() && state.conflicts > 0;
        if outdated || disturbed {
            state.conflicts = state.conflicts.saturating_sub(u32::from(disturbed));
            return failure(StatusCode::CONFLICT, "Conflict");
        }
        let mut object = held;
        if path.sub.as_deref() == Some("status") {
            object["status"] = body["status"].clone();
        } else if method == Method::PUT {
            let status = object["status"].take();
            object = body;
            object["status"] = status;
        } else {
            merge(&mut object, &body);
        }
        let deleting = !object["metadata"]["deletionTimestamp"].is_null();
        if deleting && object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
            state.objects.remove(&path.key());
            drop(self.events.send((path.key(), json!({"type": "DELETED", "object": object}))));
            return reply(StatusCode::OK, &object);
        }
        self.store(state, path, object, StatusCode::OK)
    }

    fn store(&self, state: &mut State, path: &Path, mut object: Value, status: StatusCode) -> Reply {
        state.version += 1;
        let meta = object["metadata"].as_object_mut().unwrap();
        meta.insert("resourceVersion".into(), json!(state.version.to_string()));
        if let Some(namespace) = &path.namespace {
            meta.insert("namespace".into(), json!(namespace));
        }
        meta.entry("uid").or_insert_with(|| json!(uuid::Uuid::new_v4().to_string()));
        meta.entry("creationTimestamp").or_insert_with(|| json!("2026-11-22T12:00:00Z"));
        if let Some(texts) = object["stringData"].take().as_object() {
            use base64::Engine as _;
            for (key, text) in texts {
                let encoded = base64::prelude::BASE64_STANDARD.encode(text.as_str().unwrap());
                object["data"][key] = json!(encoded);
            }
        }
        let kind = if state.objects.contains_key(&path.key()) { "MODIFIED" } else { "ADDED" };
        state.objects.insert(path.key(), object.clone());
        drop(self.events.send((path.key(), json!({"type": kind, "object": object}))));
        reply(status, &object)
    }

    fn list(&self, path: &Path) -> Reply {
        let state = self.state.lock().unwrap();
        let items: Vec<_> =
            state.objects.iter().filter(|(key, _)| path.holds(key)).map(|(_, o)| o.clone()).collect();
        let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": state.version.to_string()}, "items": items});
        reply(StatusCode::OK, &list)
    }

    fn watch(&self, path: &Path, query: &str) -> Reply {
        let from = query.split('&').find_map(|part| part.strip_prefix("resourceVersion="));
        let from: u64 = from.and_then(|text| text.parse().ok()).unwrap_or(0);
        let state = self.state.lock().unwrap();
        let live = BroadcastStream::new(self.events.subscribe());
        let newer = |object: &Value| version(object) > from;
        let missed: Vec<_> = state
            .objects
            .iter()
            .filter(|(key, object)| path.holds(key) && newer(object))
            .map(|(_, object)| json!({"type": "ADDED", "object": object}))
            .collect();
        drop(state);
        let path = path.clone();
        let live = live.filter_map(move |event| {
            let event = event.ok().filter(|(key, _)| path.holds(key)).map(|(_, event)| event);
            std::future::ready(event)
        });
        let lines =
            stream::iter(missed).chain(live).map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n")))));
        Response::new(StreamBody::new(lines).boxed_unsync())
    }
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[derive(Clone)]
struct Path {
    group: String,
    plural: String,
    namespace: Option<String>,
    name: Option<String>,
    sub: Option<String>,
}

impl Path {
    fn parse(path: &str) -> Self {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, rest) = if parts[0] == "api" {
            (parts[1].to_owned(), &parts[2..])
        } else {
            (parts[1..3].join("/"), &parts[3..])
        };
        let namespaced = rest.first() == Some(&"namespaces") && rest.len() > 2;
        let (namespace, rest) =
            if namespaced { (Some(rest[1].to_owned()), &rest[2..]) } else { (None, rest) };
        let at = |index: usize| rest.get(index).map(|&part| part.to_owned());
        Self { group, plural: rest[0].to_owned(), namespace, name: at(1), sub: at(2) }
    }

    fn key(&self) -> String {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        format!("{}/{}/{}/{}", self.group, self.plural, text(&self.namespace), text(&self.name))
    }

    fn holds(&self, key: &str) -> bool {
        let prefix = match &self.namespace {
            Some(namespace) => format!("{}/{}/{namespace}/", self.group, self.plural),
            None => format!("{}/{}/", self.group, self.plural),
        };
        key.starts_with(&prefix)
    }
}

fn review_token(body: &Value) -> Value {
    let token = body["spec"]["token"].as_str().unwrap_or_default();
    let known = [PERSON, STRANGER].contains(&token);
    json!({"metadata": {}, "spec": {}, "status": {"authenticated": known, "user": {"username": token}}})
}

fn review_access(body: &Value) -> Value {
    json!({"metadata": {}, "spec": {}, "status": {"allowed": body["spec"]["user"] == PERSON}})
}

fn merge(into: &mut Value, patch: &Value) {
    match (into.as_object_mut(), patch.as_object()) {
        (Some(object), Some(patch)) => {
            for (key, value) in patch {
                merge(object.entry(key).or_insert(Value::Null), value);
            }
        }
        _ => *into = patch.clone(),
    }
}

fn reply(status: StatusCode, body: &Value) -> Reply {
    let body = http_body_util::Full::new(Bytes::from(body.to_string())).boxed_unsync();
    Response::builder().status(status).body(body).unwrap()
}

fn failure(status: StatusCode, reason: &str) -> Reply {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason, "reason": reason, "code": status.as_u16()});
    reply(status, &body)
}
