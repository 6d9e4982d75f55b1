//! Applies a run's archives, stage by stage: definitions, what lies in no namespace, the
//! namespaces rank by rank, and last what calls into them.
//!
//! As many objects are under way as the API server bears ([`Cluster::width`]). What another object
//! must resolve first waits for one of a few rounds at the end of its archive.
//!
//! [`Cluster::width`]: crate::cluster::Cluster::width

use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use isthmus_shared::protocol::{ObjectResult, Outcome, Run};
use isthmus_shared::staging::{ArchiveError, ArchiveName, ArchiveReader};
use serde_json::Value;

use super::order::{self, ClusterStage};
use super::owners::Owners;
use super::purge::{Brought, purge};
use super::tally::is_namespace;
use super::{Applied, Applier, Arrived, Problem, Tally, definitions};
use crate::cluster::{ObjectId, array, describe, discover};
use crate::staging_area::StagingArea;
use crate::task::{TaskContext, TaskError};
use crate::transform::Rewriter;

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
/// Objects that arrived well and have a line in the log. Every object has one in the results.
const MAX_LOGGED: u64 = 1_000;
/// Definitions that are awaited in discovery.
const MAX_DEFINITIONS: usize = 1_000;

/// Applies the exported objects, stopped.
pub async fn apply_run(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    let area = context.staging(run)?;
    let mut tally = Tally::new(area.write(ArchiveName::Results)?);
    let rewriter =
        Rewriter::new(run).map_err(|e| TaskError::failed("the migration", "BadTransform", e.to_string()))?;
    let brought = run.spec.purge_deleted_resources.then(Brought::default);
    mention_namespaces(&area, &mut tally).await?;
    let mut wave = Wave { context, run, tally, brought, waiting: Vec::new(), last_round: false, logged: 0 };
    let definitions = bring_definitions(context, run, &rewriter, &area, &mut wave).await?;
    let catalogue = definitions::discover_with(context.cluster(), &definitions)
        .await
        .map_err(|e| TaskError::cluster("the destination", "asking which kinds it serves", &e))?;
    drop(definitions);
    let applier = Applier::new(context.cluster(), &catalogue, &rewriter, run);
    let owners = Owners::new(context.cluster(), &catalogue);
    let line = Line { context, run, applier: &applier, owners: &owners };
    for stage in [ClusterStage::Before, ClusterStage::Bindings] {
        line.apply_cluster_scope(&area, stage, &mut wave).await?;
    }
    for namespace in run.sources() {
        context.doing(format!("applying the objects of {namespace}"));
        let name = ArchiveName::namespace(namespace).map_err(ArchiveError::from)?;
        line.apply_archive(area.read(name).await?, None, &mut wave).await?;
    }
    line.apply_cluster_scope(&area, ClusterStage::After, &mut wave).await?;
    let Wave { mut tally, brought, .. } = wave;
    // A failure may be one of something that only seems gone.
    if let Some(brought) = brought.filter(|_| tally.failures.is_empty()) {
        let plan_of = |namespace: &str| applier.plan_of(namespace);
        purge(context, run, &catalogue, &area, plan_of, &brought, &mut tally).await?;
    }
    let mut left = area.read(ArchiveName::LeftBehind).await?;
    while let Some(line) = left.next().await? {
        if let Ok(result) = serde_json::from_value::<ObjectResult>(line) {
            tally.left_behind(&result).await?;
        }
    }
    let (counts, failures) = tally.finish().await?;
    context.log(format!(
        "objects: {} created, {} updated, {} unchanged, {} skipped, {} deleted, {} failed, {} left behind",
        counts.created,
        counts.updated,
        counts.unchanged,
        counts.skipped,
        counts.deleted,
        counts.failed,
        counts.left_behind
    ));
    if failures.is_empty() { Ok(Outcome::Applied { counts }) } else { Err(TaskError::Failed(failures)) }
}

