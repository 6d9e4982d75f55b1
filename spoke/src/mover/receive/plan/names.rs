//! Entries without content of their own: links of both kinds, FIFOs and devices.

use std::{
    ffi::CString,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat, linkat, mknodat, openat, readlinkat, statat, symlinkat},
    io::Errno,
};

use super::{Link, Planner, present};
use crate::mover::{
    error::MoverError,
    format::{Device, Entry, Kind, split_path},
    metadata::{self, Part, Refused, Target},
    receive::directory::{DirHandle, release},
};

/// The most entries with several names that may be refused in one run; the other names of those
/// beyond are an error.
const MAX_UNMADE: usize = 10_000;

impl Planner {
    pub(super) fn special(
        &mut self,
        dir: &DirHandle,
        name: &CString,
        entry: &Entry,
        now: Option<Stat>,
    ) -> Result<(), MoverError> {
        let same = match &now {
            Some(stat) => is_same_special(dir, name, entry, stat),
            None => false,
        };
        let bare = !same && dir.fresh;
        if !same {
            if now.is_some() {
                self.remove(dir, name, &entry.path)?;
            }
            if let Err(errno) = make_special(dir, name, &entry.kind) {
                return self.unmade(entry, errno);
            }
        }
        let now = present(&dir.fd, name, &entry.path)?;
        let target = Target::Name(dir.fd.as_fd(), name);
        let refused = metadata::apply(target, now.as_ref(), &entry.metadata, bare);
        self.shared.judge(&entry.path, &refused)
    }

    /// A device node or FIFO holds nothing that would be lost: the policy decides about it.
    fn unmade(&mut self, entry: &Entry, errno: Errno) -> Result<(), MoverError> {
        let refusal = matches!(errno, Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL);
        let part = match entry.kind {
            Kind::CharDevice(_) | Kind::BlockDevice(_) if refusal => Part::Device,
            Kind::Fifo if refusal => Part::Fifo,
            _ => return Err(MoverError::file("making", &entry.path, errno)),
        };
        if entry.stamp.links > 1 && self.unmade.len() < MAX_UNMADE {
            self.unmade.insert(entry.path.clone());
        }
        self.shared.judge(&entry.path, &[Refused { part, errno }])
    }

    /// Makes the hard links of this window, once the files that they lead to are there.
    pub(super) fn make_links(&mut self) -> Result<(), MoverError> {
        if self.links.is_empty() {
            return Ok(());
        }
        let open = u64::from(self.streamed.as_ref().is_some_and(|file| file.task.is_some()));
        self.shared.wait_for_files(open)?;
        for link in std::mem::take(&mut self.links) {
            if self.unmade.contains(&link.target) {
                let refused = Refused { part: Part::Device, errno: Errno::PERM };
                self.shared.judge(&link.entry.path, &[refused])?;
            } else {
                self.make_link(&link)?;
            }
            release(link.dir, &self.shared)?;
        }
        Ok(())
    }

    fn make_link(&self, link: &Link) -> Result<(), MoverError> {
        let error = |errno| MoverError::file("making the hard link", &link.entry.path, errno);
        let (holder, name) = self.find(&link.target).map_err(error)?;
        let target = statat(&holder, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(error)?;
        if link.exists {
            let now = present(&link.dir.fd, &link.name, &link.entry.path)?;
            let same = |now: &Stat| now.st_ino == target.st_ino && now.st_dev == target.st_dev;
            if now.as_ref().is_some_and(same) {
                return Ok(());
            }
            self.remove(&link.dir, &link.name, &link.entry.path)?;
        }
        linkat(&holder, &name, &*link.dir.fd, &link.name, AtFlags::empty()).map_err(error)
    }

    /// The directory that holds an earlier path, component by component from the root on.
    fn find(&self, path: &[u8]) -> Result<(OwnedFd, CString), Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut holder = rustix::io::fcntl_dupfd_cloexec(&*self.root, 0)?;
        let mut names = split_path(path).peekable();
        while let Some(name) = names.next() {
            let name = CString::new(name).map_err(|_| Errno::INVAL)?;
            if names.peek().is_none() {
                return Ok((holder, name));
            }
            holder = openat(&holder, &name, flags, Mode::empty())?;
        }
        Err(Errno::INVAL)
    }
}

fn is_same_special(dir: &DirHandle, name: &CString, entry: &Entry, stat: &Stat) -> bool {
    let kind = metadata::file_type(stat);
    let device = |device: &Device| stat.st_rdev == rustix::fs::makedev(device.major, device.minor);
    // One that has other names may have to become an inode of its own.
    stat.st_nlink == 1
        && match &entry.kind {
            Kind::Symlink(target) => {
                kind == FileType::Symlink
                    && readlinkat(&*dir.fd, name, Vec::new())
                        .is_ok_and(|now| now.as_bytes() == target.as_slice())
            }
            Kind::Fifo => kind == FileType::Fifo,
            Kind::CharDevice(number) => kind == FileType::CharacterDevice && device(number),
            Kind::BlockDevice(number) => kind == FileType::BlockDevice && device(number),
            _ => false,
        }
}

fn make_special(dir: &DirHandle, name: &CString, kind: &Kind) -> Result<(), Errno> {
    let mode = Mode::RUSR | Mode::WUSR;
    let node = |kind, device: u64| mknodat(&*dir.fd, name, kind, mode, device);
    match kind {
        Kind::Symlink(target) => symlinkat(target.as_slice(), &*dir.fd, name),
        Kind::Fifo => node(FileType::Fifo, 0),
        Kind::CharDevice(Device { major, minor }) => {
            node(FileType::CharacterDevice, rustix::fs::makedev(*major, *minor))
        }
        Kind::BlockDevice(Device { major, minor }) => {
            node(FileType::BlockDevice, rustix::fs::makedev(*major, *minor))
        }
        Kind::Directory | Kind::File(_) | Kind::HardLink(_) => Ok(()),
    }
}
