//! Clusters: join tokens, whether the spoke is heard, activations.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use isthmus_shared::protocol::HEARTBEAT_EXPIRY_SECONDS;
use isthmus_shared::protocol::identity::JOIN_TOKEN_SECONDS;
use isthmus_shared::resources::{
    Activation, ActivationPhase, ActivationStatus, Cluster, ClusterStatus, FIELD_MANAGER, JoinStatus,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, Preconditions};
use kube::{Resource as _, ResourceExt as _};

use super::Desk;
use crate::conditions::{Said, set_ready};
use crate::fencing;
use crate::records::{JOIN_TOKEN, WriteError};

/// Brings a cluster's record in line with what is true.
pub(super) fn reconcile(
    desk: Arc<Desk>,
    cluster: Arc<Cluster>,
) -> BoxFuture<'static, Result<(), WriteError>> {
    Box::pin(async move {
        let records = desk.records();
        let Some(cluster) = records.cluster(&cluster.name_any()) else { return Ok(()) };
        if cluster.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let now = Timestamp::now();
        let issued = if wants_token(&cluster) { Some(issue(&desk, &cluster, now).await?) } else { None };
        let heard = cluster.uid().and_then(|uid| desk.office.presence.heard_at(&uid));
        let unanswered = cluster.uid().is_some_and(|uid| desk.office.presence.is_unanswered(&uid));
        let since = desk.office.presence.since;
        let change = |known: &Cluster| {
            let before = known.status.clone().unwrap_or_default();
            let mut after = before.clone();
            if let Some(join) = issued.as_ref().filter(|_| wants_token(known)) {
                after.join = Some(join.clone());
            }
            if let Some(said) = ready(&after, (heard, unanswered), since, now) {
                set_ready(&mut after.conditions, &said, known.metadata.generation, now);
            }
            let busy = |wanted: &Activation| fencing::handed_over_by(records, &known.name_any(), wanted);
            after.activations = activations(known, &after, busy);
            (after != before).then(|| {
                let mut changed = known.clone();
                changed.status = Some(after);
                changed
            })
        };
        let written = desk
            .office
            .writer
            .status(&records.clusters, &records.namespace, &cluster.name_any(), change)
            .await?;
        if let Some(cluster) = written
            && is_spent(&cluster, now)
        {
            withdraw(&desk, &cluster).await?;
        }
        Ok(())
    })
}

/// The name of the Secret that a cluster's join token is handed over in.
fn secret_name(cluster: &Cluster) -> String {
    format!("{}{JOIN_TOKEN}", cluster.name_any())
}

/// A new cluster wants a token, and one whose `joinRequest` is another than was answered.
fn wants_token(cluster: &Cluster) -> bool {
    let join = cluster.status.as_ref().and_then(|status| status.join.as_ref());
    let asked = cluster.spec.join_request.as_ref();
    join.is_none_or(|join| asked.is_some() && asked != join.request.as_ref())
}

/// Whether the token is good for nothing any more.
fn is_spent(cluster: &Cluster, now: Timestamp) -> bool {
    let join = cluster.status.as_ref().and_then(|status| status.join.as_ref());
    join.is_some_and(|join| join.used || now > join.expires.0)
}

