//! What a task is said to have found and done: what a spoke would say of a small application with one
//! volume.

use isthmus_shared::protocol::Progress;
use isthmus_shared::protocol::{Outcome, TaskId, TaskReport, TaskState, VolumeFacts};
use isthmus_shared::resources::{NamespaceMove, ResourceCounts, Verified};

/// Objects of the application.
const OBJECTS: u64 = 14;
/// Bytes of its volume.
const BYTES: u64 = 64 * 1024 * 1024;

/// The report that a task has succeeded; `namespace` is the run's.
pub fn succeeded(task: &TaskId, namespace: &str, sequence: u64) -> TaskReport {
    report(task, sequence, TaskState::Succeeded, Progress::default(), Some(outcome(task, namespace)))
}

/// The report that a task is at work, a little further each time.
pub fn running(task: &TaskId, seconds: u64, sequence: u64) -> TaskReport {
    let progress = if task.item.as_deref().is_some_and(|item| item.contains('.')) {
        let done = (seconds * 1024 * 1024).min(BYTES);
        Progress { bytes_done: done, bytes_total: BYTES, bytes_uploaded: done, ..Progress::default() }
    } else {
        Progress { message: Some(format!("at work for {seconds} s")), ..Progress::default() }
    };
    report(task, sequence, TaskState::Running, progress, None)
}

fn report(
    task: &TaskId,
    sequence: u64,
    state: TaskState,
    progress: Progress,
    outcome: Option<Outcome>,
) -> TaskReport {
    TaskReport {
        task: task.clone(),
        sequence,
        state,
        progress,
        outcome,
        failures: Vec::new(),
        failures_total: 0,
        warnings: Vec::new(),
        warnings_total: 0,
    }
}

fn outcome(task: &TaskId, namespace: &str) -> Outcome {
    let counts =
        ResourceCounts { total: OBJECTS, done: OBJECTS, created: OBJECTS, ..ResourceCounts::default() };
    match (task.step.as_str(), task.item.as_deref()) {
        ("Preflight", Some("source")) => Outcome::SourceInspected {
            volumes: vec![VolumeFacts {
                only_at_rest: false,
                namespace: namespace.to_owned(),
                claim: "data".to_owned(),
                uid: format!("volume-of-{}", task.record),
                capacity_bytes: BYTES,
                last_pass: 0,
                last_complete_pass: None,
            }],
            objects: OBJECTS,
            namespaces: vec![NamespaceMove::same(namespace)],
        },
        ("Preflight", Some("destination")) => Outcome::Previewed { counts },
        ("ExportResources", _) => Outcome::Exported { counts },
        ("ApplyResources" | "Verify", _) => Outcome::Applied { counts },
        ("StageVolumes" | "FinalVolumes", _) => Outcome::VolumeMoved {
            bytes: BYTES,
            bytes_uploaded: BYTES / 2,
            files: 100,
            verified: Verified::default(),
            method: Some("Live".to_owned()),
        },
        _ => Outcome::Done,
    }
}
