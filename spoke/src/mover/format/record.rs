//! The records of a manifest.
//!
//! ```text
//!   here       what a record says
//!    ├─ wire     the numbers that stand for its parts, and what follows from earlier records
//!    ├─ encode   its bytes
//!    └─ decode   and back, from bytes that somebody may have made up
//! ```

mod decode;
mod encode;
mod wire;

pub(super) use self::{decode::decode, encode::encode, wire::Context};

/// The random id of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackId(pub [u8; 16]);

/// A block's name: BLAKE3 of its content under the volume's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockHash(pub [u8; 32]);

/// A point in time as a filesystem keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds within the second.
    pub nanoseconds: u32,
}

/// An extended attribute: its whole name and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// With its namespace, e.g. `user.comment`.
    pub name: Vec<u8>,
    /// Any bytes.
    pub value: Vec<u8>,
}

/// What a destination sets on an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Last modification.
    pub mtime: Time,
    /// Extended attributes, POSIX ACLs among them, sorted by name.
    pub xattrs: Vec<Xattr>,
}

/// What tells that an entry did not change between two passes. Means nothing elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// The inode's number.
    pub inode: u64,
    /// The last change of content or metadata; zero where it cannot be relied on.
    pub ctime: Time,
    /// Names of the inode.
    pub links: u32,
}

/// A frame in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameRef {
    /// The pack.
    pub pack: PackId,
    /// The frame's number in it: its nonce.
    pub number: u32,
    /// Where it starts in the pack.
    pub offset: u32,
    /// Its length there, tag included.
    pub sealed: u32,
    /// Its length as it was before compression.
    pub raw: u32,
}

/// Where a piece's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PiecePlace {
    /// Here.
    Inline(Vec<u8>),
    /// In a frame, from this byte on.
    Frame {
        /// The frame.
        frame: FrameRef,
        /// The first byte in it, uncompressed.
        inner: u32,
        /// The block's name.
        hash: BlockHash,
    },
}

/// Some consecutive bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where in the file they belong.
    pub offset: u64,
    /// How many there are, at least one.
    pub length: u32,
    /// Where they are in staging.
    pub place: PiecePlace,
    /// Whether the previous pass had the same bytes at this place of the file.
    pub kept: bool,
}

/// A regular file's content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// The file's size; what no piece covers is a hole.
    pub size: u64,
    /// In the order of their offsets, without overlaps.
    pub pieces: Vec<Piece>,
    /// Whether `Data` records and an `End` follow.
    pub open: bool,
    /// Whether the file was still changing after the last attempt at reading it.
    pub inconsistent: bool,
    /// What the previous pass said of the file, if it had it.
    pub before: Option<Before>,
}

impl Content {
    /// Whether both are the same bytes in the same places of staging, whatever came before.
    pub fn is_same(&self, other: &Self) -> bool {
        let same_piece =
            |(a, b): (&Piece, &Piece)| a.offset == b.offset && a.length == b.length && a.place == b.place;
        self.size == other.size
            && self.open == other.open
            && self.inconsistent == other.inconsistent
            && self.pieces.len() == other.pieces.len()
            && self.pieces.iter().zip(&other.pieces).all(same_piece)
    }
}

/// A file as an earlier pass had it: a destination whose file still looks like this needs only
/// the pieces that are not [`Piece::kept`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// The pass.
    pub pass: u32,
    /// The file's size in it.
    pub size: u64,
    /// Its last modification in it.
    pub mtime: Time,
}

/// A device's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File(Content),
    /// A symbolic link to this target, whatever it says.
    Symlink(Vec<u8>),
    /// Another name of the file at this earlier path.
    HardLink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
}

/// One name in the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Below the root; the root's own is empty.
    pub path: Vec<u8>,
    /// What to set on it.
    pub metadata: Metadata,
    /// What tells whether it changed.
    pub stamp: Stamp,
    /// The pass in which the source last found it changed.
    pub changed_in: u32,
    /// What it is.
    pub kind: Kind,
}

/// The end of a large file: what holds after it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct End {
    /// Whether the file was still changing after the last attempt at reading it.
    pub inconsistent: bool,
}

/// One record of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A name.
    Entry(Entry),
    /// More pieces of the open file.
    Data(Vec<Piece>),
    /// The open file is complete.
    End(End),
}

impl Record {
    /// About how many bytes it takes in memory: what bounds the queue of pending records.
    pub fn weight(&self) -> usize {
        let pieces = |pieces: &Vec<Piece>| pieces.len() * size_of::<Piece>();
        let base = size_of::<Self>() + 64;
        base + match self {
            Self::Entry(entry) => {
                let xattrs: usize = entry
                    .metadata
                    .xattrs
                    .iter()
                    .map(|x| x.name.len() + x.value.len() + size_of::<Xattr>())
                    .sum();
                entry.path.len()
                    + xattrs
                    + match &entry.kind {
                        Kind::File(content) => pieces(&content.pieces),
                        Kind::Symlink(target) | Kind::HardLink(target) => target.len(),
                        _ => 0,
                    }
            }
            Self::Data(data) => pieces(data),
            Self::End(_) => 0,
        }
    }

    /// The pieces that it carries.
    pub fn pieces(&self) -> &[Piece] {
        match self {
            Self::Entry(Entry { kind: Kind::File(content), .. }) => &content.pieces,
            Self::Data(pieces) => pieces,
            _ => &[],
        }
    }
}
