//! An API server in memory, for tests of reading: objects by path, lists in pages.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use crate::cluster::{Catalogue, Cluster, Kind, api_version, kind, name, namespace, text};

type Refusal = dyn Fn(&str) -> Option<(u16, Value)> + Send + Sync;

/// The objects of a cluster, and how it answers.
#[derive(Default)]
pub struct Fake {
    kinds: Vec<Kind>,
    objects: Vec<Value>,
    refusal: Option<Arc<Refusal>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// Adds an object; its uid is its name, if it has none.
    pub fn add(&mut self, mut object: Value) {
        if text(&object, "/metadata/uid").is_empty() {
            object["metadata"]["uid"] = json!(format!("{}/{}", kind(&object), name(&object)));
        }
        let (group, version) = api_version(&object).split_once('/').unwrap_or(("", api_version(&object)));
        let known = |k: &Kind| k.group == group && k.version == version && k.kind == kind(&object);
        if !self.kinds.iter().any(known) {
            let namespaced = !namespace(&object).is_empty();
            self.serve(
                group.to_owned().as_str(),
                version.to_owned().as_str(),
                kind(&object).to_owned().as_str(),
                namespaced,
            );
        }
        self.objects.push(object);
    }

    /// Serves a kind in a version.
    pub fn serve(&mut self, group: &str, version: &str, kind: &str, namespaced: bool) {
        let plural = match kind.to_lowercase() {
            name if name.ends_with("ss") => format!("{name}es"),
            name if name.ends_with('s') => name,
            name => format!("{name}s"),
        };
        self.kinds.push(Kind {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural,
            namespaced,
            verbs: ["get", "list", "create"].map(str::to_owned).to_vec(),
        });
    }

    /// Refuses some requests.
    pub fn refusing(
        mut self,
        refusal: impl Fn(&str) -> Option<(u16, Value)> + Send + Sync + 'static,
    ) -> Self {
        self.refusal = Some(Arc::new(refusal));
        self
    }

    /// What was asked, in order.
    pub fn requests(&self) -> Arc<Mutex<Vec<String>>> {
        Arc::clone(&self.requests)
    }

    /// What it serves.
    pub fn catalogue(&self) -> Catalogue {
        Catalogue::of(self.kinds.clone())
    }

    /// A client of it.
    pub fn cluster(&self) -> Cluster {
        let mut collections: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for kind in &self.kinds {
            let of_kind = |object: &&Value| {
                let group = api_version(object).split_once('/').map_or("", |(group, _)| group);
                group == kind.group && self::kind(object) == kind.kind
            };
            for object in self.objects.iter().filter(of_kind) {
                let mut object = object.clone();
                object["apiVersion"] = match kind.group.as_str() {
                    "" => json!(kind.version),
                    group => json!(format!("{group}/{}", kind.version)),
                };
                let place = Some(namespace(&object).to_owned()).filter(|n| !n.is_empty());
                collections.entry(kind.collection(place.as_deref())).or_default().push(object);
            }
        }
        for list in collections.values_mut() {
            list.sort_by(|a, b| name(a).cmp(name(b)));
        }
        let (refusal, requests) = (self.refusal.clone(), Arc::clone(&self.requests));
        let collections = Arc::new(collections);
        let service = tower::service_fn(move |request: Request<Body>| {
            let asked = request.uri().to_string();
            requests.lock().unwrap().push(asked.clone());
            let (code, body) = refusal
                .as_ref()
                .and_then(|refuse| refuse(&asked))
                .unwrap_or_else(|| answer(&collections, &asked));
            let body = Body::from(body.to_string().into_bytes());
            async move { Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap()) }
        });
        Cluster::new(kube::Client::new(service, "default"))
    }
}

fn answer(collections: &BTreeMap<String, Vec<Value>>, asked: &str) -> (u16, Value) {
    let (path, query) = asked.split_once('?').unwrap_or((asked, ""));
    let parameter = |key: &str| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
            .and_then(|v| v.parse::<usize>().ok())
    };
    if query.contains("limit=") {
        let none = Vec::new();
        let list = collections.get(path).unwrap_or(&none);
        let from = parameter("continue").unwrap_or(0);
        let to = list.len().min(from + parameter("limit").unwrap_or(usize::MAX));
        let next = if to < list.len() { to.to_string() } else { String::new() };
        return (200, json!({"metadata": {"continue": next}, "items": list[from..to]}));
    }
    let found = path.rsplit_once('/').and_then(|(collection, wanted)| {
        let wanted = wanted.replace("%3A", ":");
        collections.get(collection)?.iter().find(|object| name(object) == wanted)
    });
    match found {
        Some(object) => (200, object.clone()),
        None => {
            (404, json!({"kind": "Status", "reason": "NotFound", "message": format!("{path} not found")}))
        }
    }
}
