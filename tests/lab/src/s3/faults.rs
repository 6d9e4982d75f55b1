//! Faults that a test sets on an S3 server.
//!
//! Switches hold for every request from then on: [`Faults::delay`], [`Faults::stop_answering`],
//! [`Faults::deny_writes`]. A [`Fault`] happens to single requests: to the next few of a kind, or
//! to every n-th. They work on the lab's own server and, through a [`super::FaultProxy`], on any
//! other.

mod fault;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use tokio::sync::watch;

pub use fault::Fault;
pub(super) use fault::{Cut, announce_length, happen};

/// The most rules that wait for their requests.
const MAX_RULES: usize = 1000;

/// Which requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// Every one.
    All,
    /// Gets, heads and listings.
    Reads,
    /// Puts, posts and deletions.
    Writes,
}

impl Calls {
    fn has(self, method: &Method) -> bool {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        match self {
            Self::All => true,
            Self::Reads => reads,
            Self::Writes => !reads,
        }
    }
}

/// The switches; clones are the same set.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Switches>);

#[derive(Debug, Default)]
struct Switches {
    rules: Mutex<VecDeque<Rule>>,
    delay_millis: AtomicU64,
    writes_denied: AtomicBool,
    silent: watch::Sender<bool>,
    served: AtomicU64,
    met: AtomicU64,
}

#[derive(Debug)]
struct Rule {
    calls: Calls,
    fault: Fault,
    when: When,
}

#[derive(Debug)]
enum When {
    /// To so many more.
    Next(u64),
    /// To each of so many, counted here.
    Each { of: u64, seen: u64 },
    /// To all but so many more.
    After(u64),
}

impl Rule {
    /// Whether it is to happen now.
    fn counts(&mut self) -> bool {
        match &mut self.when {
            When::Next(left) => {
                *left = left.saturating_sub(1);
                true
            }
            When::Each { of, seen } => {
                *seen += 1;
                *seen % *of == 0
            }
            When::After(0) => true,
            When::After(served) => {
                *served -= 1;
                false
            }
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.when, When::Next(0))
    }
}

impl Faults {
    /// Answers the next `requests` requests with 503 `SlowDown`, and forgets other rules.
    pub fn fail_next(&self, requests: u64) {
        self.rules().clear();
        self.next(Calls::All, requests, Fault::SlowDown);
    }

    /// Has `fault` happen to the next `requests` of these calls, once earlier rules for them are
    /// over. A rule beyond the first thousand is left out.
    pub fn next(&self, calls: Calls, requests: u64, fault: Fault) {
        if requests > 0 {
            self.add(Rule { calls, fault, when: When::Next(requests) });
        }
    }

    /// Has `fault` happen to every `of`-th of these calls, until the faults are cleared.
    pub fn each(&self, of: u64, calls: Calls, fault: Fault) {
        self.add(Rule { calls, fault, when: When::Each { of: of.max(1), seen: 0 } });
    }

    /// Has `fault` happen to all of these calls but the next `served`, until the faults are cleared.
    pub fn after(&self, served: u64, calls: Calls, fault: Fault) {
        self.add(Rule { calls, fault, when: When::After(served) });
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
        self.rules().clear();
        self.delay(Duration::ZERO);
        self.deny_writes(false);
        self.stop_answering(false);
    }

    /// How many requests have come in, failed ones included.
    pub fn requests(&self) -> u64 {
        self.0.served.load(Ordering::SeqCst)
    }

    /// To how many of them a [`Fault`] happened.
    pub fn met(&self) -> u64 {
        self.0.met.load(Ordering::SeqCst)
    }

    pub(super) fn writes_denied(&self) -> bool {
        self.0.writes_denied.load(Ordering::SeqCst)
    }

    /// Holds a request up as the switches say, and tells what is to happen to it.
    pub(super) async fn meet(&self, method: &Method) -> Option<Fault> {
        self.0.served.fetch_add(1, Ordering::SeqCst);
        let mut silent = self.0.silent.subscribe();
        // The sender lives as long as `self`, so this ends only by the switch.
        drop(silent.wait_for(|silent| !silent).await);
        let delay = self.0.delay_millis.load(Ordering::SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        let fault = self.choose(method);
        if fault.is_some() {
            self.0.met.fetch_add(1, Ordering::SeqCst);
        }
        fault
    }

    /// The first rule whose turn it is.
    fn choose(&self, method: &Method) -> Option<Fault> {
        let mut rules = self.rules();
        let mut chosen = None;
        for rule in rules.iter_mut().filter(|rule| rule.calls.has(method)) {
            if rule.counts() {
                chosen = Some(rule.fault);
                break;
            }
        }
        rules.retain(|rule| !rule.is_over());
        chosen
    }

    fn add(&self, rule: Rule) {
        let mut rules = self.rules();
        if rules.len() < MAX_RULES {
            rules.push_back(rule);
        }
    }

    fn rules(&self) -> MutexGuard<'_, VecDeque<Rule>> {
        self.0.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn happens(faults: &Faults, method: Method) -> Option<Fault> {
        faults.meet(&method).await
    }

    #[tokio::test]
    async fn exactly_the_next_requests_fail() {
        let faults = Faults::default();
        faults.fail_next(2);
        for expected in [Some(Fault::SlowDown), Some(Fault::SlowDown), None] {
            assert_eq!(happens(&faults, Method::GET).await, expected);
        }
        assert_eq!((faults.requests(), faults.met()), (3, 2));
    }

    #[tokio::test]
    async fn a_rule_waits_for_its_kind_of_request() {
        let faults = Faults::default();
        faults.next(Calls::Writes, 1, Fault::LoseAnswer);
        assert_eq!(happens(&faults, Method::GET).await, None);
        assert_eq!(happens(&faults, Method::PUT).await, Some(Fault::LoseAnswer));
        assert_eq!(happens(&faults, Method::PUT).await, None);
    }

    #[tokio::test]
    async fn every_third_request_fails_until_that_is_cleared() {
        let faults = Faults::default();
        faults.each(3, Calls::All, Fault::InternalError);
        let mut failed = 0;
        for _ in 0..9 {
            failed += u32::from(happens(&faults, Method::GET).await.is_some());
        }
        assert_eq!(failed, 3);
        faults.clear();
        for _ in 0..3 {
            assert_eq!(happens(&faults, Method::GET).await, None);
        }
    }

    #[tokio::test]
    async fn a_silent_server_goes_on_when_it_is_told_to() {
        let faults = Faults::default();
        faults.stop_answering(true);
        let waiting = tokio::spawn({
            let faults = faults.clone();
            async move { happens(&faults, Method::GET).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        faults.clear();
        assert_eq!(waiting.await.unwrap(), None);
    }
}
