//! A node's own HTTPS server, as a real API server asks it for logs, commands and volumes: `/containerLogs`,
//! `/exec` and `/stats/summary`. It takes only who has a certificate of the cluster's authority.
//!
//! A real API server translates a WebSocket of the newest protocol into SPDY for a node that does not
//! say that it takes WebSockets itself. The lab's nodes say so ([`super::nodes`]), which servers know from
//! 1.36 on; logs and commands through an older one are not served.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::HeaderValue;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::exec::{ExecQuery, handshake};
use super::{Kubelet, LogQuery};
use crate::controllers::namespace_of;

/// An address that is no machine's (RFC 5737), as of one on another network.
const ELSEWHERE: (&str, u16) = ("192.0.2.1", 9);
/// Connections that may be open at once.
const MAX_CONNECTIONS: usize = 512;
/// How long a client may take over its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(50);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Where the kubelets of this machine listen. Not on loopback, where there is another address: a real API
/// server proxies to no node there (`IsProxyableHostname`), and `/stats/summary` goes by a proxy.
pub(crate) fn address() -> Ipv4Addr {
    // Nothing is sent: the system only chooses the address that it would send from.
    let chosen = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect(ELSEWHERE)?;
        socket.local_addr()
    });
    match chosen.map(|address| address.ip()) {
        Ok(IpAddr::V4(address)) if !address.is_unspecified() => address,
        _ => Ipv4Addr::LOCALHOST,
    }
}

/// The server of one node.
pub(super) struct Server {
    pub kubelet: Arc<Kubelet>,
    pub node: String,
}

/// Accepts connections until the task is aborted.
pub(super) async fn run(server: Arc<Server>, listener: TcpListener, tls: Arc<rustls::ServerConfig>) {
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = listener.accept().await;
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (server, acceptor) = (Arc::clone(&server), acceptor.clone());
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = connection(server, acceptor, stream).await {
                tracing::debug!(%error, "a connection to the kubelet ended");
            }
        });
    }
}

async fn connection(
    server: Arc<Server>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(answer(&server, request).await) }
    });
    let builder = hyper::server::conn::http1::Builder::new();
    Ok(builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await?)
}

async fn answer(server: &Server, request: Request<Incoming>) -> Response<Body> {
    let kubelet = Arc::clone(&server.kubelet);
    let path = request.uri().path().to_owned();
    let query: Vec<(String, String)> =
        form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["containerLogs", namespace, pod, container] => logs(kubelet, &query, namespace, pod, container),
        ["exec", namespace, pod, container] => {
            let own = |text: &str| text.to_owned();
            let command = query.iter().filter(|(name, _)| name == "command").map(|(_, value)| value.clone());
            let query = ExecQuery {
                namespace: own(namespace),
                pod: own(pod),
                container: own(container),
                command: command.collect(),
            };
            exec(kubelet, request, query)
        }
        ["stats", "summary"] => {
            let summary = kubelet.summary(&server.node).await;
            let mut response = plain(StatusCode::OK, &summary.to_string());
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
            response
        }
        _ => plain(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

fn logs(
    kubelet: Arc<Kubelet>,
    query: &[(String, String)],
    namespace: &str,
    pod: &str,
    container: &str,
) -> Response<Body> {
    let value = |wanted: &str| query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let named = |known: &Pod| known.name_any() == pod && namespace_of(known) == namespace;
    let Some(pod) = kubelet.context.cache.pods.find(|known| named(known)) else {
        return plain(StatusCode::NOT_FOUND, "pod does not exist");
    };
    let query = LogQuery {
        pod_uid: pod.uid().unwrap_or_default(),
        container: container.to_owned(),
        follow: value("follow").is_some_and(|follow| follow == "true"),
        tail_lines: value("tailLines").and_then(|lines| lines.parse().ok()),
        limit_bytes: value("limitBytes").and_then(|bytes| bytes.parse().ok()),
    };
    let frames = kubelet.stream_log(&query).map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
    Response::new(StreamBody::new(frames).boxed_unsync())
}

fn exec(kubelet: Arc<Kubelet>, request: Request<Incoming>, query: ExecQuery) -> Response<Body> {
    let Some((accept, protocol)) = handshake(request.headers()) else {
        return plain(
            StatusCode::BAD_REQUEST,
            "the lab's kubelet speaks v5.channel.k8s.io and v4.channel.k8s.io",
        );
    };
    tokio::spawn(async move {
        match hyper::upgrade::on(request).await {
            Ok(upgraded) => kubelet.exec(TokioIo::new(upgraded), query).await,
            Err(error) => tracing::debug!(%error, "a session for a command did not come about"),
        }
    });
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", accept)
        .header("sec-websocket-protocol", protocol)
        .body(empty());
    response.unwrap_or_else(|error| plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))
}

fn empty() -> Body {
    Full::new(Bytes::new()).boxed_unsync()
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text.to_owned())).boxed_unsync());
    *response.status_mut() = status;
    response
}
