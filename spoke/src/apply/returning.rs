//! What was handed over and comes back: the body of the update that makes an object as it is on the
//! side that it comes from, without making it ours. Pure.
//!
//! | of the object | becomes |
//! | --- | --- |
//! | labels, annotations | those of the source are set, others stay; no mark of ours is added |
//! | what is kept of a stopped workload | as on the source: what it runs with once it is started |
//! | everything else but status | as on the source: what is gone there goes here |
//! | what cannot be changed, or was allocated here | stays |
//! | a claim | only labels, annotations and a larger request: it holds the data |
//!
//! So the object ends as if it had been edited here all the time, whoever owned its fields.

use isthmus_shared::quantity;
use isthmus_shared::resources::{MIGRATED_BY, MIGRATION_REPLICAS, MIGRATION_SUSPEND, PLAN};
use serde_json::{Map, Value};

use super::body::without_managed;
use super::replacement::replacement;
use crate::cluster::{api_version, kind};

/// Fields that cannot be changed on an object that is there, or only in ways that are its
/// controller's concern; the live one's count. A Job's template is that of the Pods that it has made.
const FIXED: &[(&str, &str, &[&str])] = &[
    ("apps", "Deployment", &["/spec/selector"]),
    ("apps", "DaemonSet", &["/spec/selector"]),
    ("apps", "ReplicaSet", &["/spec/selector"]),
    (
        "apps",
        "StatefulSet",
        &["/spec/selector", "/spec/serviceName", "/spec/podManagementPolicy", "/spec/volumeClaimTemplates"],
    ),
    (
        "batch",
        "Job",
        &[
            "/spec/selector",
            "/spec/template",
            "/spec/completions",
            "/spec/completionMode",
            "/spec/manualSelector",
        ],
    ),
];
/// What the source has no say in.
const OWN_FIELDS: &[&str] = &["apiVersion", "kind", "metadata", "status"];
const REQUEST: &str = "/spec/resources/requests/storage";

/// The body of the update.
pub fn returned(live: &Value, wanted: &Value) -> Value {
    let mut body = if is(live, "", "PersistentVolumeClaim") {
        claim(live, wanted)
    } else {
        let mut body = replacement(live, without_metadata(wanted));
        for pointer in fixed(live) {
            set_as(live, &mut body, pointer);
        }
        body
    };
    body["metadata"] = metadata(live, wanted);
    without_managed(body)
}

fn is(object: &Value, group: &str, of_kind: &str) -> bool {
    group_of(object) == group && kind(object) == of_kind
}

fn group_of(object: &Value) -> &str {
    api_version(object).split_once('/').map_or("", |(group, _)| group)
}

fn fixed(live: &Value) -> &'static [&'static str] {
    FIXED.iter().find(|(group, kind, _)| is(live, group, kind)).map_or(&[], |(_, _, fixed)| fixed)
}

fn without_metadata(wanted: &Value) -> Value {
    let mut body = wanted.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|key, _| {
            !OWN_FIELDS.contains(&key.as_str()) || matches!(key.as_str(), "apiVersion" | "kind")
        });
    }
    body
}

/// Makes what stands at a pointer as it is on the live object.
fn set_as(live: &Value, body: &mut Value, pointer: &str) {
    let (parent, field) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    let Some(parent) = body.pointer_mut(parent).and_then(Value::as_object_mut) else { return };
    match live.pointer(pointer) {
        Some(value) => parent.insert(field.to_owned(), value.clone()),
        None => parent.remove(field),
    };
}

fn claim(live: &Value, wanted: &Value) -> Value {
    let mut body = live.clone();
    let asked = |claim: &Value| claim.pointer(REQUEST).and_then(Value::as_str).map(str::to_owned);
    if let (Some(more), Some(request)) = (asked(wanted), body.pointer_mut(REQUEST))
        && quantity::bytes(&more) > request.as_str().map_or(0, quantity::bytes)
    {
        *request = more.into();
    }
    body
}

fn metadata(live: &Value, wanted: &Value) -> Value {
    let mut metadata = live.get("metadata").cloned().unwrap_or_default();
    let of = |object: &Value, which: &str| -> Map<String, Value> {
        object.pointer(&format!("/metadata/{which}")).and_then(Value::as_object).cloned().unwrap_or_default()
    };
    let mut labels = of(live, "labels");
    labels.extend(of(wanted, "labels").into_iter().filter(|(key, _)| key != MIGRATED_BY && key != PLAN));
    let mut annotations = of(live, "annotations");
    // Of how it was stopped here only the source's count is of use.
    annotations.retain(|key, _| key != MIGRATION_REPLICAS && key != MIGRATION_SUSPEND);
    annotations.extend(of(wanted, "annotations"));
    if let Some(metadata) = metadata.as_object_mut() {
        for (which, all) in [("labels", labels), ("annotations", annotations)] {
            if all.is_empty() {
                metadata.remove(which);
            } else {
                metadata.insert(which.to_owned(), Value::Object(all));
            }
        }
        if let Some(owners) = wanted.pointer("/metadata/ownerReferences") {
            metadata.entry("ownerReferences").or_insert_with(|| owners.clone());
        }
    }
    metadata
}

#[cfg(test)]
mod tests {
    use isthmus_shared::resources::QUIESCED_BY;
    use serde_json::json;

    use super::*;

