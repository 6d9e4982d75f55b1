//! Runs through the whole hub: records in, tasks out, reports in, statuses and events out.

use std::time::Duration;

use isthmus_shared::protocol::{Outcome, TaskState, VolumeFacts};
use isthmus_shared::resources::{
    ActivationPhase, Cluster, ClusterPair, FINALIZER, LinkState, Migration, MigrationPhase, NamespaceMove,
    ResourceCounts, Verified,
};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::harness::{Hub, Spoke, hub, new_hub};

fn inspected() -> Outcome {
    let volume = VolumeFacts {
        only_at_rest: false,
        namespace: "cms".into(),
        claim: "data".into(),
        uid: "v0".into(),
        capacity_bytes: 1,
        last_pass: 0,
        last_complete_pass: None,
    };
    Outcome::SourceInspected {
        volumes: vec![volume],
        objects: 3,
        namespaces: vec![NamespaceMove::same("cms")],
    }
}

fn moved() -> Outcome {
    Outcome::VolumeMoved {
        bytes: 5,
        bytes_uploaded: 4,
        files: 1,
        verified: Verified::default(),
        method: None,
    }
}

fn counts() -> ResourceCounts {
    ResourceCounts { total: 3, done: 3, created: 3, ..ResourceCounts::default() }
}

fn phase(migration: &Migration) -> MigrationPhase {
    migration.status.as_ref().map(|status| status.status).unwrap_or_default()
}

async fn up_to_volumes(hub: &Hub, east: &Spoke, west: &Spoke) {
    west.does(hub, "Preflight/survey", Outcome::Done).await;
    east.does(hub, "Preflight/source", inspected()).await;
    west.does(hub, "Preflight/destination", Outcome::Done).await;
    west.does(hub, "PrepareDestination/destination", Outcome::Done).await;
    east.does(hub, "ExportResources/source", Outcome::Exported { counts: counts() }).await;
}

async fn to_the_end(hub: &Hub, east: &Spoke, west: &Spoke) {
    east.does(hub, "FinalVolumes/send.v0", moved()).await;
    west.does(hub, "FinalVolumes/receive.v0", moved()).await;
    west.does(hub, "ApplyResources/destination", Outcome::Applied { counts: counts() }).await;
    west.does(hub, "Verify/destination", Outcome::Applied { counts: counts() }).await;
    east.does(hub, "Cleanup/source", Outcome::Done).await;
    west.does(hub, "Cleanup/destination", Outcome::Done).await;
}