/// Notes what became of the namespaces. They were prepared as preflight said, or the run would not
/// have come here; what they were before only preflight has seen, however often the preparation
/// began anew.
async fn mention_namespaces(area: &StagingArea, tally: &mut Tally) -> Result<(), TaskError> {
    let mut preview = match area.read(ArchiveName::Preview).await {
        Ok(preview) => preview,
        // A run that began before previews were kept.
        Err(ArchiveError::Missing { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    while let Some(line) = preview.next().await? {
        match serde_json::from_value::<ObjectResult>(line) {
            Ok(line) if is_namespace(&line) => tally.mention(&line).await?,
            // The namespaces stand before everything else.
            _ => break,
        }
    }
    Ok(())
}

/// Brings the definitions, and answers with those that came.
async fn bring_definitions(
    context: &TaskContext,
    run: &Run,
    rewriter: &Rewriter,
    area: &StagingArea,
    wave: &mut Wave<'_>,
) -> Result<Vec<Value>, TaskError> {
    let catalogue = discover(context.cluster())
        .await
        .map_err(|e| TaskError::cluster("the destination", "asking which kinds it serves", &e))?;
    let applier = Applier::new(context.cluster(), &catalogue, rewriter, run);
    let mut archive = area.read(ArchiveName::Cluster).await?;
    let mut brought = Vec::new();
    while let Some(object) = archive.next().await? {
        let id = ObjectId::of(&object);
        if order::cluster_stage(id.group(), &id.kind) != ClusterStage::Definitions {
            continue;
        }
        context.doing(format!("applying {}", id.describe()));
        let result = definitions::bring(context.cluster(), &catalogue, &applier, &object).await;
        wave.tally.counts.total += 1;
        if result.is_ok() && brought.len() < MAX_DEFINITIONS {
            brought.push(object);
        }
        wave.note(id, result).await?;
    }
    Ok(brought)
}

/// What every object of a run passes.
struct Line<'a> {
    context: &'a TaskContext,
    run: &'a Run,
    applier: &'a Applier<'a>,
    owners: &'a Owners<'a>,
}

type Attempt<'a> = BoxFuture<'a, (Value, Result<Arrived, Problem>)>;

impl Line<'_> {
    async fn apply_cluster_scope(
        &self,
        area: &StagingArea,
        stage: ClusterStage,
        wave: &mut Wave<'_>,
    ) -> Result<(), TaskError> {
        self.apply_archive(area.read(ArchiveName::Cluster).await?, Some(stage), wave).await
    }

    /// Applies an archive's objects; of cluster scope those of one stage.
    async fn apply_archive(
        &self,
        mut archive: ArchiveReader,
        stage: Option<ClusterStage>,
        wave: &mut Wave<'_>,
    ) -> Result<(), TaskError> {
        if stage.is_none() {
            let total = archive.summary().objects;
            wave.tally.counts.total += total;
            self.context.progress(|p| p.objects_total += total);
        }
        let mut running: FuturesUnordered<Attempt<'_>> = FuturesUnordered::new();
        let mut rank = None;
        while let Some(object) = archive.next().await? {
            let id = ObjectId::of(&object);
            if let Some(stage) = stage {
                if order::cluster_stage(id.group(), &id.kind) != stage {
                    continue;
                }
                wave.tally.counts.total += 1;
                self.context.progress(|p| p.objects_total += 1);
            }
            // What comes later in the order waits for what comes before, and what is owned for
            // all others.
            let next = Some((is_owned(&object), order::rank(id.group(), &id.kind)));
            let room = if next == rank { self.context.cluster().width().saturating_sub(1) } else { 0 };
            rank = next;
            while running.len() > room {
                if let Some((object, result)) = running.next().await {
                    wave.end(object, result).await?;
                }
            }
            running.push(Box::pin(self.attempt(object)));
        }
        while let Some((object, result)) = running.next().await {
            wave.end(object, result).await?;
        }
        drop(running);
        self.apply_waiting(wave).await
    }

    async fn apply_waiting(&self, wave: &mut Wave<'_>) -> Result<(), TaskError> {
        for (round, pause) in ROUNDS.into_iter().enumerate() {
            let again = std::mem::take(&mut wave.waiting);
            if again.is_empty() {
                break;
            }
            self.context.doing(format!("{} objects wait for others", again.len()));
            tokio::time::sleep(pause).await;
            wave.last_round = round + 1 == ROUNDS.len();
            let attempts: Vec<Attempt<'_>> =
                again.into_iter().map(|object| -> Attempt<'_> { Box::pin(self.attempt(object)) }).collect();
            let mut running =
                futures::stream::iter(attempts).buffer_unordered(self.context.cluster().width());
            while let Some((object, result)) = running.next().await {
                wave.end(object, result).await?;
            }
        }
        wave.last_round = false;
        Ok(())
    }

    async fn attempt(&self, object: Value) -> (Value, Result<Arrived, Problem>) {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let result = self.once(&object).await;
            match &result {
                Err(problem) if problem.transient && attempts < TRANSIENT_ATTEMPTS => {
                    tokio::time::sleep(Duration::from_millis(300 << attempts)).await;
                }
                _ => return (object, result),
            }
        }
    }

    async fn once(&self, object: &Value) -> Result<Arrived, Problem> {
        if !is_owned(object) {
            return self.applier.apply(object, &[]).await;
        }
        let place = self.run.destination_of(crate::cluster::namespace(object));
        let rebuilt = self.owners.rebuild(object, place).await?;
        let arrived = self.applier.apply(object, &rebuilt.references).await?;
        for warning in rebuilt.dropped {
            self.context.warn(warning);
        }
        Ok(arrived)
    }
}

fn is_owned(object: &Value) -> bool {
    !array(object, "/metadata/ownerReferences").is_empty()
}

struct Wave<'a> {
    context: &'a TaskContext,
    run: &'a Run,
    tally: Tally,
    /// What arrived, if it is asked for.
    brought: Option<Brought>,
    /// What another object may resolve.
    waiting: Vec<Value>,
    last_round: bool,
    /// Objects that arrived well and have their line in the log.
    logged: u64,
}

