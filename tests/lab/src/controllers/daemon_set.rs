//! DaemonSet: a pod on each node that its template may run on.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec};
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, Toleration,
};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::cache::{Cache, Topic};
use super::scheduler::fit;
use super::{Again, Context, Controller, Error, Settled, deleting, namespace_of, owner, pods};

const REVISION_LABEL: &str = "controller-revision-hash";
/// The taints that a daemon's pod bears, as kube-controller-manager gives them.
const TOLERATED: &[(&str, &str)] = &[
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

pub(super) struct DaemonSets(pub Context);

impl Controller for DaemonSets {
    type Object = DaemonSet;
    const TOPICS: &'static [Topic] = &[Topic::DaemonSets, Topic::Pods, Topic::Nodes];

    fn objects(&self, cache: &Cache) -> Vec<Arc<DaemonSet>> {
        cache.daemon_sets.state()
    }

    async fn reconcile(&self, set: &DaemonSet) -> Result<Again, Error> {
        let Some(spec) = set.spec.as_ref().filter(|_| !deleting(set)) else { return Ok(None) };
        let namespace = namespace_of(set);
        let revision = pods::template_hash(&spec.template);
        let nodes: Vec<String> = self
            .0
            .cache
            .nodes
            .state_filter(|node| fits(set, spec, &revision, node))
            .iter()
            .map(|node| node.name_any())
            .collect();
        let mut controlled = self.0.cache.controlled_pods(&namespace, &set.uid().unwrap_or_default());
        let settled = controlled.len() == nodes.len()
            && nodes.iter().all(|node| controlled.iter().any(|pod| is_right(pod, node, &revision)));
        if !settled {
            let live = pods::list_controlled(&self.0.client, set).await?;
            controlled = live.into_iter().map(Arc::new).collect();
            self.spread(set, spec, &revision, &nodes, &controlled).await?;
        }
        self.report(set, &nodes, &controlled, &revision).await?;
        Ok(None)
    }
}

/// The node that a daemon's pod is for, bound or not.
fn node_of(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    spec.node_name.as_deref().or_else(|| {
        let required = spec.affinity.as_ref()?.node_affinity.as_ref()?;
        let term = required
            .required_during_scheduling_ignored_during_execution
            .as_ref()?
            .node_selector_terms
            .first()?;
        term.match_fields.as_ref()?.first()?.values.as_ref()?.first().map(String::as_str)
    })
}

fn is_right(pod: &Pod, node: &str, revision: &str) -> bool {
    pods::active(pod)
        && node_of(pod) == Some(node)
        && pod.labels().get(REVISION_LABEL).is_some_and(|label| label == revision)
}

fn fits(set: &DaemonSet, spec: &DaemonSetSpec, revision: &str, node: &Node) -> bool {
    let pod = for_node(set, spec, revision, &node.name_any());
    fit::node_refusal(&pod, node).is_none()
}

fn for_node(set: &DaemonSet, spec: &DaemonSetSpec, revision: &str, node: &str) -> Pod {
    let mut pod = pods::from_template(&spec.template, &namespace_of(set), owner::controller_of(set));
    pod.metadata.generate_name = Some(format!("{}-", set.name_any()));
    pod.labels_mut().insert(REVISION_LABEL.to_owned(), revision.to_owned());
    if let Some(pod_spec) = &mut pod.spec {
        let this_node = NodeSelectorRequirement {
            key: "metadata.name".to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![node.to_owned()]),
        };
        let affinity = pod_spec.affinity.get_or_insert_with(Affinity::default);
        let affinity = affinity.node_affinity.get_or_insert_with(NodeAffinity::default);
        let required = affinity
            .required_during_scheduling_ignored_during_execution
            .get_or_insert_with(|| NodeSelector { node_selector_terms: vec![NodeSelectorTerm::default()] });
        for term in &mut required.node_selector_terms {
            term.match_fields = Some(vec![this_node.clone()]);
        }
        let tolerations = pod_spec.tolerations.get_or_insert_default();
        tolerations.extend(TOLERATED.iter().map(|(key, effect)| Toleration {
            key: Some((*key).to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some((*effect).to_owned()),
            ..Toleration::default()
        }));
    }
    pod
}

impl DaemonSets {
    async fn spread(
        &self,
        set: &DaemonSet,
        spec: &DaemonSetSpec,
        revision: &str,
        nodes: &[String],
        controlled: &[Arc<Pod>],
    ) -> Result<(), Error> {
        for pod in controlled {
            let wanted = nodes.iter().any(|node| is_right(pod, node, revision));
            if !wanted {
                pods::delete(&self.0.client, pod).await?;
            }
        }
        for node in nodes {
            // One that is still ending holds the place, as its ports and volumes do.
            if !controlled.iter().any(|pod| node_of(pod) == Some(node)) {
                pods::create(&self.0.client, &for_node(set, spec, revision, node)).await?;
            }
        }
        Ok(())
    }

    async fn report(
        &self,
        set: &DaemonSet,
        nodes: &[String],
        controlled: &[Arc<Pod>],
        revision: &str,
    ) -> Result<(), Error> {
        let count = |of: &dyn Fn(&Pod) -> bool| {
            i32::try_from(controlled.iter().filter(|pod| of(pod)).count()).unwrap_or(i32::MAX)
        };
        let desired = i32::try_from(nodes.len()).unwrap_or(i32::MAX);
        let scheduled = count(&pods::active);
        let ready = count(&pods::ready);
        let updated = count(&|pod| {
            pods::active(pod) && pod.labels().get(REVISION_LABEL).is_some_and(|label| label == revision)
        });
        let status = set.status.clone().unwrap_or_default();
        let same = status.desired_number_scheduled == desired
            && status.current_number_scheduled == scheduled
            && status.number_ready == ready
            && status.updated_number_scheduled.unwrap_or_default() == updated
            && status.observed_generation == set.metadata.generation;
        if same {
            return Ok(());
        }
        let patch = json!({"status": {
            "observedGeneration": set.metadata.generation,
            "desiredNumberScheduled": desired,
            "currentNumberScheduled": scheduled,
            "updatedNumberScheduled": updated,
            "numberMisscheduled": 0,
            "numberReady": ready,
            "numberAvailable": ready,
            "numberUnavailable": (desired - ready).max(0),
        }});
        Api::<DaemonSet>::namespaced(self.0.client.clone(), &namespace_of(set))
            .patch_status(&set.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .settled("writing the status of", set)
            .map(|_| ())
    }
}
