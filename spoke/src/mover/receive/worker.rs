//! Opening, verifying and writing what was fetched; comparing what is there already.

use std::sync::{Arc, mpsc};

use isthmus_shared::staging::layout;

use super::{
    Shared, Window,
    file::{FileTask, finish},
    verify::content::Task,
};
use crate::mover::{
    error::MoverError,
    format::{BlockHash, FrameRef, PackId, Piece, show_path},
    limits::{BLOCK_BYTES, MAX_FRAME_RAW},
    work::{Buffer, Taken},
};

/// A piece of a file within a frame.
#[derive(Debug)]
pub struct Target {
    /// The file.
    pub task: Arc<FileTask>,
    /// Where in the file.
    pub offset: u64,
    /// Where in the frame.
    pub inner: u32,
    /// How much.
    pub length: u32,
    /// Its name.
    pub hash: BlockHash,
}

/// A frame and what is to be done with it.
#[derive(Debug)]
pub struct FrameWork {
    /// The frame.
    pub frame: FrameRef,
    /// Who needs it.
    pub targets: Vec<Target>,
}

/// What comparing a part of a file gave.
pub type Missing = Result<(Arc<FileTask>, Vec<Piece>), MoverError>;

/// Work for a worker.
pub enum Job {
    /// Frames of one pack have arrived.
    Range {
        /// The pack.
        pack: PackId,
        /// Where the range starts in it.
        start: u64,
        /// Its bytes.
        buffer: Buffer,
        /// The frames in it.
        frames: Vec<FrameWork>,
        /// What it belongs to.
        window: Arc<Window>,
    },
    /// A file has all its content.
    Finish(Arc<FileTask>),
    /// Read back what was written.
    ReadBack(Task),
    /// Find out which pieces an existing file lacks.
    Compare {
        /// The file.
        task: Arc<FileTask>,
        /// Its pieces in this part.
        pieces: Vec<Piece>,
        /// The part's start ...
        from: u64,
        /// ... and end.
        to: u64,
        /// Where the answer goes.
        answer: mpsc::Sender<Missing>,
    },
}

pub struct Worker {
    shared: Arc<Shared>,
    scratch: Vec<u8>,
    decompressor: zstd::bulk::Decompressor<'static>,
}

impl Worker {
    pub fn new(shared: Arc<Shared>) -> Result<Self, MoverError> {
        let decompressor = zstd::bulk::Decompressor::new()
            .map_err(|error| MoverError::Worker { detail: format!("no decompressor: {error}") })?;
        Ok(Self { shared, scratch: vec![0; MAX_FRAME_RAW.max(BLOCK_BYTES)], decompressor })
    }

    /// Works until there are no more jobs.
    pub fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            let taken = shared.jobs.pop();
            if shared.stop.is_set() {
                return;
            }
            match taken {
                Taken::Item(job) => self.work(job),
                Taken::Empty => {}
                Taken::Closed => return,
            }
        }
    }

    /// A failure is noted before the job lets go of its window, which would else seem done.
    fn work(&mut self, job: Job) {
        let shared = self.shared.clone();
        let note = |result: Result<(), MoverError>| {
            if let Err(error) = result {
                shared.stop.fail(error);
            }
        };
        match job {
            Job::Range { pack, start, mut buffer, frames, window } => {
                note(self.range(pack, start, &mut buffer.bytes, frames));
                drop(buffer);
                drop(window);
            }
            Job::Finish(task) => {
                let held = crate::mover::work::lock(&task.window).clone();
                note(finish(task, &shared));
                drop(held);
            }
            Job::ReadBack(task) => {
                let held = task.window();
                note(task.run(&mut self.scratch, &shared));
                drop(held);
            }
            Job::Compare { task, pieces, from, to, answer } => {
                let missing = task.missing(pieces, from, to, &mut self.scratch, &shared);
                answer.send(missing.map(|missing| (task, missing))).ok();
            }
        }
    }

    fn range(
        &mut self,
        pack: PackId,
        start: u64,
        bytes: &mut [u8],
        frames: Vec<FrameWork>,
    ) -> Result<(), MoverError> {
        let shared = self.shared.clone();
        let key = shared.volume_key.pack_key(&pack.0)?;
        for FrameWork { frame, targets } in frames {
            let broken = |detail| MoverError::Block {
                path: targets.first().map(|target| show_path(&target.task.path)).unwrap_or_default(),
                object: layout::volume_pack(&shared.place.pair, &shared.place.volume, &pack.0),
                detail,
            };
            let at = usize::try_from(u64::from(frame.offset) - start).unwrap_or(usize::MAX);
            let sealed = bytes
                .get_mut(at..)
                .and_then(|rest| rest.get_mut(..frame.sealed as usize))
                .ok_or_else(|| broken("lies beyond what was fetched"))?;
            let plain = key
                .open_in_place(frame.number, &frame.raw.to_be_bytes(), sealed)
                .ok_or_else(|| broken("does not open"))?;
            let raw = frame.raw as usize;
            let content: &[u8] = if plain.len() == raw {
                plain
            } else {
                let length = self
                    .decompressor
                    .decompress_to_buffer(plain, &mut self.scratch[..raw])
                    .map_err(|_| broken("does not decompress"))?;
                if length != raw {
                    return Err(broken("has another length than its manifest says"));
                }
                &self.scratch[..raw]
            };
            for target in targets {
                write_target(target, content, pack, &shared)?;
            }
        }
        Ok(())
    }
}

fn write_target(target: Target, content: &[u8], pack: PackId, shared: &Shared) -> Result<(), MoverError> {
    let inner = target.inner as usize;
    let bytes = content.get(inner..inner + target.length as usize);
    let right = bytes.filter(|bytes| shared.name_block(bytes) == target.hash);
    let Some(bytes) = right else {
        return Err(MoverError::Block {
            path: show_path(&target.task.path),
            object: layout::volume_pack(&shared.place.pair, &shared.place.volume, &pack.0),
            detail: "has other content than its name says",
        });
    };
    shared.count(|counters| &counters.verified, 1);
    target.task.write(target.offset, bytes, shared)?;
    finish(target.task, shared)
}
