//! Sending a volume: one pass from a mounted directory into staging.
//!
//! ```text
//!            ┌─ jobs ──▶ workers: read, name, compress ─▶ packer ─▶ packs ─▶ store
//!  walk ─────┤                     │ pieces                 │ landed
//!  (sorted)  └─ pending, in order ─┴──▶ publisher ◀─────────┘
//!                                           └─▶ segments ─▶ store
//! ```
//!
//! The walk and the workers are threads, as they wait for the filesystem; the publisher and the
//! puts are tasks. Between them everything is bounded: jobs by number, records by memory, packs
//! by buffers. A sender that is started again reads the segments that it finds, and goes on
//! behind the last entry that they name.

mod count;
mod cut;
mod dedup;
mod device;
mod job;
mod pack;
mod plan;
mod previous;
mod publish;
mod walk;
mod worker;

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use isthmus_shared::staging::layout;
use serde::{Deserialize, Serialize};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use self::{
    cut::Cut,
    dedup::Dedup,
    device::{Begin, DevicePlanner, Reached},
    job::Job,
    pack::Packer,
    plan::Planner,
    previous::{Previous, Sight},
    publish::Publisher,
    walk::Resume,
    worker::Worker,
};
use super::{
    device::{Device, Root},
    error::MoverError,
    format::{BlockHash, Chain, Kind, PathOrder, Piece, PiecePlace, Record, SegmentBuilder, show_path},
    limits::{PENDING_BYTES, QUEUED_JOBS},
    links::HardLinks,
    manifest::{Place, SegmentReader},
    metadata,
    pass::Pass,
    report::{Progress, SendReport},
    work::{Queue, Stop, StopOnDrop, lock, spawn},
};

/// What to send.
#[derive(Debug, Clone)]
pub struct SendOptions {
    /// The pass.
    pub pass: Pass,
    /// Who sends, for the receiver's messages: a pod's name.
    pub sender: String,
    /// Whether nothing writes to the volume while it is read, as it is a snapshot or its
    /// application is stopped: a file that changes or vanishes all the same is a failure.
    pub still: bool,
}

/// What a sender shows of itself while it works.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Heartbeat {
    /// Who sends.
    pub sender: String,
    /// Counts up while it lives; starts anew with each process.
    pub beat: u64,
    /// Files in all, as far as known.
    pub files_total: u64,
    /// Bytes in all, as far as known.
    pub bytes_total: u64,
}

/// What the threads of a sender share.
pub(in crate::mover) struct Shared {
    jobs: Queue<Job>,
    packer: Packer,
    dedup: Dedup,
    name_key: Zeroizing<[u8; 32]>,
    /// Whether a change of what is read is a failure.
    still: bool,
    stop: Stop,
    progress: Progress,
    bytes_read: AtomicU64,
    bytes_deduplicated: AtomicU64,
    uploaded_before: u64,
    pending: Arc<Semaphore>,
    runtime: Handle,
    workers: usize,
    working: AtomicUsize,
    flush: Mutex<Flush>,
}

/// A request to send what lies in frames and the pack as it is.
#[derive(Debug, Default)]
struct Flush {
    epoch: u64,
    workers_left: usize,
}

impl Shared {
    fn name_block(&self, bytes: &[u8]) -> BlockHash {
        BlockHash(*blake3::keyed_hash(&self.name_key, bytes).as_bytes())
    }

    /// Where the block is already: in the same place of the previous pass (then it is kept), or
    /// anywhere.
    fn find(&self, hash: BlockHash, piece: &Piece, known: &[Piece]) -> Option<(PiecePlace, bool)> {
        let before = known
            .binary_search_by_key(&piece.offset, |known| known.offset)
            .ok()
            .map(|at| &known[at])
            .filter(|known| known.length == piece.length)
            .map(|known| &known.place)
            .filter(|place| matches!(place, PiecePlace::Frame { hash: old, .. } if *old == hash))
            .cloned();
        let found = before
            .map(|place| (place, true))
            .or_else(|| self.dedup.find(hash, piece.length).map(|place| (place, false)));
        if found.is_some() {
            self.bytes_deduplicated.fetch_add(u64::from(piece.length), Ordering::Relaxed);
        }
        found
    }

