//! An API server in memory, just enough for this program: objects by path, lists, watches, and a
//! hub that answers each write with writes of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use assert_cmd::Command;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// What a hub does about an object that was written: objects to write, with their paths.
pub type Hub = fn(&Value) -> Vec<(String, Value)>;

/// The path of a record in namespace `isthmus`.
pub fn record(plural: &str, name: &str) -> String {
    format!("/apis/isthmus.dev/v1alpha1/namespaces/isthmus/{plural}/{name}")
}

/// The path of a core object in namespace `isthmus`.
pub fn core(plural: &str, name: &str) -> String {
    format!("/api/v1/namespaces/isthmus/{plural}/{name}")
}

struct Change {
    path: String,
    event: Value,
}

#[derive(Default)]
struct Store {
    objects: BTreeMap<String, Value>,
    changes: Vec<Change>,
    /// Writes that others make just before the next writes of the program.
    interferences: usize,
    /// Collections that the user may not list in all namespaces.
    forbidden_everywhere: bool,
}

struct Shared {
    store: Mutex<Store>,
    changed: watch::Sender<usize>,
    hub: Hub,
}

/// A running API server; it ends when it is dropped.
pub struct FakeApi {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
    folder: tempfile::TempDir,
}

impl FakeApi {
    /// Starts one on a free port.
    pub fn start(hub: Hub) -> Self {
        let shared = Arc::new(Shared { store: Mutex::default(), changed: watch::Sender::new(0), hub });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        runtime.spawn(async move { axum::serve(listener, router).await });
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: hub\n\
             clusters: [{{name: hub, cluster: {{server: 'http://{address}'}}}}]\n\
             contexts: [{{name: hub, context: {{cluster: hub, user: me}}}}]\n\
             users: [{{name: me, user: {{token: secret}}}}]\n"
        );
        std::fs::write(folder.path().join("kubeconfig"), kubeconfig).unwrap();
        Self { shared, runtime: Some(runtime), folder }
    }

    /// The program, on this API server.
    pub fn isthmus(&self, args: &[&str]) -> Command {
        let mut command = crate::isthmus();
        command.arg("--kubeconfig").arg(self.file("kubeconfig")).args(args);
        command
    }

    /// A file in a folder that goes with the server.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts an object there.
    pub fn put(&self, path: &str, object: Value) {
        self.shared.put(path, object);
    }

    /// The object at a path.
    pub fn get(&self, path: &str) -> Option<Value> {
        self.shared.store().objects.get(path).cloned()
    }

    /// All objects of a kind in the hub's namespace.
    pub fn all(&self, plural: &str) -> Vec<Value> {
        let folder = record(plural, "");
        let store = self.shared.store();
        let found = store.objects.iter().filter(|(path, _)| path.starts_with(&folder));
        found.map(|(_, object)| object.clone()).collect()
    }

    /// How many objects there are.
    pub fn count(&self) -> usize {
        self.shared.store().objects.len()
    }

    /// Lets somebody else change each of the next objects just before the program does.
    pub fn interfere(&self, times: usize) {
        self.shared.store().interferences = times;
    }

    /// Forbids lists of all namespaces.
    pub fn forbid_lists_of_all_namespaces(&self) {
        self.shared.store().forbidden_everywhere = true;
    }
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    /// Writes, then lets the hub answer, until it has nothing more to say.
    fn put(&self, path: &str, object: Value) -> Value {
        let written = self.write(path, object);
        for (path, answer) in (self.hub)(&written) {
            self.write(&path, answer);
        }
        written
    }

    fn write(&self, path: &str, mut object: Value) -> Value {
        let mut store = self.store();
        let version = store.changes.len() + 1;
        let (_, name) = path.rsplit_once('/').unwrap();
        let new = !store.objects.contains_key(path);
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(version.to_string());
        metadata["name"] = json!(name);
        metadata["namespace"] = json!(path.split('/').nth_back(2));
        if metadata["uid"].is_null() {
            metadata["uid"] = json!(format!("uid-{version}"));
        }
        let event = json!({"type": if new { "ADDED" } else { "MODIFIED" }, "object": object});
        store.objects.insert(path.to_owned(), object.clone());
        store.changes.push(Change { path: path.to_owned(), event });
        self.changed.send_replace(version);
        object
    }

    fn delete(&self, path: &str) -> Option<Value> {
        let mut held = self.store().objects.get(path)?.clone();
        if held["metadata"]["finalizers"].is_array() {
            held["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            return Some(self.put(path, held));
        }
        let mut store = self.store();
        let gone = store.objects.remove(path)?;
        let event = json!({"type": "DELETED", "object": gone});
        store.changes.push(Change { path: path.to_owned(), event });
        self.changed.send_replace(store.changes.len());
        Some(gone)
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
    body: Bytes,
) -> Response {
    let path = uri.path();
    let parts = path.trim_matches('/').split('/').collect::<Vec<_>>();
    // `/api/v1/…` is one part shorter than `/apis/GROUP/VERSION/…`.
    let rest = &parts[if parts[0] == "api" { 2 } else { 3 }..];
    let named = rest.first() == Some(&"namespaces") && rest.len() == 4;
    let object = || serde_json::from_slice::<Value>(&body).unwrap();
    match method {
        Method::GET if named => match shared.store().objects.get(path) {
            Some(object) => reply(StatusCode::OK, object),
            None => missing(rest),
        },
        Method::GET if query.contains_key("watch") => watch_collection(&shared, path, &query),
        Method::GET => list_collection(&shared, path, &query),
        Method::POST => {
            let object = object();
            let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
            if shared.store().objects.contains_key(&path) {
                return status(StatusCode::CONFLICT, "AlreadyExists", "already exists", rest);
            }
            if object["spec"]["bucket"] == "refused-bucket" {
                return status(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "Invalid",
                    "the bucket is not allowed",
                    rest,
                );
            }
            reply(StatusCode::CREATED, &shared.put(&path, object))
        }
        Method::PUT => {
            let Some(current) = shared.store().objects.get(path).cloned() else { return missing(rest) };
            let disturbed = {
                let mut store = shared.store();
                let some = store.interferences > 0;
                store.interferences = store.interferences.saturating_sub(1);
                some
            };
            let current = if disturbed { shared.write(path, current) } else { current };
            let object = object();
            if object["metadata"]["resourceVersion"] != current["metadata"]["resourceVersion"] {
                return status(StatusCode::CONFLICT, "Conflict", "the object has been modified", rest);
            }
            reply(StatusCode::OK, &shared.put(path, object))
        }
        Method::PATCH => {
            let Some(mut current) = shared.store().objects.get(path).cloned() else { return missing(rest) };
            merge(&mut current, &object());
            reply(StatusCode::OK, &shared.put(path, current))
        }
        Method::DELETE => match shared.delete(path) {
            Some(object) => reply(StatusCode::OK, &object),
            None => missing(rest),
        },
        _ => status(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "not known here", rest),
    }
}

/// A merge patch (RFC 7386).
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        match target.as_object_mut() {
            Some(target) if value.is_null() => drop(target.remove(name)),
            Some(target) => merge(target.entry(name.clone()).or_insert(Value::Null), value),
            None => {}
        }
    }
}