    fn live() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {
                   "name": "web", "namespace": "cms", "uid": "u", "resourceVersion": "7", "finalizers": ["f"],
                   "labels": {"app": "web", "team": "a"},
                   "annotations": {MIGRATION_REPLICAS: "3", QUIESCED_BY: "cut", "note": "here"},
                   "managedFields": [{"manager": "kubectl"}]},
               "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "paused": true,
                        "template": {"spec": {"containers": [{"name": "web", "env": [{"name": "OLD", "value": "1"}]}]}}},
               "status": {"replicas": 0}})
    }

    fn wanted() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {
                   "name": "web", "namespace": "cms", "labels": {"app": "web2", MIGRATED_BY: "back", PLAN: "p"},
                   "annotations": {MIGRATION_REPLICAS: "5", "more": "there"}},
               "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web2"}},
                        "template": {"spec": {"containers": [{"name": "web", "env": [{"name": "NEW", "value": "1"}]}]}}}})
    }

    #[test]
    fn what_comes_back_is_as_on_the_source_and_gets_no_mark() {
        let body = returned(&live(), &wanted());
        assert_eq!(body["spec"]["template"], wanted()["spec"]["template"], "what is gone there goes here");
        assert!(body["spec"].get("paused").is_none());
        assert_eq!(body["spec"]["selector"], live()["spec"]["selector"], "it cannot be changed");
        assert_eq!(body["metadata"]["labels"], json!({"app": "web2", "team": "a"}));
        assert_eq!(body["status"], live()["status"]);
        for kept in ["uid", "resourceVersion", "finalizers"] {
            assert_eq!(body["metadata"][kept], live()["metadata"][kept], "{kept}");
        }
        assert!(body["metadata"].get("managedFields").is_none());
    }

    #[test]
    fn it_starts_with_the_count_that_it_has_on_the_side_that_it_comes_from() {
        let body = returned(&live(), &wanted());
        let annotations = &body["metadata"]["annotations"];
        assert_eq!(annotations[MIGRATION_REPLICAS], "5");
        assert_eq!((&annotations["note"], &annotations["more"]), (&json!("here"), &json!("there")));
        let mut running = wanted();
        running["metadata"]["annotations"] = json!({});
        running["spec"]["replicas"] = json!(2);
        let body = returned(&live(), &running);
        assert!(body["metadata"]["annotations"].get(MIGRATION_REPLICAS).is_none(), "no count of before");
    }

    #[test]
    fn done_again_nothing_more_is_done() {
        let once = returned(&live(), &wanted());
        assert_eq!(returned(&once, &wanted()), once);
    }

    #[test]
    fn a_claim_keeps_what_holds_its_data_and_may_only_grow() {
        let claim = |size: &str, class: &str, more: Value| {
            let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
                "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"],
                         "resources": {"requests": {"storage": size}}}});
            crate::transform::merge(&mut claim, &more);
            claim
        };
        let here = claim("1Gi", "gold", json!({"spec": {"volumeName": "pv-1"}}));
        let marked = json!({"metadata": {"labels": {"tier": "db", MIGRATED_BY: "back"}}});
        let body = returned(&here, &claim("2Gi", "fast", marked));
        assert_eq!(
            body,
            claim(
                "2Gi",
                "gold",
                json!({"spec": {"volumeName": "pv-1"}, "metadata": {"labels": {"tier": "db"}}})
            )
        );
        assert_eq!(returned(&here, &claim("512Mi", "gold", json!({}))), here, "it never shrinks");
    }

    #[test]
    fn what_was_allocated_here_stays_and_sections_that_are_gone_there_go() {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "type": "NodePort", "externalName": "old",
            "ports": [{"port": 80, "nodePort": 30080}]}});
        let there = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {
            "type": "NodePort", "ports": [{"port": 80}, {"port": 81}]}});
        let body = returned(&service, &there);
        assert_eq!(body["spec"]["clusterIP"], "10.0.0.1");
        assert_eq!(body["spec"]["ports"], json!([{"port": 80, "nodePort": 30080}, {"port": 81}]));
        assert!(body["spec"].get("externalName").is_none());
        let config = |fields: Value| {
            let mut config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}});
            crate::transform::merge(&mut config, &fields);
            config
        };
        let body = returned(
            &config(json!({"data": {"a": "1"}, "binaryData": {"b": ""}})),
            &config(json!({"data": {"c": "2"}})),
        );
        assert_eq!(body, config(json!({"data": {"c": "2"}})));
    }

    #[test]
    fn a_job_keeps_the_template_of_its_pods() {
        let job = |image: &str, suspend: bool| {
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"},
            "spec": {"suspend": suspend, "template": {"metadata": {"labels": {"controller-uid": image}}, "image": image}}})
        };
        let body = returned(&job("here", true), &job("there", false));
        assert_eq!(body, job("here", false));
    }

    #[test]
    fn owners_that_are_rebuilt_are_set_where_there_are_none() {
        let mut there = wanted();
        there["metadata"]["ownerReferences"] = json!([{"uid": "o"}]);
        assert_eq!(returned(&live(), &there)["metadata"]["ownerReferences"], json!([{"uid": "o"}]));
        let mut owned = live();
        owned["metadata"]["ownerReferences"] = json!([{"uid": "own"}]);
        assert_eq!(returned(&owned, &there)["metadata"]["ownerReferences"], json!([{"uid": "own"}]));
    }
}
