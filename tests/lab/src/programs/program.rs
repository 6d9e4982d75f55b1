//! Hubs, spokes and command lines, as tests and the demo use them.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use isthmus_shared::resources::{Cluster, ClusterSpec};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::json;

use super::process::{Exit, Process, ProcessError, Run};

/// A hub or spoke has so long to be ready; tests start many on a busy machine.
pub(crate) const READY_DEADLINE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(100);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// A line of a log that is shown with an error.
const TAIL_LINES: usize = 15;

/// A hub, a spoke or a command line could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// Its process.
    #[error("{0}")]
    Process(#[from] ProcessError),
    /// A file for it.
    #[error("writing {path}: {source}; check the folder's owner and free space")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// No port.
    #[error("choosing a free port of 127.0.0.1: {0}")]
    Port(std::io::Error),
    /// It did not become ready.
    #[error("{program} did not become ready: {problem}; the end of its log {log}:\n{tail}")]
    NotReady {
        /// Which program.
        program: String,
        /// What was seen last.
        problem: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// Its cluster.
    #[error("{0}")]
    Cluster(#[from] crate::cluster::ClusterError),
    /// A request that prepares it.
    #[error("{action}: {source}")]
    Api {
        /// What was being done.
        action: String,
        /// Why not.
        source: Box<kube::Error>,
    },
    /// The hub issued no join token.
    #[error("the hub issued no join token for cluster {cluster}: {problem}; see its log {log}")]
    NoToken {
        /// The cluster's record.
        cluster: String,
        /// What was seen last.
        problem: String,
        /// The hub's log.
        log: PathBuf,
    },
}

/// A hub or spoke under the lab's control. Dropping it kills it.
#[derive(Debug)]
pub struct Program {
    name: String,
    process: Process,
}

impl Program {
    pub(crate) async fn start(name: &str, run: Run) -> Result<Self, ProgramError> {
        Ok(Self { name: name.to_owned(), process: Process::spawn(run).await? })
    }

    /// What it is, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The file that holds its output.
    pub fn log(&self) -> &Path {
        &self.process.run().log
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        tail(self.log())
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<Exit> {
        self.process.ended()
    }

    /// Waits until it has ended.
    pub async fn wait(&self) -> Exit {
        self.process.wait().await
    }

    /// SIGKILL, and waits until it has ended.
    pub async fn kill(&self) -> Result<Exit, ProgramError> {
        self.process.kill();
        Ok(self.process.wait_within(STOP_DEADLINE).await?)
    }

    /// SIGTERM, and waits until it has ended.
    pub async fn terminate(&self) -> Result<Exit, ProgramError> {
        self.process.terminate();
        Ok(self.process.wait_within(STOP_DEADLINE).await?)
    }

    /// Starts it anew with the same arguments, after SIGKILL if it still runs.
    pub async fn restart(&mut self) -> Result<(), ProgramError> {
        if self.ended().is_none() {
            self.kill().await?;
        }
        self.process = Process::spawn(self.process.run().clone()).await?;
        Ok(())
    }
}

fn tail(log: &Path) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// How to start a hub.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// Its namespace; several hubs may run in one cluster, in a namespace each.
    pub namespace: String,
    /// More arguments for `isthmus-hub serve`.
    pub args: Vec<String>,
    /// More environment variables.
    pub env: Vec<(String, String)>,
}

impl HubOptions {
    /// A hub in this namespace.
    pub fn new(namespace: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), args: Vec::new(), env: Vec::new() }
    }
}

/// A hub.
pub struct Hub {
    /// Its process.
    pub program: Program,
    /// What spokes dial; it stays the same when the program is restarted.
    pub url: String,
    /// Its namespace.
    pub namespace: String,
    client: Client,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("program", &self.program).field("url", &self.url).finish_non_exhaustive()
    }
}

/// How to start a spoke.
#[derive(Debug, Clone)]
pub struct SpokeOptions {
    /// The lab's cluster that it runs for.
    pub cluster: String,
    /// Its namespace in that cluster.
    pub namespace: String,
    /// The name of the cluster's record at the hub.
    pub record: String,
    /// The kubeconfig that it works with; the cluster's administrator's without it.
    pub kubeconfig: Option<PathBuf>,
    /// More arguments for `isthmus-spoke serve`.
    pub args: Vec<String>,
    /// More environment variables.
    pub env: Vec<(String, String)>,
}

impl SpokeOptions {
    /// A spoke of `cluster`, recorded at the hub by that name.
    pub fn new(cluster: impl Into<String>, namespace: impl Into<String>) -> Self {
        let cluster = cluster.into();
        let record = cluster.clone();
        let (kubeconfig, args, env) = (None, Vec::new(), Vec::new());
        Self { cluster, namespace: namespace.into(), record, kubeconfig, args, env }
    }
}

/// A spoke.
#[derive(Debug)]
pub struct Spoke {
    /// Its process.
    pub program: Program,
    /// The lab's cluster that it runs for.
    pub cluster: String,
    /// The name of the cluster's record at the hub.
    pub record: String,
}

pub(crate) fn free_port() -> Result<u16, ProgramError> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(ProgramError::Port)?;
    Ok(listener.local_addr().map_err(ProgramError::Port)?.port())
}

