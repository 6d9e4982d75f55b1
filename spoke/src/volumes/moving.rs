//! One volume: its Job, watched until its result is there.
//!
//! What happens is read from the cluster each time round, so it does not matter how often the
//! spoke starts anew: the Job is found by its name, its attempt is written on it, and so is the
//! mover's result.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use isthmus_shared::protocol::{Direction, MoverGrant, MoverResult, Outcome, Run, VolumeContent, VolumeTask};
use isthmus_shared::resources::{Finding, TASK};
use isthmus_shared::staging::sts::StsError;
use isthmus_shared::staging::{ArchiveError, StoreAccess, VolumeUid};
use jiff::Timestamp;
use serde_json::Value;

use super::access::{Renewal, scoped_access};
use super::manifests::{self, MoverJob, Peer, RESULT};
use super::placement::{node_of, pods_of_claims};
use super::trouble::{Trouble, job_trouble, pod_trouble};
use crate::cluster::{ClusterError, DeleteOptions, PatchKind, annotation, array, escape, name, text, uid};
use crate::findings::{Findings, finding};
use crate::mover::MAY_RESTART;
use crate::task::{TaskContext, TaskError};

/// How often a Job is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Jobs that are made for one task, one after the other.
const MAX_ATTEMPTS: u32 = 3;
/// Seconds without anything new from the other side after which a receiver gives up.
const PEER_TIMEOUT_SECONDS: u64 = 900;
/// Lines of a failed mover's log that a message repeats.
const LOG_LINES: usize = 5;
/// Pods of a Job that are looked at.
const MAX_PODS: usize = 20;

