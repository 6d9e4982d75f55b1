//! Receiving a volume: one pass from staging into a mounted directory, while it is being sent.
//!
//! ```text
//!  segments ─▶ planner ── ranges ──▶ store ──▶ workers: open, verify, write ─▶ files
//!  (in order)     │                               │
//!                 ├─ directories, links, devices  └─ a file's metadata, once its last block is in
//!                 ├─ what the manifest lacks goes
//!                 └─ marks: how far all is done
//! ```
//!
//! The planner takes the segments in order and keeps the directories that it is in open, so every
//! name is opened as a single component in its own directory, and never followed if it is a
//! link: a manifest cannot lead out of the volume. Each segment is a window: a few windows are
//! under way at a time, and once all work of a window and of those before it is done, a mark in
//! staging says so. A receiver that is started again goes on at its mark.

mod directory;
mod fetch;
mod file;
mod follow;
mod mark;
mod plan;
mod read_device;
mod remove;
mod verify;
mod worker;
mod write_back;

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use isthmus_shared::{
    resources::{Exclusions, MetadataPolicy, VerifyMethod},
    staging::{ObjectStore, PairUid, VolumeKey, VolumeUid},
};
use rustix::io::Errno;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::mover) use self::mark::read_any as read_any_mark;
use self::{mark::Mark, plan::Planner, worker::Worker, write_back::WriteBack};
use super::{
    device::{Device, Root},
    error::MoverError,
    format::{BlockHash, Time, show_path},
    limits::{QUEUED_JOBS, RANGE_BUFFERS, RANGE_BYTES},
    manifest::Place,
    metadata::{self, Part, Refused},
    pass::Pass,
    report::{Notes, Progress, ReceiveReport},
    send::join,
    work::{Pool, Queue, Stop, StopOnDrop, lock, spawn},
};

/// Times that are a multiple of this many nanoseconds do not show how exact a filesystem is.
const COARSEST_EXACT: u32 = 1000;

/// What to receive.
#[derive(Debug, Clone)]
pub struct ReceiveOptions {
    /// The pass.
    pub pass: Pass,
    /// What to do about metadata that the destination refuses.
    pub metadata_policy: MetadataPolicy,
    /// How it is made sure that what arrived is what was sent.
    pub verify: VerifyMethod,
}

/// What the threads of a receiver share.
pub(in crate::mover) struct Shared {
    jobs: Queue<worker::Job>,
    ranges: Pool,
    place: Place,
    volume_key: VolumeKey,
    name_key: Zeroizing<[u8; 32]>,
    policy: MetadataPolicy,
    time_checked: AtomicBool,
    privileged: bool,
    /// The pass is complete in staging and was received before: nobody sends, and no mark is written.
    recovers: bool,
    stop: Stop,
    progress: Progress,
    runtime: Handle,
    exclude: Exclusions,
    counters: Counters,
    refused: Mutex<Notes>,
    /// Files whose last block is not in yet.
    open_files: Mutex<u64>,
    file_closed: Condvar,
    windows: Arc<Windows>,
    write_back: WriteBack,
}

#[derive(Debug, Default)]
struct Counters {
    fetched: AtomicU64,
    written: AtomicU64,
    compared: AtomicU64,
    verified: AtomicU64,
    unchanged: AtomicU64,
    deleted: AtomicU64,
}

impl Shared {
    fn name_block(&self, bytes: &[u8]) -> BlockHash {
        BlockHash(*blake3::keyed_hash(&self.name_key, bytes).as_bytes())
    }

    /// Deals with what the destination refused, as the policy says.
    fn judge(&self, path: &[u8], refused: &[Refused]) -> Result<(), MoverError> {
        let unforgivable = refused.iter().find(|refused| !refused.is_forgivable());
        let worst = match self.policy {
            MetadataPolicy::Strict => unforgivable.or(refused.first()),
            MetadataPolicy::BestEffort => unforgivable,
        };
        if let Some(worst) = worst {
            return Err(MoverError::Metadata {
                path: show_path(path),
                what: worst.part.to_string(),
                source: worst.errno.into(),
                fix: worst.fix(),
            });
        }
        self.note(path, refused);
        Ok(())
    }

    /// Keeps what was refused of an entry for the report.
    fn note(&self, path: &[u8], refused: &[Refused]) {
        let Some(first) = refused.first() else {
            return;
        };
        let parts: Vec<String> = refused.iter().map(|refused| refused.part.to_string()).collect();
        let message = format!("its {} was refused: {}", parts.join(" and its "), first.errno);
        lock(&self.refused).add(show_path(path), message);
    }

    /// A filesystem that keeps coarser times than the source's says nothing about it: the first
    /// file whose time would show it is looked at again.
    fn check_time(&self, path: &[u8], fd: &OwnedFd, to: Time) -> Result<(), MoverError> {
        if to.nanoseconds.is_multiple_of(COARSEST_EXACT) || self.time_checked.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let now =
            rustix::fs::fstat(fd).map_err(|errno| MoverError::file("reading the state of", path, errno))?;
        if metadata::mtime(&now) == to {
            return Ok(());
        }
        self.judge(path, &[Refused { part: Part::Time, errno: Errno::OPNOTSUPP }])
    }

