//! The nodes of a cluster, and what runs on them.
//!
//! ```text
//! pod bound to our node ─▶ claims bound, attached? ─▶ our images ─▶ worker: volumes, processes, status
//!                                                  └▶ any other  ─▶ simulated: Running and Ready at once
//! ```
//!
//! - Pods of [`MOVER_IMAGE`] and of [`LEDGER_IMAGE`] run as real processes of this machine, over the folders of their volumes
//!   ([`worker`], [`volumes`], [`command`]). There is no isolation: no namespaces, no limits. Where the lab
//!   runs as root they have the users, groups and capabilities of their security contexts
//!   ([`security`]); else all are the lab's own user.
//! - Pods of [`SHELL_IMAGE`] likewise: their command is a program of this machine.
//! - Pods of any other image have no process. They are Running and Ready as soon as their claims are
//!   there; those of a Job succeed at once. [`NOT_READY`] and [`EXIT_CODE`] change that for tests.
//!
//! Commands are run in the containers of either kind ([`exec`]), and beside a real API server the kubelet
//! serves them, the logs and how full volumes are ([`stats`]) by itself ([`server`]).
//!
//! The last logs of a cluster's pods are kept, up to [`KEPT_LOGS`] pods, past the pods' own end.

mod command;
mod exec;
mod logs;
mod nodes;
mod security;
pub(crate) mod server;
mod stats;
pub(crate) mod status;
mod volumes;
mod worker;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::Stream;
use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::controllers::cache::{Cache, Topic};
use crate::controllers::{Again, Context, Controller, Error, Settled, deleting, namespace_of, owner, pods};
pub(crate) use exec::{ExecQuery, handshake};
pub use logs::KEPT_LOGS;
pub(crate) use logs::LogQuery;
use worker::Worker;

/// The image whose pods the lab runs as processes of its own executable.
pub const MOVER_IMAGE: &str = "isthmus.dev/lab/isthmus-spoke:lab";
/// The image of an application that writes: `crate::ledger`, in the volume at its `--dir`.
pub const LEDGER_IMAGE: &str = "isthmus.dev/lab/ledger:lab";
/// The image whose pods the lab runs as the programs of this machine that their commands name.
pub const SHELL_IMAGE: &str = "isthmus.dev/lab/shell:lab";
/// A simulated pod with this annotation and the value `true` is not ready.
pub const NOT_READY: &str = "lab.isthmus.dev/not-ready";
/// What a simulated pod of a Job returns, if not 0.
pub const EXIT_CODE: &str = "lab.isthmus.dev/exit-code";

/// The kubelet of all nodes of a cluster.
pub(crate) struct Kubelet {
    context: Context,
    /// Holds a folder for each pod that runs a process.
    dir: PathBuf,
    nodes: Vec<String>,
    /// What pods' addresses begin with.
    network: String,
    last_address: AtomicU32,
    workers: Mutex<HashMap<String, Worker>>,
    logs: Mutex<logs::Kept>,
}

/// Registers the nodes and starts the kubelet as tasks of `tasks`; with `tls` it has a server of its
/// own, for an API server that is not the lab's.
pub(crate) async fn start(
    cluster: &str,
    context: &Context,
    dir: PathBuf,
    tls: Option<Arc<rustls::ServerConfig>>,
    tasks: &mut JoinSet<()>,
) -> Result<Arc<Kubelet>, Error> {
    // Before the nodes are registered, which tell their ports.
    let mut listeners = Vec::new();
    if tls.is_some() {
        for _ in 0..nodes::COUNT {
            let listener =
                TcpListener::bind((server::address(), 0)).await.map_err(|error| unserved(&error))?;
            listeners.push((listener.local_addr().map_err(|error| unserved(&error))?.port(), listener));
        }
    }
    let ports: Vec<u16> = listeners.iter().map(|(port, _)| *port).collect();
    let nodes = nodes::register(cluster, context, &ports).await?;
    nodes::heartbeat(context, &nodes, tasks);
    let kubelet = Arc::new(Kubelet {
        context: context.clone(),
        dir,
        nodes,
        network: nodes::network(cluster),
        last_address: AtomicU32::new(1),
        workers: Mutex::default(),
        logs: Mutex::default(),
    });
    crate::controllers::run(Handle(kubelet.clone()), context, tasks);
    if let Some(tls) = tls {
        for ((_, listener), node) in listeners.into_iter().zip(&kubelet.nodes) {
            let server = server::Server { kubelet: kubelet.clone(), node: node.clone() };
            tasks.spawn(server::run(Arc::new(server), listener, tls.clone()));
        }
    }
    Ok(kubelet)
}