impl Wave<'_> {
    async fn end(&mut self, object: Value, result: Result<Arrived, Problem>) -> Result<(), TaskError> {
        if let Err(problem) = &result
            && problem.may_resolve
            && !self.last_round
            && self.waiting.len() < MAX_WAITING
        {
            self.log_some(|| format!("{} waits: {}", describe(&object), problem.message));
            self.waiting.push(object);
            return Ok(());
        }
        self.note(ObjectId::of(&object), result).await?;
        self.context.progress(|p| p.objects_done += 1);
        Ok(())
    }

    async fn note(&mut self, id: ObjectId, result: Result<Arrived, Problem>) -> Result<(), TaskError> {
        let id = &id.on_destination(self.run);
        match &result {
            Err(problem) => {
                self.context.log(format!(
                    "{}: failed: {}: {}",
                    id.describe(),
                    problem.reason,
                    problem.message
                ));
            }
            Ok(Arrived { applied: Applied::Unchanged, .. }) => {}
            Ok(arrived) => self.log_some(|| format!("{}: {}", id.describe(), word(arrived.applied))),
        }
        if let (Some(brought), Ok(arrived), Some(namespace)) = (&mut self.brought, &result, &id.namespace) {
            brought.note(id.group(), &id.kind, namespace, &arrived.name);
        }
        Ok(self.tally.note(id, result).await?)
    }

    /// Logs what is no trouble, as long as the log is short.
    fn log_some(&mut self, line: impl FnOnce() -> String) {
        self.logged += 1;
        match self.logged {
            ..MAX_LOGGED => self.context.log(line()),
            MAX_LOGGED => {
                self.context
                    .log("more objects than have lines here: see `isthmus migration describe --details`");
            }
            _ => {}
        }
    }
}

fn word(applied: Applied) -> &'static str {
    match applied {
        Applied::Created => "created",
        Applied::Updated => "updated",
        Applied::Unchanged => "unchanged",
        Applied::Skipped => "skipped",
        Applied::Left => "left as it is",
    }
}