    fn count(&self, counter: impl Fn(&Counters) -> &AtomicU64, by: u64) {
        counter(&self.counters).fetch_add(by, Ordering::Relaxed);
    }

    /// The counters in a report that already has what is not counted here.
    fn fill(&self, report: &mut ReceiveReport) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        report.bytes_fetched = load(&self.counters.fetched);
        report.bytes_written = load(&self.counters.written);
        report.bytes_compared = load(&self.counters.compared);
        report.blocks_verified = load(&self.counters.verified);
        report.unchanged_files = load(&self.counters.unchanged);
        report.deleted = load(&self.counters.deleted);
        report.refused_metadata = lock(&self.refused).clone();
    }

    fn file_opened(&self) {
        *lock(&self.open_files) += 1;
    }

    fn file_closed(&self) {
        *lock(&self.open_files) -= 1;
        self.file_closed.notify_all();
    }

    /// Waits until at most `count` files are open.
    fn wait_for_files(&self, count: u64) -> Result<(), MoverError> {
        let mut open = lock(&self.open_files);
        while *open > count {
            self.stop.check()?;
            open = self
                .file_closed
                .wait_timeout(open, Duration::from_millis(100))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        Ok(())
    }
}

/// Which windows are done.
#[derive(Debug, Default)]
struct Windows {
    state: Mutex<WindowState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct WindowState {
    /// All windows below this number are done.
    done: u64,
    /// Windows that are done while an earlier one is not.
    ahead: Vec<u64>,
}

/// Held by everything that belongs to a window; the last one to let go completes it.
#[derive(Debug)]
struct Window {
    number: u64,
    windows: Arc<Windows>,
}

impl Drop for Window {
    fn drop(&mut self) {
        let mut state = lock(&self.windows.state);
        state.ahead.push(self.number);
        while let Some(at) = state.ahead.iter().position(|number| *number == state.done) {
            state.ahead.swap_remove(at);
            state.done += 1;
        }
        drop(state);
        self.windows.changed.notify_all();
    }
}

impl Windows {
    fn starting_at(number: u64) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(WindowState { done: number, ahead: Vec::new() }),
            changed: Condvar::new(),
        })
    }

    fn open(self: &Arc<Self>, number: u64) -> Arc<Window> {
        Arc::new(Window { number, windows: self.clone() })
    }

    fn done(&self) -> u64 {
        lock(&self.state).done
    }

    /// Waits until all windows below `number` are done.
    fn wait_until(&self, number: u64, stop: &Stop) -> Result<(), MoverError> {
        let mut state = lock(&self.state);
        while state.done < number {
            stop.check()?;
            state = self
                .changed
                .wait_timeout(state, Duration::from_millis(100))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        // Work that was abandoned also lets go of its window.
        stop.check()
    }
}

/// Whether modes do not keep us from what we have to do: for root without that capability they
/// do.
fn may_override_modes() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::DAC_OVERRIDE))
}

/// Whether a pass was received to its end: only then may a later one build on it.
pub async fn is_received(
    store: Arc<dyn ObjectStore>,
    key: &VolumeKey,
    pair: &PairUid,
    volume: &VolumeUid,
    pass: u32,
) -> Result<bool, MoverError> {
    Ok(received(store, key, pair, volume, pass).await?.is_some())
}

/// What receiving a pass came to, if it was received to its end.
pub async fn received(
    store: Arc<dyn ObjectStore>,
    key: &VolumeKey,
    pair: &PairUid,
    volume: &VolumeUid,
    pass: u32,
) -> Result<Option<ReceiveReport>, MoverError> {
    let key = Arc::new(key.manifest_key()?);
    let place = Place { store, pair: pair.clone(), volume: volume.clone(), key };
    let mark = Mark::read(&place, pass).await?;
    Ok(mark.complete.then_some(mark.report))
}

/// The previous pass, if it was received here: of another claim's it says nothing, and what this one
/// has sent since may have been written in between.
async fn own_previous(place: &Place, pass: &Pass) -> Result<Option<u32>, MoverError> {
    let (Some(previous), Some(claim)) = (pass.previous, &pass.claim) else { return Ok(pass.previous) };
    match Mark::read(place, previous).await {
        Ok(mark) => {
            let own = mark.complete && mark.report.was_received_by(claim, &pass.volume);
            Ok(own.then_some(previous))
        }
        Err(error @ MoverError::Store(_)) => Err(error),
        Err(error) => {
            tracing::warn!(previous, %error, "all is compared, as the mark of the previous pass cannot be read");
            Ok(None)
        }
    }
}

