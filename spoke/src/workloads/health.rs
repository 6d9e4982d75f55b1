//! Whether started workloads become ready, and if not, what their pods say.

use std::time::{Duration, Instant};

use isthmus_shared::protocol::{Outcome, Run};
use isthmus_shared::resources::Finding;
use serde_json::Value;

use super::state::{self, Switch};
use super::workloads;
use crate::cluster::{ClusterError, array, describe, discover, kind, name, namespace, text};
use crate::findings::finding;
use crate::task::{TaskContext, TaskError};
use crate::volumes::pod_trouble;

/// How often the workloads are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Pods of one workload whose state is told.
const MAX_PODS: usize = 3;
/// Pods that are looked at.
const MAX_LISTED: usize = 500;

/// Waits until the workloads are ready; those that are not in time are warnings.
pub async fn check_health(
    context: &TaskContext,
    run: &Run,
    timeout_seconds: u32,
) -> Result<Outcome, TaskError> {
    let deadline = Instant::now() + Duration::from_secs(u64::from(timeout_seconds));
    let asking = |e: ClusterError| TaskError::cluster("the workloads", "reading them", &e);
    let catalogue = discover(context.cluster()).await.map_err(asking)?;
    loop {
        let mut ready = 0;
        let mut waiting = Vec::new();
        for namespace in run.destinations() {
            for (_, workload) in workloads(context.cluster(), &catalogue, namespace).await.map_err(asking)? {
                match readiness(&workload) {
                    Some(true) => ready += 1,
                    Some(false) => waiting.push(workload),
                    None => {}
                }
            }
        }
        let total = ready + waiting.len() as u64;
        context.progress(|p| {
            p.objects_total = total;
            p.objects_done = ready;
            p.message = waiting
                .first()
                .map(|first| format!("waiting for {} of {total}, e.g. {}", waiting.len(), describe(first)));
        });
        if waiting.is_empty() || Instant::now() >= deadline {
            for workload in &waiting {
                let warning = explain(context, workload, timeout_seconds).await.map_err(asking)?;
                context.warn(warning);
            }
            return Ok(Outcome::Workloads { workloads: u32::try_from(ready).unwrap_or(u32::MAX) });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether a workload that is to run is ready; none for what has no readiness.
fn readiness(workload: &Value) -> Option<bool> {
    let number = |pointer: &str| workload.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    let observed = number("/status/observedGeneration") >= number("/metadata/generation");
    match (state::switch(workload)?, kind(workload)) {
        (Switch::Replicas, _) => {
            let wanted = state::replicas(workload);
            Some(wanted == 0 || (observed && number("/status/readyReplicas") >= wanted))
        }
        (Switch::NodeSelector, _) if state::is_stopped(workload) => None,
        (Switch::NodeSelector, _) => {
            Some(observed && number("/status/numberReady") >= number("/status/desiredNumberScheduled"))
        }
        (Switch::Suspend, _) => None,
    }
}

async fn explain(context: &TaskContext, workload: &Value, timeout: u32) -> Result<Finding, ClusterError> {
    let number = |pointer: &str| workload.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    let ready = number("/status/readyReplicas") + number("/status/numberReady");
    let wanted = if kind(workload) == "DaemonSet" {
        number("/status/desiredNumberScheduled")
    } else {
        state::replicas(workload)
    };
    let mut message = format!("{ready} of {wanted} pods were ready after {timeout} s");
    let labels = workload
        .pointer("/spec/selector/matchLabels")
        .or_else(|| workload.pointer("/spec/selector"))
        .and_then(Value::as_object);
    let selector: Vec<String> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| value.as_str().map(|value| format!("{key}={value}")))
        .collect();
    if !selector.is_empty() {
        let path = format!("/api/v1/namespaces/{}/pods", namespace(workload));
        let query = format!("labelSelector={}", crate::cluster::escape(&selector.join(",")));
        let pods = context.cluster().list(&path, &query, MAX_LISTED).await?;
        let unwell = pods.iter().filter(|pod| !is_ready(pod)).take(MAX_PODS);
        for pod in unwell {
            let trouble =
                pod_trouble(pod).map_or_else(|| "not ready yet".to_owned(), |trouble| trouble.to_string());
            message = format!("{message}; Pod {}: {trouble}", name(pod));
        }
        if pods.is_empty() {
            message.push_str("; no pods were made: look at the workload's events");
        }
    }
    message.push_str("; look at its pods with kubectl describe and logs, and start it again if need be");
    Ok(finding(describe(workload), "NotReady", message))
}

fn is_ready(pod: &Value) -> bool {
    array(pod, "/status/conditions")
        .iter()
        .any(|c| text(c, "/type") == "Ready" && text(c, "/status") == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deployment_is_ready_when_the_controller_has_seen_it_and_all_its_pods_are() {
        let mut deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "generation": 2}, "spec": {"replicas": 2},
            "status": {"observedGeneration": 1, "readyReplicas": 2}});
        assert_eq!(readiness(&deployment), Some(false));
        deployment["status"]["observedGeneration"] = json!(2);
        assert_eq!(readiness(&deployment), Some(true));
        deployment["status"]["readyReplicas"] = json!(1);
        assert_eq!(readiness(&deployment), Some(false));
        deployment["spec"]["replicas"] = json!(0);
        assert_eq!(readiness(&deployment), Some(true));
    }

    #[test]
    fn cron_jobs_have_no_readiness() {
        let job = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"}, "spec": {}});
        assert_eq!(readiness(&job), None);
    }
}
