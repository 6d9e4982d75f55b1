//! A spec, and what is wrong with it.

use serde_json::{Value, json};

use super::*;

/// The problems of a spec with these options, as `field: reason`.
fn problems(options: &Value) -> Vec<String> {
    let mut spec = json!({"clusterPair": "p", "namespaces": ["cms"]});
    for (field, value) in options.as_object().unwrap() {
        spec[field] = value.clone();
    }
    let spec: MigrationSpec = serde_json::from_value(spec).unwrap();
    spec.problems().iter().map(|problem| format!("{}: {}", problem.field, problem.reason)).collect()
}

#[test]
fn a_spec_that_uses_every_option_rightly_has_no_problem() {
    let options = json!({
        "namespaces": ["cms", "cms", "team-*", {"shop": "shop-green"}, "a:b", "same:same"],
        "namespaceSelector": {"matchLabels": {"team": "a"}},
        "parallelFiles": 8, "bandwidthLimit": "64Ki", "method": "Snapshot", "verify": "Full", "metadataPolicy": "BestEffort",
        "excludePaths": ["/var/cache", "*.tmp", "logs/**/old/", "lost+found", "a[0-9]", "\\!x"],
        "mover": {
            "resources": {"requests": {"cpu": "100m", "memory": "160Mi", "example.com/io": "1"},
                          "limits": {"cpu": "1", "memory": "160Mi", "ephemeral-storage": "1Gi"}},
            "nodeSelector": {"example.com/disk": "fast_1", "gpu": ""},
            "tolerations": [{"operator": "Exists"}, {"key": "a/b", "value": "x", "effect": "NoSchedule"},
                            {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}],
            "priorityClassName": "system-cluster-critical"
        },
        "retention": {"passes": 100, "snapshots": "Retain"},
        "selectors": ["app=web,tier in (a, b)", {"matchExpressions": [{"key": "x", "operator": "Exists"}]}],
        "excludeSelectors": {"tier": "test"},
        "includedResourceTypes": ["Deployment", "deployments.apps", "*.apps", "services.", "*."],
        "excludedResourceTypes": ["certificates.cert-manager.io"],
        "includeOptionalResourceTypes": ["Pod", "jobs.batch"],
        "storageClassMapping": {"fast": "premium-rwo"},
        "accessModeMapping": {"ReadWriteMany": "ReadWriteOnce"},
        "imageMapping": {"docker.io/library": "registry.example.com:5000/mirror", "localhost:5000": "r.example.com"},
        "ingressClassMapping": {"nginx": "traefik.internal"},
        "transforms": [
            {"match": {"kind": "Deployment", "names": ["web-*"], "namespaces": ["cms"], "labels": {"matchLabels": {"a": "b"}}},
             "jsonPatch": [{"op": "test", "path": "", "value": null}, {"op": "move", "from": "/a~1b", "path": "/c~0"},
                           {"op": "remove", "path": "/spec/x"}]},
            {"mergePatch": {"spec": {"paused": true}}},
            {"match": {"kind": "Pod"}, "strategicMergePatch": {"spec": {}}}
        ]
    });
    assert_eq!(problems(&options), Vec::<String>::new());
}

#[test]
fn namespaces_that_mean_nothing_are_named_by_their_place() {
    let namespaces = json!(["cms", "Cms", 7, "a-*:b", "[", "x:y", "x:z", "w:y", "v:Y", ""]);
    assert_eq!(
        problems(&json!({"namespaces": namespaces})),
        [
            "spec.namespaces[1]: BadNamespaceName",
            "spec.namespaces[2]: BadNamespace",
            "spec.namespaces[3]: BadNamespace",
            "spec.namespaces[4]: BadNamespace",
            "spec.namespaces[6]: NamespaceTwice",
            "spec.namespaces[7]: SameDestination",
            "spec.namespaces[8]: BadNamespaceName",
            "spec.namespaces[9]: BadNamespace",
        ]
    );
    assert_eq!(problems(&json!({"namespaces": []})), ["spec.namespaces: NoNamespaces"]);
    let many: Vec<String> = (0..=MAX_NAMESPACES).map(|n| format!("n{n}")).collect();
    assert_eq!(problems(&json!({"namespaces": many})), ["spec.namespaces: TooManyNamespaces"]);
}

#[test]
fn a_namespace_cannot_arrive_where_another_goes_by_its_own_name() {
    assert_eq!(problems(&json!({"namespaces": ["a", "b:a"]})), ["spec.namespaces[1]: SameDestination"]);
    assert_eq!(problems(&json!({"namespaces": ["a:b", "b:a"]})), Vec::<String>::new(), "they change places");
}

#[test]
fn selectors_types_and_maps_are_named_by_their_field() {
    let options = json!({
        "namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]},
        "excludePaths": ["fine", "!kept", "a["],
        "selectors": ["a in ("],
        "excludeSelectors": 7,
        "includedResourceTypes": ["Deployment", "", "*", "a/b", "deployments.apps/v1"],
        "excludedResourceTypes": ["a b"],
        "includeOptionalResourceTypes": ["Service"],
        "storageClassMapping": {"Fast": "x", "y": ""},
        "accessModeMapping": {"RWO": "ReadWriteMany"},
        "imageMapping": {"nginx": "", "a/b:1": "c/d", "x": "y/z@sha256:0"},
        "ingressClassMapping": {"a": "b/c"},
    });
    assert_eq!(
        problems(&options),
        [
            "spec.namespaceSelector: BadSelector",
            "spec.excludePaths[1]: BadPattern",
            "spec.selectors: BadSelector",
            "spec.excludeSelectors: BadSelector",
            "spec.includedResourceTypes[1]: BadType",
            "spec.includedResourceTypes[2]: BadType",
            "spec.includedResourceTypes[3]: BadType",
            "spec.includedResourceTypes[4]: BadType",
            "spec.excludedResourceTypes[0]: BadType",
            "spec.includeOptionalResourceTypes[0]: NotOptional",
            "spec.storageClassMapping[Fast]: BadMapping",
            "spec.storageClassMapping[y]: BadMapping",
            "spec.accessModeMapping[RWO]: BadMapping",
            "spec.imageMapping[a/b:1]: BadMapping",
            "spec.imageMapping[nginx]: BadMapping",
            "spec.imageMapping[x]: BadMapping",
            "spec.ingressClassMapping[a]: BadMapping",
        ]
    );
}

