//! Whether started workloads become ready and stay so, and if not, what their pods say.
//!
//! ```text
//!   watch    pure: ready in time, and ready for long enough
//!   trouble  what the Pods of one that is not ready say: states, events, last lines of their logs
//! ```
//!
//! In a promotion those that are not ready are warnings. A cutover fails by them: the source is started
//! again, so what the destination's Pods said is in the failure, for it will be gone.

mod trouble;
mod watch;

use std::time::{Duration, Instant};

use isthmus_shared::protocol::{Outcome, Run};
use isthmus_shared::resources::Finding;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::Tools;
use super::charge::{Owners, has_ended, is_own};
use super::inventory::Reader;
use super::rules::Registry;
use super::state::{self, Switch, Way};
use crate::cluster::{ClusterError, array, describe, kind, text};
use crate::findings::Findings;
use crate::task::{TaskContext, TaskError};
use watch::{Verdict, Watch};

/// How often the workloads are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Waits until the workloads are ready, and for as long as they are to stay so.
pub async fn check_health(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    let tools = Tools::lenient(context).await?;
    let reader = tools.reader(context);
    let (health, cutover) = (&run.spec.health, run.spec.quiesce);
    let mut watch = Watch::new(
        Instant::now(),
        Duration::from_secs(health.timeout_seconds.into()),
        Duration::from_secs(health.duration(cutover).into()),
    );
    loop {
        let (ready, waiting) = look(reader, run).await?;
        let total = ready + waiting.len() as u64;
        let verdict = watch.look(Instant::now(), waiting.is_empty());
        context.progress(|p| {
            p.objects_total = total;
            p.objects_done = ready;
            p.message = match (waiting.first(), verdict) {
                (Some(first), _) => {
                    Some(format!("waiting for {} of {total}, e.g. {}", waiting.len(), describe(first)))
                }
                (None, Verdict::Holds { left }) => {
                    Some(format!("all are ready; {} s more they must stay so", left.as_secs()))
                }
                (None, _) => None,
            };
        });
        match verdict {
            Verdict::Waits | Verdict::Holds { .. } => tokio::time::sleep(LOOK_EVERY).await,
            Verdict::Healthy => {
                let ready_at = first_ready(reader, run).await?;
                let workloads = u32::try_from(ready).unwrap_or(u32::MAX);
                return Ok(Outcome::Healthy { workloads, ready_at: ready_at.map(Time) });
            }
            Verdict::Late => {
                let seconds = health.timeout_seconds;
                let findings = explain_all(reader, &waiting, seconds, cutover).await?;
                if cutover {
                    return Err(TaskError::Failed(findings));
                }
                for warning in findings.list {
                    context.warn(warning);
                }
                let ready_at = first_ready(reader, run).await?;
                let workloads = u32::try_from(ready).unwrap_or(u32::MAX);
                return Ok(Outcome::Healthy { workloads, ready_at: ready_at.map(Time) });
            }
        }
    }
}

/// How many workloads are ready, and those that are not yet.
async fn look(reader: Reader<'_>, run: &Run) -> Result<(u64, Vec<Value>), TaskError> {
    let (mut ready, mut waiting) = (0, Vec::new());
    for namespace in run.destinations() {
        let workloads = reader.workloads(namespace).await.map_err(|e| asking(&e))?;
        let mut owners = Owners::default();
        for workload in &workloads {
            owners.note(reader.registry, &workload.object);
        }
        for workload in workloads {
            // What an operator runs is part of the application too, and not every custom resource says
            // of itself whether it is ready.
            if !owners.counts_itself(reader.registry, &workload.object) {
                continue;
            }
            match readiness(reader.registry, &workload.object) {
                Some(true) => ready += 1,
                Some(false) => waiting.push(workload.object),
                None => {}
            }
        }
    }
    Ok((ready, waiting))
}

async fn explain_all(
    reader: Reader<'_>,
    waiting: &[Value],
    seconds: u32,
    cutover: bool,
) -> Result<Findings, TaskError> {
    let mut findings = Findings::default();
    for workload in waiting {
        // Beyond what is kept they are only counted.
        let found: Finding = if findings.list.len() < isthmus_shared::resources::MAX_FINDINGS {
            trouble::explain(reader.cluster, workload, seconds, cutover).await.map_err(|e| asking(&e))?
        } else {
            crate::findings::finding(describe(workload), "NotReady", String::new())
        };
        findings.push(found);
    }
    Ok(findings)
}

