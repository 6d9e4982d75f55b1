//! A regular file on its way to the destination.

use std::{
    ffi::CString,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::{
    fs::{FallocateFlags, Mode, OFlags, SeekFrom, fallocate, fstat, ftruncate, openat, seek},
    io::{Errno, pwrite},
};

use super::{
    Shared, Window,
    directory::{DirHandle, release},
};
use crate::mover::{
    device::{Device, is_zero, read_exact_at, write_all_at},
    error::MoverError,
    format::{Metadata, Piece, PiecePlace},
    limits::WRITE_BACK_BYTES,
    metadata,
    work::lock,
};

/// What there is of the file at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// Nothing: it is made anew.
    Nothing,
    /// A file whose content may differ.
    Differing,
    /// The file of the previous pass: it lacks just the pieces that were not kept.
    AsBefore,
    /// Its content is right already.
    SameContent,
}

/// What holds a file.
#[derive(Debug)]
pub enum Home {
    /// A directory of the volume.
    Directory(Arc<DirHandle>),
    /// The volume itself is the file: a device.
    Device(Arc<Device>),
}

/// A file that is being written. Whoever lets go of it last finishes it.
#[derive(Debug)]
pub struct FileTask {
    /// Its path, for messages.
    pub path: Vec<u8>,
    /// What holds it.
    pub home: Home,
    /// Its name there.
    pub name: CString,
    /// What it gets at the end.
    pub metadata: Metadata,
    /// The size that it gets.
    pub size: u64,
    /// What there was when it was planned.
    pub present: Present,
    /// Content that came with the manifest.
    pub inline: Vec<Piece>,
    /// The open file.
    pub fd: Mutex<Option<Arc<OwnedFd>>>,
    /// Bytes written to it so far.
    pub written: AtomicU64,
    /// The window in which it is to be finished.
    pub window: Mutex<Option<Arc<Window>>>,
}

impl FileTask {
    /// The file, opened or made at the first call.
    pub fn open(&self) -> Result<Arc<OwnedFd>, MoverError> {
        let mut slot = lock(&self.fd);
        if let Some(fd) = &*slot {
            return Ok(fd.clone());
        }
        let base = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let dir = match &self.home {
            Home::Directory(dir) => &*dir.fd,
            Home::Device(device) => {
                *slot = Some(device.fd().clone());
                return Ok(device.fd().clone());
            }
        };
        let opened = if self.present == Present::Nothing {
            let flags = base | OFlags::CREATE | OFlags::EXCL;
            openat(dir, &self.name, flags, Mode::RUSR | Mode::WUSR)
                .map_err(|errno| MoverError::file("making", &self.path, errno))?
        } else {
            match openat(dir, &self.name, base, Mode::empty()) {
                // The owner may make a read-only file writable; its mode is set at the end.
                Err(Errno::ACCESS) => metadata::chmod_name(dir, &self.name, Mode::RUSR | Mode::WUSR)
                    .and_then(|()| openat(dir, &self.name, base, Mode::empty())),
                other => other,
            }
            .map_err(|errno| MoverError::file("opening", &self.path, errno))?
        };
        let fd = Arc::new(opened);
        *slot = Some(fd.clone());
        Ok(fd)
    }

    /// Writes bytes at their place.
    pub fn write(&self, offset: u64, bytes: &[u8], shared: &Shared) -> Result<(), MoverError> {
        let fd = self.open()?;
        write_all_at(&*fd, bytes, offset).map_err(|errno| MoverError::file("writing", &self.path, errno))?;
        let written = bytes.len() as u64;
        let before = self.written.fetch_add(written, Ordering::Relaxed);
        if before / WRITE_BACK_BYTES != (before + written) / WRITE_BACK_BYTES {
            shared.write_back.hand_in(&fd, &self.path);
        }
        shared.count(|counters| &counters.written, written);
        shared.progress.add_bytes(written);
        Ok(())
    }

