//! Finding blocks that staging holds already.
//!
//! A table of fixed size, one slot for each residue of the block's name: a newer block takes the
//! place of an older one. It finds what a volume repeats within a while, never costs more
//! memory, and forgetting costs an upload, not correctness.

use std::sync::Mutex;

use crate::mover::{
    format::{BlockHash, FrameRef, Piece, PiecePlace},
    limits::DEDUP_SLOTS,
    work::lock,
};

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: BlockHash,
    length: u32,
    frame: FrameRef,
    inner: u32,
}

/// The table.
#[derive(Debug)]
pub struct Dedup {
    slots: Mutex<Vec<Option<Slot>>>,
}

impl Default for Dedup {
    fn default() -> Self {
        Self { slots: Mutex::new(vec![None; DEDUP_SLOTS]) }
    }
}

fn index(hash: BlockHash) -> usize {
    let [a, b, c, d, ..] = hash.0;
    u32::from_le_bytes([a, b, c, d]) as usize % DEDUP_SLOTS
}

impl Dedup {
    /// Where the block is, if it is known.
    pub fn find(&self, hash: BlockHash, length: u32) -> Option<PiecePlace> {
        let slot = lock(&self.slots)[index(hash)]?;
        (slot.hash == hash && slot.length == length).then_some(PiecePlace::Frame {
            frame: slot.frame,
            inner: slot.inner,
            hash,
        })
    }

    /// Remembers where a block is.
    pub fn insert(&self, piece: &Piece) {
        if let PiecePlace::Frame { frame, inner, hash } = &piece.place {
            lock(&self.slots)[index(*hash)] =
                Some(Slot { hash: *hash, length: piece.length, frame: *frame, inner: *inner });
        }
    }
}
