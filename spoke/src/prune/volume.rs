//! One volume: what stays is found, the rest is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use isthmus_shared::protocol::HeldPass;
use isthmus_shared::staging::layout::{self, VolumeObject};
use isthmus_shared::staging::store::MAX_PAGE;
use isthmus_shared::staging::{
    ListedObject, ObjectStore, PairKey, PairUid, SealError, StoreError, VolumeUid,
};

use super::choice::{Choice, Standing, choose};
use super::contents::{self, Contents, MAX_PASSES, Pages};
use super::packs::{MAX_PACKS, PackSet, Packs};
use crate::mover::{MoverError, is_received, named_packs};

/// Where a pair's volumes are staged.
#[derive(Clone, Debug)]
pub struct Staged {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The pair's key.
    pub key: PairKey,
    /// The pair.
    pub pair: PairUid,
}

/// Why a volume could not be collected. What was not removed by then is left as it was.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key.
    #[error("the pair's key cannot be used: {0}; make the pair anew")]
    Key(#[from] SealError),
}

/// What became of a volume's staging.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Objects that were, or with a dry run would be, removed.
    pub objects_removed: u64,
    /// Their bytes.
    pub bytes_removed: u64,
    /// Objects that stay.
    pub objects_kept: u64,
    /// Their bytes.
    pub bytes_kept: u64,
    /// Passes that stay.
    pub passes: u32,
    /// The newest of them; 0 if there is none.
    pub newest_pass: u32,
    /// Why something stays that might have gone.
    pub note: Option<String>,
}

impl Collected {
    fn stay(&mut self, objects: &[ListedObject]) {
        self.objects_kept += objects.len() as u64;
        self.bytes_kept += objects.iter().map(|object| object.size).sum::<u64>();
    }

    fn tell(&mut self, note: String) {
        // The first says most: what follows is mostly for the same reason.
        self.note.get_or_insert(note);
    }
}

/// Removes what the newest `keep` complete passes of a volume, and those that are `held`, do not
/// need; with 0 and none held, everything.
pub async fn collect(
    staged: &Staged,
    volume: &VolumeUid,
    (keep, held): (u32, &BTreeSet<u32>),
    dry_run: bool,
) -> Result<Collected, PruneError> {
    let work = Work { staged, volume, held, dry_run };
    if keep == 0 && held.is_empty() { work.everything().await } else { work.all_but(keep.max(1)).await }
}

/// The passes of a volume among those that are held.
pub fn held_of(held: &[HeldPass], volume: &VolumeUid) -> BTreeSet<u32> {
    held.iter().filter(|held| held.volume == volume.as_str()).map(|held| held.pass).collect()
}

/// Counts what a volume has, and touches nothing.
pub async fn measure(staged: &Staged, volume: &VolumeUid) -> Result<Collected, PruneError> {
    let mut collected = Collected::default();
    let contents = contents::read(staged.store.as_ref(), &staged.pair, volume).await?;
    collected.passes = u32::try_from(contents.passes.len()).unwrap_or(u32::MAX);
    collected.newest_pass = contents.passes.keys().next_back().copied().unwrap_or_default();
    let mut pages = Pages::new(staged.store.as_ref(), layout::volume_prefix(&staged.pair, volume));
    while let Some(objects) = pages.next().await? {
        collected.stay(&objects);
    }
    Ok(collected)
}

struct Work<'a> {
    staged: &'a Staged,
    volume: &'a VolumeUid,
    held: &'a BTreeSet<u32>,
    dry_run: bool,
}

