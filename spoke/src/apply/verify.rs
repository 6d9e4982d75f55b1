//! Verify: everything that was exported is on the destination, carries our mark and is as it was
//! applied, and every claim whose data moved is bound.
//!
//! Objects are compared with pages of listings; where the server may have written a value in
//! another way, it is asked by a dry run. What is missing or somebody else's fails the step. What
//! differs is a warning that names the field: a controller or an admission rule of the destination
//! may have had its reason.

use futures::stream::{FuturesUnordered, StreamExt};
use isthmus_shared::protocol::{ObjectResult, Outcome, Run};
use isthmus_shared::resources::{Finding, ResourceCounts};
use isthmus_shared::staging::{ArchiveError, ArchiveName, ArchiveReader};

use super::object::Examined;
use super::order::{self, ClusterStage};
use super::tally::is_namespace;
use super::{Applier, Problem};
use crate::cluster::{ObjectId, discover, text};
use crate::collect::InventoryReader;
use crate::findings::{Findings, finding};
use crate::staging_area::StagingArea;
use crate::task::{TaskContext, TaskError};
use crate::transform::Rewriter;
use crate::volumes;

/// How many objects pass between two notes of the progress.
const PROGRESS_EVERY: u64 = 100;

/// Compares what is there with what was exported.
pub async fn verify_run(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    let area = context.staging(run)?;
    let mut failures = Findings::default();
    if run.spec.include_volumes {
        verify_claims(context, run, &area, &mut failures).await?;
    }
    let mut counts = ResourceCounts::default();
    if run.spec.include_resources {
        let catalogue = discover(context.cluster())
            .await
            .map_err(|e| TaskError::cluster("the destination", "asking which kinds it serves", &e))?;
        let rewriter = Rewriter::new(run)
            .map_err(|e| TaskError::failed("the migration", "BadTransform", e.to_string()))?;
        let applier = Applier::new(context.cluster(), &catalogue, &rewriter, run);
        let mut check = Check { context, run, applier: &applier, failures: &mut failures };
        check.archive(area.read(ArchiveName::Cluster).await?).await?;
        for namespace in run.sources() {
            context.doing(format!("comparing {namespace}"));
            let name = ArchiveName::namespace(namespace).map_err(ArchiveError::from)?;
            check.archive(area.read(name).await?).await?;
        }
        counts = counts_of(&area).await?;
    }
    if failures.is_empty() { Ok(Outcome::Applied { counts }) } else { Err(TaskError::Failed(failures)) }
}

async fn verify_claims(
    context: &TaskContext,
    run: &Run,
    area: &StagingArea,
    failures: &mut Findings,
) -> Result<(), TaskError> {
    let inventory = InventoryReader::new(area.read(ArchiveName::Inventory).await?).await?;
    for volume in &inventory.header.volumes {
        let namespace = run.destination_of(&volume.namespace);
        let claim = run.claim_on_destination(&volume.namespace, &volume.claim);
        let object = format!("PersistentVolumeClaim {namespace}/{claim}");
        let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}");
        let claim =
            context.cluster().find(&path).await.map_err(|e| TaskError::cluster(&object, "reading it", &e))?;
        let phase = claim.as_ref().map_or("missing", |claim| text(claim, "/status/phase"));
        if phase != "Bound" {
            failures.push(finding(
                object,
                "ClaimNotBound",
                format!("it is {phase} on the destination though its data was received: look at its events there, then run again"),
            ));
        }
    }
    volumes::await_bound(context, run, &inventory.header.kept).await
}

struct Check<'a> {
    context: &'a TaskContext,
    run: &'a Run,
    applier: &'a Applier<'a>,
    failures: &'a mut Findings,
}

impl Check<'_> {
    async fn archive(&mut self, mut archive: ArchiveReader) -> Result<(), TaskError> {
        let total = archive.summary().objects;
        self.context.progress(|p| p.objects_total += total);
        let applier = self.applier;
        let mut running = FuturesUnordered::new();
        let mut done = 0;
        loop {
            let object = archive.next().await?;
            let more = object.is_some();
            if let Some(object) = object {
                let id = ObjectId::of(&object);
                let elsewhere = id.namespace.is_none()
                    && order::cluster_stage(id.group(), &id.kind) == ClusterStage::Elsewhere;
                if elsewhere {
                    continue;
                }
                let id = id.on_destination(self.run);
                running.push(async move { (id, applier.examine(&object).await) });
            }
            let room = if more { self.context.cluster().width().saturating_sub(1) } else { 0 };
            while running.len() > room {
                if let Some((id, examined)) = running.next().await {
                    self.judge(&id, examined)?;
                    done += 1;
                    if done % PROGRESS_EVERY == 0 {
                        self.context.progress(|p| p.objects_done += PROGRESS_EVERY);
                    }
                }
            }
            if !more {
                self.context.progress(|p| p.objects_done += done % PROGRESS_EVERY);
                return Ok(());
            }
        }
    }

    fn judge(&mut self, id: &ObjectId, examined: Result<Examined, Problem>) -> Result<(), TaskError> {
        match examined {
            Ok(Examined::Same | Examined::Left) => {}
            Ok(Examined::Missing) => self.failures.push(lost(id, "is not there")),
            Ok(Examined::NotOurs) => self.failures.push(lost(id, "carries no mark of ours")),
            Ok(Examined::Differs(path)) => self.context.warn(finding(
                id.describe(),
                "Differs",
                format!(
                    "{path} is not as it was applied: something on the destination changed it; compare it with the \
                     source's if that was not meant"
                ),
            )),
            Err(problem) if problem.transient => {
                return Err(TaskError::Transient(finding(id.describe(), &problem.reason, problem.message)));
            }
            Err(problem) => self.failures.push(finding(id.describe(), &problem.reason, problem.message)),
        }
        Ok(())
    }
}

fn lost(id: &ObjectId, what: &str) -> Finding {
    finding(
        id.describe(),
        "Missing",
        format!(
            "it was applied, and {what} on the destination: something there removes or replaces it; stop that, then \
             run again"
        ),
    )
}

/// The counts that applying gave, from the results in staging.
async fn counts_of(area: &StagingArea) -> Result<ResourceCounts, TaskError> {
    let mut counts = ResourceCounts::default();
    let mut lines = area.read(ArchiveName::Results).await?;
    while let Some(line) = lines.next().await? {
        let Ok(result) = serde_json::from_value::<ObjectResult>(line) else { continue };
        if !is_namespace(&result) {
            counts.count(result.action);
        }
    }
    Ok(counts)
}
