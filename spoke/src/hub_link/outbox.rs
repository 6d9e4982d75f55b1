//! Reports on their way to the hub: the newest of each task, sent until it is accepted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backon::{BackoffBuilder, ExponentialBuilder};
use isthmus_shared::protocol::{MAX_REPORTS, REPORTS_PATH, Reports, TaskId, TaskReport, TaskState};
use serde_json::Value;
use tokio::sync::Notify;

use super::{LinkError, SignedChannel};

/// Reports that wait: more tasks than this a hub does not list.
const MAX_WAITING: usize = 2_000;
/// Reports of the same moment go in one message.
const GATHER: Duration = Duration::from_millis(100);
/// The bits of a sequence number below the start's milliseconds.
const COUNTER_BITS: u32 = 20;

/// The reports that wait.
pub struct Outbox {
    waiting: Mutex<HashMap<TaskId, TaskReport>>,
    news: Notify,
    sequence: AtomicU64,
}

impl Default for Outbox {
    fn default() -> Self {
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |e| e.as_millis());
        let start = u64::try_from(millis).unwrap_or_default() << COUNTER_BITS;
        Self { waiting: Mutex::default(), news: Notify::new(), sequence: AtomicU64::new(start) }
    }
}

impl Outbox {
    /// Takes a report, in the place of one that waits for the same task; numbers it.
    pub fn put(&self, mut report: TaskReport) {
        report.sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MAX_WAITING && !waiting.contains_key(&report.task) {
            // The runner says it again with the next list.
            return;
        }
        waiting.insert(report.task.clone(), report);
        self.news.notify_one();
    }

    /// Drops what waits for a task that nobody asks for any more.
    pub fn forget(&self, task: &TaskId) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(task);
    }

    /// Sends for ever.
    pub async fn send(&self, hub: SignedChannel) {
        let mut pauses = pauses();
        loop {
            self.news.notified().await;
            tokio::time::sleep(GATHER).await;
            loop {
                let batch = self.take();
                if batch.is_empty() {
                    break;
                }
                let message = Reports { reports: batch };
                let sent: Result<Value, LinkError> = hub.post(REPORTS_PATH, &message, Duration::ZERO).await;
                match sent {
                    Ok(_) => pauses = self::pauses(),
                    Err(LinkError::Refused { code: code @ (400 | 413 | 422), reason, message: why }) => {
                        tracing::error!(
                            code,
                            reason,
                            why,
                            "the hub cannot read these reports; they are dropped"
                        );
                    }
                    Err(error) => {
                        tracing::warn!(%error, "reports wait for the hub");
                        self.put_back(message.reports);
                        tokio::time::sleep(pauses.next().unwrap_or(Duration::from_secs(10))).await;
                    }
                }
            }
        }
    }

    /// The next batch, what has ended first.
    fn take(&self) -> Vec<TaskReport> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ids: Vec<(bool, u64, TaskId)> = waiting
            .values()
            .map(|report| (report.state == TaskState::Running, report.sequence, report.task.clone()))
            .collect();
        ids.sort();
        ids.into_iter().take(MAX_REPORTS).filter_map(|(_, _, id)| waiting.remove(&id)).collect()
    }

    fn put_back(&self, reports: Vec<TaskReport>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for report in reports {
            waiting.entry(report.task.clone()).or_insert(report);
        }
    }
}

fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(10))
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use isthmus_shared::protocol::Progress;

    use super::*;

    fn report(task: &str, state: TaskState) -> TaskReport {
        TaskReport {
            task: task.parse().unwrap(),
            sequence: 0,
            state,
            progress: Progress::default(),
            outcome: None,
            failures: Vec::new(),
            failures_total: 0,
            warnings: Vec::new(),
            warnings_total: 0,
        }
    }

    #[test]
    fn the_newest_report_of_a_task_is_the_one_that_is_sent_with_rising_numbers() {
        let outbox = Outbox::default();
        outbox.put(report("m/Verify", TaskState::Running));
        outbox.put(report("m/Cleanup", TaskState::Running));
        outbox.put(report("m/Verify", TaskState::Succeeded));
        let batch = outbox.take();
        assert_eq!(batch.len(), 2);
        assert_eq!((batch[0].task.step.as_str(), batch[0].state), ("Verify", TaskState::Succeeded));
        assert!(batch[0].sequence > batch[1].sequence);
        assert!(batch[1].sequence >> COUNTER_BITS > 1_000_000_000_000);
    }

    #[test]
    fn a_report_that_was_not_accepted_does_not_replace_a_newer_one() {
        let outbox = Outbox::default();
        outbox.put(report("m/Verify", TaskState::Running));
        let lost = outbox.take();
        outbox.put(report("m/Verify", TaskState::Succeeded));
        outbox.put_back(lost);
        assert_eq!(outbox.take()[0].state, TaskState::Succeeded);
    }
}