    /// A failure, if nothing may change the volume.
    fn changed(&self, path: &[u8], what: &'static str) -> Result<(), MoverError> {
        if self.still {
            return Err(MoverError::NotStill { path: show_path(path), what });
        }
        Ok(())
    }

    /// Has all workers close their frames, and then the pack sent.
    fn request_flush(&self) {
        let mut flush = lock(&self.flush);
        if flush.workers_left == 0 {
            flush.epoch += 1;
            flush.workers_left = self.workers;
            drop(flush);
            self.jobs.wake();
        }
    }

    fn flush_wanted(&self, done: u64) -> Option<u64> {
        let epoch = lock(&self.flush).epoch;
        (epoch != done).then_some(epoch)
    }

    fn worker_flushed(&self) {
        let mut flush = lock(&self.flush);
        flush.workers_left = flush.workers_left.saturating_sub(1);
        if flush.workers_left == 0 {
            drop(flush);
            self.packer.flush();
        }
    }

    /// The last worker to end sends the last pack.
    fn worker_done(&self) {
        if self.working.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.packer.flush();
        }
    }

    /// Takes memory for a pending record, from a thread.
    fn pending_memory(&self, weight: usize) -> Result<OwnedSemaphorePermit, MoverError> {
        let weight = u32::try_from(weight.min(PENDING_BYTES)).unwrap_or(u32::MAX);
        if let Ok(memory) = self.pending.clone().try_acquire_many_owned(weight) {
            return Ok(memory);
        }
        // Nothing moves before something lands: do not wait for a pack to fill.
        self.request_flush();
        self.runtime
            .block_on(self.unless_stopped(self.pending.clone().acquire_many_owned(weight)))?
            .map_err(|_| MoverError::Cancelled)
    }

    /// Has a part of a file read again, for the publisher.
    ///
    /// The walk may be over by now and the workers with it: then one more takes this job, and
    /// sends the pack that it began when it ends.
    async fn push_job(self: &Arc<Self>, job: Job) -> Result<(), MoverError> {
        let shared = self.clone();
        let pushed = tokio::task::spawn_blocking(move || {
            shared.jobs.push(job, &shared.stop)?;
            if shared.jobs.is_closed() {
                shared.working.fetch_add(1, Ordering::SeqCst);
                Worker::new(shared)?.run()?;
            }
            Ok(())
        });
        pushed.await.map_err(|error| MoverError::Worker { detail: error.to_string() })?
    }

    async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Result<T, MoverError> {
        tokio::select! {
            result = future => Ok(result),
            () = self.stop.wait() => Err(MoverError::Cancelled),
        }
    }
}

/// What an earlier process of the same pass left.
struct Found {
    next: u64,
    chain: Chain,
    report: SendReport,
    resume: Option<Resume>,
    links: HardLinks,
    dedup: Dedup,
    complete: bool,
    /// Of the last file that was opened.
    reached: Reached,
    /// The inode of the last large file that was opened.
    opened: u64,
}

/// Sends one pass. Started again for the same pass it goes on where it was, and a pass that is
/// complete is recognised at once.
pub async fn send(
    options: SendOptions,
    progress: Progress,
    cancel: CancellationToken,
) -> Result<SendReport, MoverError> {
    let root = Root::directory(&options.pass.root)?;
    send_from(root, options, progress, cancel).await
}

/// As [`send()`], where the root is a device, or a regular file that stands for one.
pub async fn send_device(
    options: SendOptions,
    progress: Progress,
    cancel: CancellationToken,
) -> Result<SendReport, MoverError> {
    let root = Root::Device(Arc::new(Device::source(&options.pass.root)?));
    send_from(root, options, progress, cancel).await
}

