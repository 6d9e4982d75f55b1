//! What kubectl keeps of an object: the configuration that was last applied to it.
//!
//! On the destination the next `kubectl apply` compares it with the person's manifest to find what
//! they took out. Without it those fields would stay for ever, and Argo CD would show differences;
//! with the source's text in it, they would find another namespace and other images than the
//! object has. So it goes along, rewritten as the object itself is - except that what a person
//! wrote was chosen, not allocated. Transforms are not applied to it: they are written for whole
//! objects, and the manifests on people's disks do not have them either, so that an apply keeps
//! what a transform set unless the manifest says otherwise.
//!
//! A text that is no object is of no use to anybody, and is dropped.

use serde_json::Value;

use super::chosen::LAST_APPLIED;
use super::notes::Notes;
use super::{Options, Rule, Scope, remove};

/// Rewrites it by the rules.
pub fn rewrite(object: &mut Value, options: &Options, rules: &[Rule]) {
    let Some(text) = crate::cluster::annotation(object, LAST_APPLIED) else {
        // Something else than a text is no annotation.
        remove(object, "/metadata/annotations", &[LAST_APPLIED]);
        return;
    };
    let Some(before) = serde_json::from_str::<Value>(text).ok().filter(Value::is_object) else {
        remove(object, "/metadata/annotations", &[LAST_APPLIED]);
        return;
    };
    let mut after = before.clone();
    // Its notes are those of the object itself.
    let mut scope = Scope { options, notes: Notes::default(), as_written: true };
    for rule in rules {
        rule(&mut after, &mut scope);
    }
    remove(&mut after, "/metadata/annotations", &[LAST_APPLIED]);
    if after != before
        && let Some(Value::Object(annotations)) = object.pointer_mut("/metadata/annotations")
    {
        // kubectl ends the text with a line feed.
        annotations.insert(LAST_APPLIED.to_owned(), Value::from(format!("{after}\n")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{rewritten, run_of};
    use super::*;

    fn service(applied: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "s", "namespace": "shop", "annotations": {LAST_APPLIED: applied}},
            "spec": {"type": "NodePort", "clusterIP": "10.0.0.1",
                     "ports": [{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "nodePort": 30081}]}})
    }

    fn kept(object: &Value) -> Value {
        serde_json::from_str(crate::cluster::annotation(object, LAST_APPLIED).unwrap()).unwrap()
    }

    #[test]
    fn it_follows_the_object_and_keeps_what_a_person_chose() {
        let applied = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "shop"},
            "spec": {"ports": [{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81}]}});
        let run = run_of(json!({}), &[("shop", "new")]);
        let after = rewritten(&run, service(&applied.to_string())).object;
        let mut expected = applied;
        expected["metadata"]["namespace"] = json!("new");
        assert_eq!(kept(&after), expected);
        assert_eq!(
            after["spec"]["ports"],
            json!([{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81}])
        );
    }

    #[test]
    fn the_runs_maps_reach_it_and_its_transforms_do_not() {
        let run = run_of(
            json!({"imageMapping": {"quay.io": "m.example"}, "transforms": [{"mergePatch": {"spec": {"replicas": 9}}}]}),
            &[],
        );
        let pod = json!({"template": {"spec": {"containers": [{"name": "c", "image": "quay.io/a"}]}}});
        let applied =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": pod});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "d", "namespace": "x", "annotations": {LAST_APPLIED: applied.to_string()}}, "spec": pod});
        let after = rewritten(&run, deployment).object;
        assert_eq!(after["spec"]["replicas"], 9);
        let kept = kept(&after);
        assert_eq!(kept["spec"]["template"]["spec"]["containers"][0]["image"], "m.example/a");
        assert!(kept["spec"].get("replicas").is_none());
    }

    #[test]
    fn a_text_that_needs_no_change_stays_to_the_byte_and_one_that_is_no_object_goes() {
        let run = run_of(json!({}), &[("web", "new")]);
        let text = "{ \"kind\":\"Service\", \"apiVersion\":\"v1\" }\n";
        let after = rewritten(&run, service(text)).object;
        assert_eq!(after["metadata"]["annotations"][LAST_APPLIED], text);
        for text in ["", "{", "[]", "7"] {
            let after = rewritten(&run, service(text)).object;
            assert!(after["metadata"].get("annotations").is_none(), "{after}");
        }
    }
}
