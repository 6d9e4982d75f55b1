//! A hub over the API server in memory, and spokes that speak to its router.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use isthmus_shared::protocol::identity::SigningKey;
use isthmus_shared::protocol::{
    ENROLL_PATH, HEARTBEAT_PATH, Outcome, ProbeReport, REPORTS_PATH, TASKS_PATH, TaskId, TaskState,
};
use isthmus_shared::resources::{Cluster, Migration};
use jiff::Timestamp;
use kube::api::PostParams;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Api, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::fake_api::FakeApi;
use crate::api::{Front, Office, router};
use crate::auth::people::People;
use crate::auth::spoke::Gate;
use crate::controllers::{self, Desk};
use crate::events::Events;
use crate::leader::Term;
use crate::metrics::Metrics;
use crate::presence::{Presence, Probe};
use crate::records::{Record, Records, Writer};
use crate::room::Limits;
use crate::runs::Runs;
use crate::staging::Stores;

/// How long anything may take to come about.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Hub {
    pub api: FakeApi,
    pub office: Arc<Office>,
    pub router: Router,
    pub leads: watch::Sender<Option<Arc<Office>>>,
    _tasks: JoinSet<()>,
}

/// A hub that leads, over the objects of `api`.
pub(super) async fn hub(api: &FakeApi, fence: i64) -> Hub {
    limited_hub(api, fence, Limits::default()).await
}

/// The same, with limits of how many migrations run at a time.
pub(super) async fn limited_hub(api: &FakeApi, fence: i64, limits: Limits) -> Hub {
    let mut tasks = JoinSet::new();
    let client = api.client();
    let records = Records::watch(&client, "isthmus", limits, &mut tasks);
    records.complete().await;
    let metrics = Metrics::new();
    let stores = Arc::new(Stores::default());
    let term = Arc::new(Term::new(fence));
    let presence = Arc::new(Presence::new(term.since()));
    let writer = Writer { client: client.clone(), term: Arc::clone(&term) };
    let recorder = Recorder::new(client.clone(), Reporter { controller: "hub".into(), instance: None });
    let runs = Arc::new(Runs::new(
        Arc::clone(&records),
        Arc::clone(&presence),
        writer.clone(),
        Events::start(client.clone(), &mut tasks),
        metrics.clone(),
    ));
    let now = u64::try_from(Timestamp::now().as_second()).unwrap();
    let office = Arc::new(Office {
        term,
        records: Arc::clone(&records),
        presence,
        writer,
        runs,
        gate: Gate::new(now),
        signing: Arc::new(SigningKey::generate().unwrap()),
    });
    let desk = Arc::new(Desk {
        office: Arc::clone(&office),
        stores: Arc::clone(&stores),
        recorder,
        metrics: metrics.clone(),
        url: "https://hub.example".into(),
        ca_hash: "abcd".into(),
    });
    controllers::start(&desk, &mut tasks);
    let (leads, seen) = watch::channel(Some(Arc::clone(&office)));
    let front = Front::new(seen, records, People::new(client), stores, metrics, CancellationToken::new());
    Hub { api: api.clone(), office, router: router(Arc::new(front)), leads, _tasks: tasks }
}

/// A test's hub over an empty API server.
pub(super) async fn new_hub() -> Hub {
    hub(&FakeApi::new(), 1).await
}

impl Hub {
    pub(super) async fn create<K: Record>(&self, object: Value) -> K {
        let object: K = serde_json::from_value(object).unwrap();
        Api::<K>::namespaced(self.api.client(), "isthmus")
            .create(&PostParams::default(), &object)
            .await
            .unwrap()
    }

    pub(super) async fn get<K: Record>(&self, name: &str) -> K {
        Api::<K>::namespaced(self.api.client(), "isthmus").get(name).await.unwrap()
    }

