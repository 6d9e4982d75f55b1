//! Cleanup: everything of ours out of the applications' namespaces.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use isthmus_shared::protocol::{Outcome, Run};
use isthmus_shared::resources::{COMPONENT, COMPONENT_MOVER};
use serde_json::Value;

use super::manifests::{MIGRATION, MOVER};
use crate::cluster::{DeleteOptions, escape, name};
use crate::task::{TaskContext, TaskError};

/// How long Jobs and their Pods may take to go.
const GONE_TIMEOUT: Duration = Duration::from_mins(3);
/// How often it is looked whether they are gone.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Jobs and Pods that are looked at.
const MAX_LISTED: usize = 2_000;

/// Removes the run's mover Jobs, its snapshots unless they are to be kept, and with the last of a namespace their service account and
/// network policy. Other runs' movers in the same namespace are left alone.
pub async fn clean_up(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    // Movers run under a namespace's name on their side; of the other there is nothing here.
    let names: BTreeSet<&str> = run.sources().chain(run.destinations()).collect();
    for namespace in names {
        clean_namespace(context, run, namespace).await?;
    }
    Ok(Outcome::Done)
}

async fn clean_namespace(context: &TaskContext, run: &Run, namespace: &str) -> Result<(), TaskError> {
    let cluster = context.cluster();
    let failed = |doing: &'static str| {
        let object = format!("Namespace {namespace}");
        move |error| TaskError::cluster(&object, doing, &error)
    };
    let found =
        cluster.find(&format!("/api/v1/namespaces/{namespace}")).await.map_err(failed("reading it"))?;
    if found.is_none() {
        return Ok(());
    }
    end_movers_in(context, run, namespace).await?;
    // A claim goes only once no Pod uses it.
    super::snapshot::clean_up(context, run, namespace).await?;
    let jobs = format!("/apis/batch/v1/namespaces/{namespace}/jobs");
    let any = selector(&format!("{COMPONENT}={COMPONENT_MOVER}"));
    let others = cluster.list(&jobs, &any, 1).await.map_err(failed("listing mover Jobs"))?;
    if others.is_empty() {
        for path in [
            format!("/api/v1/namespaces/{namespace}/serviceaccounts/{MOVER}"),
            format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/{MOVER}"),
        ] {
            cluster
                .delete(&path, &DeleteOptions::default())
                .await
                .map_err(failed("removing the mover's traces"))?;
        }
    }
    Ok(())
}

/// Ends the movers that the run has on its destination, and waits until they are gone: those of a failover
/// that went on without its source were still writing a pass that is to be gone back from.
pub async fn end_movers(context: &TaskContext, run: &Run) -> Result<(), TaskError> {
    let namespaces: BTreeSet<&str> = run.destinations().collect();
    for namespace in namespaces {
        end_movers_in(context, run, namespace).await?;
    }
    Ok(())
}

async fn end_movers_in(context: &TaskContext, run: &Run, namespace: &str) -> Result<(), TaskError> {
    let cluster = context.cluster();
    let failed = |doing: &'static str| {
        let object = format!("Namespace {namespace}");
        move |error| TaskError::cluster(&object, doing, &error)
    };
    let jobs = format!("/apis/batch/v1/namespaces/{namespace}/jobs");
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let ours = selector(&format!("{COMPONENT}={COMPONENT_MOVER},{MIGRATION}={}", run.migration));
    let deadline = Instant::now() + GONE_TIMEOUT;
    loop {
        let left: Vec<Value> =
            cluster.list(&jobs, &ours, MAX_LISTED).await.map_err(failed("listing mover Jobs"))?;
        for job in left.iter().filter(|job| job.pointer("/metadata/deletionTimestamp").is_none()) {
            let options = DeleteOptions { uid: None, foreground: true };
            let path = format!("{jobs}/{}", name(job));
            cluster.delete(&path, &options).await.map_err(failed("removing a mover Job"))?;
            context.log(format!("Job {namespace}/{} removed", name(job)));
        }
        let pods_left = cluster.list(&pods, &ours, MAX_LISTED).await.map_err(failed("listing mover Pods"))?;
        if left.is_empty() && pods_left.is_empty() {
            return Ok(());
        }
        let example = pods_left.first().or(left.first()).map(|o| name(o).to_owned()).unwrap_or_default();
        if Instant::now() > deadline {
            let message = format!(
                "movers of the run are still there after {} s, e.g. {example}: look at their finalizers and nodes, then \
                 delete them by hand",
                GONE_TIMEOUT.as_secs()
            );
            return Err(TaskError::failed(format!("Namespace {namespace}"), "MoversLeft", message));
        }
        context.doing(format!("waiting for {example} in {namespace} to go"));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn selector(labels: &str) -> String {
    format!("labelSelector={}", escape(labels))
}
