//! Reading and changing clusters by hand: one object by its path, or everything there is.

use std::collections::BTreeMap;

use kube::api::{DynamicObject, ListParams};
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::world::{NAMESPACE, World, eventually};

/// Namespaces that change without anybody's doing.
const BUSY_NAMESPACES: [&str; 4] = [NAMESPACE, "kube-system", "kube-node-lease", "kube-public"];
/// Kinds that do.
const BUSY_KINDS: [&str; 4] = ["Event", "Lease", "Node", "CSINode"];

impl World {
    /// An object by its path, such as `/api/v1/namespaces/cms/services/web`, if it is there.
    pub async fn find(&self, cluster: &str, path: &str) -> Option<Value> {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        match self.client(cluster).request::<Value>(request).await {
            Ok(object) => Some(object),
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => panic!("{path} of {cluster}: {error}"),
        }
    }

    /// An object by its path, which must be there.
    pub async fn get(&self, cluster: &str, path: &str) -> Value {
        self.find(cluster, path).await.unwrap_or_else(|| panic!("{cluster} has no {path}"))
    }

    /// Changes an object by a merge patch.
    pub async fn patch(&self, cluster: &str, path: &str, patch: Value) -> Value {
        self.try_patch(cluster, path, patch).await.unwrap()
    }

    /// As [`World::patch`]; the error is the API server's.
    pub async fn try_patch(&self, cluster: &str, path: &str, patch: Value) -> Result<Value, String> {
        let request = http::Request::patch(path)
            .header("content-type", "application/merge-patch+json")
            .body(serde_json::to_vec(&patch).unwrap())
            .unwrap();
        self.client(cluster).request(request).await.map_err(|error| error.to_string())
    }

    /// Makes an object by a plain POST to a collection, as a client without server-side apply does.
    pub async fn post(&self, cluster: &str, path: &str, object: &Value) -> Value {
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(object).unwrap())
            .unwrap();
        self.client(cluster).request(request).await.unwrap()
    }

    /// Deletes an object, and waits until it is gone.
    pub async fn delete(&self, cluster: &str, path: &str) {
        let options = json!({"propagationPolicy": "Background"});
        let request = http::Request::delete(path)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&options).unwrap())
            .unwrap();
        self.client(cluster).request_text(request).await.unwrap();
        eventually(&format!("{path} of {cluster} to be gone"), || async {
            self.find(cluster, path).await.map_or(Ok(()), |_| Err("still there".to_owned()))
        })
        .await;
    }

    /// The data of a ConfigMap; none if there is no such one.
    pub async fn config(&self, cluster: &str, namespace: &str, name: &str) -> Option<Value> {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
        self.find(cluster, &path).await.map(|object| object.get("data").cloned().unwrap_or_default())
    }
}

/// Everything in a cluster that only a person or Isthmus changes, by kind, namespace and name.
pub async fn everything(client: Client) -> BTreeMap<String, Value> {
    let all = list(client, None).await;
    let steady = |object: &Value| {
        let kind = text(object, "/kind");
        let namespace = text(object, "/metadata/namespace");
        let name = text(object, "/metadata/name");
        let place = if kind == "Namespace" { name } else { namespace };
        !BUSY_KINDS.contains(&kind) && !BUSY_NAMESPACES.contains(&place)
    };
    all.into_iter().filter(|(_, object)| steady(object)).collect()
}

/// Every object of a namespace, those of controllers and Events included; each as
/// `<kind> <namespace>/<name>`.
pub async fn in_namespace(client: Client, namespace: &str) -> BTreeMap<String, Value> {
    list(client, Some(namespace)).await
}

/// The resourceVersions of objects.
pub fn versions(objects: &BTreeMap<String, Value>) -> BTreeMap<String, String> {
    let version = |object: &Value| text(object, "/metadata/resourceVersion").to_owned();
    objects.iter().map(|(name, object)| (name.clone(), version(object))).collect()
}

/// A text in an object; empty if it is not there.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The groups that Services are to serve: in a lab no Pod does, and nobody answers for them.
async fn unserved(client: &Client) -> Vec<String> {
    let request = http::Request::get("/apis/apiregistration.k8s.io/v1/apiservices").body(Vec::new()).unwrap();
    let services = client.request::<Value>(request).await.unwrap();
    let items = services["items"].as_array().into_iter().flatten();
    items
        .filter(|item| item["spec"]["service"].is_object())
        .map(|item| text(item, "/spec/group").to_owned())
        .collect()
}

async fn list(client: Client, namespace: Option<&str>) -> BTreeMap<String, Value> {
    let unserved = unserved(&client).await;
    let unserved: Vec<&str> = unserved.iter().map(String::as_str).collect();
    let discovery = Discovery::new(client.clone()).exclude(&unserved).run().await.unwrap();
    let mut found = BTreeMap::new();
    for group in discovery.groups() {
        // Its Events are those of the core group.
        if group.name() == "events.k8s.io" {
            continue;
        }
        for (resource, capabilities) in group.recommended_resources() {
            let elsewhere = namespace.is_some() && capabilities.scope != Scope::Namespaced;
            if elsewhere || !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            let api: Api<DynamicObject> = match namespace {
                Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
                None => Api::all_with(client.clone(), &resource),
            };
            // A server that has just got a CRD asks to be asked again.
            let items = eventually(&format!("{} to be listed", resource.plural), || async {
                match api.list(&ListParams::default()).await {
                    Err(kube::Error::Api(status)) if status.code == 429 => Err(status.message),
                    answer => Ok(answer.unwrap()),
                }
            })
            .await;
            for object in items {
                let place = object.namespace().map(|namespace| format!("{namespace}/")).unwrap_or_default();
                let name = format!("{} {place}{}", resource.kind, object.name_any());
                let mut value = serde_json::to_value(&object).unwrap();
                // Items of a list do not say what they are.
                value["kind"] = resource.kind.as_str().into();
                value["apiVersion"] = resource.api_version.as_str().into();
                found.insert(name, value);
            }
        }
    }
    found
}
