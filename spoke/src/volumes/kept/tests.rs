//! Retaining, settling and going back, on an API server in memory.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use isthmus_shared::resources::{RECLAIM_POLICY, RETAINED_BY};
use kube::client::Body;
use serde_json::json;

use super::*;
use crate::cluster::{Cluster, annotation};
use crate::serve::MoverSettings;
use crate::task::Spoke;
use crate::transform::tests::run_of;

const PV: &str = "/api/v1/persistentvolumes/pv-1";

/// Objects by path; a patch must name the version that is there.
#[derive(Clone, Default)]
struct Server {
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
    writes: Arc<Mutex<usize>>,
    /// Patches that are refused because somebody else was faster.
    conflicts: Arc<Mutex<usize>>,
}

impl Server {
    fn of(objects: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let server = Self::default();
        let mut all = server.objects.lock().unwrap();
        all.extend(objects.into_iter().map(|(path, object)| (path.to_owned(), object)));
        drop(all);
        server
    }

    fn volume(&self) -> Value {
        self.objects.lock().unwrap()[PV].clone()
    }

    fn answer(&self, method: &Method, uri: &str, body: &Value) -> (u16, Value) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let mut objects = self.objects.lock().unwrap();
        if query.contains("labelSelector") {
            let is = |object: &&Value| {
                label(object, MIGRATED_BY) == Some("m-1") && object["kind"] == "PersistentVolume"
            };
            return (200, json!({"metadata": {}, "items": objects.values().filter(is).collect::<Vec<_>>()}));
        }
        let Some(object) = objects.get_mut(path) else {
            return (404, json!({"kind": "Status", "reason": "NotFound", "message": path}));
        };
        if method == Method::PATCH {
            let mut conflicts = self.conflicts.lock().unwrap();
            let version = text(object, "/metadata/resourceVersion").to_owned();
            if *conflicts > 0 || text(body, "/metadata/resourceVersion") != version {
                *conflicts = conflicts.saturating_sub(1);
                return (409, json!({"kind": "Status", "reason": "Conflict", "message": "it was modified"}));
            }
            crate::transform::merge(object, body);
            object["metadata"]["resourceVersion"] = json!(format!("{version}1"));
            *self.writes.lock().unwrap() += 1;
        }
        (200, object.clone())
    }

    fn context(&self) -> TaskContext {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                let (code, reply) = server.answer(&parts.method, &parts.uri.to_string(), &body);
                let reply = Body::from(reply.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(code).body(reply).unwrap())
            }
        });
        let movers = MoverSettings {
            image: String::new(),
            pull_secrets: Vec::new(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            endpoint: String::new(),
            port: 0,
            ca: String::new(),
        };
        let spoke = Spoke {
            cluster: Cluster::new(kube::Client::new(service, "default")),
            name: "east".to_owned(),
            namespace: "isthmus-spoke".to_owned(),
            movers,
            sessions: super::super::Sessions::default(),
            nodes: super::super::Nodes::default(),
            hook_commands: true,
            renewals: crate::hooks::Renewals::default(),
            stores: crate::staging_area::Stores::default(),
            journals: crate::journals::Journals::default(),
        };
        TaskContext::new(Arc::new(spoke), "m-1/Quiesce/source".parse().unwrap(), None, Arc::default())
    }
}

fn volume(policy: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolume",
           "metadata": {"name": "pv-1", "resourceVersion": "1", "labels": labels, "annotations": {"kept": "yes"}},
           "spec": {"persistentVolumeReclaimPolicy": policy, "nfs": {"server": "s", "path": "/p"},
                    "claimRef": {"namespace": "cms", "name": "data", "uid": "c-1"}}, "status": {"phase": "Bound"}})
}

fn claim(labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
           "metadata": {"name": "data", "namespace": "cms", "uid": "c-1", "resourceVersion": "1", "labels": labels},
           "spec": {"volumeName": "pv-1"}, "status": {"phase": "Bound"}})
}

fn run() -> Run {
    run_of(
        json!({"quiesce": true, "volumes": [{"namespace": "cms", "claim": "data", "action": "Keep", "name": "kept"},
                                            {"namespace": "cms", "claim": "other"}]}),
        &[("cms", "shop")],
    )
}

const SOURCE: &str = "/api/v1/namespaces/cms/persistentvolumeclaims/data";
const DESTINATION: &str = "/api/v1/namespaces/shop/persistentvolumeclaims/kept";

fn policy_of(volume: &Value) -> &str {
    text(volume, "/spec/persistentVolumeReclaimPolicy")
}

