//! Joining, and who is let in.

use isthmus_shared::protocol::{HEARTBEAT_PATH, TASKS_PATH, logs_path, objects_path};
use isthmus_shared::resources::Cluster;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::fake_api::{PERSON, STRANGER};
use super::harness::{Spoke, new_hub};
use crate::conditions::is_ready;

#[tokio::test]
async fn a_spoke_joins_once_with_a_token_and_is_ready_when_heard() {
    let hub = new_hub().await;
    let token = hub.add_cluster("east").await;
    let (east, other) = (Spoke::new("east"), Spoke::new("east"));
    assert_eq!(east.enroll(&hub, &token).await.0, 200);
    assert_eq!(east.enroll(&hub, &token).await.0, 200, "its answer may have been lost");
    let (status, reply) = other.enroll(&hub, &token).await;
    assert_eq!((status, reply["reason"].as_str()), (403, Some("TokenUsed")));
    let facts = json!({"version": "v1.36.2", "spokeVersion": "0.1.0", "nodes": 3});
    let (_, reply) = east.post(&hub, HEARTBEAT_PATH, &json!({"factsDigest": "1"})).await;
    assert_eq!(reply["wantFacts"], true);
    let (_, reply) = east.post(&hub, HEARTBEAT_PATH, &json!({"factsDigest": "1", "facts": facts})).await;
    assert_eq!(reply["wantFacts"], false);
    let is = |cluster: &Cluster| {
        cluster.status.as_ref().is_some_and(|s| is_ready(&s.conditions) && s.nodes == Some(3))
    };
    let cluster = hub.until("east", "ready with its facts", is).await;
    assert!(cluster.status.unwrap().last_heartbeat.is_some());
    // The token has done its duty.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while !hub.api.all("secrets").is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "the token's Secret is still there");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn of_two_spokes_with_one_token_one_wins() {
    let hub = new_hub().await;
    let token = hub.add_cluster("east").await;
    let spokes: Vec<Spoke> = (0..6).map(|_| Spoke::new("east")).collect();
    let answers = futures::future::join_all(spokes.iter().map(|spoke| spoke.enroll(&hub, &token))).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 1, "{answers:?}");
    let winner = answers.iter().position(|(status, _)| *status == 200).unwrap();
    let key = hub.get::<Cluster>("east").await.status.unwrap().public_key;
    assert_eq!(key, Some(spokes[winner].key.public_base64()));
}

#[tokio::test]
async fn a_newer_token_makes_the_older_worthless_and_replaces_the_key() {
    let hub = new_hub().await;
    let first = hub.add_cluster("east").await;
    let api: Api<Cluster> = Api::namespaced(hub.api.client(), "isthmus");
    let patch = Patch::Merge(json!({"spec": {"joinRequest": "again"}}));
    api.patch("east", &PatchParams::default(), &patch).await.unwrap();
    let second = hub.join_token("east", Some("again")).await;
    let (east, other) = (Spoke::new("east"), Spoke::new("east"));
    let (status, reply) = east.enroll(&hub, &first).await;
    assert_eq!((status, reply["reason"].as_str()), (403, Some("TokenSuperseded")));
    assert_eq!(other.enroll(&hub, &second).await.0, 200);
}

