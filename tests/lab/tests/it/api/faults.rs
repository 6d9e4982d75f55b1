//! Faults that only the embedded server can be told to have.

use std::time::Duration;

use isthmus_lab::apiserver::Overload;
use serde_json::json;

use super::{JSON, Subject, embedded, exchange, message, servers};

async fn filled(s: &Subject, maps: usize) -> String {
    let path = s.path("configmaps");
    for number in 0..maps {
        let map = json!({"metadata": {"name": format!("m{number}"), "labels": {"of": "faults"}}});
        assert_eq!(s.post(&path, &map).await.0, 201);
    }
    format!("{path}?labelSelector=of%3Dfaults")
}

#[tokio::test]
async fn a_list_whose_token_is_too_old_can_go_on_inconsistently() {
    let s = embedded().await;
    let path = filled(&s, 5).await;
    let first = s.get(&format!("{path}&limit=2")).await.1;
    let token = first["metadata"]["continue"].as_str().unwrap();
    s.server().unwrap().faults().compact();
    let expired = s.get(&format!("{path}&limit=2&continue={token}")).await;
    assert_eq!((expired.0, &expired.1["reason"]), (410, &json!("Expired")));
    assert!(
        message(&expired).starts_with("The provided continue parameter is too old"),
        "{}",
        message(&expired)
    );
    let token = expired.1["metadata"]["continue"].as_str().unwrap();
    s.delete(&format!("{}/m3", s.path("configmaps"))).await;
    let rest = s.get(&format!("{path}&limit=10&continue={token}")).await.1;
    let names: Vec<_> =
        rest["items"].as_array().unwrap().iter().map(|map| map["metadata"]["name"].clone()).collect();
    assert_eq!(names, [json!("m2"), json!("m4")]);
    s.done().await;
}

#[tokio::test]
async fn an_overloaded_server_says_when_to_come_again() {
    let s = embedded().await;
    let path = filled(&s, 1).await;
    let faults = s.server().unwrap().faults();
    faults.overload(Overload { retry_after: Duration::from_secs(3), ..Overload::of(2) });
    for _ in 0..2 {
        let request = http::Request::get(&path).body(kube::client::Body::empty()).unwrap();
        let refused = s.client.send(request).await.unwrap();
        assert_eq!(refused.status(), 429);
        assert_eq!(refused.headers()["retry-after"], "3");
        assert!(refused.headers().contains_key("x-kubernetes-pf-flowschema-uid"));
    }
    assert_eq!(s.get(&path).await.0, 200);
    faults.overload(Overload { methods: vec!["POST".to_owned()], ..Overload::of(1) });
    assert_eq!(s.get(&path).await.0, 200);
    assert_eq!(s.post(&s.path("configmaps"), &json!({"metadata": {"name": "late"}})).await.0, 429);
    assert_eq!(faults.refused(), 3);
    s.done().await;
}

#[tokio::test]
async fn answers_say_which_flow_and_priority_level_their_requests_had() {
    for s in servers().await {
        let request = http::Request::get("/api/v1/namespaces").body(kube::client::Body::empty()).unwrap();
        let answer = s.client.send(request).await.unwrap();
        for header in ["x-kubernetes-pf-flowschema-uid", "x-kubernetes-pf-prioritylevel-uid"] {
            assert!(answer.headers().contains_key(header), "{header}");
        }
        s.done().await;
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_and_not_cut_off() {
    for s in servers().await {
        let data = "x".repeat(3 * 1024 * 1024);
        let body = json!({"metadata": {"name": "big"}, "data": {"x": data}}).to_string();
        let refused = exchange(&s.client, "POST", &s.path("configmaps"), (JSON, JSON), body).await;
        assert_eq!(refused.code, 413, "{refused:?}");
        s.done().await;
    }
}
