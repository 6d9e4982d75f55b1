//! A record from its bytes, of which nothing is believed before it was checked.

use isthmus_shared::staging::{MAX_OBJECT, seal::TAG_LEN};

use super::{
    Before, BlockHash, Content, Device, End, Entry, FrameRef, Kind, Metadata, Piece, PiecePlace, Record,
    Stamp, Time, Xattr,
    wire::{
        BEFORE, BLOCK_DEVICE, CHAR_DEVICE, Context, DATA, DIRECTORY, END, ENTRY, FIFO, FILE, HARD_LINK,
        INCONSISTENT, INLINE, KEPT, MODE_BITS, NEW_FRAME, OPEN, SAME_FRAME, SYMLINK,
    },
};
use crate::mover::{
    format::{
        codec::{Decoder, FormatError},
        path::{check_path, compare_paths, show_path},
    },
    limits::{
        INLINE_BYTES, MAX_FILE_BYTES, MAX_FRAME_RAW, MAX_PATH_BYTES, MAX_SEGMENT_PIECES, MAX_TARGET_BYTES,
        MAX_XATTR_BYTES, MAX_XATTRS,
    },
};

/// Reads the next record.
pub fn decode(from: &mut Decoder, context: &mut Context) -> Result<Record, FormatError> {
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
    let count = from.bounded("number of extended attributes", MAX_XATTRS as u64)?;
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
            if target.is_empty() || compare_paths(target, path).is_ge() {
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
