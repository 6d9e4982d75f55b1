//! The planner: takes records in order, does what is quick itself, and hands content to the
//! workers.
//!
//! - here: segments and marks, and the way through the directories;
//! - [`contents`]: what of a regular file has to be fetched;
//! - [`device`]: the root, where it is one;
//! - [`names`]: links, FIFOs and devices.

mod contents;
mod device;
mod names;

use std::{
    collections::{HashSet, VecDeque},
    ffi::CString,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use isthmus_shared::resources::VerifyMethod;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat, mkdirat, openat, statat},
    io::Errno,
};

use super::{
    Shared, Window,
    directory::{DirHandle, OpenDir},
    fetch::{Needs, fetch},
    file::{FileTask, Present},
    follow::Follower,
    mark::Mark,
    read_device::DeviceReader,
    remove::remove_tree,
    verify::Verifier,
    worker::Missing,
};
use crate::mover::{
    device::{Device, Root},
    error::MoverError,
    format::{Entry, FormatError, Kind, PathOrder, Record, Segment, show_path, split_path},
    limits::SEGMENTS_IN_FLIGHT,
    manifest::SegmentReader,
    metadata,
    pass::Pass,
    report::ReceiveReport,
};

/// Another name of an earlier file: made when that file is there.
struct Link {
    dir: Arc<DirHandle>,
    name: CString,
    entry: Entry,
    target: Vec<u8>,
    exists: bool,
}

/// The large file whose content is coming.
struct Streamed {
    entry: Entry,
    /// `None` where its content is right already.
    task: Option<Arc<FileTask>>,
    /// Where the last piece ended.
    at: u64,
}

pub struct Planner {
    shared: Arc<Shared>,
    root: Arc<OwnedFd>,
    /// Where the root is one.
    device: Option<Arc<Device>>,
    pass: u32,
    previous: Option<u32>,
    durable: bool,
    verify: VerifyMethod,
    mark_interval: Duration,
    unprivileged: bool,
    follower: Follower,
    order: PathOrder,
    dirs: Vec<OpenDir>,
    streamed: Option<Streamed>,
    links: Vec<Link>,
    /// Entries with several names that the destination refused to make.
    unmade: HashSet<Vec<u8>>,
    needs: Needs,
    comparing: usize,
    answers: (mpsc::Sender<Missing>, mpsc::Receiver<Missing>),
    report: ReceiveReport,
    /// Marks of windows that are not all done, oldest first.
    marks: VecDeque<(u64, Mark)>,
    marked: Instant,
}

impl Planner {
    pub fn new(
        shared: Arc<Shared>,
        root: &Root,
        pass: &Pass,
        verify: VerifyMethod,
        mark: Mark,
    ) -> Result<Self, MoverError> {
        let limits = &pass.limits;
        let reader = SegmentReader::resume(shared.place.clone(), pass.number, mark.next, mark.chain);
        let privileged = shared.privileged;
        let look = limits.heartbeat / 2;
        let mut planner = Self {
            shared,
            root: root.fd().clone(),
            device: match root {
                Root::Directory(_) => None,
                Root::Device(device) => Some(device.clone()),
            },
            pass: pass.number,
            previous: pass.previous,
            durable: limits.durable,
            verify,
            mark_interval: limits.mark_interval,
            unprivileged: !privileged,
            follower: Follower::new(reader, pass.number, limits.peer_timeout, look),
            order: PathOrder::default(),
            dirs: Vec::new(),
            streamed: None,
            links: Vec::new(),
            unmade: HashSet::new(),
            needs: Needs::default(),
            comparing: 0,
            answers: mpsc::channel(),
            report: mark.report.clone(),
            marks: VecDeque::new(),
            marked: Instant::now(),
        };
        planner.reopen(mark)?;
        Ok(planner)
    }

