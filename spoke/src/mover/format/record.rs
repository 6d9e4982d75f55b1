//! The records of a manifest and their bytes.

use super::{
    codec::{Decoder, Encoder, FormatError},
    path::{check_path, show_path},
};
use crate::mover::limits::{
    INLINE_BYTES, MAX_FILE_BYTES, MAX_FRAME_RAW, MAX_PATH_BYTES, MAX_SEGMENT_PIECES, MAX_TARGET_BYTES,
    MAX_XATTR_BYTES,
};
use isthmus_shared::staging::{MAX_OBJECT, seal::TAG_LEN};

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

const ENTRY: u8 = 1;
const DATA: u8 = 2;
const END: u8 = 3;

const DIRECTORY: u8 = 1;
const FILE: u8 = 2;
const SYMLINK: u8 = 3;
const HARD_LINK: u8 = 4;
const FIFO: u8 = 5;
const CHAR_DEVICE: u8 = 6;
const BLOCK_DEVICE: u8 = 7;

const OPEN: u8 = 1;
const INCONSISTENT: u8 = 2;
const BEFORE: u8 = 4;

const INLINE: u8 = 0;
const NEW_FRAME: u8 = 1;
const SAME_FRAME: u8 = 2;
/// Added to the tag of a piece that was kept.
const KEPT: u8 = 0x80;

const MODE_BITS: u64 = 0o7777;

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

/// What encoding and decoding remember from one record to the next: the packs named so far in
/// the segment, and the frame of the last piece (small files share frames).
#[derive(Debug, Default)]
pub(super) struct Context {
    pub packs: Vec<PackId>,
    frame: Option<FrameRef>,
    pieces: usize,
}

impl Context {
    pub fn with_packs(packs: Vec<PackId>) -> Self {
        Self { packs, ..Self::default() }
    }

    fn pack_index(&mut self, pack: PackId) -> u64 {
        // The pack of a piece is nearly always one of the last few named.
        if let Some(at) = self.packs.iter().rposition(|known| *known == pack) {
            return at as u64;
        }
        self.packs.push(pack);
        self.packs.len() as u64 - 1
    }
}

pub(super) fn encode(record: &Record, to: &mut Encoder, context: &mut Context) {
    match record {
        Record::Entry(entry) => {
            to.byte(ENTRY);
            to.string(&entry.path);
            encode_metadata(&entry.metadata, to);
            to.number(entry.stamp.inode);
            encode_time(entry.stamp.ctime, to);
            to.number(u64::from(entry.stamp.links));
            to.number(u64::from(entry.changed_in));
            encode_kind(&entry.kind, to, context);
        }
        Record::Data(pieces) => {
            to.byte(DATA);
            encode_pieces(pieces, to, context);
        }
        Record::End(end) => {
            to.byte(END);
            to.byte(u8::from(end.inconsistent));
        }
    }
}

fn encode_time(time: Time, to: &mut Encoder) {
    to.signed(time.seconds);
    to.number(u64::from(time.nanoseconds));
}

fn encode_metadata(metadata: &Metadata, to: &mut Encoder) {
    to.number(u64::from(metadata.uid));
    to.number(u64::from(metadata.gid));
    to.number(u64::from(metadata.mode));
    encode_time(metadata.mtime, to);
    to.number(metadata.xattrs.len() as u64);
    for xattr in &metadata.xattrs {
        to.string(&xattr.name);
        to.string(&xattr.value);
    }
}

fn encode_kind(kind: &Kind, to: &mut Encoder, context: &mut Context) {
    match kind {
        Kind::Directory => to.byte(DIRECTORY),
        Kind::File(content) => {
            to.byte(FILE);
            let open = if content.open { OPEN } else { 0 };
            let inconsistent = if content.inconsistent { INCONSISTENT } else { 0 };
            let before = if content.before.is_some() { BEFORE } else { 0 };
            to.byte(open | inconsistent | before);
            to.number(content.size);
            if let Some(before) = &content.before {
                to.number(u64::from(before.pass));
                to.number(before.size);
                encode_time(before.mtime, to);
            }
            encode_pieces(&content.pieces, to, context);
        }
        Kind::Symlink(target) => {
            to.byte(SYMLINK);
            to.string(target);
        }
        Kind::HardLink(target) => {
            to.byte(HARD_LINK);
            to.string(target);
        }
        Kind::Fifo => to.byte(FIFO),
        Kind::CharDevice(device) => encode_device(CHAR_DEVICE, *device, to),
        Kind::BlockDevice(device) => encode_device(BLOCK_DEVICE, *device, to),
    }
}

fn encode_device(kind: u8, device: Device, to: &mut Encoder) {
    to.byte(kind);
    to.number(u64::from(device.major));
    to.number(u64::from(device.minor));
}

