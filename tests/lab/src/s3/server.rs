//! The listener: http, or https with a certificate of a private CA made for this server.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::backend::Backend;
use super::faults::{Cut, announce_length, happen};
use super::keys::{Keys, Rights};
use super::proxy::forward;
use super::sessions::AssumeRole;
use super::{Faults, S3Error};
use crate::cluster::certs::Authority;

pub(super) struct Listening {
    pub endpoint: String,
    pub ca_pem: Option<String>,
    pub task: AbortOnDropHandle<()>,
}

/// Who serves the requests that no fault keeps.
#[derive(Clone)]
pub(super) enum Upstream {
    /// The lab's own implementation.
    Embedded(S3Service),
    /// Another server.
    Elsewhere(SocketAddr),
}

impl Upstream {
    async fn serve(&self, request: Request<s3s::Body>) -> Response<s3s::Body> {
        let served = match self {
            Self::Embedded(service) => {
                service.call(request).await.map_err(|error| anyhow::anyhow!("{error:?}"))
            }
            Self::Elsewhere(address) => forward(*address, request).await,
        };
        served.unwrap_or_else(|error| {
            tracing::warn!(%error, "an S3 request failed");
            let mut response = Response::new(s3s::Body::empty());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        })
    }
}

pub(super) async fn listen(
    tls: bool,
    backend: &Arc<Backend>,
    keys: &Keys,
    faults: &Faults,
) -> Result<Listening, S3Error> {
    let mut builder = S3ServiceBuilder::new(backend.service());
    builder.set_auth(keys.clone());
    builder.set_access(Rights { keys: keys.clone(), faults: faults.clone() });
    builder.set_route(AssumeRole(keys.clone()));
    let service = builder.build();

    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(S3Error::Listen)?;
    let address = listener.local_addr().map_err(S3Error::Listen)?;
    let (scheme, ca_pem, acceptor) = if tls {
        let authority = Authority::new("isthmus lab S3 CA")?;
        let server = authority.server("isthmus-lab-s3", &["localhost", "127.0.0.1"])?;
        ("https", Some(authority.pem()), Some(TlsAcceptor::from(Arc::new(server.rustls()?))))
    } else {
        ("http", None, None)
    };
    let task = tokio::spawn(accept(listener, acceptor, Upstream::Embedded(service), faults.clone()));
    Ok(Listening { endpoint: format!("{scheme}://{address}"), ca_pem, task: AbortOnDropHandle::new(task) })
}

/// Listens with http before any server.
pub(super) async fn listen_before(upstream: Upstream, faults: &Faults) -> Result<Listening, S3Error> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(S3Error::Listen)?;
    let address = listener.local_addr().map_err(S3Error::Listen)?;
    let task = tokio::spawn(accept(listener, None, upstream, faults.clone()));
    Ok(Listening { endpoint: format!("http://{address}"), ca_pem: None, task: AbortOnDropHandle::new(task) })
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, upstream: Upstream, faults: Faults) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    // Without it, small answers wait for the client's delayed acknowledgement.
                    drop(socket.set_nodelay(true));
                    let (acceptor, upstream, faults) = (acceptor.clone(), upstream.clone(), faults.clone());
                    connections.spawn(async move {
                        match acceptor {
                            None => serve(socket, upstream, faults).await,
                            Some(acceptor) => match acceptor.accept(socket).await {
                                Ok(socket) => serve(socket, upstream, faults).await,
                                Err(error) => tracing::debug!(%error, "a client ended the TLS handshake"),
                            },
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: those that are open will close.
                    tracing::warn!(%error, "accepting an S3 connection");
                    tokio::task::yield_now().await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    upstream: Upstream,
    faults: Faults,
) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let (upstream, faults) = (upstream.clone(), faults.clone());
        async move { answer(&upstream, &faults, request).await }
    });
    if let Err(error) =
        Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), answer).await
    {
        tracing::debug!(%error, "an S3 connection ended early");
    }
}

async fn answer(
    upstream: &Upstream,
    faults: &Faults,
    request: Request<Incoming>,
) -> Result<Response<s3s::Body>, Cut> {
    let fault = faults.meet(request.method()).await;
    let serve = |request| async move {
        let mut response = upstream.serve(request).await;
        announce_length(&mut response);
        response
    };
    happen(fault, request.map(s3s::Body::from), serve).await
}
