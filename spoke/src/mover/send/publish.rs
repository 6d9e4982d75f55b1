//! The manifest's side of sending: records in order into segments, each written once all that
//! it names has landed.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use isthmus_shared::staging::layout;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    Shared,
    cut::Cut,
    job::{Job, NoteKind, Pending, Queued, StreamedFile, WholeFile},
    plan::{again, end_record, ranges},
    worker::{CHANGED, same_state},
};
use crate::mover::{
    error::MoverError,
    format::{Chain, Kind, Piece, PiecePlace, Record, SegmentBuilder, show_path},
    limits::{FLUSH_AGE, READ_ATTEMPTS},
    manifest::Place,
    report::SendReport,
};

/// A part of a file that is being read again: its pieces, and the task that asked for them.
type Reading = (oneshot::Receiver<Result<Vec<Piece>, MoverError>>, JoinHandle<Result<(), MoverError>>);

/// What happened to a name that is not there any more.
const GONE: &str = "was removed or replaced while the volume was read";

pub struct Publisher {
    pub shared: Arc<Shared>,
    pub place: Place,
    pub pass: u32,
    pub next: u64,
    pub chain: Chain,
    pub report: SendReport,
    /// Of the large file that is open: its size, and how much of it pieces cover.
    pub open: (u64, u64),
    pub builder: SegmentBuilder,
    pub cut: Cut,
    /// A large file that an earlier process opened and did not end.
    pub left_open: Option<Vec<u8>>,
    pub started: Instant,
}