/// When the first of the Pods was ready.
async fn first_ready(reader: Reader<'_>, run: &Run) -> Result<Option<Timestamp>, TaskError> {
    let mut first = None;
    for namespace in run.destinations() {
        for pod in reader.pods(namespace).await.map_err(|e| asking(&e))? {
            if let Some(at) = ready_since(&pod).filter(|_| !is_own(&pod) && !has_ended(&pod)) {
                first = Some(first.map_or(at, |first: Timestamp| first.min(at)));
            }
        }
    }
    Ok(first)
}

fn ready_since(pod: &Value) -> Option<Timestamp> {
    array(pod, "/status/conditions")
        .iter()
        .find(|c| text(c, "/type") == "Ready" && text(c, "/status") == "True")
        .and_then(|c| text(c, "/lastTransitionTime").parse().ok())
}

/// Whether a workload that is to run is ready; none for what has no readiness.
fn readiness(registry: &Registry, workload: &Value) -> Option<bool> {
    let number = |pointer: &str| workload.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    let observed = number("/status/observedGeneration") >= number("/metadata/generation");
    let way = registry.way(workload)?;
    match (way, kind(workload)) {
        // Its operator counts its generations as text.
        (Way::Switch(Switch::Replicas), "Rollout") => {
            let wanted = state::replicas(workload);
            Some(wanted == 0 || number("/status/readyReplicas") >= wanted)
        }
        (Way::Switch(Switch::Replicas), _) => {
            let wanted = state::replicas(workload);
            Some(wanted == 0 || (observed && number("/status/readyReplicas") >= wanted))
        }
        (Way::Switch(Switch::NodeSelector) | Way::Rule(_), _) if way.is_stopped(workload) => None,
        (Way::Switch(Switch::NodeSelector), _) => {
            Some(observed && number("/status/numberReady") >= number("/status/desiredNumberScheduled"))
        }
        (Way::Switch(Switch::Suspend), _) => None,
        (Way::Rule(_), _) => ready_condition(workload),
    }
}

/// What a custom resource's own condition says; none where it has no such condition.
fn ready_condition(resource: &Value) -> Option<bool> {
    array(resource, "/status/conditions")
        .iter()
        .find(|condition| text(condition, "/type") == "Ready")
        .map(|condition| text(condition, "/status") == "True")
}

fn asking(error: &ClusterError) -> TaskError {
    TaskError::cluster("the workloads", "reading them", error)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(workload: &Value) -> Option<bool> {
        readiness(Registry::built_in(), workload)
    }

    #[test]
    fn a_deployment_is_ready_when_the_controller_has_seen_it_and_all_its_pods_are() {
        let mut deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "generation": 2}, "spec": {"replicas": 2},
            "status": {"observedGeneration": 1, "readyReplicas": 2}});
        assert_eq!(of(&deployment), Some(false));
        deployment["status"]["observedGeneration"] = json!(2);
        assert_eq!(of(&deployment), Some(true));
        deployment["status"]["readyReplicas"] = json!(1);
        assert_eq!(of(&deployment), Some(false));
        deployment["spec"]["replicas"] = json!(0);
        assert_eq!(of(&deployment), Some(true));
    }

    #[test]
    fn cron_jobs_have_no_readiness() {
        let job = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"}, "spec": {}});
        assert_eq!(of(&job), None);
    }

    #[test]
    fn a_custom_resource_is_ready_by_its_own_condition_if_it_has_one() {
        let mut cluster = json!({"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "metadata": {"name": "db"},
                                 "spec": {}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}});
        assert_eq!(of(&cluster), Some(false));
        cluster["status"]["conditions"][0]["status"] = json!("True");
        assert_eq!(of(&cluster), Some(true));
        cluster["status"] = json!({});
        assert_eq!(of(&cluster), None);
    }

    #[test]
    fn a_pod_is_ready_since_its_condition_changed() {
        let pod = json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:05Z"}]}});
        assert_eq!(ready_since(&pod), Some("2026-01-01T00:00:05Z".parse().unwrap()));
        assert_eq!(ready_since(&json!({"status": {}})), None);
    }
}
