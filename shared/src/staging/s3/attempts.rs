//! How often and for how long a call is tried.
//!
//! With backoff and jitter, until [`RetryPolicy::max_elapsed`] has gone by. An attempt is given
//! up when the server is silent for [`RetryPolicy::silence`]; as nothing tells how far a body
//! that is being written has come, that of a write grows with its body.

use std::{
    future::Future,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use backon::{ExponentialBuilder, Retryable};

use super::{S3Store, classify::Call};
use crate::staging::store::{MAX_OBJECT, StoreError};

/// A body that comes or goes slower than this is given up and tried again, in bytes a second.
const SLOWEST_BODY: u64 = 128 * 1024;
/// The first pause between two attempts; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The most attempts at one call, however short the pauses are.
const MAX_ATTEMPTS: usize = 40;
/// How often a call is made again that the store refused for its time: each answer corrects what
/// we know of the store's clock, so the next is right unless the store contradicts itself.
const CLOCK_CORRECTIONS: u32 = 2;

/// For how long a call that may succeed later is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// No new attempt is begun when this much time has gone by since the first.
    pub max_elapsed: Duration,
    /// For how long the server may be silent within one attempt.
    pub silence: Duration,
}

impl RetryPolicy {
    /// For calls that a person or a probe waits for.
    pub const PROMPT: Self = Self { max_elapsed: Duration::from_secs(10), silence: Duration::from_secs(20) };
    /// For tasks and movers, which had better sit out a restart of the object store.
    pub const PATIENT: Self = Self { max_elapsed: Duration::from_mins(3), silence: Duration::from_secs(20) };

    /// The time limit of one attempt that carries a body of this size, either way.
    fn limit(&self, body: u64) -> Duration {
        self.silence + Duration::from_secs(body / SLOWEST_BODY)
    }
}

impl S3Store {
    /// Runs attempts until one succeeds, fails for good, or the policy's time is up. `body` is the
    /// size of the body, if there is one; unknown is as good as the largest.
    pub(super) async fn attempts<T, F, Fut>(
        &self,
        call: Call<'_>,
        body: Option<u64>,
        attempt: F,
    ) -> Result<T, StoreError>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, StoreError>>,
    {
        let limit = self.retry.limit(body.unwrap_or(0).min(MAX_OBJECT as u64));
        let started = Instant::now();
        let corrections = AtomicU32::new(0);
        let timed = || async {
            match tokio::time::timeout(limit, attempt()).await {
                Ok(result) => result,
                Err(_) => Err(call.timeout(limit)),
            }
        };
        let worth_another = |error: &StoreError| match error {
            StoreError::ClockSkew { .. } => corrections.fetch_add(1, Ordering::Relaxed) < CLOCK_CORRECTIONS,
            error => error.is_retryable() && started.elapsed() < self.retry.max_elapsed,
        };
        timed
            .retry(
                ExponentialBuilder::default()
                    .with_min_delay(FIRST_PAUSE)
                    .with_max_delay(LONGEST_PAUSE)
                    .with_max_times(MAX_ATTEMPTS)
                    .with_jitter(),
            )
            .when(worth_another)
            .notify(|error, pause| {
                tracing::debug!(%error, ?pause, "trying again");
            })
            .await
    }

    /// Waits for the next part of an answer.
    pub(super) async fn unless_silent<T>(
        &self,
        call: Call<'_>,
        part: impl Future<Output = T>,
    ) -> Result<T, StoreError> {
        tokio::time::timeout(self.retry.silence, part).await.map_err(|_| call.silent(self.retry.silence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_gets_time_for_its_body_and_not_more() {
        let policy = RetryPolicy::PATIENT;
        assert_eq!(policy.limit(0), policy.silence);
        assert_eq!(policy.limit(16 * 1024 * 1024), policy.silence + Duration::from_secs(128));
    }
}
