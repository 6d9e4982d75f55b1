//! ReplicaSet: as many pods as it asks for, adopting those that match and nobody controls.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::cache::{Cache, Topic};
use super::{Again, Context, Controller, Error, Settled, deleting, namespace_of, owner, pods};

/// No more pods than this are made or removed in one look.
const BURST: usize = 50;

pub(super) struct ReplicaSets(pub Context);

impl Controller for ReplicaSets {
    type Object = ReplicaSet;
    const TOPICS: &'static [Topic] = &[Topic::ReplicaSets, Topic::Pods];

    fn objects(&self, cache: &Cache) -> Vec<Arc<ReplicaSet>> {
        cache.replica_sets.state()
    }

    async fn reconcile(&self, set: &ReplicaSet) -> Result<Again, Error> {
        let Some(spec) = set.spec.as_ref().filter(|_| !deleting(set)) else { return Ok(None) };
        let namespace = namespace_of(set);
        let uid = set.uid().unwrap_or_default();
        self.adopt(set, &namespace).await?;

        let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or_default();
        let seen = self.0.cache.controlled_pods(&namespace, &uid);
        let mut active: Vec<Pod> =
            seen.iter().filter(|pod| pods::active(pod)).map(|pod| (**pod).clone()).collect();
        if active.len() != wanted {
            let mut live = pods::list_controlled(&self.0.client, set).await?;
            live.retain(pods::active);
            self.scale(set, &namespace, wanted, &mut live).await?;
            active = live;
        }
        self.report(set, &active).await?;
        Ok(None)
    }
}

impl ReplicaSets {
    async fn adopt(&self, set: &ReplicaSet, namespace: &str) -> Result<(), Error> {
        let Some(spec) = &set.spec else { return Ok(()) };
        let orphans = self.0.cache.pods.state_filter(|pod| {
            pod.namespace().as_deref() == Some(namespace)
                && owner::controller(pod).is_none()
                && pods::active(pod)
                && owner::selects(&spec.selector, pod.labels())
        });
        let api = Api::<Pod>::namespaced(self.0.client.clone(), namespace);
        for orphan in orphans {
            owner::adopt(&api, &*orphan, set).await?;
        }
        Ok(())
    }

    async fn scale(
        &self,
        set: &ReplicaSet,
        namespace: &str,
        wanted: usize,
        live: &mut Vec<Pod>,
    ) -> Result<(), Error> {
        let Some(template) = set.spec.as_ref().and_then(|spec| spec.template.as_ref()) else { return Ok(()) };
        for _ in live.len()..wanted.min(live.len() + BURST) {
            let mut pod = pods::from_template(template, namespace, owner::controller_of(set));
            pod.metadata.generate_name = Some(format!("{}-", set.name_any()));
            pods::create(&self.0.client, &pod).await?;
        }
        if live.len() > wanted {
            pods::least_missed_first(live);
            let surplus = (live.len() - wanted).min(BURST);
            for pod in live.drain(..surplus) {
                pods::delete(&self.0.client, &pod).await?;
            }
        }
        Ok(())
    }

    async fn report(&self, set: &ReplicaSet, active: &[Pod]) -> Result<(), Error> {
        let replicas = i32::try_from(active.len()).unwrap_or(i32::MAX);
        let ready = i32::try_from(active.iter().filter(|pod| pods::ready(pod)).count()).unwrap_or(i32::MAX);
        let status = set.status.clone().unwrap_or_default();
        let same = status.replicas == replicas
            && status.ready_replicas.unwrap_or_default() == ready
            && status.available_replicas.unwrap_or_default() == ready
            && status.observed_generation == set.metadata.generation;
        if same && set.status.is_some() {
            return Ok(());
        }
        let patch = json!({"status": {
            "replicas": replicas,
            "fullyLabeledReplicas": replicas,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "observedGeneration": set.metadata.generation,
        }});
        let api = Api::<ReplicaSet>::namespaced(self.0.client.clone(), &namespace_of(set));
        api.patch_status(&set.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .settled("writing the status of", set)
            .map(|_| ())
    }
}
