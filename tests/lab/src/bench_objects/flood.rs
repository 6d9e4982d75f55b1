//! The rate that an API server itself reaches: clients that create objects flat out.
//!
//! Each client has one connection that it keeps, and sends the next create when the last one is
//! answered. Bodies are made beforehand. Nothing is read, compared or tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, bail};
use futures::future::try_join_all;

use super::objects::Object;
use crate::bench::measure::usage_of;
use crate::cluster::{Cluster, Endpoint};

/// So many clients at once.
pub const CLIENTS: usize = 8;

/// What the clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A connection carries one request at a time.
    Http1,
    /// As most clients of Kubernetes do.
    Http2,
}

/// How to reach an API server as administrator.
#[derive(Debug, Clone)]
pub struct Server {
    url: String,
    token: String,
    ca: reqwest::Certificate,
    pids: Vec<u32>,
}

impl Server {
    /// A cluster of the lab.
    pub fn of(cluster: &Cluster) -> anyhow::Result<Self> {
        let Endpoint { url, token, ca_pem } = cluster.endpoint().clone();
        let ca = reqwest::Certificate::from_pem(ca_pem.as_bytes()).context("reading the cluster's CA")?;
        Ok(Self { url, token, ca, pids: cluster.server_pids() })
    }

    /// CPU seconds that etcd and the API server have used; 0 of the embedded one, which is in this
    /// process.
    pub fn cpu_s(&self) -> anyhow::Result<f64> {
        self.pids.iter().map(|pid| usage_of(*pid).map(|usage| usage.cpu_s)).sum()
    }

    /// A client of its own connection.
    pub fn client(&self, protocol: Protocol) -> anyhow::Result<reqwest::Client> {
        let builder = reqwest::Client::builder().tls_certs_only([self.ca.clone()]).pool_max_idle_per_host(1);
        let builder = match protocol {
            Protocol::Http1 => builder.http1_only(),
            Protocol::Http2 => builder,
        };
        builder.build().context("making a client of the API server")
    }

    /// A request as administrator.
    pub fn request(
        &self,
        client: &reqwest::Client,
        method: http::Method,
        path: &str,
    ) -> reqwest::RequestBuilder {
        client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }
}

/// What a flood came to.
#[derive(Debug, Clone, Copy)]
pub struct Flood {
    /// Objects per second.
    pub rate: f64,
    /// CPU seconds of etcd and the API server.
    pub server_cpu_s: f64,
}

/// Creates the objects in these namespaces, which are there and empty.
#[allow(clippy::cast_precision_loss)]
pub async fn flood(
    server: &Server,
    protocol: Protocol,
    objects: &Arc<Vec<Object>>,
    namespaces: &[String],
) -> anyhow::Result<Flood> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let client = server.client(protocol)?;
        // The handshake is not what is measured.
        server
            .request(&client, http::Method::GET, "/version")
            .send()
            .await?
            .error_for_status()?
            .bytes()
            .await?;
        clients.push(client);
    }
    let cpu_s = server.cpu_s()?;
    let began = Instant::now();
    let working = clients.into_iter().map(|client| {
        let (server, objects, next) = (server.clone(), Arc::clone(objects), Arc::clone(&next));
        let namespaces = namespaces.to_vec();
        let work = async move {
            while let Some(object) = objects.get(next.fetch_add(1, Ordering::Relaxed)) {
                create(&server, &client, object, &namespaces[object.namespace]).await?;
            }
            anyhow::Ok(())
        };
        async { tokio::spawn(work).await.context("a client was broken off")? }
    });
    try_join_all(working).await?;
    let rate = objects.len() as f64 / began.elapsed().as_secs_f64();
    Ok(Flood { rate, server_cpu_s: server.cpu_s()? - cpu_s })
}

async fn create(
    server: &Server,
    client: &reqwest::Client,
    object: &Object,
    namespace: &str,
) -> anyhow::Result<()> {
    let path = object.kind.path(namespace);
    let request = server.request(client, http::Method::POST, &path);
    let request = request.header(http::header::CONTENT_TYPE, "application/json").body(object.body.clone());
    let answer = request.send().await.with_context(|| format!("POST {path}"))?;
    let status = answer.status();
    let body = answer.bytes().await.with_context(|| format!("reading the answer to POST {path}"))?;
    if !status.is_success() {
        bail!("POST {path} was answered with {status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(())
}
