//! Connections: TLS, limits, and draining at the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::auth::certificate::Resolver;
use crate::metrics::Metrics;

/// The most connections at a time; more wait in the system's queue.
pub const MAX_CONNECTIONS: usize = 2048;
/// How long a TLS handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long the head of a request may take, and a connection lie idle (HTTP/1).
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// The most requests at a time on one connection (HTTP/2).
const MAX_STREAMS: u32 = 128;
/// The largest headers of a request, bytes.
const MAX_HEADERS: u32 = 64 * 1024;
/// How often a silent connection is asked whether it lives, and how long it has to answer (HTTP/2).
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_LIMIT: Duration = Duration::from_secs(20);
/// How long requests may take to end when the hub does.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// How long accepting rests after it failed, e.g. for want of file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(200);

/// TLS by the hub's certificate, for HTTP/2 and HTTP/1.1.
pub(crate) fn tls(resolver: Arc<Resolver>) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Serves until `stop` is cancelled, then lets what is under way end, for [`DRAIN_LIMIT`].
pub(crate) async fn serve(
    listener: TcpListener,
    tls: ServerConfig,
    router: Router,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let (stream, peer, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed; trying again");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let connection =
            Connection { acceptor: acceptor.clone(), router: router.clone(), metrics: metrics.clone() };
        tokio::spawn(connection.serve(stream, peer, graceful.watcher(), permit));
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_LIMIT, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end within {} s and are broken off", DRAIN_LIMIT.as_secs());
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(slots).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, permit))
}

struct Connection {
    acceptor: TlsAcceptor,
    router: Router,
    metrics: Metrics,
}

impl Connection {
    async fn serve(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        watcher: Watcher,
        permit: OwnedSemaphorePermit,
    ) {
        let stream = match tokio::time::timeout(HANDSHAKE_LIMIT, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "a TLS handshake failed");
                return;
            }
            Err(_) => {
                tracing::debug!(%peer, "a TLS handshake took too long");
                return;
            }
        };
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let builder = builder(http2);
        let service = TowerToHyperService::new(self.router);
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        self.metrics.connections.inc();
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%peer, error, "a connection ended with an error");
        }
        self.metrics.connections.dec();
        drop(permit);
    }
}

/// The protocol is the one that TLS has agreed on: nothing is guessed from the first bytes,
/// which somebody might never send.
fn builder(http2: bool) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_LIMIT);
    if http2 { builder.http2_only() } else { builder.http1_only() }
}