    /// Waits until an object is as it should be.
    pub(super) async fn until<K: Record>(&self, name: &str, what: &str, is: impl Fn(&K) -> bool) -> K {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let object: K = self.get(name).await;
            if is(&object) {
                return object;
            }
            assert!(tokio::time::Instant::now() < deadline, "{name} never was {what}: {object:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) async fn send(&self, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"))
            .body(Body::from(body.to_string()))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body))))
    }

    /// Adds a cluster and gives its join token once it is there.
    pub(super) async fn add_cluster(&self, name: &str) -> String {
        let _: Cluster = self.create(json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": name}, "spec": {}})).await;
        self.join_token(name, None).await
    }

    /// The join token that answers `request`.
    pub(super) async fn join_token(&self, name: &str, request: Option<&str>) -> String {
        let answered = |cluster: &Cluster| {
            let join = cluster.status.as_ref().and_then(|status| status.join.as_ref());
            join.is_some_and(|join| join.request.as_deref() == request && !join.used)
        };
        self.until(name, "given a token", answered).await;
        let secret: k8s_openapi::api::core::v1::Secret = self.get(&format!("{name}-join-token")).await;
        String::from_utf8(secret.data.unwrap()["token"].0.clone()).unwrap()
    }

    /// Adds a cluster and joins it.
    pub(super) async fn join(&self, name: &str) -> Spoke {
        let token = self.add_cluster(name).await;
        let spoke = Spoke::new(name);
        let (status, reply) = spoke.enroll(self, &token).await;
        assert_eq!(status, 200, "{reply}");
        spoke
    }

    /// A pair of east and west through a store that the hub itself has probed.
    pub(super) async fn pair(&self) -> (Spoke, Spoke) {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3"},
            "stringData": {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}});
        let _: k8s_openapi::api::core::v1::Secret = self.create(secret).await;
        // Nothing listens on the discard port: the hub's own probe is put in by hand instead.
        let store = json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "ObjectStore", "metadata": {"name": "stage"},
            "spec": {"endpoint": "http://127.0.0.1:9", "bucket": "stage", "credentialsSecretRef": {"name": "s3"}}});
        let store: isthmus_shared::resources::ObjectStore = self.create(store).await;
        let pair = json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "ClusterPair", "metadata": {"name": "prod"},
            "spec": {"source": "east", "destination": "west", "objectStore": "stage"}});
        let _: isthmus_shared::resources::ClusterPair = self.create(pair).await;
        let (east, west) = (self.join("east").await, self.join("west").await);
        self.beat(&east, &west, &store.uid().unwrap()).await;
        (east, west)
    }

    /// Both spokes and the hub find the store good.
    pub(super) async fn beat(&self, east: &Spoke, west: &Spoke, store: &str) {
        for spoke in [east, west] {
            let (status, reply) = spoke.post(self, HEARTBEAT_PATH, &json!({"factsDigest": "d"})).await;
            assert_eq!(status, 200, "{reply}");
            let revision = reply["stores"][0]["revision"].as_str().unwrap().to_owned();
            self.office
                .presence
                .probed(store, Probe { revision: revision.clone(), at: Timestamp::now(), error: None });
            let probe = ProbeReport { store: store.to_owned(), revision, age_millis: 0, error: None };
            let (status, _) =
                spoke.post(self, HEARTBEAT_PATH, &json!({"factsDigest": "d", "probes": [probe]})).await;
            assert_eq!(status, 200);
        }
    }

    pub(super) async fn migrate(&self, name: &str) -> Migration {
        let migration = json!({"apiVersion": "isthmus.dev/v1alpha1", "kind": "Migration", "metadata": {"name": name},
            "spec": {"clusterPair": "prod", "namespaces": ["cms"]}});
        self.create(migration).await
    }
}

pub(super) struct Spoke {
    pub name: String,
    pub key: SigningKey,
    /// By how many seconds its clock is ahead.
    pub ahead: std::sync::atomic::AtomicI64,
    sequence: std::sync::atomic::AtomicU64,
}

impl Spoke {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.into(), key: SigningKey::generate().unwrap(), ahead: 0.into(), sequence: 0.into() }
    }

    pub(super) fn token(&self) -> String {
        let ahead = self.ahead.load(std::sync::atomic::Ordering::Relaxed);
        let now = u64::try_from(Timestamp::now().as_second() + ahead).unwrap();
        self.key.spoke_token(&self.name, now).unwrap()
    }

    pub(super) async fn enroll(&self, hub: &Hub, token: &str) -> (u16, Value) {
        let body = json!({"publicKey": self.key.public_base64(), "clusterUid": format!("uid-{}", self.name), "spokeVersion": "0.1.0"});
        hub.send("POST", ENROLL_PATH, token, &body).await
    }

    pub(super) async fn post(&self, hub: &Hub, path: &str, body: &impl Serialize) -> (u16, Value) {
        hub.send("POST", path, &self.token(), &serde_json::to_value(body).unwrap()).await
    }

    /// The spoke's tasks: their ids, and the revision.
    pub(super) async fn poll(&self, hub: &Hub, known: Option<&str>, seconds: u64) -> (Vec<String>, String) {
        let (status, list) =
            self.post(hub, TASKS_PATH, &json!({"known": known, "waitSeconds": seconds})).await;
        assert_eq!(status, 200, "{list}");
        let ids = list["tasks"].as_array().unwrap().iter().map(|task| read::<String>(&task["id"])).collect();
        (ids, read(&list["revision"]))
    }

    /// Waits for a task whose id ends so.
    pub(super) async fn await_task(&self, hub: &Hub, end: &str) -> TaskId {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut known = None;
        loop {
            let (ids, revision) = self.poll(hub, known.as_deref(), 5).await;
            if let Some(id) = ids.iter().find(|id| id.ends_with(end)) {
                return id.parse().unwrap();
            }
            assert!(tokio::time::Instant::now() < deadline, "{} never got {end}, but {ids:?}", self.name);
            known = Some(revision);
        }
    }

    pub(super) async fn report(
        &self,
        hub: &Hub,
        task: &TaskId,
        state: TaskState,
        outcome: Option<Outcome>,
    ) -> u16 {
        let sequence = 1 + self.sequence.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let report = json!({"task": task, "sequence": sequence, "state": state, "outcome": outcome});
        self.post(hub, REPORTS_PATH, &json!({"reports": [report]})).await.0
    }

    /// Waits for a task and does it.
    pub(super) async fn does(&self, hub: &Hub, end: &str, outcome: Outcome) -> TaskId {
        let task = self.await_task(hub, end).await;
        assert_eq!(self.report(hub, &task, TaskState::Succeeded, Some(outcome)).await, 200);
        task
    }
}

pub(super) fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}
