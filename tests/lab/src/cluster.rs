//! A cluster: an API server, and the lab's controllers, scheduler, provisioner and kubelet as its clients.
//!
//! ```text
//!   Flavour::Embedded: the lab's own API server, in this process
//!   Flavour::Real:     etcd, kube-apiserver, and kube-controller-manager if it is there
//!        ▲
//!        └── controllers, scheduler, provisioner, kubelet: the same on both
//! ```

pub(crate) mod certs;
mod embedded;
mod flavour;
mod real;
mod stored;

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim};
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Config};
use tokio::task::JoinSet;

use crate::controllers::cache::Cache;
pub use crate::controllers::snapshots::{ERROR as SNAPSHOT_ERROR, READY_AFTER as SNAPSHOT_READY_AFTER};
use crate::controllers::{self, Context, Scope};
use crate::kubelet::{self, Kubelet};
use crate::programs::ProcessError;
pub use flavour::{Flavour, FlavourError};

/// An API server answers a request in this time, or the request fails.
const READ_TIMEOUT: Duration = Duration::from_mins(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The namespaces that every cluster begins with.
const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public"];

/// A cluster could not be started, or asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No flavour could be chosen.
    #[error("{0}")]
    Flavour(#[from] FlavourError),
    /// A file of the cluster could not be written.
    #[error("writing {path} for cluster {cluster}: {source}; check the folder's owner and free space")]
    File {
        /// The cluster.
        cluster: String,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Certificates.
    #[error("cluster {cluster}: {source}")]
    Certificate {
        /// The cluster.
        cluster: String,
        /// Why not.
        source: certs::CertError,
    },
    /// One of its programs.
    #[error("cluster {cluster}: {source}")]
    Program {
        /// The cluster.
        cluster: String,
        /// Why not.
        source: ProcessError,
    },
    /// The API server did not come up.
    #[error("the API server of cluster {cluster} did not become ready: {problem}; its logs are in {dir}")]
    NotReady {
        /// The cluster.
        cluster: String,
        /// What was seen last.
        problem: String,
        /// Where the logs are.
        dir: PathBuf,
    },
    /// A request failed.
    #[error("cluster {cluster}: {action}: {source}")]
    Api {
        /// The cluster.
        cluster: String,
        /// What was being done.
        action: String,
        /// Why not.
        source: Box<kube::Error>,
    },
    /// Something of the lab itself could not be set up.
    #[error("cluster {cluster}: {problem}")]
    Setup {
        /// The cluster.
        cluster: String,
        /// What went wrong.
        problem: String,
    },
    /// A claim did not get a volume of this lab.
    #[error("claim {namespace}/{claim} of cluster {cluster} has no folder: {problem}")]
    NoFolder {
        /// The cluster.
        cluster: String,
        /// The claim's namespace.
        namespace: String,
        /// The claim's name.
        claim: String,
        /// Why not.
        problem: String,
    },
}

/// How to start a [`Cluster`].
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Its name, which its nodes carry too.
    pub name: String,
    /// Holds its volumes, logs and data.
    pub dir: PathBuf,
    /// What serves its API.
    pub flavour: Flavour,
    /// What of it is unlike other clusters.
    pub traits: ClusterTraits,
}

/// In what a cluster differs from the lab's others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterTraits {
    /// Built-in group versions that it does not serve, such as `autoscaling/v2`: with `autoscaling/v1`
    /// left, it serves an older version than the others.
    pub without_versions: Vec<String>,
    /// Whether a write is answered only when it is on disk, as in production. Of a real etcd: without it
    /// nothing is waited for, which suits tests. The embedded API server keeps all in memory.
    pub durable: bool,
    /// Whether it is an API server alone, without controllers: what is written stays as it is, nothing
    /// runs, and claims are not bound.
    pub bare: bool,
    /// Whether it has VolumeSnapshots: their kinds, a class for the lab's provisioner, and what takes
    /// them. The class's parameters [`SNAPSHOT_READY_AFTER`] and [`SNAPSHOT_ERROR`] change how it goes.
    pub snapshots: bool,
}

