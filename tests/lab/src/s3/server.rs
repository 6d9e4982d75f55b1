//! The listener: http, or https with a certificate of a private CA made for this server.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
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
use super::keys::{Keys, Rights};
use super::sessions::AssumeRole;
use super::{Faults, S3Error};
use crate::cluster::certs::Authority;

/// As S3 words it when it wants fewer requests.
const SLOW_DOWN: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>SlowDown</Code>\
    <Message>Please reduce your request rate.</Message></Error>";

pub(super) struct Listening {
    pub endpoint: String,
    pub ca_pem: Option<String>,
    pub task: AbortOnDropHandle<()>,
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
    let task = tokio::spawn(accept(listener, acceptor, service, faults.clone()));
    Ok(Listening { endpoint: format!("{scheme}://{address}"), ca_pem, task: AbortOnDropHandle::new(task) })
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, service: S3Service, faults: Faults) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    // Without it, small answers wait for the client's delayed acknowledgement.
                    drop(socket.set_nodelay(true));
                    let (acceptor, service, faults) = (acceptor.clone(), service.clone(), faults.clone());
                    connections.spawn(async move {
                        match acceptor {
                            None => serve(socket, service, faults).await,
                            Some(acceptor) => match acceptor.accept(socket).await {
                                Ok(socket) => serve(socket, service, faults).await,
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
    service: S3Service,
    faults: Faults,
) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let (service, faults) = (service.clone(), faults.clone());
        async move { Ok::<_, Infallible>(answer(&service, &faults, request).await) }
    });
    if let Err(error) =
        Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), answer).await
    {
        tracing::debug!(%error, "an S3 connection ended early");
    }
}

async fn answer(service: &S3Service, faults: &Faults, request: Request<Incoming>) -> Response<s3s::Body> {
    if faults.meet().await {
        return plain(StatusCode::SERVICE_UNAVAILABLE, SLOW_DOWN);
    }
    match service.call(request.map(s3s::Body::from)).await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(?error, "an S3 request failed");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "")
        }
    }
}

fn plain(status: StatusCode, body: &'static str) -> Response<s3s::Body> {
    let mut response = Response::new(s3s::Body::from(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = status;
    response
}
