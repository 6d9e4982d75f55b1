//! What a migration meets in a cluster, on both flavours.

use std::fmt::Debug;
use std::time::Duration;

use isthmus_lab::cluster::{ClusterTraits, Flavour};
use isthmus_lab::kubelet::MOVER_IMAGE;
use isthmus_lab::lab::HUB_CLUSTER;
use isthmus_lab::{Lab, LabOptions};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, Node, PersistentVolumeClaim, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// How long a condition is waited for; the machine may be building at the same time.
pub const DEADLINE: Duration = Duration::from_secs(90);

pub struct Bench {
    pub lab: Lab,
}

/// The shared lab of a flavour; none where there is no real control plane.
pub async fn lab(real: bool) -> Option<&'static Bench> {
    static EMBEDDED: OnceCell<Bench> = OnceCell::const_new();
    static REAL: OnceCell<Bench> = OnceCell::const_new();
    crate::use_lab_executable();
    let (cell, flavour) = if real {
        let Some(flavour) = Flavour::real() else {
            eprintln!("no etcd and kube-apiserver found: the real flavour is not tested");
            return None;
        };
        (&REAL, flavour)
    } else {
        (&EMBEDDED, Flavour::Embedded)
    };
    let start = || async {
        let traits = ClusterTraits { snapshots: true, ..ClusterTraits::default() };
        let traits = [(HUB_CLUSTER.to_owned(), traits)].into();
        let options = LabOptions { flavour: Some(flavour), traits, ..LabOptions::default() };
        let lab = Lab::start(options).await.unwrap();
        Bench { lab }
    };
    Some(cell.get_or_init(start).await)
}

impl Bench {
    fn client(&self) -> Client {
        self.lab.client(HUB_CLUSTER).unwrap()
    }

    pub async fn namespace(&self, name: &str) -> Space {
        let client = self.client();
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        let space = Space { client, name: name.to_owned() };
        // Without it a Pod is refused, as it is by any API server.
        let there = |all: &[ServiceAccount]| all.iter().any(|one| one.name_any() == "default");
        space.until::<ServiceAccount>("the default ServiceAccount", "", there).await;
        space
    }

    pub async fn folder(&self, space: &Space, claim: &str) -> std::path::PathBuf {
        self.lab.cluster(HUB_CLUSTER).unwrap().bound_volume_dir(&space.name, claim, DEADLINE).await.unwrap()
    }
}

/// A namespace of a test.
pub struct Space {
    pub client: Client,
    pub name: String,
}

impl Space {
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    pub async fn create<K>(&self, value: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        let object: K = serde_json::from_value(value).unwrap();
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap()
    }

    /// Waits until the listed objects are as wanted, and returns them.
    pub async fn until<K>(&self, what: &str, labels: &str, wanted: impl Fn(&[K]) -> bool) -> Vec<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api = self.api::<K>();
        let mut seen = Vec::new();
        let looking = async {
            loop {
                seen = api.list(&ListParams::default().labels(labels)).await.unwrap().items;
                if wanted(&seen) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let came = tokio::time::timeout(DEADLINE, looking).await.is_ok();
        assert!(came, "{what} did not come about in {}: {seen:#?}", self.name);
        seen
    }
}

pub fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn deployment(name: &str, replicas: i32) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "web:1",
            "ports": [{"name": "http", "containerPort": 8080}]}]}},
    }})
}

pub fn claim(name: &str, mode: &str, class: Option<&str>) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "accessModes": [mode], "storageClassName": class, "resources": {"requests": {"storage": "1Gi"}}}})
}

fn job(name: &str, image: &str, args: &[&str]) -> Value {
    json!({"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": image, "args": args}]}}}})
}

fn has(job: &Job, condition: &str) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|found| found.type_ == condition && found.status == "True")
}

