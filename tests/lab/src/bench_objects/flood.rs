//! The rate that an API server itself reaches: clients that create objects flat out.
//!
//! Each client has one connection that it keeps, and sends the next create when the last one is
//! answered. Bodies are made beforehand. Nothing is read, compared or tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use futures::future::try_join_all;

use super::connection::{Protocol, Server};
use super::objects::Object;

/// So many clients at once.
pub const CLIENTS: usize = 8;

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
    // The handshakes are not what is measured.
    let connections = try_join_all((0..CLIENTS).map(|_| server.connect(protocol))).await?;
    let next = Arc::new(AtomicUsize::new(0));
    let cpu_s = server.cpu_s()?;
    let began = Instant::now();
    let working = connections.into_iter().map(|mut connection| {
        let (objects, next) = (Arc::clone(objects), Arc::clone(&next));
        let namespaces = namespaces.to_vec();
        let work = async move {
            while let Some(object) = objects.get(next.fetch_add(1, Ordering::Relaxed)) {
                let path = object.kind.path(&namespaces[object.namespace]);
                connection.ask(http::Method::POST, &path, object.body.clone()).await?;
            }
            anyhow::Ok(())
        };
        async { tokio::spawn(work).await.context("a client was broken off")? }
    });
    try_join_all(working).await?;
    let rate = objects.len() as f64 / began.elapsed().as_secs_f64();
    Ok(Flood { rate, server_cpu_s: server.cpu_s()? - cpu_s })
}
