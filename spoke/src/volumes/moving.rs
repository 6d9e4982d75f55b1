//! One volume: its Job, watched until its result is there.
//!
//! What happens is read from the cluster each time round, so it does not matter how often the
//! spoke starts anew: the Job is found by its name, its attempt is written on it, and so is the
//! mover's result.
//!
//! ```text
//!   move_volume   the loop, and the session that the mover may open
//!    ├─ job       the Job: made, looked at
//!    ├─ attempts  what becomes of one that came to nothing
//!    └─ outcome   what its result comes to
//! ```

mod attempts;
mod job;
mod outcome;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use isthmus_shared::protocol::{Direction, MoverGrant, Outcome, Run, VolumeContent, VolumeTask};
use isthmus_shared::resources::{TASK, VerifyMethod};
use isthmus_shared::staging::sts::StsError;
use isthmus_shared::staging::{ArchiveError, VolumeUid};
use serde_json::Value;

use super::access::{Renewal, scoped_access};
use super::lineage;
use super::manifests::{self, RESULT};
use super::nodes::FRESH;
use super::recovery;
use super::snapshot::{self, Reading};
use super::trouble::{Trouble, UNSCHEDULABLE};
use crate::cluster::{ClusterError, annotation, text, uid};
use crate::findings::finding;
use crate::task::{TaskContext, TaskError};

/// How often a Job is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What keeps a mover from running for longer than this is said to hold up the volume.
const STARTING: Duration = Duration::from_secs(20);
/// Seconds without anything new from the other side after which a receiver gives up, beside those that
/// the sender may wait for a snapshot.
const PEER_TIMEOUT_SECONDS: u64 = 900;