impl ClusterTraits {
    /// A cluster that does not serve these group versions.
    pub fn without<S: Into<String>>(versions: impl IntoIterator<Item = S>) -> Self {
        Self { without_versions: versions.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

/// What a started API server is reached with.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub url: String,
    /// An administrator's.
    pub token: String,
    pub ca_pem: String,
}

enum Server {
    Embedded(embedded::Embedded),
    Real(real::Real),
}

/// A running cluster. Dropping it ends it.
pub struct Cluster {
    name: String,
    flavour: Flavour,
    kubeconfig: PathBuf,
    endpoint: Endpoint,
    config: Config,
    kubelet: std::sync::Arc<Kubelet>,
    server: Server,
    // After the server's field: the clients end first when this is dropped by hand in `stop`.
    tasks: JoinSet<()>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.name)
            .field("flavour", &self.flavour)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Starts a cluster on the current runtime; it is ready for use when this returns.
    pub async fn start(options: ClusterOptions) -> Result<Self, ClusterError> {
        let ClusterOptions { name, dir, flavour, traits } = options;
        let volumes_dir = dir.join("volumes");
        for folder in [&volumes_dir, &dir.join("pods")] {
            std::fs::create_dir_all(folder).map_err(|source| ClusterError::File {
                cluster: name.clone(),
                path: folder.clone(),
                source,
            })?;
        }
        let (server, endpoint, scope) = match &flavour {
            Flavour::Embedded => {
                let (server, endpoint) = embedded::start(&name, &traits).await?;
                (Server::Embedded(server), endpoint, Scope::All)
            }
            Flavour::Real(binaries) => {
                let (server, endpoint) = real::start(&name, &dir, binaries, &traits).await?;
                let scope = if binaries.controller_manager.is_some() {
                    Scope::BesideControllerManager
                } else {
                    Scope::All
                };
                (Server::Real(server), endpoint, scope)
            }
        };
        let kubeconfig = dir.join("kubeconfig");
        let text = kubeconfig_text(&name, &endpoint);
        write_private(&kubeconfig, &text).map_err(|source| ClusterError::File {
            cluster: name.clone(),
            path: kubeconfig.clone(),
            source,
        })?;
        let config = config(&name, &text).await?;

        let mut tasks = JoinSet::new();
        let client = connect(&name, &as_control_plane(config.clone()))?;
        for namespace in NAMESPACES {
            create_namespace(&name, &client, namespace).await?;
        }
        let setup = |error: controllers::Error| ClusterError::Setup {
            cluster: name.clone(),
            problem: error.to_string(),
        };
        let cache = Cache::start(&client, &mut tasks);
        let context = Context { client: client.clone(), cache, volumes_dir, ca_pem: endpoint.ca_pem.clone() };
        controllers::create_classes(&client).await.map_err(setup)?;
        if traits.snapshots {
            Box::pin(controllers::snapshots::install(&client)).await.map_err(setup)?;
        }
        context.cache.ready().await;
        if !traits.bare {
            controllers::start(&context, scope, &mut tasks);
            if traits.snapshots {
                controllers::snapshots::start(&context, &mut tasks);
            }
        }
        let tls = match &server {
            Server::Real(server) => Some(server.kubelet()),
            Server::Embedded(_) => None,
        };
        let pods = dir.join("pods");
        let kubelet = kubelet::start(&name, &context, pods, tls, &mut tasks).await.map_err(setup)?;
        if let Server::Embedded(server) = &server {
            server.serve_pods(kubelet.clone());
        }
        Ok(Self { name, flavour, kubeconfig, endpoint, config, kubelet, server, tasks })
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What serves its API.
    pub fn flavour(&self) -> &Flavour {
        &self.flavour
    }

    /// A kubeconfig file with an administrator's token.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The faults of its API server on demand; a real one has none.
    pub fn api_faults(&self) -> Option<crate::apiserver::Faults> {
        match &self.server {
            Server::Embedded(server) => Some(server.faults()),
            Server::Real(_) => None,
        }
    }

    /// Has its API server answer nothing, whoever asks, or answer again. What runs in the cluster runs on.
    pub fn silence_api(&self, silent: bool) -> Result<(), ClusterError> {
        match &self.server {
            Server::Embedded(server) => server.faults().silence(silent),
            Server::Real(server) => {
                let setup = |problem| ClusterError::Setup { cluster: self.name.clone(), problem };
                server.silence(silent).map_err(setup)?;
            }
        }
        Ok(())
    }

    /// The process ids of the programs that serve it; none of the embedded API server.
    pub(crate) fn server_pids(&self) -> Vec<u32> {
        match &self.server {
            Server::Embedded(_) => Vec::new(),
            Server::Real(server) => server.pids(),
        }
    }

    /// What its API server is reached with.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A client as administrator. It belongs to the runtime that it is made on.
    pub fn client(&self) -> Result<Client, ClusterError> {
        connect(&self.name, &self.config)
    }

    /// What the containers of a pod that ran as processes have printed, while it is kept.
    pub fn pod_log(&self, namespace: &str, pod: &str) -> Option<String> {
        self.kubelet.log(namespace, pod)
    }

    /// The folder of a claim's volume, once it is bound; the file that stands for its device, if it is a
    /// raw block volume.
    pub async fn volume_dir(&self, namespace: &str, claim: &str) -> Result<PathBuf, ClusterError> {
        let client = self.client()?;
        let none = |problem: &str| ClusterError::NoFolder {
            cluster: self.name.clone(),
            namespace: namespace.to_owned(),
            claim: claim.to_owned(),
            problem: problem.to_owned(),
        };
        let api = |action: &str| {
            let (cluster, action) = (self.name.clone(), action.to_owned());
            move |source| ClusterError::Api { cluster, action, source: Box::new(source) }
        };
        let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace);
        let found = claims.get_opt(claim).await.map_err(api("reading the claim"))?;
        let found = found.ok_or_else(|| none("there is no such claim; check the namespace and name"))?;
        let volume =
            controllers::bound_volume(&found).ok_or_else(|| none("it is not bound; wait until it is"))?;
        let volume = Api::<k8s_openapi::api::core::v1::PersistentVolume>::all(client)
            .get(volume)
            .await
            .map_err(api("reading the volume"))?;
        controllers::folder(&volume).map(Path::to_owned).ok_or_else(|| none("its volume is not a folder"))
    }

    /// Waits until a claim is bound and returns its volume's folder.
    pub async fn bound_volume_dir(
        &self,
        namespace: &str,
        claim: &str,
        deadline: Duration,
    ) -> Result<PathBuf, ClusterError> {
        let claims = Api::<PersistentVolumeClaim>::namespaced(self.client()?, namespace);
        let bound =
            |claim: Option<&PersistentVolumeClaim>| claim.and_then(controllers::bound_volume).is_some();
        let waiting = await_condition(claims, claim, bound);
        // What the wait itself could not see, the look behind it tells.
        drop(tokio::time::timeout(deadline, waiting).await);
        self.volume_dir(namespace, claim).await
    }

    /// Ends the cluster and waits until its programs have ended.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
        match self.server {
            Server::Embedded(server) => server.stop().await,
            Server::Real(server) => server.stop().await,
        }
    }
}

