//! Directories while they are read back.

use std::{ffi::CString, os::fd::OwnedFd};

use rustix::{
    fs::{Access, AtFlags, Mode, OFlags, accessat, fchmod, openat},
    io::Errno,
};

use crate::mover::metadata;

/// An open directory. One that its owner may not look into is opened up for as long as it is
/// needed.
pub struct Opened {
    /// The directory.
    pub fd: OwnedFd,
    /// The mode that it gets back.
    closed: Option<Mode>,
}

impl Opened {
    /// One that is open to us.
    pub fn at(fd: OwnedFd) -> Self {
        Self { fd, closed: None }
    }

    /// Opens `name` in `parent`, whose mode is `mode`.
    pub fn below(parent: &OwnedFd, name: &CString, mode: u32) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(parent, name, flags, Mode::empty());
        let reachable =
            opened.as_ref().is_ok_and(|fd| accessat(fd, c".", Access::EXEC_OK, AtFlags::EACCESS).is_ok());
        if reachable || !matches!(opened, Ok(_) | Err(Errno::ACCESS)) {
            return opened.map(|fd| Self { fd, closed: None });
        }
        metadata::chmod_name(parent, name, Mode::RWXU)?;
        let fd = openat(parent, name, flags, Mode::empty())?;
        Ok(Self { fd, closed: Some(Mode::from_raw_mode(mode)) })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(mode) = self.closed
            && let Err(error) = fchmod(&self.fd, mode)
        {
            tracing::warn!(%error, "a directory that was opened up to be read back stays so");
        }
    }
}
