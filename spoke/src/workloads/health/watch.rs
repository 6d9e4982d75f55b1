//! Ready in time, and ready for long enough. Pure: the time is the caller's.

use std::time::{Duration, Instant};

/// How the workloads stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not all are ready yet.
    Waits,
    /// All are, for less long than they must be.
    Holds {
        /// For how much longer they must be.
        left: Duration,
    },
    /// They are well.
    Healthy,
    /// They were not ready in time, or did not stay so.
    Late,
}

/// Looks at workloads until it is known how they stand.
///
/// One that is ready and fails again starts the time anew for which all must be ready, as long as the
/// time lasts in which they may become so.
#[derive(Debug)]
pub struct Watch {
    deadline: Instant,
    duration: Duration,
    since: Option<Instant>,
}

impl Watch {
    /// All must be ready within `timeout`, and then stay so for `duration`.
    pub fn new(now: Instant, timeout: Duration, duration: Duration) -> Self {
        Self { deadline: now + timeout, duration, since: None }
    }

    /// Notes whether all are ready now.
    pub fn look(&mut self, now: Instant, ready: bool) -> Verdict {
        if !ready {
            self.since = None;
            return if now >= self.deadline { Verdict::Late } else { Verdict::Waits };
        }
        let since = *self.since.get_or_insert(now);
        match self.duration.checked_sub(now.duration_since(since)) {
            Some(left) if !left.is_zero() => Verdict::Holds { left },
            _ => Verdict::Healthy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_ready_in_time_and_stays_so_is_healthy() {
        let start = Instant::now();
        let mut watch = Watch::new(start, seconds(60), seconds(10));
        assert_eq!(watch.look(start, false), Verdict::Waits);
        assert_eq!(watch.look(start + seconds(5), true), Verdict::Holds { left: seconds(10) });
        assert_eq!(watch.look(start + seconds(14), true), Verdict::Holds { left: seconds(1) });
        assert_eq!(watch.look(start + seconds(15), true), Verdict::Healthy);
    }

    #[test]
    fn what_fails_again_must_be_ready_for_the_whole_time_anew() {
        let start = Instant::now();
        let mut watch = Watch::new(start, seconds(60), seconds(10));
        watch.look(start, true);
        assert_eq!(watch.look(start + seconds(9), false), Verdict::Waits);
        assert_eq!(watch.look(start + seconds(11), true), Verdict::Holds { left: seconds(10) });
    }

    #[test]
    fn what_is_not_ready_in_time_is_late_also_while_it_was_to_hold() {
        let start = Instant::now();
        let mut watch = Watch::new(start, seconds(60), seconds(10));
        assert_eq!(watch.look(start + seconds(60), false), Verdict::Late);
        // Ready at the last moment: it still has to hold, and to fail then is to be late.
        assert_eq!(watch.look(start + seconds(60), true), Verdict::Holds { left: seconds(10) });
        assert_eq!(watch.look(start + seconds(65), false), Verdict::Late);
    }

    #[test]
    fn without_a_duration_ready_is_healthy() {
        let start = Instant::now();
        assert_eq!(Watch::new(start, seconds(60), Duration::ZERO).look(start, true), Verdict::Healthy);
    }
}
