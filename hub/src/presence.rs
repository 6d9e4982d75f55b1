//! Who was heard when, and how the last probes went: what one term of leadership keeps in memory.
//!
//! It is keyed by the uids of the records, so nothing of a record that was removed counts for
//! another of its name, and it holds nothing of clusters that have not authenticated.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use isthmus_shared::protocol::{Fence, HEARTBEAT_EXPIRY_SECONDS, Heartbeat, MAX_FENCES, PROBE_SECONDS};
use jiff::{SignedDuration, Timestamp};

use crate::itinerary::TURN_AFTER_SECONDS;

/// The most probes of one heartbeat that are taken in.
pub(crate) const MAX_PROBES: usize = 256;
/// A probe older than this counts as none, seconds: the interval and time for one to be late.
pub(crate) const PROBE_EXPIRY_SECONDS: i64 = PROBE_SECONDS.cast_signed() + 20;
/// What a clock says of itself counts for so long, seconds.
const CLOCK_EXPIRY_SECONDS: i64 = 90;
/// The longest uid or revision of a store, bytes.
const MAX_ID: usize = 64;
/// The longest `<cluster>/<namespace>`, bytes.
const MAX_COUNTERPART: usize = 253 + 1 + 63;
/// The longest error of a probe that is kept, bytes.
const MAX_PROBE_ERROR: usize = 1024;

/// How a probe went.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Probe {
    /// What was probed: the store's revision.
    pub revision: String,
    /// When it ended.
    pub at: Timestamp,
    /// What was the matter.
    pub error: Option<String>,
}

/// One spoke.
#[derive(Clone, Debug)]
struct Spoke {
    heard_at: Timestamp,
    /// Since when it has been heard without a gap in which its cluster counted as not heard.
    steady_since: Timestamp,
    facts_digest: Option<String>,
    probes: HashMap<String, Probe>,
    fences: Vec<Fence>,
}

impl Spoke {
    /// One that is heard for the first time.
    fn heard(now: Timestamp) -> Self {
        Self {
            heard_at: now,
            steady_since: now,
            facts_digest: None,
            probes: HashMap::new(),
            fences: Vec::new(),
        }
    }
}

/// What a heartbeat came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The facts of that digest are not known.
    pub want_facts: bool,
    /// Something changed that records depend on.
    pub news: bool,
}

/// All that was heard in this term.
#[derive(Debug)]
pub(crate) struct Presence {
    /// When the term began.
    pub since: Timestamp,
    /// How long the source of a failover that is under way may not be heard before the failover goes on
    /// without it, seconds.
    pub patience: i64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    spokes: HashMap<String, Spoke>,
    /// The clusters whose spokes have said last that their API server does not answer them.
    unanswered: HashSet<String>,
    own: HashMap<String, Probe>,
    /// By the uid of a cluster or store: by how many seconds its clock is ahead, and when that was
    /// seen. Of a cluster also where its spoke is refused for it.
    clocks: HashMap<String, (i64, Timestamp)>,
}

impl Presence {
    pub(crate) fn new(since: Timestamp) -> Self {
        Self { since, patience: TURN_AFTER_SECONDS, inner: Mutex::default() }
    }

    /// The same, with another patience of failovers, seconds.
    pub(crate) fn with_patience(self, patience: i64) -> Self {
        Self { patience, ..self }
    }

