//! How many calls are under way to the API server at a time.
//!
//! ```text
//!   Window    the arithmetic: values and instants in, a width out; no clock of its own
//!   Limiter   the same as a gate for tasks: permits, and a pause that holds for all
//! ```
//!
//! The width begins at [`START`] and grows by one for each `width` answers that came quickly, up
//! to [`MOST`]. A sign of overload halves it, down to [`LEAST`], and so does each further sign of
//! a call that began after the last halving: the answers of one burst count once.
//!
//! What counts as overload is the server's own word for it:
//!
//! - 429 with the headers of API priority and fairness ([`FLOW_SCHEMA`], [`PRIORITY_LEVEL`]): the
//!   server sheds load, everybody slows down and waits as long as Retry-After says;
//! - 502 to 504, or no answer in time: likewise, waiting only if the server asks for it (a plain
//!   500 is mostly a webhook's failure, and none of the server's load);
//! - 429 without those headers comes from something behind or before the server, such as a
//!   disruption budget or a webhook, and concerns the one call.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Calls at a time at the start.
pub const START: usize = 16;
/// The most calls at a time, over all tasks.
pub const MOST: usize = 64;
/// The fewest.
pub const LEAST: usize = 2;
/// An answer that takes longer than this is no reason to ask for more at a time.
pub const QUICK: Duration = Duration::from_secs(1);
/// The longest wait that a server's Retry-After is granted.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// The header that names the flow schema that the server's flow control put a call in.
pub const FLOW_SCHEMA: &str = "x-kubernetes-pf-flowschema-uid";
/// The header that names the priority level.
pub const PRIORITY_LEVEL: &str = "x-kubernetes-pf-prioritylevel-uid";

/// What one call told about the server's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// An answer, whatever it says of the object.
    Answer,
    /// The server has too much to do, and wants to be left alone for so long.
    Overload(Option<Duration>),
    /// It says nothing about the server.
    Nothing,
}

/// What an answer's status and headers tell.
pub fn sign_of(status: u16, headers: &HeaderMap, retry_after: Option<Duration>) -> Sign {
    let by_flow_control = headers.contains_key(FLOW_SCHEMA) || headers.contains_key(PRIORITY_LEVEL);
    match status {
        429 if by_flow_control => Sign::Overload(retry_after),
        502..=504 => Sign::Overload(retry_after),
        // A webhook that fails is a 500 too: no load, and no reason to slow down.
        429 | 500.. => Sign::Nothing,
        _ => Sign::Answer,
    }
}

/// The arithmetic.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    width: usize,
    /// Quick answers since the width last changed.
    quick: usize,
    /// When it was last halved.
    halved: Option<Instant>,
    /// Until when nobody is to call.
    closed_until: Option<Instant>,
}

impl Default for Window {
    fn default() -> Self {
        Self { width: START, quick: 0, halved: None, closed_until: None }
    }
}

impl Window {
    /// Calls at a time.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How long from `now` nobody is to call.
    pub fn closed(&self, now: Instant) -> Option<Duration> {
        self.closed_until.map(|until| until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    /// Takes in what a call told that began at `began` and ended at `now`.
    pub fn learn(&mut self, sign: Sign, began: Instant, now: Instant) {
        match sign {
            Sign::Nothing => {}
            Sign::Answer => {
                if now.saturating_duration_since(began) <= QUICK && self.width < MOST {
                    self.quick += 1;
                    if self.quick >= self.width {
                        (self.width, self.quick) = (self.width + 1, 0);
                    }
                }
            }
            Sign::Overload(wait) => {
                if self.halved.is_none_or(|halved| began >= halved) {
                    self.width = (self.width / 2).max(LEAST);
                    self.quick = 0;
                    self.halved = Some(now);
                }
                if let Some(wait) = wait {
                    let until = now + wait.min(MAX_RETRY_AFTER);
                    self.closed_until = Some(self.closed_until.map_or(until, |known| known.max(until)));
                }
            }
        }
    }
}

/// The gate that all calls of a client pass.
#[derive(Debug)]
pub struct Limiter {
    state: Mutex<State>,
    slots: Arc<Semaphore>,
}

#[derive(Debug)]
struct State {
    window: Window,
    /// Permits that exist, given out or not.
    permits: usize,
}

/// The right to make one call. Returned when it is dropped.
#[derive(Debug)]
pub struct Permit<'a> {
    limiter: &'a Limiter,
    slot: Option<OwnedSemaphorePermit>,
    began: Instant,
}

impl Default for Limiter {
    fn default() -> Self {
        let state = State { window: Window::default(), permits: START };
        Self { state: Mutex::new(state), slots: Arc::new(Semaphore::new(START)) }
    }
}

impl Limiter {
    /// Calls at a time, now.
    pub fn width(&self) -> usize {
        self.lock().window.width()
    }

