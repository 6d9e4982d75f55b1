use proptest::prelude::*;
use serde_json::json;

use super::super::*;
use super::{ARRIVED, metadata, rewriter, run_of};

/// A name that nothing else has, so that it is found wherever it is left.
const SOURCE: &str = "zz-source";

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-zA-Z./-]{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "a",
            "b",
            "http://x.a.svc/",
            "system:serviceaccount:a:x",
            "quay.io/a:1",
            "ü.a.svc"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any_key(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Keys that rules look for, and others.
fn any_key() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "annotations",
        "clusterIP",
        "containers",
        "data",
        "env",
        "fieldsV1",
        "hard",
        "image",
        "jobTemplate",
        "kind",
        "labels",
        "matchExpressions",
        "matchLabels",
        "metadata",
        "name",
        "namespace",
        "namespaces",
        "ports",
        "spec",
        "storageClassName",
        "subjects",
        "template",
        "triggers",
        "volumeClaimTemplates",
        "volumes",
        "webhooks",
        "kubectl.kubernetes.io/last-applied-configuration",
    ]);
    prop_oneof![known.prop_map(str::to_owned), "[a-zA-Z]{1,10}"]
}

fn any_kind() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop::sample::select(vec![
        ("v1", "Service"),
        ("v1", "PersistentVolumeClaim"),
        ("v1", "PersistentVolume"),
        ("v1", "ServiceAccount"),
        ("v1", "ConfigMap"),
        ("v1", "Secret"),
        ("v1", "Pod"),
        ("v1", "ResourceQuota"),
        ("batch/v1", "Job"),
        ("batch/v1", "CronJob"),
        ("apps/v1", "Deployment"),
        ("apps/v1", "DaemonSet"),
        ("apps/v1", "StatefulSet"),
        ("networking.k8s.io/v1", "Ingress"),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
        ("route.openshift.io/v1", "Route"),
        ("apps.openshift.io/v1", "DeploymentConfig"),
        ("image.openshift.io/v1", "ImageStream"),
        ("example.com/v1", "Widget"),
    ])
}

prop_compose! {
    fn any_object()((api_version, kind) in any_kind(), spec in any_json(), other in any_json()) -> Value {
        json!({"apiVersion": api_version, "kind": kind, "metadata": metadata("x"), "spec": spec, "other": other})
    }
}

/// Everything that a run can ask for, in chains that a second pass would follow.
fn all_asked() -> Rewriter {
    let options = json!({
        "storageClassMapping": {"a": "b", "b": "c"}, "accessModeMapping": {"a": "b", "b": "a"},
        "ingressClassMapping": {"a": "b", "b": "a"}, "imageMapping": {"quay.io": "quay.io/quay.io", "a": "b"},
        "rewriteHostNames": true,
        "transforms": [
            {"match": {"kind": "ConfigMap"}, "jsonPatch": [{"op": "add", "path": "/seen", "value": 1}]},
            {"match": {"kind": "Deployment"}, "mergePatch": {"metadata": {"annotations": {"n": "1"}}}},
            {"match": {"kind": "Secret"}, "strategicMergePatch": {"metadata": {"finalizers": ["example.com/x"]}}}]
    });
    rewriter(&run_of(options, &[("a", "b"), ("b", "a"), ("cms", "cms-new"), ("cms-new", "other")]))
}

fn again(rewriter: &Rewriter, object: Value, stopped: bool) -> Value {
    rewriter.rewrite(object, &Arrival { stopped, ..ARRIVED }).unwrap().object
}

/// Places where a namespace is known to be one.
fn any_reference() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({"kind": "ServiceAccount", "name": "x", "namespace": SOURCE}),
        json!({"name": "x", "namespace": SOURCE}),
        json!({"group": "g", "kind": "K", "namespace": SOURCE}),
        json!({"kind": "User", "name": format!("system:serviceaccount:{SOURCE}:x")}),
        json!({"kind": "Group", "name": format!("system:serviceaccounts:{SOURCE}")}),
        json!({"clientConfig": {"service": {"name": "x", "namespace": SOURCE}}}),
        json!({"namespaceSelector": {"matchNames": [SOURCE]}}),
        json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": SOURCE}}}),
        json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": [SOURCE]}]}),
        json!({"topologyKey": "zone", "namespaces": [SOURCE]}),
        json!({"principals": [format!("cluster.local/ns/{SOURCE}/sa/x")]}),
        json!({"annotations": {"cert-manager.io/inject-ca-from": format!("{SOURCE}/x")}}),
        json!({"env": [{"name": "X", "value": format!("http://x.{SOURCE}.svc:80")}]}),
    ])
}

