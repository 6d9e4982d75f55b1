//! Definitions as an older Kubernetes took and left them, which no API server of today would take.
//!
//! Clusters keep what `apiextensions.k8s.io/v1beta1` let in long after it is gone. The object is
//! written where the API server keeps it: by etcd's JSON gateway, or into the embedded server's store.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Cluster, ClusterError, Server};

/// Where kube-apiserver keeps definitions in etcd.
const DEFINITIONS: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions";
const DEADLINE: Duration = Duration::from_secs(30);

impl Cluster {
    /// Writes a `CustomResourceDefinition` into the store as it is, past validation. It is one that was
    /// read from this cluster, changed in what v1 would refuse.
    pub async fn store_definition(&self, definition: &Value) -> Result<(), ClusterError> {
        let written = match &self.server {
            Server::Embedded(server) => server.store_definition(definition),
            Server::Real(server) => put(server.etcd(), definition).await,
        };
        written.map_err(|problem| ClusterError::Setup {
            cluster: self.name.clone(),
            problem: format!("storing definition {}: {problem}", definition["metadata"]["name"]),
        })
    }
}

async fn put(etcd: &str, definition: &Value) -> Result<(), String> {
    let name = definition["metadata"]["name"].as_str().ok_or("it has no name")?;
    let mut stored = definition.clone();
    // The store counts versions itself.
    if let Some(metadata) = stored["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    let request = json!({
        "key": STANDARD.encode(format!("{DEFINITIONS}/{name}")),
        "value": STANDARD.encode(stored.to_string()),
    });
    let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build();
    let client = client.map_err(|error| error.to_string())?;
    let answer = client.post(format!("{etcd}/v3/kv/put")).json(&request).send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status);
    answer.map(drop).map_err(|error| error.to_string())
}
