//! The planner of a device: one file from its first to its last byte, or from where an earlier
//! process of the pass ended.

use std::{os::fd::OwnedFd, sync::Arc};

use rustix::fs::{FileType, fstat};
use tokio::sync::{mpsc, oneshot};

use super::{
    Shared,
    job::{Job, Pending, Queued, StreamedFile},
    plan::{BASE_WEIGHT, end_record, parts},
    previous::Previous,
};
use crate::mover::{
    device::{Device, NAME},
    error::MoverError,
    format::{Content, Entry, Kind, Metadata, Piece, Record, Stamp},
    metadata,
};

/// How far an earlier process of the pass has come in the file that it left open.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reached {
    /// The file's size.
    pub size: u64,
    /// How much of it pieces cover.
    pub covered: u64,
    /// Where the last of them ends.
    pub end: u64,
}

/// Where a process of the pass begins.
#[derive(Debug, Clone, Copy)]
pub enum Begin {
    /// At the first byte.
    Anew,
    /// Where an earlier process ended. What that one read is as good as if this one had: a device
    /// that is written to is not consistent in one go either.
    At(Reached),
    /// Behind the last byte: only the pass is still to be closed.
    Behind,
}

pub struct DevicePlanner {
    pub shared: Arc<Shared>,
    pub device: Arc<Device>,
    pub pass: u32,
    pub previous: Previous,
    pub begin: Begin,
    pub out: mpsc::UnboundedSender<Queued>,
}

impl DevicePlanner {
    /// Reads to the end, and tells the publisher that this was all.
    pub fn run(mut self) -> Result<(), MoverError> {
        let size = self.device.size();
        self.shared.progress.set_totals(1, size);
        self.previous.find(b"")?;
        let file = Arc::new(self.opened()?);
        let from = match self.begin {
            Begin::Anew => {
                let record = Record::Entry(file.entry.clone());
                self.queue(Pending::Ready(Box::new(record)), BASE_WEIGHT)?;
                0
            }
            Begin::At(reached) if reached.size == size => reached.end,
            Begin::At(reached) => {
                let path = self.device.path().to_owned();
                return Err(MoverError::DeviceResized { path, before: reached.size, now: size });
            }
            Begin::Behind => {
                self.shared.jobs.close();
                return self.queue(Pending::End, BASE_WEIGHT);
            }
        };
        for part in parts(&file.fd, &file.entry.path, from, size, true) {
            self.shared.stop.check()?;
            let (start, end) = part?;
            let known = self.previous.pieces_before(b"", end)?;
            let (answer, receiver) = oneshot::channel();
            self.queue(Pending::Range(receiver), BASE_WEIGHT + size_of::<Piece>() * 8)?;
            let job = Job::Range { file: file.clone(), start, end, known, answer };
            self.shared.jobs.push(job, &self.shared.stop)?;
        }
        self.shared.jobs.close();
        self.device.check_size()?;
        self.queue(Pending::Ready(Box::new(end_record(false))), BASE_WEIGHT)?;
        self.queue(Pending::End, BASE_WEIGHT)
    }

    /// The device as the file that the workers read.
    fn opened(&self) -> Result<StreamedFile, MoverError> {
        let failed = |errno| MoverError::file("opening", NAME, errno);
        let fd: OwnedFd = rustix::io::fcntl_dupfd_cloexec(&**self.device.fd(), 0).map_err(failed)?;
        let stat = fstat(&fd).map_err(failed)?;
        let content = Content { size: self.device.size(), open: true, ..Content::default() };
        let entry = Entry {
            path: Vec::new(),
            metadata: Metadata::default(),
            stamp: Stamp::default(),
            changed_in: self.pass,
            kind: Kind::File(content),
        };
        let passing = metadata::file_type(&stat) == FileType::BlockDevice;
        Ok(StreamedFile { fd, entry, stat, at: None, passing })
    }

    fn queue(&self, pending: Pending, weight: usize) -> Result<(), MoverError> {
        let memory = self.shared.pending_memory(weight)?;
        self.out.send(Queued { pending, memory }).map_err(|_| MoverError::Cancelled)
    }
}
