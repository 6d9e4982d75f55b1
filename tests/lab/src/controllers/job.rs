//! Job: runs pods to completion, counts them, and says how it ended.
//!
//! [`outcome`] decides, from the job and its pods; this loop acts. A failed pod is replaced after a
//! pause that is shorter than kube-controller-manager's, and pods carry no tracking finalizer.

mod outcome;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::cache::{Cache, Topic};
use super::{Again, Context, Controller, Error, Settled, deleting, namespace_of, owner, pods};
pub(super) use outcome::finished;
use outcome::{Counts, Verdict};

/// The pause before the first replacement of a failed pod, doubled with each failure up to the limit.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(10);

pub(super) struct Jobs(pub Context);

impl Controller for Jobs {
    type Object = Job;
    const TOPICS: &'static [Topic] = &[Topic::Jobs, Topic::Pods];

    fn objects(&self, cache: &Cache) -> Vec<Arc<Job>> {
        cache.jobs.state_filter(|job| !deleting(job))
    }

    async fn reconcile(&self, job: &Job) -> Result<Again, Error> {
        let Some(spec) = &job.spec else { return Ok(None) };
        if let Some(ended) = finished(job) {
            return self.expire(job, spec, ended.at).await;
        }
        let namespace = namespace_of(job);
        let seen = self.0.cache.controlled_pods(&namespace, &job.uid().unwrap_or_default());
        let mut counts = Counts::of(job, seen.iter().map(|pod| &**pod));
        let now = Timestamp::now();
        if spec.suspend == Some(true) {
            for pod in seen.iter().filter(|pod| pods::active(pod)) {
                pods::delete(&self.0.client, pod).await?;
            }
            return self.report(job, &counts, None, now).await.map(|()| None);
        }
        let verdict = outcome::verdict(job, spec, &counts, now);
        if verdict.is_some() {
            for pod in seen.iter().filter(|pod| pods::active(pod)) {
                pods::delete(&self.0.client, pod).await?;
            }
            return self.report(job, &counts, verdict.as_ref(), now).await.map(|()| None);
        }
        let mut again = outcome::deadline(job, spec).map(|deadline| until(deadline, now));
        if counts.active < outcome::wanted(spec, &counts) {
            let pause =
                LAST_PAUSE.min(FIRST_PAUSE * 2_u32.saturating_pow((counts.failed.max(1) - 1).min(10)));
            let due = counts.last_failure.and_then(|failed| failed.checked_add(pause).ok());
            let wait = due.map(|due| until(due, now)).filter(|wait| counts.failed > 0 && !wait.is_zero());
            if let Some(wait) = wait {
                again = Some(again.map_or(wait, |again| again.min(wait)));
            } else {
                let live = pods::list_controlled(&self.0.client, job).await?;
                counts = Counts::of(job, live.iter());
                if outcome::verdict(job, spec, &counts, now).is_none() {
                    self.create(job, spec, &namespace, &live, &mut counts).await?;
                }
            }
        }
        self.report(job, &counts, None, now).await?;
        Ok(again)
    }
}

/// How long it is until then; zero when it has passed.
pub(super) fn until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}

impl Jobs {
    async fn create(
        &self,
        job: &Job,
        spec: &JobSpec,
        namespace: &str,
        live: &[Pod],
        counts: &mut Counts,
    ) -> Result<(), Error> {
        let indexed = spec.completion_mode.as_deref() == Some("Indexed");
        let mut taken: Vec<String> = live
            .iter()
            .filter(|pod| pods::active(pod) || pods::phase(pod) == "Succeeded")
            .filter_map(|pod| pod.annotations().get(outcome::INDEX).cloned())
            .collect();
        while counts.active < outcome::wanted(spec, counts) {
            let mut pod = pods::from_template(&spec.template, namespace, owner::controller_of(job));
            let uid = job.uid().unwrap_or_default();
            pod.labels_mut().extend([
                ("batch.kubernetes.io/job-name".to_owned(), job.name_any()),
                ("job-name".to_owned(), job.name_any()),
                ("batch.kubernetes.io/controller-uid".to_owned(), uid.clone()),
                ("controller-uid".to_owned(), uid),
            ]);
            pod.metadata.generate_name = Some(format!("{}-", job.name_any()));
            if indexed {
                let free = (0..spec.completions.unwrap_or(1)).map(|index| index.to_string());
                let Some(index) = free.into_iter().find(|index| !taken.contains(index)) else {
                    return Ok(());
                };
                pod.annotations_mut().insert(outcome::INDEX.to_owned(), index.clone());
                pod.labels_mut().insert(outcome::INDEX.to_owned(), index.clone());
                pod.metadata.generate_name = Some(format!("{}-{index}-", job.name_any()));
                taken.push(index);
            }
            pods::create(&self.0.client, &pod).await?;
            counts.active += 1;
        }
        Ok(())
    }

    async fn report(
        &self,
        job: &Job,
        counts: &Counts,
        verdict: Option<&Verdict>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let status = outcome::status(job, counts, verdict, now);
        let before = serde_json::to_value(&job.status).unwrap_or(Value::Null);
        if is_within(&status, &before) {
            return Ok(());
        }
        Api::<Job>::namespaced(self.0.client.clone(), &namespace_of(job))
            .patch_status(&job.name_any(), &PatchParams::default(), &Patch::Merge(&json!({"status": status})))
            .await
            .settled("writing the status of", job)
            .map(|_| ())
    }

    /// Removes a finished job once its time to live is over.
    async fn expire(&self, job: &Job, spec: &JobSpec, ended: Timestamp) -> Result<Again, Error> {
        let Some(ttl) = spec.ttl_seconds_after_finished else { return Ok(None) };
        let ttl = Duration::from_secs(u64::try_from(ttl).unwrap_or_default());
        let wait = until(ended.checked_add(ttl).unwrap_or(ended), Timestamp::now());
        if !wait.is_zero() {
            return Ok(Some(wait));
        }
        let this = Preconditions { uid: job.uid(), resource_version: None };
        Api::<Job>::namespaced(self.0.client.clone(), &namespace_of(job))
            .delete(&job.name_any(), &DeleteParams::background().preconditions(this))
            .await
            .settled("deleting the expired", job)?;
        Ok(None)
    }
}

/// Whether a merge patch would change nothing; zero and nothing are the same to a count.
fn is_within(patch: &Value, of: &Value) -> bool {
    match (patch, of) {
        (Value::Object(patch), of) => {
            patch.iter().all(|(key, value)| is_within(value, of.get(key).unwrap_or(&Value::Null)))
        }
        (Value::Number(number), Value::Null) => number.as_i64() == Some(0),
        (patch, of) => patch == of,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_that_says_nothing_new_is_not_written() {
        let before = json!({"active": 1, "startTime": "t"});
        assert!(is_within(&json!({"active": 1, "failed": 0}), &before));
        assert!(!is_within(&json!({"active": 0}), &before));
    }
}