async fn a_cluster_has_its_nodes_and_namespaces_their_defaults(bench: &Bench) {
    let space = bench.namespace("defaults").await;
    let nodes = Api::<Node>::all(bench.client()).list(&ListParams::default()).await.unwrap();
    let zones: Vec<_> =
        nodes.iter().map(|node| node.labels()["topology.kubernetes.io/zone"].clone()).collect();
    assert_eq!(zones, ["hub-a", "hub-b"]);
    space
        .until::<ConfigMap>("the CA", "", |all| all.iter().any(|one| one.name_any() == "kube-root-ca.crt"))
        .await;
}

async fn a_deployment_becomes_ready_pods_behind_its_service_and_follows_its_scale(bench: &Bench) {
    let space = bench.namespace("deployments").await;
    space
        .create::<Service>(json!({"metadata": {"name": "web"}, "spec": {
        "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}}))
        .await;
    space.create::<Deployment>(deployment("web", 3)).await;
    space.until::<Pod>("three ready pods", "app=web", |pods| pods.len() == 3 && pods.iter().all(ready)).await;
    space
        .until::<Deployment>("the deployment's status", "", |all| {
            all[0].status.as_ref().is_some_and(|status| status.ready_replicas == Some(3))
        })
        .await;
    space
        .until::<EndpointSlice>("three endpoints", "kubernetes.io/service-name=web", |slices| {
            let ports = slices.iter().flat_map(|slice| slice.ports.iter().flatten()).map(|port| port.port);
            slices.iter().map(|slice| slice.endpoints.len()).sum::<usize>() == 3
                && ports.flatten().all(|port| port == 8080)
        })
        .await;
    let none = json!({"spec": {"replicas": 0}});
    space.api::<Deployment>().patch("web", &PatchParams::default(), &Patch::Merge(&none)).await.unwrap();
    space.until::<Pod>("no pods", "app=web", <[Pod]>::is_empty).await;
}

async fn a_new_template_replaces_the_pods(bench: &Bench) {
    let space = bench.namespace("rollouts").await;
    space.create::<Deployment>(deployment("web", 2)).await;
    space.until::<Pod>("two ready pods", "app=web", |pods| pods.len() == 2 && pods.iter().all(ready)).await;
    let new = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "web:2"}]}}}});
    space.api::<Deployment>().patch("web", &PatchParams::default(), &Patch::Strategic(&new)).await.unwrap();
    space
        .until::<Pod>("two pods of the new image", "app=web", |pods| {
            let image = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
            pods.len() == 2 && pods.iter().all(|pod| ready(pod) && image(pod) == "web:2")
        })
        .await;
}

