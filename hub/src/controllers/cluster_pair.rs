//! Pairs: their key, what is true of them, and their end.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::future::BoxFuture;
use isthmus_shared::protocol::HEARTBEAT_EXPIRY_SECONDS;
use isthmus_shared::resources::{Cluster, ClusterPair, ClusterPairStatus, FINALIZER, LinkState};
use isthmus_shared::staging::{PairKey, PairUid, delete_prefix, layout};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use kube::ResourceExt as _;
use kube::api::DeleteParams;

use super::Desk;
use super::pair_state::{Known, state};
use crate::auth::shared_secret::{Data, get_or_create};
use crate::conditions::{Said, is_ready, set_ready};
use crate::presence::{PROBE_EXPIRY_SECONDS, Probe};
use crate::pruning::{self, Use};
use crate::records::WriteError;
use crate::staging::{self, PAIR_KEY, pair_secret_name};
use crate::surroundings::defect;

/// How long a deleted pair's staging is tried to be emptied before it is left where it is.
const EMPTY_LIMIT: SignedDuration = SignedDuration::from_mins(5);
/// How long one attempt may take.
const EMPTY_ATTEMPT: Duration = Duration::from_mins(2);

/// Brings a pair's record in line with what is true.
pub(super) fn reconcile(
    desk: Arc<Desk>,
    pair: Arc<ClusterPair>,
) -> BoxFuture<'static, Result<(), WriteError>> {
    Box::pin(async move {
        let namespace = pair.namespace().unwrap_or_default();
        let Some(pair) = desk.records().pairs.get(&namespace, &pair.name_any()) else { return Ok(()) };
        if pair.metadata.deletion_timestamp.is_some() {
            return end(&desk, &pair).await;
        }
        if !pair.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
            desk.office.writer.finalizer(&desk.records().pairs, &pair, true).await?;
        }
        let has_key = ensure_key(&desk, &pair).await?;
        // No migration begins while it is decided whether a collection does.
        let held = if pruning::is_waiting(&pair) { Some(desk.office.runs.admission().await) } else { None };
        let used = held.as_ref().map(|_| pruning::in_use(desk.records(), &pair.uid().unwrap_or_default()));
        write_status(&desk, &pair, |known| observe(&desk, known, has_key, used.as_ref())).await
    })
}

async fn write_status(
    desk: &Desk,
    pair: &ClusterPair,
    observe: impl Fn(&ClusterPair) -> ClusterPairStatus + Send + Sync,
) -> Result<(), WriteError> {
    let change = |known: &ClusterPair| {
        let after = observe(known);
        (known.status.as_ref() != Some(&after)).then(|| {
            let mut changed = known.clone();
            changed.status = Some(after);
            changed
        })
    };
    let namespace = pair.namespace().unwrap_or_default();
    desk.office.writer.status(&desk.records().pairs, &namespace, &pair.name_any(), change).await?;
    Ok(())
}

/// Makes a new pair's key. The key of a pair that had one is never made anew: what is in staging
/// could not be read with another. Tells whether there is one.
async fn ensure_key(desk: &Desk, pair: &ClusterPair) -> Result<bool, WriteError> {
    let Some(uid) = pair.uid() else { return Ok(false) };
    if staging::pair_key(desk.records(), &uid).is_some() {
        return Ok(true);
    }
    let name = pair_secret_name(&uid);
    let object = format!("Secret {}/{name}", desk.records().namespace);
    if pair.status.is_some() {
        // The watch may only not have brought it yet.
        let found = desk.secrets().get_opt(&name).await.map_err(WriteError::api("reading", object))?;
        return Ok(found.is_some());
    }
    let made = PairKey::generate().map_err(|error| kube::Error::Service(error.to_string().into()));
    let key = made.map_err(WriteError::api("making the key in", object.clone()))?;
    let raw = BASE64_STANDARD.decode(key.to_base64()).unwrap_or_default();
    let data = Data::from([(PAIR_KEY.to_owned(), ByteString(raw))]);
    desk.office.writer.term.check()?;
    let created = get_or_create(&desk.secrets(), &name, &data).await;
    created
        .map_err(|error| WriteError::api("making", object)(kube::Error::Service(error.to_string().into())))?;
    Ok(true)
}

/// What is true of a pair now.
fn observe(desk: &Desk, pair: &ClusterPair, has_key: bool, used: Option<&Use>) -> ClusterPairStatus {
    let before = pair.status.clone().unwrap_or_default();
    let mut after = before.clone();
    let now = Timestamp::now();
    let was = (before.scheduler_status, before.scheduler_message.as_deref());
    (after.scheduler_status, after.scheduler_message) = state(was, &spokes(desk, pair, now));
    let was = (before.storage_status, before.storage_message.as_deref());
    (after.storage_status, after.storage_message) = state(was, &storage(desk, pair, has_key, now));
    let said = ready(&after);
    set_ready(&mut after.conditions, &said, pair.metadata.generation, now);
    if let Some(used) = used {
        after.prune = pruning::begun(pair, used, now);
    }
    after
}