/// Sends or receives a volume.
pub async fn move_volume(
    context: &TaskContext,
    run: &Run,
    volume: &VolumeTask,
    direction: Direction,
) -> Result<Outcome, TaskError> {
    // A receiver runs where the claim is on its own side.
    let chosen = run.spec.choice_of(&volume.namespace, &volume.claim);
    let verify = chosen.and_then(|choice| choice.verify).unwrap_or(run.spec.verify);
    let mut volume = volume.clone();
    if direction == Direction::Receive {
        volume.claim = run.claim_on_destination(&volume.namespace, &volume.claim).to_owned();
        volume.namespace = run.destination_of(&volume.namespace).to_owned();
    }
    if volume.recover {
        volume.previous_pass = recovery::prepare(context, run, &volume).await?;
    }
    let reading = Reading::live(&volume.claim, false);
    let content = VolumeContent::default();
    let previous = volume.previous_pass;
    let own = String::new();
    let mut mover =
        Mover { context, run, volume: &volume, direction, content, reading, verify, own, previous };
    mover.prepare().await?;
    let mut renewal = mover.open_session().await?;
    let mut watched = Watched::default();
    loop {
        if renewal.is_due() {
            renewal = mover.renew_session().await;
        }
        let job = mover.find_job().await?;
        match job {
            None => mover.make(1).await?,
            Some(job) if annotation(&job, TASK) != Some(&context.id.to_string()) => {
                let message = "a Job of this name serves another task: delete it, then run again";
                return Err(TaskError::failed(mover.describe_job(), "JobTaken", message));
            }
            Some(job) => {
                if let Some(result) = annotation(&job, RESULT) {
                    mover.let_go(&job).await?;
                    return Box::pin(mover.finish(&job, result)).await;
                }
                if text(&job, "/metadata/deletionTimestamp").is_empty() {
                    if let Some(trouble) = mover.look(&job, &mut watched).await? {
                        renewal = match Box::pin(mover.fall_back(&job, &trouble)).await? {
                            Some(renewal) => renewal,
                            None => mover.try_again(&job, &trouble).await?,
                        };
                        watched = Watched::default();
                    }
                } else {
                    context.doing("waiting for the Job of the last attempt to go");
                }
            }
        }
        if let Some(latest) = context.spoke.sessions.latest(&context.id) {
            context.progress(|progress| *progress = latest);
        }
        // What the last mover has said is old while the next one waits.
        if let Some(waits) = &watched.waits {
            context.progress(|progress| {
                progress.message = Some(waits.clone());
                progress.stalled = watched.is_long().then(|| waits.clone());
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Since when a mover is kept from running, by how long that may last: an image that cannot be
/// pulled shows as one reason and another by turns, and is the same trouble all the time.
#[derive(Default)]
struct Watched {
    since: HashMap<Duration, Instant>,
    /// What keeps it from running now.
    waits: Option<String>,
    /// When it was last asked where it should be.
    placed: Option<Instant>,
}

impl Watched {
    /// Whether it has lasted longer than Pods take to start.
    fn is_long(&self) -> bool {
        self.since.values().any(|since| since.elapsed() >= STARTING)
    }

    /// Whether it is time to ask where the mover should be, as no node takes it: what is known of the
    /// nodes is new each time.
    fn is_to_be_placed(&mut self, trouble: &Trouble) -> bool {
        if trouble.reason != UNSCHEDULABLE {
            return false;
        }
        let due = self.placed.get_or_insert_with(Instant::now).elapsed() > FRESH;
        if due {
            self.placed = Some(Instant::now());
        }
        due
    }

    fn is_over(&mut self, trouble: &Trouble) -> bool {
        self.since.entry(trouble.patience).or_insert_with(Instant::now).elapsed() > trouble.patience
    }
}

/// A task's mover.
struct Mover<'a> {
    context: &'a TaskContext,
    run: &'a Run,
    /// With the namespace as this side has it.
    volume: &'a VolumeTask,
    direction: Direction,
    content: VolumeContent,
    /// What it mounts.
    reading: Reading,
    /// How the arrival is made sure of.
    verify: VerifyMethod,
    /// The claim's own uid: the volume in staging may have begun with another's.
    own: String,
    /// The earlier pass that this side may go by.
    previous: Option<u32>,
}

impl Mover<'_> {
    /// Looks at the claim, and makes ready what a sender is to read; one whose Job is there goes on with
    /// what that reads.
    async fn prepare(&mut self) -> Result<(), TaskError> {
        let claim = self.claim().await?;
        self.content = content_of(&claim);
        uid(&claim).clone_into(&mut self.own);
        if self.direction == Direction::Receive {
            let area = self.context.staging(self.run)?;
            self.previous = lineage::note_receiving(&area, &claim, self.volume).await?;
        }
        let job = self.find_job().await?;
        let own = job.filter(|job| annotation(job, TASK) == Some(&self.context.id.to_string()));
        if let Some(job) = own {
            self.reading = Reading::of_job(&job, &self.volume.claim);
        } else if self.direction == Direction::Send && self.volume.quiesced {
            self.reading = snapshot::still(self.context, &claim).await?;
        } else if self.direction == Direction::Send {
            self.reading = Box::pin(snapshot::prepare(self.context, self.run, &claim)).await?;
        }
        Ok(())
    }

    /// Lets the task's mover call in.
    async fn open_session(&self) -> Result<Renewal, TaskError> {
        let grant = self.grant().await?;
        let renewal = Renewal::of(grant.access_expires);
        self.context.spoke.sessions.open(&self.context.id, grant);
        Ok(renewal)
    }

    /// As `open_session`, for movers that may never come: the one that runs needs nothing new.
    async fn renew_session(&self) -> Renewal {
        match self.open_session().await {
            Ok(renewal) => renewal,
            Err(error) => {
                self.context.log(format!("{}: {error}", self.describe_claim()));
                Renewal::in_a_while()
            }
        }
    }

    async fn grant(&self) -> Result<MoverGrant, TaskError> {
        let area = self.context.staging(self.run)?;
        let volume = VolumeUid::new(self.volume.uid.as_str()).map_err(ArchiveError::from)?;
        let key = area
            .key
            .volume_key(&volume)
            .map_err(|source| ArchiveError::Seal { archive: format!("volume {volume}"), source })?;
        let (access, access_expires) =
            scoped_access(&self.run.staging.access, &area.pair, &volume, self.direction, self.volume.pass)
                .await
                .map_err(|error| self.no_access(&error))?;
        Ok(MoverGrant {
            direction: self.direction,
            pair: self.run.staging.pair.clone(),
            volume: self.volume.uid.clone(),
            pass: self.volume.pass,
            previous_pass: self.previous,
            recover: self.volume.recover,
            claim: Some(self.own.clone()),
            key: key.to_base64(),
            access,
            access_expires,
            metadata_policy: self.run.spec.metadata_policy,
            verify: self.verify,
            content: self.content,
            still: self.reading.still,
            privileged_attributes: self.run.spec.mover.privileged_attributes,
            exclude_paths: self.run.spec.exclude_paths.clone(),
            bandwidth_limit: self.volume.bandwidth_limit,
            parallel_files: self.run.spec.parallel_files,
            peer_timeout_seconds: PEER_TIMEOUT_SECONDS
                + snapshot::longest_wait(self.run.spec.method).as_secs(),
        })
    }

    fn no_access(&self, error: &StsError) -> TaskError {
        let finding = finding(self.describe_claim(), error.reason(), error.to_string());
        if error.is_retryable() { TaskError::Transient(finding) } else { TaskError::Failed(finding.into()) }
    }

    /// The claim as it is now.
    async fn claim(&self) -> Result<Value, TaskError> {
        self.read_claim(&self.volume.claim).await
    }

    /// The claim that the mover mounts, which may be one from a snapshot.
    async fn mounted(&self) -> Result<Value, TaskError> {
        self.read_claim(&self.reading.claim).await
    }

    async fn read_claim(&self, claim: &str) -> Result<Value, TaskError> {
        let namespace = &self.volume.namespace;
        let object = || format!("PersistentVolumeClaim {namespace}/{claim}");
        let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}");
        let found = self.context.cluster().find(&path).await;
        found.map_err(|e| TaskError::cluster(object(), "reading it", &e))?.ok_or_else(|| {
            let message = "it is gone: it was there at the start of the run; run again";
            TaskError::failed(object(), "ClaimNotFound", message)
        })
    }

    fn describe_claim(&self) -> String {
        format!("PersistentVolumeClaim {}/{}", self.volume.namespace, self.volume.claim)
    }

    fn job_name(&self) -> String {
        manifests::job_name(&self.context.id, self.direction)
    }

    fn describe_job(&self) -> String {
        format!("Job {}/{}", self.volume.namespace, self.job_name())
    }

    fn jobs(&self) -> String {
        format!("/apis/batch/v1/namespaces/{}/jobs", self.volume.namespace)
    }

    fn failed(&self, doing: &str) -> impl Fn(ClusterError) -> TaskError {
        let (job, doing) = (self.describe_job(), doing.to_owned());
        move |error| TaskError::cluster(&job, &doing, &error)
    }
}

/// What a claim's volume holds.
fn content_of(claim: &Value) -> VolumeContent {
    match text(claim, "/spec/volumeMode") {
        "Block" => VolumeContent::Block,
        _ => VolumeContent::Filesystem,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_says_whether_it_is_a_filesystem_or_raw_blocks() {
        assert_eq!(content_of(&json!({"spec": {}})), VolumeContent::Filesystem);
        assert_eq!(content_of(&json!({"spec": {"volumeMode": "Filesystem"}})), VolumeContent::Filesystem);
        assert_eq!(content_of(&json!({"spec": {"volumeMode": "Block"}})), VolumeContent::Block);
    }

    #[test]
    fn a_trouble_that_shows_as_two_reasons_by_turns_has_one_clock() {
        let trouble = |reason: &str| Trouble {
            reason: reason.to_owned(),
            detail: String::new(),
            patience: Duration::from_mins(2),
            exit_code: None,
        };
        let mut watched = Watched::default();
        assert!(!watched.is_over(&trouble("ErrImagePull")));
        let began = Instant::now().checked_sub(Duration::from_mins(3)).unwrap();
        watched.since.insert(Duration::from_mins(2), began);
        assert!(watched.is_over(&trouble("ImagePullBackOff")));
    }

    #[test]
    fn where_a_mover_should_be_is_asked_now_and_then_while_no_node_takes_it() {
        let trouble = |reason: &str| Trouble {
            reason: reason.to_owned(),
            detail: String::new(),
            patience: Duration::from_mins(5),
            exit_code: None,
        };
        let mut watched = Watched::default();
        assert!(!watched.is_to_be_placed(&trouble(UNSCHEDULABLE)), "the scheduler is only beginning");
        watched.placed = Instant::now().checked_sub(FRESH * 2);
        assert!(!watched.is_to_be_placed(&trouble("ImagePullBackOff")));
        assert!(watched.is_to_be_placed(&trouble(UNSCHEDULABLE)));
        assert!(!watched.is_to_be_placed(&trouble(UNSCHEDULABLE)), "not each time it is looked at");
    }
}
