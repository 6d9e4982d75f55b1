//! The objects of one application, as a cluster holds them, and what a run with every option
//! makes of them. A change of any rule shows in the picture.

use serde_json::{Value, json};

use super::{ARRIVED, rewriter, run_of};
use crate::cluster::describe;
use crate::transform::Arrival;

#[test]
fn an_application_arrives_as_in_the_picture() {
    let options = json!({
        "storageClassMapping": {"gp3": "ssd"}, "ingressClassMapping": {"alb": "nginx"},
        "imageMapping": {"docker.io": "mirror.west.example/hub", "111.dkr.ecr.eu-1.amazonaws.com/shop": "registry.west.example/shop"},
        "rewriteHostNames": true,
        "transforms": [{"name": "fewer", "match": {"kind": "Deployment", "names": ["web"]},
            "strategicMergePatch": {"spec": {"replicas": 2, "template": {"spec": {"containers": [
                {"name": "web", "resources": {"limits": {"memory": "1Gi"}}}]}}}}}]
    });
    let rewriter = rewriter(&run_of(options, &[("shop", "shop-green")]));
    let source: Vec<Value> = serde_json::from_str(include_str!("application.json")).unwrap();
    let arrived: Vec<Value> = source
        .into_iter()
        .map(|object| {
            let named = describe(&object);
            let plan = object.pointer("/metadata/namespace").and(ARRIVED.plan);
            let after = rewriter.rewrite(object, &Arrival { stopped: true, plan, ..ARRIVED }).unwrap();
            let notes: Vec<String> =
                after.notes.iter().map(|n| format!("{}: {}", n.reason, n.message)).collect();
            json!({"from": named, "object": after.object, "mapped": after.standard.is_some(), "notes": notes})
        })
        .collect();
    insta::assert_yaml_snapshot!("application", arrived);
}