fn encode_pieces(pieces: &[Piece], to: &mut Encoder, context: &mut Context) {
    to.number(pieces.len() as u64);
    let mut end = 0_u64;
    for piece in pieces {
        // Offsets as distances from the end of the piece before: zero where there is no hole.
        to.number(piece.offset.wrapping_sub(end));
        to.number(u64::from(piece.length));
        end = piece.offset + u64::from(piece.length);
        let kept = if piece.kept { KEPT } else { 0 };
        match &piece.place {
            PiecePlace::Inline(bytes) => {
                to.byte(INLINE | kept);
                to.raw(bytes);
            }
            PiecePlace::Frame { frame, inner, hash } => {
                if context.frame == Some(*frame) {
                    to.byte(SAME_FRAME | kept);
                } else {
                    to.byte(NEW_FRAME | kept);
                    let pack = context.pack_index(frame.pack);
                    to.number(pack);
                    to.number(u64::from(frame.number));
                    to.number(u64::from(frame.offset));
                    to.number(u64::from(frame.sealed));
                    to.number(u64::from(frame.raw));
                    context.frame = Some(*frame);
                }
                to.number(u64::from(*inner));
                to.raw(&hash.0);
            }
        }
    }
}

pub(super) fn decode(from: &mut Decoder, context: &mut Context) -> Result<Record, FormatError> {
    match from.byte("record")? {
        ENTRY => decode_entry(from, context).map(Record::Entry),
        DATA => decode_pieces(from, context, MAX_FILE_BYTES, b"").map(Record::Data),
        END => match from.byte("end of a file")? {
            value @ (0 | 1) => Ok(Record::End(End { inconsistent: value == 1 })),
            value => Err(unknown("end of a file", value)),
        },
        value => Err(unknown("record", value)),
    }
}

fn unknown(what: &'static str, value: u8) -> FormatError {
    FormatError::Unknown { what, value: u64::from(value) }
}

fn decode_entry(from: &mut Decoder, context: &mut Context) -> Result<Entry, FormatError> {
    let path = from.string("path", MAX_PATH_BYTES)?;
    check_path(path)?;
    Ok(Entry {
        path: path.to_vec(),
        metadata: decode_metadata(from)?,
        stamp: Stamp {
            inode: from.number("inode")?,
            ctime: decode_time(from)?,
            links: from.u32("link count")?,
        },
        changed_in: from.u32("pass number")?,
        kind: decode_kind(from, context, path)?,
    })
}

fn decode_time(from: &mut Decoder) -> Result<Time, FormatError> {
    let seconds = from.signed("time")?;
    let nanoseconds = from.bounded("number of nanoseconds", 999_999_999)?;
    Ok(Time { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or_default() })
}

fn decode_metadata(from: &mut Decoder) -> Result<Metadata, FormatError> {
    let uid = from.u32("uid")?;
    let gid = from.u32("gid")?;
    let mode = from.bounded("mode", MODE_BITS)?;
    let mtime = decode_time(from)?;
    let count = from.bounded("number of extended attributes", MAX_XATTR_BYTES as u64)?;
    let mut xattrs = Vec::new();
    let mut bytes = 0;
    for _ in 0..count {
        let name = from.string("attribute name", MAX_XATTR_BYTES)?;
        let value = from.string("attribute value", MAX_XATTR_BYTES)?;
        bytes += name.len() + value.len();
        if name.is_empty() || name.contains(&0) {
            return Err(unknown("attribute name", 0));
        }
        if bytes > MAX_XATTR_BYTES {
            return Err(FormatError::TooLarge {
                what: "size of extended attributes",
                value: bytes as u64,
                limit: MAX_XATTR_BYTES as u64,
            });
        }
        xattrs.push(Xattr { name: name.to_vec(), value: value.to_vec() });
    }
    Ok(Metadata { uid, gid, mode: u32::try_from(mode).unwrap_or_default(), mtime, xattrs })
}

fn decode_kind(from: &mut Decoder, context: &mut Context, path: &[u8]) -> Result<Kind, FormatError> {
    let kind = match from.byte("kind of an entry")? {
        DIRECTORY => Kind::Directory,
        FILE => Kind::File(decode_content(from, context, path)?),
        SYMLINK => {
            let target = from.string("link target", MAX_TARGET_BYTES)?;
            if target.is_empty() || target.contains(&0) {
                return Err(FormatError::Content {
                    path: show_path(path),
                    why: "a symbolic link leads nowhere",
                });
            }
            Kind::Symlink(target.to_vec())
        }
        HARD_LINK => {
            let target = from.string("link target", MAX_PATH_BYTES)?;
            check_path(target)?;
            // The receiver looks up earlier entries only: the order of paths says which.
            if target.is_empty() || super::path::compare_paths(target, path).is_ge() {
                return Err(FormatError::Order {
                    path: show_path(path),
                    why: "it is a hard link to something that does not come before it",
                });
            }
            Kind::HardLink(target.to_vec())
        }
        FIFO => Kind::Fifo,
        CHAR_DEVICE => Kind::CharDevice(decode_device(from)?),
        BLOCK_DEVICE => Kind::BlockDevice(decode_device(from)?),
        value => return Err(unknown("kind of an entry", value)),
    };
    // The root of a block-mode volume is a file.
    if path.is_empty() && !matches!(kind, Kind::Directory | Kind::File(_)) {
        return Err(FormatError::Path { path: show_path(path), why: "must be a directory or a device" });
    }
    Ok(kind)
}

