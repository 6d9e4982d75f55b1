//! The manifest of a pass: what the volume holds, as records in sealed segments.
//!
//! ```text
//! segment 0 ─▶ segment 1 ─▶ … ─▶ final segment      each carries the digest of all before it
//!    │
//!    ├─ the packs that it names
//!    └─ records: Entry (Data* End)?                 one entry for each name, in one fixed order
//! ```
//!
//! Entries come in the order of a depth-first walk with names sorted by their bytes, a
//! directory before what it holds. So a later pass, a resumed one and the receiver's deletions
//! are merge-joins that hold one entry of each side.
//!
//! A file's content is a list of pieces. A piece is a block (named by its keyed hash) at a place
//! in a *frame*; a frame is what was compressed and sealed together in a pack: one large block
//! or several small ones. What no piece covers is a hole.
//!
//! A large file opens with its entry, goes on over `Data` records and ends with `End`. If it is
//! opened a second time without having ended, the second opening replaces the first: the sender
//! was restarted, or the file changed while it was read.
//!
//! All readers here take bytes that somebody may have made up: nothing is believed about
//! lengths, paths or order before it was checked.

mod codec;
mod path;
mod record;
mod segment;

pub use codec::FormatError;
pub use path::{PathOrder, check_path, compare_paths, show_path, split_path};
pub use record::{
    Before, BlockHash, Content, Device, End, Entry, FrameRef, Kind, Metadata, PackId, Piece, PiecePlace,
    Record, Stamp, Time, Xattr,
};
pub use segment::{Chain, Segment, SegmentBuilder, decode_records, encode_records};
