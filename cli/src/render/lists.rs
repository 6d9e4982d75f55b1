//! The tables of `list`.

use isthmus_shared::resources::{Cluster, ClusterPair, LinkState, Migration, ObjectStore};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::{condition, figures, sheet, word};

/// Clusters.
pub fn clusters(items: &[Cluster], now: Timestamp) -> String {
    let rows: Vec<_> = items
        .iter()
        .map(|cluster| {
            let status = cluster.status.clone().unwrap_or_default();
            let [ready, reason] = ready(&status.conditions);
            vec![
                cluster.name_any(),
                ready,
                status.version.unwrap_or_default(),
                status.nodes.map(|nodes| nodes.to_string()).unwrap_or_default(),
                reason,
                figures::ago(status.last_heartbeat.as_ref(), now),
                age(cluster, now),
            ]
        })
        .collect();
    sheet::table(&["NAME", "READY", "VERSION", "NODES", "REASON", "HEARTBEAT", "AGE"], &rows)
}

/// Stores.
pub fn stores(items: &[ObjectStore], now: Timestamp) -> String {
    let rows: Vec<_> = items
        .iter()
        .map(|store| {
            let conditions =
                store.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            let [ready, reason] = ready(conditions);
            let bucket = store.spec.bucket.clone();
            vec![store.name_any(), ready, store.spec.endpoint.clone(), bucket, reason, age(store, now)]
        })
        .collect();
    sheet::table(&["NAME", "READY", "ENDPOINT", "BUCKET", "REASON", "AGE"], &rows)
}

/// Pairs.
pub fn pairs(items: &[ClusterPair], now: Timestamp) -> String {
    let rows: Vec<_> = items
        .iter()
        .map(|pair| {
            let state = |state: Option<LinkState>| word(state.unwrap_or_default());
            let status = pair.status.as_ref();
            vec![
                pair.name_any(),
                pair.spec.source.clone(),
                pair.spec.destination.clone(),
                state(status.map(|status| status.storage_status)),
                state(status.map(|status| status.scheduler_status)),
                age(pair, now),
            ]
        })
        .collect();
    sheet::table(&["NAME", "SOURCE", "DESTINATION", "STORAGE-STATUS", "SCHEDULER-STATUS", "AGE"], &rows)
}

/// Migrations.
pub fn migrations(items: &[Migration], now: Timestamp) -> String {
    let rows: Vec<_> = items
        .iter()
        .map(|migration| {
            let status = migration.status.clone().unwrap_or_default();
            vec![
                migration.name_any(),
                migration.options().cluster_pair.clone(),
                status.step.map(word).unwrap_or_default(),
                word(status.status),
                status.volumes_summary.unwrap_or_default(),
                status.resources_summary.unwrap_or_default(),
                status.elapsed.unwrap_or_default(),
                status.bytes_summary.unwrap_or_default(),
                age(migration, now),
            ]
        })
        .collect();
    sheet::table(
        &["NAME", "PAIR", "STEP", "STATUS", "VOLUMES", "RESOURCES", "ELAPSED", "BYTES", "AGE"],
        &rows,
    )
}

fn ready(conditions: &[Condition]) -> [String; 2] {
    match condition(conditions, "Ready") {
        Some(ready) => [ready.status.clone(), ready.reason.clone()],
        None => ["Unknown".to_owned(), String::new()],
    }
}

fn age(record: &impl ResourceExt, now: Timestamp) -> String {
    figures::age(record.creation_timestamp().as_ref(), now)
}
