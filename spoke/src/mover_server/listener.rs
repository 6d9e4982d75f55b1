//! The listening socket: TLS handshakes and HTTP, bounded in number and time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::handlers::routes;
use crate::task::Spoke;

/// Connections at a time: two for every volume that may move.
const MAX_CONNECTIONS: usize = 256;
/// How long an address may still be in use by the spoke before this one.
const BIND_PATIENCE: Duration = Duration::from_secs(10);
/// The pause between two attempts at it.
const BIND_PAUSE: Duration = Duration::from_millis(100);
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request's head may take.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long one connection may live; movers connect again.
const CONNECTION_TIMEOUT: Duration = Duration::from_hours(1);

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be had.
    #[error("the endpoint for movers cannot listen on {address}: {source}; choose another --mover-listen")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Takes the address; waits a little for a spoke that is just ending to let go of it.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let started = Instant::now();
    loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && started.elapsed() < BIND_PATIENCE => {
                tokio::time::sleep(BIND_PAUSE).await;
            }
            result => return result.map_err(|source| ServeError::Bind { address, source }),
        }
    }
}

/// Serves movers for ever.
pub async fn serve(listener: TcpListener, tls: ServerConfig, spoke: Arc<Spoke>) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let routes = routes(spoke);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, for instance: it passes.
                tracing::warn!(%error, "a mover's connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(routes.clone()));
        tokio::spawn(async move {
            let _slot = slot;
            let attended = tokio::time::timeout(CONNECTION_TIMEOUT, attend(stream, acceptor, service));
            if let Ok(Err(error)) = attended.await {
                tracing::debug!(%error, "a mover's connection ended");
            }
        });
    }
}

async fn attend(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    service: TowerToHyperService<axum::Router>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await??;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(HEADER_TIMEOUT);
    builder.serve_connection(TokioIo::new(stream), service).await
}