/// Receives one pass. Started again for the same pass it goes on at its mark, and a pass that
/// is complete is recognised at once.
pub async fn receive(
    options: ReceiveOptions,
    progress: Progress,
    cancel: CancellationToken,
) -> Result<ReceiveReport, MoverError> {
    let root = Root::directory(&options.pass.root)?;
    receive_into(root, options, false, progress, cancel).await
}

/// As [`receive()`], where the root is a device, or a regular file that stands for one.
pub async fn receive_device(
    options: ReceiveOptions,
    progress: Progress,
    cancel: CancellationToken,
) -> Result<ReceiveReport, MoverError> {
    let root = Root::Device(Arc::new(Device::destination(&options.pass.root)?));
    receive_into(root, options, false, progress, cancel).await
}

/// Brings a volume back to a pass that was received to its end before, from staging alone, whatever
/// later passes or applications have made of the volume since. With no previous pass all content is
/// compared, else files that look as they did after that pass are believed.
///
/// The pass stays as complete as it was, whenever this ends: there is no mark of it, and one that is
/// started again begins anew, finding what is right already.
pub async fn recover(
    options: ReceiveOptions,
    progress: Progress,
    cancel: CancellationToken,
) -> Result<ReceiveReport, MoverError> {
    let root = Root::directory(&options.pass.root)?;
    receive_into(root, options, true, progress, cancel).await
}

/// As [`recover()`], where the root is a device, or a regular file that stands for one.
pub async fn recover_device(
    options: ReceiveOptions,
    progress: Progress,
    cancel: CancellationToken,
) -> Result<ReceiveReport, MoverError> {
    let root = Root::Device(Arc::new(Device::destination(&options.pass.root)?));
    receive_into(root, options, true, progress, cancel).await
}

async fn receive_into(
    root: Root,
    options: ReceiveOptions,
    recovers: bool,
    progress: Progress,
    cancel: CancellationToken,
) -> Result<ReceiveReport, MoverError> {
    let started = Instant::now();
    let ReceiveOptions { mut pass, metadata_policy, verify } = options;
    let place = pass.place()?;
    let mut mark = Mark::read(&place, pass.number).await?;
    let totals = &mark.report.totals;
    if recovers {
        if !mark.complete {
            return Err(MoverError::NotComplete { pass: pass.number });
        }
        progress.set_totals(totals.files, totals.bytes);
        mark = Mark::default();
    } else {
        progress.start_at(totals.files, totals.bytes);
        if mark.complete {
            return Ok(mark.report);
        }
    }
    mark.report.received_by.clone_from(&pass.claim);
    pass.previous = own_previous(&place, &pass).await?;
    let stop = Stop::new(&cancel);
    let _guard = StopOnDrop(stop.clone());
    let (write_back, thread) = WriteBack::start(&stop)?;
    let mut threads = vec![thread];
    let shared = Arc::new(Shared {
        jobs: Queue::new(QUEUED_JOBS),
        ranges: Pool::new(RANGE_BUFFERS, RANGE_BYTES),
        place,
        volume_key: pass.key.clone(),
        name_key: pass.key.block_name_key()?,
        policy: metadata_policy,
        time_checked: AtomicBool::new(false),
        privileged: may_override_modes(),
        recovers,
        stop: stop.clone(),
        progress,
        runtime: Handle::current(),
        exclude: pass.exclude.clone(),
        counters: Counters {
            fetched: AtomicU64::new(mark.report.bytes_fetched),
            written: AtomicU64::new(mark.report.bytes_written),
            compared: AtomicU64::new(mark.report.bytes_compared),
            verified: AtomicU64::new(mark.report.blocks_verified),
            unchanged: AtomicU64::new(mark.report.unchanged_files),
            deleted: AtomicU64::new(mark.report.deleted),
        },
        refused: Mutex::new(mark.report.refused_metadata.clone()),
        open_files: Mutex::new(0),
        file_closed: Condvar::new(),
        windows: Windows::starting_at(mark.next),
        write_back,
    });
    for number in 0..pass.limits.workers.max(1) {
        let worker = Worker::new(shared.clone())?;
        threads.push(spawn(&format!("receive-{number}"), &stop, move || {
            worker.run();
            Ok(())
        })?);
    }
    let (finished, report) = tokio::sync::oneshot::channel();
    let planner = Planner::new(shared.clone(), &root, &pass, verify, mark)?;
    threads.push(spawn("receive-plan", &stop, move || {
        let report = planner.run(started)?;
        finished.send(report).ok();
        Ok(())
    })?);
    let report = report.await;
    if report.is_ok() {
        stop.fail(MoverError::Cancelled);
    }
    // Workers that wait for a job need not find out by themselves.
    shared.jobs.close();
    // The thread that writes back ends when nobody can hand in anything any more.
    drop(shared);
    // Without a report the planner has failed, and stops the run itself.
    join(threads).await?;
    report.map_err(|_| stop.reason())
}