/// `serve` of one of the programs, as the lab runs it.
pub(crate) fn serve(
    subcommand: &str,
    args: Vec<OsString>,
    more: &[String],
    env: &[(String, String)],
    log: PathBuf,
) -> Result<Run, ProgramError> {
    let program = super::executable::path().map_err(ProcessError::from)?.into();
    let mut all = vec![OsString::from(subcommand), OsString::from("serve")];
    all.extend(args);
    all.extend(more.iter().map(OsString::from));
    let env = env.iter().map(|(name, value)| (name.clone(), value.into())).collect();
    Ok(Run { program, args: all, env, inherit_env: true, credentials: None, dir: None, log })
}

impl Hub {
    pub(crate) async fn start(
        run: Run,
        url: String,
        namespace: String,
        client: Client,
    ) -> Result<Self, ProgramError> {
        let program = Program::start(&format!("the hub of namespace {namespace}"), run).await?;
        let hub = Self { program, url, namespace, client };
        hub.ready().await?;
        Ok(hub)
    }

    /// Waits until it serves: it has its CRDs and leads.
    pub async fn ready(&self) -> Result<(), ProgramError> {
        let not_ready = |problem: String| ProgramError::NotReady {
            program: self.program.name.clone(),
            problem,
            log: self.program.log().to_owned(),
            tail: self.program.log_tail(),
        };
        // This asks whether the hub is up; who it is, spokes check by its CA.
        let client = reqwest::Client::builder()
            .danger_accept_invalid_certs(true)
            .timeout(Duration::from_secs(5))
            .build()
            .map_err(|error| not_ready(error.to_string()))?;
        let url = format!("{}/readyz", self.url);
        let mut problem = String::from("it was not asked yet");
        let asking = async {
            while self.program.ended().is_none() {
                match client.get(&url).send().await {
                    Ok(answer) if answer.status().is_success() => return true,
                    Ok(answer) => problem = format!("/readyz answers {}", answer.status()),
                    Err(error) => problem = format!("/readyz: {error}"),
                }
                tokio::time::sleep(POLL).await;
            }
            false
        };
        match tokio::time::timeout(READY_DEADLINE, asking).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(not_ready(format!("it has ended: {:?}", self.program.ended()))),
            Err(_) => Err(not_ready(problem)),
        }
    }

    /// Asks for a join token, as `isthmus cluster add` does, and returns it.
    pub async fn join_token(&self, record: &str) -> Result<String, ProgramError> {
        let api_error = |action: String| move |source| ProgramError::Api { action, source: Box::new(source) };
        let clusters = Api::<Cluster>::namespaced(self.client.clone(), &self.namespace);
        let request = uuid::Uuid::new_v4().to_string();
        let mut cluster = Cluster::new(record, ClusterSpec::default());
        cluster.spec.join_request = Some(request.clone());
        let patch = json!({
            "apiVersion": "isthmus.dev/v1alpha1",
            "kind": "Cluster",
            "metadata": {"name": record},
            "spec": {"joinRequest": request},
        });
        clusters
            .patch(record, &PatchParams::apply("isthmus-lab").force(), &Patch::Apply(&patch))
            .await
            .map_err(api_error(format!("creating cluster record {record}")))?;
        let answered = |cluster: Option<&Cluster>| {
            let join = cluster.and_then(|cluster| cluster.status.as_ref()?.join.as_ref());
            join.is_some_and(|join| join.request.as_deref() == Some(&request))
        };
        let no_token = |problem: String| ProgramError::NoToken {
            cluster: record.to_owned(),
            problem,
            log: self.program.log().to_owned(),
        };
        let waiting = tokio::time::timeout(READY_DEADLINE, await_condition(clusters, record, answered)).await;
        match waiting {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(no_token(error.to_string())),
            Err(_) => return Err(no_token("it did not answer the request".to_owned())),
        }
        let name = format!("{record}-join-token");
        let secret = Api::<Secret>::namespaced(self.client.clone(), &self.namespace)
            .get(&name)
            .await
            .map_err(api_error(format!("reading Secret {name}")))?;
        let token = secret.data.unwrap_or_default().remove("token");
        let token = token.and_then(|token| String::from_utf8(token.0).ok());
        token.ok_or_else(|| no_token(format!("Secret {name} has no token")))
    }

    /// Waits until the hub says that a cluster's spoke is there.
    pub async fn cluster_ready(&self, record: &str) -> Result<(), ProgramError> {
        let clusters = Api::<Cluster>::namespaced(self.client.clone(), &self.namespace);
        let ready = |cluster: Option<&Cluster>| {
            let status = cluster.and_then(|cluster| cluster.status.as_ref());
            status.is_some_and(|status| {
                status
                    .conditions
                    .iter()
                    .any(|condition| condition.type_ == "Ready" && condition.status == "True")
            })
        };
        let waiting =
            tokio::time::timeout(READY_DEADLINE, await_condition(clusters.clone(), record, ready)).await;
        if let Ok(Ok(_)) = waiting {
            return Ok(());
        }
        let seen = clusters.get_opt(record).await.ok().flatten().and_then(|cluster| cluster.status);
        Err(ProgramError::NotReady {
            program: format!("the spoke of cluster {record}"),
            problem: format!("its record says {:?}", seen.map(|status| status.conditions)),
            log: self.program.log().to_owned(),
            tail: self.program.log_tail(),
        })
    }
}
