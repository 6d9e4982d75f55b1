//! An API server in memory that is written to, with the controllers that a stop meets: Pods go a look
//! after what runs them is stopped, and come when it runs.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Kind, api_version, array, kind, name, namespace, text, uid};
use crate::transform::merge;
use crate::workloads::rules::Registry;

/// What happens beside the requests, at each listing of Pods.
type Beside = Box<dyn FnMut(&mut Objects) + Send>;

/// Objects by path.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    pub by_path: BTreeMap<String, Value>,
    version: u64,
}

#[derive(Default)]
struct State {
    /// What containers have printed, by the path of their Pod's log.
    logs: BTreeMap<String, String>,
    objects: Objects,
    kinds: Vec<Kind>,
    writes: Vec<String>,
    /// The write, from 0, that is refused.
    refused: Option<usize>,
    beside: Option<Beside>,
}

/// The server.
#[derive(Clone, Default)]
pub struct Server(Arc<Mutex<State>>);

impl Objects {
    /// Puts an object, as if somebody had written it.
    pub fn put(&mut self, path: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        for key in ["annotations", "labels"] {
            if object["metadata"][key].as_object().is_none_or(serde_json::Map::is_empty) {
                object["metadata"].as_object_mut().unwrap().remove(key);
            }
        }
        if let Some(spec) = object.pointer_mut("/spec/template/spec").and_then(Value::as_object_mut)
            && spec.get("nodeSelector").and_then(Value::as_object).is_some_and(serde_json::Map::is_empty)
        {
            spec.remove("nodeSelector");
        }
        self.by_path.insert(path.to_owned(), object);
    }

    /// Changes the object of this name.
    pub fn change(&mut self, wanted: &str, change: impl FnOnce(&mut Value)) {
        let (path, mut object) = self
            .by_path
            .iter()
            .find(|(_, object)| name(object) == wanted)
            .map(|(path, object)| (path.clone(), object.clone()))
            .unwrap();
        change(&mut object);
        self.put(&path, object);
    }

    /// Pods whose owner is stopped go.
    fn settle(&mut self) {
        let stopped = |object: &Value| {
            let way = Registry::built_in().way(object);
            way.is_some_and(|way| way.is_stopped(object))
        };
        let objects: Vec<Value> = self.by_path.values().cloned().collect();
        self.by_path.retain(|_, object| {
            kind(object) != "Pod"
                || array(object, "/metadata/ownerReferences").iter().all(|reference| {
                    let owner = objects.iter().find(|owner| uid(owner) == text(reference, "/uid"));
                    let above = owner.and_then(|owner| {
                        let reference = array(owner, "/metadata/ownerReferences").first()?;
                        objects.iter().find(|above| uid(above) == text(reference, "/uid"))
                    });
                    owner.is_some_and(|owner| !stopped(owner)) && !above.is_some_and(stopped)
                })
        });
    }
}

impl Server {
    /// Adds an object; its uid is kind and name.
    pub fn add(&self, mut object: Value) {
        let mut state = self.0.lock().unwrap();
        let (group, version) = api_version(&object).split_once('/').unwrap_or(("", api_version(&object)));
        let found = Kind {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind(&object).to_owned(),
            plural: format!("{}s", kind(&object).to_lowercase()),
            namespaced: !namespace(&object).is_empty(),
            verbs: ["get", "list", "patch"].map(str::to_owned).to_vec(),
        };
        object["metadata"]["uid"] = json!(format!("{}/{}", kind(&object), name(&object)));
        let path = found.object(Some(namespace(&object)), name(&object));
        if !state.kinds.contains(&found) {
            state.kinds.push(found);
        }
        state.objects.put(&path, object);
    }

    /// What a Pod of the namespace `cms` has printed.
    pub fn log(&self, pod: &str, printed: &str) {
        let path = format!("/api/v1/namespaces/cms/pods/{pod}/log");
        self.0.lock().unwrap().logs.insert(path, printed.to_owned());
    }

    /// What happens beside the requests.
    pub fn beside(&self, beside: impl FnMut(&mut Objects) + Send + 'static) {
        self.0.lock().unwrap().beside = Some(Box::new(beside));
    }

    /// Refuses one write, as if the spoke had died before it.
    pub fn refuse_write(&self, which: Option<usize>) {
        let mut state = self.0.lock().unwrap();
        state.refused = which;
        state.writes.clear();
    }

    /// Changes what is there.
    pub fn change(&self, wanted: &str, change: impl FnOnce(&mut Value)) {
        self.0.lock().unwrap().objects.change(wanted, change);
    }

