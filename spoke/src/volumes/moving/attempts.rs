//! A mover that came to nothing: tried again a few times, then told with what to do.

use std::time::Duration;

use isthmus_shared::protocol::VolumeTask;
use isthmus_shared::staging::StoreAccess;
use jiff::Timestamp;
use serde_json::Value;

use super::{LOOK_EVERY, Mover};
use crate::cluster::{DeleteOptions, array, name, text, uid};
use crate::mover::MAY_RESTART;
use crate::task::TaskError;
use crate::volumes::access::Renewal;
use crate::volumes::manifests;
use crate::volumes::snapshot;
use crate::volumes::trouble::{Trouble, UNSCHEDULABLE};
use crate::volumes::users::pods_of_claims;

/// Jobs that are made for one task, one after the other, unless `retries.volumes` says otherwise.
const ATTEMPTS: u32 = 3;
/// Lines of a failed mover's log that a message repeats.
const LOG_LINES: usize = 5;
/// Troubles of a Pod that come of its volume.
const OF_VOLUMES: &[&str] = &[
    UNSCHEDULABLE,
    "FailedScheduling",
    "FailedBinding",
    "ProvisioningFailed",
    "FailedAttachVolume",
    "FailedMount",
    "FailedMapVolume",
    "ContainerCreating",
];