fn decode_device(from: &mut Decoder) -> Result<Device, FormatError> {
    Ok(Device { major: from.u32("device number")?, minor: from.u32("device number")? })
}

fn decode_content(from: &mut Decoder, context: &mut Context, path: &[u8]) -> Result<Content, FormatError> {
    let flags = from.byte("file flags")?;
    if flags & !(OPEN | INCONSISTENT | BEFORE) != 0 {
        return Err(unknown("file flags", flags));
    }
    let size = from.bounded("file size", MAX_FILE_BYTES)?;
    let before = if flags & BEFORE == 0 { None } else { Some(decode_before(from)?) };
    Ok(Content {
        size,
        before,
        pieces: decode_pieces(from, context, size, path)?,
        open: flags & OPEN != 0,
        inconsistent: flags & INCONSISTENT != 0,
    })
}

fn decode_before(from: &mut Decoder) -> Result<Before, FormatError> {
    Ok(Before {
        pass: from.u32("pass number")?,
        size: from.bounded("file size", MAX_FILE_BYTES)?,
        mtime: decode_time(from)?,
    })
}

fn decode_pieces(
    from: &mut Decoder,
    context: &mut Context,
    size: u64,
    path: &[u8],
) -> Result<Vec<Piece>, FormatError> {
    let count = from.bounded("number of pieces", MAX_SEGMENT_PIECES as u64)?;
    context.pieces += usize::try_from(count).unwrap_or(usize::MAX);
    if context.pieces > MAX_SEGMENT_PIECES {
        return Err(FormatError::TooLarge {
            what: "number of pieces",
            value: context.pieces as u64,
            limit: MAX_SEGMENT_PIECES as u64,
        });
    }
    let mut pieces = Vec::new();
    let mut end = 0_u64;
    for _ in 0..count {
        let gap = from.bounded("offset", MAX_FILE_BYTES)?;
        let length = from.bounded("piece length", MAX_FRAME_RAW as u64)?;
        let offset = end + gap;
        end = offset + length;
        if length == 0 || end > size {
            return Err(FormatError::Content {
                path: show_path(path),
                why: "a piece is empty or lies beyond the file's end",
            });
        }
        let tag = from.byte("piece")?;
        pieces.push(Piece {
            offset,
            length: u32::try_from(length).unwrap_or_default(),
            place: decode_place(tag & !KEPT, from, context, length, path)?,
            kept: tag & KEPT != 0,
        });
    }
    Ok(pieces)
}

fn decode_place(
    tag: u8,
    from: &mut Decoder,
    context: &mut Context,
    length: u64,
    path: &[u8],
) -> Result<PiecePlace, FormatError> {
    let content = |why| FormatError::Content { path: show_path(path), why };
    let frame = match tag {
        INLINE => {
            if length > INLINE_BYTES as u64 {
                return Err(content("an inline piece is too long"));
            }
            let length = usize::try_from(length).unwrap_or_default();
            return Ok(PiecePlace::Inline(from.raw("inline piece", length)?.to_vec()));
        }
        NEW_FRAME => {
            let index = from.number("pack index")?;
            let pack = usize::try_from(index)
                .ok()
                .and_then(|index| context.packs.get(index))
                .ok_or(FormatError::Unknown { what: "pack index", value: index })?;
            let frame = FrameRef {
                pack: *pack,
                number: from.u32("frame number")?,
                offset: from.u32("frame offset")?,
                sealed: from.u32("frame length")?,
                raw: from.u32("frame length")?,
            };
            let sealed = u64::from(frame.sealed);
            let sound = frame.raw as usize <= MAX_FRAME_RAW
                && sealed > TAG_LEN as u64
                && sealed <= u64::from(frame.raw) + TAG_LEN as u64
                && u64::from(frame.offset) + sealed <= MAX_OBJECT as u64;
            if !sound {
                return Err(content("a frame's lengths cannot be true"));
            }
            context.frame = Some(frame);
            frame
        }
        SAME_FRAME => context.frame.ok_or_else(|| content("a piece has no frame"))?,
        value => return Err(unknown("piece", value)),
    };
    let inner = from.u32("place in a frame")?;
    if u64::from(inner) + length > u64::from(frame.raw) {
        return Err(content("a piece lies beyond its frame"));
    }
    Ok(PiecePlace::Frame { frame, inner, hash: BlockHash(from.array("block hash")?) })
}
