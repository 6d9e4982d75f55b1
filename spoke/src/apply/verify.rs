//! Verify: everything that was exported is on the destination and carries our mark, and every
//! claim whose data moved is bound.

use std::collections::{HashMap, HashSet};

use isthmus_shared::protocol::{ObjectResult, Outcome, Run};
use isthmus_shared::resources::ResourceCounts;
use isthmus_shared::staging::{ArchiveError, ArchiveName};

use super::is_ours;
use crate::cluster::{ObjectId, discover, name, text};
use crate::collect::InventoryReader;
use crate::findings::{Findings, finding};
use crate::staging_area::StagingArea;
use crate::task::{TaskContext, TaskError};

/// Compares what is there with what was exported.
pub async fn verify_run(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    let area = context.staging(run)?;
    let mut failures = Findings::default();
    if run.spec.include_volumes {
        verify_claims(context, &area, &mut failures).await?;
    }
    let mut counts = ResourceCounts::default();
    if run.spec.include_resources {
        for namespace in run.sources() {
            verify_namespace(context, &area, namespace, &mut failures).await?;
        }
        counts = counts_of(&area).await?;
    }
    if failures.is_empty() { Ok(Outcome::Applied { counts }) } else { Err(TaskError::Failed(failures)) }
}

async fn verify_claims(
    context: &TaskContext,
    area: &StagingArea,
    failures: &mut Findings,
) -> Result<(), TaskError> {
    let inventory = InventoryReader::new(area.read(ArchiveName::Inventory).await?).await?;
    for volume in &inventory.header.volumes {
        let object = format!("PersistentVolumeClaim {}/{}", volume.namespace, volume.claim);
        let path = format!("/api/v1/namespaces/{}/persistentvolumeclaims/{}", volume.namespace, volume.claim);
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
    Ok(())
}

async fn verify_namespace(
    context: &TaskContext,
    area: &StagingArea,
    namespace: &str,
    failures: &mut Findings,
) -> Result<(), TaskError> {
    let mut objects = area.read(ArchiveName::namespace(namespace).map_err(ArchiveError::from)?).await?;
    let total = objects.summary().objects;
    context.progress(|p| {
        p.objects_total += total;
        p.message = Some(format!("comparing {namespace}"));
    });
    // Names of one kind at a time would need the archive sorted by kind; names alone are small.
    let mut wanted: HashMap<(String, String), HashSet<String>> = HashMap::new();
    while let Some(object) = objects.next().await? {
        let id = ObjectId::of(&object);
        wanted.entry((id.api_version, id.kind)).or_default().insert(id.name);
    }
    let catalogue = discover(context.cluster())
        .await
        .map_err(|e| TaskError::cluster("the destination", "asking which kinds it serves", &e))?;
    for ((api_version, kind_name), mut names) in wanted {
        let count = names.len() as u64;
        let lacking = |name: &str, what: &str| {
            finding(
                format!("{kind_name} {namespace}/{name}"),
                "Missing",
                format!(
                    "it was applied, and {what} on the destination: something there removes or replaces it; stop that, then run again"
                ),
            )
        };
        if let Some(kind) = catalogue.find(&api_version, &kind_name) {
            let path = kind.collection(Some(namespace));
            let mut next = None;
            loop {
                let page = context
                    .cluster()
                    .page(&path, "", next.as_deref())
                    .await
                    .map_err(|e| TaskError::cluster(kind.resource(), "listing it", &e))?;
                for live in &page.items {
                    if names.remove(name(live)) && !is_ours(live) {
                        failures.push(lacking(name(live), "carries no mark of ours"));
                    }
                }
                next = page.next;
                if next.is_none() {
                    break;
                }
            }
        }
        for name in &names {
            failures.push(lacking(name, "is not there"));
        }
        context.progress(|p| p.objects_done += count);
    }
    Ok(())
}

/// The counts that applying gave, from the results in staging.
async fn counts_of(area: &StagingArea) -> Result<ResourceCounts, TaskError> {
    use isthmus_shared::protocol::ObjectAction as Action;
    let mut counts = ResourceCounts::default();
    let mut lines = area.read(ArchiveName::Results).await?;
    while let Some(line) = lines.next().await? {
        let Ok(result) = serde_json::from_value::<ObjectResult>(line) else { continue };
        let count = match result.action {
            Action::Created => &mut counts.created,
            Action::Updated => &mut counts.updated,
            Action::Unchanged => &mut counts.unchanged,
            Action::Failed => &mut counts.failed,
            Action::Skipped => &mut counts.skipped,
            Action::Deleted => &mut counts.deleted,
            Action::LeftBehind => &mut counts.left_behind,
        };
        *count += 1;
    }
    counts.done = counts.created + counts.updated + counts.unchanged;
    counts.total = counts.done + counts.failed;
    Ok(counts)
}
