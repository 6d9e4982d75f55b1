use isthmus_shared::resources::RECLAIM_POLICY;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::tests::{ARRIVED, rewriter, rewritten, run_of};
use super::*;

fn claim(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
           "metadata": {"name": name, "namespace": "cms", "annotations": {BETA_CLASS: "old"}},
           "spec": {"storageClassName": "old", "accessModes": ["ReadWriteOnce"], "volumeName": "pv-1",
                    "resources": {"requests": {"storage": "1Gi"}, "limits": {"storage": "2Gi"}}}})
}

fn options(choice: &Value) -> Value {
    let mut whole = json!({"namespace": "cms", "claim": "data"});
    merge(&mut whole, choice);
    json!({"volumes": [whole], "quiesce": true, "storageClassMapping": {"old": "mapped", "fast": "wrong"},
           "accessModeMapping": {"ReadWriteOnce": "ReadWriteOncePod", "ReadWriteMany": "ReadOnlyMany"}})
}

#[test]
fn a_claim_arrives_with_the_class_size_modes_and_name_that_were_chosen_and_the_maps_leave_it() {
    let chosen =
        json!({"storageClass": "fast", "size": "5Gi", "accessModes": ["ReadWriteMany"], "name": "content"});
    let run = run_of(options(&chosen), &[("cms", "shop")]);
    let after = rewritten(&run, claim("data")).object;
    assert_eq!((name(&after), namespace(&after)), ("content", "shop"));
    assert_eq!(
        after["spec"],
        json!({"storageClassName": "fast", "accessModes": ["ReadWriteMany"],
               "resources": {"requests": {"storage": "5Gi"}}})
    );
    assert!(after.pointer("/metadata/annotations").is_none());
    let other = rewritten(&run, claim("other")).object;
    assert_eq!(other["spec"]["storageClassName"], "mapped", "the rest goes by the maps");
    assert_eq!(other["spec"]["accessModes"], json!(["ReadWriteOncePod"]));
}

#[test]
fn what_was_not_chosen_of_a_claim_goes_by_the_maps() {
    let run = run_of(options(&json!({"size": "5Gi"})), &[("cms", "cms")]);
    let after = rewritten(&run, claim("data")).object;
    assert_eq!(after["spec"]["storageClassName"], "mapped");
    assert_eq!(after["spec"]["accessModes"], json!(["ReadWriteOncePod"]));
}

#[test]
fn everything_that_mounts_a_renamed_claim_follows_it() {
    let run = run_of(options(&json!({"name": "content"})), &[("cms", "shop")]);
    let pod = json!({"containers": [{"name": "c"}], "volumes": [
        {"name": "v", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "w", "persistentVolumeClaim": {"claimName": "other"}}]});
    for (api_version, kind, place) in [
        ("v1", "Pod", "/spec"),
        ("apps/v1", "Deployment", "/spec/template/spec"),
        ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template/spec"),
        ("example.com/v1", "Machine", "/spec/template/spec"),
    ] {
        let keys = place[1..].split('/').rev();
        let whole = keys.fold(pod.clone(), |inner, key| json!({key: inner}));
        let mut object =
            json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "namespace": "cms"}});
        merge(&mut object, &whole);
        let claims = |object: &Value| -> Vec<String> {
            let volumes = object.pointer(&format!("{place}/volumes")).unwrap().as_array().unwrap();
            volumes.iter().map(|v| text(v, "/persistentVolumeClaim/claimName").to_owned()).collect()
        };
        assert_eq!(claims(&rewritten(&run, object.clone()).object), ["content", "other"], "{kind}");
        object["metadata"]["namespace"] = json!("elsewhere");
        assert_eq!(claims(&rewritten(&run, object).object), ["data", "other"], "another namespace's {kind}");
    }
}

#[test]
fn claims_may_change_places() {
    let run = run_of(
        json!({"volumes": [{"namespace": "cms", "claim": "a", "name": "b"}, {"namespace": "cms", "claim": "b", "name": "a"}]}),
        &[("cms", "cms")],
    );
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "cms"},
        "spec": {"containers": [], "volumes": [{"persistentVolumeClaim": {"claimName": "a"}}, {"persistentVolumeClaim": {"claimName": "b"}}]}});
    let after = rewritten(&run, pod).object;
    assert_eq!(text(&after, "/spec/volumes/0/persistentVolumeClaim/claimName"), "b");
    assert_eq!(text(&after, "/spec/volumes/1/persistentVolumeClaim/claimName"), "a");
    assert_eq!(name(&rewritten(&run, claim("a")).object), "b");
}

#[test]
fn a_skipped_claim_says_that_its_data_stays() {
    let run = run_of(options(&json!({"action": "Skip", "storageClass": "fast"})), &[("cms", "cms")]);
    let after = rewritten(&run, claim("data"));
    assert_eq!(after.notes[0].reason, "DataLeftBehind");
    assert_eq!(after.object["spec"]["storageClassName"], "fast");
    assert!(after.object["spec"].get("volumeName").is_none());
}

