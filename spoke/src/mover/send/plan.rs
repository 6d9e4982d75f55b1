//! The walk's side of sending: for each entry, in order, what goes into the manifest, and which
//! files have to be read for it.

use std::{
    ffi::CString,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use isthmus_shared::resources::Exclusions;
use rustix::{
    fs::{FileType, Stat, fstat, readlinkat},
    io::Errno,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    Shared,
    job::{FileName, Job, NoteKind, Pending, Queued, StreamedFile},
    previous::Previous,
    walk::{Found, Resume, Step, Walk},
    worker::{is_sparse, next_data, open_file, set_state},
};
use crate::mover::{
    error::MoverError,
    format::{
        Before, Content, Device, End, Entry, FormatError, Kind, Metadata, Piece, Record, Time, show_path,
    },
    limits::{STREAMED_FILE_BYTES, STREAMED_RANGE_BYTES},
    links::HardLinks,
    metadata::{self, Target},
};

/// What a queued record is taken to weigh before its pieces are known.
pub const BASE_WEIGHT: usize = 512;

pub struct Planner {
    pub shared: Arc<Shared>,
    pub root: Arc<OwnedFd>,
    pub pass: u32,
    pub previous: Previous,
    pub previous_pass: Option<u32>,
    pub exclude: Exclusions,
    pub links: HardLinks,
    pub resume: Option<Resume>,
    pub out: mpsc::UnboundedSender<Queued>,
}

impl Planner {
    /// Walks to the end, and tells the publisher that this was all.
    pub fn run(mut self) -> Result<(), MoverError> {
        if self.resume.is_none() {
            self.root_entry()?;
        }
        let mut walk = Walk::new(self.root.clone(), self.exclude.clone(), self.resume.as_ref())?;
        loop {
            self.shared.stop.check()?;
            match walk.next()? {
                Step::Found(found) => self.found(*found)?,
                Step::Vanished(path) => self.note(NoteKind::Vanished, path)?,
                Step::Changed(path) => self.shared.changed(&path, "changed while it was listed")?,
                Step::ForeignMount(path) => self.note(NoteKind::ForeignMount, path)?,
                Step::End => break,
            }
        }
        self.shared.jobs.close();
        self.queue(Pending::End, BASE_WEIGHT)
    }

    fn root_entry(&mut self) -> Result<(), MoverError> {
        let stat =
            fstat(&*self.root).map_err(|errno| MoverError::file("reading the state of", b"", errno))?;
        let previous = self.previous.find(b"")?;
        let root = self.root.clone();
        self.directory(Vec::new(), &stat, &root, previous)
    }

    fn found(&mut self, found: Found) -> Result<(), MoverError> {
        let kind = metadata::file_type(&found.stat);
        if kind == FileType::Socket {
            return self.note(NoteKind::Socket, found.path);
        }
        let previous = self.previous.find(&found.path)?;
        if let Some(directory) = found.directory {
            return self.directory(found.path, &found.stat, &directory, previous);
        }
        let stamp = metadata::stamp(&found.stat);
        if let Some(target) = self.links.earlier(stamp.inode, stamp.links, &found.path)? {
            let entry = self.entry(found.path, &found.stat, Kind::HardLink(target));
            return self.ready(Record::Entry(entry));
        }
        if kind == FileType::RegularFile {
            return self.file(found, previous);
        }
        self.special(found, kind)
    }

    /// An entry without attributes; its link count of the moment is part of its stamp.
    fn entry(&self, path: Vec<u8>, stat: &Stat, kind: Kind) -> Entry {
        let mut entry = Entry {
            path,
            metadata: Metadata::default(),
            stamp: metadata::stamp(stat),
            changed_in: self.pass,
            kind,
        };
        set_state(&mut entry, stat, Vec::new());
        entry
    }

    fn directory(
        &mut self,
        path: Vec<u8>,
        stat: &Stat,
        fd: &OwnedFd,
        previous: Option<Entry>,
    ) -> Result<(), MoverError> {
        let mut entry = self.entry(path, stat, Kind::Directory);
        match previous {
            Some(old) if self.unchanged_since(&old, stat) && old.kind == Kind::Directory => entry = old,
            _ => {
                entry.metadata.xattrs =
                    metadata::read_xattrs(metadata::open_target(fd)).map_err(|errno| {
                        MoverError::file("reading the extended attributes of", &entry.path, errno)
                    })?;
            }
        }
        self.ready(Record::Entry(entry))
    }

    fn special(&mut self, found: Found, kind: FileType) -> Result<(), MoverError> {
        let device = Device {
            major: rustix::fs::major(found.stat.st_rdev),
            minor: rustix::fs::minor(found.stat.st_rdev),
        };
        let kind = match kind {
            FileType::Symlink => match readlinkat(&*found.parent, &found.name, Vec::new()) {
                Ok(target) => Kind::Symlink(target.into_bytes()),
                Err(Errno::NOENT | Errno::INVAL) => {
                    return self.note(NoteKind::Vanished, found.path);
                }
                Err(errno) => return Err(MoverError::file("reading", &found.path, errno)),
            },
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::CharDevice(device),
            FileType::BlockDevice => Kind::BlockDevice(device),
            _ => return self.note(NoteKind::Vanished, found.path),
        };
        let mut entry = self.entry(found.path, &found.stat, kind);
        let target = Target::Name(found.parent.as_fd(), &found.name);
        entry.metadata.xattrs = match metadata::read_xattrs(target) {
            Ok(xattrs) => xattrs,
            Err(Errno::NOENT) => return self.note(NoteKind::Vanished, entry.path),
            Err(errno) => {
                let operation = "reading the extended attributes of";
                return Err(MoverError::file(operation, &entry.path, errno));
            }
        };
        self.ready(Record::Entry(entry))
    }

    fn file(&mut self, found: Found, mut previous: Option<Entry>) -> Result<(), MoverError> {
        if let Some(old) = &previous
            && let Kind::File(content) = &old.kind
        {
            let same = self.unchanged_since(old, &found.stat)
                && !content.inconsistent
                && content.size == metadata::size(&found.stat)
                && old.metadata.mtime == metadata::mtime(&found.stat);
            content.pieces.iter().for_each(|piece| self.shared.dedup.insert(piece));
            if same
                && let Some(old) = previous.take()
                && self.take_over(old, &found.stat)?
            {
                return Ok(());
            }
        }
        let before = previous.as_ref().and_then(|old| self.before(old));
        let content = Kind::File(Content { before, ..Content::default() });
        let at = FileName { parent: found.parent, name: found.name };
        if metadata::size(&found.stat) > STREAMED_FILE_BYTES {
            return self.stream(found.path, at, content);
        }
        let entry = self.entry(found.path, &found.stat, content);
        let (answer, receiver) = oneshot::channel();
        self.queue(Pending::Whole(receiver), BASE_WEIGHT + entry.path.len())?;
        let job = Job::Whole { at, entry: Box::new(entry), previous: previous.map(Box::new), answer };
        self.shared.jobs.push(job, &self.shared.stop)
    }

    fn unchanged_since(&self, old: &Entry, stat: &Stat) -> bool {
        self.previous.same_sight() && unchanged(old, stat)
    }

    /// The file did not change since the previous pass: neither do its records. False if these say
    /// in the end that it was not read as it was opened: then it is opened once more.
    fn take_over(&mut self, old: Entry, stat: &Stat) -> Result<bool, MoverError> {
        let path = old.path.clone();
        let (mut open, size) = match &old.kind {
            Kind::File(content) => (content.open, content.size),
            _ => (false, 0),
        };
        self.unchanged(Record::Entry(old))?;
        while open {
            let Some(record) = self.previous.rest(&path)? else {
                return Err(MoverError::Manifest {
                    object: show_path(&path),
                    source: FormatError::CutOff("the previous pass"),
                });
            };
            match &record {
                Record::End(end) if end.inconsistent => return Ok(false),
                Record::Entry(again) if !self.unchanged_since(again, stat) => return Ok(false),
                Record::Entry(Entry { kind: Kind::File(content), .. }) => open = content.open,
                Record::Entry(_) | Record::End(_) => open = false,
                Record::Data(_) => {}
            }
            self.unchanged(record)?;
        }
        self.shared.progress.add_bytes(size);
        self.shared.progress.add_file();
        Ok(true)
    }

    /// What the previous pass said of a file.
    fn before(&self, old: &Entry) -> Option<Before> {
        let Kind::File(content) = &old.kind else { return None };
        let pass = self.previous_pass?;
        Some(Before { pass, size: content.size, mtime: old.metadata.mtime })
    }

    fn stream(&mut self, path: Vec<u8>, at: FileName, content: Kind) -> Result<(), MoverError> {
        let Some((fd, stat)) = open_file(&at, &path)? else {
            return self.note(NoteKind::Vanished, path);
        };
        rustix::fs::fadvise(&fd, 0, None, rustix::fs::Advice::Sequential).ok();
        let mut entry = self.entry(path, &stat, content);
        entry.metadata.xattrs = metadata::read_xattrs(metadata::open_target(&fd))
            .map_err(|errno| MoverError::file("reading the extended attributes of", &entry.path, errno))?;
        if let Kind::File(content) = &mut entry.kind {
            content.open = true;
        }
        let file = Arc::new(StreamedFile { fd, entry, stat, at: Some(at), passing: false });
        self.ready(Record::Entry(file.entry.clone()))?;
        for range in ranges(&file) {
            let (start, end) = range?;
            let known = self.previous.pieces_before(&file.entry.path, end)?;
            let (answer, receiver) = oneshot::channel();
            let weight = BASE_WEIGHT + size_of::<Piece>() * 8;
            self.queue(Pending::Range(receiver), weight)?;
            let job = Job::Range { file: file.clone(), start, end, known, answer };
            self.shared.jobs.push(job, &self.shared.stop)?;
        }
        self.queue(Pending::Close(file), BASE_WEIGHT)
    }

    fn note(&mut self, kind: NoteKind, path: Vec<u8>) -> Result<(), MoverError> {
        let weight = BASE_WEIGHT + path.len();
        self.queue(Pending::Note(kind, path), weight)
    }

    fn ready(&mut self, record: Record) -> Result<(), MoverError> {
        let weight = record.weight();
        self.queue(Pending::Ready(Box::new(record)), weight)
    }

    fn unchanged(&mut self, record: Record) -> Result<(), MoverError> {
        let weight = record.weight();
        self.queue(Pending::Unchanged(Box::new(record)), weight)
    }

    fn queue(&mut self, pending: Pending, weight: usize) -> Result<(), MoverError> {
        let memory = self.shared.pending_memory(weight)?;
        self.out.send(Queued { pending, memory }).map_err(|_| MoverError::Cancelled)
    }
}

/// Whether the inode and its metadata are as they were. Only a ctime that can be relied on says
/// so.
fn unchanged(old: &Entry, stat: &Stat) -> bool {
    old.stamp.ctime != Time::default() && old.stamp == metadata::stamp(stat)
}

/// The runs of data of a large file, in parts of a job's size.
pub fn ranges(file: &StreamedFile) -> impl Iterator<Item = Result<(u64, u64), MoverError>> + '_ {
    parts(&file.fd, &file.entry.path, 0, metadata::size(&file.stat), is_sparse(&file.stat))
}

