//! The end of a run's hooks: what is held is let go, and what was made is removed.

use std::collections::BTreeSet;

use isthmus_shared::protocol::Run;
use isthmus_shared::resources::{COMPONENT, COMPONENT_HOOK, Hook};
use serde_json::Value;
use tokio::time::{Duration, Instant};

use super::jobs::GONE_TIMEOUT;
use super::record::Record;
use super::{background, renewal};
use crate::cluster::{DeleteOptions, escape, name};
use crate::findings::finding;
use crate::task::{TaskContext, TaskError};
use crate::volumes::MIGRATION;

/// How often it is looked whether Jobs are gone.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Jobs and Pods of a run that are looked at.
const MAX_LISTED: usize = 500;

/// Lets go what the run's hooks hold in this cluster, and removes their Jobs and their record. Of
/// another run that this one undoes, likewise.
///
/// What a person would have to put right is a warning: nothing that comes behind, least of all starting
/// the source again, is to wait for it.
pub async fn end(context: &TaskContext, run: &Run) -> Result<(), TaskError> {
    match end_all(context, run).await {
        Err(TaskError::Failed(findings)) => {
            findings.list.into_iter().for_each(|finding| context.warn(finding));
            Ok(())
        }
        other => other,
    }
}

async fn end_all(context: &TaskContext, run: &Run) -> Result<(), TaskError> {
    if run.spec.hooks.is_empty() {
        return Ok(());
    }
    let migration = run.undone();
    let mut record = Record::open(&context.spoke, migration).await?;
    for held in record.held() {
        let found = background::let_go(context, migration, &held, &mut record).await?;
        if let Some(why) = background::not_held(run, &found) {
            context.warn(finding(format!("Hook {}", held.hook), "NotHeld", why));
        }
    }
    renewal::cease(&context.spoke, migration);
    let jobs = run.spec.hooks.iter().filter(|hook| hook.job.is_some());
    let named: BTreeSet<&str> = jobs.clone().filter_map(Hook::namespace).collect();
    let unnamed = jobs.clone().any(|hook| hook.namespace().is_none());
    let own = run.sources().chain(run.destinations()).filter(|_| unnamed);
    for namespace in named.into_iter().chain(own).collect::<BTreeSet<_>>() {
        remove_jobs(context, migration, namespace).await?;
    }
    if record.exists() {
        record.remove().await?;
    }
    Ok(())
}

async fn remove_jobs(context: &TaskContext, migration: &str, namespace: &str) -> Result<(), TaskError> {
    let failed = |doing: &'static str| {
        let object = format!("Namespace {namespace}");
        move |error| TaskError::cluster(&object, doing, &error)
    };
    let jobs = format!("/apis/batch/v1/namespaces/{namespace}/jobs");
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let ours = escape(&format!("{COMPONENT}={COMPONENT_HOOK},{MIGRATION}={migration}"));
    let query = format!("labelSelector={ours}");
    let deadline = Instant::now() + GONE_TIMEOUT;
    loop {
        let left = context.cluster().list(&jobs, &query, MAX_LISTED).await;
        let left: Vec<Value> = left.map_err(failed("listing the Jobs of hooks"))?;
        for job in left.iter().filter(|job| job.pointer("/metadata/deletionTimestamp").is_none()) {
            let path = format!("{jobs}/{}", name(job));
            let removed = context.cluster().delete(&path, &DeleteOptions::default()).await;
            removed.map_err(failed("removing the Job of a hook"))?;
            context.log(format!("Job {namespace}/{} removed", name(job)));
        }
        let going = context.cluster().list(&pods, &query, MAX_LISTED).await;
        let going = going.map_err(failed("listing the Pods of hooks"))?;
        let Some(example) = going.first().or(left.first()) else { return Ok(()) };
        if Instant::now() > deadline {
            let message = format!(
                "what hooks of the run made is still there after {} s, e.g. {}: look at its finalizers and nodes, then delete it by hand",
                GONE_TIMEOUT.as_secs(),
                name(example)
            );
            context.warn(finding(format!("Namespace {namespace}"), "HooksLeft", message));
            return Ok(());
        }
        context.doing(format!("waiting for {} in {namespace} to go", name(example)));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
