//! What is told of the Pods that have not gone yet. Pure.

use isthmus_shared::protocol::Progress;
use jiff::Timestamp;
use serde_json::Value;

use crate::cluster::{array, describe, text};
use crate::findings::{Findings, finding};
use crate::workloads::charge::is_leaving;

/// Seconds beyond its grace after which a Pod that does not go is said to hold everything up.
const OVERDUE_SECONDS: i64 = 60;
/// Pods that a message names.
const MAX_NAMED: usize = 3;

/// Notes how far the stand is.
pub fn progress_of(progress: &mut Progress, total: usize, left: &[&Value], restless: &[String]) {
    progress.objects_total = total as u64;
    progress.objects_done = total.saturating_sub(restless.len()) as u64;
    let now = Timestamp::now();
    progress.message = Some(waits_for(left, restless, now));
    progress.stalled = left
        .iter()
        .find(|pod| overdue(pod, now))
        .map(|pod| format!("{} was told to go and does not: {}", describe(pod), why(pod)));
}

fn waits_for(left: &[&Value], restless: &[String], now: Timestamp) -> String {
    if left.is_empty() {
        return match restless.first() {
            Some(first) => format!("waiting until the controllers have seen that {first} is stopped"),
            None => "looking once more whether everything is stopped".to_owned(),
        };
    }
    let named: Vec<String> = left.iter().take(MAX_NAMED).map(|pod| told(pod, now)).collect();
    let more = left.len().saturating_sub(MAX_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("waiting until Pods have gone: {}{more}", named.join(", "))
}

fn told(pod: &Value, now: Timestamp) -> String {
    match leaving_since(pod) {
        Some(since) => {
            format!("{} (told to go {} s ago)", describe(pod), now.duration_since(since).as_secs().max(0))
        }
        None if is_leaving(pod) => format!("{} (told to go)", describe(pod)),
        None => format!("{} ({})", describe(pod), text(pod, "/status/phase").to_lowercase()),
    }
}

/// When a Pod was told to go: its deletion timestamp is the end of its grace.
fn leaving_since(pod: &Value) -> Option<Timestamp> {
    let end: Timestamp = text(pod, "/metadata/deletionTimestamp").parse().ok()?;
    let grace =
        pod.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or_default();
    end.checked_sub(jiff::SignedDuration::from_secs(grace)).ok()
}

fn overdue(pod: &Value, now: Timestamp) -> bool {
    let end: Option<Timestamp> = text(pod, "/metadata/deletionTimestamp").parse().ok();
    end.is_some_and(|end| now.duration_since(end).as_secs() > OVERDUE_SECONDS)
}

fn why(pod: &Value) -> String {
    let finalizers: Vec<&str> = array(pod, "/metadata/finalizers").iter().filter_map(Value::as_str).collect();
    if finalizers.is_empty() {
        let node = text(pod, "/spec/nodeName");
        format!("look whether the node {node} is up (kubectl get node {node})")
    } else {
        format!("it waits for its finalizers ({})", finalizers.join(", "))
    }
}

/// What failed when the time is over; `within` says how long that was and how it is set.
pub fn timed_out(left: &[&Value], restless: &[String], within: &str) -> Findings {
    let mut failures = Findings::default();
    for pod in left {
        let message = if is_leaving(pod) {
            format!("it was told to go and has not {within}: {}, then run again", why(pod))
        } else {
            format!(
                "its workload is stopped, and it has not gone {within}: look whether the controller or operator that runs \
                 it is at work (an operator named under `operators` is stopped itself), then run again"
            )
        };
        failures.push(finding(describe(pod), "PodStillRuns", message));
    }
    if left.is_empty() {
        for object in restless {
            let message = format!(
                "its controller has not seen {within} that it is stopped: look whether that runs, then run again"
            );
            failures.push(finding(object.clone(), "NotSettled", message));
        }
        if restless.is_empty() {
            let message = format!(
                "it did not come to a stand {within}, as something was stopped at every look: see the warnings, suspend \
                 what starts it, then run again"
            );
            failures.push(finding("the workloads", "WillNotStandStill", message));
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, told_to_go: Option<&str>) -> Value {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "cms"},
                             "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}});
        if let Some(end) = told_to_go {
            pod["metadata"]["deletionTimestamp"] = json!(end);
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        }
        pod
    }

    #[test]
    fn a_wait_says_for_which_pods_and_since_when() {
        let now = "2026-01-01T00:00:20Z".parse().unwrap();
        let pods =
            [pod("db-0", Some("2026-01-01T00:00:30Z")), pod("web", None), pod("x", None), pod("y", None)];
        let left: Vec<&Value> = pods.iter().collect();
        assert_eq!(
            waits_for(&left, &[], now),
            "waiting until Pods have gone: Pod cms/db-0 (told to go 20 s ago), Pod cms/web (running), Pod cms/x (running) \
             and 1 more"
        );
        assert!(waits_for(&[], &["Deployment cms/a".to_owned()], now).contains("Deployment cms/a"));
    }

    #[test]
    fn a_pod_that_is_overdue_holds_everything_up_and_it_is_said_why() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let mut late = pod("db-0", Some("2026-01-01T00:00:30Z"));
        assert!(overdue(&late, now) && !overdue(&pod("web", None), now));
        assert!(why(&late).contains("n1"));
        late["metadata"]["finalizers"] = json!(["example.com/keep"]);
        assert!(why(&late).contains("example.com/keep"));
    }

    #[test]
    fn when_the_time_is_over_every_pod_that_is_left_is_named() {
        let pods = [pod("db-0", Some("2026-01-01T00:00:30Z")), pod("web", None)];
        let left: Vec<&Value> = pods.iter().collect();
        let failures = timed_out(&left, &[], "within 10 s");
        assert_eq!(failures.total, 2);
        assert_eq!(failures.list[1].object, "Pod cms/web");
        assert!(failures.list.iter().all(|found| found.message.contains("within 10 s")), "{failures:?}");
        assert_eq!(timed_out(&[], &[], "within 10 s").list[0].reason, "WillNotStandStill");
    }
}
