//! Applications started and stopped for good: at the end of a migration, and when a person says so.

use isthmus_shared::protocol::{Outcome, Run};
use isthmus_shared::resources::TargetState;

use super::charge::{Charge, Owners};
use super::inventory::{Reader, Workload};
use super::leftover::{self, Arrived};
use super::switch::{Aim, bring, bring_all, by_turns};
use super::{Tools, fence, operators};
use crate::cluster::ClusterError;
use crate::task::{TaskContext, TaskError};

/// Starts the applications of the run's namespaces at the counts that were kept, the run's operators
/// before them. In a cutover their namespaces are marked as the active ones before, and what is gone from
/// its source stays stopped.
pub async fn start_applications(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    let tools = Tools::lenient(context).await?;
    let reader = tools.reader(context);
    let arrived = Arrived::read(context, run).await?;
    if run.spec.quiesce {
        for namespace in run.destinations() {
            fence::mark(context, namespace, true, Some(&fence::of_destination(run, namespace))).await?;
        }
    }
    let starts = |workload: &Workload| {
        let gone = arrived.as_ref().is_some_and(|arrived| arrived.lacks(&workload.object));
        if gone
            && tools.registry.way(&workload.object).is_some_and(|way| way.kept(&workload.object).is_some())
        {
            leftover::tell(context, run, &workload.object);
        }
        !gone
    };
    let mut changed = 0;
    for operator in operators::to_start(reader, run).await?.into_iter().filter(starts) {
        changed += usize::from(bring(context, reader.registry, operator, Aim::Start).await?.is_some());
    }
    let operators_stop = !run.spec.operators.is_empty();
    for namespace in run.destinations() {
        let aim = (TargetState::Active, operators_stop);
        changed += switch_all(context, reader, namespace, aim, starts).await?;
    }
    Ok(Outcome::Workloads { workloads: u32::try_from(changed).unwrap_or(u32::MAX) })
}

/// Starts or stops a namespace's applications. What was handed over to the other side is started only
/// where that is `cleared`; what is handed over now is marked so before it is stopped.
pub async fn activate(
    context: &TaskContext,
    namespace: &str,
    wanted: TargetState,
    (cleared, handed_over_to): (bool, Option<&str>),
) -> Result<Outcome, TaskError> {
    let object = format!("Namespace {namespace}");
    let found = context
        .cluster()
        .find(&format!("/api/v1/namespaces/{namespace}"))
        .await
        .map_err(|e| TaskError::cluster(&object, "reading it", &e))?;
    let Some(found) = found else {
        if handed_over_to.is_some() {
            return Ok(Outcome::Workloads { workloads: 0 });
        }
        let message =
            format!("cluster {} has no such namespace: check the name and the cluster", context.spoke.name);
        return Err(TaskError::failed(object, "NamespaceNotFound", message));
    };
    let starts = wanted == TargetState::Active;
    if let Some(refusal) = fence::active_elsewhere(&found).filter(|_| starts && !cleared) {
        return Err(TaskError::Failed(refusal.into()));
    }
    if starts {
        fence::follow(context, &found, true).await?;
    } else if handed_over_to.is_some() {
        fence::mark(context, namespace, false, handed_over_to).await?;
    }
    let tools = Tools::lenient(context).await?;
    let changed = switch_all(context, tools.reader(context), namespace, (wanted, false), |_| true).await?;
    if !starts {
        fence::follow(context, &found, false).await?;
    }
    Ok(Outcome::Workloads { workloads: u32::try_from(changed).unwrap_or(u32::MAX) })
}

async fn switch_all(
    context: &TaskContext,
    reader: Reader<'_>,
    namespace: &str,
    (wanted, operators_stop): (TargetState, bool),
    concerned: impl Fn(&Workload) -> bool,
) -> Result<usize, TaskError> {
    let asking =
        |e: ClusterError| TaskError::cluster(format!("Namespace {namespace}"), "listing its workloads", &e);
    let all = reader.workloads(namespace).await.map_err(asking)?;
    let mut owners = Owners::default();
    for workload in &all {
        owners.note(reader.registry, &workload.object);
    }
    let ours: Vec<Workload> = all
        .iter()
        .filter(|workload| owners.charge(reader.registry, &workload.object, operators_stop) == Charge::Ours)
        .filter(|workload| concerned(workload))
        .cloned()
        .collect();
    context.progress(|p| p.objects_total += ours.len() as u64);
    let starts = wanted == TargetState::Active;
    let aim = if starts { Aim::Start } else { Aim::Stop };
    let mut changed = 0;
    for turn in by_turns(reader.registry, ours, starts) {
        let of_turn = turn.len() as u64;
        changed += bring_all(context, reader.registry, turn, aim).await?.len();
        context.progress(|p| p.objects_done += of_turn);
    }
    Ok(changed)
}
