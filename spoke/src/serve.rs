//! `isthmus-spoke serve`: puts the parts together and runs them until it is told to stop.
//!
//! What the spoke's service account must be allowed (its ClusterRole in `deploy/`):
//!
//! - every resource of every group: `get`, `list` (the objects of any namespace may be moved),
//!   `create`, `patch` (they are applied), on both sides of a migration;
//! - `namespaces`: `get`, `list`, `create`, `patch`; `nodes`, `storageclasses`,
//!   `volumesnapshotclasses`, `customresourcedefinitions`: `get`, `list`; the last also `create`,
//!   `patch`;
//! - `serviceaccounts`, `networkpolicies`, `jobs`: `delete` too, and `pods`: `create` (dry runs);
//!   `pods/log`, `events`: `get`, `list`;
//! - `volumesnapshots`, `persistentvolumeclaims`: `create`, `patch`, `delete`;
//!   `volumesnapshotcontents`, `persistentvolumes`: `patch` (snapshots that volumes are read from);
//! - applying roles and bindings that grant more than the spoke itself has: `escalate` and `bind`
//!   on `roles` and `clusterroles`;
//! - `tokenreviews`: `create`;
//! - in its own namespace `secrets`: `get`, `create`, `patch`;
//! - `/version` and discovery, which every account may read.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use isthmus_shared::protocol::TaskList;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::arguments::ServeArguments;
use crate::cluster::Cluster;
use crate::hub_link::{self, IdentityStore, Outbox};
use crate::mover_server::{self, Certificates};
use crate::runner::Runner;
use crate::task::Spoke;

/// How movers are started.
#[derive(Clone, Debug)]
pub struct MoverSettings {
    /// The image.
    pub image: String,
    /// The Secrets for its registry, by their names in the applications' namespaces.
    pub pull_secrets: Vec<String>,
    /// The URL at which they reach the spoke.
    pub endpoint: String,
    /// The port that the spoke listens on, behind its Service.
    pub port: u16,
    /// The CA of the spoke's endpoint, PEM.
    pub ca: String,
}

/// Serves until a signal.
pub async fn serve(arguments: ServeArguments) -> anyhow::Result<()> {
    tokio::select! {
        result = run(arguments) => result,
        signal = stopped() => {
            tracing::info!("stopping on {}: what is under way goes on when a spoke runs again", signal?);
            Ok(())
        }
    }
}

async fn run(arguments: ServeArguments) -> anyhow::Result<()> {
    let cluster = Cluster::connect(arguments.kubeconfig.as_deref(), arguments.context.as_deref())
        .await
        .context("connecting to this spoke's cluster")?;
    let listener = mover_server::bind(arguments.mover_listen).await?;
    let address = listener.local_addr().context("reading the address of the endpoint for movers")?;
    let endpoint = endpoint(&arguments, address);
    tracing::info!(%address, endpoint, "listening for movers");

    let store = IdentityStore::new(&cluster, &arguments.namespace);
    let joined =
        hub_link::join(&cluster, &store, &arguments.hub, arguments.join_token_file.as_deref()).await?;
    let certificates = Certificates::load_or_make(joined.identity.mover_ca.clone())?;
    if joined.identity.mover_ca.is_none() {
        store.keep_mover_ca(&certificates.ca, &certificates.ca_key).await?;
    }
    let tls = certificates.server_config(&mover_server::names(&endpoint, &arguments.namespace))?;
    let movers = MoverSettings {
        image: arguments.mover_image,
        pull_secrets: arguments.mover_image_pull_secret,
        endpoint,
        port: address.port(),
        ca: certificates.ca.clone(),
    };
    let spoke = Arc::new(Spoke {
        cluster: cluster.clone(),
        name: joined.cluster.clone(),
        namespace: arguments.namespace,
        movers,
        sessions: crate::volumes::Sessions::default(),
        nodes: crate::volumes::Nodes::default(),
        stores: crate::staging_area::Stores::default(),
        journals: crate::journals::Journals::default(),
    });
    let outbox = Arc::new(Outbox::default());
    let (lists, newest) = watch::channel(Arc::new(TaskList::default()));
    let mut parts = JoinSet::new();
    parts.spawn(mover_server::serve(listener, tls, Arc::clone(&spoke)));
    parts.spawn(hub_link::send_heartbeats(cluster, joined.hub.clone()));
    parts.spawn(hub_link::poll(joined.hub.clone(), lists));
    parts.spawn(Runner::new(spoke, Arc::clone(&outbox)).run(newest));
    parts.spawn(async move { outbox.send(joined.hub).await });
    tracing::info!(cluster = joined.cluster, "at work");
    // None of them ends by itself: the first that does has broken down, and the rest with it.
    match parts.join_next().await {
        Some(Err(error)) => Err(error).context("a part of the spoke broke down"),
        _ => anyhow::bail!("a part of the spoke ended unexpectedly; look at the log above"),
    }
}

/// Where movers reach the spoke: as told; at the bound address when it runs outside a cluster;
/// else at its Service.
fn endpoint(arguments: &ServeArguments, address: SocketAddr) -> String {
    if let Some(endpoint) = &arguments.mover_endpoint {
        return endpoint.trim_end_matches('/').to_owned();
    }
    if arguments.kubeconfig.is_some() && !address.ip().is_unspecified() {
        return format!("https://{address}");
    }
    format!("https://isthmus-spoke.{}.svc:{}", arguments.namespace, address.port())
}

async fn stopped() -> anyhow::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        result = tokio::signal::ctrl_c() => {
            result.context("listening for SIGINT")?;
            Ok("SIGINT")
        }
    }
}
