//! What is the matter with a Pod, and how long that may last.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::manifests::CONTAINER;
use crate::cluster::{Cluster, ClusterError, array, describe, name, namespace, text};

/// Events that say why a Pod is not made or does not start; others warn of something else.
const TELLING: &[&str] = &[
    "FailedCreate",
    "FailedScheduling",
    "FailedMount",
    "FailedAttachVolume",
    "FailedMapVolume",
    "ProvisioningFailed",
    "FailedBinding",
    "FailedCreatePodSandBox",
    "FailedCreatePodContainer",
    "NetworkNotReady",
    "Evicted",
];
/// The reason of a Pod that no node takes.
pub const UNSCHEDULABLE: &str = "Unschedulable";
/// Those that say why a claim has no volume.
const OF_CLAIMS: &[&str] = &["ProvisioningFailed", "FailedBinding"];
/// Events that are looked at.
const MAX_EVENTS: usize = 200;
/// A full cluster may make room, and so may full storage.
const UNSCHEDULABLE_PATIENCE: Duration = Duration::from_mins(5);
/// A registry may come back.
const IMAGE_PATIENCE: Duration = Duration::from_mins(2);
/// Attaching a volume to another node takes minutes with some storage.
const STARTING_PATIENCE: Duration = Duration::from_mins(10);
/// An admission rule does not change by itself.
const CREATION_PATIENCE: Duration = Duration::from_mins(1);

/// Something that keeps a Pod from running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// One word in CamelCase: `ImagePullBackOff`, `Unschedulable`, `OOMKilled`.
    pub reason: String,
    /// What Kubernetes says of it.
    pub detail: String,
    /// How long it may last before it counts as a failure.
    pub patience: Duration,
    /// How a container ended, if one did.
    pub exit_code: Option<i64>,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "{}: {}", self.reason, self.detail)
        }
    }
}

/// How a mover's own container ended, if it has: sidecars that were injected beside it may run on,
/// or be ended after it by force, and say nothing of it.
pub fn mover_ended(pod: &Value) -> Option<Trouble> {
    let status = array(pod, "/status/containerStatuses").iter().find(|s| text(s, "/name") == CONTAINER)?;
    let ended = status.pointer("/state/terminated")?;
    Some(match ended.get("exitCode").and_then(Value::as_i64) {
        Some(0) => Trouble {
            reason: "NoResult".to_owned(),
            detail: "the mover ended without a result".to_owned(),
            patience: Duration::ZERO,
            exit_code: Some(0),
        },
        code => of_exit(ended, code),
    })
}

fn of_exit(ended: &Value, exit_code: Option<i64>) -> Trouble {
    let exit = ended.get("exitCode").map(Value::to_string).unwrap_or_default();
    let detail = format!("exit code {exit} {}", text(ended, "/message").trim());
    let (reason, detail) = (text(ended, "/reason").to_owned(), detail.trim().to_owned());
    Trouble { reason, detail, patience: Duration::ZERO, exit_code }
}

/// What keeps a Pod from running, as its status says.
pub fn pod_trouble(pod: &Value) -> Option<Trouble> {
    let trouble = |reason: &str, detail: &str, patience| {
        Some(Trouble { reason: reason.to_owned(), detail: detail.to_owned(), patience, exit_code: None })
    };
    let statuses =
        || array(pod, "/status/initContainerStatuses").iter().chain(array(pod, "/status/containerStatuses"));
    for status in statuses() {
        if let Some(ended) = status.pointer("/state/terminated")
            && let exit_code = ended.get("exitCode").and_then(Value::as_i64)
            && exit_code != Some(0)
        {
            return Some(of_exit(ended, exit_code));
        }
        let waiting = text(status, "/state/waiting/reason");
        let patience = match waiting {
            "" | "ContainerCreating" | "PodInitializing" => continue,
            "InvalidImageName" => Duration::from_secs(10),
            _ => IMAGE_PATIENCE,
        };
        return trouble(waiting, text(status, "/state/waiting/message"), patience);
    }
    if text(pod, "/status/phase") == "Failed" {
        let reason = text(pod, "/status/reason");
        return trouble(
            if reason.is_empty() { "PodFailed" } else { reason },
            text(pod, "/status/message"),
            Duration::ZERO,
        );
    }
    let unscheduled = array(pod, "/status/conditions")
        .iter()
        .find(|c| text(c, "/type") == "PodScheduled" && text(c, "/status") == "False");
    if let Some(condition) = unscheduled {
        let reason = text(condition, "/reason");
        return trouble(
            if reason.is_empty() { UNSCHEDULABLE } else { reason },
            text(condition, "/message"),
            UNSCHEDULABLE_PATIENCE,
        );
    }
    None
}