/// Sends or receives a volume.
pub async fn move_volume(
    context: &TaskContext,
    run: &Run,
    volume: &VolumeTask,
    direction: Direction,
) -> Result<Outcome, TaskError> {
    // A receiver runs where the claim is on its own side.
    let mut volume = volume.clone();
    if direction == Direction::Receive {
        volume.namespace = run.destination_of(&volume.namespace).to_owned();
    }
    let mover = Mover { context, run, volume: &volume, direction };
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
                    return mover.finish(result);
                }
                if text(&job, "/metadata/deletionTimestamp").is_empty() {
                    if let Some(trouble) = mover.look(&job, &mut watched).await? {
                        renewal = mover.try_again(&job, &trouble).await?;
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
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Since when a mover is kept from running, by how long that may last: an image that cannot be
/// pulled shows as one reason and another by turns, and is the same trouble all the time.
#[derive(Default)]
struct Watched(HashMap<Duration, Instant>);

impl Watched {
    fn is_over(&mut self, trouble: &Trouble) -> bool {
        self.0.entry(trouble.patience).or_insert_with(Instant::now).elapsed() > trouble.patience
    }
}

struct Mover<'a> {
    context: &'a TaskContext,
    run: &'a Run,
    volume: &'a VolumeTask,
    direction: Direction,
}

impl Mover<'_> {
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
            previous_pass: self.volume.previous_pass,
            key: key.to_base64(),
            access,
            access_expires,
            metadata_policy: self.run.spec.metadata_policy,
            verify: self.run.spec.verify,
            content: VolumeContent::Filesystem,
            still: false,
            exclude_paths: self.run.spec.exclude_paths.clone(),
            bandwidth_limit: self.volume.bandwidth_limit,
            parallel_files: self.run.spec.parallel_files,
            peer_timeout_seconds: PEER_TIMEOUT_SECONDS,
        })
    }

    fn no_access(&self, error: &StsError) -> TaskError {
        let finding = finding(self.describe_claim(), error.reason(), error.to_string());
        if error.is_retryable() { TaskError::Transient(finding) } else { TaskError::Failed(finding.into()) }
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

    async fn find_job(&self) -> Result<Option<Value>, TaskError> {
        let path = format!("{}/{}", self.jobs(), self.job_name());
        self.context.cluster().find(&path).await.map_err(self.failed("reading it"))
    }

    /// Makes the Job, and before it what it needs.
    async fn make(&self, attempt: u32) -> Result<(), TaskError> {
        let namespace = &self.volume.namespace;
        let cluster = self.context.cluster();
        let movers = &self.context.spoke.movers;
        let claim_path =
            format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{}", self.volume.claim);
        let claim = cluster
            .find(&claim_path)
            .await
            .map_err(|e| TaskError::cluster(self.describe_claim(), "reading it", &e))?
            .ok_or_else(|| {
                let message = "it is gone: it was there at the start of the run; run again";
                TaskError::failed(self.describe_claim(), "ClaimNotFound", message)
            })?;
        let node = if self.direction == Direction::Send {
            let pods = pods_of_claims(cluster, namespace, &self.volume.claim)
                .await
                .map_err(self.failed("looking for the Pods that use the claim"))?;
            node_of(&claim, &pods)
        } else {
            None
        };
        let peers =
            [peer_of(&movers.endpoint, &[movers.port]), peer_of(&self.run.staging.access.endpoint, &[])];
        let apply = PatchKind::Apply { force: true, dry_run: false };
        let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{}", manifests::MOVER);
        cluster
            .patch(&account, &manifests::service_account(namespace), apply)
            .await
            .map_err(self.failed("making the mover's service account"))?;
        let policy =
            format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/{}", manifests::MOVER);
        cluster
            .patch(&policy, &manifests::network_policy(namespace, &peers), apply)
            .await
            .map_err(self.failed("making the mover's network policy"))?;
        let job = manifests::mover_job(&MoverJob {
            namespace,
            claim: &self.volume.claim,
            direction: self.direction,
            task: &self.context.id,
            migration: &self.run.migration,
            attempt,
            image: &movers.image,
            spoke_url: &movers.endpoint,
            spoke_ca: &movers.ca,
            node: node.as_deref(),
        });
        match cluster.create(&self.jobs(), &job).await {
            Ok(_) => {
                let place = node.map(|node| format!(" on node {node}")).unwrap_or_default();
                self.context.log(format!(
                    "{} made for {} (attempt {attempt} of {MAX_ATTEMPTS}){place}",
                    self.describe_job(),
                    self.describe_claim()
                ));
                Ok(())
            }
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => Err(self.failed("making it")(error)),
        }
    }

    /// Looks at Job and Pods. What is in the way is said, and returned once its patience is over.
    async fn look(&self, job: &Value, watched: &mut Watched) -> Result<Option<Trouble>, TaskError> {
        let pods = self.pods(job).await?;
        let condition = |kind: &str| {
            array(job, "/status/conditions")
                .iter()
                .find(|c| text(c, "/type") == kind && text(c, "/status") == "True")
        };
        if let Some(failed) = condition("Failed") {
            let of_pod = pods.iter().find_map(pod_trouble);
            return Ok(Some(of_pod.unwrap_or_else(|| Trouble {
                reason: text(failed, "/reason").to_owned(),
                detail: text(failed, "/message").to_owned(),
                patience: Duration::ZERO,
                exit_code: None,
            })));
        }
        if condition("Complete").is_some() {
            // The result is written before the mover ends; read once more what may be newer.
            let again = self.find_job().await?;
            return Ok(again.is_some_and(|job| annotation(&job, RESULT).is_none()).then(|| Trouble {
                reason: "NoResult".to_owned(),
                detail: "the mover ended without a result".to_owned(),
                patience: Duration::ZERO,
                exit_code: None,
            }));
        }
        let trouble =
            job_trouble(self.context.cluster(), job, &pods).await.map_err(self.failed("reading its Pods"))?;
        let Some(trouble) = trouble else {
            watched.0.clear();
            return Ok(None);
        };
        self.context.doing(format!("the mover waits: {trouble}"));
        Ok(watched.is_over(&trouble).then_some(trouble))
    }

    async fn pods(&self, job: &Value) -> Result<Vec<Value>, TaskError> {
        let path = format!("/api/v1/namespaces/{}/pods", self.volume.namespace);
        let selector = format!("batch.kubernetes.io/job-name={}", name(job));
        let query = format!("labelSelector={}", escape(&selector));
        self.context.cluster().list(&path, &query, MAX_PODS).await.map_err(self.failed("reading its Pods"))
    }

    /// Replaces a Job that came to nothing, a few times.
    async fn try_again(&self, job: &Value, trouble: &Trouble) -> Result<Renewal, TaskError> {
        let spent = used_up_its_session(&self.run.staging.access, job, trouble, Timestamp::now());
        let attempt = manifests::attempt_of(job);
        let log = self.last_lines(job).await;
        let log = if log.is_empty() { String::new() } else { format!("; its last words: {log}") };
        let how = if trouble.patience > Duration::ZERO { "did not start" } else { "did not end well" };
        let text = format!("its mover {how}: {trouble}{log}");
        self.context.log(format!("{}: {text} (attempt {attempt} of {MAX_ATTEMPTS})", self.describe_claim()));
        if (!spent && attempt >= MAX_ATTEMPTS) || trouble.patience > Duration::ZERO {
            let message = format!("{text}; {}, then run again", advice(&trouble.reason));
            return Err(TaskError::failed(self.describe_claim(), &trouble.reason, message));
        }
        // Before the old Job goes: with it would go the number of attempts.
        let renewal = self.open_session().await?;
        let path = format!("{}/{}", self.jobs(), name(job));
        let options = DeleteOptions { uid: Some(uid(job).to_owned()), foreground: true };
        self.context
            .cluster()
            .delete(&path, &options)
            .await
            .map_err(self.failed("removing it for another attempt"))?;
        while self.find_job().await?.is_some_and(|now| uid(&now) == uid(job)) {
            self.context.doing("waiting for the Job of the last attempt to go");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.make(attempt + u32::from(!spent)).await?;
        Ok(renewal)
    }

    /// The last lines of the failed Pod's log; they only explain, so no failure is one here.
    async fn last_lines(&self, job: &Value) -> String {
        let Ok(pods) = self.pods(job).await else { return String::new() };
        let Some(pod) = pods.last() else { return String::new() };
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}/log?container={}&tailLines={LOG_LINES}",
            self.volume.namespace,
            name(pod),
            manifests::CONTAINER
        );
        let log = self.context.cluster().get_text(&path).await.unwrap_or_default();
        log.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ")
    }

    /// A mover knows its files, and people need to know of which volume they are.
    fn of_claim(&self, mut finding: Finding) -> Finding {
        finding.object = format!("{}: {}", self.describe_claim(), finding.object);
        finding
    }

    fn finish(&self, result: &str) -> Result<Outcome, TaskError> {
        let result: MoverResult = serde_json::from_str(result).map_err(|error| {
            let message = format!("the mover's result cannot be read ({error}): check that --mover-image has the spoke's version");
            TaskError::failed(self.describe_job(), "UnsoundResult", message)
        })?;
        self.context.progress(|progress| *progress = result.progress.clone());
        for warning in result.warnings {
            self.context.warn(self.of_claim(warning));
        }
        let unlisted = result.warnings_total.saturating_sub(self.context.standing().warnings.total);
        if unlisted > 0 {
            self.context.log(format!("{unlisted} more warnings of {}", self.describe_claim()));
        }
        if !result.succeeded {
            let mut failures = Findings::default();
            failures.extend(result.failures.into_iter().map(|failure| self.of_claim(failure)));
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
        Ok(Outcome::VolumeMoved {
            bytes: progress.bytes_done,
            bytes_uploaded: progress.bytes_uploaded,
            files: progress.files_done,
            verified: result.verified,
            method: (self.direction == Direction::Send).then(|| "Live".to_owned()),
        })
    }
}

