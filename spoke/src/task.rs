//! What a task has at hand while it runs, and how it may end.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use isthmus_shared::protocol::{Progress, Run, TaskId};
use isthmus_shared::resources::{Finding, Step};
use isthmus_shared::staging::ArchiveError;

use crate::cluster::{Cluster, ClusterError};
use crate::findings::{Findings, finding};
use crate::hooks::Renewals;
use crate::journals::{Journal, Journals};
use crate::serve::MoverSettings;
use crate::staging_area::{StagingArea, StagingError, Stores};
use crate::volumes::{Nodes, Sessions};

/// What all tasks of this spoke share.
pub struct Spoke {
    /// The cluster that it runs for.
    pub cluster: Cluster,
    /// The name of its `Cluster` record.
    pub name: String,
    /// The namespace that it lives in.
    pub namespace: String,
    /// How movers are started.
    pub movers: MoverSettings,
    /// The movers that are at work.
    pub sessions: Sessions,
    /// The nodes of the cluster.
    pub nodes: Nodes,
    /// Whether hooks may be commands in Pods.
    pub hook_commands: bool,
    /// What hooks hold.
    pub renewals: Renewals,
    /// Opened stores.
    pub stores: Stores,
    /// Opened logs.
    pub journals: Journals,
}

/// Why a task ended without being done.
#[derive(Debug)]
pub enum TaskError {
    /// A person has to change something.
    Failed(Findings),
    /// It may pass by itself; the task is begun again a little later.
    Transient(Finding),
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(findings) => {
                let messages: Vec<&str> =
                    findings.list.iter().map(|finding| finding.message.as_str()).collect();
                f.write_str(&messages.join("; "))
            }
            Self::Transient(finding) => f.write_str(&finding.message),
        }
    }
}

impl TaskError {
    /// A failure with one finding.
    pub fn failed(object: impl Into<String>, reason: &str, message: impl Into<String>) -> Self {
        Self::Failed(finding(object, reason, message).into())
    }

    /// A call to the API server that was not carried out.
    pub fn cluster(object: impl Into<String>, doing: &str, error: &ClusterError) -> Self {
        let advice = match error.code() {
            Some(401 | 403) => {
                "grant the spoke's service account what its ClusterRole in deploy/ lists, then run again"
            }
            Some(404) => "check that it was not removed meanwhile, then run again",
            _ => "look at the API server's answer, correct what it names, then run again",
        };
        let finding = finding(object, error.reason(), format!("{doing} failed: {error}; {advice}"));
        if error.is_transient() { Self::Transient(finding) } else { Self::Failed(finding.into()) }
    }
}

impl From<ArchiveError> for TaskError {
    fn from(error: ArchiveError) -> Self {
        let (object, transient) = match &error {
            ArchiveError::Store { archive, source } => (archive.clone(), source.is_retryable()),
            ArchiveError::Seal { archive, .. }
            | ArchiveError::Missing { archive }
            | ArchiveError::Damaged { archive, .. } => (archive.clone(), false),
            _ => ("staging".to_owned(), false),
        };
        let reason = match &error {
            ArchiveError::Store { source, .. } => source.reason(),
            ArchiveError::Missing { .. } => "ArchiveMissing",
            ArchiveError::ObjectTooLarge { .. } => "ObjectTooLarge",
            _ => "ArchiveDamaged",
        };
        let finding = finding(format!("archive {object}"), reason, error.to_string());
        if transient { Self::Transient(finding) } else { Self::Failed(finding.into()) }
    }
}

impl From<StagingError> for TaskError {
    fn from(error: StagingError) -> Self {
        Self::failed("staging", "StagingUnusable", error.to_string())
    }
}

/// What changes while a task runs, and is reported.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// How far it is.
    pub progress: Progress,
    /// What a person should know.
    pub warnings: Findings,
}

/// One task at work.
#[derive(Clone)]
pub struct TaskContext {
    /// The task.
    pub id: TaskId,
    /// What it shares with others.
    pub spoke: Arc<Spoke>,
    standing: Arc<Mutex<Standing>>,
    changed: Arc<tokio::sync::Notify>,
    journal: Option<Journal>,
}

impl TaskContext {
    /// A task that is about to begin; `run` is its migration.
    pub fn new(spoke: Arc<Spoke>, id: TaskId, run: Option<&Run>, changed: Arc<tokio::sync::Notify>) -> Self {
        let area = run.and_then(|run| StagingArea::open(&spoke.stores, run).ok());
        let journal = area.map(|area| spoke.journals.of(&area, &spoke.name));
        Self { id, spoke, standing: Arc::default(), changed, journal }
    }

    /// The step of the migration.
    pub fn step(&self) -> Option<Step> {
        serde_json::from_value(serde_json::Value::from(self.id.step.as_str())).ok()
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.spoke.cluster
    }

    /// The run's staging.
    pub fn staging(&self, run: &Run) -> Result<StagingArea, TaskError> {
        Ok(StagingArea::open(&self.spoke.stores, run)?)
    }

    /// Notes how far it is.
    pub fn progress(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.standing.lock().unwrap_or_else(PoisonError::into_inner).progress);
        self.changed.notify_one();
    }

    /// Says what it is doing or waiting for.
    pub fn doing(&self, message: impl Into<String>) {
        let message = message.into();
        self.progress(|progress| progress.message = Some(message));
    }

    /// Notes what a person should know, here and in the log.
    pub fn warn(&self, mut warning: Finding) {
        warning.step = self.step();
        self.log(format!("warning: {}: {}: {}", warning.object, warning.reason, warning.message));
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).warnings.push(warning);
        self.changed.notify_one();
    }

    /// Counts warnings of which nothing more is kept.
    pub fn count_warnings(&self, more: u64) {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).warnings.total += more;
        self.changed.notify_one();
    }

    /// Adds a line to the migration's log.
    pub fn log(&self, line: impl Into<String>) {
        let line = line.into();
        tracing::info!(task = %self.id, "{line}");
        if let Some(journal) = &self.journal {
            let item = self.id.item.as_deref().map(|item| format!("/{item}")).unwrap_or_default();
            journal.line(format!("{}{item}: {line}", self.id.step));
        }
    }

    /// Waits until the log is written, but not for long.
    pub async fn flush_log(&self) {
        if let Some(journal) = &self.journal {
            journal.flush().await;
        }
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets how far an earlier attempt came.
    pub fn begin_again(&self) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = Standing::default();
    }
}
