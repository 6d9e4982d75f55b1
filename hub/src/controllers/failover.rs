//! What the hub does for a failover whose source is not heard, beside moving it on: it ends the runs of
//! the schedule that would never end, and writes into the source's record what that is to do once it
//! is heard. There it survives hub and failover alike.

use isthmus_shared::resources::{
    Activation, ActivationPhase, CANCEL, Cluster, FIELD_MANAGER, Migration, MigrationAction, MigrationPhase,
};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::Desk;
use crate::itinerary;
use crate::records::WriteError;
use crate::surroundings;

/// The most activations in a cluster's record, as its schema has it.
const MAX_ACTIVATIONS: usize = 256;

/// Does what a migration asks for, if it is such a failover.
pub(super) async fn attend(desk: &Desk, migration: &Migration) -> Result<(), WriteError> {
    if migration.spec.action != MigrationAction::Failover {
        return Ok(());
    }
    let phase = migration.status.as_ref().map(|status| status.status).unwrap_or_default();
    if phase == MigrationPhase::Pending {
        end_runs(desk, migration).await
    } else {
        tell(desk, migration).await
    }
}

/// Ends the runs of the schedule that are under way: their source does not go on with them.
async fn end_runs(desk: &Desk, migration: &Migration) -> Result<(), WriteError> {
    let records = desk.records();
    let view = surroundings::view(records, &desk.office.presence, migration);
    let namespace = migration.namespace().unwrap_or_default();
    for run in itinerary::runs_to_end(migration, &view, Timestamp::now()) {
        let Some(known) = records.migrations.get(&namespace, &run) else { continue };
        if known.annotations().get(CANCEL).is_some_and(|value| value == "true") {
            continue;
        }
        let writer = &desk.office.writer;
        writer.term.check()?;
        let api: Api<Migration> = Api::namespaced(writer.client.clone(), &namespace);
        let patch = json!({"metadata": {"annotations": {CANCEL: "true"}}});
        match api.patch(&run, &params(), &Patch::Merge(&patch)).await {
            Ok(written) => {
                tracing::info!(run, failover = migration.name_any(), "cancelled for a failover");
                records.migrations.remember(written);
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => {
                return Err(WriteError::api("cancelling", format!("Migration {namespace}/{run}"))(error));
            }
        }
    }
    Ok(())
}

/// Has the source's record say what its applications are to be.
async fn tell(desk: &Desk, migration: &Migration) -> Result<(), WriteError> {
    let Some(wanted) = itinerary::handover(migration) else { return Ok(()) };
    let records = desk.records();
    let Some(cluster) = records.cluster(&wanted.cluster) else { return Ok(()) };
    let Some(activations) = with(&cluster, &wanted.activations) else { return Ok(()) };
    if activations.len() > MAX_ACTIVATIONS {
        tracing::warn!(
            cluster = wanted.cluster,
            failover = migration.name_any(),
            "the cluster has too many activations that are not done: what it is to stop cannot be noted"
        );
        return Ok(());
    }
    let writer = &desk.office.writer;
    writer.term.check()?;
    let api: Api<Cluster> = Api::namespaced(writer.client.clone(), &records.namespace);
    let patch = json!({
        "metadata": {"resourceVersion": cluster.resource_version()},
        "spec": {"activations": activations},
    });
    match api.patch(&wanted.cluster, &params(), &Patch::Merge(&patch)).await {
        Ok(written) => {
            tracing::info!(
                cluster = wanted.cluster,
                failover = migration.name_any(),
                "noted what the source is to do once it is heard"
            );
            records.clusters.remember(written);
            Ok(())
        }
        // Somebody else wrote in between, or took it away: the watch brings it, and this is done anew.
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(()),
        Err(error) => {
            Err(WriteError::api("writing the activations of", format!("Cluster {}", wanted.cluster))(error))
        }
    }
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// The activations of a cluster with these in place of what there is for the same namespaces; none if
/// they are there. Those that are done make room where there would be too many, the oldest first.
fn with(cluster: &Cluster, wanted: &[Activation]) -> Option<Vec<Activation>> {
    let known = &cluster.spec.activations;
    if wanted.iter().all(|new| known.contains(new)) {
        return None;
    }
    let others = |known: &&Activation| !wanted.iter().any(|new| new.namespace == known.namespace);
    let mut all: Vec<Activation> = known.iter().filter(others).cloned().collect();
    let mut surplus = (all.len() + wanted.len()).saturating_sub(MAX_ACTIVATIONS);
    let answers = cluster.status.as_ref().map(|status| status.activations.as_slice()).unwrap_or_default();
    all.retain(|known| {
        let done = answers
            .iter()
            .any(|answer| answer.request == known.request && answer.phase != ActivationPhase::InProgress);
        let goes = surplus > 0 && done;
        surplus -= usize::from(goes);
        !goes
    });
    all.extend_from_slice(wanted);
    Some(all)
}

#[cfg(test)]
mod tests {
    use isthmus_shared::resources::{ActivationStatus, ClusterSpec, ClusterStatus, TargetState};

    use super::*;

    fn activation(namespace: &str, request: &str) -> Activation {
        Activation {
            namespace: namespace.to_owned(),
            state: TargetState::Inactive,
            request: request.to_owned(),
            force: false,
            handed_over_to: Some("west/cms".to_owned()),
        }
    }

    fn cluster(activations: Vec<Activation>) -> Cluster {
        Cluster::new("east", ClusterSpec { activations, ..ClusterSpec::default() })
    }

    #[test]
    fn what_is_told_takes_the_place_of_what_was_asked_for_the_same_namespaces() {
        let wanted = [activation("cms", "failover-1"), activation("shop", "failover-1")];
        let before = cluster(vec![activation("cms", "by-hand"), activation("dev", "x")]);
        let after = with(&before, &wanted).unwrap();
        assert_eq!(after, [activation("dev", "x"), wanted[0].clone(), wanted[1].clone()]);
        assert_eq!(with(&cluster(after), &wanted), None, "it is written once");
    }

    #[test]
    fn what_is_done_makes_room() {
        let all = (0..MAX_ACTIVATIONS).map(|n| activation(&format!("n{n}"), &format!("r{n}"))).collect();
        let mut full = cluster(all);
        assert_eq!(with(&full, &[activation("cms", "f")]).unwrap().len(), MAX_ACTIVATIONS + 1);
        full.status = Some(ClusterStatus {
            activations: vec![ActivationStatus {
                namespace: "n7".into(),
                request: "r7".into(),
                state: TargetState::Inactive,
                phase: ActivationPhase::Succeeded,
                workloads: 0,
                message: None,
            }],
            ..ClusterStatus::default()
        });
        let after = with(&full, &[activation("cms", "f")]).unwrap();
        assert!(after.len() == MAX_ACTIVATIONS && !after.iter().any(|known| known.request == "r7"));
    }
}