fn ready(status: &ClusterPairStatus) -> Said {
    let halves = [
        ("Scheduler", status.scheduler_status, &status.scheduler_message),
        ("Storage", status.storage_status, &status.storage_message),
    ];
    let bad: Vec<_> = halves.iter().filter(|(_, state, _)| *state != LinkState::Ready).collect();
    let Some((half, state, _)) = bad.first() else {
        return Said::new(Some(true), "Ready", "both spokes are heard, and all reach the object store");
    };
    let message: Vec<&str> = bad.iter().filter_map(|(_, _, message)| message.as_deref()).collect();
    let value = if *state == LinkState::Pending { None } else { Some(false) };
    Said::new(value, &format!("{half}{state:?}"), message.join("; "))
}

fn clusters(desk: &Desk, pair: &ClusterPair) -> [(String, Option<Arc<Cluster>>); 2] {
    [&pair.spec.source, &pair.spec.destination].map(|name| (name.clone(), desk.records().cluster(name)))
}

/// Whether both spokes are joined and heard.
fn spokes(desk: &Desk, pair: &ClusterPair, now: Timestamp) -> Vec<(String, Known)> {
    clusters(desk, pair)
        .into_iter()
        .map(|(name, cluster)| {
            let known = cluster.map_or_else(
                || {
                    Known::Broken(format!(
                        "the hub has no record of it: add it with `isthmus cluster add {name}`"
                    ))
                },
                |cluster| spoke(desk, &cluster, now),
            );
            (format!("cluster {name}"), known)
        })
        .collect()
}

fn spoke(desk: &Desk, cluster: &Cluster, now: Timestamp) -> Known {
    let status = cluster.status.clone().unwrap_or_default();
    let name = cluster.name_any();
    if status.public_key.is_none() {
        return Known::NotYet(format!(
            "its spoke has not joined: start it with the token of `isthmus cluster token {name}`"
        ));
    }
    let limit = SignedDuration::from_secs(HEARTBEAT_EXPIRY_SECONDS.cast_signed());
    let heard = cluster.uid().and_then(|uid| desk.office.presence.heard_at(&uid));
    let since = desk.office.presence.since;
    let unanswered = cluster.uid().is_some_and(|uid| desk.office.presence.is_unanswered(&uid));
    match heard {
        Some(at) if now.duration_since(at) <= limit => Known::Works,
        Some(_) if unanswered => Known::Broken(
            "its spoke is heard, but the cluster's API server does not answer it: look at that".to_owned(),
        ),
        _ if now.duration_since(heard.map_or(since, |at| at.max(since))) > limit => Known::Broken(format!(
            "its spoke has not been heard for {HEARTBEAT_EXPIRY_SECONDS} s: look whether it runs and reaches the hub"
        )),
        _ if is_ready(&status.conditions) => Known::Unsure,
        _ => Known::NotYet("its spoke has joined and is about to be heard".to_owned()),
    }
}

/// Whether the hub and both spokes can use the store.
fn storage(desk: &Desk, pair: &ClusterPair, has_key: bool, now: Timestamp) -> Vec<(String, Known)> {
    let hub = "hub".to_owned();
    if !has_key {
        let message = "the pair's key is gone, and what is in staging cannot be read without it: restore its Secret from a backup, or delete the pair and create it again";
        return vec![(hub, Known::Broken(message.to_owned()))];
    }
    // The clusters' records are the scheduler's half.
    if let Some(finding) =
        defect(desk.records(), pair).filter(|finding| !finding.object.starts_with("Cluster "))
    {
        return vec![(hub, Known::Broken(format!("{}: {}", finding.object, finding.message)))];
    }
    let Some(store) = desk.records().store(&pair.spec.object_store) else { return Vec::new() };
    let (Some(uid), Ok(access)) = (store.uid(), staging::access(desk.records(), &store)) else {
        return Vec::new();
    };
    let revision = staging::revision(&access);
    let presence = &desk.office.presence;
    let mut known =
        vec![(hub, probed(presence.own_probe(&uid), &revision, presence.since, now, is_worked(pair)))];
    for (name, cluster) in clusters(desk, pair) {
        let last = cluster.and_then(|cluster| presence.probe_by(&cluster.uid()?, &uid));
        let found = probed(last, &revision, presence.since, now, is_worked(pair));
        known.push((format!("spoke of cluster {name}"), found));
    }
    known
}

fn is_worked(pair: &ClusterPair) -> bool {
    pair.status
        .as_ref()
        .is_some_and(|status| matches!(status.storage_status, LinkState::Ready | LinkState::Degraded))
}

/// What a probe says: too old it says nothing, of other settings not yet anything.
fn probed(last: Option<Probe>, revision: &str, since: Timestamp, now: Timestamp, worked: bool) -> Known {
    let limit = SignedDuration::from_secs(PROBE_EXPIRY_SECONDS);
    let waits = || Known::NotYet("waits for its first probe of the object store".to_owned());
    match last.filter(|last| now.duration_since(last.at) <= limit) {
        Some(last) if last.revision == revision => match last.error {
            None => Known::Works,
            Some(error) => Known::Broken(error),
        },
        // The settings have just changed: the next probe is on its way.
        Some(_) => Known::Unsure,
        None if now.duration_since(since) <= limit => {
            if worked {
                Known::Unsure
            } else {
                waits()
            }
        }
        None if worked => Known::Silent(format!("no probe of the object store for {PROBE_EXPIRY_SECONDS} s")),
        None => waits(),
    }
}