impl Publisher {
    /// Publishes until the walk is over, then closes the manifest.
    pub async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Queued>) -> Result<SendReport, MoverError> {
        loop {
            let queued = match self.cut.left(Instant::now()) {
                None => self.shared.unless_stopped(queue.recv()).await?,
                Some(left) => {
                    let received = tokio::time::timeout(left, self.shared.unless_stopped(queue.recv()));
                    let Ok(queued) = received.await else {
                        self.close_segment(false).await?;
                        continue;
                    };
                    queued?
                }
            };
            let queued = queued.ok_or(MoverError::Cancelled)?;
            if matches!(queued.pending, Pending::End) {
                break;
            }
            self.publish(queued.pending).await?;
            drop(queued.memory);
            self.close_if_full().await?;
        }
        self.end_left_open(None)?;
        self.close_segment(true).await?;
        Ok(self.report)
    }

    async fn publish(&mut self, pending: Pending) -> Result<(), MoverError> {
        match pending {
            Pending::Ready(record) => self.push(&record).await,
            Pending::Unchanged(record) => {
                if let Record::Entry(_) = *record {
                    self.report.totals.unchanged_files += 1;
                }
                self.add(&record).await?;
                self.cut.add_unchanged(&record, Instant::now());
                Ok(())
            }
            Pending::Whole(answer) => match self.answer(answer).await? {
                WholeFile::Read(record) => self.push(&record).await,
                WholeFile::Vanished(path) => self.note(NoteKind::Vanished, &path),
            },
            Pending::Range(answer) => {
                let pieces = self.answer(answer).await?;
                self.push(&Record::Data(pieces)).await
            }
            Pending::Close(file) => self.close_file(file).await,
            Pending::Note(kind, path) => self.note(kind, &path),
            Pending::End => Ok(()),
        }
    }

    fn note(&mut self, kind: NoteKind, path: &[u8]) -> Result<(), MoverError> {
        if kind == NoteKind::Vanished {
            self.shared.changed(path, GONE)?;
        }
        let path = show_path(path);
        match kind {
            NoteKind::Socket => self
                .report
                .skipped_sockets
                .add(path, "a socket is left out: the process that listens on it makes it".to_owned()),
            NoteKind::Vanished => self
                .report
                .vanished
                .add(path, "it was removed or replaced while the volume was read".to_owned()),
            NoteKind::ForeignMount => self
                .report
                .vanished
                .add(path, "another filesystem is mounted there; it is not part of this volume".to_owned()),
        }
        Ok(())
    }

    /// Waits for a worker, making it hurry if that takes long.
    async fn answer<T>(&self, mut answer: oneshot::Receiver<Result<T, MoverError>>) -> Result<T, MoverError> {
        loop {
            let waited = tokio::time::timeout(FLUSH_AGE, self.shared.unless_stopped(&mut answer));
            match waited.await {
                Ok(answered) => {
                    // Dropped unanswered only when the run is over.
                    return answered?.map_err(|_| MoverError::Cancelled)?;
                }
                Err(_) => self.shared.request_flush(),
            }
        }
    }

    /// Adds a record of what may be new to the receiver.
    async fn push(&mut self, record: &Record) -> Result<(), MoverError> {
        self.add(record).await?;
        self.cut.add_changed(record, Instant::now());
        Ok(())
    }

    /// Ends the large file that an earlier process left open, unless `next` opens it again: it was
    /// removed meanwhile, or what has its name now is left out.
    fn end_left_open(&mut self, next: Option<&Record>) -> Result<(), MoverError> {
        let Some(path) = self.left_open.take() else {
            return Ok(());
        };
        if matches!(next, Some(Record::Entry(entry)) if entry.path == path) {
            return Ok(());
        }
        self.shared.changed(&path, GONE)?;
        note_inconsistent(&mut self.report, &path);
        let end = end_record(true);
        self.count(&end);
        self.builder.push(&end);
        self.cut.add_changed(&end, Instant::now());
        Ok(())
    }

    /// Adds a record once the packs that it names have landed.
    async fn add(&mut self, record: &Record) -> Result<(), MoverError> {
        self.end_left_open(Some(record))?;
        let mut last = None;
        for piece in record.pieces() {
            if let PiecePlace::Frame { frame, .. } = &piece.place
                && last != Some(frame.pack)
            {
                last = Some(frame.pack);
                self.landed(frame.pack).await?;
            }
        }
        self.count(record);
        self.builder.push(record);
        Ok(())
    }

    async fn landed(&self, pack: crate::mover::format::PackId) -> Result<(), MoverError> {
        let landing = self.shared.packer.landing();
        loop {
            let changed = landing.changed();
            if landing.has_landed(pack) {
                return Ok(());
            }
            let waited = tokio::time::timeout(FLUSH_AGE, self.shared.unless_stopped(changed));
            match waited.await {
                Ok(changed) => changed?,
                Err(_) => self.shared.request_flush(),
            }
        }
    }

    fn count(&mut self, record: &Record) {
        let covered: u64 = record.pieces().iter().map(|p| u64::from(p.length)).sum();
        let totals = &mut self.report.totals;
        match record {
            Record::Entry(entry) => match &entry.kind {
                Kind::Directory => totals.directories += 1,
                Kind::File(content) if content.open => self.open = (content.size, covered),
                Kind::File(content) => {
                    totals.files += 1;
                    totals.bytes += content.size;
                    totals.hole_bytes += content.size.saturating_sub(covered);
                    if content.inconsistent {
                        note_inconsistent(&mut self.report, &entry.path);
                    }
                }
                Kind::Symlink(_) => totals.symlinks += 1,
                Kind::HardLink(_) => totals.hard_links += 1,
                Kind::Fifo | Kind::CharDevice(_) | Kind::BlockDevice(_) => totals.special += 1,
            },
            Record::Data(_) => self.open.1 += covered,
            Record::End(_) => {
                totals.files += 1;
                totals.bytes += self.open.0;
                totals.hole_bytes += self.open.0.saturating_sub(self.open.1);
            }
        }
    }

    /// Ends a large file, after reading it again if it changed meanwhile.
    async fn close_file(&mut self, file: Arc<StreamedFile>) -> Result<(), MoverError> {
        let mut file = file;
        for attempt in 1..=READ_ATTEMPTS {
            let now = rustix::fs::fstat(&file.fd)
                .map_err(|errno| MoverError::file("reading the state of", &file.entry.path, errno))?;
            let sound = same_state(&file.stat, &now);
            if !sound {
                self.shared.changed(&file.entry.path, CHANGED)?;
            }
            if sound || attempt == READ_ATTEMPTS {
                if !sound {
                    note_inconsistent(&mut self.report, &file.entry.path);
                }
                self.shared.progress.add_file();
                return self.push(&end_record(!sound)).await;
            }
            let Some(reopened) = again(&file)? else {
                // What was read of it stands; that it is gone now shows in the next pass.
                note_inconsistent(&mut self.report, &file.entry.path);
                return self.push(&end_record(true)).await;
            };
            file = Arc::new(reopened);
            self.push(&Record::Entry(file.entry.clone())).await?;
            self.read_again(&file).await?;
        }
        Ok(())
    }

    /// Has a large file read from its first to its last byte, by as many workers as the first
    /// time: it may be most of the volume.
    async fn read_again(&mut self, file: &Arc<StreamedFile>) -> Result<(), MoverError> {
        let mut reading = VecDeque::with_capacity(self.shared.workers);
        for range in ranges(file) {
            let (start, end) = range?;
            if reading.len() == self.shared.workers
                && let Some(oldest) = reading.pop_front()
            {
                self.take_range(oldest).await?;
            }
            let (answer, receiver) = oneshot::channel();
            let job = Job::Range { file: file.clone(), start, end, known: Vec::new(), answer };
            let shared = self.shared.clone();
            reading.push_back((receiver, tokio::spawn(async move { shared.push_job(job).await })));
        }
        for range in reading {
            self.take_range(range).await?;
        }
        Ok(())
    }

    async fn take_range(&mut self, (answer, pushed): Reading) -> Result<(), MoverError> {
        let pieces = self.answer(answer).await?;
        pushed.await.map_err(|error| MoverError::Worker { detail: error.to_string() })??;
        self.push(&Record::Data(pieces)).await?;
        self.close_if_full().await
    }

    async fn close_if_full(&mut self) -> Result<(), MoverError> {
        if self.cut.is_due(self.builder.len(), Instant::now()) {
            self.close_segment(false).await?;
        }
        Ok(())
    }

    async fn close_segment(&mut self, last: bool) -> Result<(), MoverError> {
        self.report.bytes_read = self.shared.bytes_read.load(Ordering::Relaxed);
        self.report.bytes_deduplicated = self.shared.bytes_deduplicated.load(Ordering::Relaxed);
        self.report.bytes_uploaded = self.shared.uploaded_before + self.shared.packer.landing().uploaded();
        self.report.duration = self.started.elapsed();
        let object = layout::pass_segment(&self.place.pair, &self.place.volume, self.pass, self.next);
        let builder = std::mem::take(&mut self.builder);
        self.cut.begin();
        let (sealed, chain) = builder.seal(&self.place.key, &object, self.chain, &self.report, last)?;
        let put = self.place.store.put(&object, sealed.into());
        self.shared.unless_stopped(put).await??;
        self.next += 1;
        self.chain = chain;
        Ok(())
    }
}

fn note_inconsistent(report: &mut SendReport, path: &[u8]) {
    report.inconsistent.add(
        show_path(path),
        "it kept changing while it was read; run a pass while the application is stopped".to_owned(),
    );
}
