//! The source started again, exactly as it was before a migration stopped it.
//!
//! What carries the migration's mark is started, and nothing else: operators first, then workloads, then
//! the custom resources that were told to stop. It is looked until nothing carries the mark any more,
//! since a stop that was under way when the run was called off may land after the first look.

use isthmus_shared::protocol::{Outcome, Run};

use super::charge::{Charge, Owners};
use super::inventory::{Reader, Workload};
use super::state::is_quiesced_by;
use super::switch::{Aim, bring, bring_all, by_turns};
use super::{Tools, fence, operators};
use crate::cluster::{ClusterError, describe};
use crate::findings::{Findings, finding};
use crate::task::{TaskContext, TaskError};

/// Looks until nothing is left; more mean that something writes the mark anew.
const MAX_LOOKS: usize = 5;

/// Starts what the undone run stopped.
pub async fn restore_source(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    let tools = Tools::lenient(context).await?;
    let reader = tools.reader(context);
    let migration = run.undone();
    let mut namespaces = Vec::new();
    for namespace in run.sources() {
        if fence::mark(context, namespace, true, Some(&fence::of_source(run, namespace))).await? {
            namespaces.push(namespace);
        } else {
            let message = "it is gone, so nothing in it can be started again: restore it if it is needed";
            context.warn(finding(format!("Namespace {namespace}"), "NamespaceNotFound", message));
        }
    }
    let mut started = 0;
    let (operators, missing) = operators::find(reader, run).await?;
    for warning in missing.list {
        context.warn(warning);
    }
    for operator in operators {
        started +=
            usize::from(bring(context, reader.registry, operator, Aim::Restore(migration)).await?.is_some());
    }
    for _ in 0..MAX_LOOKS {
        let marked = marked(reader, &namespaces, run).await?;
        if marked.is_empty() {
            return Ok(Outcome::Workloads { workloads: u32::try_from(started).unwrap_or(u32::MAX) });
        }
        context.progress(|progress| progress.objects_total = (started + marked.len()) as u64);
        let mut failures = Findings::default();
        // One that cannot be started keeps no other from it.
        for turn in by_turns(reader.registry, marked, true) {
            match bring_all(context, reader.registry, turn, Aim::Restore(migration)).await {
                Ok(changed) => started += changed.len(),
                Err(TaskError::Failed(found)) => failures.append(found),
                Err(transient) => return Err(transient),
            }
        }
        context.progress(|progress| progress.objects_done = started as u64);
        if !failures.is_empty() {
            return Err(TaskError::Failed(failures));
        }
    }
    let left = marked(reader, &namespaces, run).await?;
    let Some(first) = left.first() else {
        return Ok(Outcome::Workloads { workloads: u32::try_from(started).unwrap_or(u32::MAX) });
    };
    let message = "it is marked as stopped by the run again and again: look at what writes the annotation \
                   isthmus.dev/quiesced-by, then run again";
    Err(TaskError::failed(describe(&first.object), "MarkedAgain", message))
}

/// What carries the mark, and is not its owner's to start: Deployments hand their annotations on to
/// what they make, as some operators do.
async fn marked(reader: Reader<'_>, namespaces: &[&str], run: &Run) -> Result<Vec<Workload>, TaskError> {
    let operators_stop = !run.spec.operators.is_empty();
    let mut all = Vec::new();
    for namespace in namespaces {
        let failed = |e: ClusterError| {
            TaskError::cluster(format!("Namespace {namespace}"), "listing what was stopped in it", &e)
        };
        let found = reader.workloads(namespace).await.map_err(failed)?;
        let mut owners = Owners::default();
        for workload in &found {
            owners.note(reader.registry, &workload.object);
        }
        let ours = |workload: &Workload| is_quiesced_by(&workload.object, run.undone());
        let marked: Vec<Workload> = found.into_iter().filter(ours).collect();
        reader.complete(&mut owners, marked.iter().map(|w| &w.object)).await.map_err(failed)?;
        all.extend(marked.into_iter().filter(|workload| {
            owners.charge(reader.registry, &workload.object, operators_stop) == Charge::Ours
        }));
    }
    Ok(all)
}