async fn send_from(
    root: Root,
    options: SendOptions,
    progress: Progress,
    cancel: CancellationToken,
) -> Result<SendReport, MoverError> {
    let started = Instant::now();
    let SendOptions { pass, sender, still } = options;
    let place = pass.place()?;
    let mut found = find_segments(&place, pass.number).await?;
    let totals = &found.report.totals;
    progress.start_at(totals.files, totals.bytes);
    if found.complete {
        return Ok(found.report);
    }
    // A pass of which an earlier process saw less has not seen all.
    let seen_before = found.next == 0 || found.report.sees_trusted;
    found.report.sees_trusted = seen_before && metadata::sees_trusted();
    found.report.claim.clone_from(&pass.claim);
    let stop = Stop::new(&cancel);
    let _guard = StopOnDrop(stop.clone());
    let runtime = Handle::current();
    let workers = pass.limits.workers.max(1);
    let shared = Arc::new(Shared {
        jobs: Queue::new(QUEUED_JOBS),
        packer: Packer::new(
            place.clone(),
            pass.number,
            pass.key.clone(),
            pass.limits.pack_bytes,
            progress.clone(),
            stop.clone(),
            runtime.clone(),
        ),
        dedup: found.dedup,
        name_key: pass.key.block_name_key()?,
        still,
        stop: stop.clone(),
        progress: progress.clone(),
        bytes_read: AtomicU64::new(found.report.bytes_read),
        bytes_deduplicated: AtomicU64::new(found.report.bytes_deduplicated),
        uploaded_before: found.report.bytes_uploaded,
        pending: Arc::new(Semaphore::new(PENDING_BYTES)),
        runtime: runtime.clone(),
        workers,
        working: AtomicUsize::new(workers),
        flush: Mutex::default(),
    });
    let mut threads = Vec::new();
    for number in 0..workers {
        let worker = Worker::new(shared.clone())?;
        threads.push(spawn(&format!("send-{number}"), &stop, move || worker.run())?);
    }
    let (out, queue) = mpsc::unbounded_channel();
    let previous = pass.previous.map(|number| SegmentReader::new(place.clone(), number));
    let sight =
        Sight { trusted: found.report.sees_trusted, claim: pass.claim.clone(), volume: pass.volume.clone() };
    let previous = Previous::new(previous, runtime, sight);
    let (resume, reached) = (found.resume, found.reached);
    // A device goes on where it was.
    let open = resume.as_ref().filter(|resume| resume.again && matches!(root, Root::Directory(_)));
    let left_open = open.map(|resume| resume.path.clone());
    let (shared_here, number) = (shared.clone(), pass.number);
    match root {
        Root::Directory(root) => {
            let planner = Planner {
                shared: shared_here,
                root: root.clone(),
                pass: number,
                previous,
                previous_pass: pass.previous,
                exclude: pass.exclude.clone(),
                links: found.links,
                resume,
                out,
            };
            threads.push(spawn("send-walk", &stop, move || planner.run())?);
            let (counted, exclude) = (progress.clone(), pass.exclude);
            let count_stop = stop.clone();
            threads.push(spawn("send-count", &stop, move || {
                count::count(&root, &exclude, &counted, &count_stop);
                Ok(())
            })?);
        }
        Root::Device(device) => {
            let begin = match resume {
                None => Begin::Anew,
                Some(resume) if resume.again => Begin::At(reached),
                Some(_) => Begin::Behind,
            };
            let planner = DevicePlanner { shared: shared_here, device, pass: number, previous, begin, out };
            threads.push(spawn("send-device", &stop, move || planner.run())?);
        }
    }
    let beating = tokio::spawn(beat(
        place.clone(),
        pass.number,
        sender,
        pass.limits.heartbeat,
        progress.clone(),
        stop.clone(),
    ));
    let publisher = Publisher {
        shared: shared.clone(),
        place,
        pass: pass.number,
        next: found.next,
        chain: found.chain,
        report: found.report,
        open: (reached.size, reached.covered),
        builder: SegmentBuilder::default(),
        cut: Cut::new(pass.limits.segment_bytes),
        left_open,
        started,
    };
    let published = publisher.run(queue).await;
    let result = match published {
        Ok(report) => {
            progress.start_at(report.totals.files, report.totals.bytes);
            stop.fail(MoverError::Cancelled);
            Ok(report)
        }
        Err(error) => {
            // The end of another part's work is its failure, which that part notes itself.
            if !matches!(error, MoverError::Cancelled) {
                stop.fail(error);
            }
            Err(())
        }
    };
    shared.jobs.close();
    join(threads).await?;
    beating.await.ok();
    result.map_err(|()| stop.reason())
}

