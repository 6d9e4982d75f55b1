//! The controllers that a migration meets, each a file, thin, and only as faithful as Isthmus needs.
//!
//! ```text
//! watches ──▶ Cache ──changes──▶ work_loop ──each object──▶ Controller::reconcile ──▶ API server
//! ```
//!
//! They are plain API clients, so they work on the lab's own API server and on a real one. On a real
//! one with kube-controller-manager only those run that it lacks: the scheduler and the provisioner.
//!
//! Every controller is level-triggered: a change of a kind that concerns it makes it look at all of its
//! objects, which are few. It promises to converge, not to be quick with thousands.

mod backing;
pub(crate) mod cache;
mod claim_binder;
mod claim_protection;
mod cordon;
mod cron_job;
mod daemon_set;
mod deployment;
mod endpoints;
mod garbage;
mod job;
mod namespace;
pub(crate) mod owner;
pub(crate) mod pods;
mod provisioner;
mod replica_set;
mod scheduler;
mod service_account;
pub(crate) mod snapshots;
mod stateful_set;
mod work_loop;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::{Client, Resource, ResourceExt};
use tokio::task::JoinSet;

use cache::{Cache, Topic};
pub(crate) use provisioner::{bound_volume, create_classes, folder};
pub(crate) use scheduler::{for_one_pod, pods_claims, uses};
pub(crate) use work_loop::spawn as run;

/// What every controller works with.
#[derive(Clone)]
pub(crate) struct Context {
    pub client: Client,
    pub cache: Arc<Cache>,
    /// Holds a folder for each provisioned volume.
    pub volumes_dir: PathBuf,
    /// The cluster's CA, which each namespace gets as `kube-root-ca.crt`.
    pub ca_pem: String,
}

/// A request of a controller that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{action} {object}: {source}")]
    Api { action: &'static str, object: String, source: Box<kube::Error> },
    #[error("{action} {path}: {source}; check the folder's owner and free space")]
    Folder { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{object}: {problem}")]
    Object { object: String, problem: String },
}

/// When an object wants to be looked at again although nothing changed.
pub(crate) type Again = Option<Duration>;

/// One controller.
pub(crate) trait Controller: Send + Sync + 'static {
    /// The kind that it reconciles.
    type Object: Resource<DynamicType = ()> + Send + Sync;
    /// The kinds whose changes concern it, its own included.
    const TOPICS: &'static [Topic];

    /// The objects to reconcile.
    fn objects(&self, cache: &Cache) -> Vec<Arc<Self::Object>>;

    /// Brings one object a step nearer to what it asks for.
    fn reconcile(&self, object: &Self::Object) -> impl Future<Output = Result<Again, Error>> + Send;
}

/// Which controllers to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of them.
    All,
    /// Those that kube-controller-manager does not have.
    BesideControllerManager,
}

/// Starts the controllers as tasks of `tasks`.
pub(crate) fn start(context: &Context, scope: Scope, tasks: &mut JoinSet<()>) {
    let c = || context.clone();
    run(scheduler::Scheduler::new(c()), context, tasks);
    run(provisioner::Provisioner(c()), context, tasks);
    run(provisioner::Reclaimer(c()), context, tasks);
    if scope == Scope::BesideControllerManager {
        return;
    }
    run(namespace::Namespaces::new(c()), context, tasks);
    run(service_account::ServiceAccounts(c()), context, tasks);
    run(cordon::Cordons(c()), context, tasks);
    run(claim_binder::Claims(c()), context, tasks);
    run(claim_binder::Volumes(c()), context, tasks);
    run(claim_protection::Claims(c()), context, tasks);
    run(claim_protection::Volumes(c()), context, tasks);
    run(deployment::Deployments(c()), context, tasks);
    run(replica_set::ReplicaSets(c()), context, tasks);
    run(stateful_set::StatefulSets(c()), context, tasks);
    run(daemon_set::DaemonSets(c()), context, tasks);
    run(job::Jobs(c()), context, tasks);
    run(cron_job::CronJobs(c()), context, tasks);
    run(endpoints::Services(c()), context, tasks);
    garbage::spawn(&context.client, tasks);
}

/// "namespace/name", or the name alone.
pub(crate) fn full_name<K: Resource>(object: &K) -> String {
    let name = object.meta().name.clone().or_else(|| object.meta().generate_name.clone()).unwrap_or_default();
    object.meta().namespace.as_ref().map_or(name.clone(), |namespace| format!("{namespace}/{name}"))
}

/// Reads the result of a write: what another write overtook is settled by the next look.
pub(crate) trait Settled<T> {
    /// `None` where the object is gone, exists already or has changed meanwhile.
    fn settled<K: Resource<DynamicType = ()>>(
        self,
        action: &'static str,
        object: &K,
    ) -> Result<Option<T>, Error>;
}

impl<T> Settled<T> for kube::Result<T> {
    fn settled<K: Resource<DynamicType = ()>>(
        self,
        action: &'static str,
        object: &K,
    ) -> Result<Option<T>, Error> {
        match self {
            Ok(done) => Ok(Some(done)),
            Err(kube::Error::Api(status)) if overtaken(&status) => Ok(None),
            Err(source) => Err(Error::Api {
                action,
                object: format!("{} {}", K::kind(&()), full_name(object)),
                source: Box::new(source),
            }),
        }
    }
}

/// Whether a write failed because the object is gone, there, or changed; or its namespace is going.
pub(crate) fn overtaken(status: &kube::core::Status) -> bool {
    matches!(status.code, 404 | 409) || status.code == 403 && status.message.contains("being terminated")
}

/// Whether the object is being deleted.
pub(crate) fn deleting<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// The namespace of a namespaced object.
pub(crate) fn namespace_of<K: ResourceExt>(object: &K) -> String {
    object.namespace().unwrap_or_default()
}
