//! Block-mode volumes: a device, or a regular file that stands for one.
//!
//! A device moves as one file. Its manifest is a single entry, the root, which is a regular file
//! of the device's size; so segments, packs, deduplication, marks and resuming are those of
//! files. What differs:
//!
//! - nothing tells whether a device changed, so every pass reads it whole. Where the root is a
//!   file its holes are skipped; a block device has none that can be seen (`SEEK_DATA` is not for
//!   devices). Blocks of zeros are not sent, and blocks that the previous pass had at the same
//!   place are not uploaded again;
//! - a device has a size already, so a destination that is too small is refused before anything
//!   is written; what a larger one has beyond the source's size is left alone;
//! - the destination is read before it is written, and only what differs is written: most of a
//!   second pass, and zeros on a new volume, cost no write;
//! - there are no names and no metadata: the node of a device belongs to the container that sees
//!   it.
//!
//! Devices are read and written through the page cache. `O_DIRECT` would need aligned buffers,
//! which neither unpacking nor the pieces at the edges of holes give, and it would read and write
//! synchronously where the kernel reads ahead and writes behind. What speaks for it, that cached
//! pages may be older than a device which another node wrote, and that a pass would push the
//! applications' pages out of the cache, is had by `fadvise` as well: what is cached is let go of
//! when a device is opened, and again behind the reader.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use rustix::{
    fs::{Advice, FallocateFlags, FileType, Mode, OFlags, SeekFrom, fadvise, fallocate, fstat, open, seek},
    io::{Errno, pread, pwrite},
};

use super::{error::MoverError, metadata::file_type, work::Stop};

/// How messages name a device where they would name a file of the volume.
pub const NAME: &[u8] = b"the device";

/// An open device.
#[derive(Debug)]
pub struct Device {
    fd: Arc<OwnedFd>,
    path: String,
    size: u64,
}

impl Device {
    /// Opens a device for reading.
    pub fn source(path: &Path) -> Result<Self, MoverError> {
        Self::open(path, OFlags::RDONLY)
    }

    /// Opens a device for writing. One on which a filesystem is mounted, or that another mover
    /// has, is refused.
    pub fn destination(path: &Path) -> Result<Self, MoverError> {
        // Without O_CREAT, O_EXCL means just that for a block device, and nothing for a file.
        Self::open(path, OFlags::RDWR | OFlags::EXCL)
    }

    fn open(path: &Path, flags: OFlags) -> Result<Self, MoverError> {
        let shown = path.display().to_string();
        let refused = |source: io::Error| MoverError::NoDevice { path: shown.clone(), source };
        // A FIFO in its place must not block.
        let fd = open(path, flags | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
            .map_err(|errno| refused(errno.into()))?;
        let stat = fstat(&fd).map_err(|errno| refused(errno.into()))?;
        if !matches!(file_type(&stat), FileType::BlockDevice | FileType::RegularFile) {
            return Err(refused(io::Error::from(io::ErrorKind::InvalidInput)));
        }
        let device = Self { fd: Arc::new(fd), size: 0, path: shown.clone() };
        let size = device.size_now().map_err(|errno| refused(errno.into()))?;
        device.let_go(0, None);
        Ok(Self { size, ..device })
    }

    /// The open device.
    pub fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// Its path, for messages.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its size when it was opened, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether it has another size than when it was opened.
    pub fn check_size(&self) -> Result<(), MoverError> {
        let now = self.size_now().map_err(|errno| MoverError::file("finding the size of", NAME, errno))?;
        if now == self.size {
            return Ok(());
        }
        Err(MoverError::DeviceResized { path: self.path.clone(), before: self.size, now })
    }

    fn size_now(&self) -> Result<u64, Errno> {
        // A block device's stat has no size; its end is at it.
        seek(&self.fd, SeekFrom::End(0))
    }

    /// Has what was written on disk.
    pub fn sync(&self) -> Result<(), MoverError> {
        rustix::fs::fdatasync(&*self.fd).map_err(|errno| MoverError::file("writing to disk", NAME, errno))
    }

    /// Lets go of cached pages from `offset` on, so that the next read is of the device itself.
    /// Only advice: pages that are not on disk yet stay.
    pub fn let_go(&self, offset: u64, length: Option<std::num::NonZeroU64>) {
        fadvise(&*self.fd, offset, length, Advice::DontNeed).ok();
    }

    /// Makes all that is between two offsets read as zeros, and writes only where it does not.
    pub fn clear(&self, from: u64, to: u64, scratch: &mut [u8], stop: &Stop) -> Result<(), MoverError> {
        let reading = |errno| MoverError::file("reading", NAME, errno);
        let mut at = from;
        while let Some((start, end)) = self.next_data(at, to)? {
            stop.check()?;
            let length = usize::try_from(end - start).unwrap_or(usize::MAX).min(scratch.len());
            let part = &mut scratch[..length];
            if !read_exact_at(&self.fd, part, start).map_err(reading)? {
                // The end of a file that stands for a device: beyond it there is nothing.
                return Ok(());
            }
            if !is_zero(part) {
                self.zero(start, part)?;
            }
            at = start + length as u64;
        }
        Ok(())
    }

    /// Whether all that is between two offsets reads as zeros.
    pub fn is_clear(&self, from: u64, to: u64, scratch: &mut [u8], stop: &Stop) -> Result<bool, MoverError> {
        let mut at = from;
        while let Some((start, end)) = self.next_data(at, to)? {
            stop.check()?;
            let length = usize::try_from(end - start).unwrap_or(usize::MAX).min(scratch.len());
            if !self.read(start, &mut scratch[..length])? || !is_zero(&scratch[..length]) {
                return Ok(false);
            }
            at = start + length as u64;
        }
        Ok(true)
    }

    /// Reads exactly these bytes; false if the device ends before.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<bool, MoverError> {
        read_exact_at(&self.fd, into, offset).map_err(|errno| MoverError::file("reading", NAME, errno))
    }

