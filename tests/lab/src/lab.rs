//! The whole lab: a cluster for the hub, member clusters, and S3 with one bucket.
//!
//! It has an async runtime of its own, so that it may outlive that of the test which started it: tests
//! share one lab in a static and have their own runtimes. Everything ends when the lab is dropped and
//! when the process ends in any way; a temporary folder goes with it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::{Api, Client};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::cluster::{Cluster, ClusterError, ClusterOptions, ClusterTraits, Flavour};
use crate::kubelet::MOVER_IMAGE;
use crate::programs::process::DirGuard;
use crate::programs::program::{self, Program};
use crate::programs::{Hub, HubOptions, ProcessError, ProgramError, Spoke, SpokeOptions, executable};
use crate::s3::{KeyAccess, KeyPair, S3, S3Error, S3Options};

/// The name of the cluster where hubs run.
pub const HUB_CLUSTER: &str = "hub";
/// The bucket that the lab makes.
pub const BUCKET: &str = "isthmus";

/// How to start a [`Lab`].
#[derive(Debug, Clone, Default)]
pub struct LabOptions {
    /// Where everything is kept; a temporary folder if not given, removed at the end.
    pub dir: Option<PathBuf>,
    /// The member clusters, beside the hub's.
    pub clusters: Vec<String>,
    /// What serves the clusters' APIs; detected if not given.
    pub flavour: Option<Flavour>,
    /// Serve S3 by https.
    pub s3_tls: bool,
    /// In what single clusters are unlike the others, by name; the hub's has its name too.
    pub traits: BTreeMap<String, ClusterTraits>,
}