async fn a_claim_gets_a_folder_that_goes_with_it(bench: &Bench) {
    let space = bench.namespace("claims").await;
    space.create::<PersistentVolumeClaim>(claim("data", "ReadWriteMany", None)).await;
    let folder = bench.folder(&space, "data").await;
    std::fs::write(folder.join("file"), "content").unwrap();
    let claims = space.api::<PersistentVolumeClaim>();
    assert_eq!(
        claims.get("data").await.unwrap().spec.unwrap().storage_class_name.as_deref(),
        Some("lab-local")
    );
    claims.delete("data", &DeleteParams::default()).await.unwrap();
    let gone = async {
        while folder.exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.expect("the folder of a deleted claim is removed");
}

async fn a_claim_that_waits_for_its_pod_is_bound_on_the_pods_node_and_held_by_it(bench: &Bench) {
    let space = bench.namespace("waiting").await;
    space.create::<PersistentVolumeClaim>(claim("data", "ReadWriteOnce", Some("lab-wffc"))).await;
    space
        .create::<Pod>(json!({"metadata": {"name": "user"}, "spec": {
            "nodeSelector": {"kubernetes.io/hostname": "hub-node-2"},
            "containers": [{"name": "c", "image": "db:1", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}}))
        .await;
    space.until::<Pod>("a ready pod", "", |pods| pods.iter().any(ready)).await;
    let folder = bench.folder(&space, "data").await;
    assert!(folder.is_dir());
    let claims = space.api::<PersistentVolumeClaim>();
    claims.delete("data", &DeleteParams::default()).await.unwrap();
    assert!(
        claims.get("data").await.unwrap().metadata.deletion_timestamp.is_some(),
        "the pod holds its claim"
    );
    space.api::<Pod>().delete("user", &DeleteParams::default()).await.unwrap();
    space
        .until::<PersistentVolumeClaim>("the end of the claim", "", <[PersistentVolumeClaim]>::is_empty)
        .await;
}

async fn a_stateful_set_makes_its_pods_in_order_each_with_its_claim(bench: &Bench) {
    let space = bench.namespace("stateful").await;
    space
        .create::<StatefulSet>(json!({"metadata": {"name": "db"}, "spec": {
            "serviceName": "db", "replicas": 2, "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "db:1",
                "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}},
            "volumeClaimTemplates": [claim("data", "ReadWriteOnce", None)]}}))
        .await;
    let pods = space
        .until::<Pod>("two ready pods", "app=db", |pods| pods.len() == 2 && pods.iter().all(ready))
        .await;
    let mut names: Vec<_> = pods.iter().map(ResourceExt::name_any).collect();
    names.sort();
    assert_eq!(names, ["db-0", "db-1"]);
    for pod in names {
        assert!(bench.folder(&space, &format!("data-{pod}")).await.is_dir());
    }
}

async fn claims_go_with_a_stateful_set_that_deletes_them_and_outlive_any_other(bench: &Bench) {
    let space = bench.namespace("retention").await;
    let set = |name: &str, policy: &str| {
        json!({"metadata": {"name": name}, "spec": {
            "serviceName": name, "replicas": 1, "selector": {"matchLabels": {"app": name}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": policy, "whenScaled": "Retain"},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "db:1",
                "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}},
            "volumeClaimTemplates": [claim("data", "ReadWriteOnce", None)]}})
    };
    for (name, policy) in [("kept", "Retain"), ("gone", "Delete")] {
        space.create::<StatefulSet>(set(name, policy)).await;
        space.until::<Pod>("a ready pod", &format!("app={name}"), |pods| pods.iter().any(ready)).await;
    }
    let owners = |claims: &[PersistentVolumeClaim]| -> Vec<(String, Vec<String>)> {
        let named = |claim: &PersistentVolumeClaim| {
            (claim.name_any(), claim.owner_references().iter().map(|owner| owner.kind.clone()).collect())
        };
        claims.iter().map(named).collect()
    };
    let expected =
        vec![("data-gone-0".to_owned(), vec!["StatefulSet".to_owned()]), ("data-kept-0".to_owned(), vec![])];
    space.until("an owner of the one claim", "", |claims| owners(claims) == expected).await;
    for name in ["kept", "gone"] {
        space.api::<StatefulSet>().delete(name, &DeleteParams::background()).await.unwrap();
    }
    space
        .until::<PersistentVolumeClaim>("the kept claim alone", "", |claims| {
            claims.len() == 1 && claims[0].name_any() == "data-kept-0"
        })
        .await;
}

async fn a_job_of_the_movers_image_runs_a_process_and_completes(bench: &Bench) {
    let space = bench.namespace("movers").await;
    space.create::<Job>(job("mover", MOVER_IMAGE, &["--help"])).await;
    space.until::<Job>("completion", "", |jobs| has(&jobs[0], "Complete")).await;
    let pods = space.until::<Pod>("its pod", "job-name=mover", |pods| !pods.is_empty()).await;
    let log = bench.lab.cluster(HUB_CLUSTER).unwrap().pod_log(&space.name, &pods[0].name_any()).unwrap();
    assert!(log.contains("Usage"), "{log}");
}

async fn a_job_whose_process_returns_an_error_has_failed(bench: &Bench) {
    let space = bench.namespace("failures").await;
    space.create::<Job>(job("mover", MOVER_IMAGE, &["no-such-command"])).await;
    space.until::<Job>("failure", "", |jobs| has(&jobs[0], "Failed")).await;
    let pods = space.until::<Pod>("its pod", "job-name=mover", |pods| !pods.is_empty()).await;
    let status = pods[0].status.as_ref().unwrap();
    let ended =
        status.container_statuses.as_ref().unwrap()[0].state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((status.phase.as_deref(), ended.exit_code), (Some("Failed"), 2));
}

async fn a_job_of_another_image_succeeds_at_once(bench: &Bench) {
    let space = bench.namespace("jobs").await;
    space.create::<Job>(job("other", "tool:1", &[])).await;
    space.until::<Job>("completion", "", |jobs| has(&jobs[0], "Complete")).await;
}

async fn dependents_go_with_their_owner_and_stay_if_it_orphans_them(bench: &Bench) {
    let space = bench.namespace("garbage").await;
    let owner = space.create::<ConfigMap>(json!({"metadata": {"name": "owner"}})).await;
    let reference = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid()}]);
    space.create::<ConfigMap>(json!({"metadata": {"name": "child", "ownerReferences": reference}})).await;
    space.create::<Deployment>(deployment("kept", 1)).await;
    space.until::<Pod>("a ready pod", "app=kept", |pods| pods.len() == 1 && pods.iter().all(ready)).await;

    space.api::<ConfigMap>().delete("owner", &DeleteParams::background()).await.unwrap();
    space
        .until::<ConfigMap>("the end of the child", "", |maps| {
            maps.iter().all(|map| map.name_any() != "child")
        })
        .await;

    space.api::<Deployment>().delete("kept", &DeleteParams::orphan()).await.unwrap();
    space.until::<Deployment>("the end of the deployment", "", <[Deployment]>::is_empty).await;
    let pods = space.api::<Pod>().list(&ListParams::default().labels("app=kept")).await.unwrap();
    assert_eq!(pods.items.len(), 1);
}

async fn a_namespace_is_emptied_and_goes(bench: &Bench) {
    let space = bench.namespace("ending").await;
    space.create::<Deployment>(deployment("web", 2)).await;
    space.create::<PersistentVolumeClaim>(claim("data", "ReadWriteOnce", None)).await;
    space.until::<Pod>("two pods", "app=web", |pods| pods.len() == 2).await;
    let namespaces = Api::<Namespace>::all(bench.client());
    namespaces.delete("ending", &DeleteParams::default()).await.unwrap();
    let gone = async {
        while namespaces.get_opt("ending").await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.expect("the namespace goes");
}

macro_rules! on_both_flavours {
    ($($scenario:ident,)+) => {
        mod embedded {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $scenario() {
                    if crate::is_wanted(false) && let Some(bench) = super::lab(false).await {
                        super::$scenario(bench).await;
                    }
                }
            )+
        }
        mod real {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $scenario() {
                    if crate::is_wanted(true) && let Some(bench) = super::lab(true).await {
                        super::$scenario(bench).await;
                    }
                }
            )+
        }
    };
}

on_both_flavours! {
    a_cluster_has_its_nodes_and_namespaces_their_defaults,
    a_deployment_becomes_ready_pods_behind_its_service_and_follows_its_scale,
    a_new_template_replaces_the_pods,
    a_claim_gets_a_folder_that_goes_with_it,
    a_claim_that_waits_for_its_pod_is_bound_on_the_pods_node_and_held_by_it,
    a_stateful_set_makes_its_pods_in_order_each_with_its_claim,
    claims_go_with_a_stateful_set_that_deletes_them_and_outlive_any_other,
    a_job_of_the_movers_image_runs_a_process_and_completes,
    a_job_whose_process_returns_an_error_has_failed,
    a_job_of_another_image_succeeds_at_once,
    dependents_go_with_their_owner_and_stay_if_it_orphans_them,
    a_namespace_is_emptied_and_goes,
}
