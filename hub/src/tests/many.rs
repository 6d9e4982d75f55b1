//! Many migrations at once: side by side as far as there is room, and no spoke left waiting for a task
//! that is its own.

use std::collections::BTreeSet;
use std::time::Duration;

use isthmus_shared::protocol::{MAX_POLL_SECONDS, Outcome, TaskId, TaskState};
use isthmus_shared::resources::{CANCEL, Migration, MigrationPhase, NamespaceMove, ResourceCounts};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::fake_api::FakeApi;
use super::harness::{Hub, Spoke, limited_hub, new_hub};
use crate::room::Limits;

fn status(migration: &Migration) -> (MigrationPhase, String) {
    let status = migration.status.clone().unwrap_or_default();
    (status.status, status.message.unwrap_or_default())
}

/// A migration of a namespace of its own.
async fn migrate(hub: &Hub, name: &str, created: &str) {
    let _: Migration = hub
        .create(json!({
            "apiVersion": "isthmus.dev/v1alpha1", "kind": "Migration",
            "metadata": {"name": name, "creationTimestamp": created},
            "spec": {"clusterPair": "prod", "namespaces": [name], "includeVolumes": false},
        }))
        .await;
}

/// A plausible outcome of a task of [`migrate`]'s.
fn outcome(hub_name: &str, task: &TaskId) -> Outcome {
    let counts = ResourceCounts { total: 1, done: 1, created: 1, ..ResourceCounts::default() };
    match (task.step.as_str(), task.item.as_deref()) {
        ("Preflight", Some("source")) => Outcome::SourceInspected {
            volumes: Vec::new(),
            objects: 1,
            namespaces: vec![NamespaceMove::same(hub_name)],
        },
        ("ExportResources", _) => Outcome::Exported { counts },
        ("ApplyResources" | "Verify", _) => Outcome::Applied { counts },
        _ => Outcome::Done,
    }
}

/// Does every task as it comes, on polls that are held as long as they may be.
async fn works(hub: &Hub, spoke: &Spoke, names: &[(String, String)]) {
    let (mut known, mut done) = (None, BTreeSet::new());
    loop {
        let (ids, revision) = spoke.poll(hub, known.as_deref(), MAX_POLL_SECONDS).await;
        known = Some(revision);
        for id in ids.into_iter().filter(|id| !done.contains(id)).collect::<Vec<_>>() {
            let task: TaskId = id.parse().unwrap();
            let (name, _) = names.iter().find(|(_, uid)| *uid == task.record).unwrap();
            let outcome = outcome(name, &task);
            assert_eq!(spoke.report(hub, &task, TaskState::Succeeded, Some(outcome)).await, 200);
            done.insert(id);
        }
    }
}

#[tokio::test]
async fn no_held_poll_misses_a_task_that_has_come_for_it() {
    let hub = new_hub().await;
    let (east, west) = hub.pair().await;
    let mut names = Vec::new();
    for number in 0..6 {
        let name = format!("app-{number}");
        migrate(&hub, &name, "2026-11-22T12:00:00Z").await;
        names.push((name.clone(), hub.get::<Migration>(&name).await.uid().unwrap()));
    }
    let all_done = async {
        for (name, _) in &names {
            let done = |migration: &Migration| status(migration).0 == MigrationPhase::Succeeded;
            hub.until(name, "done", done).await;
        }
    };
    // A poll that missed its change would be answered only when its time is up.
    let limit = Duration::from_secs(MAX_POLL_SECONDS);
    tokio::select! {
        () = works(&hub, &east, &names) => {}
        () = works(&hub, &west, &names) => {}
        done = tokio::time::timeout(limit, all_done) => done.expect("a poll slept through a change"),
    }
}

#[tokio::test]
async fn over_the_limit_of_a_cluster_migrations_wait_and_begin_in_their_order() {
    let limits = Limits { per_cluster: 1, per_store: 9 };
    let hub = limited_hub(&FakeApi::new(), 1, limits).await;
    let (east, west) = hub.pair().await;
    let runs = |migration: &Migration| status(migration).0 == MigrationPhase::InProgress;
    let waits = |migration: &Migration| {
        let (phase, message) = status(migration);
        phase == MigrationPhase::Pending
            && message.starts_with("waits for room on cluster east, where at most 1 migrations run")
    };
    migrate(&hub, "first", "2026-11-22T12:00:00Z").await;
    hub.until("first", "begun", runs).await;
    migrate(&hub, "third", "2026-11-22T12:00:02Z").await;
    hub.until("third", "waiting", waits).await;
    migrate(&hub, "second", "2026-11-22T12:00:01Z").await;
    hub.until("second", "waiting", waits).await;
    for (ends, begins) in [("first", "second"), ("second", "third")] {
        let api: Api<Migration> = Api::namespaced(hub.api.client(), "isthmus");
        let cancel = Patch::Merge(json!({"metadata": {"annotations": {CANCEL: "true"}}}));
        api.patch(ends, &PatchParams::default(), &cancel).await.unwrap();
        east.does(&hub, "Cleanup/source", Outcome::Done).await;
        west.does(&hub, "Cleanup/destination", Outcome::Done).await;
        hub.until(begins, "begun", runs).await;
        let third = status(&hub.get("third").await).0;
        assert_eq!(third == MigrationPhase::InProgress, begins == "third", "the older one comes first");
    }
}

#[tokio::test]
async fn a_rollback_does_not_wait_for_room() {
    let limits = Limits { per_cluster: 1, per_store: 1 };
    let hub = limited_hub(&FakeApi::new(), 1, limits).await;
    let (_east, _west) = hub.pair().await;
    migrate(&hub, "busy", "2026-11-22T12:00:00Z").await;
    let runs = |migration: &Migration| status(migration).0 == MigrationPhase::InProgress;
    hub.until("busy", "begun", runs).await;
    let room = &hub.office.records.room;
    assert_eq!(room.on_cluster("east").len(), 1);
    let done: Migration = hub
        .create(json!({
            "apiVersion": "isthmus.dev/v1alpha1", "kind": "Migration", "metadata": {"name": "done"},
            "spec": {"clusterPair": "prod", "namespaces": ["cms"], "quiesce": true},
            "status": {"status": "Succeeded", "pairUid": hub.get::<isthmus_shared::resources::ClusterPair>("prod").await.uid(),
                "source": "east", "destination": "west", "startedAt": "2026-11-22T11:00:00Z", "finishedAt": "2026-11-22T11:30:00Z",
                "namespaces": [{"from": "cms", "to": "cms"}], "active": "Destination",
                "pipeline": [{"step": "ApplyResources", "state": "Succeeded"}, {"step": "Cleanup", "state": "Succeeded"}]},
        }))
        .await;
    assert_eq!(status(&done).0, MigrationPhase::Succeeded);
    let _: Migration = hub
        .create(json!({
            "apiVersion": "isthmus.dev/v1alpha1", "kind": "Migration", "metadata": {"name": "back"},
            "spec": {"clusterPair": "prod", "action": "Rollback", "rollbackOf": "done"},
        }))
        .await;
    hub.until("back", "begun", runs).await;
}
