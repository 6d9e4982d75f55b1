//! Ends tasks at a given rate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;
use super::spoke::Spoke;

/// How long a task of those whose turn it is takes on average, seconds.
const TASK_SECONDS: u32 = 10;
/// How many ticks may be made up for after this process was held up.
const MOST_AT_ONCE: u64 = 10;

/// What ends tasks.
pub struct Pacer {
    stop: CancellationToken,
    done: JoinHandle<()>,
}

impl Pacer {
    /// Begins to end `rate` tasks a second, evenly, of as many runs as make each task last
    /// [`TASK_SECONDS`].
    pub fn start(rate: u32, ledger: Arc<Ledger>, spokes: Vec<Arc<Spoke>>) -> Self {
        let stop = CancellationToken::new();
        let done = tokio::spawn(pace(rate, ledger, spokes, stop.clone()));
        Self { stop, done }
    }

    /// Ends no more tasks, and waits until the reports that were begun are sent.
    pub async fn stop(self) -> Result<(), tokio::task::JoinError> {
        self.stop.cancel();
        self.done.await
    }
}

async fn pace(rate: u32, ledger: Arc<Ledger>, spokes: Vec<Arc<Spoke>>, stop: CancellationToken) {
    let active = usize::try_from(rate * TASK_SECONDS).unwrap_or(usize::MAX);
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (begun, mut done) = (Instant::now(), 0_u64);
    let mut sending = JoinSet::new();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => break,
        }
        while sending.try_join_next().is_some() {}
        let wanted = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX) * u64::from(rate) / 1000;
        // What was missed for long is not made up for: that would be a burst.
        done = done.max(wanted.saturating_sub(MOST_AT_ONCE));
        while done < wanted {
            done += 1;
            let Some(due) = ledger.take(active) else { break };
            let Some(spoke) = spokes.get(due.spoke).map(Arc::clone) else { continue };
            sending.spawn(async move { spoke.end(due).await });
        }
    }
    while sending.join_next().await.is_some() {}
}
