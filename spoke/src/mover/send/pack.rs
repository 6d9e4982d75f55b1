//! Frames into packs, packs into the store.
//!
//! One pack is being filled; a full one is put by a task of its own while the next is filled.
//! The pool of buffers bounds how many are under way. A pack counts as landed once the store
//! has confirmed it; only then may a segment name it.
//!
//! A pack is its frames and nothing else, so there is no byte in it that no tag covers. Its id is
//! in its key, and begins with the number of the pass that wrote it: a pass refers to packs of its
//! own and to those that the one it builds on names, so older ones that no kept pass names can go.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use isthmus_shared::staging::{
    VolumeKey, layout,
    seal::{PackKey, TAG_LEN, random_id},
};
use tokio::{runtime::Handle, sync::Notify};

use crate::mover::{
    error::MoverError,
    format::{FrameRef, PackId},
    limits::PACK_BUFFERS,
    manifest::Place,
    report::Progress,
    work::{Buffer, Pool, Stop, lock},
};

struct Filling {
    id: PackId,
    key: PackKey,
    buffer: Buffer,
    frames: u32,
}

/// Takes frames from all workers.
pub struct Packer {
    place: Place,
    volume_key: VolumeKey,
    pass: u32,
    pack_bytes: usize,
    pool: Pool,
    filling: Mutex<Option<Filling>>,
    landing: Arc<Landing>,
    progress: Progress,
    stop: Stop,
    runtime: Handle,
}

/// The packs that have not landed yet.
#[derive(Debug, Default)]
pub struct Landing {
    under_way: Mutex<HashSet<PackId>>,
    landed: Notify,
    uploaded: std::sync::atomic::AtomicU64,
}

impl Landing {
    /// Whether this pack may be named in a segment.
    pub fn has_landed(&self, pack: PackId) -> bool {
        !lock(&self.under_way).contains(&pack)
    }

    /// Waits until some pack has landed, from the moment of the call on.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.landed.notified()
    }

    /// Bytes that have landed.
    pub fn uploaded(&self) -> u64 {
        self.uploaded.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Packer {
    /// Packs for one pass over a volume.
    pub fn new(
        place: Place,
        pass: u32,
        volume_key: VolumeKey,
        pack_bytes: usize,
        progress: Progress,
        stop: Stop,
        runtime: Handle,
    ) -> Self {
        Self {
            place,
            volume_key,
            pass,
            pack_bytes,
            pool: Pool::new(PACK_BUFFERS, pack_bytes),
            filling: Mutex::new(None),
            landing: Arc::default(),
            progress,
            stop,
            runtime,
        }
    }

    /// What has landed.
    pub fn landing(&self) -> Arc<Landing> {
        self.landing.clone()
    }

    /// Seals a frame (`bytes`, already compressed if that made it smaller than `raw`) into the
    /// pack that is being filled.
    pub fn add(&self, bytes: &[u8], raw: u32) -> Result<FrameRef, MoverError> {
        let needed = bytes.len() + TAG_LEN;
        let mut slot = lock(&self.filling);
        if let Some(full) = slot.take_if(|filling| filling.buffer.bytes.len() + needed > self.pack_bytes) {
            self.ship(full);
        }
        if slot.is_none() {
            *slot = Some(self.begin()?);
        }
        let Some(filling) = slot.as_mut() else {
            return Err(MoverError::Cancelled);
        };
        // Sealed while the lock is held: it saves a copy and takes a tenth of what reading,
        // hashing and compressing the same bytes takes outside of it.
        let offset = filling.buffer.bytes.len();
        filling.buffer.bytes.resize(offset + bytes.len(), 0);
        let number = filling.frames;
        let tag =
            filling.key.seal_into(number, &raw.to_be_bytes(), bytes, &mut filling.buffer.bytes[offset..])?;
        filling.buffer.bytes.extend_from_slice(&tag);
        filling.frames += 1;
        Ok(FrameRef {
            pack: filling.id,
            number,
            offset: u32::try_from(offset).unwrap_or(u32::MAX),
            sealed: u32::try_from(needed).unwrap_or(u32::MAX),
            raw,
        })
    }

    /// Sends the pack that is being filled as it is.
    pub fn flush(&self) {
        if let Some(filling) = lock(&self.filling).take() {
            self.ship(filling);
        }
    }

    fn begin(&self) -> Result<Filling, MoverError> {
        let buffer = self.pool.take(&self.stop)?;
        let id = PackId(layout::pack_id(self.pass, random_id()?));
        lock(&self.landing.under_way).insert(id);
        Ok(Filling { id, key: self.volume_key.pack_key(&id.0)?, buffer, frames: 0 })
    }

    fn ship(&self, pack: Filling) {
        let object = layout::volume_pack(&self.place.pair, &self.place.volume, &pack.id.0);
        let store = self.place.store.clone();
        let landing = self.landing.clone();
        let (stop, progress) = (self.stop.clone(), self.progress.clone());
        self.runtime.spawn(async move {
            let length = pack.buffer.bytes.len() as u64;
            let put = store.put(&object, Bytes::from_owner(pack.buffer));
            let result = tokio::select! {
                result = put => result,
                () = stop.wait() => return,
            };
            match result {
                Ok(()) => {
                    lock(&landing.under_way).remove(&pack.id);
                    progress.add_transferred(length);
                    landing.uploaded.fetch_add(length, std::sync::atomic::Ordering::Relaxed);
                    landing.landed.notify_waiters();
                }
                Err(error) => stop.fail(error.into()),
            }
        });
    }
}