    /// Waits for a turn.
    pub async fn enter(&self) -> Permit<'_> {
        // The semaphore is never closed: without a slot the call would go on unlimited, not fail.
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok();
        loop {
            let now = Instant::now();
            let Some(wait) = self.lock().window.closed(now) else { break };
            tokio::time::sleep(wait).await;
        }
        Permit { limiter: self, slot, began: Instant::now() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, sign: Sign, began: Instant) {
        let mut state = self.lock();
        state.window.learn(sign, began, Instant::now());
        let width = state.window.width();
        if width > state.permits {
            self.slots.add_permits(width - state.permits);
            state.permits = width;
        } else if width < state.permits {
            // Those that are given out go when they are returned.
            state.permits -= self.slots.forget_permits(state.permits - width);
        }
    }
}

impl Permit<'_> {
    /// Tells what the call told.
    pub fn learn(&self, sign: Sign) {
        self.limiter.learn(sign, self.began);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        let mut state = self.limiter.lock();
        if state.permits > state.window.width() {
            state.permits -= 1;
            slot.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use http::HeaderValue;

    use super::*;

    fn answer(window: &mut Window, now: Instant, times: usize) {
        for _ in 0..times {
            window.learn(Sign::Answer, now, now);
        }
    }

    #[test]
    fn quick_answers_widen_the_window_up_to_its_limit() {
        let (mut window, now) = (Window::default(), Instant::now());
        answer(&mut window, now, START);
        assert_eq!(window.width(), START + 1);
        answer(&mut window, now, 10_000);
        assert_eq!(window.width(), MOST);
    }

    #[test]
    fn slow_answers_do_not() {
        let (mut window, now) = (Window::default(), Instant::now());
        for _ in 0..1_000 {
            window.learn(Sign::Answer, now, now + QUICK * 2);
        }
        assert_eq!(window.width(), START);
    }

    #[test]
    fn one_burst_of_refusals_halves_it_once_and_a_later_one_again() {
        let (mut window, now) = (Window::default(), Instant::now());
        let later = now + Duration::from_millis(5);
        for _ in 0..START {
            window.learn(Sign::Overload(None), now, later);
        }
        assert_eq!(window.width(), START / 2);
        window.learn(Sign::Overload(None), later, later);
        assert_eq!(window.width(), START / 4);
        for n in 0..10 {
            let now = later + Duration::from_secs(n + 1);
            window.learn(Sign::Overload(None), now, now);
        }
        assert_eq!(window.width(), LEAST);
    }

    #[test]
    fn the_longest_retry_after_closes_it_for_all_but_not_for_ever() {
        let (mut window, now) = (Window::default(), Instant::now());
        window.learn(Sign::Overload(Some(Duration::from_secs(3))), now, now);
        window.learn(Sign::Overload(Some(Duration::from_secs(1))), now, now);
        assert_eq!(window.closed(now), Some(Duration::from_secs(3)));
        assert_eq!(window.closed(now + Duration::from_secs(3)), None);
        window.learn(Sign::Overload(Some(Duration::from_hours(1))), now, now);
        assert_eq!(window.closed(now), Some(MAX_RETRY_AFTER));
    }

    #[test]
    fn only_the_servers_own_flow_control_slows_everybody() {
        let mut fair = HeaderMap::new();
        fair.insert(PRIORITY_LEVEL, HeaderValue::from_static("u"));
        let wait = Some(Duration::from_secs(1));
        assert_eq!(sign_of(429, &fair, wait), Sign::Overload(wait));
        assert_eq!(sign_of(429, &HeaderMap::new(), wait), Sign::Nothing);
        assert_eq!(sign_of(503, &HeaderMap::new(), None), Sign::Overload(None));
        assert_eq!(sign_of(500, &fair, None), Sign::Nothing, "a webhook's failure");
        assert_eq!(sign_of(409, &fair, None), Sign::Answer);
    }

    #[tokio::test]
    async fn the_gate_lets_through_as_many_as_its_width_says() {
        let limiter = Limiter::default();
        let mut inside = Vec::new();
        for _ in 0..START {
            inside.push(limiter.enter().await);
        }
        assert!(limiter.enter().now_or_never().is_none(), "it is full");
        inside[0].learn(Sign::Overload(None));
        assert_eq!(limiter.width(), START / 2);
        inside.truncate(START / 2);
        assert!(limiter.enter().now_or_never().is_none(), "those that left took their slots along");
        inside.truncate(START / 2 - 1);
        assert!(limiter.enter().now_or_never().is_some());
        inside.clear();
        for _ in 0..START {
            limiter.enter().await.learn(Sign::Answer);
        }
        assert_eq!(limiter.width(), START / 2 + 1);
    }
}
