//! How far a receiver has come, kept in staging: what it needs to go on after the last window
//! that is done.

use isthmus_shared::staging::{layout, seal::OVERHEAD};
use serde::{Deserialize, Serialize};

use crate::mover::{
    error::MoverError,
    format::{
        Chain, FormatError, Kind, Record, check_path, decode_records, encode_records, show_path, split_path,
    },
    limits::MAX_MARK_BYTES,
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
        let Some(plain) = place.read_sealed(&object, MAX_MARK_BYTES).await? else {
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
        if plain.len() + OVERHEAD > MAX_MARK_BYTES {
            let (value, limit) = (plain.len() as u64, (MAX_MARK_BYTES - OVERHEAD) as u64);
            let source = FormatError::TooLarge { what: "mark's size", value, limit };
            return Err(MoverError::Manifest { object, source });
        }
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
        let open = decode_records(records)?;
        check(head.last.as_deref(), &open)?;
        Ok(Self {
            next: head.next,
            chain: Chain(head.chain),
            report: head.report,
            complete: head.complete,
            last: head.last,
            open_at: head.open_at,
            open,
        })
    }
}

/// For the fuzz target: decodes what may be a mark; one that is sound comes back the same.
#[cfg(any(test, feature = "fuzzing"))]
pub fn read_any(bytes: &[u8]) {
    let Ok(mark) = Mark::decode(bytes) else { return };
    let Ok(again) = mark.encode() else { return };
    let back = Mark::decode(&again).ok();
    assert!(
        back.is_some_and(|back| back.open == mark.open && back.last == mark.last && back.next == mark.next)
    );
}

/// What was open must lie on the way to the last path, from the root on: a mark leads the
/// receiver as a manifest does. The root of a volume of raw blocks is itself the file.
fn check(last: Option<&[u8]>, open: &[Record]) -> Result<(), FormatError> {
    let last = last.unwrap_or_default();
    check_path(last)?;
    let refused = |path: &[u8]| {
        let why = "it was not open when the mark was made";
        Err(FormatError::Order { path: show_path(path), why })
    };
    let mut path: Vec<u8> = Vec::new();
    let mut names = split_path(last);
    for (depth, record) in open.iter().enumerate() {
        let Record::Entry(entry) = record else {
            return refused(last);
        };
        if depth > 0 {
            let Some(name) = names.next() else {
                return refused(&entry.path);
            };
            if depth > 1 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        let is_end = depth + 1 == open.len();
        let sound = match &entry.kind {
            Kind::Directory => true,
            Kind::File(content) => content.open && is_end && names.next().is_none(),
            _ => false,
        };
        if entry.path != path || !sound {
            return refused(&entry.path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mover::format::{Content, Entry, Metadata, Stamp};

    fn record(path: &str, kind: Kind) -> Record {
        let (metadata, stamp) = (Metadata::default(), Stamp::default());
        Record::Entry(Entry { path: path.into(), metadata, stamp, changed_in: 1, kind })
    }

    fn directory(path: &str) -> Record {
        record(path, Kind::Directory)
    }

    fn decoded(last: &str, open: Vec<Record>) -> Result<Mark, FormatError> {
        let mark = Mark { last: Some(last.into()), open, ..Mark::default() };
        Mark::decode(&mark.encode().unwrap())
    }

    #[test]
    fn a_mark_comes_back_as_it_was() {
        let file = || record("a/b/f", Kind::File(Content { open: true, size: 9, ..Content::default() }));
        let sound = vec![directory(""), directory("a"), directory("a/b"), file()];
        assert_eq!(decoded("a/b/f", sound.clone()).unwrap().open, sound);
        assert!(decoded("a/b/f", vec![directory(""), directory("a")]).is_ok());
        assert!(decoded("a", vec![directory(""), directory("a")]).is_ok());
        let device = record("", Kind::File(Content { open: true, size: 9, ..Content::default() }));
        assert!(decoded("", vec![device]).is_ok());
        assert!(Mark::decode(&Mark::default().encode().unwrap()).is_ok());
    }

    #[test]
    fn a_mark_that_leads_elsewhere_is_refused() {
        let file = |path| record(path, Kind::File(Content { open: true, ..Content::default() }));
        for (last, open) in [
            ("../x", vec![directory("")]),
            ("/x", vec![directory("")]),
            ("a/../../x", vec![directory(""), directory("a")]),
            ("a/b", vec![directory("a")]),
            ("a/b", vec![directory(""), directory("b")]),
            ("a", vec![directory(""), directory("a"), directory("a/b")]),
            ("a/b", vec![directory(""), file("a"), directory("a/b")]),
            ("a/b/c", vec![directory(""), directory("a"), file("a/b")]),
            ("a", vec![directory(""), record("a", Kind::Symlink(b"/".to_vec()))]),
            ("a", vec![directory(""), record("a", Kind::File(Content::default()))]),
            ("", vec![record("", Kind::Fifo)]),
            ("a", vec![Record::Data(Vec::new())]),
        ] {
            assert!(decoded(last, open.clone()).is_err(), "{last} {open:?}");
        }
    }
}
