//! Stops and starts all workloads of a namespace.

use futures::stream::{self, StreamExt};
use isthmus_shared::protocol::{Outcome, Run};
use isthmus_shared::resources::TargetState;
use serde_json::{Value, json};

use super::{state, workloads};
use crate::cluster::{Catalogue, Kind, PatchKind, array, describe, discover, name, text};
use crate::findings::{Findings, finding};
use crate::task::{TaskContext, TaskError};

/// Workloads that are patched at a time.
const PARALLEL: usize = 8;
/// How often a patch is made anew because the object changed meanwhile.
const MAX_CONFLICTS: usize = 10;

/// Starts the applications of the run's namespaces at the counts that were kept.
pub async fn start_applications(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    let mut changed = 0;
    for namespace in run.destinations() {
        changed += switch_all(context, namespace, TargetState::Active).await?;
    }
    Ok(Outcome::Workloads { workloads: changed })
}

/// Starts or stops a namespace's applications.
pub async fn activate(
    context: &TaskContext,
    namespace: &str,
    wanted: TargetState,
) -> Result<Outcome, TaskError> {
    let object = format!("Namespace {namespace}");
    let found = context
        .cluster()
        .find(&format!("/api/v1/namespaces/{namespace}"))
        .await
        .map_err(|e| TaskError::cluster(&object, "reading it", &e))?;
    if found.is_none() {
        let message =
            format!("cluster {} has no such namespace: check the name and the cluster", context.spoke.name);
        return Err(TaskError::failed(object, "NamespaceNotFound", message));
    }
    Ok(Outcome::Workloads { workloads: switch_all(context, namespace, wanted).await? })
}

async fn switch_all(context: &TaskContext, namespace: &str, wanted: TargetState) -> Result<u32, TaskError> {
    let asking = |e| TaskError::cluster(format!("Namespace {namespace}"), "listing its workloads", &e);
    let catalogue: Catalogue = discover(context.cluster()).await.map_err(asking)?;
    let all = workloads(context.cluster(), &catalogue, namespace).await.map_err(asking)?;
    context.progress(|p| p.objects_total += all.len() as u64);
    let mut changed = 0;
    let mut failures = Findings::default();
    let switches: Vec<_> =
        all.into_iter().map(|(kind, object)| switch(context, kind, object, wanted)).collect();
    let mut results = stream::iter(switches).buffer_unordered(PARALLEL);
    while let Some(result) = results.next().await {
        context.progress(|p| p.objects_done += 1);
        match result {
            Ok(Some(line)) => {
                changed += 1;
                context.log(line);
            }
            Ok(None) => {}
            Err(TaskError::Failed(found)) => failures.extend(found.list),
            Err(transient) => return Err(transient),
        }
    }
    if failures.is_empty() { Ok(changed) } else { Err(TaskError::Failed(failures)) }
}

/// Brings one workload into the state. The patch names the version that it was made for, so it
/// never meets an object that somebody changed meanwhile.
async fn switch(
    context: &TaskContext,
    kind: Kind,
    mut object: Value,
    wanted: TargetState,
) -> Result<Option<String>, TaskError> {
    let what = describe(&object);
    let path = kind.object(Some(text(&object, "/metadata/namespace")), name(&object));
    for _ in 0..MAX_CONFLICTS {
        if has_finished(&object) {
            return Ok(None);
        }
        let patch = match wanted {
            TargetState::Inactive => state::stop(&object),
            TargetState::Active => {
                state::start(&object).map_err(|e| TaskError::failed(&what, "BadKeptValue", e.to_string()))?
            }
        };
        let Some(mut patch) = patch else { return Ok(None) };
        patch["metadata"]["resourceVersion"] = json!(text(&object, "/metadata/resourceVersion"));
        match context.cluster().patch(&path, &patch, PatchKind::Merge).await {
            Ok(after) => {
                let done = if wanted == TargetState::Active { "started" } else { "stopped" };
                return Ok(Some(format!("{what} {done}{}", count(&after, &object, wanted))));
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

fn count(after: &Value, before: &Value, wanted: TargetState) -> String {
    let with = if wanted == TargetState::Active { after } else { before };
    match state::switch(with) {
        Some(state::Switch::Replicas) => format!(" ({} replicas)", state::replicas(with)),
        _ => String::new(),
    }
}

/// A Job that has run cannot be suspended any more, and need not be.
fn has_finished(object: &Value) -> bool {
    crate::cluster::kind(object) == "Job"
        && array(object, "/status/conditions")
            .iter()
            .any(|c| matches!(text(c, "/type"), "Complete" | "Failed") && text(c, "/status") == "True")
}
