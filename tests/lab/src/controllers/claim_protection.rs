//! Keeps a claim that a pod uses, and a volume that a claim is bound to, from being removed.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::cache::{Cache, Topic};
use super::scheduler::pods_claims;
use super::{Again, Context, Controller, Error, Settled, deleting, namespace_of, pods};

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";

pub(super) struct Claims(pub Context);
pub(super) struct Volumes(pub Context);

impl Controller for Claims {
    type Object = PersistentVolumeClaim;
    const TOPICS: &'static [Topic] = &[Topic::Claims, Topic::Pods];

    fn objects(&self, cache: &Cache) -> Vec<Arc<PersistentVolumeClaim>> {
        cache.claims.state()
    }

    async fn reconcile(&self, claim: &PersistentVolumeClaim) -> Result<Again, Error> {
        let namespace = namespace_of(claim);
        let api = Api::<PersistentVolumeClaim>::namespaced(self.0.client.clone(), &namespace);
        let free = deleting(claim) && claim.finalizers().iter().any(|name| name == CLAIM_FINALIZER) && {
            let live = Api::<Pod>::namespaced(self.0.client.clone(), &namespace)
                .list(&ListParams::default())
                .await
                .settled("listing the pods that use", claim)?;
            let live = live.map(|list| list.items).unwrap_or_default();
            !live.iter().any(|pod| !pods::finished(pod) && pods_claims(pod).contains(&claim.name_any()))
        };
        protect(&api, claim, CLAIM_FINALIZER, free).await
    }
}

impl Controller for Volumes {
    type Object = PersistentVolume;
    const TOPICS: &'static [Topic] = &[Topic::Volumes];

    fn objects(&self, cache: &Cache) -> Vec<Arc<PersistentVolume>> {
        cache.volumes.state()
    }

    async fn reconcile(&self, volume: &PersistentVolume) -> Result<Again, Error> {
        let bound = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
        let api = Api::<PersistentVolume>::all(self.0.client.clone());
        protect(&api, volume, VOLUME_FINALIZER, deleting(volume) && !bound).await
    }
}

/// Puts the finalizer on what lives, and takes it off when `free`.
async fn protect<K>(api: &Api<K>, object: &K, finalizer: &str, free: bool) -> Result<Again, Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let mut finalizers = object.finalizers().to_vec();
    let there = finalizers.iter().any(|name| name == finalizer);
    match (there, free) {
        (true, true) => finalizers.retain(|name| name != finalizer),
        (false, false) if !deleting(object) => finalizers.push(finalizer.to_owned()),
        _ => return Ok(None),
    }
    // The version keeps this from undoing another's change of the list.
    let patch = json!({"metadata": {"resourceVersion": object.resource_version(), "finalizers": finalizers}});
    api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .settled("protecting", object)?;
    Ok(None)
}