    /// Takes in a heartbeat. Facts count as known once [`Self::facts_kept`] says so.
    ///
    /// A spoke whose cluster does not answer it cannot do anything there, nor say how it stands: it
    /// counts as not heard for as long as that lasts.
    pub(crate) fn heartbeat(&self, cluster_uid: &str, heartbeat: &Heartbeat, now: Timestamp) -> Heard {
        self.with(|inner| {
            if heartbeat.unanswered {
                let news = inner.unanswered.insert(cluster_uid.to_owned());
                return Heard { want_facts: false, news };
            }
            let answered_again = inner.unanswered.remove(cluster_uid);
            let new = !inner.spokes.contains_key(cluster_uid);
            let spoke = inner.spokes.entry(cluster_uid.to_owned()).or_insert_with(|| Spoke::heard(now));
            let gap = now.duration_since(spoke.heard_at);
            let was_late = gap > SignedDuration::from_secs(20) || answered_again;
            if gap > SignedDuration::from_secs(HEARTBEAT_EXPIRY_SECONDS.cast_signed()) {
                spoke.steady_since = now;
            }
            spoke.heard_at = now;
            let probes: HashMap<String, Probe> = heartbeat
                .probes
                .iter()
                .take(MAX_PROBES)
                .filter(|report| report.store.len().max(report.revision.len()) <= MAX_ID)
                .map(|report| {
                    let age = i64::try_from(report.age_millis).unwrap_or(i64::MAX / 2).min(86_400_000);
                    let probe = Probe {
                        revision: report.revision.clone(),
                        at: now - SignedDuration::from_millis(age),
                        error: report.error.as_deref().map(|error| cut(error, MAX_PROBE_ERROR)),
                    };
                    (report.store.clone(), probe)
                })
                .collect();
            let outcome = |probe: &Probe| (probe.revision.clone(), probe.error.clone());
            let fences: Vec<Fence> =
                heartbeat.fences.iter().take(MAX_FENCES).filter(|f| is_sound(f)).cloned().collect();
            let turned = fences != spoke.fences;
            spoke.fences = fences;
            let changed = turned
                || probes.len() != spoke.probes.len()
                || probes
                    .iter()
                    .any(|(store, probe)| spoke.probes.get(store).map(outcome) != Some(outcome(probe)));
            spoke.probes = probes;
            let want_facts = spoke.facts_digest.as_deref() != Some(heartbeat.facts_digest.as_str());
            Heard { want_facts, news: new || was_late || changed }
        })
        .unwrap_or(Heard { want_facts: true, news: false })
    }

    /// A spoke has enrolled: that is a sign of life, and its facts are not known yet.
    pub(crate) fn enrolled(&self, cluster_uid: &str, now: Timestamp) {
        self.with(|inner| inner.spokes.insert(cluster_uid.to_owned(), Spoke::heard(now)));
    }

    /// The facts of that digest are in the record now.
    pub(crate) fn facts_kept(&self, cluster_uid: &str, digest: &str) {
        self.with(|inner| {
            if let Some(spoke) = inner.spokes.get_mut(cluster_uid) {
                spoke.facts_digest = Some(digest.to_owned());
            }
        });
    }

    /// When a cluster's spoke was last heard in this term.
    pub(crate) fn heard_at(&self, cluster_uid: &str) -> Option<Timestamp> {
        self.with(|inner| inner.spokes.get(cluster_uid).map(|spoke| spoke.heard_at)).flatten()
    }

    /// Since when a cluster's spoke has been heard without a gap of the time after which it counts as not
    /// heard.
    pub(crate) fn steady_since(&self, cluster_uid: &str) -> Option<Timestamp> {
        self.with(|inner| inner.spokes.get(cluster_uid).map(|spoke| spoke.steady_since)).flatten()
    }

    /// Whether a cluster's spoke has said last that the cluster's API server does not answer it.
    pub(crate) fn is_unanswered(&self, cluster_uid: &str) -> bool {
        self.with(|inner| inner.unanswered.contains(cluster_uid)).unwrap_or(false)
    }

    /// What the mark of a cluster's namespace said when it was last heard.
    pub(crate) fn fence(&self, cluster_uid: &str, namespace: &str) -> Option<Fence> {
        self.with(|inner| {
            inner.spokes.get(cluster_uid)?.fences.iter().find(|fence| fence.namespace == namespace).cloned()
        })
        .flatten()
    }

    /// A namespace's applications were started or stopped: what its mark says now, before the next
    /// heartbeat does.
    pub(crate) fn turned(&self, cluster_uid: &str, namespace: &str, active: bool) {
        self.with(|inner| {
            let spoke = inner.spokes.get_mut(cluster_uid)?;
            spoke.fences.iter_mut().find(|fence| fence.namespace == namespace)?.active = active;
            Some(())
        });
    }

    /// The last probe of a store by a cluster's spoke.
    pub(crate) fn probe_by(&self, cluster_uid: &str, store_uid: &str) -> Option<Probe> {
        self.with(|inner| inner.spokes.get(cluster_uid)?.probes.get(store_uid).cloned()).flatten()
    }

    /// The hub's own last probe of a store.
    pub(crate) fn own_probe(&self, store_uid: &str) -> Option<Probe> {
        self.with(|inner| inner.own.get(store_uid).cloned()).flatten()
    }

    /// Takes in a probe of the hub's own; tells whether it came out otherwise than the last.
    pub(crate) fn probed(&self, store_uid: &str, probe: Probe) -> bool {
        self.with(|inner| {
            let before = inner.own.insert(store_uid.to_owned(), probe.clone());
            before.is_none_or(|before| (before.revision, before.error) != (probe.revision, probe.error))
        })
        .unwrap_or(false)
    }

