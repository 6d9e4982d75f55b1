//! Who is woken when something changed.
//!
//! There are two kinds of sleepers: controllers, who want to know of every change, and the polls of
//! spokes, of which each cares for what concerns its own cluster. With a thousand polls held and ten
//! thousand migrations under way it is the difference between two lists made anew for a change and
//! a thousand.
//!
//! Promise: whoever listens before looking misses nothing. A change is to be seen first and the bell
//! rung after; a [`Listener`] counts every ring since it was made or last marked.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Whose task lists a change may touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// Those of all clusters.
    All,
    /// Those of these clusters.
    These(BTreeSet<String>),
}

impl Whom {
    /// Nobody's.
    pub(crate) fn nobody() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl<S: Into<String>> FromIterator<S> for Whom {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        Self::These(names.into_iter().map(Into::into).collect())
    }
}

/// The bells of all sleepers.
pub(crate) struct Bells {
    any: watch::Sender<u64>,
    all: watch::Sender<u64>,
    /// Of the clusters that somebody listens for; the others' are removed when they would be rung.
    own: Mutex<HashMap<String, watch::Sender<u64>>>,
}

impl Default for Bells {
    fn default() -> Self {
        Self { any: bell(), all: bell(), own: Mutex::default() }
    }
}

impl Bells {
    /// Is woken by every change.
    pub(crate) fn any(&self) -> watch::Receiver<u64> {
        self.any.subscribe()
    }

    /// Wakes those who want to know of every change, and no poll.
    pub(crate) fn touch(&self) {
        strike(&self.any);
    }

    /// Wakes the polls of these clusters.
    pub(crate) fn ring(&self, whom: &Whom) {
        match whom {
            Whom::All => strike(&self.all),
            Whom::These(clusters) => {
                let mut own = self.own();
                for cluster in clusters {
                    let Some(bell) = own.get(cluster) else { continue };
                    strike(bell);
                    if bell.is_closed() {
                        own.remove(cluster);
                    }
                }
            }
        }
    }

    /// Listens for what concerns a cluster, from now on.
    pub(crate) fn listen(&self, cluster: &str) -> Listener {
        let own = self.own().entry(cluster.to_owned()).or_insert_with(bell).subscribe();
        Listener { all: self.all.subscribe(), own }
    }

    /// What is in there are names and counters, which no panic leaves half done.
    fn own(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<u64>>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bell() -> watch::Sender<u64> {
    watch::channel(0).0
}

fn strike(bell: &watch::Sender<u64>) {
    bell.send_modify(|rings| *rings = rings.wrapping_add(1));
}

/// Somebody who waits for what concerns one cluster.
pub(crate) struct Listener {
    all: watch::Receiver<u64>,
    own: watch::Receiver<u64>,
}

impl Listener {
    /// Counts what has rung so far as heard: to be called before looking.
    pub(crate) fn mark(&mut self) {
        self.all.mark_unchanged();
        self.own.mark_unchanged();
    }

    /// Waits for a ring that was not marked; false when there will be none any more.
    pub(crate) async fn rung(&mut self) -> bool {
        let changed = tokio::select! {
            changed = self.all.changed() => changed,
            changed = self.own.changed() => changed,
        };
        changed.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;

    fn rings(listener: &mut Listener) -> bool {
        let rung = listener.rung().now_or_never().is_some();
        listener.mark();
        rung
    }

    #[tokio::test]
    async fn a_ring_wakes_those_whom_it_concerns_and_nobody_else() {
        let bells = Bells::default();
        let (mut east, mut west) = (bells.listen("east"), bells.listen("west"));
        bells.ring(&Whom::from_iter(["east", "north"]));
        assert!(rings(&mut east) && !rings(&mut west));
        bells.ring(&Whom::All);
        assert!(rings(&mut east) && rings(&mut west));
        bells.ring(&Whom::nobody());
        bells.touch();
        assert!(!rings(&mut east) && !rings(&mut west));
    }

    #[tokio::test]
    async fn what_rang_before_it_was_waited_for_is_heard() {
        let bells = Bells::default();
        let mut east = bells.listen("east");
        bells.ring(&Whom::from_iter(["east"]));
        assert!(rings(&mut east));
        assert!(!rings(&mut east), "once");
    }

    #[tokio::test]
    async fn nothing_is_kept_of_clusters_for_which_nobody_listens() {
        let bells = Bells::default();
        drop(bells.listen("east"));
        bells.ring(&Whom::from_iter(["east", "west"]));
        assert!(bells.own().is_empty());
        let mut east = bells.listen("east");
        bells.ring(&Whom::from_iter(["east"]));
        assert!(rings(&mut east));
    }

    /// Listeners come and go while the value changes under them: each must come to see its last state.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_listener_ever_misses_the_last_change() {
        const CHANGES: u64 = 2_000;
        let bells = Arc::new(Bells::default());
        let values: Arc<[AtomicU64; 4]> = Arc::default();
        let name = |index: usize| format!("cluster-{index}");
        let mut tasks = tokio::task::JoinSet::new();
        for index in 0..4 {
            let (bells, values) = (Arc::clone(&bells), Arc::clone(&values));
            tasks.spawn(async move {
                for change in 1..=CHANGES {
                    values[index].store(change, Ordering::SeqCst);
                    bells.ring(&Whom::from_iter([name(index)]));
                    if change % 7 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
        for index in 0..4 {
            let (bells, values) = (Arc::clone(&bells), Arc::clone(&values));
            tasks.spawn(async move {
                let mut seen = 0;
                // A listener of its own for each change that is awaited, as every poll has.
                while seen < CHANGES {
                    let mut listener = bells.listen(&name(index));
                    loop {
                        listener.mark();
                        let value = values[index].load(Ordering::SeqCst);
                        if value != seen {
                            seen = value;
                            break;
                        }
                        assert!(listener.rung().await);
                    }
                }
            });
        }
        let all = async { while tasks.join_next().await.is_some_and(|joined| joined.is_ok()) {} };
        tokio::time::timeout(Duration::from_mins(1), all).await.expect("a change was missed");
        assert!(tasks.is_empty());
    }
}
