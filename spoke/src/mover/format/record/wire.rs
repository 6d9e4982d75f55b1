//! What encoding and decoding have in common: the numbers that stand for a record's parts, and what
//! they remember from one record to the next.

use super::{FrameRef, PackId};

pub const ENTRY: u8 = 1;
pub const DATA: u8 = 2;
pub const END: u8 = 3;

pub const DIRECTORY: u8 = 1;
pub const FILE: u8 = 2;
pub const SYMLINK: u8 = 3;
pub const HARD_LINK: u8 = 4;
pub const FIFO: u8 = 5;
pub const CHAR_DEVICE: u8 = 6;
pub const BLOCK_DEVICE: u8 = 7;

pub const OPEN: u8 = 1;
pub const INCONSISTENT: u8 = 2;
pub const BEFORE: u8 = 4;

pub const INLINE: u8 = 0;
pub const NEW_FRAME: u8 = 1;
pub const SAME_FRAME: u8 = 2;
/// Added to the tag of a piece that was kept.
pub const KEPT: u8 = 0x80;

pub const MODE_BITS: u64 = 0o7777;

/// What encoding and decoding remember from one record to the next: the packs named so far in
/// the segment, and the frame of the last piece (small files share frames).
#[derive(Debug, Default)]
pub struct Context {
    /// The packs named so far, in the order in which they were.
    pub packs: Vec<PackId>,
    /// The frame of the last piece.
    pub frame: Option<FrameRef>,
    /// Pieces so far.
    pub pieces: usize,
}

impl Context {
    /// At the start of a segment that names these packs.
    pub fn with_packs(packs: Vec<PackId>) -> Self {
        Self { packs, ..Self::default() }
    }

    /// The number that stands for a pack from now on.
    pub fn pack_index(&mut self, pack: PackId) -> u64 {
        // The pack of a piece is nearly always one of the last few named.
        if let Some(at) = self.packs.iter().rposition(|known| *known == pack) {
            return at as u64;
        }
        self.packs.push(pack);
        self.packs.len() as u64 - 1
    }
}