impl Mover<'_> {
    /// The most Jobs of its task.
    pub(super) fn attempts(&self) -> u32 {
        self.run.spec.retries.volumes.map_or(ATTEMPTS, |retries| retries.saturating_add(1))
    }

    /// Replaces a Job that came to nothing, a few times.
    pub(super) async fn try_again(&self, job: &Value, trouble: &Trouble) -> Result<Renewal, TaskError> {
        let spent = used_up_its_session(&self.run.staging.access, job, trouble, Timestamp::now());
        let attempt = manifests::attempt_of(job);
        let attempts = self.attempts();
        let log = self.last_lines(job).await;
        let log = if log.is_empty() { String::new() } else { format!("; its last words: {log}") };
        let how = if trouble.patience > Duration::ZERO { "did not start" } else { "did not end well" };
        let text = format!("its mover {how}: {trouble}{log}");
        self.context.log(format!("{}: {text} (attempt {attempt} of {attempts})", self.describe_claim()));
        if (!spent && attempt >= attempts) || trouble.patience > Duration::ZERO {
            let place =
                if trouble.reason == UNSCHEDULABLE { self.place_of(job).await } else { String::new() };
            let message = format!("{text}{place}; {}, then run again", advice(&trouble.reason));
            return Err(TaskError::failed(self.describe_claim(), &trouble.reason, message));
        }
        // Before the old Job goes: with it would go the number of attempts.
        let renewal = self.open_session().await?;
        self.remove(job).await?;
        self.make(attempt + u32::from(!spent)).await?;
        Ok(renewal)
    }

    /// Reads the volume itself where the mover could not get at the claim from the snapshot, if it may.
    pub(super) async fn fall_back(
        &mut self,
        job: &Value,
        trouble: &Trouble,
    ) -> Result<Option<Renewal>, TaskError> {
        if !self.reading.is_snapshot() || !OF_VOLUMES.contains(&trouble.reason.as_str()) {
            return Ok(None);
        }
        let claim = self.claim().await?;
        let why = format!("the mover of the claim from the snapshot did not start: {trouble}");
        let Some(reading) = snapshot::give_up(self.context, self.run, &claim, &why).await? else {
            return Ok(None);
        };
        self.context.log(format!("{}: {why}; the volume itself is read", self.describe_claim()));
        self.remove(job).await?;
        self.reading = reading;
        let renewal = self.open_session().await?;
        self.make(1).await?;
        Ok(Some(renewal))
    }

    /// Makes a Job anew that no node takes, where it would be placed otherwise by now: a node may have
    /// been cordoned, or labelled, or have gone, after it was made.
    pub(super) async fn place_anew(&self, job: &Value) -> Result<(), TaskError> {
        let claim = self.mounted().await?;
        let user = self.user().await?;
        if !manifests::is_elsewhere(job, &self.placement(&claim, &user).await?) {
            return Ok(());
        }
        self.context.log(format!(
            "{}: no node takes its mover, and the nodes are not as they were when it was made: it is made anew",
            self.describe_claim()
        ));
        self.remove(job).await?;
        self.make(manifests::attempt_of(job)).await
    }

    /// Removes a Job, and waits until it is gone.
    async fn remove(&self, job: &Value) -> Result<(), TaskError> {
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
        Ok(())
    }

    /// What keeps a mover from every node, as far as its Job and its claim tell; it only explains, so
    /// no failure is one here.
    async fn place_of(&self, job: &Value) -> String {
        let asked = asked_of_nodes(job).map(|asked| format!("; it asks for {asked}")).unwrap_or_default();
        let Ok(claim) = self.claim().await else { return asked };
        if !array(&claim, "/spec/accessModes").iter().any(|mode| mode == "ReadWriteOncePod") {
            return asked;
        }
        let VolumeTask { namespace, claim, .. } = self.volume;
        let users = pods_of_claims(self.context.cluster(), namespace, claim).await.unwrap_or_default();
        let taken = users.first().map(|pod| {
            format!("; the claim is ReadWriteOncePod, and Pod {} has it: stop what the Pod is of", name(pod))
        });
        format!("{asked}{}", taken.unwrap_or_default())
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

/// What a mover asks of its node, if anything.
fn asked_of_nodes(job: &Value) -> Option<String> {
    let spec = job.pointer("/spec/template/spec")?;
    let required = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let terms = array(spec, required);
    let mut asked = Vec::new();
    if let [term] = terms
        && let [Value::String(node)] = array(term, "/matchFields/0/values")
    {
        asked.push(format!("node {node}, where the claim is mounted"));
    } else if !terms.is_empty() {
        asked.push("the node affinity of the workload".to_owned());
    }
    let labels = spec.get("nodeSelector").and_then(Value::as_object);
    let labels: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if !labels.is_empty() {
        asked.push(format!(
            "the labels {} (of spec.mover, the spoke's settings or the workload)",
            labels.join(", ")
        ));
    }
    (!asked.is_empty()).then(|| asked.join(" and "))
}

fn advice(reason: &str) -> &'static str {
    match reason {
        "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" => {
            "give the spoke a --mover-image that this cluster's nodes can pull"
        }
        UNSCHEDULABLE => "make room for it, or look at the node that the volume is bound to",
        "OOMKilled" => "look whether a LimitRange of the namespace lowers the mover's memory limit of 1Gi",
        "ProvisioningFailed" | "FailedBinding" => "look at the claim's storage class and its storage",
        "FailedMount" | "FailedAttachVolume" | "ContainerCreating" => {
            "look at the volume and its storage driver"
        }
        "FailedCreate" | "NoPod" => "look at the namespace's quota, limit ranges and admission rules",
        _ => "look at the namespace's events and the migration's log",
    }
}

#[cfg(test)]
mod tests {
    use isthmus_shared::staging::StsAccess;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_mover_asks_of_its_node_is_said() {
        let job = |spec: &Value| json!({"spec": {"template": {"spec": spec}}});
        let required = |term: &Value| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}});
        let on_node =
            required(&json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}));
        let said =
            asked_of_nodes(&job(&json!({"affinity": on_node, "nodeSelector": {"disk": "fast"}}))).unwrap();
        assert!(said.starts_with("node n1, where the claim is mounted and the labels disk=fast"), "{said}");
        let zone = required(&json!({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}));
        let said = asked_of_nodes(&job(&json!({"affinity": zone}))).unwrap();
        assert_eq!(said, "the node affinity of the workload");
        assert_eq!(asked_of_nodes(&job(&json!({}))), None);
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
}