/// Whether a mover only came to the end of its credentials, which is no failure: the next one
/// goes on. Each such attempt lasts minutes, and the step's time bounds their number.
fn used_up_its_session(access: &StoreAccess, job: &Value, trouble: &Trouble, now: Timestamp) -> bool {
    let Some(sts) = &access.sts else { return false };
    let Ok(created) = text(job, "/metadata/creationTimestamp").parse::<Timestamp>() else { return false };
    // A grant may have lost half of its time when a mover takes it.
    trouble.exit_code == Some(i64::from(MAY_RESTART))
        && now.duration_since(created).as_secs() >= i64::from(sts.duration_seconds / 2)
}

fn advice(reason: &str) -> &'static str {
    match reason {
        "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" => {
            "give the spoke a --mover-image that this cluster's nodes can pull"
        }
        "Unschedulable" => "make room for it, or look at the node that the volume is bound to",
        "OOMKilled" => "look whether a LimitRange of the namespace lowers the mover's memory limit of 1Gi",
        "FailedMount" | "FailedAttachVolume" | "ContainerCreating" => {
            "look at the volume and its storage driver"
        }
        "FailedCreate" | "NoPod" => "look at the namespace's quota, limit ranges and admission rules",
        _ => "look at the namespace's events and the migration's log",
    }
}

fn peer_of(url: &str, more_ports: &[u16]) -> Peer {
    let Ok(url) = reqwest::Url::parse(url) else { return Peer { address: None, ports: more_ports.to_vec() } };
    let address = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse().ok());
    let mut ports: Vec<u16> =
        url.port_or_known_default().into_iter().chain(more_ports.iter().copied()).collect();
    ports.dedup();
    Peer { address, ports }
}

#[cfg(test)]
mod tests {
    use isthmus_shared::staging::StsAccess;
    use serde_json::json;

    use super::*;

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
        watched.0.insert(Duration::from_mins(2), began);
        assert!(watched.is_over(&trouble("ImagePullBackOff")));
    }

    #[test]
    fn an_attempt_that_ended_with_its_credentials_does_not_count() {
        let sts =
            StsAccess { endpoint: None, role_arn: "arn:aws:iam::1:role/r".to_owned(), duration_seconds: 900 };
        let access = StoreAccess {
            endpoint: "http://s3".to_owned(),
            region: "r".to_owned(),
            bucket: "b".to_owned(),
            prefix: None,
            path_style: true,
            ca_pem: None,
            access_key_id: "id".to_owned(),
            secret_access_key: "secret".to_owned(),
            session_token: None,
            sts: Some(sts),
        };
        let job = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}});
        let ended = |code| Trouble {
            reason: "Error".to_owned(),
            detail: String::new(),
            patience: Duration::ZERO,
            exit_code: Some(code),
        };
        let at = |minute: &str| format!("2026-01-01T00:{minute}:00Z").parse::<Timestamp>().unwrap();
        assert!(used_up_its_session(&access, &job, &ended(2), at("15")));
        assert!(!used_up_its_session(&access, &job, &ended(2), at("01")), "it did not last");
        assert!(!used_up_its_session(&access, &job, &ended(137), at("15")), "it was killed");
        let without = StoreAccess { sts: None, ..access };
        assert!(!used_up_its_session(&without, &job, &ended(2), at("15")));
    }

    #[test]
    fn the_policys_peers_are_read_from_urls() {
        let peer = peer_of("https://10.1.2.3:8444", &[8444]);
        assert_eq!(peer, Peer { address: Some("10.1.2.3".parse().unwrap()), ports: vec![8444] });
        let peer = peer_of("https://s3.example.com", &[]);
        assert_eq!(peer, Peer { address: None, ports: vec![443] });
    }
}