/// The lab could not be started or used.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The runtime.
    #[error("starting the lab's runtime: {0}")]
    Runtime(std::io::Error),
    /// The folder.
    #[error("making the lab's folder {dir}: {source}; choose one that can be written")]
    Dir {
        /// The folder.
        dir: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A name.
    #[error(
        "{0:?} is not a name for a member cluster; use lower-case letters, digits and -, and not \"hub\""
    )]
    Name(String),
    /// A cluster that is not there.
    #[error("the lab has no cluster {name}; it has {known}")]
    NoCluster {
        /// The name that was asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// A cluster.
    #[error("{0}")]
    Cluster(#[from] ClusterError),
    /// S3.
    #[error("{0}")]
    S3(#[from] S3Error),
    /// A process.
    #[error("{0}")]
    Process(#[from] ProcessError),
    /// A hub, spoke or command line.
    #[error("{0}")]
    Program(#[from] ProgramError),
    /// A command line.
    #[error("running isthmus {args:?}: {source}")]
    Command {
        /// Its arguments.
        args: Vec<OsString>,
        /// Why not.
        source: std::io::Error,
    },
    /// The start was broken off.
    #[error("the lab's start was broken off: {0}")]
    Broken(tokio::task::JoinError),
}

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    dir: PathBuf,
    flavour: Flavour,
    clusters: Vec<Cluster>,
    s3: S3,
    keys: KeyPair,
    programs: AtomicUsize,
    runtime: Option<tokio::runtime::Runtime>,
    /// Last: removes the folder once everything above has let go of it.
    _guard: Option<DirGuard>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The tasks of clusters and S3 end here; blocking until they have is not allowed in a task.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn valid(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name != HUB_CLUSTER
        && !name.is_empty()
        && name.len() <= 40
        && name.chars().all(plain)
        && !name.starts_with('-')
}

impl Lab {
    /// Starts everything, the clusters side by side; the lab is ready for use when this returns.
    pub async fn start(options: LabOptions) -> Result<Self, LabError> {
        if let Some(name) = options.clusters.iter().find(|name| !valid(name)) {
            return Err(LabError::Name(name.clone()));
        }
        let is_there = |name: &str| name == HUB_CLUSTER || options.clusters.iter().any(|c| c == name);
        if let Some(name) = options.traits.keys().find(|name| !is_there(name)) {
            let known = options.clusters.join(", ");
            return Err(LabError::NoCluster { name: name.clone(), known: format!("{HUB_CLUSTER}, {known}") });
        }
        crate::install_crypto_provider();
        raise_open_files();
        let flavour = options.flavour.clone().map_or_else(Flavour::detect, Ok).map_err(ClusterError::from)?;
        let (dir, guard) = folder(options.dir.as_deref())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("lab")
            .enable_all()
            .build()
            .map_err(LabError::Runtime)?;
        let starting = runtime.spawn(parts(dir.clone(), options, flavour.clone()));
        let (clusters, s3) = match starting.await.map_err(LabError::Broken).and_then(|parts| parts) {
            Ok(parts) => parts,
            Err(error) => {
                runtime.shutdown_background();
                return Err(error);
            }
        };
        s3.create_bucket(BUCKET);
        let keys = s3.keys().add(KeyAccess::ReadWrite);
        let programs = AtomicUsize::new(0);
        Ok(Self { dir, flavour, clusters, s3, keys, programs, runtime: Some(runtime), _guard: guard })
    }

    /// Where everything is kept.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What serves the clusters' APIs.
    pub fn flavour(&self) -> &Flavour {
        &self.flavour
    }

    /// A cluster by its name.
    pub fn cluster(&self, name: &str) -> Result<&Cluster, LabError> {
        self.clusters.iter().find(|cluster| cluster.name() == name).ok_or_else(|| LabError::NoCluster {
            name: name.to_owned(),
            known: self.clusters.iter().map(Cluster::name).collect::<Vec<_>>().join(", "),
        })
    }

    /// All clusters, the hub's first.
    pub fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    /// An administrator's client of a cluster, on the current runtime.
    pub fn client(&self, cluster: &str) -> Result<Client, LabError> {
        Ok(self.cluster(cluster)?.client()?)
    }

    /// A kubeconfig file of a cluster.
    pub fn kubeconfig(&self, cluster: &str) -> Result<&Path, LabError> {
        Ok(self.cluster(cluster)?.kubeconfig())
    }

    /// The folder of a claim's volume.
    pub async fn volume_dir(&self, cluster: &str, namespace: &str, claim: &str) -> Result<PathBuf, LabError> {
        Ok(self.cluster(cluster)?.volume_dir(namespace, claim).await?)
    }

    /// The S3 server.
    pub fn s3(&self) -> &S3 {
        &self.s3
    }

    /// The keys that may read and write the bucket.
    pub fn s3_keys(&self) -> &KeyPair {
        &self.keys
    }

    fn log(&self, name: &str) -> PathBuf {
        let number = self.programs.fetch_add(1, Ordering::Relaxed);
        self.dir.join("logs").join(format!("{name}-{number}.log"))
    }

    /// Starts a hub in its namespace of the hub's cluster, and waits until it serves.
    pub async fn start_hub(&self, options: HubOptions) -> Result<Hub, LabError> {
        let client = self.client(HUB_CLUSTER)?;
        create_namespace(&client, &options.namespace).await?;
        let port = program::free_port()?;
        let url = format!("https://127.0.0.1:{port}");
        let args = vec![
            "--kubeconfig".into(),
            self.kubeconfig(HUB_CLUSTER)?.into(),
            "--namespace".into(),
            options.namespace.clone().into(),
            "--listen".into(),
            format!("127.0.0.1:{port}").into(),
            "--advertise-url".into(),
            url.clone().into(),
        ];
        let log = self.log(&format!("hub-{}", options.namespace));
        let run = program::serve("hub", args, &options.args, &options.env, log)?;
        Ok(Hub::start(run, url, options.namespace, client).await?)
    }

    /// Joins a cluster to the hub, starts its spoke, and waits until the hub hears it.
    pub async fn start_spoke(&self, hub: &Hub, options: SpokeOptions) -> Result<Spoke, LabError> {
        let token = hub.join_token(&options.record).await?;
        let spoke = self.start_spoke_with(&hub.url, &token, options).await?;
        hub.cluster_ready(&spoke.record).await?;
        Ok(spoke)
    }

    /// Starts a spoke with this hub URL and join token, without waiting for anything.
    pub async fn start_spoke_with(
        &self,
        hub_url: &str,
        token: &str,
        options: SpokeOptions,
    ) -> Result<Spoke, LabError> {
        let kubeconfig = match &options.kubeconfig {
            Some(kubeconfig) => kubeconfig,
            None => self.kubeconfig(&options.cluster)?,
        };
        create_namespace(&self.client(&options.cluster)?, &options.namespace).await?;
        let log = self.log(&format!("spoke-{}-{}", options.cluster, options.namespace));
        let token_file = log.with_extension("token");
        crate::cluster::write_private(&token_file, token)
            .map_err(|source| ProgramError::File { path: token_file.clone(), source })?;
        let port = program::free_port()?;
        let args = vec![
            "--hub".into(),
            hub_url.into(),
            "--join-token-file".into(),
            token_file.into(),
            "--kubeconfig".into(),
            kubeconfig.into(),
            "--namespace".into(),
            options.namespace.clone().into(),
            "--mover-image".into(),
            MOVER_IMAGE.into(),
            "--mover-listen".into(),
            format!("127.0.0.1:{port}").into(),
            "--mover-endpoint".into(),
            format!("https://127.0.0.1:{port}").into(),
        ];
        let run = program::serve("spoke", args, &options.args, &options.env, log)?;
        let program = Program::start(&format!("the spoke of cluster {}", options.cluster), run).await?;
        Ok(Spoke { program, cluster: options.cluster, record: options.record })
    }

    /// Runs `isthmus` against the hub's cluster and returns what it printed. Give `--namespace` for a
    /// hub that is not in the default one.
    pub async fn isthmus(&self, args: &[&str]) -> Result<Output, LabError> {
        let command = || args.iter().map(OsString::from).collect();
        let executable = executable::path().map_err(ProcessError::from)?;
        tokio::process::Command::new(executable)
            .arg("isthmus")
            .args(args)
            .env("KUBECONFIG", self.kubeconfig(HUB_CLUSTER)?)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|source| LabError::Command { args: command(), source })
    }

    /// Runs `isthmus` as [`Lab::isthmus`] does, on this process's own terminal, with the lab's S3 keys in
    /// its environment.
    pub async fn isthmus_live(&self, args: &[&str]) -> Result<ExitStatus, LabError> {
        let executable = executable::path().map_err(ProcessError::from)?;
        tokio::process::Command::new(executable)
            .arg("isthmus")
            .args(args)
            .env("KUBECONFIG", self.kubeconfig(HUB_CLUSTER)?)
            .env("AWS_ACCESS_KEY_ID", &self.keys.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &self.keys.secret_key)
            .kill_on_drop(true)
            .status()
            .await
            .map_err(|source| LabError::Command { args: args.iter().map(OsString::from).collect(), source })
    }

    /// Ends the clusters' programs in order. Dropping the lab kills them all the same.
    pub async fn stop(mut self) {
        for cluster in std::mem::take(&mut self.clusters) {
            cluster.stop().await;
        }
    }
}

/// Lets this process and those that it starts have as many files open as the system allows: both ends
/// of every connection of three clusters are in one process, and shells allow 1,024 by default.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is: a lab needs about 1,000");
    }
}

async fn create_namespace(client: &Client, name: &str) -> Result<(), ProgramError> {
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(name.to_owned());
    match Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(source) => {
            Err(ProgramError::Api { action: format!("creating namespace {name}"), source: Box::new(source) })
        }
    }
}

