//! An admission webhook on loopback that refuses what carries a label, and says why.

use std::sync::Arc;

use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rcgen::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// What carries this label, whatever its value, is refused.
pub const LABEL: &str = "unwanted";
/// What whoever asks for it is told.
pub const OBJECTION: &str = "the board of architects does not want it";

/// A webhook that answers. It ends when it is dropped.
pub struct Webhook {
    port: u16,
    authority: String,
    task: JoinHandle<()>,
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Webhook {
    pub async fn start() -> Self {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config))));
        let authority = base64::engine::general_purpose::STANDARD.encode(cert.pem());
        Self { port, authority, task }
    }

    /// Its configuration, for the ConfigMaps of one namespace.
    pub fn configuration(&self, name: &str, namespace: &str) -> String {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [{
                "name": format!("{name}.example.com"),
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "clientConfig": {"url": format!("https://127.0.0.1:{}/validate", self.port), "caBundle": self.authority},
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}],
            }],
        })
        .to_string()
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor) {
    let service = TowerToHyperService::new(Router::new().route("/validate", post(review)));
    // They end with this task.
    let mut connections = JoinSet::new();
    while let Ok((connection, _)) = listener.accept().await {
        let (tls, service) = (tls.clone(), service.clone());
        connections.spawn(async move {
            // Whoever breaks off has its answer already.
            if let Ok(connection) = tls.accept(connection).await {
                drop(
                    Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(connection), service)
                        .await,
                );
            }
        });
    }
}

async fn review(Json(review): Json<Value>) -> Json<Value> {
    let request = &review["request"];
    let allowed = request["object"]["metadata"]["labels"].get(LABEL).is_none();
    let mut response = json!({"uid": request["uid"], "allowed": allowed});
    if !allowed {
        response["status"] = json!({"message": OBJECTION});
    }
    Json(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
}