    /// Opens again what was open at the mark.
    fn reopen(&mut self, mark: Mark) -> Result<(), MoverError> {
        let last = mark.last.clone();
        let mut open_file = None;
        let names: Vec<Vec<u8>> =
            last.as_deref().map(|last| split_path(last).map(<[u8]>::to_vec).collect()).unwrap_or_default();
        for (depth, record) in mark.open.into_iter().enumerate() {
            let Record::Entry(entry) = record else {
                continue;
            };
            if entry.kind != Kind::Directory {
                open_file = Some(entry);
                break;
            }
            let fd = match self.dirs.last() {
                None => self.root.clone(),
                Some(parent) => {
                    let name = names.get(depth - 1).cloned().unwrap_or_default();
                    let name = c_name(&name)?;
                    self.open_directory(&parent.handle.fd, &name, &entry.path)?
                }
            };
            // What the last window dealt with in this directory was dealt with whole.
            let mut from = names.get(depth).cloned().unwrap_or_default();
            if !from.is_empty() {
                from.push(0);
            }
            let handle = Arc::new(DirHandle { fd, entry: Arc::new(entry), fresh: false });
            self.dirs.push(OpenDir::new(handle, &from));
        }
        if self.device.is_some()
            && let Some(entry) = open_file.take()
        {
            self.device_entry(entry, mark.open_at)?;
        }
        if let (Some(entry), Some(dir)) = (open_file, self.dirs.last()) {
            let name = c_name(split_path(&entry.path).last().unwrap_or_default())?;
            let dir = dir.handle.clone();
            let present = match statat(&*dir.fd, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Present::Differing,
                Err(_) => Present::Nothing,
            };
            let Kind::File(content) = &entry.kind else {
                return Ok(());
            };
            let task = self.new_file(&dir, name, &entry, content.size, present, Vec::new(), None);
            self.streamed = Some(Streamed { entry, task: Some(task), at: mark.open_at });
        }
        self.order = PathOrder::after(last, self.streamed.is_some());
        Ok(())
    }

    /// Receives to the end of the pass.
    pub fn run(mut self, started: Instant) -> Result<ReceiveReport, MoverError> {
        let shared = self.shared.clone();
        loop {
            let number = self.follower.reader().position();
            let oldest = number.saturating_sub(SEGMENTS_IN_FLIGHT as u64 - 1);
            shared.windows.wait_until(oldest, &shared.stop)?;
            self.write_due_mark(false)?;
            let segment = shared.runtime.block_on(self.follower.next(&shared))?;
            let last = segment.last;
            let window = shared.windows.open(number);
            self.segment(segment, &window).map_err(|error| {
                // Noted before the window is let go of, as it is not done.
                shared.stop.fail(error);
                MoverError::Cancelled
            })?;
            if last {
                self.leave_until(0)?;
                drop(window);
                shared.windows.wait_until(number + 1, &shared.stop)?;
                break;
            }
            let mark = self.mark(number + 1);
            self.marks.push_back((number + 1, mark));
            drop(window);
        }
        if self.durable {
            self.sync()?;
        }
        let totals = &self.report.totals;
        shared.progress.start_at(totals.files, totals.bytes);
        shared.fill(&mut self.report);
        if self.verify == VerifyMethod::Full {
            self.read_back()?;
        }
        self.report.duration = started.elapsed();
        let mark = Mark {
            next: self.follower.reader().position(),
            chain: self.follower.reader().chain(),
            report: self.report.clone(),
            complete: true,
            last: None,
            open: Vec::new(),
            open_at: 0,
        };
        if !shared.recovers {
            shared.runtime.block_on(mark.write(&shared.place, self.pass))?;
        }
        Ok(self.report)
    }

    /// Compares all that is there with the manifest. What was written goes to disk before, so
    /// that it can be read from there.
    fn read_back(&mut self) -> Result<(), MoverError> {
        self.sync()?;
        if let Some(device) = &self.device {
            let chain = self.follower.reader().chain();
            return DeviceReader::new(&self.shared, device).run(self.pass, chain, &mut self.report);
        }
        let window = self.shared.windows.open(self.shared.windows.done());
        let verifier = Verifier::new(self.shared.clone(), self.root.clone(), self.pass, window);
        verifier.run(self.follower.reader().chain(), &mut self.report)
    }

    fn sync(&self) -> Result<(), MoverError> {
        if let Some(device) = &self.device {
            // What syncfs would sync is the filesystem that holds the device's node.
            return device.sync();
        }
        rustix::fs::syncfs(&*self.root).map_err(|errno| MoverError::file("writing to disk", b"", errno))
    }

