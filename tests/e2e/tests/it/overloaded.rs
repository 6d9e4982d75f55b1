//! A destination whose API server has too much to do and says so: 429, with Retry-After and the
//! headers of its flow control.
//!
//! The lab's own server is told to refuse. A real one is given a flow schema for the spoke's writes
//! with a priority level of no seats and no queue.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use isthmus_lab::apiserver::{Faults, Overload};
use isthmus_lab::programs::SpokeOptions;
use isthmus_shared::protocol::ObjectAction;
use isthmus_shared::resources::{LinkState, Step};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::reading::text;
use crate::world::{self, PAIR, World, eventually};

const NAMESPACE: &str = "crowd";
const MAPS: usize = 400;
/// How long an overload lasts from the first refusal on.
const LASTS: Duration = Duration::from_secs(6);
/// What a spoke that backs off may be refused meanwhile: at the most 64 calls that are under way
/// when it begins, and half as many each time it begins anew, which is a second later or more. One
/// that does not is refused as often in the first two seconds.
const REFUSALS: std::ops::Range<u64> = 4..128;

/// What the spoke is, as in production: what an administrator asks is exempt from flow control.
const ACCOUNT: &str = r"
apiVersion: v1
kind: ServiceAccount
metadata: {name: the-spoke, namespace: isthmus}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: the-spoke}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: the-spoke, namespace: isthmus}]
";
const NO_SEATS: &str = r#"
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: crowd}
spec:
  type: Limited
  limited: {nominalConcurrencyShares: 0, lendablePercent: 0, borrowingLimitPercent: 0, limitResponse: {type: Reject}}
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {name: crowd}
spec:
  matchingPrecedence: 10
  priorityLevelConfiguration: {name: crowd}
  rules:
  - subjects: [{kind: ServiceAccount, serviceAccount: {name: the-spoke, namespace: isthmus}}]
    resourceRules:
    - {apiGroups: [""], resources: [configmaps], verbs: [create, patch, update], namespaces: ["*"]}
"#;
const FLOW_SCHEMA: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/crowd";
const SOURCE: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: crowd}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: crowd}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";

/// A world whose western spoke is a ServiceAccount.
async fn world() -> World {
    let mut world = World::start().await;
    world.apply("west", ACCOUNT).await;
    let asked = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}});
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/the-spoke/token", world::NAMESPACE);
    let answer = world.post("west", &path, &asked).await;
    let kubeconfig = std::fs::read_to_string(world.lab.kubeconfig("west").unwrap()).unwrap();
    let admins = kubeconfig.lines().find_map(|line| line.trim().strip_prefix("token: ")).unwrap();
    let own = world.lab.dir().join("the-spoke.kubeconfig");
    std::fs::write(&own, kubeconfig.replace(admins, text(&answer, "/status/token"))).unwrap();
    world.west.program.kill().await.unwrap();
    let options = SpokeOptions { kubeconfig: Some(own), ..SpokeOptions::new("west", world::NAMESPACE) };
    world.west = world.lab.start_spoke(&world.hub, options).await.unwrap();
    world.pair_is(PAIR, "Ready", |_, scheduler, _| scheduler == LinkState::Ready).await;
    world
}

/// A destination that takes no ConfigMaps of the spoke, from time to time.
struct Destination<'a> {
    world: &'a World,
    /// Of the lab's own server.
    faults: Option<Faults>,
}

impl Destination<'_> {
    /// Refuses for a while, and answers how many calls.
    async fn is_overloaded(&self) -> u64 {
        let before = self.refused().await;
        let writes = ["POST", "PATCH", "PUT"].map(str::to_owned).to_vec();
        match &self.faults {
            Some(faults) => faults.overload(Overload {
                methods: writes,
                resource: "configmaps".to_owned(),
                ..Overload::of(u32::MAX)
            }),
            None => self.world.apply("west", NO_SEATS).await,
        }
        eventually("the spoke to be refused", || async {
            let refused = self.refused().await - before;
            if refused > 0 { Ok(()) } else { Err("it was not".to_owned()) }
        })
        .await;
        let first = Instant::now();
        eventually("the overload to be over", || async {
            let lasted = first.elapsed();
            if lasted >= LASTS { Ok(()) } else { Err(format!("it has lasted {lasted:?}")) }
        })
        .await;
        match &self.faults {
            Some(faults) => faults.overload(Overload::of(0)),
            None => self.world.delete("west", FLOW_SCHEMA).await,
        }
        self.refused().await - before
    }

    /// How many calls were refused so far.
    async fn refused(&self) -> u64 {
        if let Some(faults) = &self.faults {
            return faults.refused();
        }
        let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
        let metrics = self.world.client("west").request_text(request).await.unwrap();
        let counter = "apiserver_flowcontrol_rejected_requests_total{";
        let ours = |line: &&str| line.starts_with(counter) && line.contains("flow_schema=\"crowd\"");
        let count = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small counter")]
        let total = metrics.lines().filter(ours).map(count).sum::<f64>() as u64;
        total
    }
}

