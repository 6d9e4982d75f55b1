//! What the Pods of a workload that is not ready say. It only explains, so that what cannot be read of
//! it is left out; all of it is bounded, since it stands in a status.

use isthmus_shared::resources::Finding;
use serde_json::Value;

use crate::cluster::{Cluster, ClusterError, array, describe, escape, kind, name, namespace, text};
use crate::findings::{finding, shorten};
use crate::volumes::pod_trouble;
use crate::workloads::operators::selector;
use crate::workloads::state;

/// Pods of one workload whose state is told.
const MAX_PODS: usize = 3;
/// Pods that are looked at.
const MAX_LISTED: usize = 500;
/// Events of one Pod that are told, the newest.
const MAX_EVENTS: usize = 3;
/// Events that are looked at.
const MAX_LISTED_EVENTS: usize = 200;
/// Last lines of one container's log that are told.
const LOG_LINES: usize = 10;
/// What is read of one log, bytes.
const LOG_LIMIT: usize = 16 * 1024;
/// The longest text of one event, and of the lines of one log, bytes.
const MAX_TEXT: usize = 400;

/// Why a workload is not ready.
pub async fn explain(
    cluster: &Cluster,
    workload: &Value,
    seconds: u32,
    cutover: bool,
) -> Result<Finding, ClusterError> {
    let number = |pointer: &str| workload.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    let ready = number("/status/readyReplicas") + number("/status/numberReady");
    let mut message = match (state::switch(workload), kind(workload)) {
        (None, _) => format!("it was not ready after {seconds} s: look at its status"),
        (_, "DaemonSet") => {
            format!(
                "{ready} of {} pods were ready after {seconds} s",
                number("/status/desiredNumberScheduled")
            )
        }
        _ => format!("{ready} of {} pods were ready after {seconds} s", state::replicas(workload)),
    };
    let selector = old_selector(workload).unwrap_or_else(|| selector(workload));
    if !selector.is_empty() {
        let path = format!("/api/v1/namespaces/{}/pods", namespace(workload));
        let query = format!("labelSelector={}", escape(&selector));
        let pods = cluster.list(&path, &query, MAX_LISTED).await?;
        for pod in pods.iter().filter(|pod| !is_ready(pod)).take(MAX_PODS) {
            message = format!("{message}; {}", of_pod(cluster, pod).await);
        }
        if pods.is_empty() {
            let events = events(cluster, workload).await;
            message = format!("{message}; no pods were made{events}: look at the workload's events");
        }
    }
    message.push_str(if cutover {
        "; correct what it names and run again, or give it longer with `health.timeoutSeconds`"
    } else {
        "; look at its pods with kubectl describe and logs, and start it again if need be"
    });
    Ok(finding(describe(workload), "NotReady", message))
}

/// The selector of kinds that have a plain map there.
fn old_selector(workload: &Value) -> Option<String> {
    matches!(kind(workload), "ReplicationController" | "DeploymentConfig").then(|| {
        let labels = workload.pointer("/spec/selector").and_then(Value::as_object);
        let pairs = labels.into_iter().flatten();
        let pairs = pairs.filter_map(|(key, value)| value.as_str().map(|value| format!("{key}={value}")));
        pairs.collect::<Vec<_>>().join(",")
    })
}

async fn of_pod(cluster: &Cluster, pod: &Value) -> String {
    let trouble = pod_trouble(pod).map_or_else(|| "not ready yet".to_owned(), |trouble| trouble.to_string());
    format!("Pod {}: {trouble}{}{}", name(pod), events(cluster, pod).await, last_lines(cluster, pod).await)
}

/// The newest warnings about an object.
async fn events(cluster: &Cluster, object: &Value) -> String {
    let path = format!("/api/v1/namespaces/{}/events", namespace(object));
    let query = format!("fieldSelector=involvedObject.name%3D{}", name(object));
    let events = cluster.list(&path, &query, MAX_LISTED_EVENTS).await.unwrap_or_default();
    newest(&events)
}