/// Ends a pair: when no run needs it any more, its staging and its key go.
async fn end(desk: &Desk, pair: &ClusterPair) -> Result<(), WriteError> {
    if !pair.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(());
    }
    let uid = pair.uid().unwrap_or_default();
    let waiting: Vec<String> = desk
        .records()
        .migrations
        .all()
        .iter()
        .filter(|m| {
            m.status.as_ref().is_some_and(|s| s.pair_uid.as_deref() == Some(&*uid) && !s.status.is_terminal())
        })
        .map(|m| format!("{}/{}", m.namespace().unwrap_or_default(), m.name_any()))
        .collect();
    if !waiting.is_empty() {
        let message = format!(
            "the pair is being deleted and waits for migrations to end: {}; delete them to cancel them",
            waiting.join(", ")
        );
        let said = Said::new(Some(false), "Deleting", message);
        return write_status(desk, pair, |known| {
            let mut status = known.status.clone().unwrap_or_default();
            set_ready(&mut status.conditions, &said, known.metadata.generation, Timestamp::now());
            status
        })
        .await;
    }
    if let Err(why) = empty(desk, pair, &uid).await {
        if !given_up(desk, pair) {
            tracing::warn!(
                pair = pair.name_any(),
                why,
                "removing what a deleted pair has in staging failed; trying again"
            );
            return Ok(());
        }
        tracing::warn!(
            pair = pair.name_any(),
            why,
            "what a deleted pair has in staging is left there: remove the keys below {uid}/ from the bucket"
        );
    }
    let name = pair_secret_name(&uid);
    desk.office.writer.term.check()?;
    match desk.secrets().delete(&name, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        Err(error) => return Err(WriteError::api("deleting", format!("Secret {name}"))(error)),
    }
    desk.office.writer.finalizer(&desk.records().pairs, pair, false).await?;
    Ok(())
}

fn given_up(desk: &Desk, pair: &ClusterPair) -> bool {
    let deleted = pair.metadata.deletion_timestamp.as_ref().map_or(Timestamp::MIN, |at| at.0);
    Timestamp::now().duration_since(deleted.max(desk.office.presence.since)) > EMPTY_LIMIT
}

/// Removes everything that a pair has in staging.
async fn empty(desk: &Desk, pair: &ClusterPair, uid: &str) -> Result<(), String> {
    let Some(store) = desk.records().store(&pair.spec.object_store) else {
        // Nobody can say any more where it was.
        return Ok(());
    };
    let access = staging::access(desk.records(), &store).map_err(|finding| finding.message)?;
    let prefix = layout::pair_prefix(&PairUid::new(uid).map_err(|error| error.to_string())?);
    let open = desk.stores.open(&access).map_err(|error| error.to_string())?;
    match tokio::time::timeout(EMPTY_ATTEMPT, delete_prefix(open.as_ref(), &prefix)).await {
        Ok(result) => result.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err(format!("it took longer than {} s", EMPTY_ATTEMPT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn probe(second: i64, error: Option<&str>) -> Probe {
        Probe { revision: "1".into(), at: at(second), error: error.map(str::to_owned) }
    }

    #[test]
    fn a_probe_counts_for_fifty_seconds() {
        assert_eq!(probed(Some(probe(0, None)), "1", at(-900), at(50), true), Known::Works);
        assert!(matches!(probed(Some(probe(0, None)), "1", at(-900), at(51), true), Known::Silent(_)));
        assert!(matches!(probed(None, "1", at(-900), at(0), false), Known::NotYet(_)));
    }

    #[test]
    fn a_probe_of_former_settings_says_nothing() {
        assert_eq!(probed(Some(probe(0, Some("denied"))), "2", at(-900), at(1), true), Known::Unsure);
        assert_eq!(
            probed(Some(probe(0, Some("denied"))), "1", at(-900), at(1), true),
            Known::Broken("denied".into())
        );
    }

    #[test]
    fn a_new_leader_does_not_take_want_of_probes_for_silence() {
        assert_eq!(probed(None, "1", at(0), at(50), true), Known::Unsure);
        assert!(matches!(probed(None, "1", at(0), at(51), true), Known::Silent(_)));
    }

    #[test]
    fn the_condition_names_the_half_that_is_not_ready() {
        let status = ClusterPairStatus {
            scheduler_status: LinkState::Ready,
            storage_status: LinkState::Degraded,
            storage_message: Some("spoke of cluster east: NoSuchBucket".into()),
            ..ClusterPairStatus::default()
        };
        let said = ready(&status);
        assert_eq!((said.value, said.reason.as_str()), (Some(false), "StorageDegraded"));
        assert_eq!(said.message, "spoke of cluster east: NoSuchBucket");
    }
}
