//! What time the store has: every answer carries its date.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use aws_sdk_s3::{
    config::{
        ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeDeserializationInterceptorContextRef,
    },
    error::BoxError,
};
use jiff::Timestamp;

/// Stands for a clock of which nothing is known.
const UNKNOWN: i64 = i64::MIN;

/// The store's clock, as its last answer shows it.
#[derive(Debug, Clone)]
pub struct StoreClock(Arc<AtomicI64>);

impl Default for StoreClock {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(UNKNOWN)))
    }
}

impl StoreClock {
    /// By how many seconds it is ahead of ours.
    pub fn ahead(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|ahead| *ahead != UNKNOWN)
    }

    fn see(&self, date: Option<&str>, now: Timestamp) {
        // What cannot be read tells nothing, and what was known before stays.
        if let Some(there) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) {
            self.0.store(there.timestamp().as_second() - now.as_second(), Ordering::Relaxed);
        }
    }
}

impl Intercept for StoreClock {
    fn name(&self) -> &'static str {
        "StoreClock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.see(context.response().headers().get("date"), Timestamp::now());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_shows_how_far_the_clocks_are_apart() {
        let clock = StoreClock::default();
        assert_eq!(clock.ahead(), None);
        let now = Timestamp::from_second(1_767_268_800).unwrap();
        clock.see(Some("Thu, 01 Jan 2026 12:00:20 GMT"), now);
        assert_eq!(clock.ahead(), Some(20));
        clock.see(Some("nonsense"), now);
        clock.see(None, now);
        assert_eq!(clock.ahead(), Some(20), "what was known stays");
    }
}
