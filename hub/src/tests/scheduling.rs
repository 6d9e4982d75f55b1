//! Schedules through the whole hub: runs made, passed over, held, and never made twice.

use isthmus_shared::protocol::HEARTBEAT_PATH;
use isthmus_shared::resources::{
    Cadence, FINALIZER, HoldReason, Migration, MigrationPhase, MigrationSchedule, MigrationScheduleStatus,
    ObjectStore, SCHEDULE, run_name,
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::fake_api::FakeApi;
use super::harness::{Hub, Spoke, hub, new_hub};

/// A schedule that was made two hours ago and was due an hour ago at the latest; not again for years.
fn missed() -> (Value, Timestamp) {
    let then = Timestamp::now() - SignedDuration::from_hours(1);
    let then = Timestamp::from_second(then.as_second().div_euclid(60) * 60).unwrap();
    let timing = then.strftime("%-M %-H %-d %-m *").to_string();
    assert_eq!(
        Cadence::parse(&timing, None).unwrap().last_between(Timestamp::UNIX_EPOCH, Timestamp::now()),
        Some(then)
    );
    let created = Timestamp::now() - SignedDuration::from_hours(2);
    let schedule = json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "MigrationSchedule",
        "metadata": {"name": "nightly", "creationTimestamp": created},
        "spec": {"schedule": timing, "template": {"spec": {"clusterPair": "prod", "namespaces": ["cms"]}}}});
    (schedule, then)
}

fn status(schedule: &MigrationSchedule) -> MigrationScheduleStatus {
    schedule.status.clone().unwrap_or_default()
}

fn told(hub: &Hub, reason: &str) -> bool {
    hub.api.all("events").iter().any(|event| event["reason"] == reason)
}

async fn is_made_up_for(hub: &Hub, due: Timestamp) -> MigrationSchedule {
    let last = |schedule: &MigrationSchedule| status(schedule).last_scheduled_at.map(|at| at.0);
    hub.until("nightly", "made up for", |schedule| last(schedule) == Some(due)).await
}

/// The destination's spoke says that the namespace's applications run there, or that they do not.
async fn marked(hub: &Hub, west: &Spoke, active: bool) {
    let fence = json!({"namespace": "cms", "active": active, "counterpart": "east/cms"});
    let (code, reply) = west.post(hub, HEARTBEAT_PATH, &json!({"factsDigest": "d", "fences": [fence]})).await;
    assert_eq!(code, 200, "{reply}");
}

#[tokio::test]
async fn a_run_that_was_missed_is_begun_as_the_schedules_own() {
    let hub = new_hub().await;
    let (_east, _west) = hub.pair().await;
    let (schedule, due) = missed();
    let schedule: MigrationSchedule = hub.create(schedule).await;
    let after = is_made_up_for(&hub, due).await;
    let name = run_name("nightly", due);
    assert_eq!(status(&after).active, [name.as_str()]);
    let run: Migration = hub.get(&name).await;
    assert_eq!(run.labels().get(SCHEDULE).map(String::as_str), Some("nightly"));
    assert!(run.finalizers().iter().any(|finalizer| finalizer == FINALIZER));
    let owner = &run.owner_references()[0];
    assert_eq!((Some(&owner.uid), owner.controller), (schedule.metadata.uid.as_ref(), Some(true)));
    assert_eq!(run.spec, schedule.spec.template.spec);
    let begun = |run: &Migration| run.status.as_ref().is_some_and(|s| s.status == MigrationPhase::InProgress);
    hub.until(&name, "under way", begun).await;
    assert!(told(&hub, "RunBegun"));
    assert_eq!(hub.api.all("migrations").len(), 1);
}

#[tokio::test]
async fn a_hub_that_died_before_it_wrote_down_what_it_had_begun_begins_it_no_more() {
    let first = new_hub().await;
    let (schedule, due) = missed();
    let api: FakeApi = first.api.clone();
    // Without its pair nothing is begun: the record is there for the next hub to find.
    let schedule: MigrationSchedule = first.create(schedule).await;
    drop(first);
    let owner = json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "MigrationSchedule", "name": "nightly",
        "uid": schedule.metadata.uid, "controller": true});
    let run = json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "Migration",
        "metadata": {"name": run_name("nightly", due), "labels": {SCHEDULE: "nightly"}, "ownerReferences": [owner]},
        "spec": {"clusterPair": "prod", "namespaces": ["cms"]}, "status": {"status": "Succeeded"}});
    let second = hub(&api, 2).await;
    let _: Migration = second.create(run).await;
    second.pair().await;
    let after = is_made_up_for(&second, due).await;
    assert_eq!(status(&after).last_succeeded.map(|run| run.name), Some(run_name("nightly", due)));
    let ready =
        |schedule: &MigrationSchedule| status(schedule).conditions.iter().any(|c| c.reason == "Scheduled");
    second.until("nightly", "waiting for its next run", ready).await;
    assert_eq!(second.api.all("migrations").len(), 1);
    assert!(!told(&second, "RunBegun"));
}

