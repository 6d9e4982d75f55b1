//! Pods as the workload controllers make and count them.

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};

use super::{Error, Settled, deleting, owner};

/// The length of a template's hash in names and labels, as the API server's own suffixes.
const HASH_DIGITS: usize = 10;

/// A pod from a workload's template.
pub(crate) fn from_template(template: &PodTemplateSpec, namespace: &str, owner: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Names the revision of a template: equal templates have equal names.
pub(crate) fn template_hash(template: &PodTemplateSpec) -> String {
    // A typed object always serializes, and its maps are ordered.
    let json = serde_json::to_vec(template).unwrap_or_default();
    let mut hash = blake3::hash(&json).to_hex().to_string();
    hash.truncate(HASH_DIGITS);
    hash
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Whether the pod has ended for good.
pub(crate) fn finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the pod counts towards a workload's replicas.
pub(crate) fn active(pod: &Pod) -> bool {
    !finished(pod) && !deleting(pod)
}

/// Whether the pod serves.
pub(crate) fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    active(pod)
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The pods that `owner` controls, asked live.
pub(crate) async fn list_controlled<O>(client: &Client, owner: &O) -> Result<Vec<Pod>, Error>
where
    O: Resource<DynamicType = ()>,
{
    let uid = owner.meta().uid.clone().unwrap_or_default();
    let api = Api::<Pod>::namespaced(client.clone(), owner.meta().namespace.as_deref().unwrap_or_default());
    let pods = api.list(&ListParams::default()).await.settled("listing the pods of", owner)?;
    let mut pods = pods.map(|list| list.items).unwrap_or_default();
    pods.retain(|pod| owner::controls(&uid, pod));
    Ok(pods)
}

/// Creates a pod; one of that name that exists already is left as it is.
pub(crate) async fn create(client: &Client, pod: &Pod) -> Result<(), Error> {
    let api = Api::<Pod>::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default());
    api.create(&kube::api::PostParams::default(), pod).await.settled("creating", pod).map(|_| ())
}

/// Deletes exactly this pod, not a later one of its name.
pub(crate) async fn delete(client: &Client, pod: &Pod) -> Result<(), Error> {
    if deleting(pod) {
        return Ok(());
    }
    let api = Api::<Pod>::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default());
    let this = Preconditions { uid: pod.uid(), resource_version: None };
    api.delete(&pod.name_any(), &DeleteParams::default().preconditions(this))
        .await
        .settled("deleting", pod)
        .map(|_| ())
}

/// Orders pods so that those that are missed least come first: not placed, not ready, youngest.
pub(crate) fn least_missed_first(pods: &mut [Pod]) {
    pods.sort_by_key(|pod| {
        let placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        (placed, ready(pod), std::cmp::Reverse(pod.metadata.creation_timestamp.clone().map(|time| time.0)))
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_pod_that_is_not_ready_is_missed_less_than_one_that_is() {
        let ready = pod(json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n", "containers": []},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}));
        let waiting = pod(json!({"metadata": {"name": "b"}}));
        let mut pods = [ready.clone(), waiting.clone()];
        least_missed_first(&mut pods);
        assert_eq!(pods, [waiting, ready]);
    }

    #[test]
    fn equal_templates_have_equal_hashes() {
        let template = |image: &str| -> PodTemplateSpec {
            serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "image": image}]}})).unwrap()
        };
        assert_eq!(template_hash(&template("a")), template_hash(&template("a")));
        assert_ne!(template_hash(&template("a")), template_hash(&template("b")));
    }
}
