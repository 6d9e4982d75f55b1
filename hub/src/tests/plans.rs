//! What the hub itself finds in plans, of what spokes show it.

use std::sync::atomic::Ordering;

use isthmus_shared::protocol::TASKS_PATH;
use isthmus_shared::resources::{ClusterPair, LinkState, MigrationPlan, PlanProblem, ProblemSeverity};
use jiff::Timestamp;
use serde_json::json;

use super::harness::{Hub, Spoke, new_hub};
use crate::surroundings::wrong_clocks;

/// A hub with a pair that is Ready, a plan, and the two spokes.
async fn planned() -> (Hub, Spoke, Spoke) {
    let hub = new_hub().await;
    let (east, west) = hub.pair().await;
    let ready = |pair: &ClusterPair| {
        pair.status
            .as_ref()
            .is_some_and(|s| (s.storage_status, s.scheduler_status) == (LinkState::Ready, LinkState::Ready))
    };
    hub.until("prod", "ready", ready).await;
    let plan = json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "MigrationPlan", "metadata": {"name": "shop"},
        "spec": {"clusterPair": "prod", "namespaces": ["cms"]}});
    let _: MigrationPlan = hub.create(plan).await;
    (hub, east, west)
}

/// What is found of clocks once a spoke has made a request with its clock so far ahead.
async fn found(hub: &Hub, spoke: &Spoke, ahead: i64, answer: u16) -> Vec<PlanProblem> {
    spoke.ahead.store(ahead, Ordering::Relaxed);
    let (status, _) = spoke.post(hub, TASKS_PATH, &json!({"waitSeconds": 0})).await;
    assert_eq!(status, answer);
    let plan: MigrationPlan = hub.get("shop").await;
    wrong_clocks(&hub.office.records, &hub.office.presence, &plan, Timestamp::now())
}

#[tokio::test]
async fn a_spoke_whose_clock_differs_is_told_before_it_is_refused() {
    let (hub, east, west) = planned().await;
    assert!(found(&hub, &east, 0, 200).await.is_empty());
    let told = found(&hub, &west, 15, 200).await;
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!((told[0].object.as_str(), told[0].reason.as_str()), ("Cluster west", "ClockSkew"));
    assert_eq!(told[0].severity, ProblemSeverity::Warn);
    // A second may be lost on the way.
    let message = &told[0].message;
    assert!(message.contains("15s ahead") || message.contains("14s ahead"), "{message}");
    // One that is refused is known to be for its clock.
    for refused in [60, -200] {
        let told = found(&hub, &west, refused, 401).await;
        assert_eq!((told.len(), told[0].severity), (1, ProblemSeverity::Critical), "{told:#?}");
    }
    assert!(found(&hub, &west, 0, 200).await.is_empty(), "it was set right");
}

#[tokio::test]
async fn a_store_whose_clock_differs_is_told() {
    let (hub, east, _) = planned().await;
    let store: isthmus_shared::resources::ObjectStore = hub.get("stage").await;
    hub.office.presence.clock_seen(&store.metadata.uid.unwrap(), -3600, Timestamp::now());
    let told = found(&hub, &east, 0, 200).await;
    assert_eq!((told.len(), told[0].object.as_str()), (1, "ObjectStore stage"), "{told:#?}");
}
