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
//! - the kinds of workloads, and custom resources that are stopped by rules: `patch`;
//!   `strimzipodsets`: `delete` (cutovers);
//! - applying roles and bindings that grant more than the spoke itself has: `escalate` and `bind`
//!   on `roles` and `clusterroles`;
//! - `pods/exec`: `get`, `create` (hooks that are commands);
//! - `tokenreviews`: `create`;
//! - in its own namespace `secrets`: `get`, `create`, `patch`, and `configmaps`: `get`, `list`, `create`,
//!   `patch`, `delete` (what has been done of hooks);
//! - `/version` and discovery, which every account may read.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use isthmus_shared::protocol::TaskList;
use isthmus_shared::resources::MoverOptions;
use k8s_openapi::api::core::v1::Toleration;
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
    /// Labels that their nodes must have, where the run names none.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that they tolerate in any case.
    pub tolerations: Vec<Toleration>,
    /// The URL at which they reach the spoke.
    pub endpoint: String,
    /// The port that the spoke listens on, behind its Service.
    pub port: u16,
    /// The CA of the spoke's endpoint, PEM.
    pub ca: String,
}

impl MoverSettings {
    /// What a run says of its movers, and this cluster's own settings where it says nothing.
    pub fn options(&self, asked: &MoverOptions) -> MoverOptions {
        let mut options = asked.clone();
        if options.node_selector.is_empty() {
            options.node_selector.clone_from(&self.node_selector);
        }
        options
            .tolerations
            .extend(self.tolerations.iter().filter(|t| !asked.tolerations.contains(t)).cloned());
        options
    }
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
        node_selector: arguments.mover_node_selector.into_iter().collect(),
        tolerations: arguments.mover_tolerations.map(|given| given.0).unwrap_or_default(),
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
        hook_commands: arguments.hook_commands,
        renewals: crate::hooks::Renewals::default(),
        stores: crate::staging_area::Stores::default(),
        journals: crate::journals::Journals::default(),
    });
    crate::hooks::resume(&spoke).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clusters_own_settings_count_where_the_run_says_nothing() {
        let toleration = |key: &str| Toleration { key: Some(key.to_owned()), ..Toleration::default() };
        let selector = |key: &str| BTreeMap::from([(key.to_owned(), "yes".to_owned())]);
        let settings = MoverSettings {
            image: String::new(),
            pull_secrets: Vec::new(),
            node_selector: selector("fast"),
            tolerations: vec![toleration("infra")],
            endpoint: String::new(),
            port: 0,
            ca: String::new(),
        };
        let silent = settings.options(&MoverOptions::default());
        assert_eq!((silent.node_selector, silent.tolerations), (selector("fast"), vec![toleration("infra")]));
        let asked = MoverOptions {
            node_selector: selector("gpu"),
            tolerations: vec![toleration("db")],
            ..MoverOptions::default()
        };
        let both = settings.options(&asked);
        assert_eq!(both.node_selector, selector("gpu"));
        assert_eq!(both.tolerations, [toleration("db"), toleration("infra")]);
    }
}
