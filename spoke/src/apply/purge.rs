//! `purgeDeletedResources`: after everything was applied without a failure, what an earlier run of
//! the same namespace through the same pair brought, and what is gone from the source, is deleted.
//!
//! Only objects in the run's namespaces are looked at, by the label `isthmus.dev/plan`; nothing of
//! cluster scope is, and no Namespace. A claim that a Pod uses stays, with a warning. Each deletion
//! carries the uid of the object that was looked at.

mod choice;

use std::collections::HashSet;

use futures::stream::{self, StreamExt};
use isthmus_shared::protocol::{ObjectResult, Run};
use isthmus_shared::resources::{Finding, PLAN};
use isthmus_shared::staging::ArchiveName;
use serde_json::Value;

use self::choice::{Candidate, Evidence, choose};
pub use self::choice::{Choice, follows_another};
use super::problem::refused;
use super::{Tally, order};
use crate::cluster::{Catalogue, ClusterError, DeleteOptions, Kind, ObjectId, describe, escape, name, uid};
use crate::findings::finding;
use crate::staging_area::StagingArea;
use crate::task::{TaskContext, TaskError};
use crate::volumes::pods_of_claims;

/// Objects of one namespace that are deleted by one run; the next run goes on.
const MAX_DELETED: usize = 10_000;
/// Kinds that are listed at a time.
const PARALLEL_KINDS: usize = 8;

/// What a run brought, by hashes of group, kind, namespace and name on the destination: a run of
/// 200,000 objects takes some 10 MiB.
#[derive(Debug, Default)]
pub struct Brought {
    objects: HashSet<[u8; 16]>,
    kinds: HashSet<(String, String)>,
}

impl Brought {
    /// Notes an object.
    pub fn note(&mut self, group: &str, kind: &str, namespace: &str, name: &str) {
        self.objects.insert(key(group, kind, namespace, name));
        if !self.kinds.contains(&(group.to_owned(), kind.to_owned())) {
            self.kinds.insert((group.to_owned(), kind.to_owned()));
        }
    }

    /// Whether it brought an object.
    pub fn has(&self, group: &str, kind: &str, namespace: &str, name: &str) -> bool {
        self.objects.contains(&key(group, kind, namespace, name))
    }
}

fn key(group: &str, kind: &str, namespace: &str, name: &str) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in [group, kind, namespace, name] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut key = [0; 16];
    key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    key
}

/// What the source left behind of the kinds and names that matter.
#[derive(Default)]
struct LeftBehind {
    names: HashSet<(String, String, String)>,
    kinds: HashSet<(String, String)>,
}

/// An object that carries the plan's mark and was not brought.
#[derive(Debug)]
pub struct Gone {
    /// Its kind.
    pub kind: Kind,
    /// What is looked at of it, not its content.
    pub live: Value,
    /// Whether it is deleted, or may only be gone.
    pub choice: Choice,
}

/// Deletes what is gone from the source.
pub async fn purge(
    context: &TaskContext,
    run: &Run,
    catalogue: &Catalogue,
    area: &StagingArea,
    plan_of: impl Fn(&str) -> String,
    brought: &Brought,
    tally: &mut Tally,
) -> Result<(), TaskError> {
    for source in run.sources() {
        let destination = run.destination_of(source);
        context.doing(format!("looking in {destination} for what is gone from the source"));
        let all = gone(context, catalogue, area, (source, destination), &plan_of(source), brought).await?;
        for Gone { kind, live, choice } in &all {
            match choice {
                Choice::Keep => {}
                Choice::Delete => delete(context, kind, live, destination, tally).await?,
                Choice::Unsure => keep(context, live, unsure(live), tally).await?,
            }
        }
    }
    Ok(())
}

