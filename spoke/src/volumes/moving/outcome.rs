//! What a mover's result comes to for its task.

use std::time::{Duration, Instant};

use isthmus_shared::protocol::{Direction, MoverResult, Outcome, VolumeContent};
use isthmus_shared::resources::{Finding, MetadataPolicy};
use serde_json::Value;

use super::{LOOK_EVERY, Mover};
use crate::cluster::{DeleteOptions, array, name, text, uid};
use crate::findings::{Findings, finding};
use crate::task::TaskError;
use crate::volumes::admission::ENFORCE;
use crate::volumes::manifests::ordinary_user;
use crate::volumes::snapshot;

/// How long a mover may take to end once its result is there.
const END_TIMEOUT: Duration = Duration::from_secs(30);

impl Mover<'_> {
    /// A mover knows its files, and people need to know of which volume they are; and who it was,
    /// where root would have been refused nothing.
    fn of_claim(&self, job: &Value, mut finding: Finding) -> Finding {
        finding.object = format!("{}: {}", self.describe_claim(), finding.object);
        if let Some(user) = ordinary_user(job)
            && matches!(finding.reason.as_str(), "MetadataRefused" | "FileRefused")
        {
            let policy = (self.direction == Direction::Receive).then_some(self.run.spec.metadata_policy);
            finding.message.push_str(&as_ordinary_user(user, &self.volume.namespace, policy));
        }
        finding
    }

    /// What the Job came to; what it read, and nobody else needs, goes.
    pub(super) async fn finish(&self, job: &Value, result: &str) -> Result<Outcome, TaskError> {
        if self.reading.is_snapshot() {
            self.free_claim(job).await?;
            snapshot::release(self.context, self.run, &self.volume.namespace).await;
        }
        if let Some(setback) = &self.reading.setback {
            snapshot::warn_of_setback(self.context, self.describe_claim(), setback);
        }
        self.outcome(job, result)
    }

    /// Removes the Pods of an ended Job: a claim cannot go as long as one is there that used it. Job and
    /// result stay for a spoke that starts anew; those of a mover that does not end are the cleanup's.
    async fn free_claim(&self, job: &Value) -> Result<(), TaskError> {
        let deadline = Instant::now() + END_TIMEOUT;
        while Instant::now() < deadline {
            let Some(now) = self.find_job().await? else { return Ok(()) };
            let ended =
                |c: &Value| matches!(text(c, "/type"), "Complete" | "Failed") && text(c, "/status") == "True";
            if array(&now, "/status/conditions").iter().any(ended) {
                for pod in self.pods(job).await? {
                    let path = format!("/api/v1/namespaces/{}/pods/{}", self.volume.namespace, name(&pod));
                    let options = DeleteOptions { uid: Some(uid(&pod).to_owned()), foreground: false };
                    let deleted = self.context.cluster().delete(&path, &options).await;
                    deleted.map_err(self.failed("removing its Pods"))?;
                }
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    fn outcome(&self, job: &Value, result: &str) -> Result<Outcome, TaskError> {
        let result: MoverResult = serde_json::from_str(result).map_err(|error| {
            let message = format!("the mover's result cannot be read ({error}): check that --mover-image has the spoke's version");
            TaskError::failed(self.describe_job(), "UnsoundResult", message)
        })?;
        self.context.progress(|progress| *progress = result.progress.clone());
        let unlisted = result.warnings_total.saturating_sub(result.warnings.len() as u64);
        for warning in result.warnings {
            self.context.warn(self.of_claim(job, warning));
        }
        if unlisted > 0 {
            self.context.log(format!("{unlisted} more warnings of {}", self.describe_claim()));
            self.context.count_warnings(unlisted);
        }
        if !result.succeeded {
            let mut failures = Findings::default();
            failures.extend(result.failures.into_iter().map(|failure| self.of_claim(job, failure)));
            if failures.is_empty() {
                let message =
                    "the mover gave up without a reason: look at the migration's log, then run again";
                failures.push(finding(self.describe_claim(), "MoverFailed", message));
            }
            failures.total = failures.total.max(result.failures_total);
            return Err(TaskError::Failed(failures));
        }
        let progress = &result.progress;
        self.context.log(format!(
            "{}: {} files, {} bytes, {} bytes through staging",
            self.describe_claim(),
            progress.files_done,
            progress.bytes_done,
            progress.bytes_uploaded
        ));
        if self.direction == Direction::Send
            && self.content == VolumeContent::Filesystem
            && !self.run.spec.mover.privileged_attributes
        {
            self.context.log(format!(
                "{}: trusted.* attributes, if it has any, were not seen, as spec.mover.privilegedAttributes is not set",
                self.describe_claim()
            ));
        }
        Ok(Outcome::VolumeMoved {
            bytes: progress.bytes_done,
            bytes_uploaded: progress.bytes_uploaded,
            files: progress.files_done,
            verified: result.verified,
            method: (self.direction == Direction::Send).then(|| self.reading.to_string()),
        })
    }
}

/// What would let the mover do it; `policy` is the run's, on the side where one counts.
fn as_ordinary_user(user: &str, namespace: &str, policy: Option<MetadataPolicy>) -> String {
    let otherwise = match policy {
        Some(MetadataPolicy::Strict) => {
            ", or set metadataPolicy to BestEffort, with which owners that cannot be set are warnings"
        }
        Some(MetadataPolicy::BestEffort) | None => "",
    };
    format!(
        " (the mover ran as user {user}, as namespace {namespace} lets no root in: label it {ENFORCE}=baseline for the \
         time of the move{otherwise})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_recommended_only_where_it_would_change_something() {
        let of = |policy| as_ordinary_user("1000", "cms", policy);
        assert!(of(Some(MetadataPolicy::Strict)).contains("metadataPolicy"));
        assert!(!of(Some(MetadataPolicy::BestEffort)).contains("metadataPolicy"), "it is set already");
        assert!(!of(None).contains("metadataPolicy"), "it lets no sender read a file");
        assert!(of(None).contains("=baseline"));
    }
}
