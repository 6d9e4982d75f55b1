//! The logs of the migrations that this spoke works for, one a migration.
//!
//! Writing a line never waits: lines go through a bounded queue to a task that writes them to
//! staging every few seconds. What a full queue cannot take is counted, and the count is logged.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use isthmus_shared::staging::{JournalError, LogWriter};
use tokio::sync::{mpsc, oneshot};

use crate::staging_area::StagingArea;

/// Lines that wait to be written.
const MAX_WAITING: usize = 4096;
/// How often lines are written.
const FLUSH_EVERY: Duration = Duration::from_secs(2);
/// How long the end of a task waits for its lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

enum Entry {
    Line(String),
    Flush(oneshot::Sender<()>),
}

/// One migration's log. Clones write to the same.
#[derive(Clone)]
pub struct Journal {
    sender: mpsc::Sender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl Journal {
    /// Adds a line.
    pub fn line(&self, text: String) {
        if self.sender.try_send(Entry::Line(text)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until the lines so far are in staging, but not for long.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        let flushed = async {
            if self.sender.send(Entry::Flush(done)).await.is_ok() {
                // The writer has ended if this fails: there is nothing to wait for.
                let _ = wait.await;
            }
        };
        if tokio::time::timeout(FLUSH_TIMEOUT, flushed).await.is_err() {
            tracing::warn!(
                "the log of a migration could not be written in time; its lines are kept and written later"
            );
        }
    }
}

/// The open logs.
#[derive(Default)]
pub struct Journals {
    open: Mutex<HashMap<String, Journal>>,
}

impl Journals {
    /// The log of a migration.
    pub fn of(&self, area: &StagingArea, cluster: &str) -> Journal {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(journal) = open.get(area.migration.as_str()).filter(|j| !j.sender.is_closed()) {
            return journal.clone();
        }
        let (sender, lines) = mpsc::channel(MAX_WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let journal = Journal { sender, dropped: Arc::clone(&dropped) };
        tokio::spawn(write(area.clone(), cluster.to_owned(), lines, dropped));
        open.insert(area.migration.as_str().to_owned(), journal.clone());
        journal
    }

    /// Closes the logs of migrations that are not among these; what waits is still written.
    pub fn keep_only(&self, wanted: &HashSet<&str>) {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|uid, _| wanted.contains(uid.as_str()));
    }
}

async fn write(
    area: StagingArea,
    cluster: String,
    mut lines: mpsc::Receiver<Entry>,
    dropped: Arc<AtomicU64>,
) {
    let mut log = Log { area, cluster, writer: None, waiting: VecDeque::new() };
    let mut tick = tokio::time::interval(FLUSH_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut open = true;
    while open {
        let mut flushed = None;
        let mut flush = true;
        tokio::select! {
            entry = lines.recv() => match entry {
                Some(Entry::Line(line)) => {
                    if log.waiting.len() < MAX_WAITING {
                        log.waiting.push_back(line);
                    } else {
                        dropped.fetch_add(1, Ordering::Relaxed);
                    }
                    // A line gets its time when the writer takes it; staging that fails is tried
                    // again with the next tick, not with each line.
                    flush = false;
                    if log.waiting.len() > 1 {
                        continue;
                    }
                }
                Some(Entry::Flush(done)) => flushed = Some(done),
                None => open = false,
            },
            _ = tick.tick() => {}
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            log.waiting.push_back(format!("{lost} lines were lost: they came faster than staging took them"));
        }
        if let Err(error) = log.put(flush).await {
            let migration = &log.area.migration;
            tracing::warn!(%migration, %error, "the migration's log could not be written; trying again");
        }
        if let Some(done) = flushed {
            // Whoever waited may have given up.
            let _ = done.send(());
        }
    }
}

struct Log {
    area: StagingArea,
    cluster: String,
    writer: Option<LogWriter>,
    /// Lines that the writer has not taken.
    waiting: VecDeque<String>,
}

impl Log {
    async fn put(&mut self, flush: bool) -> Result<(), JournalError> {
        if self.writer.is_none() && self.waiting.is_empty() {
            return Ok(());
        }
        let open = if let Some(open) = &mut self.writer {
            open
        } else {
            let area = &self.area;
            let store = Arc::clone(&area.store);
            let opened =
                LogWriter::open(store, &area.key, &area.pair, &area.migration, &self.cluster).await?;
            self.writer.insert(opened)
        };
        while let Some(line) = self.waiting.pop_front() {
            open.append(&line).await?;
        }
        if flush { open.flush().await } else { Ok(()) }
    }
}
