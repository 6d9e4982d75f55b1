//! All volumes of a pair, on request.

use std::collections::HashSet;

use isthmus_shared::protocol::{Outcome, PruneTask};
use isthmus_shared::resources::{MAX_STAGED_VOLUMES, PruneTotals, StagedVolume};
use isthmus_shared::staging::{PairKey, PairUid, VolumeUid, layout};

use super::origin::{self, Origin};
use super::volume::{Collected, PruneError, Staged, collect, held_of, measure};
use crate::cluster::uid;
use crate::task::{TaskContext, TaskError};
use crate::volumes::received_last;

/// The most volumes of a pair that are looked at in one collection.
const MAX_VOLUMES: usize = 20_000;
/// So many volumes in a row whose staging cannot be used are a reason to stop.
const MAX_PROBLEMS: u64 = 3;

/// Collects what the pair's volumes have in staging and nobody needs.
pub async fn prune_pair(context: &TaskContext, task: &PruneTask) -> Result<Outcome, TaskError> {
    let staged = open(context, task)?;
    let in_use: HashSet<&str> = task.in_use.iter().map(String::as_str).collect();
    let own = origin::cluster_uid(context.cluster())
        .await
        .map_err(|error| TaskError::cluster("Namespace kube-system", "reading it", &error))?;
    let mut collection = Collection {
        context,
        task,
        staged: &staged,
        own,
        totals: PruneTotals::default(),
        volumes: Vec::new(),
    };
    let mut uids = Uids::new(&staged);
    let mut in_a_row = 0;
    while let Some(volume) = uids.next().await.map_err(|error| unusable(task, &error))? {
        if collection.totals.volumes >= MAX_VOLUMES as u64 {
            let message = format!(
                "the pair has more than {MAX_VOLUMES} volumes in staging; those beyond were not looked at: prune with --gone, then again"
            );
            context.warn(crate::findings::finding(
                format!("ClusterPair {}", task.name),
                "TooManyVolumes",
                message,
            ));
            break;
        }
        collection.totals.volumes += 1;
        context.doing(format!("volume {}: {volume}", collection.totals.volumes));
        let result = collection.one(&volume, &in_use).await;
        match result {
            Ok(()) => in_a_row = 0,
            Err(error) => {
                in_a_row += 1;
                if in_a_row >= MAX_PROBLEMS {
                    return Err(unusable(task, &error));
                }
                collection.problem(&volume, &error);
            }
        }
    }
    Ok(collection.outcome())
}

fn open(context: &TaskContext, task: &PruneTask) -> Result<Staged, TaskError> {
    let bad = |error: &dyn std::fmt::Display| {
        TaskError::failed(format!("ClusterPair {}", task.name), "StagingUnusable", error.to_string())
    };
    Ok(Staged {
        store: context.spoke.stores.open(&task.staging.access).map_err(|e| bad(&e))?,
        key: PairKey::from_base64(&task.staging.key).map_err(|e| bad(&e))?,
        pair: PairUid::new(task.staging.pair.as_str()).map_err(|e| bad(&e))?,
    })
}

fn unusable(task: &PruneTask, error: &PruneError) -> TaskError {
    TaskError::failed(format!("ClusterPair {}", task.name), "StagingUnusable", error.to_string())
}

struct Collection<'a> {
    context: &'a TaskContext,
    task: &'a PruneTask,
    staged: &'a Staged,
    /// What tells this cluster from others.
    own: Option<String>,
    totals: PruneTotals,
    volumes: Vec<StagedVolume>,
}