/// What keeps a Job from having a running Pod: its Pods' states, else the warnings among events.
pub async fn job_trouble(
    cluster: &Cluster,
    job: &Value,
    pods: &[Value],
) -> Result<Option<Trouble>, ClusterError> {
    let running = |pod: &&Value| text(pod, "/status/phase") == "Running";
    if pods.iter().any(|pod| running(&pod)) {
        return Ok(None);
    }
    for pod in pods.iter().filter(|pod| text(pod, "/spec/nodeName").is_empty()) {
        if let Some(trouble) = claim_trouble(cluster, pod).await? {
            return Ok(Some(trouble));
        }
    }
    if let Some(trouble) = pods.iter().find_map(pod_trouble) {
        return Ok(Some(trouble));
    }
    let (object, waiting, patience) = match pods.first() {
        Some(pod) => (pod, "ContainerCreating", STARTING_PATIENCE),
        None => (job, "NoPod", CREATION_PATIENCE),
    };
    let warning = newest_warning(cluster, object).await?;
    let (reason, detail) = warning.unwrap_or_else(|| (waiting.to_owned(), String::new()));
    Ok(Some(Trouble { reason, detail, patience, exit_code: None }))
}

/// Why a claim of a Pod that is on no node yet has no volume. The scheduler says of such a Pod that its
/// claims are not bound, or nothing at all while it waits for them: the claim's own events say why.
async fn claim_trouble(cluster: &Cluster, pod: &Value) -> Result<Option<Trouble>, ClusterError> {
    for volume in array(pod, "/spec/volumes") {
        let claim = text(volume, "/persistentVolumeClaim/claimName");
        if claim.is_empty() {
            continue;
        }
        let path = format!("/api/v1/namespaces/{}/persistentvolumeclaims/{claim}", namespace(pod));
        let claim = cluster.find(&path).await?.filter(|claim| text(claim, "/status/phase") == "Pending");
        let Some(claim) = claim else { continue };
        let warning = newest_warning(cluster, &claim).await?;
        if let Some((reason, said)) = warning.filter(|(reason, _)| OF_CLAIMS.contains(&reason.as_str())) {
            return Ok(Some(Trouble {
                reason,
                detail: format!("{} has no volume yet: {said}", describe(&claim)),
                patience: UNSCHEDULABLE_PATIENCE,
                exit_code: None,
            }));
        }
    }
    Ok(None)
}

