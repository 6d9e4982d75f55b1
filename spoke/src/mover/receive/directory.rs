//! The directories that the planner is in.
//!
//! A directory gets its metadata when nothing more will happen in it: when the planner has left
//! it and the last file in it is closed. Whoever lets go of it last does that.

use std::{
    ffi::{CStr, CString},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use rustix::{fs::fstat, process::geteuid};

use super::{Shared, remove::remove_tree};
use crate::mover::{
    error::MoverError,
    format::Entry,
    limits::DIRECTORY_BYTES,
    listing::{Listed, SortedListing},
    metadata,
};

/// A directory in which something is still to be done.
#[derive(Debug)]
pub struct DirHandle {
    /// The directory.
    pub fd: Arc<OwnedFd>,
    /// Its entry in the manifest.
    pub entry: Arc<Entry>,
    /// Whether this run made it, so that nothing foreign is in it or on it.
    pub fresh: bool,
}

/// Lets go of a directory; the last one sets its metadata.
pub fn release(handle: Arc<DirHandle>, shared: &Shared) -> Result<(), MoverError> {
    let Some(handle) = Arc::into_inner(handle) else {
        return Ok(());
    };
    // Abandoned work is done again by the next run.
    shared.stop.check()?;
    let path = &handle.entry.path;
    let now = fstat(&*handle.fd).map_err(|errno| MoverError::file("reading the state of", path, errno))?;
    let target = metadata::open_target(&*handle.fd);
    let refused = metadata::apply(target, Some(&now), &handle.entry.metadata, handle.fresh);
    if path.is_empty() && !shared.privileged && now.st_uid != geteuid().as_raw() {
        // The root belongs to whoever provisioned the volume; an unprivileged mover cannot make
        // it its own, and need not for what lies in it.
        shared.note(path, &refused);
        return Ok(());
    }
    shared.judge(path, &refused)
}

/// A directory on the planner's way.
#[derive(Debug)]
pub struct OpenDir {
    /// The directory.
    pub handle: Arc<DirHandle>,
    /// What it holds that may have to go; `None` if it was just made.
    present: Option<Present>,
}

#[derive(Debug)]
struct Present {
    listing: SortedListing,
    next: Option<Listed>,
}

impl OpenDir {
    /// A directory whose names before `from` were dealt with.
    pub fn new(handle: Arc<DirHandle>, from: &[u8]) -> Self {
        let present = (!handle.fresh).then(|| Present {
            listing: SortedListing::new(handle.fd.clone(), from, DIRECTORY_BYTES / 4),
            next: None,
        });
        Self { handle, present }
    }

    /// Removes what comes before `name`, as the manifest does not have it, and tells whether
    /// `name` is there.
    pub fn advance(&mut self, name: &CStr, shared: &Shared) -> Result<bool, MoverError> {
        self.remove_until(Some(name), shared)
    }

    /// Removes all that is left, and lets go of the directory.
    pub fn leave(mut self, shared: &Shared) -> Result<(), MoverError> {
        self.remove_until(None, shared)?;
        release(self.handle, shared)
    }

    fn remove_until(&mut self, name: Option<&CStr>, shared: &Shared) -> Result<bool, MoverError> {
        let Some(present) = &mut self.present else {
            return Ok(false);
        };
        let path = &self.handle.entry.path;
        loop {
            if present.next.is_none() {
                present.next =
                    present.listing.next().map_err(|errno| MoverError::file("listing", path, errno))?;
            }
            let Some(listed) = &present.next else {
                return Ok(false);
            };
            if let Some(name) = name {
                match listed.name.as_bytes().cmp(name.to_bytes()) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => {
                        present.next = None;
                        return Ok(true);
                    }
                    std::cmp::Ordering::Greater => return Ok(false),
                }
            }
            let child = child(path, &listed.name);
            let removed = remove_tree(self.handle.fd.as_fd(), &listed.name, &child, &shared.exclude)?;
            shared.count(|counters| &counters.deleted, removed.count);
            present.next = None;
        }
    }
}

/// The path of `name` in the directory `path`.
pub fn child(path: &[u8], name: &CString) -> Vec<u8> {
    let mut child = path.to_vec();
    if !child.is_empty() {
        child.push(b'/');
    }
    child.extend_from_slice(name.as_bytes());
    child
}