/// What earlier runs brought to a namespace and is gone from the source, or may be.
pub async fn gone(
    context: &TaskContext,
    catalogue: &Catalogue,
    area: &StagingArea,
    (source, destination): (&str, &str),
    plan: &str,
    brought: &Brought,
) -> Result<Vec<Gone>, TaskError> {
    let marked = marked(context, catalogue, destination, plan, brought).await?;
    if marked.is_empty() {
        return Ok(Vec::new());
    }
    let left = left_behind(area, source, &marked).await?;
    let all = marked.into_iter().map(|(kind, live)| {
        let place = (kind.group.clone(), kind.kind.clone());
        let evidence = Evidence {
            brought: brought.has(&kind.group, &kind.kind, destination, name(&live)),
            left_behind: left.names.contains(&(
                kind.group.clone(),
                kind.kind.clone(),
                name(&live).to_owned(),
            )),
            kind_seen: brought.kinds.contains(&place) || left.kinds.contains(&place),
        };
        let choice = choose(Candidate { group: &kind.group, kind: &kind.kind, live: &live }, plan, evidence);
        Gone { kind, live, choice }
    });
    Ok(all.filter(|gone| gone.choice != Choice::Keep).collect())
}

/// What a person should know of an object that may be gone from the source.
pub fn unsure(live: &Value) -> Finding {
    finding(
        describe(live),
        "PurgeUnsure",
        "it is not among what came from the source, but no object of its kind was read there, so its server may not \
         have answered: delete it on the destination if it is gone from the source",
    )
}

/// Why a claim that is gone from the source stays, if it does.
pub async fn stays(
    context: &TaskContext,
    kind: &Kind,
    live: &Value,
    namespace: &str,
) -> Result<Option<Finding>, TaskError> {
    if !kind.group.is_empty() || kind.kind != "PersistentVolumeClaim" {
        return Ok(None);
    }
    let users = pods_of_claims(context.cluster(), namespace, name(live))
        .await
        .map_err(|e| TaskError::cluster(describe(live), "looking for Pods that use it", &e))?;
    let message = "it is gone from the source and stays on the destination, as a Pod uses it: delete it once nothing does";
    Ok((!users.is_empty()).then(|| finding(describe(live), "ClaimInUse", message)))
}

/// The objects that carry the plan's mark and were not brought, those that are applied last first.
async fn marked(
    context: &TaskContext,
    catalogue: &Catalogue,
    namespace: &str,
    plan: &str,
    brought: &Brought,
) -> Result<Vec<(Kind, Value)>, TaskError> {
    let query = format!("labelSelector={}", escape(&format!("{PLAN}={plan}")));
    let kinds = purgeable(catalogue);
    let lists = kinds.into_iter().map(|kind| {
        let query = query.clone();
        async move { (list(context, &kind, namespace, &query, brought).await, kind) }
    });
    let mut lists = stream::iter(lists).buffer_unordered(PARALLEL_KINDS);
    let mut marked = Vec::new();
    let mut uids = HashSet::new();
    while let Some((listed, kind)) = lists.next().await {
        let listed = match listed {
            Ok(listed) => listed,
            // A kind that is not served any more has no objects that could be deleted.
            Err(error) if matches!(error.code(), Some(404 | 405 | 503)) => continue,
            Err(error) => {
                return Err(TaskError::cluster(kind.resource(), "listing what earlier runs brought", &error));
            }
        };
        for live in listed {
            // Some kinds are served twice.
            if marked.len() < MAX_DELETED && uids.insert(uid(&live).to_owned()) {
                marked.push((kind.clone(), live));
            }
        }
    }
    marked.sort_by_key(|(kind, _)| std::cmp::Reverse(order::rank(&kind.group, &kind.kind)));
    Ok(marked)
}

/// The namespaced kinds that can be listed and deleted, each in one version.
pub(super) fn purgeable(catalogue: &Catalogue) -> Vec<Kind> {
    let mut chosen: Vec<Kind> = Vec::new();
    for kind in catalogue.kinds() {
        let usable = kind.namespaced && kind.can("list") && kind.can("delete");
        if usable && !chosen.iter().any(|c| c.group == kind.group && c.kind == kind.kind) {
            chosen.push(kind.clone());
        }
    }
    chosen
}

