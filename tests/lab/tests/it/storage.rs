//! Volumes of every kind that a migration meets, on both flavours: raw blocks, snapshots, clones, claims of
//! one pod, cordoned nodes.

use std::fs::File;
use std::os::unix::fs::FileExt;

use isthmus_lab::cluster::SNAPSHOT_ERROR;
use isthmus_lab::kubelet::MOVER_IMAGE;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::{Bench, DEADLINE, Space, claim, lab, ready};

const SNAPSHOTS: &str = "snapshot.storage.k8s.io";

fn kind(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(SNAPSHOTS, "v1", kind), plural)
}

fn snapshots(space: &Space) -> Api<DynamicObject> {
    let kind = kind("VolumeSnapshot", "volumesnapshots");
    Api::namespaced_with(space.client.clone(), &space.name, &kind)
}

async fn snapshot(space: &Space, name: &str, of: &str, class: &str) {
    let kind = kind("VolumeSnapshot", "volumesnapshots");
    let mut snapshot = DynamicObject::new(name, &kind);
    snapshot.data = json!({"spec": {
        "volumeSnapshotClassName": class, "source": {"persistentVolumeClaimName": of}}});
    snapshots(space).create(&PostParams::default(), &snapshot).await.unwrap();
}

/// Asks again until there is something to be had.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, ask: impl Fn() -> F) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let answer = tokio::time::timeout(DEADLINE, asking).await;
    answer.map_err(|_| format!("{what} did not come about")).unwrap()
}

async fn status(space: &Space, name: &str, pointer: &str) -> Option<Value> {
    snapshots(space).get(name).await.unwrap().data.pointer(pointer).cloned()
}

fn sized(name: &str, more: &Value) -> Value {
    let mut claim = claim(name, "ReadWriteOnce", None);
    claim["spec"]["resources"] = json!({"requests": {"storage": "4Mi"}});
    for (field, value) in more.as_object().unwrap() {
        claim["spec"][field] = value.clone();
    }
    claim
}

fn user(name: &str, claim: &str, more: &Value) -> Value {
    let mut pod = json!({"metadata": {"name": name}, "spec": {
        "containers": [{"name": "c", "image": "db:1", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}});
    for (field, value) in more.as_object().unwrap() {
        pod["spec"][field] = value.clone();
    }
    pod
}

async fn a_raw_block_claim_is_a_file_of_its_size_which_a_process_gets_by_its_device_path(bench: &Bench) {
    let space = bench.namespace("raw-blocks").await;
    space.create::<PersistentVolumeClaim>(sized("disk", &json!({"volumeMode": "Block"}))).await;
    let file = bench.folder(&space, "disk").await;
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 4 << 20);
    space
        .create::<Pod>(json!({"metadata": {"name": "raw"}, "spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "c", "image": MOVER_IMAGE, "args": ["mover", "--root", "/dev/volume"],
                "volumeDevices": [{"name": "v", "devicePath": "/dev/volume"}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "disk"}}]}}))
        .await;
    let ended = |pods: &[Pod]| {
        let status = pods[0].status.as_ref();
        status.and_then(|status| status.phase.as_deref()).is_some_and(|phase| phase == "Failed")
    };
    space.until::<Pod>("the process's end", "", ended).await;
    space.api::<Pod>().delete("raw", &DeleteParams::default()).await.unwrap();
    space.api::<PersistentVolumeClaim>().delete("disk", &DeleteParams::default()).await.unwrap();
    until("the end of the file", || async { (!file.exists()).then_some(()) }).await;
}