    fn mark(&self, next: u64) -> Mark {
        let mut open: Vec<Record> =
            self.dirs.iter().map(|dir| Record::Entry((*dir.handle.entry).clone())).collect();
        if let Some(streamed) = &self.streamed {
            let mut entry = streamed.entry.clone();
            // Its pieces are dealt with, and name packs of a segment.
            if let Kind::File(content) = &mut entry.kind {
                content.pieces.clear();
            }
            open.push(Record::Entry(entry));
        }
        Mark {
            next,
            chain: self.follower.reader().chain(),
            report: self.report.clone(),
            complete: false,
            last: self.order.last().map(<[u8]>::to_vec),
            open,
            open_at: self.streamed.as_ref().map_or(0, |streamed| streamed.at),
        }
    }

    /// Writes the newest mark whose windows are all done, if it is time.
    fn write_due_mark(&mut self, now: bool) -> Result<(), MoverError> {
        let done = self.shared.windows.done();
        let mut due = None;
        while self.marks.front().is_some_and(|(next, _)| *next <= done) {
            due = self.marks.pop_front();
        }
        let Some((next, mut mark)) = due.filter(|_| !self.shared.recovers) else {
            return Ok(());
        };
        if !now && self.marked.elapsed() < self.mark_interval {
            self.marks.push_front((next, mark));
            return Ok(());
        }
        // A mark must not say more than what survives the node's crash.
        if self.durable {
            self.sync()?;
        }
        self.shared.fill(&mut mark.report);
        self.shared.runtime.block_on(mark.write(&self.shared.place, self.pass))?;
        self.marked = Instant::now();
        Ok(())
    }

    fn segment(&mut self, segment: Segment, window: &Arc<Window>) -> Result<(), MoverError> {
        let number = window.number;
        if segment.last && segment.records.is_empty() && self.order.last().is_none() {
            return Err(self.refused(number, FormatError::CutOff("the volume's root")));
        }
        self.report.totals = segment.report.totals.clone();
        self.report.inconsistent = segment.report.inconsistent.clone();
        self.report.sent_by.clone_from(&segment.report.claim);
        for record in segment.records {
            self.shared.stop.check()?;
            match record {
                Record::Entry(entry) => {
                    let open = matches!(&entry.kind, Kind::File(content) if content.open);
                    let again = self.order.is_open();
                    let ordered = self.order.entry(&entry.path, open);
                    ordered.map_err(|source| self.refused(number, source))?;
                    if again {
                        self.abandon_streamed()?;
                    }
                    self.entry(entry, window, again)?;
                }
                Record::Data(pieces) => {
                    let ordered = self.order.data();
                    ordered.map_err(|source| self.refused(number, source))?;
                    self.data(pieces, number)?;
                }
                Record::End(end) => {
                    let ordered = self.order.end();
                    ordered.map_err(|source| self.refused(number, source))?;
                    self.end(end, window)?;
                }
            }
        }
        if segment.last && self.order.is_open() {
            return Err(self.refused(number, FormatError::CutOff("a large file")));
        }
        self.compared()?;
        for range in std::mem::take(&mut self.needs).into_ranges() {
            fetch(range, window, &self.shared)?;
        }
        self.make_links()
    }

    fn refused(&self, number: u64, source: FormatError) -> MoverError {
        MoverError::Manifest { object: format!("segment {number} of pass {}", self.pass), source }
    }

