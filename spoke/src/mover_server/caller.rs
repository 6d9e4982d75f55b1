//! Who a mover is.
//!
//! Its token says of which Pod it is, and the API server says whether that is true; the Pod says
//! of which Job, and the Job of which task. What was found is remembered for a short while: a
//! mover reports each second.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use isthmus_shared::protocol::{MOVER_AUDIENCE, TaskId};
use isthmus_shared::resources::TASK;
use serde_json::{Value, json};

use crate::cluster::{Cluster, ClusterError, annotation, array, kind, text, uid};

/// How long a check is good for.
const REMEMBER: Duration = Duration::from_secs(30);
/// Checks that are remembered.
const MAX_REMEMBERED: usize = 1_024;
/// The longest token that is looked at, bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// A mover that is who it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The path of its Job.
    pub job: String,
    /// Its task.
    pub task: TaskId,
}

/// Why a mover is not let in.
#[derive(Debug, thiserror::Error)]
pub enum CallerError {
    /// The token is no good.
    #[error(
        "the mover's token is not valid ({0}): it must be the projected token of a mover's Pod with the audience isthmus-spoke"
    )]
    BadToken(String),
    /// The token is of something else than a mover's Pod.
    #[error("the token is not of a mover's Pod ({0})")]
    NotAMover(String),
    /// The Pod is of another task's Job.
    #[error("this Pod is a mover of task {of}, not of {asked}")]
    OtherTask {
        /// Its own.
        of: String,
        /// What it asked for.
        asked: TaskId,
    },
    /// The API server could not be asked.
    #[error("the mover's token could not be checked: {0}")]
    Unavailable(ClusterError),
}

/// Checks callers.
pub struct Callers {
    cluster: Cluster,
    known: Mutex<HashMap<blake3::Hash, (Instant, Caller)>>,
}

impl Callers {
    /// Asks this cluster.
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster, known: Mutex::default() }
    }

    /// The mover that this token is of, if it serves this task.
    pub async fn check(&self, token: &str, task: &TaskId) -> Result<Caller, CallerError> {
        if token.is_empty() || token.len() > MAX_TOKEN {
            return Err(CallerError::BadToken("it is missing or far too long".to_owned()));
        }
        let hash = blake3::hash(token.as_bytes());
        let caller = if let Some(caller) = self.recall(&hash) {
            caller
        } else {
            let caller = self.ask(token).await?;
            self.remember(hash, caller.clone());
            caller
        };
        if caller.task == *task {
            Ok(caller)
        } else {
            Err(CallerError::OtherTask { of: caller.task.to_string(), asked: task.clone() })
        }
    }

    async fn ask(&self, token: &str) -> Result<Caller, CallerError> {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": [MOVER_AUDIENCE]}
        });
        let reply = self
            .cluster
            .ask("/apis/authentication.k8s.io/v1/tokenreviews", &review)
            .await
            .map_err(CallerError::Unavailable)?;
        let identity = identify(&reply)?;
        let pod = self.pod(&identity).await?;
        if uid(&pod) != identity.pod_uid {
            return Err(CallerError::NotAMover("its Pod is gone".to_owned()));
        }
        let owner = array(&pod, "/metadata/ownerReferences").iter().find(|owner| kind(owner) == "Job");
        let owner = owner.ok_or_else(|| CallerError::NotAMover("its Pod belongs to no Job".to_owned()))?;
        let path = format!("/apis/batch/v1/namespaces/{}/jobs/{}", identity.namespace, text(owner, "/name"));
        let job = self
            .cluster
            .find(&path)
            .await
            .map_err(CallerError::Unavailable)?
            .filter(|job| uid(job) == text(owner, "/uid"))
            .ok_or_else(|| CallerError::NotAMover("its Job is gone".to_owned()))?;
        let task = annotation(&job, TASK)
            .and_then(|task| task.parse().ok())
            .ok_or_else(|| CallerError::NotAMover("its Job serves no task".to_owned()))?;
        Ok(Caller { job: path, task })
    }

    async fn pod(&self, identity: &PodIdentity) -> Result<Value, CallerError> {
        let pods = format!("/api/v1/namespaces/{}/pods", identity.namespace);
        let path = format!("{pods}/{}", identity.pod_name);
        let found = self.cluster.find(&path).await.map_err(CallerError::Unavailable)?;
        found.ok_or_else(|| CallerError::NotAMover(format!("there is no Pod {}", identity.pod_name)))
    }

    fn recall(&self, hash: &blake3::Hash) -> Option<Caller> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(hash).filter(|(at, _)| at.elapsed() < REMEMBER).map(|(_, caller)| caller.clone())
    }

    fn remember(&self, hash: blake3::Hash, caller: Caller) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (at, _)| at.elapsed() < REMEMBER);
        if known.len() < MAX_REMEMBERED {
            known.insert(hash, (Instant::now(), caller));
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct PodIdentity {
    namespace: String,
    pod_name: String,
    pod_uid: String,
}

/// Reads the answer to a TokenReview.
fn identify(reply: &Value) -> Result<PodIdentity, CallerError> {
    if reply.pointer("/status/authenticated") != Some(&Value::Bool(true)) {
        let detail = match text(reply, "/status/error") {
            "" => "the API server does not know it",
            error => error,
        };
        return Err(CallerError::BadToken(detail.to_owned()));
    }
    if !array(reply, "/status/audiences").iter().any(|audience| audience == MOVER_AUDIENCE) {
        return Err(CallerError::BadToken("it is for another audience".to_owned()));
    }
    let extra = |key: &str| {
        let values = reply.pointer("/status/user/extra").and_then(|extra| extra.get(key));
        values.and_then(|v| v.get(0)).and_then(Value::as_str).map(str::to_owned)
    };
    let user = text(reply, "/status/user/username");
    let namespace = user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split(':').next());
    let pod_name = extra("authentication.kubernetes.io/pod-name");
    let pod_uid = extra("authentication.kubernetes.io/pod-uid");
    match (namespace, pod_name, pod_uid) {
        (Some(namespace), Some(pod_name), Some(pod_uid)) => {
            Ok(PodIdentity { namespace: namespace.to_owned(), pod_name, pod_uid })
        }
        _ => Err(CallerError::NotAMover(format!("it is of {user}, and bound to no Pod"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(authenticated: bool, audience: &str, extra: &Value) -> Value {
        json!({"status": {"authenticated": authenticated, "audiences": [audience],
               "user": {"username": "system:serviceaccount:cms:isthmus-mover", "extra": extra}}})
    }

    #[test]
    fn a_token_of_a_pod_for_our_audience_says_which_pod() {
        let extra = json!({"authentication.kubernetes.io/pod-name": ["m-1"], "authentication.kubernetes.io/pod-uid": ["u"]});
        let identity = identify(&review(true, MOVER_AUDIENCE, &extra)).unwrap();
        assert_eq!(
            (identity.namespace.as_str(), identity.pod_name.as_str(), identity.pod_uid.as_str()),
            ("cms", "m-1", "u")
        );
    }

    #[test]
    fn tokens_of_others_are_refused_each_with_its_reason() {
        let extra = json!({});
        assert!(matches!(identify(&review(false, MOVER_AUDIENCE, &extra)), Err(CallerError::BadToken(_))));
        assert!(matches!(identify(&review(true, "api", &extra)), Err(CallerError::BadToken(_))));
        assert!(matches!(identify(&review(true, MOVER_AUDIENCE, &extra)), Err(CallerError::NotAMover(_))));
    }
}