async fn create_namespace(cluster: &str, client: &Client, name: &str) -> Result<(), ClusterError> {
    let namespace = Namespace {
        metadata: kube::core::ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
        ..Namespace::default()
    };
    match Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(source) => Err(ClusterError::Api {
            cluster: cluster.to_owned(),
            action: format!("creating namespace {name}"),
            source: Box::new(source),
        }),
    }
}

/// With the user agent of what the lab's own controllers stand for, so that others can tell by the API
/// server's metrics and by managed fields what the control plane did.
fn as_control_plane(mut config: Config) -> Config {
    let agent = http::HeaderValue::from_static("kube-controller-manager/isthmus-lab");
    config.headers.push((http::header::USER_AGENT, agent));
    config
}

fn connect(cluster: &str, config: &Config) -> Result<Client, ClusterError> {
    Client::try_from(config.clone()).map_err(|source| ClusterError::Api {
        cluster: cluster.to_owned(),
        action: "making a client".to_owned(),
        source: Box::new(source),
    })
}

async fn config(cluster: &str, kubeconfig: &str) -> Result<Config, ClusterError> {
    let problem = |error: kube::config::KubeconfigError| ClusterError::Setup {
        cluster: cluster.to_owned(),
        problem: format!("reading the kubeconfig that was just written: {error}"),
    };
    let parsed = Kubeconfig::from_yaml(kubeconfig).map_err(problem)?;
    let mut config =
        Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.map_err(problem)?;
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // Watches end on their own well after this; an idle one is begun anew by its watcher.
    config.read_timeout = Some(READ_TIMEOUT * 5);
    Ok(config)
}

fn kubeconfig_text(name: &str, endpoint: &Endpoint) -> String {
    use base64::Engine as _;
    let ca = base64::engine::general_purpose::STANDARD.encode(&endpoint.ca_pem);
    let (url, token) = (&endpoint.url, &endpoint.token);
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {name}\n\
         clusters:\n- name: {name}\n  cluster:\n    server: {url}\n    certificate-authority-data: {ca}\n\
         users:\n- name: {name}-admin\n  user:\n    token: {token}\n\
         contexts:\n- name: {name}\n  context:\n    cluster: {name}\n    user: {name}-admin\n"
    )
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(text.as_bytes())
}
