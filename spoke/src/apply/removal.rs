//! A run undone on the destination: what it made there is taken away again.
//!
//! Objects go by the mark of the run, those that were applied last first, each with the uid of the
//! object that was looked at. What was there before the run stays as the run left it; of a binding
//! that others share only the subjects in the run's namespaces go. A namespace that the run made
//! goes once nothing is in it but what Kubernetes puts there.
//!
//! Promises: nothing without the run's mark is deleted; done again, it goes on from what is left;
//! it is done only when what was deleted is gone, or has been waited for.

mod fate;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use isthmus_shared::protocol::{Outcome, Run};
use isthmus_shared::resources::{Finding, MIGRATED_BY};
use serde_json::{Value, json};

use self::fate::{Fate, Undoing, is_furniture};
use super::order;
use super::problem::refused;
use super::purge::purgeable;
use crate::cluster::{
    Catalogue, ClusterError, DeleteOptions, Kind, PatchKind, array, describe, discover, escape, label, name,
    namespace, text, uid,
};
use crate::findings::{Findings, finding};
use crate::task::{TaskContext, TaskError};
use crate::{volumes, workloads};

/// Objects of one run that are taken away at a time; what is beyond them goes in the next round.
const MAX_OBJECTS: usize = 50_000;
/// Kinds that are listed, and objects that are deleted, at a time.
const PARALLEL: usize = 8;
/// How long deleted objects may take to go until they are told as still going.
const GONE_TIMEOUT: Duration = Duration::from_mins(5);
/// How often it is looked whether they are gone.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Objects that are told by name.
const MAX_TOLD: usize = 10;

/// An object that carries the mark of the run.
struct Marked {
    kind: Kind,
    live: Value,
}

impl Marked {
    fn path(&self) -> String {
        let place = Some(namespace(&self.live)).filter(|place| !place.is_empty());
        self.kind.object(place, name(&self.live))
    }
}

/// Removes what a run made, claims as it says.
pub async fn remove_run(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    // A mover that still writes would keep its claim.
    volumes::clean_up(context, run).await?;
    // With a claim goes what it is bound to, as the volume's reclaim policy says.
    volumes::hold(context, run).await?;
    let catalogue = discover(context.cluster())
        .await
        .map_err(|e| TaskError::cluster("the destination", "asking which kinds it serves", &e))?;
    let kept_claims = volumes::arriving_claims(run);
    let undoing = Undoing {
        uid: run.undone(),
        since: run.undone_since().map(|since| since.0),
        reclaim: run.spec.reclaim,
        kept_claims: &kept_claims,
    };
    let namespaces: HashSet<&str> = run.destinations().collect();
    let mut removed = Vec::new();
    let mut kept = 0;
    let mut failures = Findings::default();
    context.doing("looking for what the run made");
    for marked in marked(context, &catalogue, &namespaces, undoing.uid).await? {
        match undoing.fate(&marked.kind, &marked.live) {
            Fate::Foreign => {}
            Fate::Keep(why) => {
                kept += 1;
                context.log(format!("{} stays: {why}", describe(&marked.live)));
            }
            Fate::Remove => removed.push(marked),
        }
    }
    let total = removed.len() as u64;
    context.progress(|progress| progress.objects_total = total);
    let removals: Vec<_> = removed.iter().map(|marked| remove(context, marked, &namespaces)).collect();
    let mut done = stream::iter(removals).buffered(PARALLEL);
    while let Some(result) = done.next().await {
        context.progress(|progress| progress.objects_done += 1);
        match result {
            Ok(line) => context.log(line),
            Err(problem) => failures.push(problem),
        }
    }
    drop(done);
    if !failures.is_empty() {
        return Err(TaskError::Failed(failures));
    }
    // What is going may have finalizers that its operator takes off.
    workloads::release_operators(context, run).await?;
    wait_until_gone(context, &removed).await?;
    for namespace in &namespaces {
        kept += remove_namespace(context, &catalogue, namespace, undoing.uid).await?;
    }
    Ok(Outcome::Removed { objects: total, kept })
}

