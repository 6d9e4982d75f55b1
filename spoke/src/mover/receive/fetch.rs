//! Which bytes of which packs a window needs, in few and large requests.

use std::{collections::HashMap, sync::Arc};

use isthmus_shared::staging::layout;

use super::{
    Shared, Window,
    file::FileTask,
    worker::{FrameWork, Job, Target},
};
use crate::mover::{
    error::MoverError,
    format::{FrameRef, PackId, Piece, PiecePlace},
    limits::{RANGE_BYTES, RANGE_GAP},
};

/// The frames that a window needs, and for whom.
#[derive(Debug, Default)]
pub struct Needs {
    frames: Vec<FrameWork>,
    index: HashMap<FrameRef, usize>,
}

/// Consecutive frames of one pack that are fetched together.
#[derive(Debug)]
pub struct Range {
    pack: PackId,
    start: u64,
    end: u64,
    frames: Vec<FrameWork>,
}

impl Needs {
    /// Notes that `task` needs `piece`.
    pub fn add(&mut self, task: &Arc<FileTask>, piece: &Piece) {
        let PiecePlace::Frame { frame, inner, hash } = &piece.place else {
            return;
        };
        let at = *self.index.entry(*frame).or_insert_with(|| {
            self.frames.push(FrameWork { frame: *frame, targets: Vec::new() });
            self.frames.len() - 1
        });
        self.frames[at].targets.push(Target {
            task: task.clone(),
            offset: piece.offset,
            inner: *inner,
            length: piece.length,
            hash: *hash,
        });
    }

    /// Drops what was noted for `task`.
    pub fn forget(&mut self, task: &Arc<FileTask>) {
        for work in &mut self.frames {
            work.targets.retain(|target| !Arc::ptr_eq(&target.task, task));
        }
        self.index.clear();
        self.frames.retain(|work| !work.targets.is_empty());
        for (at, work) in self.frames.iter().enumerate() {
            self.index.insert(work.frame, at);
        }
    }

    /// Puts the frames together to ranges: pack by pack in the order in which they were first
    /// needed, within a pack by their place.
    pub fn into_ranges(self) -> Vec<Range> {
        let mut order: HashMap<PackId, usize> = HashMap::new();
        let mut frames = self.frames;
        for work in &frames {
            let next = order.len();
            order.entry(work.frame.pack).or_insert(next);
        }
        frames.sort_by_key(|work| {
            let pack = order.get(&work.frame.pack).copied().unwrap_or_default();
            (pack, work.frame.offset)
        });
        let mut ranges: Vec<Range> = Vec::new();
        for work in frames {
            let start = u64::from(work.frame.offset);
            let end = start + u64::from(work.frame.sealed);
            match ranges.last_mut() {
                // Frames of a sound pack do not overlap; of others each is fetched on its own.
                Some(range)
                    if range.pack == work.frame.pack
                        && start >= range.end
                        && start - range.end <= RANGE_GAP
                        && end - range.start <= RANGE_BYTES as u64 =>
                {
                    range.end = end;
                    range.frames.push(work);
                }
                _ => ranges.push(Range { pack: work.frame.pack, start, end, frames: vec![work] }),
            }
        }
        ranges
    }
}

/// Fetches a range, as soon as there is a buffer for it, and hands it to the workers.
pub fn fetch(range: Range, window: &Arc<Window>, shared: &Arc<Shared>) -> Result<(), MoverError> {
    let mut buffer = shared.ranges.take(&shared.stop)?;
    let object = layout::volume_pack(&shared.place.pair, &shared.place.volume, &range.pack.0);
    let (shared, window) = (shared.clone(), window.clone());
    shared.runtime.clone().spawn(async move {
        let bytes = range.start..range.end;
        let got = tokio::select! {
            got = shared.place.store.read_range(&object, bytes, &mut buffer.bytes) => got,
            () = shared.stop.wait() => return,
        };
        match got {
            Ok(()) => {
                let length = range.end - range.start;
                shared.count(|counters| &counters.fetched, length);
                shared.progress.add_transferred(length);
                // The number of buffers bounds these jobs.
                shared.jobs.push_now(Job::Range {
                    pack: range.pack,
                    start: range.start,
                    buffer,
                    frames: range.frames,
                    window,
                });
            }
            Err(error) => shared.stop.fail(error.into()),
        }
    });
    Ok(())
}
