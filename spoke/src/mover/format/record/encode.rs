//! The bytes of a record.

use super::{
    Device, Kind, Metadata, Piece, PiecePlace, Record, Time,
    wire::{
        BEFORE, BLOCK_DEVICE, CHAR_DEVICE, Context, DATA, DIRECTORY, END, ENTRY, FIFO, FILE, HARD_LINK,
        INCONSISTENT, INLINE, KEPT, NEW_FRAME, OPEN, SAME_FRAME, SYMLINK,
    },
};
use crate::mover::format::codec::Encoder;

/// Adds a record's bytes.
pub fn encode(record: &Record, to: &mut Encoder, context: &mut Context) {
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
