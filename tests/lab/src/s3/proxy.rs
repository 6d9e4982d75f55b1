//! Any S3 server over http, with faults before it: requests pass as they are, signatures included.

use std::net::SocketAddr;

use http::{Request, Response};
use hyper_util::rt::TokioIo;
use s3s::Body;
use tokio::net::TcpStream;

use super::server::{Upstream, listen_before};
use super::{Faults, S3Error};

/// A proxy on a free loopback port; dropping it ends it.
#[derive(Debug)]
pub struct FaultProxy {
    endpoint: String,
    faults: Faults,
    _server: tokio_util::task::AbortOnDropHandle<()>,
}

impl FaultProxy {
    /// Starts a proxy before the server at `address`.
    pub async fn start(address: SocketAddr) -> Result<Self, S3Error> {
        let faults = Faults::default();
        let listening = listen_before(Upstream::Elsewhere(address), &faults).await?;
        Ok(Self { endpoint: listening.endpoint, faults, _server: listening.task })
    }

    /// The URL to use in place of the server's own.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What goes wrong on purpose.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}

/// Passes a request on, over a connection of its own: a fault that cuts one cuts no other.
pub(super) async fn forward(address: SocketAddr, request: Request<Body>) -> anyhow::Result<Response<Body>> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection of the S3 proxy ended early");
        }
    });
    let response = sender.send_request(request).await?;
    Ok(response.map(Body::from))
}