/// The runs of data from an offset on, in parts of a job's size.
pub fn parts<'a>(
    fd: &'a OwnedFd,
    path: &'a [u8],
    from: u64,
    size: u64,
    sparse: bool,
) -> impl Iterator<Item = Result<(u64, u64), MoverError>> + 'a {
    let mut run = (from, from);
    std::iter::from_fn(move || {
        if run.0 >= run.1 {
            match next_data(fd, path, run.1, size, sparse) {
                Ok(Some(next)) => run = next,
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        let boundary = (run.0 / STREAMED_RANGE_BYTES + 1) * STREAMED_RANGE_BYTES;
        let part = (run.0, boundary.min(run.1));
        run.0 = part.1;
        Some(Ok(part))
    })
}

/// The end record of a streamed file.
pub fn end_record(inconsistent: bool) -> Record {
    Record::End(End { inconsistent })
}

/// Opens a name again, for a second attempt at reading it.
pub fn again(file: &StreamedFile) -> Result<Option<StreamedFile>, MoverError> {
    let Some(at) = &file.at else {
        return Ok(None);
    };
    let Some((fd, stat)) = open_file(at, &file.entry.path)? else {
        return Ok(None);
    };
    let mut entry = file.entry.clone();
    let xattrs = metadata::read_xattrs(metadata::open_target(&fd))
        .map_err(|errno| MoverError::file("reading the extended attributes of", &entry.path, errno))?;
    set_state(&mut entry, &stat, xattrs);
    Ok(Some(StreamedFile {
        fd,
        entry,
        stat,
        at: Some(FileName { parent: at.parent.clone(), name: CString::from(at.name.as_c_str()) }),
        passing: file.passing,
    }))
}