/// The folder of the lab; a temporary one is guarded.
fn folder(given: Option<&Path>) -> Result<(PathBuf, Option<DirGuard>), LabError> {
    let dir = match given {
        Some(dir) => dir.to_owned(),
        None => std::env::temp_dir().join(format!("isthmus-lab-{}", uuid::Uuid::new_v4().simple())),
    };
    let failed = |source| LabError::Dir { dir: dir.clone(), source };
    std::fs::create_dir_all(dir.join("logs")).map_err(failed)?;
    // Links in a path would keep movers' paths from matching the volumes'.
    let dir = dir.canonicalize().map_err(failed)?;
    let guard = if given.is_some() { None } else { Some(DirGuard::new(&dir)?) };
    Ok((dir, guard))
}

async fn parts(dir: PathBuf, options: LabOptions, flavour: Flavour) -> Result<(Vec<Cluster>, S3), LabError> {
    let names = std::iter::once(HUB_CLUSTER.to_owned()).chain(options.clusters.iter().cloned());
    let starting = names.map(|name| {
        let options = ClusterOptions {
            dir: dir.join("clusters").join(&name),
            traits: options.traits.get(&name).cloned().unwrap_or_default(),
            name,
            flavour: flavour.clone(),
        };
        async move { Cluster::start(options).await.map_err(LabError::from) }
    });
    let s3 = async {
        S3::start(S3Options { dir: dir.join("s3"), tls: options.s3_tls }).await.map_err(LabError::from)
    };
    futures::try_join!(try_join_all(starting), s3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_cluster_cannot_take_the_hubs_name() {
        assert!(valid("east-1"));
        assert!(!valid("hub"));
        assert!(!valid("East"));
        assert!(!valid(""));
    }
}
