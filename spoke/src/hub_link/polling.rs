//! The long poll for tasks: the newest list goes to the runner.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use isthmus_shared::protocol::{MAX_POLL_SECONDS, PollRequest, TASKS_PATH, TaskList};
use tokio::sync::watch;

use super::SignedChannel;

/// Polls for ever. A hub that is away changes nothing: what is listed goes on.
pub async fn poll(hub: SignedChannel, lists: watch::Sender<Arc<TaskList>>) {
    let mut known = None;
    let mut pauses = pauses();
    loop {
        let request = PollRequest { known: known.clone(), wait_seconds: MAX_POLL_SECONDS };
        let wait = Duration::from_secs(MAX_POLL_SECONDS);
        match hub.post::<_, TaskList>(TASKS_PATH, &request, wait).await {
            Ok(list) => {
                if known.as_deref() != Some(&list.revision) {
                    tracing::debug!(
                        tasks = list.tasks.len(),
                        revision = list.revision,
                        "the hub's list has changed"
                    );
                }
                known = Some(list.revision.clone());
                pauses = self::pauses();
                lists.send_replace(Arc::new(list));
            }
            Err(error) => {
                tracing::warn!(%error, "polling for tasks failed");
                tokio::time::sleep(pauses.next().unwrap_or(Duration::from_secs(10))).await;
            }
        }
    }
}

fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(300))
        .with_max_delay(Duration::from_secs(10))
        .without_max_times()
        .build()
}
