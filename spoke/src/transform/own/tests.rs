use serde_json::{Value, json};

use super::super::tests::{ARRIVED, rewriter, rewritten, run_of};
use super::super::{Arrival, Rewriter};

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
           "metadata": {"name": "web-1", "namespace": "shop", "labels": {"tier": "front"}},
           "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "j"}]}}}})
}

fn with(transform: &Value) -> Value {
    rewritten(&run_of(json!({"transforms": [transform]}), &[("shop", "new")]), deployment()).object
}

fn refused(transforms: &Value) -> String {
    Rewriter::new(&run_of(json!({"transforms": transforms}), &[])).unwrap_err().to_string()
}

fn failed(transform: &Value) -> String {
    let run = run_of(json!({"transforms": [transform]}), &[("shop", "new")]);
    rewriter(&run).rewrite(deployment(), &ARRIVED).unwrap_err().to_string()
}

#[test]
fn each_form_changes_what_it_names() {
    let after = with(&json!({"match": {"kind": "Deployment"},
        "jsonPatch": [{"op": "test", "path": "/metadata/namespace", "value": "new"}, {"op": "replace", "path": "/spec/replicas", "value": 5}]}));
    assert_eq!(after["spec"]["replicas"], 5);
    let after = with(&json!({"mergePatch": {"spec": {"replicas": null, "paused": true}}}));
    assert_eq!((after["spec"].get("replicas"), &after["spec"]["paused"]), (None, &json!(true)));
    let after = with(&json!({"match": {"group": "apps", "kind": "Deployment"},
        "strategicMergePatch": {"spec": {"template": {"spec": {"containers": [{"name": "d", "image": "k"}]}}}}}));
    assert_eq!(
        after["spec"]["template"]["spec"]["containers"],
        json!([{"name": "c", "image": "i"}, {"name": "d", "image": "k"}])
    );
}

#[test]
fn a_transform_is_for_what_all_of_its_match_matches() {
    let patch = json!({"spec": {"x": 1}});
    for (matching, expected) in [
        (json!({}), true),
        (
            json!({"group": "apps", "kind": "Deployment", "names": ["db", "web-*"], "namespaces": ["sh*"],
                "labels": {"matchLabels": {"tier": "front"}}}),
            true,
        ),
        (json!({"group": ""}), false),
        (json!({"kind": "StatefulSet"}), false),
        (json!({"names": ["web"]}), false),
        (json!({"namespaces": ["new"]}), false),
        (json!({"labels": {"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}}), false),
    ] {
        let after = with(&json!({"match": matching, "mergePatch": patch}));
        assert_eq!(after["spec"].get("x").is_some(), expected, "{matching}");
    }
}

#[test]
fn transforms_come_in_their_order_and_a_stopped_workload_keeps_the_count_they_gave() {
    let run = run_of(
        json!({"transforms": [
        {"mergePatch": {"spec": {"replicas": 4}}},
        {"jsonPatch": [{"op": "test", "path": "/spec/replicas", "value": 4}, {"op": "replace", "path": "/spec/replicas", "value": 6}]}]}),
        &[],
    );
    let arrival = Arrival { stopped: true, ..ARRIVED };
    let after = rewriter(&run).rewrite(deployment(), &arrival).unwrap();
    assert_eq!(after.object["spec"]["replicas"], 0);
    assert_eq!(after.object["metadata"]["annotations"]["isthmus.dev/migration-replicas"], "6");
    let standard = after.standard.unwrap();
    assert_eq!(standard["metadata"]["annotations"]["isthmus.dev/migration-replicas"], "2");
}

#[test]
fn a_bad_transform_is_refused_by_its_name_or_number_with_what_to_do() {
    for (transforms, expected) in [
        (
            json!([{"name": "mirror"}]),
            "the transform \"mirror\" cannot be used: it has no patch: give jsonPatch",
        ),
        (
            json!([{"mergePatch": {}}, {"mergePatch": {}, "jsonPatch": [{"op": "remove", "path": "/x"}]}]),
            "transform number 2 cannot be used: it has more than one patch",
        ),
        (json!([{"mergePatch": []}]), "its mergePatch is no object"),
        (
            json!([{"jsonPatch": [{"op": "remove", "path": "/x"}, {"op": "drop", "path": "/x"}]}]),
            "operation 2 of its jsonPatch cannot be read",
        ),
        (
            json!([{"jsonPatch": [{"op": "remove", "path": "x"}]}]),
            "operation 1 of its jsonPatch cannot be read",
        ),
        (json!([{"match": {"names": ["a["]}, "mergePatch": {}}]), "its match.names cannot be read"),
        (
            json!([{"match": {"labels": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}, "mergePatch": {}}]),
            "its match.labels cannot be read",
        ),
        (json!([{"strategicMergePatch": {}}]), "give match.kind"),
        (json!([{"match": {"kind": "Widget"}, "strategicMergePatch": {}}]), "use mergePatch"),
        (
            json!([{"match": {"group": "example.com", "kind": "Service"}, "strategicMergePatch": {}}]),
            "use mergePatch",
        ),
    ] {
        let told = refused(&transforms);
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn a_patch_that_does_not_fit_an_object_names_both() {
    for operation in [
        json!({"op": "test", "path": "/spec/replicas", "value": 3}),
        json!({"op": "replace", "path": "/spec/missing", "value": 3}),
        json!({"op": "remove", "path": "/spec/template/spec/containers/7"}),
    ] {
        let told = failed(&json!({"name": "t", "jsonPatch": [operation]}));
        assert!(
            told.starts_with("the transform \"t\" cannot be applied to Deployment new/web-1: "),
            "{told}"
        );
        assert!(told.ends_with("narrow its match to the objects that it fits"), "{told}");
    }
}

#[test]
fn what_an_object_is_and_the_runs_marks_are_out_of_reach() {
    for (patch, field) in [
        (json!({"apiVersion": "apps/v2"}), "apiVersion"),
        (json!({"kind": "StatefulSet"}), "kind"),
        (json!({"metadata": {"name": "y"}}), "metadata.name"),
        (json!({"metadata": {"namespace": "y"}}), "metadata.namespace"),
        (json!({"metadata": {"labels": null}}), "the mark metadata.labels.isthmus.dev/migrated-by"),
        (
            json!({"metadata": {"annotations": {"isthmus.dev/migration-replicas": "9"}}}),
            "isthmus.dev/migration-replicas",
        ),
    ] {
        let told = failed(&json!({"mergePatch": patch}));
        assert!(told.contains(&format!("it changes {field}")) || told.contains(field), "{told}");
        assert!(told.contains("take that out of the patch"), "{told}");
    }
    let after = with(&json!({"mergePatch": {"metadata": {"labels": {"tier": "back"}}}}));
    assert_eq!(after["metadata"]["labels"]["tier"], "back");
}
