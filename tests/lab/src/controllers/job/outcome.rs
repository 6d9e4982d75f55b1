//! How a job stands, from the job and its pods. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::controllers::{deleting, pods};

/// Where an indexed job's pod keeps its index.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const DEFAULT_BACKOFF_LIMIT: i32 = 6;

/// The pods of a job, counted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Counts {
    pub active: u32,
    pub ready: u32,
    pub terminating: u32,
    pub succeeded: u32,
    pub failed: u32,
    /// Restarts of containers in place, which count towards the back-off limit too.
    pub restarts: u32,
    pub last_failure: Option<Timestamp>,
}

impl Counts {
    pub fn of<'a>(job: &Job, all: impl Iterator<Item = &'a Pod>) -> Self {
        let mut counts = Self::default();
        for pod in all {
            let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
            let restarts: i32 = statuses.map(|status| status.restart_count).sum();
            match pods::phase(pod) {
                "Succeeded" => counts.succeeded += 1,
                "Failed" => {
                    counts.failed += 1;
                    counts.last_failure = counts.last_failure.max(ended_at(pod));
                }
                _ if deleting(pod) => counts.terminating += 1,
                _ => {
                    counts.active += 1;
                    counts.ready += u32::from(pods::ready(pod));
                    counts.restarts += u32::try_from(restarts).unwrap_or_default();
                }
            }
        }
        // Finished pods that somebody removed stay counted.
        if let Some(status) = &job.status {
            let before = |count: Option<i32>| u32::try_from(count.unwrap_or_default()).unwrap_or_default();
            counts.succeeded = counts.succeeded.max(before(status.succeeded));
            counts.failed = counts.failed.max(before(status.failed));
        }
        counts
    }
}

fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let ends = statuses.filter_map(|status| status.state.as_ref()?.terminated.as_ref()?.finished_at.clone());
    ends.map(|time| time.0).max().or_else(|| pod.creation_timestamp().map(|time| time.0))
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Complete,
    Failed { reason: &'static str, message: String },
}

/// How many pods should be active now.
pub(super) fn wanted(spec: &JobSpec, counts: &Counts) -> u32 {
    let parallelism = u32::try_from(spec.parallelism.unwrap_or(1)).unwrap_or_default();
    match spec.completions {
        Some(completions) => {
            let left = u32::try_from(completions).unwrap_or_default().saturating_sub(counts.succeeded);
            parallelism.min(left)
        }
        // A work queue: once one pod has succeeded no new ones are made.
        None if counts.succeeded > 0 => 0,
        None => parallelism,
    }
}

/// When the job runs out of time.
pub(super) fn deadline(job: &Job, spec: &JobSpec) -> Option<Timestamp> {
    let seconds = spec.active_deadline_seconds?;
    let started = job.status.as_ref()?.start_time.as_ref()?.0;
    started.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// Whether the job has come to its end.
pub(super) fn verdict(job: &Job, spec: &JobSpec, counts: &Counts, now: Timestamp) -> Option<Verdict> {
    let limit = u32::try_from(spec.backoff_limit.unwrap_or(DEFAULT_BACKOFF_LIMIT)).unwrap_or_default();
    if counts.failed > limit || counts.restarts > limit {
        return Some(Verdict::Failed {
            reason: "BackoffLimitExceeded",
            message: "Job has reached the specified backoff limit".to_owned(),
        });
    }
    if deadline(job, spec).is_some_and(|deadline| deadline <= now) {
        return Some(Verdict::Failed {
            reason: "DeadlineExceeded",
            message: "Job was active longer than specified deadline".to_owned(),
        });
    }
    let done = match spec.completions {
        Some(completions) => counts.succeeded >= u32::try_from(completions).unwrap_or_default(),
        None => counts.succeeded > 0 && counts.active == 0 && counts.terminating == 0,
    };
    done.then_some(Verdict::Complete)
}

/// A finished job's end.
pub(in crate::controllers) struct Finished {
    pub complete: bool,
    pub at: Timestamp,
}

/// Whether and when the job has finished, by its conditions.
pub(in crate::controllers) fn finished(job: &Job) -> Option<Finished> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let end = conditions.iter().find(|condition| {
        matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True"
    })?;
    let at = end.last_transition_time.as_ref().map_or_else(Timestamp::now, |time| time.0);
    Some(Finished { complete: end.type_ == "Complete", at })
}