#[tokio::test]
async fn a_name_that_something_else_has_is_passed_over_and_told() {
    let hub = new_hub().await;
    hub.pair().await;
    let (schedule, due) = missed();
    let other = json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "Migration",
        "metadata": {"name": run_name("nightly", due)},
        "spec": {"clusterPair": "prod", "namespaces": ["shop"]}, "status": {"status": "Failed"}});
    let _: Migration = hub.create(other).await;
    let _: MigrationSchedule = hub.create(schedule).await;
    let after = is_made_up_for(&hub, due).await;
    assert_eq!(status(&after).active, Vec::<String>::new());
    assert!(told(&hub, "NameTaken"));
    let kept: Migration = hub.get(&run_name("nightly", due)).await;
    assert_eq!(kept.spec.namespaces, ["shop".into()]);
}

#[tokio::test]
async fn a_schedule_whose_destination_is_marked_active_is_held_until_the_mark_turns() {
    let hub = new_hub().await;
    let (_east, west) = hub.pair().await;
    marked(&hub, &west, true).await;
    let (schedule, due) = missed();
    let _: MigrationSchedule = hub.create(schedule).await;
    let held = |schedule: &MigrationSchedule| {
        status(schedule).held.is_some_and(|held| held.reason == HoldReason::DestinationActive)
    };
    hub.until("nightly", "held", held).await;
    assert!(hub.api.all("migrations").is_empty());
    marked(&hub, &west, false).await;
    let after = is_made_up_for(&hub, due).await;
    assert_eq!(status(&after).held, None);
    assert_eq!(hub.api.all("migrations").len(), 1);
}

#[tokio::test]
async fn a_run_that_has_not_begun_waits_while_its_schedule_is_held() {
    let hub = new_hub().await;
    let (east, west) = hub.pair().await;
    marked(&hub, &west, true).await;
    let (schedule, due) = missed();
    let schedule: MigrationSchedule = hub.create(schedule).await;
    // A hub of a moment ago made it, before the destination was activated.
    let owner = json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "MigrationSchedule", "name": "nightly",
        "uid": schedule.metadata.uid, "controller": true});
    let name = run_name("nightly", due);
    let run = json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "Migration",
        "metadata": {"name": name, "labels": {SCHEDULE: "nightly"}, "ownerReferences": [owner]},
        "spec": {"clusterPair": "prod", "namespaces": ["cms"]}});
    let _: Migration = hub.create(run).await;
    let message = |run: &Migration| run.status.clone().and_then(|status| status.message).unwrap_or_default();
    let waits = |run: &Migration| message(run).contains("MigrationSchedule nightly is held");
    hub.until(&name, "waiting for its schedule", waits).await;
    // The mark is gone, and with the probes the pair is Ready again.
    let store = hub.get::<ObjectStore>("stage").await.metadata.uid.unwrap();
    hub.beat(&east, &west, &store).await;
    let begun = |run: &Migration| run.status.as_ref().is_some_and(|s| s.status == MigrationPhase::InProgress);
    hub.until(&name, "under way", begun).await;
}

#[tokio::test]
async fn runs_beyond_the_history_are_removed() {
    let hub = new_hub().await;
    hub.pair().await;
    let (mut schedule, due) = missed();
    schedule["spec"]["successfulHistoryLimit"] = json!(1);
    schedule["spec"]["suspend"] = json!(true);
    let schedule: MigrationSchedule = hub.create(schedule).await;
    for hours in 1..=3 {
        let owner = json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "MigrationSchedule", "name": "nightly",
            "uid": schedule.metadata.uid, "controller": true});
        let at = due - SignedDuration::from_hours(hours);
        let run = json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "Migration",
            "metadata": {"name": run_name("nightly", at), "labels": {SCHEDULE: "nightly"}, "ownerReferences": [owner]},
            "spec": {"clusterPair": "prod", "namespaces": ["cms"]}, "status": {"status": "Succeeded"}});
        let _: Migration = hub.create(run).await;
    }
    let newest = run_name("nightly", due - SignedDuration::from_hours(1));
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let left: Vec<Value> =
            hub.api.all("migrations").iter().map(|run| run["metadata"]["name"].clone()).collect();
        if left == [json!(newest)] {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{left:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