    /// The object of this name.
    pub fn object(&self, wanted: &str) -> Value {
        let state = self.0.lock().unwrap();
        state.objects.by_path.values().find(|object| name(object) == wanted).cloned().unwrap()
    }

    /// What was written, in order: method and name.
    pub fn writes(&self) -> Vec<String> {
        self.0.lock().unwrap().writes.clone()
    }

    /// Everything but Pods and versions, for comparisons.
    pub fn picture(&self) -> BTreeMap<String, Value> {
        let state = self.0.lock().unwrap();
        let kept = state
            .objects
            .by_path
            .iter()
            .filter(|(_, object)| !matches!(kind(object), "Pod" | "Namespace" | "VolumeAttachment"));
        kept.map(|(path, object)| {
            let mut object = object.clone();
            object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
            (path.clone(), object)
        })
        .collect()
    }

    /// A client of it.
    pub fn cluster(&self) -> Cluster {
        let state = Arc::clone(&self.0);
        let service = tower::service_fn(move |request: Request<Body>| {
            let state = Arc::clone(&state);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                let (code, reply) =
                    state.lock().unwrap().answer(&parts.method, &parts.uri.to_string(), &body);
                // A log is a text and no document.
                let reply = reply.as_str().map_or_else(|| reply.to_string(), str::to_owned);
                let reply = Body::from(reply.into_bytes());
                Ok::<_, Infallible>(Response::builder().status(code).body(reply).unwrap())
            }
        });
        Cluster::new(kube::Client::new(service, "default"))
    }
}

impl State {
    fn answer(&mut self, method: &Method, uri: &str, body: &Value) -> (u16, Value) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        if path == "/api" || path == "/apis" {
            return (200, self.discovery(path == "/api"));
        }
        match *method {
            Method::GET if query.contains("limit=") => (200, self.list(path, query)),
            Method::GET if path.ends_with("/log") => match self.logs.get(path) {
                Some(log) => (200, json!(log)),
                None => (404, status("NotFound", path)),
            },
            Method::GET => self.found(path),
            _ => {
                if self.refused == Some(self.writes.len()) {
                    self.refused = None;
                    return (403, status("Forbidden", "the test refuses this write"));
                }
                self.write(method, path, body)
            }
        }
    }

    fn write(&mut self, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        let (code, object) = self.found(path);
        if code != 200 {
            return (code, object);
        }
        self.writes.push(format!("{method} {}", name(&object)));
        if *method == Method::DELETE {
            self.objects.by_path.remove(path);
            return (200, json!({}));
        }
        let wanted = text(body, "/metadata/resourceVersion");
        if !wanted.is_empty() && wanted != text(&object, "/metadata/resourceVersion") {
            return (409, status("Conflict", "the object has been modified"));
        }
        let mut after = object;
        merge(&mut after, body);
        self.objects.put(path, after);
        self.found(path)
    }

    fn found(&self, path: &str) -> (u16, Value) {
        match self.objects.by_path.get(path) {
            Some(object) => (200, object.clone()),
            None => (404, status("NotFound", path)),
        }
    }

    fn list(&mut self, path: &str, query: &str) -> Value {
        let selector = query.split('&').find_map(|pair| pair.strip_prefix("labelSelector="));
        let selector =
            selector.unwrap_or_default().replace("%3D", "=").replace("%2C", ",").replace("%2F", "/");
        let meets = |object: &Value| {
            selector.split(',').filter(|part| !part.is_empty()).all(|part| {
                let (key, value) = part.split_once('=').unwrap();
                crate::cluster::label(object, key) == Some(value)
            })
        };
        let items: Vec<Value> = self
            .objects
            .by_path
            .iter()
            .filter(|(at, _)| at.rsplit_once('/').is_some_and(|(collection, _)| collection == path))
            .map(|(_, object)| object.clone())
            .filter(meets)
            .collect();
        if path.ends_with("/pods") {
            if let Some(mut beside) = self.beside.take() {
                beside(&mut self.objects);
                self.beside = Some(beside);
            }
            self.objects.settle();
        }
        json!({"metadata": {}, "items": items})
    }

    fn discovery(&self, core: bool) -> Value {
        let groups = self.kinds.iter().filter(|kind| kind.group.is_empty() == core).map(|kind| {
            json!({"metadata": {"name": kind.group}, "versions": [{"version": kind.version, "resources": [
                {"resource": kind.plural, "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
                 "verbs": kind.verbs,
                 "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind}}]}]})
        });
        json!({"kind": "APIGroupDiscoveryList", "items": groups.collect::<Vec<_>>()})
    }
}

fn status(reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "reason": reason, "message": message})
}
