//! The scheduler: binds a pod to the first node that may run it and has the fewest pods.

pub(crate) mod fit;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::cache::{Cache, Topic};
use super::{Again, Context, Controller, Error, Settled, namespace_of, pods, provisioner};

const DEFAULT_SCHEDULER: &str = "default-scheduler";
/// Why a pod waits for another that has its ReadWriteOncePod claim.
const TAKEN: &str =
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
/// Tells the provisioner where the first pod of a WaitForFirstConsumer claim will run.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

pub(super) struct Scheduler {
    context: Context,
    /// Where pods were bound that the cache shows unbound yet, by uid.
    assumed: Mutex<HashMap<String, String>>,
}

/// What stands between a pod and its node.
enum Place {
    On(String),
    /// Claims wait for the node to be known; it is written on them first.
    Announce(String, Vec<Arc<PersistentVolumeClaim>>),
    Nowhere(String),
}

impl Scheduler {
    pub fn new(context: Context) -> Self {
        Self { context, assumed: Mutex::default() }
    }

    fn place(&self, pod: &Pod) -> Place {
        let cache = &self.context.cache;
        let namespace = namespace_of(pod);
        let mut waiting = Vec::new();
        let mut volumes = Vec::new();
        let mut selected = None;
        for name in pods_claims(pod) {
            let Some(claim) = cache.claim(&namespace, &name) else {
                return Place::Nowhere(format!("persistentvolumeclaim \"{name}\" not found"));
            };
            if for_one_pod(&claim) && self.is_taken(&claim, pod) {
                return Place::Nowhere(TAKEN.to_owned());
            }
            match provisioner::bound_volume(&claim) {
                Some(volume) => match cache.volume(volume) {
                    Some(volume) => volumes.push(volume),
                    None => return Place::Nowhere(format!("persistentvolume \"{volume}\" not found")),
                },
                None if provisioner::waits_for_consumer(cache, &claim) => {
                    selected = selected.or_else(|| claim.annotations().get(SELECTED_NODE).cloned());
                    waiting.push(claim);
                }
                None => return Place::Nowhere("pod has unbound immediate PersistentVolumeClaims".to_owned()),
            }
        }
        let mut refusals: HashMap<&'static str, usize> = HashMap::new();
        let mut fitting: Vec<Arc<Node>> = Vec::new();
        let nodes = cache.nodes.state();
        for node in &nodes {
            if let Some(refusal) = fit::node_refusal(pod, node) {
                *refusals.entry(refusal).or_default() += 1;
            } else if !volumes.iter().all(|volume| fit::reaches(volume, node)) {
                *refusals.entry("node(s) had volume node affinity conflict").or_default() += 1;
            } else if selected.as_ref().is_none_or(|selected| *selected == node.name_any()) {
                fitting.push(node.clone());
            }
        }
        let load = self.load();
        fitting
            .sort_by_key(|node| (load.get(&node.name_any()).copied().unwrap_or_default(), node.name_any()));
        match fitting.first().map(|node| node.name_any()) {
            Some(node) if waiting.is_empty() => Place::On(node),
            Some(node) => Place::Announce(node, waiting),
            None => {
                let mut reasons: Vec<_> =
                    refusals.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
                reasons.sort();
                Place::Nowhere(format!("0/{} nodes are available: {}.", nodes.len(), reasons.join(", ")))
            }
        }
    }

    /// Whether another pod that has its node uses the claim.
    fn is_taken(&self, claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
        let assumed = self.assumed.lock().unwrap_or_else(PoisonError::into_inner);
        let user = |other: &Pod| {
            let placed = other.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
                || other.uid().is_some_and(|uid| assumed.contains_key(&uid));
            placed && uses(other, claim) && other.uid() != pod.uid()
        };
        self.context.cache.pods.find(user).is_some()
    }