#[tokio::test]
async fn a_migration_runs_from_its_record_to_its_end() {
    let hub = new_hub().await;
    let (east, west) = hub.pair().await;
    let ready = |pair: &ClusterPair| {
        pair.status
            .as_ref()
            .is_some_and(|s| (s.storage_status, s.scheduler_status) == (LinkState::Ready, LinkState::Ready))
    };
    hub.until("prod", "ready", ready).await;
    hub.migrate("m").await;
    up_to_volumes(&hub, &east, &west).await;
    to_the_end(&hub, &east, &west).await;
    let done: Migration = hub.until("m", "done", |m: &Migration| phase(m).is_terminal()).await;
    let status = done.status.clone().unwrap();
    assert_eq!(status.status, MigrationPhase::Succeeded, "{status:#?}");
    assert_eq!((status.fence, status.volumes_summary.as_deref()), (1, Some("1/1")));
    assert!(done.finalizers().iter().any(|finalizer| finalizer == FINALIZER));
    // Events come a moment later: nobody waits for them.
    let wanted = [("Started", 1), ("StepSucceeded", 7), ("VolumeSucceeded", 1), ("Succeeded", 1)];
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let events = hub.api.all("events");
        let told =
            wanted.map(|(reason, _)| (reason, events.iter().filter(|e| e["reason"] == reason).count()));
        if told == wanted {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{told:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn tasks_carry_what_the_spoke_needs_and_only_its_own() {
    let hub = new_hub().await;
    let (east, west) = hub.pair().await;
    hub.migrate("m").await;
    let task = west.await_task(&hub, "Preflight/survey").await;
    let (_, list) = west.post(&hub, isthmus_shared::protocol::TASKS_PATH, &json!({})).await;
    let run = &list["tasks"][0]["work"]["run"];
    assert_eq!(run["migration"], json!(task.record));
    assert_eq!((&run["name"], &run["namespaces"]), (&json!("isthmus/m"), &json!([])));
    assert_eq!(run["spec"]["namespaces"], json!(["cms"]));
    assert_eq!(run["staging"]["access"]["secretAccessKey"], "secret");
    assert_eq!(run["staging"]["key"].as_str().unwrap().len(), 44);
    assert!(east.poll(&hub, None, 0).await.0.is_empty());
    // The other spoke cannot end it either.
    assert_eq!(east.report(&hub, &task, TaskState::Failed, None).await, 200);
    assert_eq!(phase(&hub.get("m").await), MigrationPhase::InProgress);
    assert_eq!(west.poll(&hub, None, 0).await.0.len(), 1);
}

#[tokio::test]
async fn a_poll_is_held_until_there_is_something_new() {
    let hub = new_hub().await;
    let (_east, west) = hub.pair().await;
    let (none, revision) = west.poll(&hub, None, 25).await;
    assert!(none.is_empty());
    let waits = west.poll(&hub, Some(&revision), 25);
    let (answer, _) = tokio::join!(waits, hub.migrate("m"));
    assert_eq!(answer.0.len(), 1);
    let begun = tokio::time::Instant::now();
    let (_, again) = west.poll(&hub, Some(&answer.1), 1).await;
    assert_eq!(again, answer.1);
    assert!(begun.elapsed() >= Duration::from_millis(900), "it was answered early");
}

#[tokio::test]
async fn a_report_is_in_the_record_when_it_is_answered_even_if_others_write_too() {
    let hub = new_hub().await;
    let (east, west) = hub.pair().await;
    hub.migrate("m").await;
    west.does(&hub, "Preflight/survey", Outcome::Done).await;
    let task = east.await_task(&hub, "Preflight/source").await;
    hub.api.conflict(3);
    assert_eq!(east.report(&hub, &task, TaskState::Succeeded, Some(inspected())).await, 200);
    assert_eq!(hub.get::<Migration>("m").await.status.unwrap().volumes.len(), 1);
    assert!(east.poll(&hub, None, 0).await.0.is_empty(), "a task that is done is not handed out again");
    west.await_task(&hub, "Preflight/destination").await;
}

#[tokio::test]
async fn the_next_leader_goes_on_where_the_last_one_was() {
    let first = new_hub().await;
    let (east, west) = first.pair().await;
    first.migrate("m").await;
    up_to_volumes(&first, &east, &west).await;
    let task = east.await_task(&first, "FinalVolumes/send.v0").await;
    let store = first.get::<isthmus_shared::resources::ObjectStore>("stage").await.uid().unwrap();
    let api = first.api.clone();
    drop(first);
    let second = hub(&api, 2).await;
    second.beat(&east, &west, &store).await;
    assert_eq!(east.await_task(&second, "FinalVolumes/send.v0").await, task);
    to_the_end(&second, &east, &west).await;
    let done: Migration = second.until("m", "done", |m: &Migration| phase(m).is_terminal()).await;
    let status = done.status.unwrap();
    assert_eq!((status.status, status.fence), (MigrationPhase::Succeeded, 2));
}

#[tokio::test]
async fn a_former_leader_finds_the_higher_fence_and_stops() {
    let hub = new_hub().await;
    let (east, west) = hub.pair().await;
    let mut migration = hub.migrate("m").await;
    west.await_task(&hub, "Preflight/survey").await;
    migration = hub.get(&migration.name_any()).await;
    let mut status = migration.status.clone().unwrap();
    status.fence = 7;
    let api: Api<Migration> = Api::namespaced(hub.api.client(), "isthmus");
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status("m", &PatchParams::default(), &patch).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), hub.office.term.over().cancelled()).await.unwrap();
    assert_eq!(east.post(&hub, isthmus_shared::protocol::TASKS_PATH, &json!({})).await.0, 503);
}

#[tokio::test]
async fn of_two_migrations_of_a_namespace_one_waits_for_the_other() {
    let hub = new_hub().await;
    let (east, west) = hub.pair().await;
    hub.migrate("m1").await;
    hub.migrate("m2").await;
    let waits = |migration: &Migration| {
        let message = migration.status.as_ref().and_then(|status| status.message.clone()).unwrap_or_default();
        message.contains("waits for migration isthmus/m")
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let (waiting, _running) = loop {
        let (first, second): (Migration, Migration) = (hub.get("m1").await, hub.get("m2").await);
        if waits(&second) {
            break ("m2", "m1");
        }
        if waits(&first) {
            break ("m1", "m2");
        }
        assert!(tokio::time::Instant::now() < deadline, "neither waits: {first:#?} {second:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    up_to_volumes(&hub, &east, &west).await;
    to_the_end(&hub, &east, &west).await;
    hub.until(waiting, "begun", |m: &Migration| phase(m) == MigrationPhase::InProgress).await;
}

#[tokio::test]
async fn a_deleted_run_is_cancelled_then_let_go() {
    let hub = new_hub().await;
    let (east, west) = hub.pair().await;
    hub.migrate("m").await;
    west.await_task(&hub, "Preflight/survey").await;
    let api: Api<Migration> = Api::namespaced(hub.api.client(), "isthmus");
    let patch = Patch::Merge(json!({"metadata": {"deletionTimestamp": "2026-11-22T12:00:00Z"}}));
    api.patch("m", &PatchParams::default(), &patch).await.unwrap();
    east.does(&hub, "Cleanup/source", Outcome::Done).await;
    west.does(&hub, "Cleanup/destination", Outcome::Done).await;
    hub.until("m", "cancelled", |m: &Migration| phase(m) == MigrationPhase::Failed).await;
    // Its staging cannot be reached; it is kept until that has been tried for long enough.
    assert!(hub.get::<Migration>("m").await.finalizers().iter().any(|finalizer| finalizer == FINALIZER));
}

#[tokio::test]
async fn an_activation_is_handed_out_until_it_is_done() {
    let hub = new_hub().await;
    let east = hub.join("east").await;
    let api: Api<Cluster> = Api::namespaced(hub.api.client(), "isthmus");
    let wanted = json!({"spec": {"activations": [{"namespace": "cms", "state": "Active", "request": "r1"}]}});
    api.patch("east", &PatchParams::default(), &Patch::Merge(wanted)).await.unwrap();
    let task = east.await_task(&hub, "/Activate/cms.r1").await;
    let begun = |cluster: &Cluster| cluster.status.as_ref().is_some_and(|s| s.activations.len() == 1);
    hub.until("east", "activating", begun).await;
    let outcome = Outcome::Workloads { workloads: 2 };
    assert_eq!(east.report(&hub, &task, TaskState::Succeeded, Some(outcome)).await, 200);
    let status = hub.get::<Cluster>("east").await.status.unwrap();
    assert_eq!(
        (status.activations[0].phase, status.activations[0].workloads),
        (ActivationPhase::Succeeded, 2)
    );
    assert!(east.poll(&hub, None, 0).await.0.is_empty());
}

#[tokio::test]
async fn nothing_is_started_by_hand_that_a_cutover_is_handing_over() {
    let hub = new_hub().await;
    let (east, west) = hub.pair().await;
    let _: Migration = hub
        .create(json!({
            "apiVersion": "isthmus.dev/v1alpha1", "kind": "Migration", "metadata": {"name": "cut"},
            "spec": {"clusterPair": "prod", "namespaces": [{"cms": "cms-green"}], "quiesce": true},
        }))
        .await;
    west.await_task(&hub, "Preflight/survey").await;
    let api: Api<Cluster> = Api::namespaced(hub.api.client(), "isthmus");
    let answer = async |cluster: &str, namespace: &str, force: bool| {
        let wanted = json!({"namespace": namespace, "state": "Active", "request": format!("{namespace}-{force}"), "force": force});
        let patch = json!({"spec": {"activations": [wanted]}});
        api.patch(cluster, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        let there = |cluster: &Cluster| {
            let known = cluster.status.iter().flat_map(|status| &status.activations);
            known.into_iter().any(|a| a.namespace == namespace && a.request == format!("{namespace}-{force}"))
        };
        hub.until(cluster, "answered", there).await.status.unwrap().activations[0].clone()
    };
    let refused = answer("west", "cms-green", false).await;
    assert_eq!(refused.phase, ActivationPhase::Failed);
    assert!(refused.message.as_ref().is_some_and(|m| m.contains("Migration isthmus/cut")), "{refused:?}");
    assert_eq!(answer("east", "cms", false).await.phase, ActivationPhase::Failed);
    assert_eq!(answer("west", "cms", false).await.phase, ActivationPhase::InProgress, "another namespace");
    assert_eq!(answer("east", "cms", true).await.phase, ActivationPhase::InProgress, "somebody's own word");
    drop(east);
}

#[tokio::test]
async fn a_pair_follows_what_its_spokes_find() {
    let hub = new_hub().await;
    let (east, west) = hub.pair().await;
    let storage = |wanted: LinkState| {
        move |pair: &ClusterPair| pair.status.as_ref().is_some_and(|s| s.storage_status == wanted)
    };
    hub.until("prod", "ready", storage(LinkState::Ready)).await;
    let store = hub.get::<isthmus_shared::resources::ObjectStore>("stage").await.uid().unwrap();
    let (_, reply) =
        west.post(&hub, isthmus_shared::protocol::HEARTBEAT_PATH, &json!({"factsDigest": "d"})).await;
    let probe = json!({"store": store, "revision": reply["stores"][0]["revision"], "ageMillis": 0, "error": "NoSuchBucket: gone"});
    let body = json!({"factsDigest": "d", "probes": [probe]});
    west.post(&hub, isthmus_shared::protocol::HEARTBEAT_PATH, &body).await;
    let pair = hub.until("prod", "degraded", storage(LinkState::Degraded)).await;
    let message = pair.status.unwrap().storage_message.unwrap();
    assert_eq!(message, "spoke of cluster west: NoSuchBucket: gone");
    hub.beat(&east, &west, &store).await;
    hub.until("prod", "ready again", storage(LinkState::Ready)).await;
}
