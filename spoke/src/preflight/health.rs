//! Pods of the source that are not well: what does not run here will hardly run there. Pure.

use isthmus_shared::resources::Finding;
use serde_json::Value;

use crate::cluster::{array, describe, text};
use crate::findings::finding;

/// The most Pods of a namespace that are named.
const MAX_NAMED: usize = 5;
/// What a container that does not come up waits for.
const STUCK: [&str; 8] = [
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// The Pods of a namespace that are not well, as they come.
#[derive(Debug, Default)]
pub struct Unwell {
    named: Vec<(String, String)>,
    more: u64,
}

impl Unwell {
    /// Notes a Pod, if it is not well.
    pub fn see(&mut self, pod: &Value) {
        let Some(why) = ailment(pod) else { return };
        if self.named.len() < MAX_NAMED {
            self.named.push((describe(pod), why));
        } else {
            self.more += 1;
        }
    }

    /// What a person should know of the namespace.
    pub fn findings(self, namespace: &str) -> Vec<Finding> {
        const REASON: &str = "UnhealthyPod";
        let named = self.named.into_iter().map(|(pod, why)| {
            let message = format!(
                "it is not well on the source: {why}; put it right there first, as it will be no better on the destination"
            );
            finding(pod, REASON, message)
        });
        let more = (self.more > 0).then(|| {
            let message = format!(
                "{} more of its Pods are not well on the source: see `kubectl get pods -n {namespace}`",
                self.more
            );
            finding(format!("Namespace {namespace}"), REASON, message)
        });
        named.chain(more).collect()
    }
}

/// What is the matter with a Pod. One that has ended, or is about to, is no matter.
fn ailment(pod: &Value) -> Option<String> {
    let phase = text(pod, "/status/phase");
    if pod.pointer("/metadata/deletionTimestamp").is_some() || !matches!(phase, "Pending" | "Running") {
        return None;
    }
    let statuses = ["/status/initContainerStatuses", "/status/containerStatuses"];
    let waiting = statuses.iter().flat_map(|pointer| array(pod, pointer)).find_map(|status| {
        let reason = text(status, "/state/waiting/reason");
        STUCK.contains(&reason).then(|| format!("container {}: {reason}", text(status, "/name")))
    });
    if waiting.is_some() {
        return waiting;
    }
    let condition = |type_: &str| {
        let conditions = array(pod, "/status/conditions").iter();
        conditions.into_iter().find(|one| text(one, "/type") == type_ && text(one, "/status") == "False")
    };
    if let Some(unscheduled) = condition("PodScheduled") {
        return Some(format!("no node takes it: {}", text(unscheduled, "/message")));
    }
    (phase == "Running" && condition("Ready").is_some()).then(|| "it runs and is not ready".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(status: &Value) -> Option<String> {
        ailment(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1", "namespace": "cms"},
                        "status": status}))
    }

    #[test]
    fn a_pod_that_does_not_come_up_is_told_with_why() {
        let waiting = json!({"phase": "Running", "containerStatuses": [
            {"name": "app", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
        assert_eq!(told(&waiting).as_deref(), Some("container app: CrashLoopBackOff"));
        let unscheduled = json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]});
        assert_eq!(told(&unscheduled).as_deref(), Some("no node takes it: 0/3 nodes are available"));
        let unready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]});
        assert!(told(&unready).is_some());
    }

    #[test]
    fn what_runs_begins_or_has_ended_is_well() {
        let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        assert_eq!(told(&ready), None);
        let begins = json!({"phase": "Pending", "containerStatuses": [
            {"name": "app", "state": {"waiting": {"reason": "ContainerCreating"}}}]});
        assert_eq!(told(&begins), None);
        for phase in ["Succeeded", "Failed"] {
            assert_eq!(
                told(&json!({"phase": phase, "conditions": [{"type": "Ready", "status": "False"}]})),
                None
            );
        }
    }

    #[test]
    fn only_the_first_are_named_and_the_rest_are_counted() {
        let mut unwell = Unwell::default();
        for number in 0..MAX_NAMED + 2 {
            unwell.see(&json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("web-{number}"), "namespace": "cms"},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}}));
        }
        let findings = unwell.findings("cms");
        assert_eq!(findings.len(), MAX_NAMED + 1);
        assert_eq!(findings[0].object, "Pod cms/web-0");
        assert!(findings[MAX_NAMED].message.starts_with("2 more"), "{findings:?}");
    }
}