    /// The clock of a cluster's spoke, or of a store, was seen to be so many seconds ahead of ours.
    pub(crate) fn clock_seen(&self, uid: &str, ahead: i64, now: Timestamp) {
        self.with(|inner| inner.clocks.insert(uid.to_owned(), (ahead, now)));
    }

    /// By how many seconds the clock of a cluster's spoke, or of a store, is ahead of ours; none
    /// where it was not seen of late.
    pub(crate) fn clock(&self, uid: &str, now: Timestamp) -> Option<i64> {
        self.with(|inner| inner.clocks.get(uid).copied()).flatten().and_then(|(ahead, seen)| {
            (now.duration_since(seen) <= SignedDuration::from_secs(CLOCK_EXPIRY_SECONDS)).then_some(ahead)
        })
    }

    /// Forgets everything but what is of these records.
    pub(crate) fn retain(&self, clusters: &HashSet<String>, stores: &HashSet<String>) {
        self.with(|inner| {
            inner.spokes.retain(|uid, _| clusters.contains(uid));
            inner.unanswered.retain(|uid| clusters.contains(uid));
            inner.own.retain(|uid, _| stores.contains(uid));
            inner.clocks.retain(|uid, _| clusters.contains(uid) || stores.contains(uid));
        });
    }

    /// A lock that a panic has poisoned gives nothing: whoever was heard is heard again soon.
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> Option<T> {
        self.inner.lock().ok().map(|mut inner| act(&mut inner))
    }
}

/// Whether a spoke may say such a thing: names are as long as Kubernetes has them.
fn is_sound(fence: &Fence) -> bool {
    fence.namespace.len() <= 63 && fence.counterpart.len() <= MAX_COUNTERPART
}

fn cut(text: &str, limit: usize) -> String {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use isthmus_shared::protocol::ProbeReport;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn heartbeat(error: Option<&str>) -> Heartbeat {
        let probe = ProbeReport {
            store: "s".into(),
            revision: "1".into(),
            age_millis: 5000,
            error: error.map(str::to_owned),
        };
        Heartbeat { facts_digest: "d".into(), probes: vec![probe], ..Heartbeat::default() }
    }

    #[test]
    fn a_spoke_whose_cluster_does_not_answer_it_is_not_heard_and_is_known_to_be_that() {
        let presence = Presence::new(at(0));
        presence.heartbeat("c", &heartbeat(None), at(1));
        let unanswered = Heartbeat { unanswered: true, ..heartbeat(None) };
        assert!(presence.heartbeat("c", &unanswered, at(11)).news);
        assert!(!presence.heartbeat("c", &unanswered, at(21)).news);
        assert_eq!((presence.heard_at("c"), presence.is_unanswered("c")), (Some(at(1)), true));
        assert!(presence.heartbeat("c", &heartbeat(None), at(31)).news);
        assert_eq!((presence.heard_at("c"), presence.is_unanswered("c")), (Some(at(31)), false));
        assert_eq!(presence.steady_since("c"), Some(at(1)), "the gap was none");
        presence.heartbeat("c", &heartbeat(None), at(72));
        assert_eq!(presence.steady_since("c"), Some(at(72)));
    }

    #[test]
    fn a_heartbeat_is_news_only_when_something_changed() {
        let presence = Presence::new(at(0));
        assert!(presence.heartbeat("c", &heartbeat(None), at(1)).news);
        assert!(!presence.heartbeat("c", &heartbeat(None), at(11)).news);
        assert!(presence.heartbeat("c", &heartbeat(Some("denied")), at(21)).news);
        assert_eq!(presence.probe_by("c", "s").unwrap().at, at(16));
        assert!(presence.heartbeat("c", &heartbeat(Some("denied")), at(60)).news, "it was late");
    }

    #[test]
    fn facts_are_wanted_until_they_are_kept() {
        let presence = Presence::new(at(0));
        assert!(presence.heartbeat("c", &heartbeat(None), at(1)).want_facts);
        presence.facts_kept("c", "d");
        assert!(!presence.heartbeat("c", &heartbeat(None), at(2)).want_facts);
    }

    #[test]
    fn what_has_no_record_any_more_is_forgotten() {
        let presence = Presence::new(at(0));
        presence.heartbeat("c", &heartbeat(None), at(1));
        presence.retain(&HashSet::new(), &HashSet::new());
        assert_eq!(presence.heard_at("c"), None);
    }
}
