//! The rules together: the CMS application as a real cluster holds it ([`filled_in`] has what is
//! particular to a kind), what holds for any object ([`properties`]), and a whole application's
//! objects in one picture ([`golden`]).

mod filled_in;
mod golden;
mod properties;

use serde_json::json;

use super::*;

const RUNNING: Arrival<'_> = Arrival { mark: "m-1", plan: None, stopped: false, owners: &[] };
const STOPPED: Arrival<'_> = Arrival { stopped: true, ..RUNNING };

/// How most tests let an object arrive.
pub const ARRIVED: Arrival<'_> = Arrival { mark: "m-1", plan: Some("p-1"), stopped: false, owners: &[] };

fn rewrite(object: Value, arrival: &Arrival<'_>) -> Value {
    Rewriter::default().rewrite(object, arrival).unwrap().object
}

/// A run with these options and namespaces.
pub fn run_of(options: Value, namespaces: &[(&str, &str)]) -> Run {
    let mut spec = Map::from_iter([("clusterPair".to_owned(), json!("pair"))]);
    if let Value::Object(options) = options {
        spec.extend(options);
    }
    let namespaces: Vec<Value> =
        namespaces.iter().map(|(from, to)| json!({"from": from, "to": to})).collect();
    serde_json::from_value(json!({
        "migration": "m-1", "name": "isthmus/m", "source": "east", "spec": spec, "namespaces": namespaces,
        "staging": {"pair": "p", "key": "", "access": {"endpoint": "http://127.0.0.1:1", "region": "r", "bucket": "b",
                    "accessKeyId": "", "secretAccessKey": ""}}
    }))
    .unwrap()
}

pub fn rewriter(run: &Run) -> Rewriter {
    Rewriter::new(run).unwrap()
}

pub fn rewritten(run: &Run, object: Value) -> Rewritten {
    rewriter(run).rewrite(object, &ARRIVED).unwrap()
}

#[test]
fn an_object_carries_the_marks_of_its_run_and_plan() {
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "a", "labels": {MIGRATED_BY: "earlier", PLAN: "earlier"}}});
    let after = rewrite(config.clone(), &ARRIVED);
    assert_eq!(after["metadata"]["labels"], json!({MIGRATED_BY: "m-1", PLAN: "p-1"}));
    let after = rewrite(config, &RUNNING);
    assert_eq!(after["metadata"]["labels"], json!({MIGRATED_BY: "m-1"}));
}

#[test]
fn rebuilt_owners_take_the_place_of_the_sources() {
    let owners = [json!({"apiVersion": "v1", "kind": "Widget", "name": "w", "uid": "new"})];
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("c")});
    let after = rewrite(config, &Arrival { owners: &owners, ..ARRIVED });
    assert_eq!(after["metadata"]["ownerReferences"], json!(owners));
}

#[test]
fn storage_classes_and_access_modes_are_mapped_once_and_shown_beside_the_standard() {
    let run = run_of(
        json!({"storageClassMapping": {"a": "b", "b": "c"}, "accessModeMapping": {"ReadWriteOnce": "ReadWriteMany"}}),
        &[],
    );
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "x", "namespace": "cms", "annotations": {"volume.beta.kubernetes.io/storage-class": "b"}},
        "spec": {"storageClassName": "a", "accessModes": ["ReadWriteOnce", "ReadWriteMany"]}});
    let after = rewritten(&run, claim.clone());
    assert_eq!(after.object["spec"], json!({"storageClassName": "b", "accessModes": ["ReadWriteMany"]}));
    assert_eq!(after.object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"], "c");
    assert_eq!(after.standard.unwrap()["spec"], claim["spec"]);
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "x", "namespace": "cms"},
        "spec": {"volumeClaimTemplates": [{"metadata": {"name": "d"}, "spec": {"storageClassName": "a"}}, {"spec": {}}],
                 "template": {"spec": {"containers": [], "volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "b"}}}}]}}}});
    let after = rewritten(&run, set).object;
    assert_eq!(
        after["spec"]["volumeClaimTemplates"],
        json!([{"metadata": {"name": "d"}, "spec": {"storageClassName": "b"}}, {"spec": {}}])
    );
    assert_eq!(
        after
            .pointer("/spec/template/spec/volumes/0/ephemeral/volumeClaimTemplate/spec/storageClassName")
            .unwrap(),
        "c"
    );
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "x", "namespace": "cms"},
        "spec": {"hard": {"a.storageclass.storage.k8s.io/requests.storage": "1Gi", "pods": "3"}}});
    assert_eq!(
        rewritten(&run, quota).object["spec"]["hard"],
        json!({"b.storageclass.storage.k8s.io/requests.storage": "1Gi", "pods": "3"})
    );
    let plain =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "cms"}});
    assert!(rewritten(&run, plain).standard.is_none(), "nothing of it was mapped");
}