async fn a_snapshot_holds_the_volume_of_its_time_and_a_claim_begins_with_it(bench: &Bench) {
    let space = bench.namespace("snapshots").await;
    space.create::<PersistentVolumeClaim>(sized("data", &json!({}))).await;
    let folder = bench.folder(&space, "data").await;
    std::fs::write(folder.join("file"), "before").unwrap();
    snapshot(&space, "then", "data", "lab-snapshots").await;
    until("a ready snapshot", || async {
        status(&space, "then", "/status/readyToUse").await.filter(|ready| ready == &json!(true))
    })
    .await;
    assert_eq!(status(&space, "then", "/status/restoreSize").await, Some(json!("4Mi")));
    std::fs::write(folder.join("file"), "after").unwrap();
    let source = json!({"dataSource": {"apiGroup": SNAPSHOTS, "kind": "VolumeSnapshot", "name": "then"}});
    space.create::<PersistentVolumeClaim>(sized("restored", &source)).await;
    let restored = bench.folder(&space, "restored").await;
    assert_eq!(std::fs::read(restored.join("file")).unwrap(), b"before");

    let contents: Api<DynamicObject> =
        Api::all_with(space.client.clone(), &kind("VolumeSnapshotContent", "volumesnapshotcontents"));
    let name = status(&space, "then", "/status/boundVolumeSnapshotContentName").await.unwrap();
    let name = name.as_str().unwrap();
    let content = contents.get(name).await.unwrap();
    assert_eq!(content.data["spec"]["deletionPolicy"], "Delete");
    assert_eq!(content.data["status"]["restoreSize"], json!(4 << 20));
    snapshots(&space).delete("then", &DeleteParams::default()).await.unwrap();
    until("the end of the snapshot", || async {
        let there = snapshots(&space).get_opt("then").await.unwrap().is_some()
            || contents.get_opt(name).await.unwrap().is_some();
        (!there).then_some(())
    })
    .await;
    assert!(restored.join("file").exists(), "what was made of a snapshot outlives it");
}

async fn a_snapshot_that_the_driver_refuses_says_why_and_is_not_ready(bench: &Bench) {
    let space = bench.namespace("refused").await;
    space.create::<PersistentVolumeClaim>(sized("data", &json!({}))).await;
    bench.folder(&space, "data").await;
    let class = kind("VolumeSnapshotClass", "volumesnapshotclasses");
    let mut refusing = DynamicObject::new("refusing", &class);
    refusing.data = json!({"driver": "lab.isthmus.dev/local", "deletionPolicy": "Retain",
        "parameters": {SNAPSHOT_ERROR: "the array is full"}});
    let classes: Api<DynamicObject> = Api::all_with(space.client.clone(), &class);
    classes.create(&PostParams::default(), &refusing).await.unwrap();
    snapshot(&space, "never", "data", "refusing").await;
    let said = until("the driver's error", || status(&space, "never", "/status/error/message")).await;
    assert_eq!(said, json!("the array is full"));
    assert_eq!(status(&space, "never", "/status/readyToUse").await, Some(json!(false)));
    snapshots(&space).delete("never", &DeleteParams::default()).await.unwrap();
    until("the end of the snapshot", || async {
        snapshots(&space).get_opt("never").await.unwrap().is_none().then_some(())
    })
    .await;
}

async fn a_claim_begins_as_a_clone_of_another_blocks_included(bench: &Bench) {
    let space = bench.namespace("clones").await;
    let raw = json!({"volumeMode": "Block"});
    space.create::<PersistentVolumeClaim>(sized("disk", &raw)).await;
    let disk = bench.folder(&space, "disk").await;
    File::options().write(true).open(&disk).unwrap().write_all_at(b"block", 65_536).unwrap();
    let source = json!({"volumeMode": "Block", "resources": {"requests": {"storage": "8Mi"}},
        "dataSource": {"kind": "PersistentVolumeClaim", "name": "disk"}});
    space.create::<PersistentVolumeClaim>(sized("clone", &source)).await;
    let clone = std::fs::read(bench.folder(&space, "clone").await).unwrap();
    assert_eq!((clone.len(), &clone[65_536..65_541]), (8 << 20, b"block".as_slice()));
}

async fn a_claim_for_one_pod_is_used_by_one_pod_at_a_time(bench: &Bench) {
    let space = bench.namespace("one-pod").await;
    space.create::<PersistentVolumeClaim>(claim("data", "ReadWriteOncePod", None)).await;
    bench.folder(&space, "data").await;
    space.create::<Pod>(user("first", "data", &json!({}))).await;
    space.until::<Pod>("the first pod", "", |pods| pods.iter().any(ready)).await;
    space.create::<Pod>(user("second", "data", &json!({}))).await;
    let waits = |pods: &[Pod]| {
        pods.iter().filter(|pod| pod.name_any() == "second").any(|pod| {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|condition| {
                condition.message.as_deref().is_some_and(|message| message.contains("ReadWriteOncePod"))
            })
        })
    };
    space.until::<Pod>("the second pod to wait", "", waits).await;
    space.api::<Pod>().delete("first", &DeleteParams::default()).await.unwrap();
    space
        .until::<Pod>("the second pod alone", "", |pods| {
            pods.len() == 1 && pods[0].name_any() == "second" && ready(&pods[0])
        })
        .await;
}