    /// The next run between two offsets that may hold data.
    fn next_data(&self, at: u64, to: u64) -> Result<Option<(u64, u64)>, MoverError> {
        if at >= to {
            return Ok(None);
        }
        let error = |errno| MoverError::file("finding the holes of", NAME, errno);
        let start = match seek(&self.fd, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((at, to))),
            Err(errno) => return Err(error(errno)),
        };
        let end = match seek(&self.fd, SeekFrom::Hole(start)) {
            Ok(end) => end.min(to),
            Err(Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(error(errno)),
        };
        Ok((start < end).then_some((start, end)))
    }

    /// Makes zeros of a part that holds something; `scratch` is as long as the part.
    fn zero(&self, offset: u64, scratch: &mut [u8]) -> Result<(), MoverError> {
        // A hole gives a thin volume its space back. Where there is none, or the part is not
        // aligned to the device's blocks, zeros may still be had without sending them.
        for way in [FallocateFlags::PUNCH_HOLE, FallocateFlags::ZERO_RANGE] {
            let done = fallocate(&*self.fd, way | FallocateFlags::KEEP_SIZE, offset, scratch.len() as u64);
            match done {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV | Errno::INTR) => {}
                Err(errno) => return Err(MoverError::file("writing zeros to", NAME, errno)),
            }
        }
        scratch.fill(0);
        write_all_at(&self.fd, scratch, offset)
            .map_err(|errno| MoverError::file("writing zeros to", NAME, errno))
    }
}

/// Whether there is nothing but zeros.
pub fn is_zero(bytes: &[u8]) -> bool {
    // In parts, so that the compiler compares many bytes at a time and data is noticed soon.
    bytes.chunks(4096).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Reads until `into` is full; false if the file ends before.
pub fn read_exact_at(fd: &impl AsFd, into: &mut [u8], offset: u64) -> Result<bool, Errno> {
    let mut got = 0;
    while got < into.len() {
        match pread(fd, &mut into[got..], offset + got as u64) {
            Ok(0) => return Ok(false),
            Ok(read) => got += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(true)
}

/// Writes all of `bytes`.
pub fn write_all_at(fd: &impl AsFd, bytes: &[u8], offset: u64) -> Result<(), Errno> {
    let mut done = 0;
    while done < bytes.len() {
        match pwrite(fd, &bytes[done..], offset + done as u64) {
            Ok(written) => done += written,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// What a pass reads or writes.
#[derive(Debug, Clone)]
pub enum Root {
    /// A mounted filesystem.
    Directory(Arc<OwnedFd>),
    /// A device.
    Device(Arc<Device>),
}

impl Root {
    /// Opens a volume's root as a directory.
    pub fn directory(path: &Path) -> Result<Self, MoverError> {
        let opened = File::open(path).and_then(|file| {
            if file.metadata()?.is_dir() {
                Ok(file)
            } else {
                Err(io::Error::from(io::ErrorKind::NotADirectory))
            }
        });
        match opened {
            Ok(file) => Ok(Self::Directory(Arc::new(OwnedFd::from(file)))),
            Err(source) => Err(MoverError::Root { path: path.display().to_string(), source }),
        }
    }

    /// The open directory or device.
    pub fn fd(&self) -> &Arc<OwnedFd> {
        match self {
            Self::Directory(fd) => fd,
            Self::Device(device) => device.fd(),
        }
    }
}
