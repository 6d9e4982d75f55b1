//! The operators that a run names: workloads that manage others, stopped before them and started
//! before them, on whichever side that is.
//!
//! On the destination one that lies outside of the run's namespaces was there before, and may manage
//! what others have: going back stops it, with the mark of the run that is undone, for as long as what
//! it would start again is there ([`release`]).

use std::time::Duration;

use isthmus_shared::protocol::Run;
use isthmus_shared::resources::{OperatorRef, QUIESCED_BY};
use serde_json::Value;
use tokio::time::Instant;

use super::charge::{has_ended, is_leaving, is_switch};
use super::inventory::{Reader, Workload};
use super::patience::Patience;
use super::state::is_quiesced_by;
use super::switch::{Aim, bring};
use crate::cluster::{annotation, array, describe, escape, namespace, text, uid};
use crate::findings::{Findings, finding};
use crate::task::{TaskContext, TaskError};

/// How often it is looked whether the Pods have gone.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long Kubernetes may take to collect what a custom resource owned that was removed.
const COLLECTED_WITHIN: Duration = Duration::from_mins(1);
/// Pods of one operator that are looked at.
const MAX_PODS: usize = 1_000;
/// The kinds that an operator may be of.
const KINDS: [&str; 2] = ["Deployment", "StatefulSet"];

/// The run's operators on the source, in their order, and what is wrong with those that are not there.
pub async fn find(reader: Reader<'_>, run: &Run) -> Result<(Vec<Workload>, Findings), TaskError> {
    let (mut found, mut failures) = (Vec::new(), Findings::default());
    for operator in &run.spec.operators {
        let OperatorRef { namespace, name, kind } = operator;
        let object = format!("{kind} {namespace}/{name}");
        if !KINDS.contains(&kind.as_str()) {
            let message = format!(
                "an operator is a {}: correct it under `operators`, then run again",
                KINDS.join(" or a ")
            );
            failures.push(finding(object, "BadOperator", message));
        } else if let Some(live) = read(reader, operator, namespace).await? {
            found.push(live);
        } else {
            let message = "the run names it under `operators`, and it is not there: correct the name, or take it out, \
                           then run again";
            failures.push(finding(object, "OperatorNotFound", message));
        }
    }
    Ok((found, failures))
}

/// An operator in a namespace, if it is there.
async fn read(
    reader: Reader<'_>,
    operator: &OperatorRef,
    namespace: &str,
) -> Result<Option<Workload>, TaskError> {
    let Some(kind) = reader.catalogue.preferred("apps", &operator.kind) else { return Ok(None) };
    let path = kind.object(Some(namespace), &operator.name);
    let live = reader.cluster.find(&path).await.map_err(|e| {
        let object = format!("{} {namespace}/{}", operator.kind, operator.name);
        TaskError::cluster(object, "reading the operator", &e)
    })?;
    Ok(live.map(|object| Workload { kind: kind.clone(), object }))
}

/// The run's operators that the destination has, in their order.
pub async fn on_destination(reader: Reader<'_>, run: &Run) -> Result<Vec<Workload>, TaskError> {
    let mut found = Vec::new();
    for operator in run.spec.operators.iter().filter(|operator| KINDS.contains(&operator.kind.as_str())) {
        found.extend(read(reader, operator, run.destination_of(&operator.namespace)).await?);
    }
    Ok(found)
}

/// Those of them that are started with the applications. One outside of the run's namespaces is, if a
/// migration has stopped it: what a person has stopped, a person starts.
pub async fn to_start(reader: Reader<'_>, run: &Run) -> Result<Vec<Workload>, TaskError> {
    let mut operators = on_destination(reader, run).await?;
    operators.retain(|operator| {
        !is_outside(run, operator)
            || (run.spec.quiesce && annotation(&operator.object, QUIESCED_BY).is_some())
    });
    Ok(operators)
}

/// Whether a workload of the destination lies in none of the run's namespaces.
pub fn is_outside(run: &Run, operator: &Workload) -> bool {
    !run.destinations().any(|own| own == namespace(&operator.object))
}

