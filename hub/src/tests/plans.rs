//! Checks of plans through the whole hub, and what the hub itself finds in them.

use std::sync::atomic::Ordering;

use isthmus_shared::protocol::{Outcome, TASKS_PATH};
use isthmus_shared::resources::{ClusterPair, LinkState, MigrationPlan, NamespaceMove, PlanProblem, ProblemSeverity};
use serde_json::json;

use super::harness::{Hub, Spoke, new_hub};

/// A hub with a pair that is Ready, and its two spokes.
async fn paired() -> (Hub, Spoke, Spoke) {
    let hub = new_hub().await;
    let (east, west) = hub.pair().await;
    let ready = |pair: &ClusterPair| {
        pair.status
            .as_ref()
            .is_some_and(|s| (s.storage_status, s.scheduler_status) == (LinkState::Ready, LinkState::Ready))
    };
    hub.until("prod", "ready", ready).await;
    (hub, east, west)
}

/// The problems of a new plan, once both spokes have looked and found nothing.
async fn problems(hub: &Hub, east: &Spoke, west: &Spoke) -> Vec<PlanProblem> {
    let plan = json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "MigrationPlan", "metadata": {"name": "shop"},
        "spec": {"clusterPair": "prod", "namespaces": ["cms"]}});
    let _: MigrationPlan = hub.create(plan).await;
    west.does(hub, "Preflight/survey", Outcome::Done).await;
    let inspected =
        Outcome::SourceInspected { volumes: Vec::new(), objects: 1, namespaces: vec![NamespaceMove::same("cms")] };
    east.does(hub, "Preflight/source", inspected).await;
    west.does(hub, "Preflight/destination", Outcome::Done).await;
    east.does(hub, "Cleanup/source", Outcome::Done).await;
    west.does(hub, "Cleanup/destination", Outcome::Done).await;
    let checked = |plan: &MigrationPlan| plan.status.as_ref().is_some_and(|status| status.checked_at.is_some());
    hub.until("shop", "checked", checked).await.status.unwrap().problems
}

#[tokio::test]
async fn a_spoke_whose_clock_differs_is_told_before_it_is_refused() {
    let (hub, east, west) = paired().await;
    west.ahead.store(15, Ordering::Relaxed);
    let found = problems(&hub, &east, &west).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].object.as_str(), found[0].reason.as_str()), ("Cluster west", "ClockSkew"));
    assert_eq!(found[0].severity, ProblemSeverity::Warn);
    // Requests take their time, so that a second may be lost on the way.
    assert!(found[0].message.contains("15s ahead") || found[0].message.contains("14s ahead"), "{}", found[0].message);
}

#[tokio::test]
async fn a_spoke_that_is_refused_for_its_clock_is_known_to_be() {
    let (hub, _, west) = paired().await;
    let uid = hub.get::<isthmus_shared::resources::Cluster>("west").await.metadata.uid.unwrap();
    for (ahead, about) in [(60, 58..=60), (-200, -202..=-200)] {
        west.ahead.store(ahead, Ordering::Relaxed);
        let (status, _) = west.post(&hub, TASKS_PATH, &json!({"waitSeconds": 0})).await;
        assert_eq!(status, 401);
        let seen = hub.office.presence.clock(&uid, jiff::Timestamp::now());
        assert!(seen.is_some_and(|seen| about.contains(&seen)), "{seen:?}");
    }
}
