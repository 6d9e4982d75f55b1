//! The informers: one watch a kind for all controllers and the kubelet together.
//!
//! A controller reads the cache to see whether there is something to do. Before it creates or deletes
//! by count it lists live, since the cache may lag behind its own last write.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Service,
    ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A server may close or lose a watch; none is older than this, in seconds.
const WATCH_SECONDS: u32 = 200;

/// A change counter per kind: a controller waits for those that concern it.
pub(crate) type Changes = watch::Receiver<u64>;

macro_rules! kinds {
    ($($field:ident: $kind:ty => $topic:ident,)+) => {
        /// The kinds that can wake a controller.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Topic { $($topic,)+ }

        /// All objects of the kinds that the lab's controllers deal with.
        pub(crate) struct Cache {
            $(pub $field: Store<$kind>,)+
            changes: Vec<watch::Sender<u64>>,
        }

        impl Cache {
            /// Starts the watches as tasks of `tasks`.
            pub fn start(client: &Client, tasks: &mut JoinSet<()>) -> Arc<Self> {
                let mut changes = Vec::new();
                $(
                    let changed = watch::Sender::new(0);
                    changes.push(changed.clone());
                    let $field = inform::<$kind>(client, changed, tasks);
                )+
                Arc::new(Self { $($field,)+ changes })
            }

            /// Returns when every kind has been listed once. To be awaited by one task only: a
            /// store wakes no more than that.
            pub async fn ready(&self) {
                // A writer that is gone means the cluster is being stopped; the caller is too.
                $(drop(self.$field.wait_until_ready().await);)+
            }
        }
    };
}

kinds! {
    namespaces: Namespace => Namespaces,
    service_accounts: ServiceAccount => ServiceAccounts,
    config_maps: ConfigMap => ConfigMaps,
    nodes: Node => Nodes,
    pods: Pod => Pods,
    claims: PersistentVolumeClaim => Claims,
    volumes: PersistentVolume => Volumes,
    classes: StorageClass => Classes,
    services: Service => Services,
    endpoints: Endpoints => Endpoints,
    slices: EndpointSlice => Slices,
    deployments: Deployment => Deployments,
    replica_sets: ReplicaSet => ReplicaSets,
    stateful_sets: StatefulSet => StatefulSets,
    daemon_sets: DaemonSet => DaemonSets,
    jobs: Job => Jobs,
    cron_jobs: CronJob => CronJobs,
}

impl Cache {
    /// The change counters of these kinds.
    pub fn changes(&self, topics: &[Topic]) -> Vec<Changes> {
        topics.iter().map(|topic| self.changes[*topic as usize].subscribe()).collect()
    }

    /// The claim of this name, if it is there.
    pub fn claim(&self, namespace: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>> {
        self.claims.get(&ObjectRef::new(name).within(namespace))
    }

    /// The volume of this name, if it is there.
    pub fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        self.volumes.get(&ObjectRef::new(name))
    }

    /// The pods that this object controls.
    pub fn controlled_pods(&self, namespace: &str, uid: &str) -> Vec<Arc<Pod>> {
        self.pods.state_filter(|pod| {
            pod.namespace().as_deref() == Some(namespace) && super::owner::controls(uid, pod)
        })
    }
}

fn inform<K>(client: &Client, changed: watch::Sender<u64>, tasks: &mut JoinSet<()>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Hash + Eq,
{
    let (reader, writer) = reflector::store();
    let watched = watcher(Api::<K>::all(client.clone()), watcher::Config::default().timeout(WATCH_SECONDS))
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer);
    tasks.spawn(async move {
        let mut watched = std::pin::pin!(watched);
        while let Some(event) = watched.next().await {
            match event {
                Ok(_) => changed.send_modify(|count| *count += 1),
                Err(error) => {
                    tracing::debug!(kind = %K::kind(&()), %error, "a watch of the lab's controllers begins anew");
                }
            }
        }
    });
    reader
}
