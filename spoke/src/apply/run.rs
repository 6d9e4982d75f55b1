//! Applies a run's archives.

use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use isthmus_shared::protocol::{ObjectResult, Outcome, Run};
use isthmus_shared::staging::{ArchiveError, ArchiveName};
use serde_json::Value;

use super::{Applied, Applier, Problem, Tally, definitions, order};
use crate::cluster::{ObjectId, describe, discover, kind};
use crate::staging_area::StagingArea;
use crate::task::{TaskContext, TaskError};
use crate::transform::Rewriter;

/// Objects that are applied at a time.
const PARALLEL: usize = 16;
/// Objects that wait for another round; what fails beyond them has failed.
const MAX_WAITING: usize = 2_000;
/// The pauses before the rounds for what waits.
const ROUNDS: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(8),
    Duration::from_secs(15),
];
/// How often one call is repeated when the API server says that it may work later.
const TRANSIENT_ATTEMPTS: usize = 4;

/// Applies the exported objects, stopped.
pub async fn apply_run(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    let area = context.staging(run)?;
    let mut tally = Tally::new(area.write(ArchiveName::Results)?);
    let rewriter =
        Rewriter::new(run).map_err(|e| TaskError::failed("the migration", "BadTransform", e.to_string()))?;
    bring_definitions(context, run, &rewriter, &area, &mut tally).await?;
    let catalogue = discover(context.cluster())
        .await
        .map_err(|e| TaskError::cluster("the destination", "asking which kinds it serves", &e))?;
    let applier = Applier {
        cluster: context.cluster(),
        catalogue: &catalogue,
        rewriter: &rewriter,
        migration: &run.migration,
        start: run.spec.start_applications,
    };
    for namespace in run.sources() {
        apply_namespace(context, applier, &area, namespace, &mut tally).await?;
    }
    let mut left = area.read(ArchiveName::LeftBehind).await?;
    while let Some(line) = left.next().await? {
        if let Ok(result) = serde_json::from_value::<ObjectResult>(line) {
            tally.left_behind(&result).await?;
        }
    }
    let (counts, failures) = tally.finish().await?;
    context.log(format!(
        "objects: {} created, {} updated, {} unchanged, {} failed, {} left behind",
        counts.created, counts.updated, counts.unchanged, counts.failed, counts.left_behind
    ));
    if failures.is_empty() { Ok(Outcome::Applied { counts }) } else { Err(TaskError::Failed(failures)) }
}

async fn bring_definitions(
    context: &TaskContext,
    run: &Run,
    rewriter: &Rewriter,
    area: &StagingArea,
    tally: &mut Tally,
) -> Result<(), TaskError> {
    let catalogue = discover(context.cluster())
        .await
        .map_err(|e| TaskError::cluster("the destination", "asking which kinds it serves", &e))?;
    let mut archive = area.read(ArchiveName::Cluster).await?;
    while let Some(object) = archive.next().await? {
        if kind(&object) != "CustomResourceDefinition" {
            continue;
        }
        let id = ObjectId::of(&object);
        context.doing(format!("applying {}", id.describe()));
        let result = definitions::bring(context.cluster(), &catalogue, run, rewriter, object).await;
        context.log(format!("{}: {}", id.describe(), outcome_text(&result)));
        tally.counts.total += 1;
        tally.note(&id, result).await?;
    }
    Ok(())
}

async fn apply_namespace(
    context: &TaskContext,
    applier: Applier<'_>,
    area: &StagingArea,
    namespace: &str,
    tally: &mut Tally,
) -> Result<(), TaskError> {
    let name = ArchiveName::namespace(namespace).map_err(ArchiveError::from)?;
    let mut archive = area.read(name).await?;
    let total = archive.summary().objects;
    tally.counts.total += total;
    context.progress(|p| {
        p.objects_total += total;
        p.message = Some(format!("applying the objects of {namespace}"));
    });
    let mut wave = Wave { context, tally, waiting: Vec::new(), last_round: false };
    let mut running = FuturesUnordered::new();
    let mut rank = 0;
    while let Some(object) = archive.next().await? {
        let id = ObjectId::of(&object);
        let next = order::rank(id.group(), &id.kind);
        // What comes later in the order waits for what comes before.
        let room = if next == rank { PARALLEL - 1 } else { 0 };
        rank = next;
        while running.len() > room {
            if let Some((object, result)) = running.next().await {
                wave.end(object, result).await?;
            }
        }
        running.push(attempt(applier, object));
    }
    while let Some((object, result)) = running.next().await {
        wave.end(object, result).await?;
    }
    drop(running);
    for (round, pause) in ROUNDS.into_iter().enumerate() {
        let again = std::mem::take(&mut wave.waiting);
        if again.is_empty() {
            break;
        }
        context.doing(format!("{} objects wait for others", again.len()));
        tokio::time::sleep(pause).await;
        wave.last_round = round + 1 == ROUNDS.len();
        let attempts: Vec<_> = again.into_iter().map(|object| attempt(applier, object)).collect();
        let mut running = futures::stream::iter(attempts).buffer_unordered(PARALLEL);
        while let Some((object, result)) = running.next().await {
            wave.end(object, result).await?;
        }
    }
    Ok(())
}

struct Wave<'a> {
    context: &'a TaskContext,
    tally: &'a mut Tally,
    /// What another object may resolve.
    waiting: Vec<Value>,
    last_round: bool,
}

impl Wave<'_> {
    async fn end(&mut self, object: Value, result: Result<Applied, Problem>) -> Result<(), TaskError> {
        if let Err(problem) = &result
            && problem.may_resolve
            && !self.last_round
            && self.waiting.len() < MAX_WAITING
        {
            self.context.log(format!("{} waits: {}", describe(&object), problem.message));
            self.waiting.push(object);
            return Ok(());
        }
        let id = ObjectId::of(&object);
        self.context.log(format!("{}: {}", id.describe(), outcome_text(&result)));
        self.tally.note(&id, result).await?;
        self.context.progress(|p| p.objects_done += 1);
        Ok(())
    }
}

async fn attempt(applier: Applier<'_>, object: Value) -> (Value, Result<Applied, Problem>) {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let result = applier.apply(object.clone()).await;
        match &result {
            Err(problem) if problem.transient && attempts < TRANSIENT_ATTEMPTS => {
                tokio::time::sleep(Duration::from_millis(300 << attempts)).await;
            }
            _ => return (object, result),
        }
    }
}

fn outcome_text(result: &Result<Applied, Problem>) -> String {
    match result {
        Ok(Applied::Created) => "created".to_owned(),
        Ok(Applied::Updated) => "updated".to_owned(),
        Ok(Applied::Unchanged) => "unchanged".to_owned(),
        Err(problem) => format!("failed: {}: {}", problem.reason, problem.message),
    }
}
