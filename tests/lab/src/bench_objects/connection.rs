//! One kept connection to an API server, with nothing between it and the requests: a pool of connections
//! would open more while it waits, and their handshakes would be measured too.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::bench::measure::usage_of;
use crate::cluster::{Cluster, Endpoint};

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A connection carries one request at a time.
    Http1,
    /// As most clients of Kubernetes do.
    Http2,
}

/// How to reach an API server as administrator.
#[derive(Clone)]
pub struct Server {
    authority: http::uri::Authority,
    authorization: http::HeaderValue,
    tls: Arc<rustls::ClientConfig>,
    pids: Vec<u32>,
}

impl Server {
    /// A cluster of the lab.
    pub fn of(cluster: &Cluster) -> anyhow::Result<Self> {
        let Endpoint { url, token, ca_pem } = cluster.endpoint();
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes()).context("reading the cluster's CA")?;
        roots.add(ca).context("trusting the cluster's CA")?;
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let authority = url.parse::<http::Uri>().context("reading the cluster's URL")?;
        Ok(Self {
            authority: authority.authority().cloned().context("the cluster's URL has no host")?,
            authorization: format!("Bearer {token}").parse().context("the token is no header")?,
            tls: Arc::new(tls),
            pids: cluster.server_pids(),
        })
    }

    /// CPU seconds that etcd and the API server have used; 0 of the embedded one, which is in this
    /// process.
    pub fn cpu_s(&self) -> anyhow::Result<f64> {
        self.pids.iter().map(|pid| usage_of(*pid).map(|usage| usage.cpu_s)).sum()
    }

    /// Opens a connection.
    pub async fn connect(&self, protocol: Protocol) -> anyhow::Result<Connection> {
        let address = self.authority.as_str();
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        let mut tls = rustls::ClientConfig::clone(&self.tls);
        tls.alpn_protocols = vec![match protocol {
            Protocol::Http1 => b"http/1.1".to_vec(),
            Protocol::Http2 => b"h2".to_vec(),
        }];
        let name = ServerName::try_from(self.authority.host().to_owned()).context("naming the server")?;
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await;
        let stream = TokioIo::new(stream.with_context(|| format!("greeting {address}"))?);
        let sender = match protocol {
            Protocol::Http1 => {
                let (sender, driver) = http1::handshake(stream).await?;
                // What ends the connection fails the next request on it.
                tokio::spawn(async { drop(driver.await) });
                Sender::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, driver) = http2::handshake(TokioExecutor::new(), stream).await?;
                tokio::spawn(async { drop(driver.await) });
                Sender::Http2(sender)
            }
        };
        Ok(Connection { server: self.clone(), sender })
    }
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A connection.
pub struct Connection {
    server: Server,
    sender: Sender,
}

impl Connection {
    /// Sends a request and returns the body of its answer, which must be a success.
    pub async fn ask(&mut self, method: http::Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let what = || format!("{method} {path}");
        let mut request = http::Request::builder()
            .method(method.clone())
            .header(AUTHORIZATION, &self.server.authorization)
            .header(CONTENT_TYPE, "application/json");
        let authority = self.server.authority.as_str();
        request = match self.sender {
            Sender::Http1(_) => request.uri(path).header(HOST, authority),
            Sender::Http2(_) => request.uri(format!("https://{authority}{path}")),
        };
        let request = request.body(Full::new(body)).with_context(what)?;
        let answer = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.with_context(what)?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => sender.send_request(request).await,
        };
        let answer = answer.with_context(what)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.with_context(what)?.to_bytes();
        if !status.is_success() {
            bail!("{} was answered with {status}: {}", what(), String::from_utf8_lossy(&body));
        }
        Ok(body)
    }
}
