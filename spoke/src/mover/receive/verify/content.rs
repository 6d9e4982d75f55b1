//! Reading a regular file back and comparing it, block by block, with what was sent.

use std::{
    ffi::{CStr, CString},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{
        Advice, AtFlags, Mode, OFlags, SeekFrom, Timespec, Timestamps, UTIME_OMIT, fadvise, fchmod, fstat,
        openat, seek, utimensat,
    },
    io::{Errno, pread},
};

use super::{
    Findings,
    differences::{Difference, in_metadata},
    opened::Opened,
};
use crate::mover::{
    error::MoverError,
    format::{Kind, Metadata, Piece, PiecePlace},
    metadata,
    receive::{Shared, Window},
    work::lock,
};

/// A file that is being read back. Whoever lets go of it last reports it.
pub struct ReadBack {
    path: Vec<u8>,
    dir: Arc<Opened>,
    name: CString,
    fd: OwnedFd,
    size: u64,
    /// The first difference of its content, and all of its metadata.
    differences: Mutex<Vec<Difference>>,
    /// Whether all its parts were handed in. The sender may have opened it again before: then
    /// only the last coming counts.
    complete: AtomicBool,
    findings: Arc<Findings>,
    window: Arc<Window>,
}

/// Something of a file to be read back.
pub enum Task {
    /// All of it.
    Whole {
        /// Its directory.
        dir: Arc<Opened>,
        /// Its name there.
        name: CString,
        /// Its entry.
        entry: Box<crate::mover::format::Entry>,
        /// Differences found so far.
        found: Vec<Difference>,
        /// Where the findings go.
        findings: Arc<Findings>,
        /// What waits for it.
        window: Arc<Window>,
    },
    /// From one byte to another.
    Part {
        /// The file.
        file: Arc<ReadBack>,
        /// The pieces in between.
        pieces: Vec<Piece>,
        /// The part's start ...
        from: u64,
        /// ... and end.
        to: u64,
    },
}

impl Task {
    /// What waits for it.
    pub fn window(&self) -> Arc<Window> {
        match self {
            Self::Whole { window, .. } => window.clone(),
            Self::Part { file, .. } => file.window.clone(),
        }
    }

    /// Reads and compares.
    pub fn run(self, scratch: &mut [u8], shared: &Shared) -> Result<(), MoverError> {
        match self {
            Self::Whole { dir, name, entry, found, findings, window } => {
                let Kind::File(content) = &entry.kind else {
                    return Ok(());
                };
                let place = (entry.path.as_slice(), dir, name);
                let Some(file) =
                    ReadBack::open(place, &entry.metadata, content.size, found, findings, window)?
                else {
                    return Ok(());
                };
                file.complete();
                file.compare(&content.pieces, 0, content.size, scratch, shared)?;
                file.report(shared)
            }
            Self::Part { file, pieces, from, to } => {
                file.compare(&pieces, from, to, scratch, shared)?;
                Arc::into_inner(file).map_or(Ok(()), |file| file.report(shared))
            }
        }
    }
}