#[test]
fn images_and_ingress_classes_are_mapped_wherever_pods_and_routes_name_them() {
    let run = run_of(
        json!({"imageMapping": {"quay.io": "m.example/q"}, "ingressClassMapping": {"nginx": "traefik", "traefik": "x"}}),
        &[],
    );
    let image = "quay.io/a:1";
    let pod = json!({"initContainers": [{"image": image}], "containers": [{"image": image, "name": "c"}, {}],
        "ephemeralContainers": [{"image": image}], "volumes": [{"name": "v", "image": {"reference": image}}]});
    let mapped = json!({"initContainers": [{"image": "m.example/q/a:1"}],
        "containers": [{"image": "m.example/q/a:1", "name": "c"}, {}],
        "ephemeralContainers": [{"image": "m.example/q/a:1"}],
        "volumes": [{"name": "v", "image": {"reference": "m.example/q/a:1"}}]});
    for (api_version, kind, spec, at) in [
        ("apps/v1", "DaemonSet", json!({"template": {"spec": pod}}), "/spec/template/spec"),
        (
            "batch/v1",
            "CronJob",
            json!({"jobTemplate": {"spec": {"template": {"spec": pod}}}}),
            "/spec/jobTemplate/spec/template/spec",
        ),
        ("argoproj.io/v1alpha1", "Rollout", json!({"template": {"spec": pod}}), "/spec/template/spec"),
    ] {
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "namespace": "cms"}, "spec": spec});
        assert_eq!(rewritten(&run, object).object.pointer(at).unwrap(), &mapped, "{kind}");
    }
    let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "x", "namespace": "cms", "annotations": {"kubernetes.io/ingress.class": "traefik"}},
        "spec": {"ingressClassName": "nginx"}});
    let after = rewritten(&run, ingress).object;
    assert_eq!(after["spec"]["ingressClassName"], "traefik");
    assert_eq!(after["metadata"]["annotations"]["kubernetes.io/ingress.class"], "x");
    let gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "x", "namespace": "cms"}, "spec": {"gatewayClassName": "nginx"}});
    assert_eq!(rewritten(&run, gateway).object["spec"]["gatewayClassName"], "traefik");
}

fn metadata(name: &str) -> Value {
    json!({
        "name": name, "namespace": "cms", "uid": "u-1", "resourceVersion": "77", "generation": 3,
        "creationTimestamp": "2026-11-01T00:00:00Z", "selfLink": "/x",
        "labels": {"app": "web"}, "annotations": {"team": "web"},
        "managedFields": [{"manager": "kubectl"}], "finalizers": ["x/y"],
        "ownerReferences": [{"kind": "Application", "name": "a", "uid": "o"}]
    })
}

#[test]
fn what_the_source_wrote_into_an_object_is_dropped_and_what_people_wrote_stays() {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("c"),
                        "data": {"status": "stays"}, "status": {"x": 1}});
    assert_eq!(
        rewrite(object, &RUNNING),
        json!({"apiVersion": "v1", "kind": "ConfigMap",
               "metadata": {"name": "c", "namespace": "cms", "labels": {"app": "web", MIGRATED_BY: "m-1"},
                            "annotations": {"team": "web"}},
               "data": {"status": "stays"}})
    );
}

