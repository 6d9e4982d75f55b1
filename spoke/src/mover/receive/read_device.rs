//! Reading a device back: every byte of it, beside what the manifest says.

use isthmus_shared::staging::layout;

use super::Shared;
use crate::mover::{
    device::{Device, NAME},
    error::MoverError,
    format::{Chain, FormatError, Kind, Piece, PiecePlace, Record, show_path},
    limits::BLOCK_BYTES,
    manifest::SegmentReader,
    report::{Notes, ReceiveReport},
};

/// Compares a device with the manifest of a pass.
pub struct DeviceReader<'a> {
    shared: &'a Shared,
    device: &'a Device,
    /// Up to where it was compared.
    at: u64,
    /// The source's size.
    size: u64,
    differing: Notes,
    scratch: Vec<u8>,
}

impl<'a> DeviceReader<'a> {
    /// For a device to which all was written that is to be.
    pub fn new(shared: &'a Shared, device: &'a Device) -> Self {
        let scratch = vec![0; BLOCK_BYTES];
        Self { shared, device, at: 0, size: 0, differing: Notes::default(), scratch }
    }

    /// Reads it from its beginning to the source's end, and notes that in the report; an error if
    /// something differs. `chain` is the digest of the manifest that was received.
    pub fn run(mut self, pass: u32, chain: Chain, report: &mut ReceiveReport) -> Result<(), MoverError> {
        // From the device, not from memory.
        self.device.let_go(0, None);
        let shared = self.shared;
        let mut reader = SegmentReader::new(shared.place.clone(), pass);
        let refused = |number, source| {
            let object = layout::pass_segment(&shared.place.pair, &shared.place.volume, pass, number);
            MoverError::Manifest { object, source }
        };
        loop {
            let number = reader.position();
            let Some(segment) = shared.runtime.block_on(reader.next())? else {
                let what = "the manifest, which was there before";
                return Err(refused(number, FormatError::CutOff(what)));
            };
            for record in segment.records {
                self.record(record)?;
            }
            if segment.last {
                break;
            }
        }
        if reader.chain() != chain {
            return Err(refused(reader.position().saturating_sub(1), FormatError::Chain));
        }
        report.files_read_back = Some(1);
        report.bytes_read_back = Some(self.size);
        if self.differing.total > 0 {
            return Err(MoverError::Differs { notes: Box::new(self.differing) });
        }
        Ok(())
    }

    /// The order of records was checked when they were received.
    fn record(&mut self, record: Record) -> Result<(), MoverError> {
        self.shared.stop.check()?;
        match record {
            Record::Entry(entry) => {
                // Of an entry that comes again only the last coming counts.
                self.differing = Notes::default();
                self.at = 0;
                if let Kind::File(content) = &entry.kind {
                    self.size = content.size;
                }
                Ok(())
            }
            Record::Data(pieces) => pieces.iter().try_for_each(|piece| self.piece(piece)),
            Record::End(_) => self.zeros(self.size),
        }
    }

    fn piece(&mut self, piece: &Piece) -> Result<(), MoverError> {
        self.zeros(piece.offset)?;
        let length = (piece.length as usize).min(self.scratch.len());
        let bytes = &mut self.scratch[..length];
        let right = self.device.read(piece.offset, bytes)?
            && match &piece.place {
                PiecePlace::Inline(sent) => bytes == sent.as_slice(),
                PiecePlace::Frame { hash, .. } => self.shared.name_block(bytes) == *hash,
            };
        self.shared.progress.add_read_back(u64::from(piece.length));
        let end = piece.offset + u64::from(piece.length);
        if !right {
            self.differs(piece.offset, end, "are not those that were sent");
        }
        self.at = end;
        Ok(())
    }

    /// What no piece covers, up to an offset.
    fn zeros(&mut self, to: u64) -> Result<(), MoverError> {
        let from = self.at;
        if !self.device.is_clear(from, to, &mut self.scratch, &self.shared.stop)? {
            self.differs(from, to, "are zeros in the source, but not all here");
        }
        self.shared.progress.add_read_back(to.saturating_sub(from));
        self.at = to.max(from);
        Ok(())
    }

    fn differs(&mut self, from: u64, to: u64, how: &str) {
        self.differing.add(show_path(NAME), format!("the bytes from {from} to {to} {how}"));
    }
}