/// Issues a token. The Secret comes first: whoever sees the request answered finds the token.
async fn issue(desk: &Desk, cluster: &Cluster, now: Timestamp) -> Result<JoinStatus, WriteError> {
    let name = secret_name(cluster);
    let id = uuid::Uuid::new_v4().to_string();
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let signed = desk.signing().join_token(&cluster.name_any(), &id, &desk.ca_hash, seconds);
    let token = signed.map_err(|error| {
        let failure = kube::Error::Service(error.to_string().into());
        WriteError::api("signing the join token of", format!("Cluster {}", cluster.name_any()))(failure)
    })?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            owner_references: cluster.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        string_data: Some(BTreeMap::from([
            ("token".to_owned(), token),
            ("hub".to_owned(), desk.url.clone()),
        ])),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    desk.office.writer.term.check()?;
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let applied = desk.secrets().patch(&name, &params, &Patch::Apply(&secret)).await;
    applied.map_err(WriteError::api("writing", format!("Secret {}/{name}", desk.records().namespace)))?;
    tracing::info!(cluster = cluster.name_any(), "a join token was issued");
    let lifetime = i64::try_from(JOIN_TOKEN_SECONDS).unwrap_or(i64::MAX);
    let expires = now + SignedDuration::from_secs(lifetime);
    Ok(JoinStatus {
        request: cluster.spec.join_request.clone(),
        token_id: id,
        expires: Time(expires),
        used: false,
    })
}

/// Deletes the Secret of a token that is good for nothing any more.
async fn withdraw(desk: &Desk, cluster: &Cluster) -> Result<(), WriteError> {
    let name = secret_name(cluster);
    let Some(secret) = desk.records().secret(&name) else { return Ok(()) };
    // Only the Secret that was seen: another of its name may have been made since.
    let preconditions = Preconditions { uid: secret.uid(), resource_version: secret.resource_version() };
    desk.office.writer.term.check()?;
    match desk.secrets().delete(&name, &DeleteParams::default().preconditions(preconditions)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(WriteError::api("deleting", format!("Secret {name}"))(error)),
    }
}

/// What the condition Ready is to say; nothing while it is not known, which is for a while after
/// this hub began to lead.
fn ready(
    status: &ClusterStatus,
    (heard, unanswered): (Option<Timestamp>, bool),
    since: Timestamp,
    now: Timestamp,
) -> Option<Said> {
    if status.public_key.is_none() {
        let expired = status.join.as_ref().is_some_and(|join| !join.used && now > join.expires.0);
        return Some(if expired {
            Said::new(
                Some(false),
                "JoinTokenExpired",
                "its join token has expired unused: issue a new one with `isthmus cluster token` and start the spoke with it",
            )
        } else {
            Said::new(
                Some(false),
                "NotJoined",
                "its spoke has not joined: start it with the token of `isthmus cluster token`",
            )
        });
    }
    let limit = SignedDuration::from_secs(HEARTBEAT_EXPIRY_SECONDS.cast_signed());
    if heard.is_some_and(|at| now.duration_since(at) <= limit) {
        return Some(Said::new(Some(true), "Heard", "its spoke is joined and heard"));
    }
    if now.duration_since(heard.map_or(since, |at| at.max(since))) <= limit {
        let known = status.conditions.iter().any(|condition| condition.type_ == crate::conditions::READY);
        let joined = status
            .conditions
            .iter()
            .any(|condition| condition.reason == "NotJoined" || condition.reason == "JoinTokenExpired");
        return (!known || joined)
            .then(|| Said::new(None, "Joined", "its spoke has joined and is about to be heard"));
    }
    if unanswered {
        let message = "its spoke is heard, but the cluster's API server does not answer it: look at that, and at the spoke's log";
        return Some(Said::new(Some(false), "ApiServerSilent", message));
    }
    let message = format!(
        "its spoke has not been heard for {HEARTBEAT_EXPIRY_SECONDS} s: look whether it runs and reaches the hub (its log says so)"
    );
    Some(Said::new(Some(false), "NotHeard", message))
}

