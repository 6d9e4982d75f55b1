//! What movers that call in are granted, and what they last said.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use isthmus_shared::protocol::{MoverGrant, Progress, TaskId};

/// The movers' side of the running tasks.
#[derive(Default)]
pub struct Sessions {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// A list of tasks has come: what is not in it is not wanted.
    listed: bool,
    expected: HashSet<TaskId>,
    open: HashMap<TaskId, Open>,
}

struct Open {
    grant: MoverGrant,
    progress: Option<Progress>,
}

/// How a task stands for its mover.
#[derive(Debug)]
pub enum Standing {
    /// It may work.
    Granted(Box<MoverGrant>),
    /// The spoke does not know yet.
    NotYet,
    /// Nobody asks for it any more.
    Unwanted,
}

impl Sessions {
    /// The hub lists the task.
    pub fn expect(&self, task: &TaskId) {
        self.inner().expected.insert(task.clone());
    }

    /// All tasks of the hub's list are known.
    pub fn listed(&self) {
        self.inner().listed = true;
    }

    /// The hub lists the task no more.
    pub fn close(&self, task: &TaskId) {
        let mut inner = self.inner();
        inner.expected.remove(task);
        inner.open.remove(task);
    }

    /// The task's mover may work.
    pub fn open(&self, task: &TaskId, grant: MoverGrant) {
        let mut inner = self.inner();
        let progress = inner.open.remove(task).and_then(|open| open.progress);
        inner.open.insert(task.clone(), Open { grant, progress });
    }

    /// What the task's mover is to be told.
    pub fn standing(&self, task: &TaskId) -> Standing {
        let inner = self.inner();
        match inner.open.get(task) {
            Some(open) => Standing::Granted(Box::new(open.grant.clone())),
            None if inner.listed && !inner.expected.contains(task) => Standing::Unwanted,
            None => Standing::NotYet,
        }
    }

    /// Notes how far a mover is; tells whether it may go on.
    pub fn progress(&self, task: &TaskId, progress: Progress) -> bool {
        let mut inner = self.inner();
        if let Some(open) = inner.open.get_mut(task) {
            open.progress = Some(progress);
            return true;
        }
        !inner.listed || inner.expected.contains(task)
    }

    /// How far a task's mover is, if it has said so.
    pub fn latest(&self, task: &TaskId) -> Option<Progress> {
        self.inner().open.get(task)?.progress.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change is a single insertion or removal.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mover_is_cancelled_only_once_the_spoke_knows_that_nobody_asks_for_it() {
        let sessions = Sessions::default();
        let task: TaskId = "m/FinalVolumes/send.v".parse().unwrap();
        assert!(matches!(sessions.standing(&task), Standing::NotYet));
        assert!(sessions.progress(&task, Progress::default()));
        sessions.expect(&task);
        sessions.listed();
        assert!(matches!(sessions.standing(&task), Standing::NotYet));
        assert!(sessions.progress(&task, Progress::default()));
        sessions.close(&task);
        assert!(matches!(sessions.standing(&task), Standing::Unwanted));
        assert!(!sessions.progress(&task, Progress::default()));
    }
}