impl Collection<'_> {
    async fn one(&mut self, volume: &VolumeUid, in_use: &HashSet<&str>) -> Result<(), PruneError> {
        let Staged { store, key, pair } = self.staged;
        if self.is_only_a_note(volume, in_use).await? {
            self.totals.volumes -= 1;
            return Ok(());
        }
        let in_use = in_use.contains(volume.as_str());
        let mut note = None;
        let origin = match origin::read(store.as_ref(), key, pair, volume).await {
            Ok(origin) => origin,
            Err(origin::OriginError::Store(error)) => return Err(error.into()),
            Err(error) => {
                note = Some(format!("which claim it is of is not known: {error}"));
                None
            }
        };
        if in_use {
            self.totals.in_use += 1;
            let collected = measure(self.staged, volume).await?;
            note = Some("a migration is using it: it was left alone".to_owned());
            self.add(&collected, listed(volume, origin, false, note));
            return Ok(());
        }
        let gone = match self.is_gone(volume, origin.as_ref()).await {
            Ok(gone) => gone,
            Err(why) => {
                note = Some(why);
                false
            }
        };
        let keep = if gone && self.task.gone { 0 } else { self.task.keep };
        if gone {
            self.totals.gone += 1;
            note = Some(if self.task.gone {
                "its claim is gone".to_owned()
            } else {
                "its claim is gone: prune with --gone removes what is staged of it".to_owned()
            });
        }
        let held = held_of(&self.task.held, volume);
        let collected = collect(self.staged, volume, (keep, &held), self.task.dry_run).await?;
        if collected.note.is_some() {
            self.totals.problems += 1;
        }
        let note = collected.note.clone().or(note);
        self.add(&collected, listed(volume, origin, gone, note));
        Ok(())
    }

    /// Whether there is nothing but the note which volume the claim of this name received. It goes
    /// with that volume.
    async fn is_only_a_note(
        &mut self,
        claim: &VolumeUid,
        in_use: &HashSet<&str>,
    ) -> Result<bool, PruneError> {
        let Staged { store, key, pair } = self.staged;
        let note = layout::claim_lineage(pair, claim);
        let found = store.list(&layout::volume_prefix(pair, claim), None, 2).await?.objects;
        let [only] = found.as_slice() else { return Ok(false) };
        if only.key != note {
            return Ok(false);
        }
        let received = received_last(store.as_ref(), key, pair, claim).await?;
        let Some(received) = received.filter(|received| received != claim) else { return Ok(true) };
        if in_use.contains(received.as_str()) {
            return Ok(true);
        }
        let left = store.list(&layout::volume_prefix(pair, &received), None, 2).await?.objects;
        if left.iter().all(|object| object.key == layout::claim_lineage(pair, &received)) {
            self.totals.objects_removed += 1;
            self.totals.bytes_removed += only.size;
            if !self.task.dry_run {
                store.delete(&[note]).await?;
            }
        }
        Ok(true)
    }

    /// Whether the claim is gone for certain: of another cluster, or of one that is not known, it is
    /// never.
    async fn is_gone(&self, volume: &VolumeUid, origin: Option<&Origin>) -> Result<bool, String> {
        let Some(origin) = origin else { return Ok(false) };
        if self.own.as_deref() != Some(origin.cluster_uid.as_str()) {
            return Ok(false);
        }
        let Origin { namespace, claim, .. } = origin;
        let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}");
        match self.context.cluster().find(&path).await {
            Ok(found) => Ok(found.is_none_or(|claim| uid(&claim) != volume.as_str())),
            Err(error) => {
                Err(format!("whether claim {namespace}/{claim} is still there could not be asked: {error}"))
            }
        }
    }

    /// Takes a volume into the totals and the list.
    fn add(&mut self, collected: &Collected, listed: StagedVolume) {
        self.totals.objects_removed += collected.objects_removed;
        self.totals.bytes_removed += collected.bytes_removed;
        self.totals.objects_kept += collected.objects_kept;
        self.totals.bytes_kept += collected.bytes_kept;
        self.volumes.push(StagedVolume {
            passes: collected.passes,
            newest_pass: collected.newest_pass,
            bytes_kept: collected.bytes_kept,
            objects_removed: collected.objects_removed,
            bytes_removed: collected.bytes_removed,
            note: listed.note.map(|note| note.chars().take(MAX_NOTE).collect()),
            ..listed
        });
    }

    fn problem(&mut self, volume: &VolumeUid, error: &PruneError) {
        tracing::warn!(%volume, %error, "collecting failed");
        self.totals.problems += 1;
        self.add(&Collected::default(), listed(volume, None, false, Some(error.to_string())));
    }

    fn outcome(mut self) -> Outcome {
        let size = |volume: &StagedVolume| volume.bytes_kept.saturating_add(volume.bytes_removed);
        self.volumes.sort_by(|a, b| size(b).cmp(&size(a)).then_with(|| a.uid.cmp(&b.uid)));
        self.volumes.truncate(MAX_STAGED_VOLUMES);
        Outcome::Pruned { totals: self.totals, volumes: self.volumes }
    }
}

/// A volume by what is known of its claim.
fn listed(volume: &VolumeUid, origin: Option<Origin>, gone: bool, note: Option<String>) -> StagedVolume {
    let (cluster, namespace, claim) =
        origin.map(|o| (Some(o.cluster), Some(o.namespace), Some(o.claim))).unwrap_or_default();
    StagedVolume { uid: volume.to_string(), cluster, namespace, claim, gone, note, ..StagedVolume::default() }
}

/// The longest note about a volume, in characters.
const MAX_NOTE: usize = 500;

/// The uids of a pair's volumes, one short listing for each.
struct Uids<'a> {
    staged: &'a Staged,
    after: Option<String>,
}

impl<'a> Uids<'a> {
    fn new(staged: &'a Staged) -> Self {
        Self { staged, after: None }
    }

    async fn next(&mut self) -> Result<Option<VolumeUid>, PruneError> {
        let prefix = layout::volumes_prefix(&self.staged.pair);
        loop {
            let page = self.staged.store.list(&prefix, self.after.as_deref(), 1).await?;
            let Some(object) = page.objects.into_iter().next() else { return Ok(None) };
            let name = object.key[prefix.len()..].split_once('/').map(|(uid, _)| VolumeUid::new(uid));
            let Some(Ok(volume)) = name else {
                // Nothing of ours: it is passed over.
                self.after = Some(object.key);
                continue;
            };
            // Behind everything of this volume: '~' is the last of the characters that keys have.
            self.after = Some(format!("{}~", layout::volume_prefix(&self.staged.pair, &volume)));
            return Ok(Some(volume));
        }
    }
}