/// Whether an object belongs to a collection, of one namespace or all, and has the name asked for.
fn belongs(path: &str, collection: &str, query: &BTreeMap<String, String>) -> bool {
    let (parent, name) = path.rsplit_once('/').unwrap();
    let (base, plural) = collection.rsplit_once('/').unwrap();
    let within = if collection.contains("/namespaces/") {
        parent == collection
    } else {
        parent.starts_with(base) && parent.ends_with(&format!("/{plural}"))
    };
    let wanted = query.get("fieldSelector").and_then(|selector| selector.strip_prefix("metadata.name="));
    within && wanted.is_none_or(|wanted| wanted == name)
}

fn list_collection(shared: &Shared, path: &str, query: &BTreeMap<String, String>) -> Response {
    let store = shared.store();
    if store.forbidden_everywhere && !path.contains("/namespaces/") {
        return status(StatusCode::FORBIDDEN, "Forbidden", "not in all namespaces", &[]);
    }
    let found = store.objects.iter().filter(|(object, _)| belongs(object, path, query));
    let items: Vec<_> = found.map(|(_, object)| object).collect();
    let version = store.changes.len().to_string();
    let list =
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items});
    reply(StatusCode::OK, &list)
}

fn watch_collection(shared: &Arc<Shared>, path: &str, query: &BTreeMap<String, String>) -> Response {
    let since = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
    let (shared, path, query) = (Arc::clone(shared), path.to_owned(), query.clone());
    let changed = shared.changed.subscribe();
    let events = futures::stream::unfold((since, changed), move |(mut next, mut changed)| {
        let (shared, path, query) = (Arc::clone(&shared), path.clone(), query.clone());
        async move {
            loop {
                while next < shared.store().changes.len() {
                    let store = shared.store();
                    let change = &store.changes[next];
                    next += 1;
                    if belongs(&change.path, &path, &query) {
                        let line = format!("{}\n", change.event);
                        drop(store);
                        return Some((Ok::<_, std::io::Error>(line), (next, changed)));
                    }
                }
                changed.changed().await.ok()?;
            }
        }
    });
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(events)).into_response()
}

fn reply(code: StatusCode, value: &Value) -> Response {
    (code, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn missing(rest: &[&str]) -> Response {
    status(StatusCode::NOT_FOUND, "NotFound", "not found", rest)
}

fn status(code: StatusCode, reason: &str, message: &str, rest: &[&str]) -> Response {
    let details = json!({"kind": rest.get(2), "name": rest.get(3).unwrap_or(&"")});
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(), "reason": reason,
        "message": message, "details": details,
    });
    reply(code, &body)
}