fn map(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("map-{number:03}")},
        "data": {"number": number.to_string()},
    })
}

/// What is written to each ConfigMap of the namespace from now on.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<BTreeMap<String, Vec<&'static str>>>>);

impl Written {
    async fn watch(client: Client) -> Self {
        let written = Self::default();
        let maps = Api::<PartialObjectMeta<ConfigMap>>::namespaced(client, NAMESPACE);
        let since =
            maps.list_metadata(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
        let events = maps.watch_metadata(&WatchParams::default().timeout(290), &since).await.unwrap();
        let noted = written.clone();
        tokio::spawn(events.for_each(move |event| {
            let (what, object) = match event.unwrap() {
                WatchEvent::Added(object) => ("ADDED", object),
                WatchEvent::Modified(object) => ("MODIFIED", object),
                WatchEvent::Deleted(object) => ("DELETED", object),
                WatchEvent::Bookmark(_) => return futures::future::ready(()),
                WatchEvent::Error(status) => panic!("{status:?}"),
            };
            noted.0.lock().unwrap().entry(object.name_any()).or_default().push(what);
            futures::future::ready(())
        }));
        written
    }

    /// Everything up to now.
    async fn by_now(&self, world: &World) -> BTreeMap<String, Vec<&'static str>> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
        let last = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "last"}});
        world.post("west", &path, &last).await;
        eventually("the watch to see what was written last", || async {
            let written = self.0.lock().unwrap().clone();
            if written.contains_key("last") { Ok(written) } else { Err(format!("{} objects", written.len())) }
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overloaded_destination_is_given_time_and_gets_each_object_once() {
    let world = world().await;
    world.apply("east", SOURCE).await;
    let maps = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    stream::iter(0..MAPS)
        .map(async |number| world.post("east", &maps, &map(number)).await)
        .buffer_unordered(16)
        .collect::<Vec<_>>()
        .await;
    world.volume("east", NAMESPACE, "data").await;
    let written = Written::watch(world.client("west")).await;
    let destination = Destination { world: &world, faults: world.lab.cluster("west").unwrap().api_faults() };

    world.begin(NAMESPACE, "crowd").await;
    // While the objects are tried, and while they are applied.
    let trying = destination.is_overloaded().await;
    let status = world.migration_is("crowd", "at its volumes", |s| s.step >= Some(Step::FinalVolumes)).await;
    assert!(status.step < Some(Step::ApplyResources), "it was too quick for this test: {status:?}");
    let applying = destination.is_overloaded().await;
    for refused in [trying, applying] {
        assert!(REFUSALS.contains(&refused), "{refused} calls were refused within {LASTS:?}");
    }

    let status = world.migration_is("crowd", "ended", |status| status.status.is_terminal()).await;
    let report = crate::runs::Report { status, objects: world.objects_of("crowd").await }.succeeded();
    let created = report.all(ObjectAction::Created);
    let expected: Vec<String> = (0..MAPS).map(|number| format!("map-{number:03}")).collect();
    for name in &expected {
        let told = created.iter().filter(|told| told.ends_with(&format!("/{name}"))).count();
        assert_eq!(told, 1, "{name}");
    }
    let mut written = written.by_now(&world).await;
    written.retain(|name, _| name.starts_with("map-"));
    assert_eq!(written.keys().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    let twice: Vec<_> = written.iter().filter(|(_, events)| **events != ["ADDED"]).collect();
    assert!(twice.is_empty(), "written more than once: {twice:?}");
    for number in [0, MAPS / 2, MAPS - 1] {
        let data = world.config("west", NAMESPACE, &format!("map-{number:03}")).await;
        assert_eq!(data, Some(map(number)["data"].clone()));
    }

    let again = world.run("crowd-again", json!({"namespaces": [NAMESPACE]})).await.succeeded();
    assert_eq!(again.all(ObjectAction::Created), Vec::<String>::new());
    assert_eq!(again.all(ObjectAction::Updated), Vec::<String>::new());
}
