//! How far a receiver has come, kept in staging: what it needs to go on after the last window
//! that is done.

use isthmus_shared::staging::layout;
use serde::{Deserialize, Serialize};

use crate::mover::{
    error::MoverError,
    format::{Chain, FormatError, Record, decode_records, encode_records},
    manifest::Place,
    report::ReceiveReport,
};

/// The mark.
#[derive(Debug, Clone, Default)]
pub struct Mark {
    /// The first segment that is not done.
    pub next: u64,
    /// The digest of the segments before it.
    pub chain: Chain,
    /// What was received so far.
    pub report: ReceiveReport,
    /// Whether the pass is complete.
    pub complete: bool,
    /// The last path that was dealt with.
    pub last: Option<Vec<u8>>,
    /// The directories that were open after it, from the root on, then the large file that was
    /// open, if there was one.
    pub open: Vec<Record>,
    /// How far into the large file that was open all was dealt with.
    pub open_at: u64,
}

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    next: u64,
    chain: [u8; 32],
    report: ReceiveReport,
    complete: bool,
    last: Option<Vec<u8>>,
    open_at: u64,
}

const VERSION: u32 = 1;
const LENGTH_BYTES: usize = 4;

impl Mark {
    /// The mark of this pass; that of the beginning if there is none.
    pub async fn read(place: &Place, pass: u32) -> Result<Self, MoverError> {
        let object = layout::pass_received(&place.pair, &place.volume, pass);
        let Some(plain) = place.read_sealed(&object).await? else {
            return Ok(Self::default());
        };
        Self::decode(&plain).map_err(|source| MoverError::Manifest { object, source })
    }

    /// Writes the mark.
    pub async fn write(&self, place: &Place, pass: u32) -> Result<(), MoverError> {
        let object = layout::pass_received(&place.pair, &place.volume, pass);
        let plain = self.encode().map_err(|error| MoverError::Manifest {
            object: object.clone(),
            source: FormatError::Compression(error.to_string()),
        })?;
        place.write_sealed(&object, &plain).await
    }

    fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let head = serde_json::to_vec(&Head {
            version: VERSION,
            next: self.next,
            chain: self.chain.0,
            report: self.report.clone(),
            complete: self.complete,
            last: self.last.clone(),
            open_at: self.open_at,
        })?;
        let length = u32::try_from(head.len()).unwrap_or(u32::MAX);
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&encode_records(&self.open));
        Ok(bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>().ok_or(FormatError::CutOff("mark"))?;
        let (head, records) =
            rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(FormatError::CutOff("mark"))?;
        let head: Head =
            serde_json::from_slice(head).map_err(|_| FormatError::Unknown { what: "mark", value: 0 })?;
        if head.version != VERSION {
            return Err(FormatError::Version(u64::from(head.version)));
        }
        Ok(Self {
            next: head.next,
            chain: Chain(head.chain),
            report: head.report,
            complete: head.complete,
            last: head.last,
            open_at: head.open_at,
            open: decode_records(records)?,
        })
    }
}
