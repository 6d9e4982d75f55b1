//! The operators that a run names: workloads that manage others, stopped before them and started
//! before them.

use std::time::Duration;

use isthmus_shared::protocol::Run;
use isthmus_shared::resources::OperatorRef;
use serde_json::Value;
use tokio::time::Instant;

use super::charge::has_ended;
use super::inventory::{Reader, Workload};
use super::switch::{Aim, bring};
use crate::cluster::{array, describe, escape, namespace, text};
use crate::findings::{Findings, finding};
use crate::task::{TaskContext, TaskError};

/// How often it is looked whether the Pods have gone.
const LOOK_EVERY: Duration = Duration::from_secs(1);
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
        let Some(kind) =
            KINDS.contains(&kind.as_str()).then(|| reader.catalogue.preferred("apps", kind)).flatten()
        else {
            let message = format!(
                "an operator is a {}: correct it under `operators`, then run again",
                KINDS.join(" or a ")
            );
            failures.push(finding(object, "BadOperator", message));
            continue;
        };
        let failed = |e| TaskError::cluster(&object, "reading the operator", &e);
        let live = reader.cluster.find(&kind.object(Some(namespace), name)).await.map_err(failed)?;
        if let Some(live) = live {
            found.push(Workload { kind: kind.clone(), object: live });
        } else {
            let message = "the run names it under `operators`, and it is not there: correct the name, or take it out, \
                           then run again";
            failures.push(finding(object, "OperatorNotFound", message));
        }
    }
    Ok((found, failures))
}

/// Stops them, each with the migration's mark, and waits until their Pods have gone.
pub async fn stop(
    context: &TaskContext,
    reader: Reader<'_>,
    operators: &[Workload],
    migration: &str,
    deadline: Instant,
) -> Result<(), TaskError> {
    for operator in operators {
        bring(context, reader.registry, operator.clone(), Aim::Quiesce(migration)).await?;
    }
    for Workload { object, .. } in operators {
        loop {
            let left = pods(reader, object).await?;
            let Some(first) = left.first() else { break };
            context.doing(format!(
                "waiting until {} has stopped: {} is left",
                describe(object),
                describe(first)
            ));
            if Instant::now() >= deadline {
                let message = format!(
                    "it was told to stop and {} is still there: look at it with kubectl describe, then run again",
                    describe(first)
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