/// What carries the run's mark in its namespaces and in none, what was applied last first.
async fn marked(
    context: &TaskContext,
    catalogue: &Catalogue,
    namespaces: &HashSet<&str>,
    mark: &str,
) -> Result<Vec<Marked>, TaskError> {
    let query = format!("labelSelector={}", escape(&format!("{MIGRATED_BY}={mark}")));
    let mut wanted: Vec<(Kind, Option<&str>)> = Vec::new();
    for kind in purgeable(catalogue) {
        wanted.extend(namespaces.iter().map(|namespace| (kind.clone(), Some(*namespace))));
    }
    wanted.extend(of_cluster_scope(catalogue).into_iter().map(|kind| (kind, None)));
    let lists: Vec<_> = wanted
        .into_iter()
        .map(|(kind, place)| list(context, kind.collection(place), query.clone(), kind))
        .collect();
    let mut lists = stream::iter(lists).buffer_unordered(PARALLEL);
    let mut found = Vec::new();
    let mut uids = HashSet::new();
    while let Some((listed, kind)) = lists.next().await {
        match listed {
            Ok(listed) => {
                // Some kinds are served twice.
                let new = listed.into_iter().filter(|live| uids.insert(uid(live).to_owned()));
                found.extend(new.map(|live| Marked { kind: kind.clone(), live }));
            }
            // A kind that is not served any more has no objects that could be removed.
            Err(error) if matches!(error.code(), Some(403..=405 | 503)) => {}
            Err(error) => {
                return Err(TaskError::cluster(kind.resource(), "listing what the run made", &error));
            }
        }
    }
    found.sort_by_key(|marked| {
        let Kind { group, kind, namespaced, .. } = &marked.kind;
        // What calls into the namespaces goes before their objects, the rest of cluster scope after.
        let calls = !namespaced && order::cluster_stage(group, kind) == order::ClusterStage::After;
        (!calls, !namespaced, std::cmp::Reverse(order::rank(group, kind)))
    });
    found.truncate(MAX_OBJECTS);
    Ok(found)
}

async fn list(
    context: &TaskContext,
    path: String,
    query: String,
    kind: Kind,
) -> (Result<Vec<Value>, ClusterError>, Kind) {
    (context.cluster().list(&path, &query, MAX_OBJECTS).await, kind)
}

/// The kinds of cluster scope that can be listed and deleted, each in one version; Namespaces have
/// rules of their own.
fn of_cluster_scope(catalogue: &Catalogue) -> Vec<Kind> {
    let mut chosen: Vec<Kind> = Vec::new();
    for kind in catalogue.kinds().iter().filter(|kind| !kind.namespaced && kind.kind != "Namespace") {
        let known = chosen.iter().any(|c| c.group == kind.group && c.kind == kind.kind);
        if !known && kind.can("list") && kind.can("delete") {
            chosen.push(kind.clone());
        }
    }
    chosen
}

async fn remove(
    context: &TaskContext,
    marked: &Marked,
    namespaces: &HashSet<&str>,
) -> Result<String, Finding> {
    let told = describe(&marked.live);
    let failed = |error: &ClusterError| {
        let problem = refused(error);
        finding(&told, &problem.reason, format!("it could not be removed: {}", problem.message))
    };
    if let Some(left) = shared(&marked.live, namespaces) {
        let patch = json!({
            "metadata": {"resourceVersion": text(&marked.live, "/metadata/resourceVersion")}, "subjects": left
        });
        return match context.cluster().patch(&marked.path(), &patch, PatchKind::Merge).await {
            Ok(_) => Ok(format!("{told}: its subjects in the run's namespaces are gone, others share it")),
            Err(error) if error.is_not_found() => Ok(format!("{told} was gone")),
            Err(error) => Err(failed(&error)),
        };
    }
    let options = DeleteOptions { uid: Some(uid(&marked.live).to_owned()), foreground: false };
    match context.cluster().delete(&marked.path(), &options).await {
        Ok(()) => Ok(format!("{told} removed")),
        // Another one of that name was made meanwhile: that is not the run's.
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(format!("{told} was gone")),
        Err(error) => Err(failed(&error)),
    }
}

/// The subjects of a binding of cluster scope that are of others; none if it is no such binding, or
/// nobody else's.
fn shared(live: &Value, namespaces: &HashSet<&str>) -> Option<Vec<Value>> {
    if !namespace(live).is_empty() || live.get("roleRef").is_none() {
        return None;
    }
    let others: Vec<Value> = array(live, "/subjects")
        .iter()
        .filter(|subject| !namespaces.contains(text(subject, "/namespace")))
        .cloned()
        .collect();
    (!others.is_empty()).then_some(others)
}