/// A reference at any depth, below keys that no rule looks for.
fn any_place() -> impl Strategy<Value = Value> {
    (any_reference(), prop::collection::vec(prop::option::of("k[a-z]{0,6}"), 0..4)).prop_map(
        |(reference, path)| {
            path.into_iter().fold(reference, |inner, step| match step {
                Some(key) => json!({key: inner, "other": 1}),
                None => json!([inner, "text"]),
            })
        },
    )
}

proptest! {
    #[test]
    fn rewriting_twice_is_rewriting_once(object in any_object(), stopped in any::<bool>()) {
        for rewriter in [Rewriter::default(), all_asked()] {
            let once = again(&rewriter, object.clone(), stopped);
            prop_assert_eq!(&again(&rewriter, once.clone(), stopped), &once);
        }
    }

    #[test]
    fn the_rules_for_every_object_see_nothing_more_to_do_in_what_they_made(object in any_object()) {
        let once = again(&Rewriter::default(), object, false);
        let mut unmarked = once.clone();
        remove(&mut unmarked, "/metadata/labels", &[MIGRATED_BY, PLAN]);
        prop_assert_eq!(again(&Rewriter::default(), unmarked, false), once);
    }

    #[test]
    fn the_same_object_becomes_the_same_each_time(object in any_object()) {
        let rewriter = all_asked();
        let first = rewriter.rewrite(object.clone(), &ARRIVED).unwrap();
        prop_assert_eq!(rewriter.rewrite(object, &ARRIVED).unwrap(), first);
    }

    #[test]
    fn fields_that_no_rule_names_stay_as_they_are(object in any_object(), data in "[a-zA-Z0-9 ]{0,20}") {
        let mut object = object;
        object["plain"] = json!({"x": data, "y": [1, null, {"z": data}]});
        let after = again(&Rewriter::default(), object.clone(), false);
        prop_assert_eq!(&after["plain"], &object["plain"]);
        if object["kind"] == "Widget" {
            prop_assert_eq!(&after["spec"], &object["spec"]);
            prop_assert_eq!(&after["other"], &object["other"]);
        }
        prop_assert_eq!(&again(&all_asked(), object.clone(), false)["plain"], &object["plain"]);
    }

    #[test]
    fn any_json_at_all_is_rewritten_without_a_panic(
        (api_version, kind) in any_kind(), value in any_json(), metadata in any_json(), whole in any::<bool>()
    ) {
        let object = match value {
            Value::Object(mut map) if !whole => {
                map.insert("apiVersion".to_owned(), json!(api_version));
                map.insert("kind".to_owned(), json!(kind));
                map.insert("metadata".to_owned(), metadata);
                Value::Object(map)
            }
            value => value,
        };
        // A transform may not fit what is no object; that is told, not thrown.
        let _ = all_asked().rewrite(object, &Arrival { stopped: true, ..ARRIVED });
    }

    #[test]
    fn namespaces_that_keep_their_names_change_nothing(object in any_object()) {
        let same = rewriter(&run_of(json!({}), &[("a", "a"), ("cms", "cms")]));
        let (with, without) = (same.rewrite(object.clone(), &ARRIVED), Rewriter::default().rewrite(object, &ARRIVED));
        prop_assert_eq!(with.unwrap().object, without.unwrap().object);
    }

    #[test]
    fn no_known_reference_to_a_renamed_namespace_is_left(
        (api_version, kind) in any_kind(), spec in any_place(), subjects in prop::collection::vec(any_reference(), 0..3)
    ) {
        let run = run_of(json!({"rewriteHostNames": true}), &[(SOURCE, "new")]);
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "namespace": SOURCE},
                            "spec": spec, "subjects": subjects});
        let after = rewriter(&run).rewrite(object, &ARRIVED).unwrap();
        // Secrets have no such fields, and what their texts hold is told, not changed.
        if kind != "Secret" {
            prop_assert!(!after.object.to_string().contains(SOURCE), "{}", after.object);
        }
    }
}