/// What became of the activations that the spec asks for. A new one is under way, or refused if a run is
/// `busy` with it: it could have both sides run.
fn activations(
    cluster: &Cluster,
    status: &ClusterStatus,
    busy: impl Fn(&Activation) -> Option<String>,
) -> Vec<ActivationStatus> {
    let mut kept: Vec<ActivationStatus> = Vec::new();
    for wanted in &cluster.spec.activations {
        if kept.iter().any(|known| known.namespace == wanted.namespace) {
            continue;
        }
        let known = status
            .activations
            .iter()
            .find(|a| a.namespace == wanted.namespace && a.request == wanted.request);
        kept.push(known.cloned().unwrap_or_else(|| {
            let run = busy(wanted);
            let phase = if run.is_some() { ActivationPhase::Failed } else { ActivationPhase::InProgress };
            let message = run.map(|run| {
                format!(
                    "namespace {} is being handed over by Migration {run}, and its applications would run twice: wait until it has ended, or cancel it",
                    wanted.namespace
                )
            });
            let (namespace, request) = (wanted.namespace.clone(), wanted.request.clone());
            ActivationStatus { namespace, request, state: wanted.state, phase, workloads: 0, message }
        }));
    }
    kept
}

#[cfg(test)]
mod tests {
    use isthmus_shared::resources::{ClusterSpec, TargetState};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn joined() -> ClusterStatus {
        ClusterStatus { public_key: Some("k".into()), ..ClusterStatus::default() }
    }

    fn reason(said: Option<Said>) -> String {
        said.map_or_else(|| "unchanged".to_owned(), |said| said.reason)
    }

    #[test]
    fn a_cluster_is_ready_as_long_as_its_spoke_is_heard() {
        assert_eq!(reason(ready(&ClusterStatus::default(), (None, false), at(0), at(1))), "NotJoined");
        assert_eq!(reason(ready(&joined(), (Some(at(100)), true), at(0), at(140))), "Heard");
        assert_eq!(reason(ready(&joined(), (Some(at(100)), false), at(0), at(141))), "NotHeard");
        assert_eq!(reason(ready(&joined(), (Some(at(100)), true), at(0), at(141))), "ApiServerSilent");
    }

    #[test]
    fn a_new_leader_waits_before_it_says_that_a_spoke_is_gone() {
        let mut status = joined();
        set_ready(&mut status.conditions, &Said::new(Some(true), "Heard", ""), None, at(0));
        assert_eq!(reason(ready(&status, (None, false), at(1000), at(1040))), "unchanged");
        assert_eq!(reason(ready(&status, (None, false), at(1000), at(1041))), "NotHeard");
    }

    #[test]
    fn a_token_is_issued_to_a_new_cluster_and_for_each_new_request() {
        let mut cluster = Cluster::new("east", ClusterSpec::default());
        assert!(wants_token(&cluster));
        let join = JoinStatus { request: None, token_id: "1".into(), expires: Time(at(0)), used: true };
        cluster.status = Some(ClusterStatus { join: Some(join), ..joined() });
        assert!(!wants_token(&cluster) && is_spent(&cluster, at(-5)));
        cluster.spec.join_request = Some("a".into());
        assert!(wants_token(&cluster));
        cluster.status.as_mut().unwrap().join.as_mut().unwrap().request = Some("a".into());
        assert!(!wants_token(&cluster));
    }

    #[test]
    fn an_activation_is_kept_until_another_is_asked_for() {
        let wanted = |request: &str| Activation {
            namespace: "cms".into(),
            state: TargetState::Active,
            request: request.into(),
            force: false,
            handed_over_to: None,
        };
        let mut cluster =
            Cluster::new("east", ClusterSpec { activations: vec![wanted("1")], ..ClusterSpec::default() });
        let mut status = joined();
        status.activations = activations(&cluster, &status, |_| None);
        assert_eq!(status.activations[0].phase, ActivationPhase::InProgress);
        status.activations[0].phase = ActivationPhase::Succeeded;
        assert_eq!(activations(&cluster, &status, |_| None)[0].phase, ActivationPhase::Succeeded);
        cluster.spec.activations = vec![wanted("2")];
        assert_eq!(activations(&cluster, &status, |_| None)[0].phase, ActivationPhase::InProgress);
        cluster.spec.activations.clear();
        assert!(activations(&cluster, &status, |_| None).is_empty());
    }
}
