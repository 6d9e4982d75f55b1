//! Whether a namespace lets the mover's Pod in.
//!
//! The mover needs capabilities that the level `baseline` allows and `restricted` does not. The
//! label is read first; then, where the namespace exists, the API server is asked by a dry run,
//! which sees cluster-wide defaults, OpenShift's constraints, quotas and webhooks too.

use isthmus_shared::resources::{Finding, MoverOptions};
use serde_json::Value;

use crate::cluster::{Cluster, ClusterError, label};
use crate::findings::finding;
use crate::volumes::trial_pod;

/// The label that enforces a Pod Security level.
pub const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// What the label says.
pub fn forbidden_by_label(namespace: &Value, name: &str, side: &str) -> Option<Finding> {
    (label(namespace, ENFORCE) == Some("restricted")).then(|| {
        finding(
            format!("Namespace {name}"),
            "PodSecurity",
            format!(
                "its label {ENFORCE}=restricted forbids the mover on the {side}, which reads and writes files of all \
                 owners: set it to baseline for as long as the migration runs, or migrate with --include-volumes=false"
            ),
        )
    })
}

/// What the API server says.
pub async fn forbidden_by_server(
    cluster: &Cluster,
    image: &str,
    options: &MoverOptions,
    name: &str,
    side: &str,
) -> Result<Option<Finding>, ClusterError> {
    let path = format!("/api/v1/namespaces/{name}/pods?dryRun=All");
    match cluster.ask(&path, &trial_pod(name, image, options)).await {
        Ok(_) => Ok(None),
        Err(error) => judge(error, name, side),
    }
}

fn judge(error: ClusterError, name: &str, side: &str) -> Result<Option<Finding>, ClusterError> {
    let message = error.message();
    let found = |reason: &str, text: String| Ok(Some(finding(format!("Namespace {name}"), reason, text)));
    // The mover brings a service account of its own; that the namespace's default one is not
    // there yet, or that a webhook takes no dry runs, says nothing of the mover.
    let beside_the_point =
        message.contains("serviceaccount") || message.contains("dry run") || message.contains("dryRun");
    match error.code() {
        // A webhook that is down, for instance: the mover's own creation will tell.
        Some(400 | 404 | 422 | 500) => Ok(None),
        Some(403) if message.contains("violates PodSecurity") => found(
            "PodSecurity",
            format!(
                "its Pod Security level forbids the mover on the {side} ({message}): label it {ENFORCE}=baseline for as \
                 long as the migration runs, or migrate with --include-volumes=false"
            ),
        ),
        Some(403) if message.contains("cannot create resource") => found(
            "Forbidden",
            format!(
                "the spoke may not try a mover's Pod there ({message}): grant it what its ClusterRole in deploy/ lists"
            ),
        ),
        Some(403) if beside_the_point => Ok(None),
        Some(403) => found(
            "MoverForbidden",
            format!(
                "the {side} does not let the mover's Pod in ({message}): allow it, or migrate with --include-volumes=false"
            ),
        ),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(code: u16, message: &str) -> ClusterError {
        let body = json!({"reason": "Forbidden", "message": message}).to_string();
        ClusterError::refused("POST /x".to_owned(), code, None, body.as_bytes())
    }

    #[test]
    fn a_restricted_namespace_is_named_with_what_to_do() {
        let namespace = json!({"metadata": {"labels": {ENFORCE: "restricted"}}});
        let found = forbidden_by_label(&namespace, "cms", "source").unwrap();
        assert_eq!((found.object.as_str(), found.reason.as_str()), ("Namespace cms", "PodSecurity"));
        let baseline = json!({"metadata": {"labels": {ENFORCE: "baseline"}}});
        assert!(forbidden_by_label(&baseline, "cms", "source").is_none());
    }

    #[test]
    fn a_missing_service_account_says_nothing_of_the_mover() {
        let error = refusal(
            403,
            "pods \"x\" is forbidden: error looking up service account cms/default: serviceaccount \"default\" not found",
        );
        assert!(judge(error, "cms", "source").unwrap().is_none());
    }

    #[test]
    fn a_violation_that_the_server_finds_is_pod_security() {
        let error =
            refusal(403, "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot");
        assert_eq!(judge(error, "cms", "source").unwrap().unwrap().reason, "PodSecurity");
    }
}
