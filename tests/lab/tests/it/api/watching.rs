//! Watches.

use futures::{StreamExt, TryStreamExt};
use kube::Api;
use kube::api::{DynamicObject, WatchEvent, WatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::json;

use super::{MERGE, PATIENCE, Subject, servers};

fn maps(s: &Subject) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "ConfigMap"));
    Api::namespaced_with(s.client.clone(), &s.namespace, &kind)
}

fn told(event: &WatchEvent<DynamicObject>) -> String {
    let name = |o: &DynamicObject| o.metadata.name.clone().unwrap_or_default();
    match event {
        WatchEvent::Added(o) => format!("added {}", name(o)),
        WatchEvent::Modified(o) => format!("modified {}", name(o)),
        WatchEvent::Deleted(o) => format!("deleted {}", name(o)),
        WatchEvent::Bookmark(b) if b.metadata.annotations.contains_key("k8s.io/initial-events-end") => {
            "initial end".to_owned()
        }
        WatchEvent::Bookmark(_) => "bookmark".to_owned(),
        WatchEvent::Error(e) => format!("error {}", e.code),
    }
}

#[tokio::test]
async fn a_watch_tells_what_starts_and_ceases_to_match_since_its_version() {
    for s in servers().await {
        let path = s.path("configmaps");
        let start = s.get(&path).await.1["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        s.post(&path, &json!({"metadata": {"name": "a", "labels": {"in": "yes"}}})).await;
        s.post(&path, &json!({"metadata": {"name": "b"}})).await;
        s.patch(&format!("{path}/b"), MERGE, &json!({"metadata": {"labels": {"in": "yes"}}})).await;
        s.patch(&format!("{path}/a"), MERGE, &json!({"data": {"x": "1"}})).await;
        s.patch(&format!("{path}/a"), MERGE, &json!({"metadata": {"labels": {"in": "no"}}})).await;
        s.delete(&format!("{path}/b")).await;
        let params = WatchParams::default().labels("in=yes").timeout(20);
        let events = maps(&s).watch(&params, &start).await.unwrap().try_filter(|e| {
            let keep = !matches!(e, WatchEvent::Bookmark(_));
            async move { keep }
        });
        let seen: Vec<String> =
            tokio::time::timeout(PATIENCE, events.take(5).map_ok(|e| told(&e)).try_collect())
                .await
                .unwrap()
                .unwrap();
        assert_eq!(seen, ["added a", "added b", "modified a", "deleted a", "deleted b"]);
        s.done().await;
    }
}

#[tokio::test]
async fn a_streaming_list_ends_its_beginning_with_a_bookmark() {
    for s in servers().await {
        let path = s.path("configmaps");
        s.post(&path, &json!({"metadata": {"name": "a", "labels": {"in": "yes"}}})).await;
        let params = WatchParams::default().labels("in=yes").initial_events().timeout(20);
        let mut events = maps(&s).watch(&params, "0").await.unwrap().boxed();
        assert_eq!(told(&events.try_next().await.unwrap().unwrap()), "added a");
        assert_eq!(told(&events.try_next().await.unwrap().unwrap()), "initial end");
        s.post(&path, &json!({"metadata": {"name": "c", "labels": {"in": "yes"}}})).await;
        let next = tokio::time::timeout(PATIENCE, events.try_next()).await.unwrap().unwrap().unwrap();
        assert_eq!(told(&next), "added c");
        drop(events);
        s.done().await;
    }
}