#[tokio::test]
async fn each_wrong_request_gets_its_own_error() {
    let hub = new_hub().await;
    let east = hub.join("east").await;
    let reason = |(status, reply): (u16, serde_json::Value)| {
        (status, reply["reason"].as_str().unwrap_or("").to_owned())
    };
    let said = |status: u16, reason: &str| (status, reason.to_owned());
    let empty = json!({});
    assert_eq!(reason(hub.send("POST", TASKS_PATH, "nonsense", &empty).await), said(401, "TokenMalformed"));
    let impostor = Spoke::new("east");
    assert_eq!(reason(impostor.post(&hub, TASKS_PATH, &empty).await), said(401, "BadSignature"));
    assert_eq!(reason(Spoke::new("north").post(&hub, TASKS_PATH, &empty).await), said(403, "UnknownCluster"));
    hub.add_cluster("west").await;
    assert_eq!(reason(Spoke::new("west").post(&hub, TASKS_PATH, &empty).await), said(403, "UnknownKey"));
    let token = east.token();
    assert_eq!(hub.send("POST", TASKS_PATH, &token, &empty).await.0, 200);
    assert_eq!(reason(hub.send("POST", TASKS_PATH, &token, &empty).await), said(401, "Replayed"));
    assert_eq!(
        reason(east.post(&hub, TASKS_PATH, &json!({"waitSeconds": "x"})).await),
        said(400, "BadRequest")
    );
    assert_eq!(reason(hub.send("GET", TASKS_PATH, &token, &empty).await), said(405, "MethodNotAllowed"));
    assert_eq!(reason(hub.send("GET", "/v2", &token, &empty).await), said(404, "NotFound"));
    let large = json!("x".repeat(crate::api::MAX_BODY));
    assert_eq!(reason(hub.send("POST", TASKS_PATH, &token, &large).await), said(413, "TooLarge"));
}

#[tokio::test]
async fn a_cluster_that_has_joined_under_a_name_does_not_join_under_another() {
    let hub = new_hub().await;
    let east = hub.join("east").await;
    let token = hub.add_cluster("west").await;
    let (status, reply) = east.enroll(&hub, &token).await;
    assert_eq!((status, reply["reason"].as_str()), (403, Some("AlreadyJoined")));
    assert!(reply["message"].as_str().unwrap().contains("isthmus cluster remove east"));
}

#[tokio::test]
async fn a_removed_clusters_spoke_is_let_in_no_more() {
    let hub = new_hub().await;
    let east = hub.join("east").await;
    let api: Api<Cluster> = Api::namespaced(hub.api.client(), "isthmus");
    api.delete("east", &DeleteParams::default()).await.unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let (status, reply) = east.post(&hub, TASKS_PATH, &json!({})).await;
        if status == 403 {
            assert_eq!(reply["reason"], "UnknownCluster");
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "it is still let in");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn people_read_runs_as_far_as_their_rights_go() {
    let hub = new_hub().await;
    hub.migrate("m").await;
    let path = objects_path("isthmus", "m");
    let empty = json!({});
    assert_eq!(hub.send("GET", &path, "nobody", &empty).await.0, 401);
    assert_eq!(hub.send("GET", &path, STRANGER, &empty).await.0, 403);
    let missing = objects_path("isthmus", "none");
    assert_eq!(hub.send("GET", &missing, STRANGER, &empty).await.0, 403, "it is not told that there is none");
    assert_eq!(hub.send("GET", &missing, PERSON, &empty).await.0, 404);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while hub.office.records.migrations.get("isthmus", "m").is_none() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    let (status, page) = hub.send("GET", &path, PERSON, &empty).await;
    assert_eq!((status, page), (200, json!({"items": [], "next": null})));
    assert_eq!(hub.send("GET", &logs_path("isthmus", "m"), PERSON, &empty).await, (200, json!("")));
    assert_eq!(hub.send("GET", &format!("{path}?limit=x"), PERSON, &empty).await.1["reason"], "BadRequest");
}

#[tokio::test]
async fn a_hub_that_does_not_lead_serves_nobody_but_lives() {
    let hub = new_hub().await;
    let east = hub.join("east").await;
    let ready =
        |cluster: &Cluster| cluster.status.as_ref().is_some_and(|status| is_ready(&status.conditions));
    hub.until("east", "ready", ready).await;
    assert_eq!(hub.send("GET", "/readyz", "", &json!({})).await.0, 200);
    hub.leads.send_replace(None);
    let (status, reply) = east.post(&hub, TASKS_PATH, &json!({})).await;
    assert_eq!((status, reply["reason"].as_str()), (503, Some("NotLeading")));
    assert_eq!(hub.send("GET", "/readyz", "", &json!({})).await.0, 503);
    assert_eq!(hub.send("GET", "/livez", "", &json!({})).await.0, 200);
    let (status, text) = hub.send("GET", "/metrics", "", &json!({})).await;
    assert!(
        status == 200 && text.as_str().unwrap().contains("isthmus_hub_clusters{ready=\"true\"} 1"),
        "{text}"
    );
}
