//! InspectSource: what would be moved, into the inventory.

use std::collections::BTreeMap;

use isthmus_shared::protocol::{Outcome, Run, VolumeFacts};
use isthmus_shared::resources::{MAX_VOLUMES, NamespaceMove, NamespaceRule};
use isthmus_shared::staging::ArchiveName;
use serde_json::Value;

use super::{pod_security, quantity};
use crate::cluster::{Kind, ObjectId, array, describe, discover, kind, name, namespace, text, uid};
use crate::collect::{Entry, Header, KindCount, Reader, definition_of, movable, write_header};
use crate::export::{selectors, skip_or_fail};
use crate::findings::{Findings, finding};
use crate::task::{TaskContext, TaskError};
use crate::volumes::{newest_passes, pods_of_claims};

/// The most objects of one migration.
const MAX_OBJECTS: usize = 200_000;

/// Looks at the source and writes the inventory. Changes nothing in the cluster.
pub async fn inspect_source(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    let catalogue = discover(context.cluster())
        .await
        .map_err(|e| TaskError::cluster("the source", "asking which kinds it serves", &e))?;
    for problem in catalogue.problems() {
        context.log(format!("note: {problem}"));
    }
    let mut kinds = movable(&catalogue);
    if !run.spec.include_resources {
        kinds.retain(|kind| kind.group.is_empty() && kind.kind == "PersistentVolumeClaim");
    }
    let mut failures = Findings::default();
    let mut header = Header::default();
    let mut entries: Vec<Entry> = Vec::new();
    let mut counted: BTreeMap<String, (Kind, u64)> = BTreeMap::new();
    let mut namespaces = Vec::new();
    for entry in &run.spec.namespaces {
        let moved = match entry.rule() {
            Ok(NamespaceRule::Mapped(moved)) => moved,
            Ok(NamespaceRule::Name(name) | NamespaceRule::Glob(name)) => NamespaceMove::same(name),
            Err(error) => {
                return Err(TaskError::failed("spec.namespaces", "BadNamespace", error.to_string()));
            }
        };
        let name = moved.from.as_str();
        let Some(object) = read_namespace(context, name, &mut failures).await? else { continue };
        namespaces.push(moved.clone());
        header.namespaces.push(object);
        let mut reader = Reader::new(context.cluster(), name, &kinds, selectors(run));
        context.doing(format!("looking at {name}"));
        while let Some(batch) = reader.next().await {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    skip_or_fail(context, name, &error.kind, &error.error)?;
                    continue;
                }
            };
            let count =
                &mut counted.entry(batch.kind.resource()).or_insert_with(|| (batch.kind.clone(), 0)).1;
            *count += batch.taken.len() as u64;
            for object in batch.taken {
                entries.push(ObjectId::of(&object));
                if batch.kind.group.is_empty() && kind(&object) == "PersistentVolumeClaim" {
                    header.claims.push(object);
                }
            }
            if entries.len() > MAX_OBJECTS {
                let message =
                    format!("there are more than {MAX_OBJECTS} objects: migrate fewer namespaces at once");
                return Err(TaskError::failed(format!("Namespace {name}"), "TooManyObjects", message));
            }
        }
    }
    for (kind, count) in counted.into_values().filter(|(_, count)| *count > 0) {
        let definition = definition_of(context.cluster(), &catalogue, &kind)
            .await
            .map_err(|e| TaskError::cluster(kind.resource(), "reading its definition", &e))?;
        header.kinds.push(KindCount {
            versions: catalogue.versions(&kind.group, &kind.kind),
            group: kind.group,
            version: kind.version,
            kind: kind.kind,
            plural: kind.plural,
            count,
            crd: definition.is_some(),
        });
    }
    if run.spec.include_volumes {
        header.volumes = look_at_claims(context, run, &header.claims, &mut failures).await?;
    }
    for namespace in &header.namespaces {
        check_mover(context, &header.volumes, namespace, &mut failures).await?;
    }
    if !failures.is_empty() {
        return Err(TaskError::Failed(failures));
    }
    let area = context.staging(run)?;
    let mut archive = area.write(ArchiveName::Inventory)?;
    write_header(&mut archive, &header).await?;
    for entry in &entries {
        archive.push(&serde_json::to_value(entry).unwrap_or_default()).await?;
    }
    archive.finish().await?;
    let objects = if run.spec.include_resources { entries.len() as u64 } else { 0 };
    context.log(format!("{objects} objects and {} volumes to move", header.volumes.len()));
    Ok(Outcome::SourceInspected { volumes: header.volumes, objects, namespaces })
}

async fn read_namespace(
    context: &TaskContext,
    name: &str,
    failures: &mut Findings,
) -> Result<Option<Value>, TaskError> {
    let object = format!("Namespace {name}");
    let found = context
        .cluster()
        .find(&format!("/api/v1/namespaces/{name}"))
        .await
        .map_err(|e| TaskError::cluster(&object, "reading it", &e))?;
    match found {
        None => {
            let message = format!(
                "cluster {} has no such namespace: check the name, and that the pair's source is the right cluster",
                context.spoke.name
            );
            failures.push(finding(object, "NamespaceNotFound", message));
            Ok(None)
        }
        Some(namespace) if !text(&namespace, "/metadata/deletionTimestamp").is_empty() => {
            let message =
                "it is being deleted on the source: there is nothing sound to move; name another".to_owned();
            failures.push(finding(object, "NamespaceTerminating", message));
            Ok(None)
        }
        found => Ok(found),
    }
}

