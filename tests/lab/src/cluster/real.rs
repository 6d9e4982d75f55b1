//! A real control plane on loopback: etcd, kube-apiserver and, if it is there, kube-controller-manager.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::certs::{Authority, signing_key};
use super::flavour::Binaries;
use super::{ClusterError, ClusterTraits, Endpoint, config, connect, kubeconfig_text, write_private};
use crate::kubelet;
use crate::programs::ProcessError;
use crate::programs::process::{Process, Run};

/// A control plane takes 3 s on an idle machine; tests start several on a busy one.
const READY_DEADLINE: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(150);
/// Ports are chosen before the programs bind them, and another process may be quicker.
const ATTEMPTS: usize = 3;
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Which of the programs is kube-apiserver.
const API_SERVER: usize = 1;

pub(super) struct Real {
    /// The programs, in the order in which they were started.
    processes: Vec<Process>,
    /// Where etcd answers.
    etcd: String,
    /// What the cluster's kubelet serves the API server with.
    kubelet: Arc<rustls::ServerConfig>,
}

impl Real {
    /// The key-value store behind the API server: `http://127.0.0.1:PORT`.
    pub fn etcd(&self) -> &str {
        &self.etcd
    }

    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Process::pid).collect()
    }

    /// Halts the API server where it is, or has it go on: meanwhile connections are kept, and nothing is
    /// answered on them.
    pub fn silence(&self, silent: bool) -> Result<(), String> {
        let server = self.processes.get(API_SERVER).ok_or("it has no API server")?;
        server.halt(silent).map_err(|error| format!("halting kube-apiserver, or having it go on: {error}"))
    }

    /// What the cluster's kubelet serves the API server with.
    pub fn kubelet(&self) -> Arc<rustls::ServerConfig> {
        self.kubelet.clone()
    }

    pub async fn stop(self) {
        for process in self.processes.iter().rev() {
            process.kill();
            if let Err(error) = process.wait_within(STOP_DEADLINE).await {
                tracing::warn!(%error, "a program of the control plane is still there");
            }
        }
    }
}

/// Where the parts of one control plane are.
struct Plane<'a> {
    cluster: &'a str,
    dir: PathBuf,
    binaries: &'a Binaries,
    traits: &'a ClusterTraits,
    token: String,
    ca_pem: String,
    kubelet: Arc<rustls::ServerConfig>,
}