    /// Leaves directories until the last open one holds `path`, and gives the entry's name.
    fn enter_parent(&mut self, path: &[u8], number: u64) -> Result<CString, MoverError> {
        let (parent, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&path[..0], path),
        };
        while let Some(dir) = self.dirs.last() {
            let open = &dir.handle.entry.path;
            let holds = open.is_empty()
                || parent == open.as_slice()
                || parent.strip_prefix(open.as_slice()).is_some_and(|rest| rest.starts_with(b"/"));
            if holds {
                break;
            }
            self.leave_until(self.dirs.len() - 1)?;
        }
        let sound = self.dirs.last().is_some_and(|dir| dir.handle.entry.path == parent);
        if !sound {
            return Err(self.refused(
                number,
                FormatError::Order { path: show_path(path), why: "its directory did not come before it" },
            ));
        }
        c_name(name)
    }

    fn leave_until(&mut self, depth: usize) -> Result<(), MoverError> {
        while self.dirs.len() > depth {
            if let Some(dir) = self.dirs.pop() {
                dir.leave(&self.shared)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: Entry, window: &Arc<Window>, again: bool) -> Result<(), MoverError> {
        if entry.path.is_empty() {
            return self.root_entry(entry);
        }
        if self.shared.exclude.excludes(&entry.path, entry.kind == Kind::Directory) {
            let why = "is left out by excludePaths";
            return Err(self.refused(window.number, FormatError::Path { path: show_path(&entry.path), why }));
        }
        let name = self.enter_parent(&entry.path, window.number)?;
        let Some(dir) = self.dirs.last_mut() else {
            return Ok(());
        };
        // An entry that comes again was seen in the listing the first time.
        let listed = again || dir.advance(&name, &self.shared)?;
        let dir = dir.handle.clone();
        let now = if listed { present(&dir.fd, &name, &entry.path)? } else { None };
        match &entry.kind {
            Kind::Directory => self.directory(&dir, &name, entry, now),
            Kind::File(_) => self.file(&dir, name, entry, now, window),
            Kind::HardLink(target) => {
                self.links.push(Link { dir, name, target: target.clone(), exists: now.is_some(), entry });
                Ok(())
            }
            Kind::Symlink(_) | Kind::Fifo | Kind::CharDevice(_) | Kind::BlockDevice(_) => {
                self.special(&dir, &name, &entry, now)
            }
        }
    }

    /// Removes what stands in the way of an entry.
    fn remove(&self, dir: &DirHandle, name: &CString, path: &[u8]) -> Result<(), MoverError> {
        match remove_tree(dir.fd.as_fd(), name, path, &self.shared.exclude)?.kept {
            None => Ok(()),
            Some(kept) => Err(MoverError::Excluded { path: show_path(path), kept: show_path(&kept) }),
        }
    }

    fn directory(
        &mut self,
        dir: &DirHandle,
        name: &CString,
        entry: Entry,
        now: Option<Stat>,
    ) -> Result<(), MoverError> {
        let mut fresh = true;
        match now {
            Some(stat) if metadata::file_type(&stat) == FileType::Directory => fresh = false,
            Some(_) => self.remove(dir, name, &entry.path)?,
            None => {}
        }
        if fresh {
            mkdirat(&*dir.fd, name, Mode::RWXU)
                .map_err(|errno| MoverError::file("making the directory", &entry.path, errno))?;
        }
        let fd = self.open_directory(&dir.fd, name, &entry.path)?;
        // One that this run made gets its own ACLs when all is in it.
        if fresh && !dir.fresh {
            metadata::drop_inherited_acls(&fd)
                .map_err(|errno| MoverError::file("taking off the inherited ACL of", &entry.path, errno))?;
        }
        self.push_directory(fd, entry, fresh);
        Ok(())
    }

    fn open_directory(
        &self,
        parent: &OwnedFd,
        name: &CString,
        path: &[u8],
    ) -> Result<Arc<OwnedFd>, MoverError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut opened = openat(parent, name, flags, Mode::empty());
        if opened.as_ref().is_err_and(|errno| *errno == Errno::ACCESS) {
            opened = metadata::chmod_name(parent, name, Mode::RWXU)
                .and_then(|()| openat(parent, name, flags, Mode::empty()));
        }
        let fd = opened.map_err(|errno| MoverError::file("opening", path, errno))?;
        if self.unprivileged {
            // Its final mode comes at the end; until then its owner needs to write in it. Where
            // that is refused, so will be what needs it, with a better message.
            rustix::fs::fchmod(&fd, Mode::RWXU).ok();
        }
        Ok(Arc::new(fd))
    }

    fn push_directory(&mut self, fd: Arc<OwnedFd>, entry: Entry, fresh: bool) {
        let handle = Arc::new(DirHandle { fd, entry: Arc::new(entry), fresh });
        self.dirs.push(OpenDir::new(handle, b""));
    }
}

fn c_name(name: &[u8]) -> Result<CString, MoverError> {
    CString::new(name).map_err(|_| MoverError::file("opening", name, Errno::INVAL))
}

fn present(dir: &OwnedFd, name: &CString, path: &[u8]) -> Result<Option<Stat>, MoverError> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(MoverError::file("reading the state of", path, errno)),
    }
}
