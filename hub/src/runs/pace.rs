//! So many a second, and no more than a second's worth at once.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// A bucket that fills by so many a second.
pub(super) struct Pace {
    per_second: f64,
    state: Mutex<(f64, Instant)>,
}

impl Pace {
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, state: Mutex::new((per_second, Instant::now())) }
    }

    /// Whether one more may be done now.
    pub(super) fn take(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, since) = *state;
        let now = Instant::now();
        let left = (left + now.duration_since(since).as_secs_f64() * self.per_second).min(self.per_second);
        let may = left >= 1.0;
        *state = (if may { left - 1.0 } else { left }, now);
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_a_second_are_let_through() {
        let pace = Pace::new(3);
        let burst = |pace: &Pace| (0..10).filter(|_| pace.take()).count();
        assert_eq!(burst(&pace), 3);
        tokio::time::advance(Duration::from_millis(700)).await;
        assert_eq!(burst(&pace), 2);
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(burst(&pace), 3);
    }
}