#[tokio::test]
async fn a_source_is_retained_once_and_released_to_what_it_was() {
    let server = Server::of([(PV, volume("Delete", &json!({}))), (SOURCE, claim(&json!({})))]);
    *server.conflicts.lock().unwrap() = 2;
    let context = server.context();
    assert_eq!(kept_names(&context, &run()).await.unwrap(), BTreeSet::from(["pv-1".to_owned()]));
    for _ in 0..2 {
        retain(&context, &run()).await.unwrap();
    }
    let retained = server.volume();
    assert_eq!((policy_of(&retained), *server.writes.lock().unwrap()), ("Retain", 1));
    assert_eq!(annotation(&retained, RECLAIM_POLICY), Some("Delete"));
    assert_eq!(annotation(&retained, RETAINED_BY), Some("m-1"));
    for _ in 0..2 {
        release(&context, &run()).await.unwrap();
    }
    let released = server.volume();
    assert_eq!((policy_of(&released), *server.writes.lock().unwrap()), ("Delete", 2));
    assert_eq!(released["metadata"]["annotations"], json!({"kept": "yes"}));
}

#[tokio::test]
async fn a_source_without_its_claim_stops_the_run_and_stays_retained_on_the_way_back() {
    let server = Server::of([(PV, volume("Delete", &json!({})))]);
    let context = server.context();
    let Err(TaskError::Failed(failed)) = retain(&context, &run()).await else { panic!("it went well") };
    assert_eq!(failed.list[0].reason, "ClaimNotBound");
    let marked = json!({"metadata": {"annotations": {RECLAIM_POLICY: "Delete", RETAINED_BY: "m-1"}},
                        "spec": {"persistentVolumeReclaimPolicy": "Retain"}});
    let mut other = claim(&json!({}));
    other["metadata"]["uid"] = json!("c-2");
    server.objects.lock().unwrap().insert(SOURCE.to_owned(), other);
    crate::transform::merge(server.objects.lock().unwrap().get_mut(PV).unwrap(), &marked);
    release(&context, &run()).await.unwrap();
    assert_eq!(policy_of(&server.volume()), "Retain", "it is another claim's now");
    assert_eq!(context.standing().warnings.list[0].reason, "StillRetained");
}

#[tokio::test]
async fn a_destination_settles_after_success_and_is_held_before_anything_of_it_goes() {
    let ours = json!({MIGRATED_BY: "m-1"});
    let mut arrived = volume("Retain", &ours);
    arrived["metadata"]["annotations"][RECLAIM_POLICY] = json!("Delete");
    let server = Server::of([(PV, arrived), (DESTINATION, claim(&ours))]);
    let context = server.context();
    settle(&context, &run()).await.unwrap();
    assert_eq!(policy_of(&server.volume()), "Delete");
    assert_eq!(server.volume()["metadata"]["annotations"], json!({"kept": "yes"}));
    for _ in 0..2 {
        hold(&context, &run()).await.unwrap();
    }
    assert_eq!((policy_of(&server.volume()), *server.writes.lock().unwrap()), ("Retain", 2));
    await_bound(&context, &run(), &[volume("Delete", &json!({}))]).await.unwrap();
}

#[tokio::test]
async fn a_volume_that_was_there_before_is_held_where_the_runs_claim_is_bound_to_it() {
    let server =
        Server::of([(PV, volume("Delete", &json!({}))), (DESTINATION, claim(&json!({MIGRATED_BY: "m-1"})))]);
    hold(&server.context(), &run()).await.unwrap();
    assert_eq!(policy_of(&server.volume()), "Retain");
    let foreign = Server::of([(PV, volume("Delete", &json!({}))), (DESTINATION, claim(&json!({})))]);
    hold(&foreign.context(), &run()).await.unwrap();
    assert_eq!(
        policy_of(&foreign.volume()),
        "Delete",
        "a claim that is not the run's stays, and so does this"
    );
}

#[tokio::test]
async fn a_claim_that_is_bound_to_another_volume_is_told() {
    let mut other = claim(&json!({}));
    other["spec"]["volumeName"] = json!("pv-2");
    let server = Server::of([(DESTINATION, other)]);
    let kept = [volume("Delete", &json!({}))];
    let Err(TaskError::Failed(failed)) = await_bound(&server.context(), &run(), &kept).await else {
        panic!("it went well")
    };
    assert!(failed.list[0].message.contains("Bound to pv-2"), "{}", failed.list[0].message);
}
