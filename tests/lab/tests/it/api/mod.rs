//! What an API server answers, on both flavours.
//!
//! Every test runs against each of [`servers`]: the embedded server, and the shared real kube-apiserver
//! where there is one; `ISTHMUS_LAB` narrows that to one. Each test works in a namespace of its own and
//! leaves nothing behind. Where the two are known to differ, the test says so with
//! [`Subject::is_real`] and the reason.

mod access;
mod admission;
mod apply;
mod custom;
mod faults;
mod immutable;
mod limits;
mod objects;
mod options;
mod registrations;
mod services;
mod watching;

use std::time::Duration;

use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use isthmus_lab::apiserver::{ApiServer, ApiServerOptions};
use isthmus_lab::lab::HUB_CLUSTER;

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);

pub const JSON: &str = "application/json";
pub const MERGE: &str = "application/merge-patch+json";
pub const APPLY: &str = "application/apply-patch+yaml";

/// A server under test.
pub struct Subject {
    embedded: Option<ApiServer>,
    kubeconfig: Kubeconfig,
    pub client: Client,
    pub namespace: String,
}

/// The servers to test, each with a namespace for this test.
pub async fn servers() -> Vec<Subject> {
    let mut subjects = Vec::new();
    if crate::is_wanted(false) {
        subjects.push(embedded().await);
    }
    if crate::is_wanted(true)
        && let Some(bench) = crate::cluster::lab(true).await
    {
        let kubeconfig = bench.lab.kubeconfig(HUB_CLUSTER).unwrap();
        subjects.push(Subject::new(None, Kubeconfig::read_from(kubeconfig).unwrap()).await);
    }
    subjects
}

/// The embedded server alone, for what only it promises.
pub async fn embedded() -> Subject {
    let server = ApiServer::start(ApiServerOptions::default()).await.unwrap();
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig()).unwrap();
    Subject::new(Some(server), kubeconfig).await
}

async fn client(kubeconfig: &Kubeconfig) -> Client {
    // Another test of this process may have installed the provider.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let options = KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig.clone(), &options).await.unwrap();
    // What a server refuses for now is what some tests are about.
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

impl Subject {
    async fn new(embedded: Option<ApiServer>, kubeconfig: Kubeconfig) -> Self {
        let client = client(&kubeconfig).await;
        let namespace = format!("t-{}", &uuid::Uuid::new_v4().simple().to_string()[..10]);
        let subject = Self { embedded, kubeconfig, client, namespace };
        let body = json!({"metadata": {"name": subject.namespace}});
        assert_eq!(subject.post("/api/v1/namespaces", &body).await.0, 201);
        // Pods need their account; where a controller makes it, this is the loser of a harmless race.
        subject.post(&subject.path("serviceaccounts"), &json!({"metadata": {"name": "default"}})).await;
        subject
    }

    /// The embedded server.
    pub fn server(&self) -> Option<&ApiServer> {
        self.embedded.as_ref()
    }

    /// Whether this is a real kube-apiserver.
    pub fn is_real(&self) -> bool {
        self.embedded.is_none()
    }

    /// A client that shows another token.
    pub async fn with_token(&self, token: &str) -> Client {
        let mut kubeconfig = self.kubeconfig.clone();
        for user in &mut kubeconfig.auth_infos {
            user.auth_info =
                Some(kube::config::AuthInfo { token: Some(token.to_owned().into()), ..Default::default() });
        }
        client(&kubeconfig).await
    }

    /// The path of a core resource's collection in the test's namespace.
    pub fn path(&self, plural: &str) -> String {
        format!("/api/v1/namespaces/{}/{plural}", self.namespace)
    }

    /// The path of a group's resource in the test's namespace.
    pub fn group_path(&self, group_version: &str, plural: &str) -> String {
        format!("/apis/{group_version}/namespaces/{}/{plural}", self.namespace)
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        send(&self.client, "GET", path, JSON, &Value::Null).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        send(&self.client, "POST", path, JSON, body).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        send(&self.client, "PUT", path, JSON, body).await
    }

    pub async fn patch(&self, path: &str, kind: &str, body: &Value) -> (u16, Value) {
        send(&self.client, "PATCH", path, kind, body).await
    }

    pub async fn delete(&self, path: &str) -> (u16, Value) {
        send(&self.client, "DELETE", path, JSON, &Value::Null).await
    }

    /// Waits until a path answers with what the condition wants.
    pub async fn until(&self, path: &str, condition: impl Fn(u16, &Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (code, value) = self.get(path).await;
            if condition(code, &value) {
                return value;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{path} did not become as wanted: {code} {value}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Deletes the test's namespace and stops the server.
    pub async fn done(self) {
        let (code, _) = self.delete(&format!("/api/v1/namespaces/{}", self.namespace)).await;
        assert_eq!(code, 200);
        if let Some(server) = self.embedded {
            server.stop().await;
        }
    }
}

/// What a server answered, with the headers that tests look at.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub body: Value,
    pub warnings: Vec<String>,
}

impl Answer {
    /// The message of a status.
    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or("")
    }
}

/// Sends bytes as they are and gives the answer with its warnings.
pub async fn exchange(
    client: &Client,
    method: &str,
    path: &str,
    (content_type, accept): (&str, &str),
    bytes: impl Into<Vec<u8>>,
) -> Answer {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type)
        .header("accept", accept)
        .header("user-agent", "lab-test/1")
        .body(Body::from(bytes.into()))
        .unwrap();
    let response = client.send(request).await.unwrap();
    let code = response.status().as_u16();
    let warnings = response.headers().get_all("warning").iter();
    let warnings = warnings
        .map(|value| {
            let text = value.to_str().unwrap().strip_prefix("299 - ").unwrap();
            serde_json::from_str(text).unwrap()
        })
        .collect();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
    Answer { code, body, warnings }
}

/// Sends a request and gives the code and the JSON of the answer, whatever they are.
pub async fn send(
    client: &Client,
    method: &str,
    path: &str,
    content_type: &str,
    body: &Value,
) -> (u16, Value) {
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let answer = exchange(client, method, path, (content_type, JSON), bytes).await;
    (answer.code, answer.body)
}

/// The message of a status.
pub fn message(answer: &(u16, Value)) -> &str {
    answer.1["message"].as_str().unwrap_or("")
}
