//! One hub of several leads: election over a Lease, with `leaseTransitions` as a fence.
//!
//! A hub holds the lease for as long as it renews it. Others take it over once they have seen
//! it unchanged for its duration *by their own clock*, so clocks need not agree. Every take-over
//! raises `leaseTransitions`; the leader writes that number into every status, and a hub that
//! finds a higher one than its own knows that it leads no more.
//!
//! A [`Term`] ends at [`RENEW_DEADLINE`] after the last renewal that was known to succeed, which
//! is before anybody else may begin one.

use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::causes::chain;

/// The Lease's name.
pub const LEASE_NAME: &str = "isthmus-hub";
/// How long a lease that is not renewed is respected.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long after its last renewal a leader stops leading. It is shorter than the lease by what
/// a call to the API server may take.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often the lease is renewed, or looked at.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// The lease is somebody else's, or may be.
#[derive(Debug, thiserror::Error)]
#[error("this hub does not lead any more: its lease was not renewed in time or was taken over")]
pub struct LeaseLost;

/// A time during which this hub leads.
#[derive(Debug)]
pub struct Term {
    fence: i64,
    since: Timestamp,
    valid_until: Mutex<Instant>,
    over: CancellationToken,
}

impl Term {
    /// A term that holds from now on.
    pub fn new(fence: i64) -> Self {
        Self {
            fence,
            since: Timestamp::now(),
            valid_until: Mutex::new(Instant::now() + RENEW_DEADLINE),
            over: CancellationToken::new(),
        }
    }

    /// The lease's `leaseTransitions`.
    pub fn fence(&self) -> i64 {
        self.fence
    }

    /// When it began.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Is cancelled when the term is over.
    pub fn over(&self) -> &CancellationToken {
        &self.over
    }

    /// Refuses once the term is over. To be asked right before every write.
    pub fn check(&self) -> Result<(), LeaseLost> {
        let valid = self.valid_until.lock().is_ok_and(|until| Instant::now() < *until);
        if valid && !self.over.is_cancelled() { Ok(()) } else { Err(LeaseLost) }
    }

    /// Ends it: somebody with a higher fence has written.
    pub fn end(&self) {
        self.over.cancel();
    }

    fn extend(&self, until: Instant) {
        if let Ok(mut valid) = self.valid_until.lock() {
            *valid = until;
        }
    }
}

/// A candidate.
pub struct Elector {
    api: Api<Lease>,
    identity: String,
    replica: Option<String>,
    seen: Option<Seen>,
}

/// A lease as it was when it last changed.
struct Seen {
    holder: String,
    renewed: Option<MicroTime>,
    transitions: i32,
    at: Instant,
}

impl Elector {
    /// A candidate. `replica` is a name of which only one process runs at a time: a lease that
    /// is held in that name is one of a process that has ended, and is taken over at once.
    pub fn new(client: Client, namespace: &str, replica: Option<&str>) -> Self {
        let id = uuid::Uuid::new_v4();
        let identity = format!("{}_{id}", replica.unwrap_or("hub"));
        let replica = replica.map(str::to_owned);
        Self { api: Api::namespaced(client, namespace), identity, replica, seen: None }
    }

