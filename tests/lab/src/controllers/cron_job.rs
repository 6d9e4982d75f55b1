//! CronJob: makes a Job when its time has come, unless it is suspended, and tidies up old ones.

use std::sync::Arc;
use std::time::Duration;

use croner::Cron;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::cache::{Cache, Topic};
use super::job::{finished, until};
use super::{Again, Context, Controller, Error, Settled, deleting, full_name, namespace_of, owner};

/// As kube-controller-manager's.
const KEPT_SUCCESSFUL: i32 = 3;
const KEPT_FAILED: i32 = 1;

pub(super) struct CronJobs(pub Context);

impl Controller for CronJobs {
    type Object = CronJob;
    const TOPICS: &'static [Topic] = &[Topic::CronJobs, Topic::Jobs];

    fn objects(&self, cache: &Cache) -> Vec<Arc<CronJob>> {
        cache.cron_jobs.state_filter(|cron| !deleting(cron))
    }

    async fn reconcile(&self, cron: &CronJob) -> Result<Again, Error> {
        let Some(spec) = &cron.spec else { return Ok(None) };
        let uid = cron.uid().unwrap_or_default();
        let jobs = self.0.cache.jobs.state_filter(|job| owner::controls(&uid, job));
        let active: Vec<_> = jobs.iter().filter(|job| finished(job).is_none()).collect();
        self.tidy(spec, &jobs).await?;
        let mut last =
            cron.status.as_ref().and_then(|status| status.last_schedule_time.as_ref()).map(|time| time.0);
        let mut again = None;
        if spec.suspend != Some(true) {
            let now = Timestamp::now();
            let since = last.max(cron.creation_timestamp().map(|time| time.0)).unwrap_or(now);
            let (due, next) = due(cron, spec, since, now)?;
            again = next.map(|next| until(next, now) + Duration::from_millis(1));
            if let Some(due) = due {
                match spec.concurrency_policy.as_deref() {
                    Some("Forbid") if !active.is_empty() => {}
                    policy => {
                        for job in active.iter().filter(|_| policy == Some("Replace")) {
                            self.delete(job).await?;
                        }
                        self.create(cron, spec, due).await?;
                        last = Some(due);
                    }
                }
            }
        }
        self.report(cron, &active, last).await?;
        Ok(again)
    }
}

/// The latest time that has come since `since`, and the next one after `now`.
fn due(
    cron: &CronJob,
    spec: &CronJobSpec,
    since: Timestamp,
    now: Timestamp,
) -> Result<(Option<Timestamp>, Option<Timestamp>), Error> {
    let problem = |problem: String| Error::Object { object: full_name(cron), problem };
    let zone = match spec.time_zone.as_deref() {
        Some(name) => TimeZone::get(name).map_err(|error| problem(error.to_string()))?,
        None => TimeZone::UTC,
    };
    let schedule: Cron = spec.schedule.parse().map_err(|error| problem(format!("schedule: {error}")))?;
    let now_there = now.to_zoned(zone.clone());
    let next = schedule.find_next_occurrence(&now_there, false).ok().map(|next| next.timestamp());
    let latest = schedule.find_previous_occurrence(&now_there, true).ok().map(|latest| latest.timestamp());
    let late = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    let due = latest
        .filter(|latest| *latest > since && late.is_none_or(|late| now.duration_since(*latest) <= late));
    Ok((due, next))
}

impl CronJobs {
    async fn create(&self, cron: &CronJob, spec: &CronJobSpec, due: Timestamp) -> Result<(), Error> {
        let template = spec.job_template.metadata.clone().unwrap_or_default();
        let mut annotations = template.annotations.unwrap_or_default();
        let at = due.strftime("%FT%TZ").to_string();
        annotations.insert("batch.kubernetes.io/cronjob-scheduled-timestamp".to_owned(), at);
        let job = Job {
            metadata: ObjectMeta {
                // The minute in the name lets a time be served once only.
                name: Some(format!("{}-{}", cron.name_any(), due.as_second() / 60)),
                namespace: cron.namespace(),
                labels: template.labels,
                annotations: Some(annotations),
                owner_references: Some(vec![owner::controller_of(cron)]),
                ..ObjectMeta::default()
            },
            spec: spec.job_template.spec.clone(),
            status: None,
        };
        let api = Api::<Job>::namespaced(self.0.client.clone(), &namespace_of(cron));
        api.create(&PostParams::default(), &job).await.settled("creating", &job).map(|_| ())
    }

    async fn tidy(&self, spec: &CronJobSpec, jobs: &[Arc<Job>]) -> Result<(), Error> {
        for (complete, kept) in [
            (true, spec.successful_jobs_history_limit.unwrap_or(KEPT_SUCCESSFUL)),
            (false, spec.failed_jobs_history_limit.unwrap_or(KEPT_FAILED)),
        ] {
            let mut ended: Vec<_> = jobs
                .iter()
                .filter(|job| !deleting(&***job))
                .filter_map(|job| Some((finished(job).filter(|end| end.complete == complete)?.at, job)))
                .collect();
            ended.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
            for (_, job) in ended.into_iter().skip(usize::try_from(kept).unwrap_or_default()) {
                self.delete(job).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, job: &Job) -> Result<(), Error> {
        Api::<Job>::namespaced(self.0.client.clone(), &namespace_of(job))
            .delete(&job.name_any(), &DeleteParams::background())
            .await
            .settled("deleting", job)
            .map(|_| ())
    }

    async fn report(
        &self,
        cron: &CronJob,
        active: &[&Arc<Job>],
        last: Option<Timestamp>,
    ) -> Result<(), Error> {
        let status = cron.status.clone().unwrap_or_default();
        let mut names: Vec<String> = active.iter().map(|job| job.name_any()).collect();
        let mut shown: Vec<String> =
            status.active.iter().flatten().filter_map(|active| active.name.clone()).collect();
        names.sort();
        shown.sort();
        let last = last.map(|last| last.strftime("%FT%TZ").to_string());
        let last_shown = status.last_schedule_time.map(|time| time.0.strftime("%FT%TZ").to_string());
        if names == shown && last == last_shown {
            return Ok(());
        }
        let references: Vec<_> = active
            .iter()
            .map(|job| {
                json!({"apiVersion": "batch/v1", "kind": "Job", "namespace": job.namespace(),
                    "name": job.name_any(), "uid": job.uid()})
            })
            .collect();
        let patch = json!({"status": {"active": references, "lastScheduleTime": last}});
        Api::<CronJob>::namespaced(self.0.client.clone(), &namespace_of(cron))
            .patch_status(&cron.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .settled("writing the status of", cron)
            .map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron(schedule: &str, zone: Option<&str>) -> CronJob {
        serde_json::from_value(
            json!({"metadata": {"name": "c"}, "spec": {"schedule": schedule, "timeZone": zone,
            "jobTemplate": {"spec": {"template": {"spec": {"containers": []}}}}}}),
        )
        .unwrap()
    }

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    #[test]
    fn a_time_that_has_come_is_due_once() {
        let cron = cron("*/15 * * * *", None);
        let spec = cron.spec.clone().unwrap();
        let (came, next) = due(&cron, &spec, at("2026-01-01T10:01:00Z"), at("2026-01-01T10:16:00Z")).unwrap();
        assert_eq!(came, Some(at("2026-01-01T10:15:00Z")));
        assert_eq!(next, Some(at("2026-01-01T10:30:00Z")));
        let (came, _) = due(&cron, &spec, at("2026-01-01T10:15:00Z"), at("2026-01-01T10:16:00Z")).unwrap();
        assert_eq!(came, None);
    }
}
