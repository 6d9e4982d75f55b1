//! Follows a migration from step to step, with a look at both spokes and API servers as the two steps
//! that are measured begin and end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures::TryStreamExt as _;
use isthmus_shared::resources::{Migration, MigrationStatus, Step, StepState};
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};

use super::connection::Server;
use super::requests;
use crate::bench::measure::{Usage, usage_of};

/// A migration that says nothing new for so long is stuck.
const PATIENCE: Duration = Duration::from_mins(10);

/// What is looked at.
pub struct Sides {
    /// The source's API server and its spoke's process.
    pub source: (Server, u32),
    /// The destination's.
    pub destination: (Server, u32),
}

/// A moment of a step.
#[derive(Debug, Clone, Copy)]
struct Moment {
    at: Instant,
    usage: Usage,
    server_cpu_s: f64,
    requests: u64,
}

/// What a step took, on the side that does it.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// From its beginning to its end, as the hub's record shows them.
    pub seconds: f64,
    /// Of the spoke.
    pub cpu_s: f64,
    /// Of the side's etcd and API server.
    pub server_cpu_s: f64,
    /// To the side's API server.
    pub requests: u64,
}

/// What the migration took.
#[derive(Debug)]
pub struct Report {
    /// Of every step, in seconds.
    pub steps: Vec<(Step, f64)>,
    /// The export, on the source.
    pub export: Took,
    /// The apply, on the destination.
    pub apply: Took,
    /// How it ended.
    pub status: MigrationStatus,
}

/// Follows a migration to its end.
pub async fn follow(hub: Client, namespace: &str, name: &str, sides: &Sides) -> anyhow::Result<Report> {
    let migrations = Api::<Migration>::namespaced(hub, namespace);
    let mut seen = std::pin::pin!(watch_object(migrations, name));
    let mut began: BTreeMap<Step, Instant> = BTreeMap::new();
    let mut lasted: BTreeMap<Step, f64> = BTreeMap::new();
    let mut moments: BTreeMap<(Step, bool), Moment> = BTreeMap::new();
    loop {
        let next = tokio::time::timeout(PATIENCE, seen.try_next()).await;
        let migration =
            next.with_context(|| format!("migration {name} said nothing new for {PATIENCE:?}"))?;
        let migration = migration.context("watching the migration")?.flatten();
        let now = Instant::now();
        let Some(status) = migration.and_then(|migration| migration.status) else { continue };
        for step in &status.pipeline {
            let ended = matches!(step.state, StepState::Succeeded | StepState::Failed);
            let is_new_beginning = step.state != StepState::Pending && !began.contains_key(&step.step);
            let is_new_end = ended && !lasted.contains_key(&step.step);
            if is_new_beginning {
                began.insert(step.step, now);
            }
            if is_new_end {
                let start = began.get(&step.step).copied().unwrap_or(now);
                lasted.insert(step.step, (now - start).as_secs_f64());
            }
            let side = match step.step {
                Step::ExportResources => &sides.source,
                Step::ApplyResources => &sides.destination,
                _ => continue,
            };
            for (is_new, is_end) in [(is_new_beginning, false), (is_new_end, true)] {
                if is_new {
                    let (usage, server_cpu_s) = (usage_of(side.1)?, side.0.cpu_s()?);
                    let requests = requests::answered(&side.0).await?;
                    moments.insert((step.step, is_end), Moment { at: now, usage, server_cpu_s, requests });
                }
            }
        }
        if status.status.is_terminal() {
            let took = |step| took(&moments, step);
            let (export, apply) = (took(Step::ExportResources), took(Step::ApplyResources));
            let (Some(export), Some(apply)) = (export, apply) else {
                bail!("migration {name} ended as {:?}: {}", status.status, findings(&status));
            };
            let steps = lasted.into_iter().collect();
            return Ok(Report { steps, export, apply, status });
        }
    }
}

fn took(moments: &BTreeMap<(Step, bool), Moment>, step: Step) -> Option<Took> {
    let (start, end) = (moments.get(&(step, false))?, moments.get(&(step, true))?);
    Some(Took {
        seconds: (end.at - start.at).as_secs_f64(),
        cpu_s: end.usage.cpu_s - start.usage.cpu_s,
        server_cpu_s: end.server_cpu_s - start.server_cpu_s,
        requests: end.requests.saturating_sub(start.requests),
    })
}

/// What went wrong, in one line.
pub fn findings(status: &MigrationStatus) -> String {
    let told: Vec<String> = status
        .failures
        .iter()
        .map(|finding| format!("{}: {}", finding.object, finding.message))
        .chain(status.message.clone())
        .collect();
    format!("{} failures: {}", status.failures_total, told.join("; "))
}