/// The newest of an object's warnings that tell why there is no Pod or volume: reason and message.
pub(super) async fn newest_warning(
    cluster: &Cluster,
    object: &Value,
) -> Result<Option<(String, String)>, ClusterError> {
    let path = format!("/api/v1/namespaces/{}/events", namespace(object));
    let query = format!("fieldSelector=involvedObject.name%3D{}", name(object));
    let events = match cluster.list(&path, &query, MAX_EVENTS).await {
        Ok(events) => events,
        // The events only explain.
        Err(error) if matches!(error.code(), Some(400 | 403 | 404)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let warning = events
        .iter()
        .filter(|event| text(event, "/type") == "Warning" && TELLING.contains(&text(event, "/reason")))
        .max_by_key(|event| text(event, "/lastTimestamp").to_owned());
    Ok(warning.map(|event| (text(event, "/reason").to_owned(), text(event, "/message").trim().to_owned())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::collect::Fake;

    #[tokio::test]
    async fn what_keeps_a_claim_from_its_volume_is_said_and_not_that_its_mover_waits_for_it() {
        let pod = |node: Option<&str>| {
            json!({"metadata": {"name": "isthmus-recv-1-x", "namespace": "cms"},
                   "spec": {"nodeName": node, "volumes": [{"name": "tmp", "emptyDir": {}},
                            {"name": "volume", "persistentVolumeClaim": {"claimName": "data"}}]},
                   "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
                       "reason": "Unschedulable", "message": "pod has unbound immediate PersistentVolumeClaims"}]}})
        };
        let cluster = |phase: &str| {
            let mut fake = Fake::default();
            fake.add(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": "data", "namespace": "cms"}, "status": {"phase": phase}}));
            fake.add(
                json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "cms"},
                "involvedObject": {"name": "data"}, "type": "Warning", "reason": "ProvisioningFailed",
                "message": "no space left on device", "lastTimestamp": "2026-01-01T00:00:00Z"}),
            );
            fake.cluster()
        };
        let job = json!({"metadata": {"name": "isthmus-recv-1", "namespace": "cms"}});
        let of = async |phase: &str, pod: Value| {
            job_trouble(&cluster(phase), &job, &[pod]).await.unwrap().unwrap()
        };
        let told = of("Pending", pod(None)).await;
        assert_eq!(
            told.to_string(),
            "ProvisioningFailed: PersistentVolumeClaim cms/data has no volume yet: no space left on device"
        );
        assert_eq!(told.patience, UNSCHEDULABLE_PATIENCE);
        let mut silent = pod(None);
        silent["status"] = json!({"phase": "Pending"});
        assert_eq!(
            of("Pending", silent).await.reason,
            "ProvisioningFailed",
            "the scheduler says nothing yet"
        );
        assert_eq!(of("Bound", pod(None)).await.reason, "Unschedulable", "it is an old event");
        assert_eq!(of("Pending", pod(Some("n1"))).await.reason, "Unschedulable");
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_named() {
        let pod = json!({"status": {"phase": "Pending", "containerStatuses": [
            {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"x\""}}}]}});
        let trouble = pod_trouble(&pod).unwrap();
        assert_eq!(trouble.to_string(), "ImagePullBackOff: Back-off pulling image \"x\"");
    }

    #[test]
    fn the_schedulers_message_is_repeated() {
        let pod = json!({"status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}]}});
        let trouble = pod_trouble(&pod).unwrap();
        assert_eq!(
            (trouble.reason.as_str(), trouble.detail.as_str()),
            ("Unschedulable", "0/3 nodes are available")
        );
    }

    #[test]
    fn a_pod_that_ran_out_of_memory_says_so() {
        let pod = json!({"status": {"phase": "Failed", "containerStatuses": [
            {"state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]}});
        assert_eq!(pod_trouble(&pod).unwrap().to_string(), "OOMKilled: exit code 137");
    }

    #[test]
    fn an_injected_sidecar_that_runs_on_hides_no_end_of_the_mover() {
        let pod = |code: i32| {
            json!({"status": {"phase": "Running", "containerStatuses": [
                {"name": "istio-proxy", "state": {"running": {}}},
                {"name": "mover", "state": {"terminated": {"reason": "Error", "exitCode": code, "message": "words"}}}],
                "initContainerStatuses": [{"name": "linkerd", "state": {"terminated": {"reason": "Error", "exitCode": 143}}}]}})
        };
        let ended = mover_ended(&pod(2)).unwrap();
        assert_eq!((ended.to_string().as_str(), ended.exit_code), ("Error: exit code 2 words", Some(2)));
        assert_eq!(mover_ended(&pod(0)).unwrap().reason, "NoResult");
        let running = json!({"status": {"containerStatuses": [
            {"name": "istio-proxy", "state": {"terminated": {"exitCode": 1}}}, {"name": "mover", "state": {"running": {}}}]}});
        assert_eq!(mover_ended(&running), None);
    }

    #[test]
    fn a_running_pod_is_no_trouble() {
        let pod = json!({"status": {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}});
        assert_eq!(pod_trouble(&pod), None);
    }
}
