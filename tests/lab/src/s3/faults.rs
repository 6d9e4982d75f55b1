//! Faults that a test sets on the S3 server. They apply to every request from then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// The switches; clones are the same set.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Switches>);

#[derive(Debug, Default)]
struct Switches {
    failing: AtomicU64,
    delay_millis: AtomicU64,
    writes_denied: AtomicBool,
    silent: watch::Sender<bool>,
    served: AtomicU64,
}

impl Faults {
    /// Answers the next `requests` requests with 503 `SlowDown`.
    pub fn fail_next(&self, requests: u64) {
        self.0.failing.store(requests, Ordering::SeqCst);
    }

    /// Waits so long before each request is looked at.
    pub fn delay(&self, delay: Duration) {
        self.0.delay_millis.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Takes requests but does not answer, until this is set to false again.
    pub fn stop_answering(&self, silent: bool) {
        self.0.silent.send_replace(silent);
    }

    /// Answers every write with `AccessDenied`, whatever the key's rights.
    pub fn deny_writes(&self, denied: bool) {
        self.0.writes_denied.store(denied, Ordering::SeqCst);
    }

    /// Removes every fault.
    pub fn clear(&self) {
        self.fail_next(0);
        self.delay(Duration::ZERO);
        self.deny_writes(false);
        self.stop_answering(false);
    }

    /// How many requests have come in, failed ones included.
    pub fn requests(&self) -> u64 {
        self.0.served.load(Ordering::SeqCst)
    }

    pub(super) fn writes_denied(&self) -> bool {
        self.0.writes_denied.load(Ordering::SeqCst)
    }

    /// Holds a request up as the faults say; true means that it must be answered with 503.
    pub(super) async fn meet(&self) -> bool {
        self.0.served.fetch_add(1, Ordering::SeqCst);
        let mut silent = self.0.silent.subscribe();
        // The sender lives as long as `self`, so this ends only by the switch.
        drop(silent.wait_for(|silent| !silent).await);
        let delay = self.0.delay_millis.load(Ordering::SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        self.0.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn exactly_the_next_requests_fail() {
        let faults = Faults::default();
        faults.fail_next(2);
        assert_eq!([faults.meet().await, faults.meet().await, faults.meet().await], [true, true, false]);
        assert_eq!(faults.requests(), 3);
    }

    #[tokio::test]
    async fn a_silent_server_goes_on_when_it_is_told_to() {
        let faults = Faults::default();
        faults.stop_answering(true);
        let waiting = tokio::spawn({
            let faults = faults.clone();
            async move { faults.meet().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        faults.clear();
        assert!(!waiting.await.unwrap());
    }
}