pub(super) async fn start(
    cluster: &str,
    dir: &Path,
    binaries: &Binaries,
    traits: &ClusterTraits,
) -> Result<(Real, Endpoint), ClusterError> {
    let certificate = |source| ClusterError::Certificate { cluster: cluster.to_owned(), source };
    let authority = Authority::new(&format!("{cluster} CA")).map_err(certificate)?;
    let sans =
        ["localhost", "127.0.0.1", "10.96.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let server = authority.server("kube-apiserver", &sans).map_err(certificate)?;
    let client = authority.client("kube-apiserver-kubelet-client").map_err(certificate)?;
    let kubelet =
        authority.server("kubelet", &[&kubelet::server::address().to_string()]).map_err(certificate)?;
    let kubelet = Arc::new(kubelet.rustls_for(&authority).map_err(certificate)?);
    let (private, public) = signing_key().map_err(certificate)?;
    let plane = Plane {
        cluster,
        dir: dir.join("control-plane"),
        binaries,
        traits,
        token: uuid::Uuid::new_v4().simple().to_string(),
        ca_pem: authority.pem(),
        kubelet,
    };
    plane.folder(&plane.dir)?;
    plane.write("ca.crt", &plane.ca_pem)?;
    plane.write("apiserver.crt", &server.cert_pem)?;
    plane.write("apiserver.key", &server.key_pem)?;
    plane.write("kubelet-client.crt", &client.cert_pem)?;
    plane.write("kubelet-client.key", &client.key_pem)?;
    plane.write("service-accounts.key", &private)?;
    plane.write("service-accounts.pub", &public)?;
    plane.write("tokens.csv", &format!("{},admin,admin,\"system:masters\"\n", plane.token))?;
    let mut attempt = 1;
    loop {
        match plane.run(attempt).await {
            Err(ClusterError::NotReady { problem, .. })
                if attempt < ATTEMPTS && problem.contains("has ended") =>
            {
                tracing::debug!(cluster, problem, "the control plane is started once more, on other ports");
                attempt += 1;
            }
            done => return done,
        }
    }
}

fn free_ports<const N: usize>() -> std::io::Result<[u16; N]> {
    // Held together, so that all are different.
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

impl Plane<'_> {
    fn file_error(&self, path: &Path) -> impl FnOnce(std::io::Error) -> ClusterError {
        let (cluster, path) = (self.cluster.to_owned(), path.to_owned());
        move |source| ClusterError::File { cluster, path, source }
    }

    fn folder(&self, path: &Path) -> Result<(), ClusterError> {
        std::fs::create_dir_all(path).map_err(self.file_error(path))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), ClusterError> {
        let path = self.dir.join(name);
        write_private(&path, text).map_err(self.file_error(&path))
    }

    async fn spawn(&self, name: &str, program: &Path, args: Vec<String>) -> Result<Process, ClusterError> {
        let run = Run {
            program: program.into(),
            args: args.into_iter().map(OsString::from).collect(),
            env: Vec::new(),
            inherit_env: true,
            credentials: None,
            dir: Some(self.dir.clone()),
            log: self.dir.join(format!("{name}.log")),
        };
        let program =
            |source: ProcessError| ClusterError::Program { cluster: self.cluster.to_owned(), source };
        Process::spawn(run).await.map_err(program)
    }

    async fn run(&self, attempt: usize) -> Result<(Real, Endpoint), ClusterError> {
        let [client, peer, api] = free_ports().map_err(self.file_error(Path::new("127.0.0.1")))?;
        let file = |name: &str| self.dir.join(name).display().to_string();
        let etcd_url = format!("http://127.0.0.1:{client}");
        let peer_url = format!("http://127.0.0.1:{peer}");
        let mut etcd = vec![
            "--name=lab".to_owned(),
            format!("--data-dir={}", file(&format!("etcd-{attempt}"))),
            format!("--listen-client-urls={etcd_url}"),
            format!("--advertise-client-urls={etcd_url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=lab={peer_url}"),
            "--log-level=warn".to_owned(),
        ];
        if !self.traits.durable {
            etcd.push("--unsafe-no-fsync=true".to_owned());
        }
        let etcd = self.spawn("etcd", &self.binaries.etcd, etcd).await?;
        let mut server = vec![
            format!("--etcd-servers={etcd_url}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--secure-port={api}"),
            format!("--cert-dir={}", file("certs")),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file("service-accounts.pub")),
            format!("--service-account-signing-key-file={}", file("service-accounts.key")),
            format!("--kubelet-certificate-authority={}", file("ca.crt")),
            format!("--kubelet-client-certificate={}", file("kubelet-client.crt")),
            format!("--kubelet-client-key={}", file("kubelet-client.key")),
            // All nodes are on this machine, whose address they call their external one.
            "--kubelet-preferred-address-types=ExternalIP".to_owned(),
            "--profiling=false".to_owned(),
            "--v=0".to_owned(),
        ];
        if !self.traits.without_versions.is_empty() {
            let off: Vec<String> =
                self.traits.without_versions.iter().map(|version| format!("{version}=false")).collect();
            server.push(format!("--runtime-config={}", off.join(",")));
        }
        let server = self.spawn("kube-apiserver", &self.binaries.api_server, server).await?;
        let endpoint = Endpoint {
            url: format!("https://127.0.0.1:{api}"),
            token: self.token.clone(),
            ca_pem: self.ca_pem.clone(),
        };
        let mut processes = vec![etcd, server];
        let kubeconfig = kubeconfig_text(self.cluster, &endpoint);
        self.ready(&kubeconfig, &processes).await?;
        if let Some(program) = self.binaries.controller_manager.as_ref().filter(|_| !self.traits.bare) {
            self.write("kubeconfig", &kubeconfig)?;
            let args = vec![
                format!("--kubeconfig={}", file("kubeconfig")),
                format!("--authentication-kubeconfig={}", file("kubeconfig")),
                format!("--authorization-kubeconfig={}", file("kubeconfig")),
                // Nobody asks it anything. A port would be chosen long before it is bound, and where
                // another process is quicker it ends at once, and nothing is bound or started.
                "--secure-port=0".to_owned(),
                "--leader-elect=false".to_owned(),
                format!("--service-account-private-key-file={}", file("service-accounts.key")),
                format!("--root-ca-file={}", file("ca.crt")),
                "--pvclaimbinder-sync-period=2s".to_owned(),
                "--profiling=false".to_owned(),
                "--v=0".to_owned(),
            ];
            processes.push(self.spawn("kube-controller-manager", program, args).await?);
        }
        Ok((Real { processes, etcd: etcd_url, kubelet: self.kubelet.clone() }, endpoint))
    }

    /// Waits until the API server says that it is ready.
    async fn ready(&self, kubeconfig: &str, processes: &[Process]) -> Result<(), ClusterError> {
        let not_ready = |problem: String| ClusterError::NotReady {
            cluster: self.cluster.to_owned(),
            problem,
            dir: self.dir.clone(),
        };
        let client = connect(self.cluster, &config(self.cluster, kubeconfig).await?)?;
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            if let Some(ended) = processes.iter().find(|process| process.ended().is_some()) {
                return Err(not_ready(format!("{} has ended", ended.run().program.to_string_lossy())));
            }
            let request = http::Request::get("/readyz").body(Vec::new());
            let request = request.map_err(|error| not_ready(error.to_string()))?;
            let problem = match client.request_text(request).await {
                Ok(answer) if answer == "ok" => return Ok(()),
                Ok(answer) => answer,
                Err(error) => error.to_string(),
            };
            if Instant::now() >= deadline {
                return Err(not_ready(problem));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
