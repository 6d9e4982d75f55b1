//! Which tasks the spokes have been given, when a run was reported on, and when its next task came.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use isthmus_shared::protocol::TaskId;

/// One migration.
#[derive(Default)]
struct Run {
    /// Tasks that are to be done, and the spokes that are to do them.
    open: BTreeMap<TaskId, usize>,
    /// All that ever came: a list may be older than a report.
    seen: BTreeSet<TaskId>,
    /// When the report was sent after which its next tasks come.
    reported: Option<Instant>,
    /// The next one has come.
    answered: bool,
    namespace: String,
}

#[derive(Default)]
struct Inner {
    runs: HashMap<String, Run>,
    /// Those whose tasks are ended in turn, and those that wait to be among them.
    active: VecDeque<String>,
    reserve: VecDeque<String>,
    measuring: bool,
    latencies: Vec<Duration>,
    ended: usize,
    refused: Option<(usize, String)>,
}

/// A task to end now.
#[derive(Debug, PartialEq, Eq)]
pub struct Due {
    /// Which.
    pub task: TaskId,
    /// The namespace of its run.
    pub namespace: String,
    /// Whose it is.
    pub spoke: usize,
    /// Whether nothing else of its step is open: then the next task follows.
    pub last: bool,
}

/// All runs.
#[derive(Default)]
pub struct Ledger(Mutex<Inner>);

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A spoke has got a list: its tasks, with the namespace of each one's run.
    pub fn listed(&self, spoke: usize, tasks: Vec<(TaskId, String)>, at: Instant) {
        let inner = &mut *self.lock();
        for (task, namespace) in tasks {
            let new = !inner.runs.contains_key(&task.record);
            let run = inner.runs.entry(task.record.clone()).or_default();
            if new {
                inner.reserve.push_back(task.record.clone());
                run.namespace = namespace;
            }
            if !run.seen.insert(task.clone()) {
                continue;
            }
            if let Some(reported) = run.reported {
                run.answered = true;
                if inner.measuring {
                    inner.latencies.push(at.saturating_duration_since(reported));
                }
            }
            run.open.insert(task, spoke);
        }
    }

    /// The tasks of a spoke that are to be done.
    pub fn of_spoke(&self, tasks: &HashSet<TaskId>) -> Vec<TaskId> {
        let inner = self.lock();
        let open =
            |task: &&TaskId| inner.runs.get(&task.record).is_some_and(|run| run.open.contains_key(task));
        tasks.iter().filter(open).cloned().collect()
    }

    /// Takes a task to end of the runs whose turn it is, of which there are to be so many. Gives none if
    /// all of them wait for their next.
    pub fn take(&self, active: usize) -> Option<Due> {
        let inner = &mut *self.lock();
        while inner.active.len() < active
            && let Some(next) = inner.reserve.pop_front()
        {
            inner.active.push_back(next);
        }
        for _ in 0..inner.active.len() {
            let uid = inner.active.pop_front()?;
            let run = inner.runs.get_mut(&uid)?;
            let Some((task, spoke)) = run.open.pop_first() else {
                inner.active.push_back(uid);
                continue;
            };
            let last = run.open.is_empty();
            let namespace = run.namespace.clone();
            if last && task.step == "Cleanup" {
                // It is over with this one.
                inner.runs.remove(&uid);
                return Some(Due { task, namespace, spoke, last: false });
            }
            inner.active.push_back(uid);
            return Some(Due { task, namespace, spoke, last });
        }
        None
    }

    /// The report that ends a task is sent now.
    pub fn reporting(&self, due: &Due, at: Instant) {
        if due.last
            && let Some(run) = self.lock().runs.get_mut(&due.task.record)
        {
            (run.reported, run.answered) = (Some(at), false);
        }
    }

    /// The report was taken.
    pub fn reported(&self) {
        self.lock().ended += 1;
    }

    /// A request of a spoke failed.
    pub fn failed(&self, why: String) {
        let refused = &mut self.lock().refused;
        refused.get_or_insert((0, why)).0 += 1;
    }

    /// How many requests failed, and the first.
    pub fn refused(&self) -> Option<(usize, String)> {
        self.lock().refused.clone()
    }

    /// How many migrations are under way: have been given a task and have not ended.
    pub fn under_way(&self) -> usize {
        self.lock().runs.len()
    }

    /// Counts from now on, or not any more.
    pub fn measure(&self, measuring: bool) {
        let mut inner = self.lock();
        inner.measuring = measuring;
        inner.ended = 0;
    }

    /// How many runs wait for the task that follows their report.
    pub fn awaited(&self) -> usize {
        self.lock().runs.values().filter(|run| run.reported.is_some() && !run.answered).count()
    }

    /// How many reports that end a task were taken while it was measured.
    pub fn ended(&self) -> usize {
        self.lock().ended
    }

    /// The times from report to next task.
    pub fn latencies(&self) -> Vec<Duration> {
        self.lock().latencies.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(ledger: &Ledger, spoke: usize, tasks: &[&str], at: Instant) {
        let tasks = tasks.iter().map(|task| (task.parse().unwrap(), "ns".to_owned())).collect();
        ledger.listed(spoke, tasks, at);
    }

    fn end(ledger: &Ledger, at: Instant) -> (String, bool) {
        let due = ledger.take(1).unwrap();
        ledger.reporting(&due, at);
        ledger.reported();
        (due.task.to_string(), due.last)
    }

    #[test]
    fn time_is_taken_from_the_last_report_of_a_step_to_each_task_of_the_next() {
        let ledger = Ledger::default();
        ledger.measure(true);
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        list(&ledger, 0, &["m/FinalVolumes/send.v"], start);
        list(&ledger, 1, &["m/FinalVolumes/receive.v"], start);
        assert_eq!(end(&ledger, at(10)), ("m/FinalVolumes/receive.v".into(), false));
        assert_eq!(ledger.awaited(), 0);
        assert_eq!(end(&ledger, at(20)), ("m/FinalVolumes/send.v".into(), true));
        assert_eq!(ledger.awaited(), 1);
        // A list that was on its way says nothing new.
        list(&ledger, 0, &["m/FinalVolumes/send.v"], at(25));
        assert_eq!((ledger.awaited(), ledger.take(1)), (1, None));
        list(&ledger, 0, &["m/Cleanup/source"], at(50));
        list(&ledger, 1, &["m/Cleanup/destination"], at(60));
        assert_eq!(ledger.latencies(), [30, 40].map(Duration::from_millis));
        assert_eq!((ledger.awaited(), ledger.under_way()), (0, 1));
        end(&ledger, at(70));
        assert!(!end(&ledger, at(80)).1, "nothing follows");
        assert_eq!((ledger.under_way(), ledger.awaited(), ledger.ended()), (0, 0, 4));
    }

    #[test]
    fn only_so_many_runs_go_on_and_the_next_takes_the_place_of_one_that_ended() {
        let ledger = Ledger::default();
        let now = Instant::now();
        list(&ledger, 0, &["a/Verify/destination", "b/Cleanup/source", "c/Verify/destination"], now);
        let mut ended = Vec::new();
        while let Some(due) = ledger.take(2) {
            ended.push(due.task.record);
        }
        assert_eq!(ended, ["a", "b", "c"]);
        assert_eq!(ledger.under_way(), 2);
    }
}
