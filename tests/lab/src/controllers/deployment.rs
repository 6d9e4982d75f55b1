//! Deployment: a ReplicaSet for each template, the newest one scaled up, the others down.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::cache::{Cache, Topic};
use super::{Again, Context, Controller, Error, Settled, deleting, namespace_of, owner, pods};

const HASH_LABEL: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";

pub(super) struct Deployments(pub Context);

impl Controller for Deployments {
    type Object = Deployment;
    const TOPICS: &'static [Topic] = &[Topic::Deployments, Topic::ReplicaSets, Topic::Pods];

    fn objects(&self, cache: &Cache) -> Vec<Arc<Deployment>> {
        cache.deployments.state()
    }

    async fn reconcile(&self, deployment: &Deployment) -> Result<Again, Error> {
        let Some(spec) = deployment.spec.as_ref().filter(|_| !deleting(deployment)) else { return Ok(None) };
        let namespace = namespace_of(deployment);
        self.adopt(deployment, &namespace).await?;

        let uid = deployment.uid().unwrap_or_default();
        let sets =
            self.0.cache.replica_sets.state_filter(|set| {
                set.namespace().as_deref() == Some(&namespace) && owner::controls(&uid, set)
            });
        let hash = pods::template_hash(&spec.template);
        let name = format!("{}-{hash}", deployment.name_any());
        let current = sets.iter().find(|set| set.name_any() == name);
        let old: Vec<_> = sets.iter().filter(|set| set.name_any() != name && !deleting(&***set)).collect();
        let wanted = spec.replicas.unwrap_or(1).max(0);
        match current {
            Some(current) => self.roll(deployment, current, &old, wanted).await?,
            None => self.create(deployment, &namespace, &name, &hash, wanted, &sets).await?,
        }
        self.report(deployment, current.map(|set| &**set), &old).await?;
        Ok(None)
    }
}

fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn running(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

fn ready(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default()
}

/// How many pods may be there beyond the wanted number while a template is rolled out.
fn surge(deployment: &Deployment, wanted: i32) -> i32 {
    let rolling = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref()?.rolling_update.as_ref());
    let surge = match rolling.and_then(|rolling| rolling.max_surge.as_ref()) {
        Some(IntOrString::Int(pods)) => *pods,
        Some(IntOrString::String(share)) => percent(share, wanted),
        None => percent("25%", wanted),
    };
    // With neither surge nor unavailable pods allowed nothing could ever move.
    surge.max(1)
}

fn percent(share: &str, of: i32) -> i32 {
    let share: i32 = share.trim_end_matches('%').parse().unwrap_or(25);
    (of.saturating_mul(share) + 99) / 100
}

impl Deployments {
    async fn adopt(&self, deployment: &Deployment, namespace: &str) -> Result<(), Error> {
        let Some(spec) = &deployment.spec else { return Ok(()) };
        let orphans = self.0.cache.replica_sets.state_filter(|set| {
            set.namespace().as_deref() == Some(namespace)
                && owner::controller(set).is_none()
                && !deleting(set)
                && owner::selects(&spec.selector, set.labels())
        });
        let api = Api::<ReplicaSet>::namespaced(self.0.client.clone(), namespace);
        for orphan in orphans {
            owner::adopt(&api, &*orphan, deployment).await?;
        }
        Ok(())
    }

