//! The previous pass beside the walk: both in the same order, one entry of it in memory.

use isthmus_shared::staging::VolumeUid;
use tokio::runtime::Handle;

use crate::mover::{
    error::MoverError,
    format::{Entry, Kind, Piece, Record, compare_paths},
    manifest::SegmentReader,
    report::SendReport,
};

/// The records of the previous pass.
pub struct Previous {
    reader: Option<SegmentReader>,
    runtime: Handle,
    records: std::vec::IntoIter<Record>,
    peeked: Option<Record>,
    sight: Sight,
    /// Whether what is read last was written with the same sight.
    same_sight: bool,
}

/// What this pass sees, and of what: only what an earlier pass saw in the same way says whether an
/// inode is as it was.
#[derive(Debug, Clone)]
pub struct Sight {
    /// Whether `trusted.*` attributes are seen.
    pub trusted: bool,
    /// The claim whose inodes they are; none if that is not known.
    pub claim: Option<String>,
    /// The volume.
    pub volume: VolumeUid,
}

impl Sight {
    fn is_that_of(&self, report: &SendReport) -> bool {
        self.trusted == report.sees_trusted
            && self.claim.as_deref().is_none_or(|claim| report.is_of(claim, &self.volume))
    }
}

impl Previous {
    /// Without a previous pass there is nothing to find. `sight` is that of this pass.
    pub fn new(reader: Option<SegmentReader>, runtime: Handle, sight: Sight) -> Self {
        let records = Vec::new().into_iter();
        Self { reader, runtime, records, peeked: None, sight, same_sight: true }
    }

    /// Whether what it says of the last entry is of an inode of this volume, with all attributes that
    /// this pass would see: a change of sight changes no file's ctime, and another volume's inodes
    /// have times and numbers of their own.
    pub fn same_sight(&self) -> bool {
        self.same_sight
    }

    fn peek(&mut self) -> Result<Option<&Record>, MoverError> {
        while self.peeked.is_none() {
            self.peeked = self.records.next();
            if self.peeked.is_some() {
                break;
            }
            let Some(reader) = &mut self.reader else {
                return Ok(None);
            };
            match self.runtime.block_on(reader.next())? {
                Some(segment) => {
                    if segment.last {
                        self.reader = None;
                    }
                    self.same_sight = self.sight.is_that_of(&segment.report);
                    self.records = segment.records.into_iter();
                }
                // An incomplete pass is as good as far as it goes.
                None => self.reader = None,
            }
        }
        Ok(self.peeked.as_ref())
    }

    /// Goes on to `path` and gives its entry, if the previous pass had one.
    pub fn find(&mut self, path: &[u8]) -> Result<Option<Entry>, MoverError> {
        loop {
            let before = match self.peek()? {
                None => return Ok(None),
                Some(Record::Entry(entry)) => match compare_paths(&entry.path, path) {
                    std::cmp::Ordering::Less => true,
                    std::cmp::Ordering::Equal => false,
                    std::cmp::Ordering::Greater => return Ok(None),
                },
                Some(_) => true,
            };
            match self.peeked.take() {
                Some(Record::Entry(entry)) if !before => return Ok(Some(entry)),
                _ => {}
            }
        }
    }

    /// The next record of a large file whose entry `find` gave, its `End` included. A second
    /// opening of the same file is given as its entry.
    pub fn rest(&mut self, path: &[u8]) -> Result<Option<Record>, MoverError> {
        let belongs = match self.peek()? {
            None => false,
            Some(Record::Entry(entry)) => entry.path == path,
            Some(_) => true,
        };
        Ok(if belongs { self.peeked.take() } else { None })
    }

    /// The pieces of a large file that start before `end`, of those not given yet.
    pub fn pieces_before(&mut self, path: &[u8], end: u64) -> Result<Vec<Piece>, MoverError> {
        let mut found = Vec::new();
        loop {
            let wanted = match self.peek()? {
                Some(Record::Data(pieces)) => pieces.first().is_none_or(|p| p.offset < end),
                Some(Record::Entry(entry)) => entry.path == path,
                _ => false,
            };
            if !wanted {
                return Ok(found);
            }
            match self.peeked.take() {
                Some(Record::Data(mut pieces)) => {
                    // One record may reach beyond the range: the rest of it is for the next.
                    let later = pieces.partition_point(|piece| piece.offset < end);
                    let rest = pieces.split_off(later);
                    found.append(&mut pieces);
                    if !rest.is_empty() {
                        self.peeked = Some(Record::Data(rest));
                        return Ok(found);
                    }
                }
                Some(Record::Entry(Entry { kind: Kind::File(content), .. })) => found = content.pieces,
                _ => return Ok(found),
            }
        }
    }
}
