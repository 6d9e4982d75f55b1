//! The source brought to a stand, each workload remembered; and the destination, without.
//!
//! In this order: what cannot be stopped is told before anything is changed; the namespaces are marked
//! as not the active ones; operators that the run names stop; then all else, until the Pods have gone;
//! then the volumes are let go by their nodes.

use isthmus_shared::protocol::{Outcome, Run};
use isthmus_shared::resources::Step;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::inventory::{Reader, Workload};
use super::patience::Patience;
use super::standstill::Standstill;
use super::switch::Aim;
use super::{Tools, detached, fence, operators};
use crate::task::{TaskContext, TaskError};

/// Stops the source's applications; done only when all stand still.
pub async fn quiesce(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    let tools = Tools::strict(context).await?;
    let reader = tools.reader(context);
    let namespaces: Vec<String> = run.sources().map(str::to_owned).collect();
    let patience = Patience::of(&run.spec, Step::Quiesce);
    let (operators, missing) = operators::find(reader, run).await?;
    if !missing.is_empty() {
        return Err(TaskError::Failed(missing));
    }
    let standstill = Standstill {
        context,
        reader,
        namespaces: namespaces.clone(),
        mark: Some(&run.migration),
        operators_stop: !operators.is_empty(),
        patience,
    };
    standstill.survey().await?;
    for namespace in &namespaces {
        if !fence::mark(context, namespace, false, Some(&fence::of_source(run, namespace))).await? {
            let message = "it is gone: it was there at the start of the run; run again";
            return Err(TaskError::failed(format!("Namespace {namespace}"), "NamespaceNotFound", message));
        }
    }
    let aim = Aim::Quiesce(&run.migration);
    let operators: Vec<_> = operators.into_iter().map(|operator| (operator, aim)).collect();
    operators::stop(context, reader, &operators, patience).await?;
    let stopped = standstill.stop().await?;
    detached::wait(context, reader, &namespaces, patience).await?;
    context.log(format!(
        "{} workloads stand still, {} of them were stopped",
        stopped.workloads, stopped.changed
    ));
    Ok(Outcome::Quiesced {
        workloads: u32::try_from(stopped.workloads).unwrap_or(u32::MAX),
        stopped_at: Some(Time(stopped.at)),
    })
}

/// Stops the applications in the destination's namespaces, and the run's operators before them, and waits
/// until their Pods have gone. Namespaces that are not there are stopped.
pub async fn stop_destination(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    let tools = Tools::lenient(context).await?;
    let reader: Reader<'_> = tools.reader(context);
    let mut namespaces = Vec::new();
    for namespace in run.destinations() {
        if fence::mark(context, namespace, false, Some(&fence::of_destination(run, namespace))).await? {
            namespaces.push(namespace.to_owned());
        }
    }
    let patience = Patience::of(&run.spec, Step::StopDestination);
    // One outside of the run's namespaces starts again when what it manages there is removed.
    let aim = |operator: &Workload| {
        if operators::is_outside(run, operator) { Aim::Quiesce(run.undone()) } else { Aim::Stop }
    };
    let operators: Vec<_> = operators::on_destination(reader, run)
        .await?
        .into_iter()
        .map(|operator| {
            let aim = aim(&operator);
            (operator, aim)
        })
        .collect();
    operators::stop(context, reader, &operators, patience).await?;
    let standstill = Standstill {
        context,
        reader,
        namespaces,
        mark: None,
        operators_stop: !operators.is_empty(),
        patience,
    };
    let stopped = standstill.stop().await?;
    Ok(Outcome::Workloads { workloads: u32::try_from(stopped.changed).unwrap_or(u32::MAX) })
}

/// Lets the operators start again that going back has stopped beside the run's namespaces.
pub async fn release_operators(context: &TaskContext, run: &Run) -> Result<(), TaskError> {
    if run.spec.operators.is_empty() {
        return Ok(());
    }
    let tools = Tools::lenient(context).await?;
    operators::release(context, tools.reader(context), run).await
}