    async fn create(
        &self,
        deployment: &Deployment,
        namespace: &str,
        name: &str,
        hash: &str,
        wanted: i32,
        sets: &[Arc<ReplicaSet>],
    ) -> Result<(), Error> {
        let Some(spec) = &deployment.spec else { return Ok(()) };
        let with_hash = |labels: Option<std::collections::BTreeMap<String, String>>| {
            let mut labels = labels.unwrap_or_default();
            labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
            Some(labels)
        };
        let mut template = spec.template.clone();
        let mut template_meta = template.metadata.unwrap_or_default();
        template_meta.labels = with_hash(template_meta.labels);
        let labels = template_meta.labels.clone();
        template.metadata = Some(template_meta);
        // Beside others it begins at 0 and is rolled out from there.
        let first = if sets.iter().all(|set| replicas(set) == 0) { wanted } else { 0 };
        let revision =
            sets.iter().filter_map(|set| set.annotations().get(REVISION)?.parse::<u64>().ok()).max();
        let revision = (revision.unwrap_or_default() + 1).to_string();
        let set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                labels,
                annotations: Some([(REVISION.to_owned(), revision.clone())].into()),
                owner_references: Some(vec![owner::controller_of(deployment)]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(first),
                min_ready_seconds: spec.min_ready_seconds,
                selector: LabelSelector {
                    match_labels: with_hash(spec.selector.match_labels.clone()),
                    match_expressions: spec.selector.match_expressions.clone(),
                },
                template: Some(template),
            }),
            status: None,
        };
        Api::<ReplicaSet>::namespaced(self.0.client.clone(), namespace)
            .create(&PostParams::default(), &set)
            .await
            .settled("creating", &set)?;
        let patch = json!({"metadata": {"annotations": {REVISION: revision}}});
        Api::<Deployment>::namespaced(self.0.client.clone(), namespace)
            .patch(&deployment.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .settled("annotating", deployment)
            .map(|_| ())
    }

    async fn roll(
        &self,
        deployment: &Deployment,
        current: &ReplicaSet,
        old: &[&Arc<ReplicaSet>],
        wanted: i32,
    ) -> Result<(), Error> {
        let Some(spec) = &deployment.spec else { return Ok(()) };
        if spec.paused == Some(true) {
            return Ok(());
        }
        let recreate =
            spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate");
        let old_running: i32 = old.iter().map(|set| running(set).max(replicas(set))).sum();
        if recreate {
            for set in old.iter().filter(|set| replicas(set) != 0) {
                self.scale(set, 0).await?;
            }
            let target = if old_running == 0 { wanted } else { replicas(current).min(wanted) };
            return self.scale(current, target).await;
        }
        let room = (wanted + surge(deployment, wanted) - old_running).max(0);
        let target = if old_running == 0 { wanted } else { wanted.min(room.max(replicas(current))) };
        self.scale(current, target).await?;
        // An old pod goes for each new one that is ready.
        let mut keep = (wanted - ready(current)).max(0);
        for set in old {
            let stays = replicas(set).min(keep);
            keep -= stays;
            self.scale(set, stays).await?;
        }
        Ok(())
    }

    async fn scale(&self, set: &ReplicaSet, to: i32) -> Result<(), Error> {
        if replicas(set) == to {
            return Ok(());
        }
        Api::<ReplicaSet>::namespaced(self.0.client.clone(), &namespace_of(set))
            .patch(
                &set.name_any(),
                &PatchParams::default(),
                &Patch::Merge(&json!({"spec": {"replicas": to}})),
            )
            .await
            .settled("scaling", set)
            .map(|_| ())
    }

    async fn report(
        &self,
        deployment: &Deployment,
        current: Option<&ReplicaSet>,
        old: &[&Arc<ReplicaSet>],
    ) -> Result<(), Error> {
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let updated = current.map_or(0, running);
        let all = updated + old.iter().map(|set| running(set)).sum::<i32>();
        let ready = current.map_or(0, ready) + old.iter().map(|set| ready(set)).sum::<i32>();
        let available = if ready >= wanted { "True" } else { "False" };
        let status = deployment.status.clone().unwrap_or_default();
        let shown = status.conditions.iter().flatten().find(|condition| condition.type_ == "Available");
        let same = status.observed_generation == deployment.metadata.generation
            && status.replicas.unwrap_or_default() == all
            && status.updated_replicas.unwrap_or_default() == updated
            && status.ready_replicas.unwrap_or_default() == ready
            && shown.is_some_and(|condition| condition.status == available);
        if same {
            return Ok(());
        }
        let now = jiff::Timestamp::now().strftime("%FT%TZ").to_string();
        let reason =
            if available == "True" { "MinimumReplicasAvailable" } else { "MinimumReplicasUnavailable" };
        let complete = updated >= wanted && all == updated && ready >= wanted;
        let (progressing, progress) = if complete {
            ("NewReplicaSetAvailable", "The newest ReplicaSet has its pods.")
        } else {
            ("ReplicaSetUpdated", "The newest ReplicaSet is being rolled out.")
        };
        let patch = json!({"status": {
            "observedGeneration": deployment.metadata.generation,
            "replicas": all,
            "updatedReplicas": updated,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": (wanted - ready).max(0),
            "conditions": [
                {"type": "Available", "status": available, "reason": reason,
                 "message": format!("{ready} of {wanted} pods are available."),
                 "lastTransitionTime": now, "lastUpdateTime": now},
                {"type": "Progressing", "status": "True", "reason": progressing, "message": progress,
                 "lastTransitionTime": now, "lastUpdateTime": now},
            ],
        }});
        Api::<Deployment>::namespaced(self.0.client.clone(), &namespace_of(deployment))
            .patch_status(&deployment.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .settled("writing the status of", deployment)
            .map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_pods_is_rounded_up() {
        assert_eq!(percent("25%", 3), 1);
        assert_eq!(percent("25%", 5), 2);
        assert_eq!(percent("100%", 4), 4);
    }
}