    /// Those of `pieces` that are not in the file, after making a hole of all that is between
    /// `from` and `to` and in no piece.
    pub fn missing(
        &self,
        pieces: Vec<Piece>,
        from: u64,
        to: u64,
        scratch: &mut [u8],
        shared: &Shared,
    ) -> Result<Vec<Piece>, MoverError> {
        let fd = self.open()?;
        let mut missing = Vec::new();
        let mut at = from;
        for piece in pieces {
            self.clear(&fd, at, piece.offset, scratch, shared)?;
            at = piece.offset + u64::from(piece.length);
            if piece.kept && self.present == Present::AsBefore {
                shared.progress.add_bytes(u64::from(piece.length));
                continue;
            }
            let present = &mut scratch[..piece.length as usize];
            let whole = read_exact_at(&*fd, present, piece.offset)
                .map_err(|errno| MoverError::file("reading", &self.path, errno))?;
            shared.count(|counters| &counters.compared, u64::from(piece.length));
            // Pieces are never zeros, and a new device is nothing else.
            let right = whole
                && !is_zero(present)
                && match &piece.place {
                    PiecePlace::Inline(bytes) => present == bytes.as_slice(),
                    PiecePlace::Frame { hash, .. } => shared.name_block(present) == *hash,
                };
            if right {
                shared.progress.add_bytes(u64::from(piece.length));
            } else {
                missing.push(piece);
            }
        }
        self.clear(&fd, at, to, scratch, shared)?;
        Ok(missing)
    }

    /// Makes all between two offsets read as zeros.
    fn clear(
        &self,
        fd: &OwnedFd,
        from: u64,
        to: u64,
        scratch: &mut [u8],
        shared: &Shared,
    ) -> Result<(), MoverError> {
        match &self.home {
            Home::Directory(_) => self.punch(fd, from, to),
            Home::Device(device) => {
                device.clear(from, to, scratch, &shared.stop)?;
                shared.progress.add_bytes(to.saturating_sub(from));
                Ok(())
            }
        }
    }

    /// Makes a hole of what holds data between two offsets.
    fn punch(&self, fd: &OwnedFd, from: u64, to: u64) -> Result<(), MoverError> {
        let mut at = from;
        while at < to {
            let start = match seek(fd, SeekFrom::Data(at)) {
                Ok(start) if start < to => start,
                // No data from here on, or none before the next piece.
                Ok(_) | Err(Errno::NXIO) => return Ok(()),
                Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
                Err(errno) => {
                    return Err(MoverError::file("finding the holes of", &self.path, errno));
                }
            };
            let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match fallocate(fd, mode, start, to - start) {
                Ok(()) => return Ok(()),
                // Without holes, zeros have the same content.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return self.write_zeros(fd, start, to),
                Err(Errno::INTR) => at = start,
                Err(errno) => {
                    return Err(MoverError::file("making a hole in", &self.path, errno));
                }
            }
        }
        Ok(())
    }

    fn write_zeros(&self, fd: &OwnedFd, from: u64, to: u64) -> Result<(), MoverError> {
        let zeros = vec![0; 64 * 1024];
        // Beyond the end there is nothing to overwrite.
        let size = fstat(fd)
            .map(|stat| metadata::size(&stat))
            .map_err(|errno| MoverError::file("reading the state of", &self.path, errno))?;
        let end = to.min(size);
        let mut at = from;
        while at < end {
            let length = usize::try_from((end - at).min(zeros.len() as u64)).unwrap_or(zeros.len());
            match pwrite(fd, &zeros[..length], at) {
                Ok(written) => at += written as u64,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(MoverError::file("writing", &self.path, errno)),
            }
        }
        Ok(())
    }
}

/// Lets go of a file; the last one sets its size and metadata and closes it.
pub fn finish(task: Arc<FileTask>, shared: &Shared) -> Result<(), MoverError> {
    let Some(task) = Arc::into_inner(task) else {
        return Ok(());
    };
    shared.stop.check()?;
    for piece in &task.inline {
        if let PiecePlace::Inline(bytes) = &piece.place {
            task.write(piece.offset, bytes, shared)?;
        }
    }
    let FileTask { home: Home::Directory(dir), .. } = &task else {
        // A device has its size, and its node's metadata is not the volume's.
        shared.progress.add_file();
        shared.file_closed();
        return Ok(());
    };
    let fd = task.open()?;
    let mut now = fstat(&*fd).map_err(|errno| MoverError::file("reading the state of", &task.path, errno))?;
    if metadata::size(&now) != task.size {
        ftruncate(&*fd, task.size)
            .map_err(|errno| MoverError::file("setting the size of", &task.path, errno))?;
        now = fstat(&*fd).map_err(|errno| MoverError::file("reading the state of", &task.path, errno))?;
    }
    let bare = task.present == Present::Nothing && dir.fresh;
    let target = metadata::open_target(&*fd);
    let refused = metadata::apply(target, Some(&now), &task.metadata, bare);
    shared.judge(&task.path, &refused)?;
    shared.check_time(&task.path, &fd, task.metadata.mtime)?;
    shared.progress.add_file();
    let FileTask { home, window, .. } = task;
    if let Home::Directory(dir) = home {
        release(dir, shared)?;
    }
    shared.file_closed();
    drop(window);
    Ok(())
}
