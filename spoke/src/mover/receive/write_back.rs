//! Large files on their way to the disk while others are still being received.
//!
//! Left to itself the kernel keeps what is written until a good part of all memory is dirty, and
//! the end of a pass waits for the disk with nothing else to do. One thread asks for it early, and
//! lets go of the pages of what has arrived: memory that is used again is cheaper than memory that
//! is fetched, and neither the mover's own limit nor other programs' cache has to give way.
//! That only saves time: what counts is the sync of the filesystem before each mark.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use rustix::fs::{Advice, fadvise, fdatasync};

use crate::mover::{
    error::MoverError,
    limits::WRITE_BACK_FILES,
    work::{Stop, spawn},
};

/// A file, and what messages call it.
type Written = (Arc<OwnedFd>, Vec<u8>);

/// Where workers hand in files.
#[derive(Debug)]
pub struct WriteBack(mpsc::SyncSender<Written>);

impl WriteBack {
    /// Starts the thread; it ends once what is returned is dropped.
    pub fn start(stop: &Stop) -> Result<(Self, JoinHandle<()>), MoverError> {
        let (sender, files) = mpsc::sync_channel::<Written>(WRITE_BACK_FILES);
        let stopped = stop.clone();
        let thread = spawn("receive-disk", stop, move || {
            for (file, path) in files {
                if stopped.is_set() {
                    break;
                }
                fdatasync(&*file).map_err(|errno| MoverError::file("writing to disk", &path, errno))?;
                // Nobody here reads it again: the pages serve for what comes next.
                fadvise(&*file, 0, None, Advice::DontNeed).ok();
            }
            Ok(())
        })?;
        Ok((Self(sender), thread))
    }

    /// Asks for what was written to a file so far. Never waits: with the queue full the disk is
    /// busy enough.
    pub fn hand_in(&self, file: &Arc<OwnedFd>, path: &[u8]) {
        self.0.try_send((file.clone(), path.to_vec())).ok();
    }
}