async fn a_cordoned_node_is_tainted_and_takes_what_tolerates_it(bench: &Bench) {
    let space = bench.namespace("cordoned").await;
    let nodes = Api::<Node>::all(space.client.clone());
    // A node of its own, so that the others' pods are not kept from theirs.
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "cordoned-node",
        "labels": {"kubernetes.io/hostname": "cordoned-node"}}, "spec": {"unschedulable": true}}))
    .unwrap();
    nodes.create(&PostParams::default(), &node).await.unwrap();
    until("the taint", || async {
        let taints = nodes.get("cordoned-node").await.unwrap().spec.and_then(|spec| spec.taints);
        let key = "node.kubernetes.io/unschedulable";
        taints.into_iter().flatten().any(|taint| taint.key == key).then_some(())
    })
    .await;
    let there = json!({"kubernetes.io/hostname": "cordoned-node"});
    let all = json!([{"operator": "Exists"}]);
    space.create::<PersistentVolumeClaim>(claim("data", "ReadWriteMany", None)).await;
    bench.folder(&space, "data").await;
    space.create::<Pod>(user("kept-out", "data", &json!({"nodeSelector": there}))).await;
    space.create::<Pod>(user("let-in", "data", &json!({"nodeSelector": there, "tolerations": all}))).await;
    let placed = |pods: &[Pod]| {
        let node = |name: &str| {
            let pod = pods.iter().find(|pod| pod.name_any() == name);
            pod.and_then(|pod| pod.spec.as_ref()?.node_name.clone())
        };
        node("let-in").as_deref() == Some("cordoned-node") && node("kept-out").is_none()
    };
    space.until::<Pod>("the pod that tolerates it", "", placed).await;
    let remove = DeleteParams::default().grace_period(0);
    space.api::<Pod>().delete("let-in", &remove).await.unwrap();
    let freed = json!({"spec": {"unschedulable": false}});
    nodes.patch("cordoned-node", &PatchParams::default(), &Patch::Merge(&freed)).await.unwrap();
    nodes.delete("cordoned-node", &DeleteParams::default()).await.unwrap();
}

async fn a_kubelet_says_through_the_api_server_how_full_the_volumes_of_its_pods_are(bench: &Bench) {
    let space = bench.namespace("measured").await;
    space.create::<PersistentVolumeClaim>(sized("data", &json!({}))).await;
    space
        .create::<Pod>(json!({"metadata": {"name": "db"}, "spec": {
            "containers": [{"name": "c", "image": "db:1", "volumeMounts": [{"name": "v", "mountPath": "/var/db"}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}}))
        .await;
    let pods = space.until::<Pod>("the pod", "", |pods| pods.iter().all(ready)).await;
    std::fs::write(bench.folder(&space, "data").await.join("file"), vec![7; 1 << 20]).unwrap();
    let on = pods[0].spec.as_ref().unwrap().node_name.clone().unwrap();
    for node in Api::<Node>::all(space.client.clone()).list(&ListParams::default()).await.unwrap() {
        let node = node.name_any();
        let path = format!("/api/v1/nodes/{node}/proxy/stats/summary");
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        let summary: Value = space.client.request(request).await.unwrap();
        let pods = summary["pods"].as_array().unwrap().iter();
        let volumes = pods.flat_map(|pod| pod["volume"].as_array().unwrap());
        let ours: Vec<&Value> =
            volumes.filter(|v| v["pvcRef"] == json!({"name": "data", "namespace": space.name})).collect();
        if node == on {
            assert_eq!((ours.len(), &ours[0]["capacityBytes"]), (1, &json!(4 << 20)), "{summary}");
            let used = ours[0]["usedBytes"].as_u64().unwrap();
            assert!((1 << 20..2 << 20).contains(&used), "{summary}");
        } else {
            assert!(ours.is_empty(), "{summary}");
        }
    }
}

on_both_flavours! {
    a_kubelet_says_through_the_api_server_how_full_the_volumes_of_its_pods_are,
    a_raw_block_claim_is_a_file_of_its_size_which_a_process_gets_by_its_device_path,
    a_snapshot_holds_the_volume_of_its_time_and_a_claim_begins_with_it,
    a_snapshot_that_the_driver_refuses_says_why_and_is_not_ready,
    a_claim_begins_as_a_clone_of_another_blocks_included,
    a_claim_for_one_pod_is_used_by_one_pod_at_a_time,
    a_cordoned_node_is_tainted_and_takes_what_tolerates_it,
}
