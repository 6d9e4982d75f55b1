//! What the walk asks of the workers, and what it tells the publisher to wait for.

use std::{ffi::CString, os::fd::OwnedFd, sync::Arc};

use rustix::fs::Stat;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::mover::{
    error::MoverError,
    format::{Entry, Piece, Record},
};

/// Where a regular file is.
#[derive(Debug, Clone)]
pub struct FileName {
    /// Its directory.
    pub parent: Arc<OwnedFd>,
    /// Its name there.
    pub name: CString,
}

/// A large file while it is read.
#[derive(Debug)]
pub struct StreamedFile {
    /// The open file.
    pub fd: OwnedFd,
    /// Its entry, without pieces.
    pub entry: Entry,
    /// Its state when it was opened.
    pub stat: Stat,
    /// Where it is; a device has no place from which it could be opened again.
    pub at: Option<FileName>,
    /// Whether its pages are to leave the cache once they were read.
    pub passing: bool,
}

/// What became of a file that was read as a whole.
#[derive(Debug)]
pub enum WholeFile {
    /// Its record.
    Read(Box<Record>),
    /// It was gone, or something else had its name.
    Vanished(Vec<u8>),
}

/// The answer to a job.
pub type Answer<T> = oneshot::Sender<Result<T, MoverError>>;

/// Work for a worker.
#[derive(Debug)]
pub enum Job {
    /// Read a file from its first to its last byte.
    Whole {
        /// Where it is.
        at: FileName,
        /// Its entry so far.
        entry: Box<Entry>,
        /// Its entry in the previous pass.
        previous: Option<Box<Entry>>,
        /// Where the record goes.
        answer: Answer<WholeFile>,
    },
    /// Read a part of a large file.
    Range {
        /// The file.
        file: Arc<StreamedFile>,
        /// From this byte ...
        start: u64,
        /// ... up to this one.
        end: u64,
        /// Pieces of this part in the previous pass.
        known: Vec<Piece>,
        /// Where the pieces go.
        answer: Answer<Vec<Piece>>,
    },
}

/// Something of which a person should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    /// A socket was left out.
    Socket,
    /// A name was gone before it could be read.
    Vanished,
    /// Something is mounted there that is not part of the volume.
    ForeignMount,
}

/// What comes next in the manifest, in its order.
#[derive(Debug)]
pub enum Pending {
    /// A record that is complete.
    Ready(Box<Record>),
    /// As `Ready`, taken over from the previous pass.
    Unchanged(Box<Record>),
    /// A file that is being read.
    Whole(oneshot::Receiver<Result<WholeFile, MoverError>>),
    /// A part of a large file that is being read.
    Range(oneshot::Receiver<Result<Vec<Piece>, MoverError>>),
    /// The large file is to be compared with its state when it was opened.
    Close(Arc<StreamedFile>),
    /// A note about a path.
    Note(NoteKind, Vec<u8>),
    /// The walk came to its end. A queue that ends without it is that of a walk that failed.
    End,
}

/// A pending record with the memory it was given.
#[derive(Debug)]
pub struct Queued {
    /// The record.
    pub pending: Pending,
    /// Given back when the record is in a segment.
    pub memory: OwnedSemaphorePermit,
}