async fn list(
    context: &TaskContext,
    kind: &Kind,
    namespace: &str,
    query: &str,
    brought: &Brought,
) -> Result<Vec<Value>, ClusterError> {
    let path = kind.collection(Some(namespace));
    let mut all = Vec::new();
    let mut next = None;
    loop {
        let page = context.cluster().page(&path, query, next.as_deref()).await?;
        let gone = |live: &Value| !brought.has(&kind.group, &kind.kind, namespace, name(live));
        all.extend(page.items.into_iter().filter(gone).map(facts));
        next = page.next;
        if next.is_none() || all.len() >= MAX_DELETED {
            return Ok(all);
        }
    }
}

/// The part of an object that the choice looks at: not its content, which may be large.
fn facts(mut live: Value) -> Value {
    if let Some(object) = live.as_object_mut() {
        object.retain(|key, _| matches!(key.as_str(), "apiVersion" | "kind" | "metadata"));
    }
    if let Some(metadata) = live.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        metadata.remove("annotations");
    }
    live
}

/// What the source has and did not give, as far as it concerns the marked objects.
async fn left_behind(
    area: &StagingArea,
    source: &str,
    marked: &[(Kind, Value)],
) -> Result<LeftBehind, TaskError> {
    let kinds: HashSet<(&str, &str)> =
        marked.iter().map(|(kind, _)| (kind.group.as_str(), kind.kind.as_str())).collect();
    let names: HashSet<&str> = marked.iter().map(|(_, live)| name(live)).collect();
    let mut left = LeftBehind::default();
    let mut lines = area.read(ArchiveName::LeftBehind).await?;
    while let Some(line) = lines.next().await? {
        let Ok(result) = serde_json::from_value::<ObjectResult>(line) else { continue };
        let group = result.api_version.split_once('/').map_or("", |(group, _)| group).to_owned();
        if !kinds.contains(&(group.as_str(), result.kind.as_str())) {
            continue;
        }
        let here = result.namespace.as_deref() == Some(source);
        left.kinds.insert((group.clone(), result.kind.clone()));
        if here && names.contains(result.name.as_str()) {
            left.names.insert((group, result.kind, result.name));
        }
    }
    Ok(left)
}

/// Leaves an object, and says why.
async fn keep(context: &TaskContext, live: &Value, why: Finding, tally: &mut Tally) -> Result<(), TaskError> {
    tally.kept(&ObjectId::of(live), &why).await?;
    context.warn(why);
    Ok(())
}

async fn delete(
    context: &TaskContext,
    kind: &Kind,
    live: &Value,
    namespace: &str,
    tally: &mut Tally,
) -> Result<(), TaskError> {
    let id = ObjectId::of(live);
    if let Some(warning) = stays(context, kind, live, namespace).await? {
        return keep(context, live, warning, tally).await;
    }
    let options = DeleteOptions { uid: Some(uid(live).to_owned()), foreground: false };
    match context.cluster().delete(&kind.object(Some(namespace), name(live)), &options).await {
        Ok(()) => {
            context.log(format!("{}: deleted, as it is gone from the source", id.describe()));
            tally.deleted(&id).await?;
        }
        // Another one of that name was made meanwhile.
        Err(error) if error.is_conflict() => {}
        Err(error) => tally.not_deleted(&id, &refused(&error)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_brought_is_known_by_group_kind_namespace_and_name() {
        let mut brought = Brought::default();
        brought.note("apps", "Deployment", "a", "web");
        assert!(brought.has("apps", "Deployment", "a", "web"));
        assert!(!brought.has("", "Deployment", "a", "web"));
        assert!(!brought.has("apps", "Deployment", "aweb", ""));
    }

    #[test]
    fn each_kind_is_looked_at_in_one_version() {
        let kind = |version: &str, verbs: &[&str]| Kind {
            group: "autoscaling".to_owned(),
            version: version.to_owned(),
            kind: "HorizontalPodAutoscaler".to_owned(),
            plural: "horizontalpodautoscalers".to_owned(),
            namespaced: true,
            verbs: verbs.iter().map(ToString::to_string).collect(),
        };
        let all = ["list", "delete"];
        let catalogue = Catalogue::of(vec![kind("v2", &all), kind("v1", &all)]);
        assert_eq!(purgeable(&catalogue).len(), 1);
        assert!(purgeable(&Catalogue::of(vec![kind("v2", &["list"])])).is_empty());
    }
}