impl Work<'_> {
    fn store(&self) -> &dyn ObjectStore {
        self.staged.store.as_ref()
    }

    fn object(&self, key: &str) -> Option<VolumeObject> {
        layout::volume_object(&self.staged.pair, self.volume, key)
    }

    /// Removes those objects below a prefix that `goes` says; counts those too that stay.
    async fn sweep(
        &self,
        prefix: String,
        collected: &mut Collected,
        goes: impl Fn(&str) -> bool + Send + Sync,
    ) -> Result<(), PruneError> {
        let mut pages = Pages::new(self.store(), prefix);
        while let Some(objects) = pages.next().await? {
            let (going, staying): (Vec<_>, Vec<_>) =
                objects.into_iter().partition(|object| goes(&object.key));
            collected.stay(&staying);
            self.remove(going, collected).await?;
        }
        Ok(())
    }

    async fn remove(&self, objects: Vec<ListedObject>, collected: &mut Collected) -> Result<(), PruneError> {
        let bytes: u64 = objects.iter().map(|object| object.size).sum();
        let keys: Vec<String> = objects.into_iter().map(|object| object.key).collect();
        if !keys.is_empty() && !self.dry_run {
            self.store().delete(&keys).await?;
        }
        collected.objects_removed += keys.len() as u64;
        collected.bytes_removed += bytes;
        Ok(())
    }

    /// No pass counts as complete any more, then the packs go, then the passes: as long as a pack is
    /// left the passes' numbers are, so that no later pass takes one of them again.
    async fn everything(&self) -> Result<Collected, PruneError> {
        let mut collected = Collected::default();
        let (pair, volume) = (&self.staged.pair, self.volume);
        let is_mark = |key: &str| matches!(self.object(key), Some(VolumeObject::Received { .. }));
        let passes = layout::volume_passes_prefix(pair, volume);
        let mut before = Collected::default();
        self.sweep(passes.clone(), &mut before, is_mark).await?;
        self.sweep(layout::volume_packs_prefix(pair, volume), &mut collected, |_| true).await?;
        let rest = layout::volume_prefix(pair, volume);
        let packs = layout::volume_packs_prefix(pair, volume);
        let mut after = Collected::default();
        // A dry run finds the marks and the packs again: they are counted already.
        self.sweep(rest, &mut after, |key| !is_mark(key) && !key.starts_with(&packs)).await?;
        for part in [before, after] {
            collected.objects_removed += part.objects_removed;
            collected.bytes_removed += part.bytes_removed;
        }
        Ok(collected)
    }

    async fn all_but(&self, keep: u32) -> Result<Collected, PruneError> {
        let (pair, volume) = (&self.staged.pair, self.volume);
        let contents = contents::read(self.store(), pair, volume).await?;
        let mut collected = Collected::default();
        let (choice, named) = self.decide(&contents, keep, &mut collected).await?;
        collected.passes = u32::try_from(contents.passes.len() - choice.gone.len()).unwrap_or(u32::MAX);
        collected.newest_pass = contents.passes.keys().next_back().copied().unwrap_or_default();
        if contents.unknown > 0 {
            collected
                .tell(format!("{} objects among its passes are of no known kind and stay", contents.unknown));
        }
        self.remove_passes(&contents, &choice, &mut collected).await?;
        // The passes that stay, counted from the listing.
        let gone: BTreeSet<u32> = choice.gone.iter().copied().collect();
        for (_, known) in contents.passes.iter().filter(|(pass, _)| !gone.contains(pass)) {
            collected.objects_kept += known.objects;
            collected.bytes_kept += known.bytes;
        }
        let goes = |key: &str| match (self.object(key), &named, choice.newest_complete) {
            (Some(VolumeObject::Pack(id)), Some(named), Some(newest)) => {
                layout::pass_of_pack(&id) <= newest && !named.contains(&id)
            }
            _ => false,
        };
        self.sweep(layout::volume_packs_prefix(pair, volume), &mut collected, goes).await?;
        Ok(collected)
    }

    /// Which passes stay, and the packs that they name; no packs if that cannot be told, and then
    /// all of them stay.
    async fn decide(
        &self,
        contents: &Contents,
        keep: u32,
        collected: &mut Collected,
    ) -> Result<(Choice, Option<Packs>), PruneError> {
        if contents.too_many {
            collected.tell(format!(
                "it has more than {MAX_PASSES} passes and stays as it is: remove the folder `passes` of the volume from the bucket by hand"
            ));
            return Ok((Choice::default(), None));
        }
        let standings = self.standings(contents, keep, collected).await?;
        let choice = choose(&standings, keep, self.held);
        if choice.newest_complete.is_none() {
            return Ok((Choice { gone: Vec::new(), ..choice }, None));
        }
        let named = self.named(&choice, &standings, collected).await?;
        Ok((choice, named))
    }

    /// How the passes stand, the newest first; below the last complete one that stays the marks are
    /// not read any more.
    async fn standings(
        &self,
        contents: &Contents,
        keep: u32,
        collected: &mut Collected,
    ) -> Result<Vec<(u32, Standing)>, PruneError> {
        let Staged { store, key, pair } = self.staged;
        let key = key.volume_key(self.volume)?;
        let mut standings = Vec::with_capacity(contents.passes.len());
        let mut complete = 0;
        for (pass, known) in contents.passes.iter().rev() {
            let asked = complete < keep || self.held.contains(pass);
            let standing = if !asked || !known.marked {
                Standing::Incomplete
            } else {
                match is_received(Arc::clone(store), &key, pair, self.volume, *pass).await {
                    Ok(true) => Standing::Complete,
                    Ok(false) => Standing::Incomplete,
                    Err(MoverError::Store(error)) => return Err(error.into()),
                    Err(error) => {
                        collected.tell(format!("pass {pass} stays because its mark cannot be read: {error}"));
                        Standing::Unreadable
                    }
                }
            };
            complete += u32::from(standing == Standing::Complete);
            standings.push((*pass, standing));
        }
        Ok(standings)
    }

    async fn named(
        &self,
        choice: &Choice,
        standings: &[(u32, Standing)],
        collected: &mut Collected,
    ) -> Result<Option<Packs>, PruneError> {
        let Staged { store, key, pair } = self.staged;
        let key = key.volume_key(self.volume)?;
        let standings: BTreeMap<u32, Standing> = standings.iter().copied().collect();
        let mut set = PackSet::default();
        for pass in &choice.kept {
            let whole =
                named_packs(Arc::clone(store), &key, pair, self.volume, *pass, |id| set.insert(id)).await;
            match (whole, standings.get(pass)) {
                // One that is under way is as long as it is.
                (Ok(true), _) | (Ok(false), Some(Standing::Incomplete)) => {}
                (Ok(false), _) => {
                    collected.tell(format!(
                        "all packs stay because the manifest of pass {pass} has no end: something else removes objects from the bucket"
                    ));
                    return Ok(None);
                }
                (Err(MoverError::Store(error)), _) => return Err(error.into()),
                (Err(error), _) => {
                    collected.tell(format!(
                        "all packs stay because the manifest of pass {pass} cannot be read: {error}"
                    ));
                    return Ok(None);
                }
            }
        }
        let packs = set.finish();
        if packs.is_err() {
            collected.tell(format!(
                "all packs stay because its passes name more than {MAX_PACKS} of them: keep fewer passes"
            ));
        }
        Ok(packs.ok())
    }

    async fn remove_passes(
        &self,
        contents: &Contents,
        choice: &Choice,
        collected: &mut Collected,
    ) -> Result<(), PruneError> {
        let pair = &self.staged.pair;
        let marks: Vec<String> = choice
            .gone
            .iter()
            .filter(|pass| contents.passes.get(pass).is_some_and(|known| known.marked))
            .map(|pass| layout::pass_received(pair, self.volume, *pass))
            .collect();
        if !self.dry_run {
            for marks in marks.chunks(MAX_PAGE) {
                self.store().delete(marks).await?;
            }
        }
        for pass in &choice.gone {
            let Some(known) = contents.passes.get(pass) else { continue };
            let mut removed = Collected::default();
            let prefix = layout::pass_prefix(pair, self.volume, *pass);
            if !self.dry_run {
                self.sweep(prefix, &mut removed, |key| self.object(key).is_some()).await?;
            }
            // As listed at the beginning: the mark is gone by now.
            collected.objects_removed += known.objects;
            collected.bytes_removed += known.bytes;
        }
        Ok(())
    }
}