async fn check_mover(
    context: &TaskContext,
    volumes: &[VolumeFacts],
    object: &Value,
    failures: &mut Findings,
) -> Result<(), TaskError> {
    let namespace = name(object);
    if !volumes.iter().any(|volume| volume.namespace == namespace) {
        return Ok(());
    }
    if let Some(failure) = pod_security::forbidden_by_label(object, namespace, "source") {
        failures.push(failure);
        return Ok(());
    }
    let image = &context.spoke.movers.image;
    let refused = pod_security::forbidden_by_server(context.cluster(), image, namespace, "source")
        .await
        .map_err(|e| TaskError::cluster(format!("Namespace {namespace}"), "trying the mover's Pod", &e))?;
    failures.extend(refused);
    Ok(())
}

async fn look_at_claims(
    context: &TaskContext,
    run: &Run,
    claims: &[Value],
    failures: &mut Findings,
) -> Result<Vec<VolumeFacts>, TaskError> {
    let area = context.staging(run)?;
    let mut volumes = Vec::new();
    for claim in claims {
        let object = describe(claim);
        let users = pods_of_claims(context.cluster(), namespace(claim), name(claim))
            .await
            .map_err(|e| TaskError::cluster(&object, "looking for the Pods that use it", &e))?;
        match verdict(claim, !users.is_empty()) {
            Verdict::Moves => {}
            Verdict::Empty(message) => {
                context.warn(finding(object, "ClaimNotBound", message));
                continue;
            }
            Verdict::InTheWay { reason, message } => {
                failures.push(finding(object, reason, message));
                continue;
            }
        }
        let passes = newest_passes(&area, uid(claim)).await?;
        volumes.push(VolumeFacts {
            namespace: namespace(claim).to_owned(),
            claim: name(claim).to_owned(),
            uid: uid(claim).to_owned(),
            capacity_bytes: capacity(claim),
            last_pass: passes.newest,
            last_complete_pass: passes.newest_complete,
        });
    }
    if volumes.len() > MAX_VOLUMES {
        let message = format!(
            "{} volumes are more than one migration takes ({MAX_VOLUMES}): migrate fewer namespaces at once",
            volumes.len()
        );
        failures.push(finding("the migration", "TooManyVolumes", message));
    }
    Ok(volumes)
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Moves,
    Empty(String),
    InTheWay { reason: &'static str, message: String },
}

fn verdict(claim: &Value, in_use: bool) -> Verdict {
    let phase = text(claim, "/status/phase");
    let once_by_one_pod = array(claim, "/spec/accessModes").iter().any(|mode| mode == "ReadWriteOncePod");
    if phase == "Lost" {
        return Verdict::InTheWay {
            reason: "ClaimLost",
            message:
                "its volume is gone on the source: restore it, or leave the claim behind with the annotation \
                      isthmus.dev/skip"
                    .to_owned(),
        };
    }
    if phase != "Bound" || text(claim, "/spec/volumeName").is_empty() {
        return Verdict::Empty(
            "it is not bound to a volume on the source: it is created without data".to_owned(),
        );
    }
    if text(claim, "/spec/volumeMode") == "Block" {
        return Verdict::InTheWay {
            reason: "BlockVolume",
            message:
                "it is a raw block volume, which cannot be moved yet: leave it behind with the annotation \
                      isthmus.dev/skip and move it by the means of the storage"
                    .to_owned(),
        };
    }
    if once_by_one_pod && in_use {
        return Verdict::InTheWay {
            reason: "ClaimInUse",
            message:
                "it is ReadWriteOncePod and in use, so no mover can mount it: stop the application (isthmus \
                      deactivate) and run again"
                    .to_owned(),
        };
    }
    Verdict::Moves
}

/// The capacity that the volume has; else what was asked for.
pub(super) fn capacity(claim: &Value) -> u64 {
    let granted = quantity::bytes(text(claim, "/status/capacity/storage"));
    if granted > 0 { granted } else { quantity::bytes(text(claim, "/spec/resources/requests/storage")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claim(phase: &str, mode: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "cms"},
               "spec": {"accessModes": [mode], "volumeName": "pv-1", "resources": {"requests": {"storage": "1Gi"}}},
               "status": {"phase": phase, "capacity": {"storage": "2Gi"}}})
    }

    #[test]
    fn a_bound_claim_moves_and_one_that_is_pending_arrives_empty() {
        assert_eq!(verdict(&claim("Bound", "ReadWriteOnce"), true), Verdict::Moves);
        assert!(matches!(verdict(&claim("Pending", "ReadWriteOnce"), false), Verdict::Empty(_)));
        assert_eq!(capacity(&claim("Bound", "ReadWriteOnce")), 2 << 30);
    }

    #[test]
    fn claims_that_no_mover_can_read_are_in_the_way() {
        let reason = |claim: &Value, in_use| match verdict(claim, in_use) {
            Verdict::InTheWay { reason, .. } => reason,
            _ => "",
        };
        assert_eq!(reason(&claim("Lost", "ReadWriteOnce"), false), "ClaimLost");
        assert_eq!(reason(&claim("Bound", "ReadWriteOncePod"), true), "ClaimInUse");
        assert_eq!(reason(&claim("Bound", "ReadWriteOncePod"), false), "");
        let mut block = claim("Bound", "ReadWriteOnce");
        block["spec"]["volumeMode"] = json!("Block");
        assert_eq!(reason(&block, false), "BlockVolume");
    }
}