    /// This candidate's name in the lease.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Waits until this hub leads. `floor` is the highest fence that any record carries: should
    /// the Lease have been deleted, the count goes on from there.
    pub async fn campaign(&mut self, floor: impl Fn() -> i64) -> Term {
        loop {
            match tokio::time::timeout(CALL_LIMIT, self.try_acquire(floor())).await {
                Ok(Ok(Some(fence))) => return Term::new(fence),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(
                        error = chain(&error),
                        "looking at the Lease {LEASE_NAME} failed; trying again (the hub needs get, create and update on leases in its namespace)"
                    );
                }
                Err(_) => tracing::warn!(
                    "the API server did not answer about the Lease {LEASE_NAME} in time; trying again"
                ),
            }
            tokio::time::sleep(RETRY_PERIOD).await;
        }
    }

    /// Renews the lease until the term is over: it was lost, or `stop` is cancelled.
    pub async fn hold(&mut self, term: &Term, stop: &CancellationToken) {
        let mut last_renewal = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = term.over.cancelled() => break,
                () = tokio::time::sleep(RETRY_PERIOD) => {}
            }
            let begun = Instant::now();
            let left = (last_renewal + RENEW_DEADLINE).saturating_duration_since(begun).min(CALL_LIMIT);
            match tokio::time::timeout(left, self.renew()).await {
                Ok(Ok(true)) => {
                    last_renewal = begun;
                    term.extend(begun + RENEW_DEADLINE);
                }
                Ok(Ok(false)) => {
                    tracing::error!("another hub has taken over the Lease {LEASE_NAME}");
                    break;
                }
                Ok(Err(error)) => {
                    tracing::warn!(
                        error = chain(&error),
                        "renewing the Lease {LEASE_NAME} failed; trying again"
                    );
                }
                Err(_) => tracing::warn!("renewing the Lease {LEASE_NAME} took too long; trying again"),
            }
            if last_renewal.elapsed() >= RENEW_DEADLINE {
                tracing::error!(
                    "the Lease {LEASE_NAME} could not be renewed for {} s: this hub stops leading",
                    RENEW_DEADLINE.as_secs()
                );
                break;
            }
        }
        term.over.cancel();
    }

    /// Gives the lease back, so that another hub may lead at once.
    pub async fn release(&mut self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.api.get_opt(LEASE_NAME).await? else { return Ok(()) };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(self.identity.as_str()) {
            return Ok(());
        }
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        self.api.replace(LEASE_NAME, &PostParams::default(), &lease).await.map(drop)
    }

    async fn try_acquire(&mut self, floor: i64) -> Result<Option<i64>, kube::Error> {
        let now = Timestamp::now();
        let floor = i32::try_from(floor).unwrap_or(i32::MAX - 1);
        let Some(mut lease) = self.api.get_opt(LEASE_NAME).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(LEASE_NAME.to_owned()), ..ObjectMeta::default() },
                spec: Some(self.spec(now, now, floor.saturating_add(1))),
            };
            return match self.api.create(&PostParams::default(), &lease).await {
                Ok(_) => Ok(Some(i64::from(floor.saturating_add(1)))),
                Err(error) if is_conflict(&error) => Ok(None),
                Err(error) => Err(error),
            };
        };
        let spec = lease.spec.take().unwrap_or_default();
        if !self.is_free(&spec) {
            return Ok(None);
        }
        let transitions = spec.lease_transitions.unwrap_or(0).max(floor).saturating_add(1);
        lease.spec = Some(self.spec(now, now, transitions));
        match self.api.replace(LEASE_NAME, &PostParams::default(), &lease).await {
            Ok(_) => Ok(Some(i64::from(transitions))),
            Err(error) if is_conflict(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether nobody holds the lease, judged by how long we have seen it unchanged.
    fn is_free(&mut self, spec: &LeaseSpec) -> bool {
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let of_ours = self.replica.is_some()
            && holder.rsplit_once('_').map(|(name, _)| name) == self.replica.as_deref();
        if holder.is_empty() || of_ours {
            return true;
        }
        let transitions = spec.lease_transitions.unwrap_or(0);
        let same = self.seen.as_ref().is_some_and(|seen| {
            seen.holder == holder && seen.renewed == spec.renew_time && seen.transitions == transitions
        });
        if !same {
            // Every renewal comes by here; only another leader is news.
            if self.seen.as_ref().is_none_or(|seen| seen.holder != holder) {
                tracing::info!(leader = holder, "standing by: another hub leads");
            }
            self.seen =
                Some(Seen { holder, renewed: spec.renew_time.clone(), transitions, at: Instant::now() });
        }
        let duration = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(LEASE_DURATION, Duration::from_secs);
        self.seen.as_ref().is_some_and(|seen| seen.at.elapsed() > duration)
    }

    async fn renew(&mut self) -> Result<bool, kube::Error> {
        let mut lease = self.api.get(LEASE_NAME).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(self.identity.as_str()) {
            return Ok(false);
        }
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        match self.api.replace(LEASE_NAME, &PostParams::default(), &lease).await {
            Ok(_) => Ok(true),
            // Where somebody wrote in between, the next look tells who.
            Err(error) => Err(error),
        }
    }

    fn spec(&self, acquired: Timestamp, renewed: Timestamp, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            acquire_time: Some(MicroTime(acquired)),
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            lease_transitions: Some(transitions),
            renew_time: Some(MicroTime(renewed)),
            ..LeaseSpec::default()
        }
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_conflict() || status.is_already_exists())
}