#[test]
fn a_kept_claim_stays_bound_to_its_volume_by_name_and_class() {
    let run = run_of(options(&json!({"action": "Keep", "name": "content"})), &[("cms", "shop")]);
    let after = rewritten(&run, claim("data")).object;
    assert_eq!((name(&after), text(&after, "/spec/volumeName")), ("content", "pv-1"));
    assert_eq!(after["spec"]["storageClassName"], "old", "no map changes what it is bound by");
    assert!(rewritten(&run, claim("other")).object["spec"].get("volumeName").is_none());
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": "pv-1", "uid": "u", "resourceVersion": "3", "finalizers": ["kubernetes.io/pv-protection"],
                     "annotations": {"pv.kubernetes.io/provisioned-by": "csi.example.com",
                                     "volume.kubernetes.io/provisioner-deletion-secret-name": "s"}},
        "spec": {"persistentVolumeReclaimPolicy": "Delete", "storageClassName": "old", "accessModes": ["ReadWriteOnce"],
                 "csi": {"driver": "csi.example.com", "volumeHandle": "h", "nodePublishSecretRef": {"name": "s", "namespace": "cms"}},
                 "claimRef": {"kind": "PersistentVolumeClaim", "namespace": "cms", "name": "data", "uid": "u", "resourceVersion": "1"}},
        "status": {"phase": "Bound"}});
    let arrival = crate::transform::Arrival { plan: None, ..ARRIVED };
    let after = rewriter(&run).rewrite(volume, &arrival).unwrap();
    let spec = &after.object["spec"];
    assert_eq!(
        spec["claimRef"],
        json!({"kind": "PersistentVolumeClaim", "namespace": "shop", "name": "content"})
    );
    assert_eq!(
        (&spec["persistentVolumeReclaimPolicy"], &spec["storageClassName"]),
        (&json!("Retain"), &json!("old"))
    );
    assert_eq!(spec["accessModes"], json!(["ReadWriteOnce"]));
    assert_eq!(
        after.object["metadata"]["annotations"],
        json!({"pv.kubernetes.io/provisioned-by": "csi.example.com",
               "volume.kubernetes.io/provisioner-deletion-secret-name": "s", RECLAIM_POLICY: "Delete"})
    );
    assert_eq!(spec["csi"]["nodePublishSecretRef"]["namespace"], "shop", "the Secret goes along there");
    assert_eq!(after.notes[0].reason, "VolumeKept");
}

#[test]
fn a_volume_that_was_retained_for_the_run_before_it_was_read_keeps_its_own_policy_aside() {
    let run = run_of(options(&json!({"action": "Keep"})), &[("cms", "cms")]);
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": "pv-1", "annotations": {RECLAIM_POLICY: "Delete", isthmus_shared::resources::RETAINED_BY: "m-1"}},
        "spec": {"persistentVolumeReclaimPolicy": "Retain", "nfs": {"server": "s", "path": "/p"},
                 "claimRef": {"namespace": "cms", "name": "data", "uid": "u"}}});
    let after = rewritten(&run, volume).object;
    assert_eq!(after["metadata"]["annotations"], json!({RECLAIM_POLICY: "Delete"}));
}

proptest! {
    #[test]
    fn of_a_kept_volume_nothing_changes_but_whom_it_waits_for_and_that_it_is_retained(
        policy in prop::sample::select(vec!["Delete", "Retain", "Recycle", ""]),
        renamed in prop::option::of("[a-z]{1,8}"), to in "[a-z]{1,8}", class in "[a-z]{0,6}",
        handle in "[a-zA-Z0-9/=-]{1,30}", attributes in prop::collection::btree_map("[a-z]{1,6}", "[a-z]{0,6}", 0..4)
    ) {
        let mut choice = json!({"action": "Keep"});
        choice["name"] = json!(renamed);
        let run = run_of(options(&choice), &[("cms", to.as_str())]);
        let spec = json!({"persistentVolumeReclaimPolicy": policy, "storageClassName": class, "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "csi": {"driver": "d", "volumeHandle": handle, "volumeAttributes": attributes}, "volumeMode": "Filesystem",
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "z", "operator": "In", "values": ["a"]}]}]}},
            "claimRef": {"namespace": "cms", "name": "data", "uid": "u", "resourceVersion": "1"}});
        let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv-1"}, "spec": spec});
        let arrival = crate::transform::Arrival { plan: None, ..ARRIVED };
        let after = rewriter(&run).rewrite(volume, &arrival).unwrap().object;
        let mut expected = spec;
        expected["claimRef"] = json!({"namespace": to, "name": renamed.as_deref().unwrap_or("data")});
        if !policy.is_empty() {
            expected["persistentVolumeReclaimPolicy"] = json!("Retain");
        }
        prop_assert_eq!(&after["spec"], &expected);
        let kept = text(&after, "/metadata/annotations/isthmus.dev~1reclaim-policy");
        prop_assert_eq!(kept, if policy == "Retain" { "" } else { policy });
        let again = rewriter(&run).rewrite(after.clone(), &arrival).unwrap().object;
        prop_assert_eq!(again, after);
    }
}