/// Waits until what was deleted is gone; what is not in time is told and left to go.
async fn wait_until_gone(context: &TaskContext, removed: &[Marked]) -> Result<(), TaskError> {
    let deadline = Instant::now() + GONE_TIMEOUT;
    let mut waiting: Vec<&Marked> =
        removed.iter().filter(|marked| !array(&marked.live, "/metadata/finalizers").is_empty()).collect();
    loop {
        let mut left = Vec::new();
        for marked in waiting {
            let found = context.cluster().find(&marked.path()).await;
            let live = found.map_err(|e| TaskError::cluster(describe(&marked.live), "reading it", &e))?;
            if live.is_some_and(|live| {
                uid(&live) == uid(&marked.live) && !text(&live, "/metadata/deletionTimestamp").is_empty()
            }) {
                left.push(marked);
            }
        }
        let Some(first) = left.first() else { return Ok(()) };
        if Instant::now() > deadline {
            for marked in left.iter().take(MAX_TOLD) {
                let message = format!(
                    "it was deleted and is still there after {} s: look at its finalizers {:?}",
                    GONE_TIMEOUT.as_secs(),
                    array(&marked.live, "/metadata/finalizers")
                );
                context.warn(finding(describe(&marked.live), "StillGoing", message));
            }
            return Ok(());
        }
        context.doing(format!("waiting for {} of {} to go", describe(&first.live), left.len()));
        tokio::time::sleep(LOOK_EVERY).await;
        waiting = left;
    }
}

/// Removes a namespace that the run made, if nothing is in it any more; tells whether it stays.
async fn remove_namespace(
    context: &TaskContext,
    catalogue: &Catalogue,
    namespace: &str,
    mark: &str,
) -> Result<u64, TaskError> {
    let object = format!("Namespace {namespace}");
    let path = format!("/api/v1/namespaces/{namespace}");
    let failed = |doing: &'static str| {
        let object = object.clone();
        move |error| TaskError::cluster(&object, doing, &error)
    };
    let live = context.cluster().find(&path).await.map_err(failed("reading it"))?;
    let Some(live) = live.filter(|live| label(live, MIGRATED_BY) == Some(mark)) else { return Ok(0) };
    if text(&live, "/metadata/deletionTimestamp").is_empty() {
        if let Some(inside) = inside(context, catalogue, namespace).await? {
            context.log(format!("{object} stays: {inside} is in it"));
            return Ok(1);
        }
        let options = DeleteOptions { uid: Some(uid(&live).to_owned()), foreground: false };
        match context.cluster().delete(&path, &options).await {
            Ok(()) => context.log(format!("{object} removed")),
            Err(error) if error.is_conflict() || error.is_not_found() => return Ok(0),
            Err(error) => return Err(failed("removing it")(error)),
        }
    }
    let deadline = Instant::now() + GONE_TIMEOUT;
    while context
        .cluster()
        .find(&path)
        .await
        .map_err(failed("reading it"))?
        .is_some_and(|now| uid(&now) == uid(&live))
    {
        if Instant::now() > deadline {
            let message =
                "it was deleted and is still there: look at its conditions with `kubectl describe namespace`";
            context.warn(finding(object, "StillGoing", message));
            return Ok(0);
        }
        context.doing(format!("waiting for {object} to go"));
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(0)
}

/// Something that is in a namespace and that Kubernetes has not put there by itself.
async fn inside(
    context: &TaskContext,
    catalogue: &Catalogue,
    namespace: &str,
) -> Result<Option<String>, TaskError> {
    for kind in purgeable(catalogue) {
        let listed = match context.cluster().list(&kind.collection(Some(namespace)), "", MAX_OBJECTS).await {
            Ok(listed) => listed,
            Err(error) if matches!(error.code(), Some(404 | 405)) => continue,
            // What cannot be looked at may hold anything.
            Err(error) if matches!(error.code(), Some(403 | 503)) => return Ok(Some(kind.resource())),
            Err(error) => {
                return Err(TaskError::cluster(kind.resource(), "looking what is in the namespace", &error));
            }
        };
        let other = listed
            .iter()
            .find(|live| !is_furniture(&kind, live) && text(live, "/metadata/deletionTimestamp").is_empty());
        if let Some(other) = other {
            return Ok(Some(describe(other)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_binding_that_others_share_only_our_subjects_go() {
        let binding = json!({"metadata": {"name": "b"}, "roleRef": {}, "subjects": [
            {"kind": "ServiceAccount", "name": "a", "namespace": "cms"},
            {"kind": "ServiceAccount", "name": "a", "namespace": "shop"},
            {"kind": "User", "name": "u"}
        ]});
        let left = shared(&binding, &HashSet::from(["cms"])).unwrap();
        assert_eq!((left.len(), &left[0]["namespace"]), (2, &json!("shop")));
        assert!(
            shared(&json!({"roleRef": {}, "subjects": [{"namespace": "cms"}]}), &HashSet::from(["cms"]))
                .is_none()
        );
        assert!(
            shared(
                &json!({"metadata": {"namespace": "cms"}, "roleRef": {}, "subjects": [{}]}),
                &HashSet::new()
            )
            .is_none()
        );
    }
}
