//! ExportResources: the namespaces' objects, untouched, into sealed archives.
//!
//! One archive a namespace, in the order in which its objects will be applied; one for what
//! lies in no namespace (the Namespaces themselves, and definitions of custom resources); one
//! with what is left behind, and why.

use std::collections::BTreeMap;

use isthmus_shared::protocol::{Outcome, Run};
use isthmus_shared::resources::ResourceCounts;
use isthmus_shared::staging::{ArchiveError, ArchiveName};

use crate::cluster::{Catalogue, Kind, discover};
use crate::collect::{Context, Reader, definition_of, movable};
use crate::findings::finding;
use crate::task::{TaskContext, TaskError};

/// Reads the objects into staging.
pub async fn export(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    let area = context.staging(run)?;
    let catalogue = discover(context.cluster())
        .await
        .map_err(|e| TaskError::cluster("the source", "asking which kinds it serves", &e))?;
    let kinds = movable(&catalogue);
    let mut counts = ResourceCounts::default();
    let mut seen: BTreeMap<String, Kind> = BTreeMap::new();
    let mut left_behind = area.write(ArchiveName::LeftBehind)?;
    for namespace in run.sources() {
        let mut archive = area.write(ArchiveName::namespace(namespace).map_err(ArchiveError::from)?)?;
        let mut reader = Reader::new(context.cluster(), namespace, &kinds, selectors(run));
        context.doing(format!("reading the objects of {namespace}"));
        while let Some(batch) = reader.next().await {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    skip_or_fail(context, namespace, &error.kind, &error.error)?;
                    continue;
                }
            };
            for object in &batch.taken {
                archive.push(object).await?;
            }
            for result in &batch.left {
                left_behind.push(&serde_json::to_value(result).unwrap_or_default()).await?;
            }
            let taken = batch.taken.len() as u64;
            counts.total += taken;
            counts.left_behind += batch.left.len() as u64;
            if taken > 0 {
                seen.insert(batch.kind.resource(), batch.kind);
            }
            context.progress(|p| p.objects_done += taken);
        }
        archive.finish().await?;
    }
    left_behind.finish().await?;
    export_cluster_scope(context, run, &catalogue, seen.into_values()).await?;
    context.log(format!("{} objects exported, {} left behind", counts.total, counts.left_behind));
    Ok(Outcome::Exported { counts })
}

/// What the choice of objects depends on in the run itself.
pub fn selectors(run: &Run) -> Context {
    Context {
        selectors: run.spec.selectors.all_of().unwrap_or_default(),
        exclude_selectors: run.spec.exclude_selectors.any_of().unwrap_or_default(),
        ..Context::default()
    }
}

/// A kind that is gone has no objects; one whose server is down is a warning, as the source's
/// health is not ours to judge; one that may not be read would be lost in silence, and fails.
pub fn skip_or_fail(
    context: &TaskContext,
    namespace: &str,
    kind: &Kind,
    error: &crate::cluster::ClusterError,
) -> Result<(), TaskError> {
    let object = format!("{} in {namespace}", kind.resource());
    match error.code() {
        Some(404 | 405) => Ok(()),
        Some(503) if kind.group.contains('.') => {
            context.warn(finding(
                object,
                "KindNotReadable",
                format!("its objects were not read ({error}): its server is down; repair it and run again if they matter"),
            ));
            Ok(())
        }
        _ => Err(TaskError::cluster(object, "reading its objects", error)),
    }
}

async fn export_cluster_scope(
    context: &TaskContext,
    run: &Run,
    catalogue: &Catalogue,
    kinds: impl Iterator<Item = Kind>,
) -> Result<(), TaskError> {
    let mut archive = context.staging(run)?.write(ArchiveName::Cluster)?;
    for namespace in run.sources() {
        let object = context
            .cluster()
            .get(&format!("/api/v1/namespaces/{namespace}"))
            .await
            .map_err(|e| TaskError::cluster(format!("Namespace {namespace}"), "reading it", &e))?;
        archive.push(&object).await?;
    }
    for kind in kinds {
        let definition = definition_of(context.cluster(), catalogue, &kind)
            .await
            .map_err(|e| TaskError::cluster(kind.resource(), "reading its definition", &e))?;
        if let Some(definition) = definition {
            archive.push(&definition).await?;
        }
    }
    archive.finish().await?;
    Ok(())
}