/// The status to be written, as a merge patch.
///
/// The API server wants the intention (`SuccessCriteriaMet`, `FailureTarget`) beside the end, and the
/// end only when no pod is left.
pub(super) fn status(job: &Job, counts: &Counts, verdict: Option<&Verdict>, now: Timestamp) -> Value {
    let now = now.strftime("%FT%TZ").to_string();
    let suspended = job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
    let mut status = json!({
        "active": counts.active,
        "ready": counts.ready,
        "terminating": counts.terminating,
        "succeeded": counts.succeeded,
        "failed": counts.failed,
        "uncountedTerminatedPods": {},
    });
    let started = job.status.as_ref().is_some_and(|status| status.start_time.is_some());
    if suspended {
        status["startTime"] = Value::Null;
    } else if !started {
        status["startTime"] = now.clone().into();
    }
    let mut conditions: Vec<Value> = job
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .filter_map(|condition| serde_json::to_value(condition).ok())
        .collect();
    let mut set = |kind: &str, value: bool, reason: &str, message: &str| {
        let value = if value { "True" } else { "False" };
        let there = conditions.iter().position(|condition| condition["type"] == kind);
        if there.is_some_and(|at| conditions[at]["status"] == value) || there.is_none() && value == "False" {
            return;
        }
        let condition = json!({"type": kind, "status": value, "reason": reason, "message": message,
            "lastProbeTime": now, "lastTransitionTime": now});
        match there {
            Some(at) => conditions[at] = condition,
            None => conditions.push(condition),
        }
    };
    if suspended {
        set("Suspended", true, "JobSuspended", "Job suspended");
    } else {
        set("Suspended", false, "JobResumed", "Job resumed");
    }
    let pods_left = counts.active + counts.terminating > 0;
    match verdict {
        Some(Verdict::Complete) => {
            let (reason, message) = ("CompletionsReached", "Reached expected number of succeeded pods");
            set("SuccessCriteriaMet", true, reason, message);
            if !pods_left {
                set("Complete", true, reason, message);
                status["completionTime"] = now.clone().into();
            }
        }
        Some(Verdict::Failed { reason, message }) => {
            set("FailureTarget", true, reason, message);
            if !pods_left {
                set("Failed", true, reason, message);
            }
        }
        None => {}
    }
    if !conditions.is_empty() {
        status["conditions"] = conditions.into();
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(spec: &Value) -> Job {
        serde_json::from_value(json!({"metadata": {"name": "j"}, "spec": spec})).unwrap()
    }

    fn spec(more: &Value) -> Job {
        let mut spec = json!({"template": {"spec": {"containers": []}}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        job(&spec)
    }

    fn judge(job: &Job, counts: &Counts) -> Option<Verdict> {
        verdict(job, job.spec.as_ref().unwrap(), counts, Timestamp::now())
    }

    #[test]
    fn a_job_is_complete_with_its_completions() {
        let job = spec(&json!({"completions": 2, "parallelism": 2}));
        assert_eq!(judge(&job, &Counts { succeeded: 1, ..Counts::default() }), None);
        assert_eq!(judge(&job, &Counts { succeeded: 2, ..Counts::default() }), Some(Verdict::Complete));
        assert_eq!(wanted(job.spec.as_ref().unwrap(), &Counts { succeeded: 1, ..Counts::default() }), 1);
    }

    #[test]
    fn a_job_fails_past_its_back_off_limit() {
        let job = spec(&json!({"completions": 1, "backoffLimit": 0}));
        let failed = judge(&job, &Counts { failed: 1, ..Counts::default() });
        assert!(matches!(failed, Some(Verdict::Failed { reason: "BackoffLimitExceeded", .. })));
    }

    #[test]
    fn the_end_is_told_only_when_no_pod_is_left() {
        let job = spec(&json!({"completions": 1}));
        let counts = Counts { succeeded: 1, terminating: 1, ..Counts::default() };
        let waiting = status(&job, &counts, Some(&Verdict::Complete), Timestamp::now());
        assert!(waiting.get("completionTime").is_none());
        let counts = Counts { succeeded: 1, ..Counts::default() };
        let done = status(&job, &counts, Some(&Verdict::Complete), Timestamp::now());
        assert!(done["completionTime"].is_string());
        assert_eq!(done["conditions"][1]["type"], "Complete");
    }
}
