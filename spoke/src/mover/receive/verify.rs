//! Reading the destination back: what is there, beside what the manifest says.
//!
//! ```text
//!  segments ─▶ verifier ── files ──▶ workers: read, name blocks, compare ─▶ findings
//!  (in order)     │                                                            ▲
//!                 └─ names missing or too many, types, links, metadata ────────┘
//! ```
//!
//! Both sides come in the same order, so this is a merge-join that holds one listing for each
//! open directory. Everything that can be is read from disk and not from memory. A file that
//! differs is given another time, so that no later pass takes it for right.

pub mod content;
pub mod differences;
mod opened;

use std::{
    ffi::CString,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use isthmus_shared::resources::MetadataPolicy;
use rustix::{
    fs::{AtFlags, Stat, fstat, readlinkat, statat},
    io::Errno,
    process::geteuid,
};

use self::{
    content::{ReadBack, Task},
    differences::{Difference, in_kind, in_metadata},
    opened::Opened,
};
use super::{Shared, Window, directory::child, remove::would_remove, worker::Job};
use crate::mover::{
    error::MoverError,
    format::{Chain, Entry, FormatError, Kind, PathOrder, Piece, Record, show_path, split_path},
    limits::DIRECTORY_BYTES,
    links::HardLinks,
    listing::{Listed, SortedListing},
    manifest::SegmentReader,
    metadata::{self, Target},
    report::{Notes, ReceiveReport},
    work::lock,
};

/// What differs, and what was read.
#[derive(Debug, Default)]
pub struct Findings {
    /// Whether differences in metadata are what the destination refused and the policy forgave.
    forgiving: bool,
    differing: Mutex<Notes>,
    forgiven: Mutex<Notes>,
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Findings {
    /// Takes in how an entry differs; tells whether that is a failure.
    pub fn add(&self, path: &[u8], found: &[Difference]) -> bool {
        let join = |forgiven: bool| {
            let of_interest = found.iter().filter(|it| (it.metadata && self.forgiving) == forgiven);
            of_interest.map(|it| it.what.as_str()).collect::<Vec<_>>().join(", ")
        };
        for (notes, message) in [(&self.forgiven, join(true)), (&self.differing, join(false))] {
            if !message.is_empty() {
                lock(notes).add(show_path(path), message);
            }
        }
        found.iter().any(|it| !(it.metadata && self.forgiving))
    }

    fn count_file(&self, bytes: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A directory on the way.
struct Level {
    path: Vec<u8>,
    /// `None` if it is not there.
    present: Option<Present>,
}

struct Present {
    dir: Arc<Opened>,
    listing: SortedListing,
    next: Option<Listed>,
}

/// A large file whose content is coming.
struct Streamed {
    /// `None` if it is not there.
    file: Option<Arc<ReadBack>>,
    at: u64,
}

/// Compares the destination with a manifest.
pub struct Verifier {
    shared: Arc<Shared>,
    root: Arc<OwnedFd>,
    pass: u32,
    reader: SegmentReader,
    order: PathOrder,
    levels: Vec<Level>,
    links: HardLinks,
    streamed: Option<Streamed>,
    findings: Arc<Findings>,
    window: Arc<Window>,
}

impl Verifier {
    /// For a pass that is written to its end; `window` is open as long as something is read.
    pub fn new(shared: Arc<Shared>, root: Arc<OwnedFd>, pass: u32, window: Arc<Window>) -> Self {
        let refused = lock(&shared.refused).total > 0;
        let forgiving = refused && shared.policy == MetadataPolicy::BestEffort;
        Self {
            reader: SegmentReader::new(shared.place.clone(), pass),
            root,
            pass,
            order: PathOrder::default(),
            levels: Vec::new(),
            links: HardLinks::default(),
            streamed: None,
            findings: Arc::new(Findings { forgiving, ..Findings::default() }),
            shared,
            window,
        }
    }

    /// Reads everything back, and notes what that came to; an error if something differs.
    /// `chain` is the digest of the manifest that was received.
    pub fn run(mut self, chain: Chain, report: &mut ReceiveReport) -> Result<(), MoverError> {
        loop {
            let next = self.shared.runtime.block_on(self.reader.next())?;
            let number = self.reader.position().saturating_sub(1);
            let Some(segment) = next else {
                return Err(self.refused(number, FormatError::CutOff("the manifest, which was there before")));
            };
            let last = segment.last;
            for record in segment.records {
                self.shared.stop.check()?;
                self.record(record).map_err(|error| match error {
                    Problem::Format(source) => self.refused(number, source),
                    Problem::Mover(error) => error,
                })?;
            }
            if last {
                break;
            }
        }
        if self.reader.chain() != chain {
            return Err(self.refused(self.reader.position(), FormatError::Chain));
        }
        self.leave_until(0)?;
        let Self { shared, findings, window, .. } = self;
        let number = window.number;
        drop(window);
        shared.windows.wait_until(number + 1, &shared.stop)?;
        report.files_read_back = Some(findings.files.load(Ordering::Relaxed));
        report.bytes_read_back = Some(findings.bytes.load(Ordering::Relaxed));
        report.forgiven_metadata = lock(&findings.forgiven).clone();
        let differing = lock(&findings.differing).clone();
        if differing.total > 0 {
            return Err(MoverError::Differs { notes: Box::new(differing) });
        }
        Ok(())
    }

    fn refused(&self, number: u64, source: FormatError) -> MoverError {
        MoverError::Manifest { object: format!("segment {number} of pass {}", self.pass), source }
    }

    fn record(&mut self, record: Record) -> Result<(), Problem> {
        match record {
            Record::Entry(entry) => {
                let open = matches!(&entry.kind, Kind::File(content) if content.open);
                self.order.entry(&entry.path, open)?;
                // Of a file that comes again only the last coming counts.
                let again = self.streamed.take().is_some();
                Ok(self.entry(entry, again)?)
            }
            Record::Data(pieces) => {
                self.order.data()?;
                Ok(self.data(pieces)?)
            }
            Record::End(_) => {
                self.order.end()?;
                Ok(self.end()?)
            }
        }
    }

    fn entry(&mut self, entry: Entry, again: bool) -> Result<(), MoverError> {
        if entry.path.is_empty() {
            return self.root_entry(&entry);
        }
        let names: Vec<&[u8]> = split_path(&entry.path).collect();
        self.leave_until(names.len())?;
        let name = CString::new(names.last().copied().unwrap_or_default())
            .map_err(|_| MoverError::file("opening", &entry.path, Errno::INVAL))?;
        let there = again || self.advance(&name)?;
        let present = self.levels.last().and_then(|level| level.present.as_ref());
        let dir = present.map(|present| present.dir.clone());
        let found = match &dir {
            Some(dir) if there => state(&dir.fd, &name, &entry.path)?,
            _ => None,
        };
        let (Some(dir), Some(stat)) = (dir, found) else {
            self.missing(entry);
            return Ok(());
        };
        let mut differences = self.link_differences(&entry, &stat)?;
        let other_kind = in_kind(&stat, &entry.kind);
        if let Some(other) = other_kind {
            differences.push(other);
            self.findings.add(&entry.path, &differences);
            self.enter_nothing(entry);
            return Ok(());
        }
        match entry.kind {
            Kind::Directory => self.directory(&dir.fd, &name, &entry, &stat),
            Kind::File(_) => self.file(dir, name, entry, differences),
            // Its metadata and content are those of its first name.
            Kind::HardLink(_) => {
                self.findings.add(&entry.path, &differences);
                Ok(())
            }
            _ => self.special(&dir.fd, &name, &entry, &stat, differences),
        }
    }

    /// Goes on below a directory that is not there, or to a large file that is not.
    fn enter_nothing(&mut self, entry: Entry) {
        match entry.kind {
            Kind::Directory => self.levels.push(Level { path: entry.path, present: None }),
            Kind::File(content) if content.open => self.streamed = Some(Streamed { file: None, at: 0 }),
            _ => {}
        }
    }

    fn missing(&mut self, entry: Entry) {
        // The policy may have let devices and pipes stay behind, with all their names.
        let forgivable =
            matches!(entry.kind, Kind::CharDevice(_) | Kind::BlockDevice(_) | Kind::Fifo | Kind::HardLink(_));
        let missing = Difference { what: "it is missing".to_owned(), metadata: forgivable };
        self.findings.add(&entry.path, &[missing]);
        self.enter_nothing(entry);
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<(), MoverError> {
        let stat =
            fstat(&*self.root).map_err(|errno| MoverError::file("reading the state of", b"", errno))?;
        let foreign = !self.shared.privileged && stat.st_uid != geteuid().as_raw();
        // As on writing it: whoever provisioned the volume owns its root.
        if !foreign {
            self.compare_metadata(metadata::open_target(&*self.root), entry, &stat, Vec::new())?;
        }
        let fd = self.root.try_clone().map_err(|error| MoverError::Worker { detail: error.to_string() })?;
        self.enter(Opened::at(fd), Vec::new())
    }

    fn directory(
        &mut self,
        parent: &OwnedFd,
        name: &CString,
        entry: &Entry,
        stat: &Stat,
    ) -> Result<(), MoverError> {
        let mode = stat.st_mode & 0o7777;
        let dir = Opened::below(parent, name, mode)
            .map_err(|errno| MoverError::file("opening", &entry.path, errno))?;
        self.compare_metadata(metadata::open_target(&dir.fd), entry, stat, Vec::new())?;
        self.enter(dir, entry.path.clone())
    }

    fn enter(&mut self, dir: Opened, path: Vec<u8>) -> Result<(), MoverError> {
        // A listing keeps a descriptor of its own, so that the directory can be shared.
        let fd = dir.fd.try_clone().map_err(|error| MoverError::Worker { detail: error.to_string() })?;
        // The levels share one budget for names.
        let present = self.levels.iter().filter_map(|level| level.present.as_ref());
        let held: usize = present.map(|present| present.listing.weight()).sum();
        let budget = (DIRECTORY_BYTES.saturating_sub(held) / 2).max(DIRECTORY_BYTES / 64);
        let listing = SortedListing::new(Arc::new(fd), b"", budget);
        self.levels.push(Level { path, present: Some(Present { dir: Arc::new(dir), listing, next: None }) });
        Ok(())
    }

    fn special(
        &self,
        dir: &OwnedFd,
        name: &CString,
        entry: &Entry,
        stat: &Stat,
        mut differences: Vec<Difference>,
    ) -> Result<(), MoverError> {
        if let Kind::Symlink(wanted) = &entry.kind {
            let now = readlinkat(dir, name, Vec::new())
                .map_err(|errno| MoverError::file("reading", &entry.path, errno))?;
            if now.as_bytes() != wanted.as_slice() {
                let what = format!("it leads to {}, not to {}", show_path(now.as_bytes()), show_path(wanted));
                differences.push(Difference::of_content(what));
            }
        }
        self.compare_metadata(Target::Name(dir.as_fd(), name), entry, stat, differences)
    }

    fn compare_metadata(
        &self,
        target: Target<'_>,
        entry: &Entry,
        stat: &Stat,
        mut differences: Vec<Difference>,
    ) -> Result<(), MoverError> {
        let xattrs = metadata::read_xattrs(target)
            .map_err(|errno| MoverError::file("reading the extended attributes of", &entry.path, errno))?;
        differences.extend(in_metadata(stat, &xattrs, &entry.metadata, metadata::has_selinux()));
        self.findings.add(&entry.path, &differences);
        Ok(())
    }

    /// Files that share an inode must share it in the manifest, and the other way round.
    fn link_differences(&mut self, entry: &Entry, stat: &Stat) -> Result<Vec<Difference>, MoverError> {
        if entry.kind == Kind::Directory || metadata::file_type(stat) == rustix::fs::FileType::Directory {
            return Ok(Vec::new());
        }
        let stamp = metadata::stamp(stat);
        let first = self.links.earlier(stamp.inode, stamp.links, &entry.path)?;
        let wanted = match &entry.kind {
            Kind::HardLink(target) => Some(target),
            _ => None,
        };
        let what = match (&first, wanted) {
            (Some(first), Some(wanted)) if first != wanted => {
                format!("it is the same file as {}, not as {}", show_path(first), show_path(wanted))
            }
            (Some(first), None) => {
                format!("it is the same file as {}, not one of its own", show_path(first))
            }
            (None, Some(wanted)) => format!("it is not the same file as {}", show_path(wanted)),
            _ => return Ok(Vec::new()),
        };
        Ok(vec![Difference::of_content(what)])
    }

    fn file(
        &mut self,
        dir: Arc<Opened>,
        name: CString,
        entry: Entry,
        found: Vec<Difference>,
    ) -> Result<(), MoverError> {
        let (findings, window) = (self.findings.clone(), self.window.clone());
        let Kind::File(content) = &entry.kind else {
            return Ok(());
        };
        if !content.open {
            let entry = Box::new(entry);
            return self.push(Task::Whole { dir, name, entry, found, findings, window });
        }
        let place = (entry.path.as_slice(), dir, name);
        let file = ReadBack::open(place, &entry.metadata, content.size, found, findings, window)?;
        self.streamed = Some(Streamed { file: file.map(Arc::new), at: 0 });
        Ok(())
    }

    fn data(&mut self, pieces: Vec<Piece>) -> Result<(), MoverError> {
        let Some(Streamed { file: Some(file), at }) = &mut self.streamed else {
            return Ok(());
        };
        let end = pieces.last().map_or(*at, |piece| piece.offset + u64::from(piece.length));
        let task = Task::Part { file: file.clone(), pieces, from: *at, to: end };
        *at = end;
        self.push(task)
    }

    fn end(&mut self) -> Result<(), MoverError> {
        let Some(Streamed { file: Some(file), at }) = self.streamed.take() else {
            return Ok(());
        };
        file.complete();
        let to = file.size();
        self.push(Task::Part { file, pieces: Vec::new(), from: at.min(to), to })
    }

    fn push(&self, task: Task) -> Result<(), MoverError> {
        self.shared.jobs.push(Job::ReadBack(task), &self.shared.stop)
    }

    /// Reports the names before `name`, as the manifest does not have them, and tells whether
    /// `name` is there.
    fn advance(&mut self, name: &CString) -> Result<bool, MoverError> {
        match self.levels.last_mut() {
            Some(level) => level.report_until(Some(name), &self.shared, &self.findings),
            None => Ok(false),
        }
    }

    fn leave_until(&mut self, depth: usize) -> Result<(), MoverError> {
        while self.levels.len() > depth {
            if let Some(mut level) = self.levels.pop() {
                level.report_until(None, &self.shared, &self.findings)?;
            }
        }
        Ok(())
    }
}

impl Level {
    fn report_until(
        &mut self,
        name: Option<&CString>,
        shared: &Shared,
        findings: &Findings,
    ) -> Result<bool, MoverError> {
        let Some(present) = &mut self.present else {
            return Ok(false);
        };
        loop {
            shared.stop.check()?;
            if present.next.is_none() {
                let next = present.listing.next();
                present.next = next.map_err(|errno| MoverError::file("listing", &self.path, errno))?;
            }
            let Some(listed) = &present.next else {
                return Ok(false);
            };
            match name.map(|name| listed.name.cmp(name)) {
                Some(std::cmp::Ordering::Equal) => {
                    present.next = None;
                    return Ok(true);
                }
                Some(std::cmp::Ordering::Greater) => return Ok(false),
                Some(std::cmp::Ordering::Less) | None => {}
            }
            let path = child(&self.path, &listed.name);
            let surplus = would_remove(present.dir.fd.as_fd(), &listed.name, &path, &shared.exclude)?.count;
            if surplus > 0 {
                let what = format!("it is there, but was not sent ({surplus} names)");
                findings.add(&path, &[Difference::of_content(what)]);
            }
            present.next = None;
        }
    }
}

/// What ends reading back: a fault of ours or the volume's, or one of the manifest.
enum Problem {
    Format(FormatError),
    Mover(MoverError),
}

impl From<FormatError> for Problem {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

impl From<MoverError> for Problem {
    fn from(error: MoverError) -> Self {
        Self::Mover(error)
    }
}

fn state(dir: &OwnedFd, name: &CString, path: &[u8]) -> Result<Option<Stat>, MoverError> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(MoverError::file("reading the state of", path, errno)),
    }
}
