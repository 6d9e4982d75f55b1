//! Faults on demand, for tests of clients: an overloaded server, one that does not answer, lists whose
//! tokens are too old.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Server;
use super::request::Target;

/// An overload: so many requests are answered with 429 before any is served again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overload {
    /// How many requests are refused.
    pub requests: u32,
    /// What `Retry-After` says, in whole seconds.
    pub retry_after: Duration,
    /// Only requests of these HTTP methods; all of them if it is empty.
    pub methods: Vec<String>,
    /// Only requests for this resource, such as `configmaps`; for all of them if it is empty.
    pub resource: String,
}

impl Overload {
    /// So many requests of any kind are refused, and told to come again after a second.
    pub fn of(requests: u32) -> Self {
        Self { requests, retry_after: Duration::from_secs(1), methods: Vec::new(), resource: String::new() }
    }
}

/// What is armed.
#[derive(Debug, Default)]
pub(super) struct Armed {
    overload: Mutex<Option<Overload>>,
    refused: Mutex<u64>,
    silent: watch::Sender<bool>,
}

impl Armed {
    /// Waits for as long as the server answers nothing.
    pub async fn answers(&self) {
        // The sender lives as long as this does.
        let _ = self.silent.subscribe().wait_for(|silent| !silent).await;
    }

    /// Whether this request is refused, and after how many seconds to come again.
    pub fn refuses(&self, method: &str, target: Option<&Target>) -> Option<u64> {
        let mut armed = self.overload.lock();
        let overload = armed.as_mut()?;
        let method_fits = overload.methods.is_empty() || overload.methods.iter().any(|m| m == method);
        let resource = target.map_or("", |target| target.resource.as_str());
        if !method_fits || !(overload.resource.is_empty() || overload.resource == resource) {
            return None;
        }
        let seconds = overload.retry_after.as_secs();
        overload.requests = overload.requests.saturating_sub(1);
        if overload.requests == 0 {
            *armed = None;
        }
        *self.refused.lock() += 1;
        Some(seconds)
    }
}

/// The faults of one server.
#[derive(Clone)]
pub struct Faults(pub(super) Arc<Server>);

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Faults").field(&self.0.faults).finish()
    }
}

impl Faults {
    /// Refuses requests with 429, as priority and fairness does when its queues are full. Replaces an
    /// overload that is not over; one of no requests ends it.
    pub fn overload(&self, overload: Overload) {
        *self.0.faults.overload.lock() = Some(overload).filter(|o| o.requests > 0);
    }

    /// Keeps all requests waiting that come from now on, or answers them again.
    pub fn silence(&self, silent: bool) {
        self.0.faults.silent.send_replace(silent);
    }

    /// How many requests overloads have refused so far.
    pub fn refused(&self) -> u64 {
        *self.0.faults.refused.lock()
    }

    /// Forgets what was before now, as etcd does when it is compacted: lists that have begun, and
    /// watches from older versions, are answered with 410.
    pub fn compact(&self) {
        self.0.store.compact();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_answers_once_it_is_silent_no_more() {
        let armed = Armed::default();
        armed.answers().await;
        armed.silent.send_replace(true);
        assert!(tokio::time::timeout(Duration::from_hours(1), armed.answers()).await.is_err());
        tokio::join!(armed.answers(), async { armed.silent.send_replace(false) });
    }

    #[test]
    fn an_overload_refuses_as_many_requests_of_its_kind_as_it_says() {
        let armed = Armed::default();
        *armed.overload.lock() = Some(Overload {
            methods: vec!["PATCH".to_owned()],
            resource: "configmaps".to_owned(),
            retry_after: Duration::from_secs(7),
            ..Overload::of(2)
        });
        let maps = Target { resource: "configmaps".to_owned(), ..Target::default() };
        let secrets = Target { resource: "secrets".to_owned(), ..Target::default() };
        assert_eq!(armed.refuses("GET", Some(&maps)), None);
        assert_eq!(armed.refuses("PATCH", Some(&secrets)), None);
        assert_eq!(armed.refuses("PATCH", Some(&maps)), Some(7));
        assert_eq!(armed.refuses("PATCH", Some(&maps)), Some(7));
        assert_eq!(armed.refuses("PATCH", Some(&maps)), None);
        assert_eq!(*armed.refused.lock(), 2);
    }
}
