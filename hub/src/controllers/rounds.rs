//! When which objects of a kind are looked at.
//!
//! - What has changed itself is looked at at once.
//! - What something else may have changed for is looked at in *rounds*: a round goes through all
//!   objects of the kind, begins when anything changed anywhere and at every tick, and takes
//!   [`SLICE`] objects every [`SETTLE`]. As long as they are few, a round is one slice: everything is
//!   looked at at every change. A round over ten thousand takes its time instead of the hub's.
//! - Objects of a kind may go in two lanes, each with rounds of its own, so that the few whose
//!   surroundings matter most (migrations that have not begun) do not wait for the many.
//!
//! So no event can be missed, and nothing needs to know what depends on what: only how soon it is
//! looked at differs.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

use crate::records::{Following, Kind, Record, Records};

/// How often everything is looked at when nothing changes: for what only time changes.
const TICK: Duration = Duration::from_secs(2);
/// Changes are gathered for this long before anything is looked at.
const SETTLE: Duration = Duration::from_millis(100);
/// The most objects of a lane that are looked at for each [`SETTLE`]: 250 a second.
const SLICE: usize = 25;
/// The most objects that have changed themselves that are looked at for each [`SETTLE`].
const CHANGED: usize = 250;

/// What of a kind there is to look at.
pub(super) struct Lanes<K> {
    /// Whether an object may need something at all.
    pub concerns: fn(&K) -> bool,
    /// Which of those go in a lane of their own.
    pub ahead: fn(&K) -> bool,
}

impl<K> Lanes<K> {
    /// All objects, in one lane.
    pub(super) fn all() -> Self {
        Self { concerns: |_| true, ahead: |_| true }
    }
}

/// What is left of a lane's round, and whether another is to follow.
struct Lane<K: Record> {
    ahead: bool,
    left: VecDeque<ObjectRef<K>>,
    due: bool,
}

struct Rounds<K: Record> {
    watched: Store<K>,
    lanes: Lanes<K>,
    state: [Lane<K>; 2],
    changed: Following,
    anything: watch::Receiver<u64>,
    tick: Interval,
}

/// References to the objects of a kind, as they are to be looked at.
pub(super) fn queue<K: Record>(
    records: &Records,
    kind: &Kind<K>,
    lanes: Lanes<K>,
) -> impl Stream<Item = Result<ObjectRef<K>, std::convert::Infallible>> + use<K> {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let state = [true, false].map(|ahead| Lane { ahead, left: VecDeque::new(), due: true });
    let (changed, anything) = (kind.dirty().follow(), records.changes());
    let rounds = Rounds { watched: kind.watched(), lanes, state, changed, anything, tick };
    stream::unfold(rounds, |mut rounds| async move {
        let slice = rounds.next().await?;
        Some((stream::iter(slice.into_iter().map(Ok)), rounds))
    })
    .flatten()
}

impl<K: Record> Rounds<K> {
    /// The next objects to look at; nothing once there are no more changes to come.
    async fn next(&mut self) -> Option<Vec<ObjectRef<K>>> {
        loop {
            let busy = self.state.iter().any(|lane| lane.due || !lane.left.is_empty());
            if !busy {
                tokio::select! {
                    _ = self.tick.tick() => self.fall_due(),
                    changed = self.anything.changed() => { changed.ok()?; self.fall_due(); }
                    () = self.changed.news() => {}
                }
            }
            tokio::time::sleep(SETTLE).await;
            // What changes while a round is under way calls for another after it.
            if self.anything.has_changed().ok()? {
                self.anything.mark_unchanged();
                self.fall_due();
            }
            let slice = self.slice();
            if !slice.is_empty() {
                return Some(slice);
            }
        }
    }

    fn fall_due(&mut self) {
        for lane in &mut self.state {
            lane.due = true;
        }
    }

    fn slice(&mut self) -> Vec<ObjectRef<K>> {
        let changed = self.changed.take(CHANGED).into_iter();
        let mut slice: Vec<ObjectRef<K>> = changed
            .map(|(namespace, name)| ObjectRef::new(&name).within(&namespace))
            .filter(|name| self.watched.get(name).is_some_and(|object| (self.lanes.concerns)(&object)))
            .collect();
        for lane in &mut self.state {
            if lane.left.is_empty() && std::mem::take(&mut lane.due) {
                lane.left = round(&self.watched, &self.lanes, lane.ahead);
            }
            let most = lane.left.len().min(SLICE);
            slice.extend(lane.left.drain(..most));
        }
        slice
    }
}

/// All objects of a lane, the oldest first.
fn round<K: Record>(watched: &Store<K>, lanes: &Lanes<K>, ahead: bool) -> VecDeque<ObjectRef<K>> {
    let mut objects = watched.state();
    objects.retain(|object| (lanes.concerns)(object) && (lanes.ahead)(object) == ahead);
    objects.sort_by(|a, b| {
        let age = |object: &K| object.meta().creation_timestamp.as_ref().map(|at| at.0);
        (age(a), &a.meta().uid).cmp(&(age(b), &b.meta().uid))
    });
    objects.iter().map(|object| ObjectRef::from_obj(&**object)).collect()
}