fn unserved(error: &std::io::Error) -> Error {
    Error::Object { object: "the kubelet's server".to_owned(), problem: error.to_string() }
}

struct Handle(Arc<Kubelet>);

impl Controller for Handle {
    type Object = Pod;
    const TOPICS: &'static [Topic] = &[Topic::Pods, Topic::Claims, Topic::Volumes];

    fn objects(&self, cache: &Cache) -> Vec<Arc<Pod>> {
        let kubelet = &self.0;
        let pods = cache.pods.state_filter(|pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
            node.is_some_and(|node| kubelet.nodes.contains(node))
        });
        // A pod that was removed by force takes its processes with it.
        kubelet.workers().retain(|uid, _| pods.iter().any(|pod| pod.uid().as_ref() == Some(uid)));
        pods
    }

    async fn reconcile(&self, pod: &Pod) -> Result<Again, Error> {
        let kubelet = &self.0;
        if deleting(pod) {
            return kubelet.end(pod).await.map(|()| None);
        }
        let uid = pod.uid().unwrap_or_default();
        if pods::finished(pod) || kubelet.workers().contains_key(&uid) {
            return Ok(None);
        }
        if let Some(waits_for) = kubelet.obstacle(pod) {
            return kubelet.creating(pod, &waits_for).await.map(|()| None);
        }
        if command::has_processes(pod) {
            kubelet.run(pod, uid);
            return Ok(None);
        }
        kubelet.simulate(pod).await.map(|()| None)
    }
}

impl Kubelet {
    fn workers(&self) -> std::sync::MutexGuard<'_, HashMap<String, Worker>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a pod has printed, containers one behind the other; `None` when no log of it is kept.
    pub fn log(&self, namespace: &str, pod: &str) -> Option<String> {
        self.kept().text(namespace, pod)
    }

