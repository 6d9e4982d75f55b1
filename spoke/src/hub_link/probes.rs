//! Probes of the stores that the hub names: each every 30 seconds, and at once when anything
//! about it changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use isthmus_shared::protocol::{PROBE_SECONDS, ProbeReport, StoreToProbe};
use isthmus_shared::staging::{probe, s3};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The stores that are probed at the most.
const MAX_STORES: usize = 256;
/// A probe that takes longer has failed.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

struct Latest {
    ended: Instant,
    error: Option<String>,
}

struct Probed {
    revision: String,
    latest: Arc<Mutex<Option<Latest>>>,
    handle: JoinHandle<()>,
}

impl Drop for Probed {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// Probes what it was last told to.
pub struct Prober {
    stores: HashMap<String, Probed>,
    news: Arc<Notify>,
}

impl Prober {
    /// Probes nothing yet; `news` is told when a store begins or ceases to work.
    pub fn new(news: Arc<Notify>) -> Self {
        Self { stores: HashMap::new(), news }
    }

    /// Probes these, and no others.
    pub fn follow(&mut self, stores: Vec<StoreToProbe>) {
        self.stores
            .retain(|uid, probed| stores.iter().any(|s| s.store == *uid && s.revision == probed.revision));
        for store in stores.into_iter().take(MAX_STORES) {
            if self.stores.contains_key(&store.store) {
                continue;
            }
            let latest = Arc::new(Mutex::new(None));
            let uid = store.store.clone();
            let revision = store.revision.clone();
            let handle = tokio::spawn(keep_probing(store, Arc::clone(&latest), Arc::clone(&self.news)));
            self.stores.insert(uid, Probed { revision, latest, handle });
        }
    }

    /// The latest probe of each.
    pub fn reports(&self) -> Vec<ProbeReport> {
        let report = |(uid, probed): (&String, &Probed)| {
            let latest = probed.latest.lock().unwrap_or_else(PoisonError::into_inner);
            latest.as_ref().map(|latest| ProbeReport {
                store: uid.clone(),
                revision: probed.revision.clone(),
                age_millis: u64::try_from(latest.ended.elapsed().as_millis()).unwrap_or(u64::MAX),
                error: latest.error.clone(),
            })
        };
        self.stores.iter().filter_map(report).collect()
    }
}

async fn keep_probing(store: StoreToProbe, latest: Arc<Mutex<Option<Latest>>>, news: Arc<Notify>) {
    let mut tick = tokio::time::interval(Duration::from_secs(PROBE_SECONDS));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let error = tokio::time::timeout(PROBE_TIMEOUT, probe_once(&store)).await.unwrap_or_else(|_| {
            Some(format!(
                "{} did not answer within {} s; check the network from this cluster to the store",
                store.access.describe(),
                PROBE_TIMEOUT.as_secs()
            ))
        });
        if let Some(error) = &error {
            tracing::warn!(store = store.store, error, "the object store does not work from here");
        }
        let changed = {
            let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
            let changed = latest.as_ref().is_none_or(|before| before.error.is_some() != error.is_some());
            *latest = Some(Latest { ended: Instant::now(), error });
            changed
        };
        if changed {
            news.notify_one();
        }
    }
}

async fn probe_once(store: &StoreToProbe) -> Option<String> {
    let opened = match s3::open(&store.access) {
        Ok(opened) => opened,
        Err(error) => return Some(error.to_string()),
    };
    probe::probe(opened.as_ref(), "").await.err().map(|error| error.to_string())
}