/// Waits for threads that were told to stop.
pub(super) async fn join(threads: Vec<std::thread::JoinHandle<()>>) -> Result<(), MoverError> {
    tokio::task::spawn_blocking(move || {
        for thread in threads {
            // A panic was caught and noted within the thread.
            thread.join().ok();
        }
    })
    .await
    .map_err(|error| MoverError::Worker { detail: error.to_string() })
}

/// Reads what is there of this pass, and what follows from it for the rest.
async fn find_segments(place: &Place, pass: u32) -> Result<Found, MoverError> {
    let mut reader = SegmentReader::new(place.clone(), pass);
    let mut found = Found {
        next: 0,
        chain: Chain::default(),
        report: SendReport::default(),
        resume: None,
        links: HardLinks::default(),
        dedup: Dedup::default(),
        complete: false,
        reached: Reached::default(),
        opened: 0,
    };
    let mut order = PathOrder::default();
    while let Some(segment) = reader.next().await? {
        found.report = segment.report;
        found.complete = segment.last;
        for record in &segment.records {
            remember(record, &mut order, &mut found)?;
        }
        if segment.last {
            break;
        }
    }
    found.next = reader.position();
    found.chain = reader.chain();
    if order.is_open() {
        // It comes again under its name, or another of its names is the first.
        found.links.forget(found.opened);
    }
    found.resume = order.last().map(|path| Resume { path: path.to_vec(), again: order.is_open() });
    Ok(found)
}

/// For a test: the large file that a sender of this pass left open, if there is one.
#[cfg(test)]
pub(super) async fn opened(pass: &Pass) -> Result<Option<Vec<u8>>, MoverError> {
    let found = find_segments(&pass.place()?, pass.number).await?;
    Ok(found.resume.filter(|resume| resume.again).map(|resume| resume.path))
}

fn remember(record: &Record, order: &mut PathOrder, found: &mut Found) -> Result<(), MoverError> {
    let refused = |source| MoverError::Manifest { object: "a segment of this pass".to_owned(), source };
    match record {
        Record::Entry(entry) => {
            let open = matches!(&entry.kind, Kind::File(content) if content.open);
            let again = order.is_open();
            order.entry(&entry.path, open).map_err(refused)?;
            if let Kind::File(content) = &entry.kind {
                found.reached = Reached { size: content.size, ..Reached::default() };
                found.opened = entry.stamp.inode;
            }
            let linked = !matches!(entry.kind, Kind::Directory);
            if linked && !again {
                found.links.earlier(entry.stamp.inode, entry.stamp.links, &entry.path)?;
            }
        }
        Record::Data(_) => order.data().map_err(refused)?,
        Record::End(_) => order.end().map_err(refused)?,
    }
    for piece in record.pieces() {
        found.dedup.insert(piece);
        found.reached.covered += u64::from(piece.length);
        found.reached.end = piece.offset + u64::from(piece.length);
    }
    Ok(())
}

async fn beat(place: Place, pass: u32, sender: String, interval: Duration, progress: Progress, stop: Stop) {
    let object = layout::pass_sender(&place.pair, &place.volume, pass);
    let mut heartbeat = Heartbeat { sender, ..Heartbeat::default() };
    loop {
        heartbeat.beat += 1;
        let figures = progress.figures();
        heartbeat.files_total = figures.files_total;
        heartbeat.bytes_total = figures.bytes_total;
        let written = match serde_json::to_vec(&heartbeat) {
            Ok(json) => place.write_sealed(&object, &json).await,
            Err(error) => Err(MoverError::Worker { detail: error.to_string() }),
        };
        if let Err(error) = written {
            // The data itself meets the same store: it decides whether the run fails.
            tracing::warn!(%error, "the heartbeat was not written");
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.wait() => return,
        }
    }
}
