//! Whether a namespace lets a mover's Pod in, and as whom.
//!
//! The mover is best as root, which the level `baseline` allows and `restricted` does not. The
//! label is read first; then, where the namespace exists, the API server is asked by a dry run,
//! which sees cluster-wide defaults, OpenShift's constraints, quotas and webhooks too. The first
//! identity that is let in is taken.

use isthmus_shared::protocol::Direction;
use isthmus_shared::resources::MoverOptions;
use serde_json::Value;

use super::identity::{Identity, Level};
use super::manifests::{MOVER, trial_pod};
use crate::cluster::{Cluster, ClusterError, label, name};
use crate::serve::MoverSettings;

/// The label that enforces a Pod Security level.
pub const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// What the API server says of a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is let in, as far as a dry run tells.
    Taken,
    /// A quota is used up; another identity would change nothing.
    OverQuota(String),
    /// The spoke may not try it.
    MayNotTry(String),
    /// A rule refuses it; for its security, another identity may pass.
    Refused(String),
}

/// As whom a mover runs in a namespace, and why not as root.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted {
    /// As whom.
    pub identity: Identity,
    /// What refuses root, if something does.
    pub no_root: Option<String>,
}

/// Tries movers in a namespace.
pub struct Trial<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// How movers are started.
    pub movers: &'a MoverSettings,
    /// What the run says of them.
    pub options: &'a MoverOptions,
    /// Which way.
    pub direction: Direction,
}

impl Trial<'_> {
    /// The first of the identities that the namespace lets in; else what refuses them.
    pub async fn choose(
        &self,
        namespace: &Value,
        candidates: Vec<Identity>,
    ) -> Result<Result<Admitted, Answer>, ClusterError> {
        let mut no_root = None;
        let mut first = None;
        for identity in candidates {
            if let Some(message) = refused_by_label(namespace, &identity) {
                no_root = Some(message.clone());
                first.get_or_insert(Answer::Refused(message));
                continue;
            }
            match self.ask(name(namespace), &identity).await? {
                Answer::Taken => return Ok(Ok(Admitted { identity, no_root })),
                Answer::Refused(message) => {
                    if identity.is_root() {
                        no_root = Some(message.clone());
                    }
                    first.get_or_insert(Answer::Refused(message));
                }
                other => return Ok(Err(other)),
            }
        }
        Ok(Err(first.unwrap_or(Answer::Refused("nobody may run a mover there".to_owned()))))
    }

    async fn ask(&self, namespace: &str, identity: &Identity) -> Result<Answer, ClusterError> {
        let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
        let pod = trial_pod(namespace, self.movers, self.options, self.direction, identity);
        match self.cluster.ask(&path, &pod).await {
            Ok(_) => Ok(Answer::Taken),
            Err(error) => judge(error),
        }
    }
}

/// For a namespace that is yet to be made: the first of the identities that its labels let in.
pub fn choose_by_label(namespace: &Value, candidates: Vec<Identity>) -> Option<Admitted> {
    let mut no_root = None;
    for identity in candidates {
        match refused_by_label(namespace, &identity) {
            None => return Some(Admitted { identity, no_root }),
            refused => no_root = refused,
        }
    }
    None
}

fn refused_by_label(namespace: &Value, identity: &Identity) -> Option<String> {
    let level = match label(namespace, ENFORCE)? {
        "restricted" => Level::Restricted,
        "baseline" => Level::Baseline,
        _ => return None,
    };
    let refuses = identity.refused_by().is_some_and(|laxest| level >= laxest);
    refuses.then(|| format!("its label {ENFORCE}={}", label(namespace, ENFORCE).unwrap_or_default()))
}

/// That a namespace does not let in a mover with what privileged attributes take, and what to do.
pub fn no_privileged_attributes(who: &str, refusal: &str) -> String {
    format!(
        "spec.mover.privilegedAttributes asks for movers with the capability SYS_ADMIN, and {who} does not let one in \
         ({refusal}): label the namespace {ENFORCE}=privileged for as long as the migration runs (where another policy \
         refuses it, exempt the service account {MOVER}), or leave privilegedAttributes out, with which trusted.* \
         attributes stay behind"
    )
}