    /// Active pods per node, those just bound included.
    fn load(&self) -> HashMap<String, usize> {
        let mut load: HashMap<String, usize> = HashMap::new();
        let mut assumed = self.assumed.lock().unwrap_or_else(PoisonError::into_inner);
        for pod in self.context.cache.pods.state() {
            let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
            let uid = pod.uid().unwrap_or_default();
            if bound.is_some() {
                assumed.remove(&uid);
            }
            if let Some(node) = bound.or_else(|| assumed.get(&uid).cloned()).filter(|_| !pods::finished(&pod))
            {
                *load.entry(node).or_default() += 1;
            }
        }
        load
    }

    async fn bind(&self, pod: &Pod, node: String) -> Result<(), Error> {
        let uid = pod.uid().unwrap_or_default();
        let binding = Binding {
            metadata: ObjectMeta {
                name: pod.metadata.name.clone(),
                uid: Some(uid.clone()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(node.clone()),
                ..ObjectReference::default()
            },
        };
        Api::<Pod>::namespaced(self.context.client.clone(), &namespace_of(pod))
            .create_subresource::<_, Value>("binding", &pod.name_any(), &PostParams::default(), &binding)
            .await
            .settled("binding", pod)?;
        self.assumed.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, node);
        Ok(())
    }

    async fn unschedulable(&self, pod: &Pod, message: &str) -> Result<(), Error> {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        if conditions.iter().any(|condition| condition.message.as_deref() == Some(message)) {
            return Ok(());
        }
        let patch = json!({"status": {"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastTransitionTime": jiff::Timestamp::now().strftime("%FT%TZ").to_string(),
        }]}});
        Api::<Pod>::namespaced(self.context.client.clone(), &namespace_of(pod))
            .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .settled("writing the status of", pod)
            .map(|_| ())
    }

    async fn announce(&self, claim: &PersistentVolumeClaim, node: &str) -> Result<(), Error> {
        if claim.annotations().get(SELECTED_NODE).is_some_and(|selected| selected == node) {
            return Ok(());
        }
        let patch = json!({"metadata": {"annotations": {SELECTED_NODE: node}}});
        Api::<PersistentVolumeClaim>::namespaced(self.context.client.clone(), &namespace_of(claim))
            .patch(&claim.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .settled("selecting a node for", claim)
            .map(|_| ())
    }
}

/// Whether one pod at a time may use the claim.
pub(crate) fn for_one_pod(claim: &PersistentVolumeClaim) -> bool {
    let modes = claim.spec.iter().flat_map(|spec| spec.access_modes.iter().flatten());
    modes.into_iter().any(|mode| mode == "ReadWriteOncePod")
}

/// Whether a pod that has not ended uses the claim.
pub(crate) fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    pod.namespace() == claim.namespace()
        && !pods::finished(pod)
        && pods_claims(pod).contains(&claim.name_any())
}

/// The names of the claims that a pod mounts, generic ephemeral volumes' included.
pub(crate) fn pods_claims(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(source), _) => Some(source.claim_name.clone()),
            (None, Some(_)) => Some(format!("{}-{}", pod.name_any(), volume.name)),
            (None, None) => None,
        })
        .collect()
}

impl Controller for Scheduler {
    type Object = Pod;
    const TOPICS: &'static [Topic] = &[Topic::Pods, Topic::Nodes, Topic::Claims, Topic::Volumes];

    fn objects(&self, cache: &Cache) -> Vec<Arc<Pod>> {
        cache.pods.state_filter(|pod| {
            let spec = pod.spec.as_ref();
            pods::active(pod)
                && spec.is_some_and(|spec| {
                    spec.node_name.is_none()
                        && spec.scheduler_name.as_deref().unwrap_or(DEFAULT_SCHEDULER) == DEFAULT_SCHEDULER
                        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
                })
        })
    }

    async fn reconcile(&self, pod: &Pod) -> Result<Again, Error> {
        match self.place(pod) {
            Place::On(node) => self.bind(pod, node).await?,
            Place::Announce(node, claims) => {
                for claim in claims {
                    self.announce(&claim, &node).await?;
                }
            }
            Place::Nowhere(message) => self.unschedulable(pod, &message).await?,
        }
        Ok(None)
    }
}