#[test]
fn a_transform_has_exactly_one_patch_and_it_can_be_read() {
    let transforms = json!([
        {"match": {"kind": "Pod"}},
        {"mergePatch": {}, "strategicMergePatch": {}, "match": {"kind": "Pod"}},
        {"mergePatch": "x"},
        {"strategicMergePatch": {}},
        {"match": {"names": ["["], "labels": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}, "mergePatch": {}},
        {"jsonPatch": [
            {"op": "frob", "path": "/a"}, {"op": "add", "path": "a", "value": 1}, {"op": "replace", "path": "/a"},
            {"op": "copy", "path": "/a"}, {"op": "move", "from": "~2", "path": "/a~"}, {"op": "remove"}, 7
        ]}
    ]);
    assert_eq!(
        problems(&json!({"transforms": transforms})),
        [
            "spec.transforms[0]: BadTransform",
            "spec.transforms[1]: BadTransform",
            "spec.transforms[2].mergePatch: BadTransform",
            "spec.transforms[3].match.kind: BadTransform",
            "spec.transforms[4].match.names[0]: BadTransform",
            "spec.transforms[4].match.labels: BadSelector",
            "spec.transforms[5].jsonPatch[0].op: BadTransform",
            "spec.transforms[5].jsonPatch[1].path: BadTransform",
            "spec.transforms[5].jsonPatch[2].value: BadTransform",
            "spec.transforms[5].jsonPatch[3].from: BadTransform",
            "spec.transforms[5].jsonPatch[4].path: BadTransform",
            "spec.transforms[5].jsonPatch[4].from: BadTransform",
            "spec.transforms[5].jsonPatch[5].path: BadTransform",
            "spec.transforms[5].jsonPatch[6].op: BadTransform",
        ]
    );
}

#[test]
fn amounts_and_paths_that_mean_nothing_are_named() {
    let options = json!({
        "parallelFiles": 9,
        "excludePaths": ["a", "!keep", "/"],
        "retention": {"passes": 101},
    });
    assert_eq!(
        problems(&options),
        [
            "spec.parallelFiles: OutOfRange",
            "spec.excludePaths[1]: BadPattern",
            "spec.retention.passes: OutOfRange",
        ]
    );
    for limit in ["65535", "-1Gi", "fast", "", "50MiB"] {
        assert_eq!(
            problems(&json!({"bandwidthLimit": limit})),
            ["spec.bandwidthLimit: BadQuantity"],
            "{limit}"
        );
    }
}

#[test]
fn movers_that_no_cluster_would_run_are_refused() {
    let of = |mover: Value| problems(&json!({"mover": mover}));
    let resources = json!({"requests": {"cpu": "2", "memory": "lots", "pods": "1", "gpu": "1"},
                           "limits": {"cpu": "1", "memory": "159Mi", "example.com/io": "-1"},
                           "claims": [{"name": "gpu"}]});
    assert_eq!(
        of(json!({"resources": resources})),
        [
            "spec.mover.resources.claims: NotPossible",
            "spec.mover.resources.requests[gpu]: BadResource",
            "spec.mover.resources.requests[memory]: BadQuantity",
            "spec.mover.resources.requests[pods]: BadResource",
            "spec.mover.resources.limits[example.com/io]: BadQuantity",
            "spec.mover.resources.limits[cpu]: LimitBelowRequest",
            "spec.mover.resources.limits[memory]: TooLittle",
        ]
    );
    assert_eq!(
        of(
            json!({"nodeSelector": {"a b": "x", "Example.com/a": "x", "a": "-x", "/a": ""}, "priorityClassName": "High"})
        ),
        [
            "spec.mover.nodeSelector[/a]: BadLabel",
            "spec.mover.nodeSelector[Example.com/a]: BadLabel",
            "spec.mover.nodeSelector[a]: BadLabel",
            "spec.mover.nodeSelector[a b]: BadLabel",
            "spec.mover.priorityClassName: BadName",
        ]
    );
    let tolerations = json!([
        {}, {"key": "a", "operator": "Near"}, {"key": "a", "operator": "Exists", "value": "x"},
        {"key": "a b", "value": "-"}, {"key": "a", "effect": "Never"},
        {"key": "a", "effect": "NoSchedule", "tolerationSeconds": 1}
    ]);
    assert_eq!(
        of(json!({"tolerations": tolerations})),
        [
            "spec.mover.tolerations[0].key: BadToleration",
            "spec.mover.tolerations[1].operator: BadToleration",
            "spec.mover.tolerations[2].value: BadToleration",
            "spec.mover.tolerations[3].key: BadToleration",
            "spec.mover.tolerations[3].value: BadToleration",
            "spec.mover.tolerations[4].effect: BadToleration",
            "spec.mover.tolerations[5].tolerationSeconds: BadToleration",
        ]
    );
}

#[test]
fn however_much_is_wrong_only_so_much_is_told() {
    let many = vec![json!(7); 90];
    assert_eq!(problems(&json!({"namespaces": many})).len(), MAX_FINDINGS);
}