#[test]
fn a_services_allocated_addresses_and_ports_are_dropped() {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("wordpress"),
        "spec": {"type": "NodePort", "clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5"], "healthCheckNodePort": 31000,
                 "ports": [{"name": "http", "port": 80, "targetPort": 80, "nodePort": 30080}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}});
    let after = rewrite(service, &RUNNING);
    assert_eq!(
        after["spec"],
        json!({"type": "NodePort", "ports": [{"name": "http", "port": 80, "targetPort": 80}]})
    );
    assert!(after.get("status").is_none());
}

#[test]
fn a_headless_service_stays_headless() {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("db"),
                         "spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 3306}]}});
    assert_eq!(rewrite(service.clone(), &RUNNING)["spec"], service["spec"]);
}

#[test]
fn a_claims_binding_is_dropped_and_its_wishes_stay() {
    let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata("px-mysql-pvc"),
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}},
                 "storageClassName": "fast", "volumeMode": "Filesystem", "volumeName": "pvc-1",
                 "dataSource": {"kind": "VolumeSnapshot", "name": "s"}},
        "status": {"phase": "Bound"}});
    claim["metadata"]["annotations"] = json!({
        "pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes",
        "volume.kubernetes.io/selected-node": "node-1", "volume.kubernetes.io/storage-provisioner": "p"
    });
    let after = rewrite(claim, &RUNNING);
    assert!(after["metadata"].get("annotations").is_none(), "an emptied map goes: {after}");
    assert_eq!(
        after["spec"],
        json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}},
               "storageClassName": "fast", "volumeMode": "Filesystem"})
    );
}

#[test]
fn a_jobs_generated_selector_goes_in_both_spellings_and_a_persons_stays() {
    let job = |manual: bool| {
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "cms"},
            "spec": {"manualSelector": manual,
                     "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}},
                     "template": {"metadata": {"creationTimestamp": null, "labels": {
                         "app": "x", "controller-uid": "u", "job-name": "j",
                         "batch.kubernetes.io/controller-uid": "u", "batch.kubernetes.io/job-name": "j"}}}}})
    };
    let after = rewrite(job(false), &RUNNING);
    assert!(after["spec"].get("selector").is_none());
    assert_eq!(after["spec"]["template"]["metadata"], json!({"labels": {"app": "x"}}));
    assert_eq!(rewrite(job(true), &RUNNING)["spec"], job(true)["spec"]);
}

#[test]
fn a_service_accounts_generated_secrets_go_and_chosen_ones_stay() {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "cms", "namespace": "cms"},
        "secrets": [{"name": "cms-token-x7k2p"}, {"name": "mine"}], "imagePullSecrets": [{"name": "cms-dockercfg-abcde"}]});
    let after = rewrite(account, &RUNNING);
    assert_eq!(after["secrets"], json!([{"name": "mine"}]));
    assert!(after.get("imagePullSecrets").is_none());
}

#[test]
fn workloads_arrive_stopped_with_what_they_had_kept() {
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata("wordpress"),
                            "spec": {"replicas": 3, "template": {}}});
    let after = rewrite(deployment.clone(), &STOPPED);
    assert_eq!(after["spec"]["replicas"], 0);
    assert_eq!(after["metadata"]["annotations"]["isthmus.dev/migration-replicas"], "3");
    assert_eq!(rewrite(deployment, &RUNNING)["spec"]["replicas"], 3);
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "wp-cron", "namespace": "cms"},
                      "spec": {"schedule": "*/15 * * * *", "suspend": false, "jobTemplate": {"spec": {}}}});
    let after = rewrite(cron, &STOPPED);
    assert_eq!(after["spec"]["suspend"], true);
    assert_eq!(after["metadata"]["annotations"]["isthmus.dev/migration-suspend"], "false");
}

#[test]
fn a_namespaces_own_marks_stay_behind_and_the_destinations_win() {
    let source = json!({"metadata": {"labels": {"team": "web", "kubernetes.io/metadata.name": "cms",
        "pod-security.kubernetes.io/enforce": "baseline"}, "annotations": {"openshift.io/sa.scc.uid-range": "1/2"}}});
    let destination = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let labels = namespace_marks(&source, &destination, "labels");
    assert_eq!(Value::Object(labels), json!({"team": "web"}));
    assert!(namespace_marks(&source, &destination, "annotations").is_empty());
}
