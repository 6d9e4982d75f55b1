//! StatefulSet: pods with lasting names, made and ended in order, each with its claims.
//!
//! Unlike kube-controller-manager it keeps no ControllerRevisions: the hash of the template names the
//! revision.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::cache::{Cache, Topic};
use super::{Again, Context, Controller, Error, Settled, deleting, namespace_of, owner, pods};

const REVISION_LABEL: &str = "controller-revision-hash";
const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

pub(super) struct StatefulSets(pub Context);

impl Controller for StatefulSets {
    type Object = StatefulSet;
    const TOPICS: &'static [Topic] = &[Topic::StatefulSets, Topic::Pods];

    fn objects(&self, cache: &Cache) -> Vec<Arc<StatefulSet>> {
        cache.stateful_sets.state()
    }

    async fn reconcile(&self, set: &StatefulSet) -> Result<Again, Error> {
        let Some(spec) = set.spec.as_ref().filter(|_| !deleting(set)) else { return Ok(None) };
        let namespace = namespace_of(set);
        let mut controlled: Vec<(i32, Arc<Pod>)> = self
            .0
            .cache
            .controlled_pods(&namespace, &set.uid().unwrap_or_default())
            .into_iter()
            .filter_map(|pod| Some((ordinal(set, &pod)?, pod)))
            .collect();
        controlled.sort_by_key(|(ordinal, _)| *ordinal);
        let revision = format!("{}-{}", set.name_any(), pods::template_hash(&spec.template));
        self.step(set, spec, &namespace, &revision, &controlled).await?;
        self.report(set, &revision, &controlled).await?;
        Ok(None)
    }
}

fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    pod.name_any().strip_prefix(&format!("{}-", set.name_any()))?.parse().ok()
}

impl StatefulSets {
    /// One change at a time, unless the pods are managed in parallel.
    async fn step(
        &self,
        set: &StatefulSet,
        spec: &StatefulSetSpec,
        namespace: &str,
        revision: &str,
        controlled: &[(i32, Arc<Pod>)],
    ) -> Result<(), Error> {
        let parallel = spec.pod_management_policy.as_deref() == Some("Parallel");
        let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or_default();
        let end = start.saturating_add(spec.replicas.unwrap_or(1).max(0));
        for wanted in start..end {
            match controlled.iter().find(|(ordinal, _)| *ordinal == wanted) {
                Some((_, pod)) if pods::finished(pod) => pods::delete(&self.0.client, pod).await?,
                Some((_, pod)) if pods::ready(pod) => continue,
                Some(_) => {}
                None => self.create(set, spec, namespace, revision, wanted).await?,
            }
            if !parallel {
                return Ok(());
            }
        }
        for (_, pod) in controlled.iter().rev().filter(|(ordinal, _)| !(start..end).contains(ordinal)) {
            pods::delete(&self.0.client, pod).await?;
            if !parallel {
                return Ok(());
            }
        }
        let on_delete =
            spec.update_strategy.as_ref().and_then(|update| update.type_.as_deref()) == Some("OnDelete");
        let outdated = controlled.iter().rev().find(|(ordinal, pod)| {
            (start..end).contains(ordinal)
                && pod.labels().get(REVISION_LABEL).is_some_and(|label| label != revision)
        });
        match outdated {
            Some((_, pod)) if !on_delete => pods::delete(&self.0.client, pod).await,
            _ => Ok(()),
        }
    }

    async fn create(
        &self,
        set: &StatefulSet,
        spec: &StatefulSetSpec,
        namespace: &str,
        revision: &str,
        ordinal: i32,
    ) -> Result<(), Error> {
        let name = format!("{}-{ordinal}", set.name_any());
        let mut pod = pods::from_template(&spec.template, namespace, owner::controller_of(set));
        pod.labels_mut().extend([
            (REVISION_LABEL.to_owned(), revision.to_owned()),
            (NAME_LABEL.to_owned(), name.clone()),
            (INDEX_LABEL.to_owned(), ordinal.to_string()),
        ]);
        let claims = Api::<PersistentVolumeClaim>::namespaced(self.0.client.clone(), namespace);
        let mut volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.clone()).unwrap_or_default();
        for template in spec.volume_claim_templates.iter().flatten() {
            let volume = template.name_any();
            let mut claim = template.clone();
            claim.metadata.name = Some(format!("{volume}-{name}"));
            claim.metadata.namespace = Some(namespace.to_owned());
            claim.labels_mut().extend(spec.selector.match_labels.clone().unwrap_or_default());
            claim.status = None;
            if goes_with_the_set(spec) {
                claim.metadata.owner_references = Some(vec![owner::controller_of(set)]);
            }
            if self.0.cache.claim(namespace, &claim.name_any()).is_none() {
                claims.create(&PostParams::default(), &claim).await.settled("creating", &claim)?;
            }
            volumes.retain(|existing| existing.name != volume);
            volumes.push(Volume {
                name: volume,
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: claim.name_any(),
                    read_only: None,
                }),
                ..Volume::default()
            });
        }
        if let Some(pod_spec) = &mut pod.spec {
            pod_spec.volumes = Some(volumes);
            pod_spec.hostname = Some(name.clone());
            pod_spec.subdomain.clone_from(&spec.service_name);
        }
        pod.metadata.name = Some(name);
        pods::create(&self.0.client, &pod).await
    }

    async fn report(
        &self,
        set: &StatefulSet,
        revision: &str,
        controlled: &[(i32, Arc<Pod>)],
    ) -> Result<(), Error> {
        let count = |of: &dyn Fn(&Pod) -> bool| {
            i32::try_from(controlled.iter().filter(|(_, pod)| of(pod)).count()).unwrap_or(i32::MAX)
        };
        let replicas = count(&pods::active);
        let ready = count(&pods::ready);
        let is_new = |pod: &Pod| pod.labels().get(REVISION_LABEL).is_some_and(|label| label == revision);
        let updated = count(&|pod| pods::active(pod) && is_new(pod));
        let current = if updated == replicas {
            revision.to_owned()
        } else {
            set.status
                .as_ref()
                .and_then(|status| status.current_revision.clone())
                .unwrap_or_else(|| revision.to_owned())
        };
        let status = set.status.clone().unwrap_or_default();
        let same = status.replicas == replicas
            && status.ready_replicas.unwrap_or_default() == ready
            && status.updated_replicas.unwrap_or_default() == updated
            && status.current_revision.as_ref() == Some(&current)
            && status.update_revision.as_deref() == Some(revision)
            && status.observed_generation == set.metadata.generation;
        if same {
            return Ok(());
        }
        let patch = json!({"status": {
            "observedGeneration": set.metadata.generation,
            "replicas": replicas,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "currentReplicas": updated,
            "updatedReplicas": updated,
            "currentRevision": current,
            "updateRevision": revision,
            "collisionCount": 0,
        }});
        Api::<StatefulSet>::namespaced(self.0.client.clone(), &namespace_of(set))
            .patch_status(&set.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .settled("writing the status of", set)
            .map(|_| ())
    }
}

/// Whether claims are deleted with their set.
fn goes_with_the_set(spec: &StatefulSetSpec) -> bool {
    let policy = spec.persistent_volume_claim_retention_policy.as_ref();
    policy.and_then(|policy| policy.when_deleted.as_deref()) == Some("Delete")
}