fn newest(events: &[Value]) -> String {
    let mut warnings: Vec<&Value> = events.iter().filter(|event| text(event, "/type") == "Warning").collect();
    warnings.sort_by_key(|event| std::cmp::Reverse(time(event).to_owned()));
    let told: Vec<String> = warnings
        .into_iter()
        .take(MAX_EVENTS)
        .map(|event| {
            let mut line = format!("{}: {}", text(event, "/reason"), text(event, "/message").trim());
            shorten(&mut line, MAX_TEXT);
            line
        })
        .collect();
    if told.is_empty() { String::new() } else { format!(" (events: {})", told.join(" | ")) }
}

fn time(event: &Value) -> &str {
    ["/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"]
        .iter()
        .map(|pointer| text(event, pointer))
        .find(|time| !time.is_empty())
        .unwrap_or_default()
}

/// The last lines of the log of the container that is not ready; of its last run, if it is between two.
async fn last_lines(cluster: &Cluster, pod: &Value) -> String {
    let Some((container, previous)) = failing_container(pod) else { return String::new() };
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}/log?container={}&tailLines={LOG_LINES}&limitBytes={LOG_LIMIT}&previous={previous}",
        namespace(pod),
        name(pod),
        escape(container)
    );
    let log = cluster.get_text(&path).await.unwrap_or_default();
    let lines = tail(&log);
    if lines.is_empty() { String::new() } else { format!(" (log of {container}: {lines})") }
}

/// The end of a log in one line.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let lines = lines[lines.len().saturating_sub(LOG_LINES)..].join(" | ");
    let start = lines.ceil_char_boundary(lines.len().saturating_sub(MAX_TEXT));
    if start == 0 { lines } else { format!("…{}", &lines[start..]) }
}

/// The container that keeps a Pod from being ready, and whether its last run is the one to look at.
fn failing_container(pod: &Value) -> Option<(&str, bool)> {
    let statuses =
        || array(pod, "/status/initContainerStatuses").iter().chain(array(pod, "/status/containerStatuses"));
    let ready = |status: &Value| status.get("ready").and_then(Value::as_bool).unwrap_or_default();
    let failing = statuses().find(|status| !ready(status) && status.pointer("/state/waiting").is_some());
    let status = failing.or_else(|| statuses().find(|status| !ready(status)))?;
    let restarted = status.get("restartCount").and_then(Value::as_i64).unwrap_or_default() > 0;
    let waiting = status.pointer("/state/waiting").is_some();
    // One that never ran has no log.
    (!waiting || restarted).then(|| (text(status, "/name"), waiting))
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
    fn of_a_container_between_two_runs_the_last_ones_log_is_looked_at() {
        let pod = |state: Value, restarts: i64| {
            json!({"status": {"containerStatuses": [
                {"name": "sidecar", "ready": true, "state": {"running": {}}},
                {"name": "db", "ready": false, "restartCount": restarts, "state": state}]}})
        };
        let crashing = pod(json!({"waiting": {"reason": "CrashLoopBackOff"}}), 3);
        assert_eq!(failing_container(&crashing), Some(("db", true)));
        assert_eq!(failing_container(&pod(json!({"running": {}}), 0)), Some(("db", false)));
        assert_eq!(failing_container(&pod(json!({"waiting": {"reason": "ImagePullBackOff"}}), 0)), None);
    }

    #[test]
    fn the_newest_warnings_are_told_and_cut() {
        let event = |at: &str, kind: &str, message: &str| json!({"type": kind, "reason": "Unhealthy", "message": message, "lastTimestamp": at});
        let events = [
            event("2026-01-01T00:00:01Z", "Warning", "oldest"),
            event("2026-01-01T00:00:09Z", "Normal", "started"),
            event("2026-01-01T00:00:04Z", "Warning", &"x".repeat(1000)),
            event("2026-01-01T00:00:03Z", "Warning", "second"),
            event("2026-01-01T00:00:02Z", "Warning", "third"),
        ];
        let told = newest(&events);
        assert!(told.contains("second") && told.contains("third"), "{told}");
        assert!(!told.contains("oldest") && !told.contains("started") && told.len() < 600, "{told}");
        assert_eq!(newest(&[]), "");
    }

    #[test]
    fn of_a_log_the_end_is_told_in_one_line() {
        assert_eq!(tail("a\n\n  b \n"), "a | b");
        let long = tail(&"é".repeat(2000));
        assert!(long.starts_with('…') && long.len() <= MAX_TEXT + 4);
        assert_eq!(tail(""), "");
    }
}
