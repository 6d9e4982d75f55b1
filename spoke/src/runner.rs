//! Runs what the hub lists, and nothing else: level-triggered.
//!
//! ```text
//!   polling ── the newest list ──▶ Runner ── perform ──▶ work.rs
//!                                     └── reports ─────▶ hub_link::Outbox
//! ```
//!
//! A task that is listed runs, once at a time; one that is listed no more is cancelled; one that
//! has ended is remembered for as long as it is listed, and said again at each list. A spoke that
//! starts anew begins every listed task again, which is harmless: each finds in cluster and
//! staging what is done.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use isthmus_shared::protocol::{Outcome, Task, TaskId, TaskList, TaskReport, TaskState};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;

use crate::findings::Findings;
use crate::hub_link::Outbox;
use crate::task::{Spoke, TaskContext, TaskError};
use crate::work;

/// Tasks that run at a time; volumes mostly wait for their movers.
const MAX_RUNNING: usize = 256;
/// How long a task goes on being begun again when what is in its way may pass by itself.
const PATIENCE: Duration = Duration::from_mins(10);
/// The shortest time between two reports of a running task.
const REPORT_EVERY: Duration = Duration::from_millis(750);
/// A running task without news is reported this often, so that the hub knows it is at work.
const REPEAT_EVERY: Duration = Duration::from_secs(30);

struct Entry {
    handle: JoinHandle<()>,
    /// Set when the task has ended.
    ended: Arc<Mutex<Option<TaskReport>>>,
}

/// Runs the tasks of a spoke.
pub struct Runner {
    spoke: Arc<Spoke>,
    outbox: Arc<Outbox>,
    slots: Arc<Semaphore>,
    entries: HashMap<TaskId, Entry>,
}

impl Runner {
    /// A runner without tasks.
    pub fn new(spoke: Arc<Spoke>, outbox: Arc<Outbox>) -> Self {
        Self { spoke, outbox, slots: Arc::new(Semaphore::new(MAX_RUNNING)), entries: HashMap::new() }
    }

    /// Follows the lists until there are no more to come; then stops what runs.
    pub async fn run(mut self, mut lists: watch::Receiver<Arc<TaskList>>) {
        while lists.changed().await.is_ok() {
            let list = Arc::clone(&lists.borrow_and_update());
            self.reconcile(&list);
        }
        for entry in self.entries.values() {
            entry.handle.abort();
        }
    }

    fn reconcile(&mut self, list: &TaskList) {
        let wanted: HashSet<&TaskId> = list.tasks.iter().map(|task| &task.id).collect();
        self.entries.retain(|id, entry| {
            let keep = wanted.contains(id);
            if !keep {
                if !entry.handle.is_finished() {
                    tracing::info!(task = %id, "cancelled: the hub lists it no more");
                }
                entry.handle.abort();
                self.outbox.forget(id);
                self.spoke.sessions.close(id);
            }
            keep
        });
        for task in &list.tasks {
            self.spoke.sessions.expect(&task.id);
            match self.entries.get(&task.id) {
                Some(entry) => {
                    let ended = entry.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    if let Some(report) = ended {
                        self.outbox.put(report);
                    }
                }
                None => {
                    self.begin(task.clone());
                }
            }
        }
        self.spoke.sessions.listed();
        let migrations =
            list.tasks.iter().filter_map(|t| t.work.run()).map(|run| run.migration.as_str()).collect();
        self.spoke.journals.keep_only(&migrations);
    }

    fn begin(&mut self, task: Task) {
        let ended = Arc::new(Mutex::new(None));
        let (spoke, outbox, slots) =
            (Arc::clone(&self.spoke), Arc::clone(&self.outbox), Arc::clone(&self.slots));
        let id = task.id.clone();
        let result = Arc::clone(&ended);
        let handle = tokio::spawn(async move {
            let Ok(_slot) = slots.acquire().await else { return };
            let report = Box::pin(attend(spoke, &outbox, task)).await;
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(report.clone());
            outbox.put(report);
        });
        self.entries.insert(id, Entry { handle, ended });
    }
}

/// Does a task and reports while it runs. The report of how it ended is the result.
async fn attend(spoke: Arc<Spoke>, outbox: &Outbox, task: Task) -> TaskReport {
    let changed = Arc::new(Notify::new());
    let context = TaskContext::new(spoke, task.id.clone(), task.work.run(), Arc::clone(&changed));
    tracing::info!(task = %task.id, "begun");
    outbox.put(running(&context));
    let result = {
        let work = do_patiently(&context, &task);
        tokio::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => break result,
                () = async {
                    tokio::time::sleep(REPORT_EVERY).await;
                    // Whether there is news or it is time to repeat: either way, report.
                    let _ = tokio::time::timeout(REPEAT_EVERY, changed.notified()).await;
                } => outbox.put(running(&context)),
            }
        }
    };
    let mut report = running(&context);
    match result {
        Ok(outcome) => {
            report.state = TaskState::Succeeded;
            report.outcome = Some(outcome);
            tracing::info!(task = %task.id, "done");
        }
        Err(mut findings) => {
            findings.at_step(context.step());
            for failure in &findings.list {
                context.log(format!("failed: {}: {}: {}", failure.object, failure.reason, failure.message));
            }
            report.state = TaskState::Failed;
            report.failures = findings.list;
            report.failures_total = findings.total;
        }
    }
    context.flush_log().await;
    report
}

fn running(context: &TaskContext) -> TaskReport {
    let standing = context.standing();
    TaskReport {
        task: context.id.clone(),
        sequence: 0,
        state: TaskState::Running,
        progress: standing.progress,
        outcome: None,
        failures: Vec::new(),
        failures_total: 0,
        warnings: standing.warnings.list,
        warnings_total: standing.warnings.total,
    }
}

/// Begins the task again while what is in its way may pass by itself.
async fn do_patiently(context: &TaskContext, task: &Task) -> Result<Outcome, Findings> {
    let started = Instant::now();
    let pauses = || {
        ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(Duration::from_secs(1))
            .with_max_delay(Duration::from_secs(20))
            .without_max_times()
            .build()
    };
    let mut pause = pauses();
    loop {
        let finding = match work::perform(context, &task.work).await {
            Ok(outcome) => return Ok(outcome),
            Err(TaskError::Failed(findings)) => return Err(findings),
            Err(TaskError::Transient(finding)) => finding,
        };
        if started.elapsed() > PATIENCE {
            return Err(finding.into());
        }
        context.log(format!("waiting: {}: {}", finding.object, finding.message));
        context.begin_again();
        context.doing(format!("trying again after: {}", finding.message));
        tokio::time::sleep(pause.next().unwrap_or(Duration::from_secs(20))).await;
    }
}
