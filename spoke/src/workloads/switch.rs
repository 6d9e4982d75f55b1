//! Workloads brought into a state, one conflict-checked patch each.

use futures::stream::{self, StreamExt};
use serde_json::{Value, json};

use super::inventory::Workload;
use super::rules::Registry;
use super::state::{self, BadKept, Way};
use crate::cluster::{PatchKind, describe, text};
use crate::findings::{Findings, finding};
use crate::task::{TaskContext, TaskError};

/// Workloads that are patched at a time.
const PARALLEL: usize = 8;
/// How often a patch is made anew because the object changed meanwhile.
const MAX_CONFLICTS: usize = 10;

/// What is to become of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim<'a> {
    /// It runs as it did.
    Start,
    /// It is stopped.
    Stop,
    /// It is stopped, if it runs, with a migration's mark.
    Quiesce(&'a str),
    /// It runs as it did, if it carries the migration's mark.
    Restore(&'a str),
    /// It stays stopped, and what it had is forgotten.
    Forget,
}

impl Aim<'_> {
    fn patch(self, way: Way<'_>, object: &Value) -> Result<Option<Value>, BadKept> {
        match self {
            Self::Start => way.start(object),
            Self::Stop => Ok(way.stop(object)),
            Self::Quiesce(migration) => Ok(way.quiesce(object, migration)),
            Self::Restore(migration) => way.restore(object, migration),
            Self::Forget => Ok(way.forget(object)),
        }
    }

    /// What was done, for the log.
    fn done(self) -> &'static str {
        match self {
            Self::Start | Self::Restore(_) => "started",
            Self::Stop | Self::Quiesce(_) => "stopped",
            Self::Forget => "stays stopped for good",
        }
    }

    fn starts(self) -> bool {
        matches!(self, Self::Start | Self::Restore(_))
    }
}

/// Brings workloads into a state, some at a time, and returns those that were changed. All are
/// tried; what failed is told together.
pub async fn bring_all(
    context: &TaskContext,
    registry: &Registry,
    workloads: Vec<Workload>,
    aim: Aim<'_>,
) -> Result<Vec<Value>, TaskError> {
    let mut changed = Vec::new();
    let mut failures = Findings::default();
    let brought: Vec<_> =
        workloads.into_iter().map(|workload| bring(context, registry, workload, aim)).collect();
    let mut results = stream::iter(brought).buffer_unordered(PARALLEL);
    while let Some(result) = results.next().await {
        match result {
            Ok(Some(after)) => changed.push(after),
            Ok(None) => {}
            Err(TaskError::Failed(found)) => failures.append(found),
            Err(transient) => return Err(transient),
        }
    }
    if failures.is_empty() { Ok(changed) } else { Err(TaskError::Failed(failures)) }
}

/// Brings one workload into a state, and returns it if it was changed. The patch names the version
/// that it was made for, so it never meets an object that somebody changed meanwhile.
pub async fn bring(
    context: &TaskContext,
    registry: &Registry,
    workload: Workload,
    aim: Aim<'_>,
) -> Result<Option<Value>, TaskError> {
    let path = workload.path();
    let Workload { mut object, .. } = workload;
    let what = describe(&object);
    for _ in 0..MAX_CONFLICTS {
        let Some(way) = registry.way(&object).filter(|_| !state::has_finished(&object)) else {
            return Ok(None);
        };
        let patch =
            aim.patch(way, &object).map_err(|e| TaskError::failed(&what, "BadKeptValue", e.to_string()))?;
        let Some(mut patch) = patch else { return Ok(None) };
        patch["metadata"]["resourceVersion"] = json!(text(&object, "/metadata/resourceVersion"));
        match context.cluster().patch(&path, &patch, PatchKind::Merge).await {
            Ok(after) => {
                context.log(format!("{what} {}{}", aim.done(), count(&after, &object, aim)));
                return Ok(Some(after));
            }
            Err(error) if error.is_conflict() => match context.cluster().find(&path).await {
                Ok(Some(newer)) => object = newer,
                Ok(None) => return Ok(None),
                Err(error) => return Err(TaskError::cluster(&what, "reading it", &error)),
            },
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(TaskError::cluster(&what, "starting or stopping it", &error)),
        }
    }
    Err(TaskError::Transient(finding(
        what,
        "Conflict",
        format!(
            "it changed {MAX_CONFLICTS} times while it was to be patched: look at what keeps changing it"
        ),
    )))
}

/// Ruled ones and others: operators stop before what is stopped under them, and start after it.
pub fn by_turns(registry: &Registry, workloads: Vec<Workload>, starts: bool) -> [Vec<Workload>; 2] {
    let (ruled, others): (Vec<_>, Vec<_>) = workloads
        .into_iter()
        .partition(|workload| matches!(registry.way(&workload.object), Some(Way::Rule(_))));
    if starts { [others, ruled] } else { [ruled, others] }
}

fn count(after: &Value, before: &Value, aim: Aim<'_>) -> String {
    let with = if aim.starts() { after } else { before };
    match state::switch(with) {
        Some(state::Switch::Replicas) => format!(" ({} replicas)", state::replicas(with)),
        _ => String::new(),
    }
}
