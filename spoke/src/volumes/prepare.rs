//! PrepareDestination: the namespaces, under their destination names, and, where data is moved,
//! the claims.

use isthmus_shared::protocol::{Outcome, Run};
use isthmus_shared::resources::MIGRATED_BY;
use isthmus_shared::staging::ArchiveName;
use serde_json::{Value, json};

use crate::apply::{Applier, Owners};
use crate::cluster::{ObjectId, PatchKind, discover, name, namespace, text};
use crate::collect::InventoryReader;
use crate::findings::{Findings, finding};
use crate::task::{TaskContext, TaskError};
use crate::transform::{Rewriter, namespace_marks};

/// Makes the namespaces and, where data is moved, the claims.
pub async fn prepare_destination(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    if run.recovers.is_some() {
        Box::pin(super::cleanup::end_movers(context, run)).await?;
    }
    let area = context.staging(run)?;
    let archive = area.read(ArchiveName::Inventory).await?;
    let header = InventoryReader::new(archive).await?.header;
    for source in &header.namespaces {
        prepare_namespace(context, run, source, run.destination_of(name(source))).await?;
    }
    if !run.spec.include_volumes {
        return Ok(Outcome::Done);
    }
    let catalogue = discover(context.cluster())
        .await
        .map_err(|e| TaskError::cluster("the destination", "asking which kinds it serves", &e))?;
    let rewriter =
        Rewriter::new(run).map_err(|e| TaskError::failed("the migration", "BadTransform", e.to_string()))?;
    let applier = Applier::new(context.cluster(), &catalogue, &rewriter, run);
    let owners = Owners::new(context.cluster(), &catalogue);
    let moves = |claim: &&Value| {
        header.volumes.iter().any(|v| v.namespace == namespace(claim) && v.claim == name(claim))
    };
    let mut failures = Findings::default();
    for claim in header.claims.iter().filter(moves) {
        // Owners that an earlier run brought stay its owners; for those that are yet to come the
        // claim is looked at again when the objects are applied.
        let place = run.destination_of(namespace(claim));
        let object = ObjectId::of(claim).on_destination(run).describe();
        let arrived = match owners.rebuild(claim, place).await {
            Ok(rebuilt) => applier.apply(claim, &rebuilt.references).await,
            Err(problem) => Err(problem),
        };
        match arrived {
            Ok(arrived) => context.log(format!("{object}: {:?}", arrived.applied)),
            Err(problem) if problem.transient => {
                return Err(TaskError::Transient(finding(object, &problem.reason, problem.message)));
            }
            Err(problem) => failures.push(finding(object, &problem.reason, problem.message)),
        }
    }
    if failures.is_empty() { Ok(Outcome::Done) } else { Err(TaskError::Failed(failures)) }
}

/// Makes a namespace with the source's labels and annotations, or adds those that it lacks. What
/// the destination says itself stays: its Pod Security level above all. Only one that we make
/// carries our mark.
async fn prepare_namespace(
    context: &TaskContext,
    run: &Run,
    source: &Value,
    name: &str,
) -> Result<(), TaskError> {
    let object = format!("Namespace {name}");
    let path = format!("/api/v1/namespaces/{name}");
    let live =
        context.cluster().find(&path).await.map_err(|e| TaskError::cluster(&object, "reading it", &e))?;
    let Some(live) = live else {
        let mut labels = namespace_marks(source, &Value::Null, "labels");
        labels.insert(MIGRATED_BY.to_owned(), run.migration.clone().into());
        let annotations = namespace_marks(source, &Value::Null, "annotations");
        let wanted = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": labels, "annotations": annotations}
        });
        let apply = PatchKind::Apply { force: true, dry_run: false };
        context
            .cluster()
            .patch(&path, &wanted, apply)
            .await
            .map_err(|e| TaskError::cluster(&object, "making it", &e))?;
        context.log(format!("{object} made"));
        return Ok(());
    };
    if !text(&live, "/metadata/deletionTimestamp").is_empty() {
        let message = "it is being deleted on the destination: wait until it is gone, then run again";
        return Err(TaskError::failed(object, "NamespaceTerminating", message));
    }
    let labels = namespace_marks(source, &live, "labels");
    let annotations = namespace_marks(source, &live, "annotations");
    if labels.is_empty() && annotations.is_empty() {
        return Ok(());
    }
    let patch = json!({"metadata": {"labels": labels, "annotations": annotations}});
    context
        .cluster()
        .patch(&path, &patch, PatchKind::Merge)
        .await
        .map_err(|e| TaskError::cluster(&object, "adding the source's labels and annotations", &e))?;
    context.log(format!("{object}: {} labels and {} annotations added", labels.len(), annotations.len()));
    Ok(())
}
