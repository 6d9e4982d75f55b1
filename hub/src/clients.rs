//! Clients of the API server: one for calls, which must be answered soon, and one for watches,
//! which are silent for as long as nothing happens.

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::options::ServeOptions;

/// How long a connection may take, seconds.
const CONNECT_SECONDS: u64 = 10;
/// How long the answer to a call may take, seconds.
const CALL_SECONDS: u64 = 30;
/// How long a watch runs until it is begun anew, seconds. A watch that is silent for minutes may
/// be dead behind a load balancer.
pub(crate) const WATCH_SECONDS: u32 = 200;

/// The API server cannot be addressed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("reading the kubeconfig failed: {0}; check --kubeconfig and --context")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    #[error("no cluster is configured ({0}); give --kubeconfig, set KUBECONFIG, or run the hub in a cluster")]
    Infer(#[source] kube::config::InferConfigError),
    #[error(
        "making a client of the API server failed: {0}; check the kubeconfig's server, certificates and proxy"
    )]
    Client(#[source] kube::Error),
}

/// The two clients.
#[derive(Clone)]
pub(crate) struct Clients {
    /// For everything but watches.
    pub calls: Client,
    /// For watches.
    pub watches: Client,
}

impl Clients {
    /// Clients as the command line says.
    pub(crate) async fn connect(options: &ServeOptions) -> Result<Self, ClientError> {
        let mut config = configuration(options).await?;
        // kube's own retry repeats POST: we retry what may be retried ourselves.
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(CONNECT_SECONDS));
        let mut unary = config.clone();
        unary.read_timeout = Some(Duration::from_secs(CALL_SECONDS));
        unary.write_timeout = Some(Duration::from_secs(CALL_SECONDS));
        unary.reset_reader_on_write = true;
        config.read_timeout = Some(Duration::from_secs(u64::from(WATCH_SECONDS) + CALL_SECONDS));
        let calls = Client::try_from(unary).map_err(ClientError::Client)?;
        let watches = Client::try_from(config).map_err(ClientError::Client)?;
        Ok(Self { calls, watches })
    }
}

async fn configuration(options: &ServeOptions) -> Result<Config, ClientError> {
    let choice = KubeConfigOptions { context: options.context.clone(), ..KubeConfigOptions::default() };
    match &options.kubeconfig {
        Some(file) => {
            let kubeconfig = Kubeconfig::read_from(file).map_err(ClientError::Kubeconfig)?;
            Config::from_custom_kubeconfig(kubeconfig, &choice).await.map_err(ClientError::Kubeconfig)
        }
        None if options.context.is_some() => {
            Config::from_kubeconfig(&choice).await.map_err(ClientError::Kubeconfig)
        }
        None => Config::infer().await.map_err(ClientError::Infer),
    }
}
