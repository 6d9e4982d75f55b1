//! What a volume has in staging, read page by page.

use std::collections::BTreeMap;

use isthmus_shared::staging::layout::{self, VolumeObject};
use isthmus_shared::staging::store::MAX_PAGE;
use isthmus_shared::staging::{ListedObject, ObjectStore, PairUid, StoreError, VolumeUid};

/// The most passes of a volume that are looked at; each run makes one and removes others.
pub const MAX_PASSES: usize = 20_000;

/// One pass, as far as a listing shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassContents {
    /// Whether its receiver left a mark, complete or not.
    pub marked: bool,
    /// Its objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A volume without its packs, which are streamed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The passes by their numbers.
    pub passes: BTreeMap<u32, PassContents>,
    /// Objects that nobody here would have written, in the passes' folder.
    pub unknown: u64,
    /// Whether there are more passes than are looked at.
    pub too_many: bool,
}

/// Goes through everything below a prefix, one page in memory.
pub struct Pages<'a> {
    store: &'a dyn ObjectStore,
    prefix: String,
    after: Option<String>,
    ended: bool,
}

impl<'a> Pages<'a> {
    /// From the first key on.
    pub fn new(store: &'a dyn ObjectStore, prefix: String) -> Self {
        Self { store, prefix, after: None, ended: false }
    }

    /// The next page; none after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<ListedObject>>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let page = self.store.list(&self.prefix, self.after.as_deref(), MAX_PAGE).await?;
        self.after = page.objects.last().map(|object| object.key.clone());
        self.ended = !page.more || self.after.is_none();
        Ok(Some(page.objects))
    }
}

/// Lists a volume's passes.
pub async fn read(
    store: &dyn ObjectStore,
    pair: &PairUid,
    volume: &VolumeUid,
) -> Result<Contents, StoreError> {
    let mut contents = Contents::default();
    let mut pages = Pages::new(store, layout::volume_passes_prefix(pair, volume));
    while let Some(objects) = pages.next().await? {
        for object in objects {
            let (pass, marked) = match layout::volume_object(pair, volume, &object.key) {
                Some(VolumeObject::Received { pass }) => (pass, true),
                Some(VolumeObject::Segment { pass } | VolumeObject::Sender { pass }) => (pass, false),
                Some(VolumeObject::Pack(_) | VolumeObject::Origin | VolumeObject::Lineage) | None => {
                    contents.unknown += 1;
                    continue;
                }
            };
            if contents.passes.len() >= MAX_PASSES && !contents.passes.contains_key(&pass) {
                contents.too_many = true;
                return Ok(contents);
            }
            let known = contents.passes.entry(pass).or_default();
            known.marked |= marked;
            known.objects += 1;
            known.bytes += object.size;
        }
    }
    Ok(contents)
}