fn judge(error: ClusterError) -> Result<Answer, ClusterError> {
    let message = error.message();
    // The mover brings a service account of its own; that the namespace's default one is not
    // there yet, or that a webhook takes no dry runs, says nothing of the mover.
    let beside_the_point =
        message.contains("serviceaccount") || message.contains("dry run") || message.contains("dryRun");
    // A policy's refusal is a 422, a webhook may choose its own.
    let denied = message.contains("denied request") || message.contains("denied the request");
    match error.code() {
        Some(400 | 422) if denied => Ok(Answer::Refused(message)),
        // A webhook that is down, for instance: the mover's own creation will tell.
        Some(400 | 404 | 422 | 500) => Ok(Answer::Taken),
        Some(403) if message.contains("cannot create resource") => Ok(Answer::MayNotTry(message)),
        Some(403) if message.contains("exceeded quota") => Ok(Answer::OverQuota(message)),
        Some(403) if beside_the_point => Ok(Answer::Taken),
        Some(403) => Ok(Answer::Refused(message)),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::volumes::identity::candidates;
    use crate::volumes::users::ClaimUser;

    fn refusal(code: u16, message: &str) -> ClusterError {
        let body = json!({"reason": "Forbidden", "message": message}).to_string();
        ClusterError::refused("POST /x".to_owned(), code, None, body.as_bytes())
    }

    #[test]
    fn a_namespace_that_is_yet_to_be_made_is_judged_by_its_label() {
        let none = MoverOptions::default();
        let all = || candidates(Direction::Receive, &Value::Null, &ClaimUser::default(), &none);
        let namespace = json!({"metadata": {"labels": {ENFORCE: "restricted"}}});
        let admitted = choose_by_label(&namespace, all()).unwrap();
        assert!(
            !admitted.identity.is_root() && admitted.no_root.is_some_and(|why| why.contains("restricted"))
        );
        let baseline = json!({"metadata": {"labels": {ENFORCE: "baseline"}}});
        assert!(choose_by_label(&baseline, all()).unwrap().identity.is_root());
    }

    #[test]
    fn privileged_attributes_are_for_no_level_but_privileged() {
        let options = MoverOptions { privileged_attributes: true, ..MoverOptions::default() };
        let all = || candidates(Direction::Receive, &Value::Null, &ClaimUser::default(), &options);
        for (label, taken) in [("restricted", false), ("baseline", false), ("privileged", true)] {
            let namespace = json!({"metadata": {"labels": {ENFORCE: label}}});
            assert_eq!(choose_by_label(&namespace, all()).is_some(), taken, "{label}");
        }
        assert!(choose_by_label(&json!({"metadata": {}}), all()).is_some(), "nothing is enforced");
    }

    #[test]
    fn a_missing_service_account_says_nothing_of_the_mover() {
        let error = refusal(
            403,
            "pods \"x\" is forbidden: error looking up service account cms/default: serviceaccount \"default\" not found",
        );
        assert_eq!(judge(error).unwrap(), Answer::Taken);
    }

    #[test]
    fn what_another_identity_may_change_is_told_from_what_it_may_not() {
        let of = |message: &str| judge(refusal(403, message)).unwrap();
        let levels = "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot";
        assert!(matches!(of(levels), Answer::Refused(_)));
        assert!(matches!(
            of("unable to validate against any security context constraint"),
            Answer::Refused(_)
        ));
        assert!(matches!(of("pods \"x\" is forbidden: exceeded quota: q"), Answer::OverQuota(_)));
        assert!(matches!(of("User \"spoke\" cannot create resource \"pods\""), Answer::MayNotTry(_)));
        let policy =
            "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no";
        assert!(matches!(judge(refusal(422, policy)).unwrap(), Answer::Refused(_)));
        assert_eq!(judge(refusal(422, "failed calling webhook")).unwrap(), Answer::Taken);
        assert!(judge(refusal(503, "busy")).is_err());
    }
}