/// Starts on the destination again what [`stop`] has stopped outside of the run's namespaces for the
/// run that is undone: once nothing is left there that it would start. What is left keeps it stopped,
/// and that is told.
pub async fn release(context: &TaskContext, reader: Reader<'_>, run: &Run) -> Result<(), TaskError> {
    let stopped: Vec<Workload> = on_destination(reader, run)
        .await?
        .into_iter()
        .filter(|operator| is_outside(run, operator) && is_quiesced_by(&operator.object, run.undone()))
        .collect();
    let Some(first) = stopped.first() else { return Ok(()) };
    let deadline = Instant::now() + COLLECTED_WITHIN;
    while let Some(left) = managed(reader, run).await? {
        if Instant::now() >= deadline {
            let message = format!(
                "it stays stopped on the destination: {left} is left there, which it would start while the source \
                 runs; when that is gone or is to run, start it with `isthmus activate {} --cluster {}`",
                namespace(&first.object),
                run.destination
            );
            context.warn(finding(describe(&first.object), "OperatorStaysStopped", message));
            return Ok(());
        }
        context.doing(format!("waiting for {left} to go, before {} starts again", describe(&first.object)));
        tokio::time::sleep(LOOK_EVERY).await;
    }
    for operator in stopped {
        bring(context, reader.registry, operator, Aim::Restore(run.undone())).await?;
    }
    Ok(())
}

/// A workload of the run's namespaces on the destination that a custom resource owns which is neither
/// going nor told to stop.
async fn managed(reader: Reader<'_>, run: &Run) -> Result<Option<String>, TaskError> {
    for place in run.destinations() {
        let failed = |e| TaskError::cluster(format!("Namespace {place}"), "listing what is left in it", &e);
        for Workload { object, .. } in reader.workloads(place).await.map_err(failed)? {
            if is_leaving(&object) {
                continue;
            }
            for reference in array(&object, "/metadata/ownerReferences") {
                let version = text(reference, "/apiVersion");
                let Some(kind) = reader
                    .catalogue
                    .find(version, text(reference, "/kind"))
                    .filter(|kind| !is_switch(&kind.group, &kind.kind))
                else {
                    continue;
                };
                let path = kind.object(Some(place), text(reference, "/name"));
                let owner = reader.cluster.find(&path).await.map_err(failed)?;
                let runs = |owner: &Value| {
                    let stopped = reader.registry.way(owner).is_some_and(|way| way.is_stopped(owner));
                    uid(owner) == text(reference, "/uid") && !is_leaving(owner) && !stopped
                };
                if owner.as_ref().is_some_and(runs) {
                    return Ok(Some(describe(&object)));
                }
            }
        }
    }
    Ok(None)
}

/// Brings them to a stop, each as it is said, and waits until their Pods have gone.
pub async fn stop(
    context: &TaskContext,
    reader: Reader<'_>,
    operators: &[(Workload, Aim<'_>)],
    patience: Patience,
) -> Result<(), TaskError> {
    for (operator, aim) in operators {
        bring(context, reader.registry, operator.clone(), *aim).await?;
    }
    for (Workload { object, .. }, _) in operators {
        loop {
            let left = pods(reader, object).await?;
            let Some(first) = left.first() else { break };
            context.doing(format!(
                "waiting until {} has stopped: {} is left",
                describe(object),
                describe(first)
            ));
            if patience.is_over() {
                let message = format!(
                    "it was told to stop and {} has not gone {}: look at it with kubectl describe, then run again",
                    describe(first),
                    patience.told()
                );
                return Err(TaskError::failed(describe(object), "OperatorStillRuns", message));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

async fn pods(reader: Reader<'_>, operator: &Value) -> Result<Vec<Value>, TaskError> {
    let selector = selector(operator);
    if selector.is_empty() {
        return Ok(Vec::new());
    }
    let path = format!("/api/v1/namespaces/{}/pods", namespace(operator));
    let query = format!("labelSelector={}", escape(&selector));
    let found = reader
        .cluster
        .list(&path, &query, MAX_PODS)
        .await
        .map_err(|e| TaskError::cluster(describe(operator), "listing its Pods", &e))?;
    Ok(found.into_iter().filter(|pod| !has_ended(pod)).collect())
}

/// A workload's label selector, as a query has it.
pub fn selector(workload: &Value) -> String {
    let labels = workload.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    let labels = labels.into_iter().flatten();
    let mut parts: Vec<String> =
        labels.filter_map(|(key, value)| value.as_str().map(|value| format!("{key}={value}"))).collect();
    for expression in array(workload, "/spec/selector/matchExpressions") {
        let key = text(expression, "/key");
        let values: Vec<&str> = array(expression, "/values").iter().filter_map(Value::as_str).collect();
        match text(expression, "/operator") {
            "In" => parts.push(format!("{key} in ({})", values.join(","))),
            "NotIn" => parts.push(format!("{key} notin ({})", values.join(","))),
            "Exists" => parts.push(key.to_owned()),
            "DoesNotExist" => parts.push(format!("!{key}")),
            _ => {}
        }
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_selector_is_written_as_a_query_has_it() {
        let workload = json!({"spec": {"selector": {"matchLabels": {"app": "op"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"}]}}});
        assert_eq!(selector(&workload), "app=op,tier in (a,b),!old");
        assert_eq!(selector(&json!({"spec": {}})), "");
    }
}