impl ReadBack {
    /// Opens a file and compares its metadata. `None` if it is gone, which is then reported.
    pub fn open(
        (path, dir, name): (&[u8], Arc<Opened>, CString),
        wanted: &Metadata,
        size: u64,
        mut found: Vec<Difference>,
        findings: Arc<Findings>,
        window: Arc<Window>,
    ) -> Result<Option<Self>, MoverError> {
        let fd = match open_to_read(&dir.fd, &name, wanted.mode) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => {
                findings.add(path, &[Difference::of_content("it went while the volume was read back")]);
                return Ok(None);
            }
            Err(errno) => return Err(MoverError::file("opening", path, errno)),
        };
        let failed = |errno| MoverError::file("reading the metadata of", path, errno);
        let stat = fstat(&fd).map_err(failed)?;
        let xattrs = metadata::read_xattrs(metadata::open_target(&fd)).map_err(failed)?;
        found.extend(in_metadata(&stat, &xattrs, wanted, metadata::has_selinux()));
        if metadata::size(&stat) != size {
            let what = format!("it has {} bytes, not {size}", metadata::size(&stat));
            found.push(Difference::of_content(what));
        }
        // What was written is on disk: so that it is read from there, and not from memory. Where
        // that is refused, the kernel's copy is compared.
        fadvise(&fd, 0, None, Advice::DontNeed).ok();
        fadvise(&fd, 0, None, Advice::Sequential).ok();
        let differences = Mutex::new(found);
        let complete = AtomicBool::new(false);
        Ok(Some(Self { path: path.to_vec(), dir, name, fd, size, differences, complete, findings, window }))
    }

    /// All its parts were handed in.
    pub fn complete(&self) {
        self.complete.store(true, Ordering::SeqCst);
    }

    /// The file's size as it was sent.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn differs_in_content(&self) -> bool {
        lock(&self.differences).iter().any(|difference| !difference.metadata)
    }

    /// Compares a part with its pieces; what no piece covers must be zero. Ends at the first
    /// difference.
    fn compare(
        &self,
        pieces: &[Piece],
        from: u64,
        to: u64,
        scratch: &mut [u8],
        shared: &Shared,
    ) -> Result<(), MoverError> {
        let mut at = from;
        for piece in pieces {
            shared.stop.check()?;
            if self.differs_in_content() || !self.is_zero(at, piece.offset, scratch, shared)? {
                return Ok(());
            }
            let bytes = &mut scratch[..piece.length as usize];
            let whole = self.read(bytes, piece.offset)? == bytes.len();
            let right = whole
                && match &piece.place {
                    PiecePlace::Inline(sent) => bytes == sent.as_slice(),
                    PiecePlace::Frame { hash, .. } => shared.name_block(bytes) == *hash,
                };
            at = piece.offset + u64::from(piece.length);
            if !right {
                self.differ(piece.offset, at);
                return Ok(());
            }
            shared.progress.add_read_back(u64::from(piece.length));
        }
        if !self.differs_in_content() {
            self.is_zero(at, to, scratch, shared)?;
        }
        Ok(())
    }

    fn differ(&self, from: u64, to: u64) {
        let what = format!("its content differs in the bytes {from} to {to}");
        lock(&self.differences).push(Difference::of_content(what));
    }

    /// Whether there are zeros or a hole between two offsets; noted if not.
    fn is_zero(&self, from: u64, to: u64, scratch: &mut [u8], shared: &Shared) -> Result<bool, MoverError> {
        let mut at = from;
        while at < to {
            shared.stop.check()?;
            match seek(&self.fd, SeekFrom::Data(at)) {
                Ok(start) => at = start,
                Err(Errno::NXIO) => return Ok(true),
                Err(Errno::INVAL | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(MoverError::file("finding the holes of", &self.path, errno)),
            }
            if at >= to {
                break;
            }
            let length = usize::try_from(to - at).unwrap_or(usize::MAX).min(scratch.len());
            let got = self.read(&mut scratch[..length], at)?;
            if got == 0 {
                break;
            }
            if scratch[..got].iter().any(|byte| *byte != 0) {
                self.differ(at, at + got as u64);
                return Ok(false);
            }
            at += got as u64;
        }
        Ok(true)
    }

    fn read(&self, into: &mut [u8], offset: u64) -> Result<usize, MoverError> {
        let mut got = 0;
        while got < into.len() {
            match pread(&self.fd, &mut into[got..], offset + got as u64) {
                Ok(0) => break,
                Ok(read) => got += read,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(MoverError::file("reading back", &self.path, errno)),
            }
        }
        Ok(got)
    }

    fn report(self, shared: &Shared) -> Result<(), MoverError> {
        shared.stop.check()?;
        if !self.complete.load(Ordering::SeqCst) {
            return Ok(());
        }
        let found = lock(&self.differences).clone();
        self.findings.count_file(self.size);
        if self.findings.add(&self.path, &found) {
            distrust(&self.dir.fd, &self.name, &self.path)?;
        }
        drop(self.window);
        Ok(())
    }
}

/// What tells the next pass that a file is right is its time: one that is not right gets
/// another, so that it is compared, and written anew where it differs.
fn distrust(dir: &OwnedFd, name: &CStr, path: &[u8]) -> Result<(), MoverError> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: 0, tv_nsec: 0 },
    };
    match utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(MoverError::file("marking as differing", path, errno)),
    }
}

/// Opens a file also where its mode does not let its owner read it.
fn open_to_read(dir: &OwnedFd, name: &CStr, mode: u32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match openat(dir, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            metadata::chmod_name(dir, name, Mode::RUSR)?;
            let fd = openat(dir, name, flags, Mode::empty())?;
            fchmod(&fd, Mode::from_raw_mode(mode))?;
            Ok(fd)
        }
        other => other,
    }
}