    /// A container's output, as the API server serves it.
    pub fn stream_log(
        self: Arc<Self>,
        query: &LogQuery,
    ) -> impl Stream<Item = Bytes> + Send + 'static + use<> {
        let file = logs::file(&self.dir.join(&query.pod_uid), &query.container);
        let uid = query.pod_uid.clone();
        logs::stream(file, query, move || self.workers().get(&uid).is_none_or(Worker::is_finished))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, logs::Kept> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self) -> String {
        let number = self.last_address.fetch_add(1, Ordering::Relaxed);
        format!("{}.{}.{}", self.network, (number >> 8) & 0xff, number & 0xff)
    }

    /// What keeps the pod from starting: a claim that is not bound, attached to another node, or for
    /// one pod and in use by another.
    fn obstacle(&self, pod: &Pod) -> Option<String> {
        let cache = &self.context.cache;
        let namespace = namespace_of(pod);
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        for name in crate::controllers::pods_claims(pod) {
            let claim = cache.claim(&namespace, &name);
            let volume =
                claim.as_ref().and_then(|claim| cache.volume(crate::controllers::bound_volume(claim)?));
            let (Some(claim), Some(volume)) = (claim, volume) else {
                return Some(format!("claim {name} is not bound"));
            };
            // Pods that somebody gave their nodes by hand have passed no scheduler.
            let workers = self.workers();
            let held = crate::controllers::for_one_pod(&claim).then(|| {
                let holds = |other: &Pod| {
                    let started = pods::phase(other) == "Running"
                        || other.uid().is_some_and(|uid| workers.contains_key(&uid));
                    started && other.uid() != pod.uid() && crate::controllers::uses(other, &claim)
                };
                cache.pods.find(holds)
            });
            drop(workers);
            if let Some(other) = held.flatten() {
                return Some(format!(
                    "volume uses the ReadWriteOncePod access mode and is already in use by another pod: {}",
                    other.name_any()
                ));
            }
            if !attaches_once(&volume) {
                continue;
            }
            let elsewhere = cache.pods.find(|other| {
                other.namespace().as_deref() == Some(&namespace)
                    && !pods::finished(other)
                    && other.uid() != pod.uid()
                    && other
                        .spec
                        .as_ref()
                        .is_some_and(|spec| spec.node_name.is_some() && spec.node_name != node)
                    && crate::controllers::pods_claims(other).contains(&name)
            });
            if let Some(other) = elsewhere {
                return Some(format!("claim {name} is attached to the node of pod {}", other.name_any()));
            }
        }
        None
    }

    async fn creating(&self, pod: &Pod, waits_for: &str) -> Result<(), Error> {
        let shown = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let same = shown.into_iter().any(|container| {
            let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
            waiting.is_some_and(|waiting| waiting.message.as_deref() == Some(waits_for))
        });
        if same {
            return Ok(());
        }
        self.write(pod, &status::creating(pod, waits_for)).await
    }

    async fn simulate(&self, pod: &Pod) -> Result<(), Error> {
        if owner::controller(pod).is_some_and(|owner| owner.kind == "Job") {
            let code = pod.annotations().get(EXIT_CODE).and_then(|code| code.parse().ok()).unwrap_or(0);
            return self.write(pod, &status::completed(pod, &self.address(), code)).await;
        }
        let ready = pod.annotations().get(NOT_READY).is_none_or(|value| value != "true");
        if pods::phase(pod) == "Running" && pods::ready(pod) == ready {
            return Ok(());
        }
        let there = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let address = there.unwrap_or_else(|| self.address());
        self.write(pod, &status::simulated(pod, &address, ready)).await
    }

    fn run(self: &Arc<Self>, pod: &Pod, uid: String) {
        let dir = self.dir.join(&uid);
        self.kept().add(namespace_of(pod), pod.name_any(), dir.clone());
        let worker = Worker::start(self.clone(), pod.clone(), dir, self.address());
        self.workers().insert(uid, worker);
    }

    /// Ends a pod that is being deleted: its processes first, then the object.
    async fn end(&self, pod: &Pod) -> Result<(), Error> {
        let uid = pod.uid().unwrap_or_default();
        if let Some(worker) = self.workers().get(&uid)
            && !worker.is_finished()
        {
            let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or_default();
            worker.stop(u64::try_from(grace).unwrap_or_default());
            return Ok(());
        }
        // What commands have left running in it sees by this that it is over.
        drop(std::fs::remove_dir_all(exec::temporary(&self.dir.join(&uid))));
        self.remove(pod).await
    }

    /// Removes the object of a pod whose processes have ended.
    async fn remove(&self, pod: &Pod) -> Result<(), Error> {
        let this = Preconditions { uid: pod.uid(), resource_version: None };
        Api::<Pod>::namespaced(self.context.client.clone(), &namespace_of(pod))
            .delete(&pod.name_any(), &DeleteParams::default().grace_period(0).preconditions(this))
            .await
            .settled("removing", pod)
            .map(|_| ())
    }

    async fn write(&self, pod: &Pod, status: &Value) -> Result<(), Error> {
        Api::<Pod>::namespaced(self.context.client.clone(), &namespace_of(pod))
            .patch_status(
                &pod.name_any(),
                &PatchParams::default(),
                &Patch::Merge(&json!({"metadata": {"uid": pod.uid()}, "status": status})),
            )
            .await
            .settled("writing the status of", pod)
            .map(|_| ())
    }
}

/// Whether the volume can be attached to one node at a time only.
fn attaches_once(volume: &PersistentVolume) -> bool {
    let modes = volume.spec.iter().flat_map(|spec| spec.access_modes.iter().flatten());
    modes.into_iter().all(|mode| mode == "ReadWriteOnce" || mode == "ReadWriteOncePod")
}
