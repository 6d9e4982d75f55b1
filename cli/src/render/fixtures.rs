//! Records as they are in the middle of things, for the snapshots of what is printed.

use isthmus_shared::protocol::{ObjectAction, ObjectResult};
use isthmus_shared::resources::{
    Cluster, ClusterPair, Migration, MigrationPlan, MigrationSchedule, ObjectStore,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{DiffView, MigrationView};

/// The moment at which the fixtures are looked at.
pub fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

fn record<K: DeserializeOwned>(kind: &str, name: &str, spec: &Value, status: &Value) -> K {
    let record = json!({
        "apiVersion": "isthmus.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": "isthmus", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec, "status": status,
    });
    serde_json::from_value(record).unwrap()
}

fn ready(status: &str, reason: &str, message: &str) -> Value {
    json!({"type": "Ready", "status": status, "reason": reason, "message": message,
           "lastTransitionTime": "2026-01-01T00:01:00Z"})
}

pub fn clusters() -> Vec<Cluster> {
    let east = json!({
        "uid": "0c5d2b2e-5a0a-4a3e-9f58-5c1f6f1f8f10", "publicKey": "AAAA",
        "join": {"request": "r", "tokenId": "t", "expires": "2026-01-01T01:00:00Z", "used": true},
        "version": "v1.33.4", "spokeVersion": "0.1.0", "nodes": 3, "zones": ["a", "b"],
        "storageClasses": [{"name": "fast", "provisioner": "csi.example.com", "default": true, "waitForFirstConsumer": true}],
        "snapshotClasses": ["snap"], "lastHeartbeat": "2026-01-01T00:09:55Z",
        "activations": [{"namespace": "cms", "request": "1", "state": "Active", "phase": "Succeeded", "workloads": 2}],
        "conditions": [ready("True", "Heard", "the spoke is heard")],
    });
    let west = json!({"join": {"tokenId": "t", "expires": "2026-01-01T00:40:00Z"}});
    vec![
        record("Cluster", "east", &json!({"apiEndpoint": "https://east.example.com:6443"}), &east),
        record("Cluster", "west", &json!({}), &west),
    ]
}

pub fn stores() -> Vec<ObjectStore> {
    let spec = json!({"endpoint": "https://s3.example.com", "region": "eu-1", "bucket": "staging", "prefix": "team",
                      "credentialsSecretRef": {"name": "main-credentials"}});
    let bad = ready(
        "False",
        "AccessDenied",
        "writing to bucket staging failed: give the key the right s3:PutObject",
    );
    vec![
        record("ObjectStore", "main", &spec, &json!({"conditions": [bad]})),
        record("ObjectStore", "new", &spec, &json!({})),
    ]
}

pub fn pair() -> ClusterPair {
    record(
        "ClusterPair",
        "prod",
        &json!({"source": "east", "destination": "west", "objectStore": "main", "allowedNamespaces": ["cms", "shop-*"]}),
        &json!({
            "schedulerStatus": "Ready", "storageStatus": "Degraded",
            "storageMessage": "cluster west cannot write to bucket staging: give its network a way to s3.example.com",
            "conditions": [ready("False", "StorageDegraded", "see storageStatus")],
        }),
    )
}

pub fn migration() -> Migration {
    record(
        "Migration",
        "cms-x7k2b",
        &json!({"clusterPair": "prod", "namespaces": ["cms"], "startApplications": true, "verify": "Full",
                "bandwidthLimit": "50Mi", "excludePaths": ["/cache", "*.tmp"], "retention": {"passes": 3}}),
        &json!({
            "status": "SucceededWithWarnings", "source": "east", "destination": "west",
            "startedAt": "2026-01-01T00:01:00Z", "finishedAt": "2026-01-01T00:02:12Z",
            "pipeline": [
                {"step": "Preflight", "state": "Succeeded", "startedAt": "2026-01-01T00:01:00Z", "finishedAt": "2026-01-01T00:01:00Z"},
                {"step": "FinalVolumes", "state": "Succeeded", "startedAt": "2026-01-01T00:01:02Z",
                 "finishedAt": "2026-01-01T00:02:02Z", "message": "2 of 2 volumes"},
                {"step": "Cleanup", "state": "Skipped"},
            ],
            "volumes": [
                {"namespace": "cms", "claim": "px-mysql-pvc", "uid": "u1", "phase": "Succeeded", "pass": 1, "send": "Succeeded",
                 "receive": "Succeeded", "bytesTotal": 222_717_542, "bytesDone": 222_717_542, "bytesUploaded": 100_000_000,
                 "filesDone": 212, "method": "Live",
                 "verified": {"blocks": 214, "filesReadBack": 212, "bytesReadBack": 222_717_542}},
                {"namespace": "cms", "claim": "px-wordpress-pvc", "uid": "u2", "phase": "Succeeded", "pass": 1,
                 "send": "Succeeded", "receive": "Succeeded", "bytesTotal": 0, "bytesDone": 0, "bytesUploaded": 0,
                 "filesDone": 1, "method": "Live", "verified": {"blocks": 0}, "message": "it is empty"},
            ],
            "resources": {"total": 14, "done": 14, "created": 12, "updated": 1, "unchanged": 1, "failed": 0, "leftBehind": 3},
            "bytesDone": 222_717_542, "bytesTotal": 222_717_542,
            "warnings": [{"object": "PersistentVolumeClaim cms/px-mysql-pvc", "reason": "FileChanged", "step": "FinalVolumes",
                          "message": "ibdata1 changed while it was read: quiesce the application for a consistent copy"}],
            "warningsTotal": 23,
            "volumesSummary": "2/2", "resourcesSummary": "14/14", "bytesSummary": "212.3 MiB", "elapsed": "1m12s",
        }),
    )
}

/// A plan that cannot run as it stands, and one that nobody has looked at.
pub fn plans() -> Vec<MigrationPlan> {
    let spec = json!({"clusterPair": "prod", "namespaces": ["cms", {"shop": "shop-green"}], "quiesce": true,
                      "volumes": [{"namespace": "cms", "claim": "cache", "action": "Skip"}]});
    let status = json!({
        "phase": "NotReady", "observedGeneration": 1, "checkedAt": "2026-01-01T00:09:00Z", "critical": 1, "warnings": 1,
        "problems": [
            {"severity": "Critical", "object": "PersistentVolumeClaim cms/data", "reason": "StorageClassMissing",
             "message": "the destination has no storage class fast: map it to one of standard"},
            {"severity": "Warn", "object": "Namespace cms", "reason": "OtherPlan",
             "message": "plan isthmus/old names it too: run one of them only"},
        ],
        "conditions": [ready("False", "Critical", "1 critical problem")],
    });
    let mut plan: MigrationPlan = record("MigrationPlan", "shop", &spec, &status);
    plan.metadata.generation = Some(2);
    vec![
        plan,
        record("MigrationPlan", "new", &json!({"clusterPair": "prod", "namespaces": ["new"]}), &json!({})),
    ]
}

/// A schedule that runs, one that is held, and one that nobody has looked at.
pub fn schedules() -> Vec<MigrationSchedule> {
    let options = json!({"clusterPair": "prod", "namespaces": ["cms"]});
    let hourly = json!({
        "lastScheduledAt": "2026-01-01T00:00:00Z", "nextAt": "2026-01-01T01:00:00Z", "active": ["hourly-29453760"],
        "lastSucceeded": {"name": "hourly-29453700", "uid": "u1", "startedAt": "2025-12-31T23:00:01Z",
                          "finishedAt": "2025-12-31T23:04:10Z"},
        "message": "run hourly-29453760 is under way; the next run is due at 2026-01-01T01:00:00Z",
        "conditions": [ready("True", "Running", "run hourly-29453760 is under way")],
    });
    let held = json!({
        "held": {"reason": "DestinationActive", "since": "2026-01-01T00:05:00Z", "message": "the applications are active"},
        "message": "the applications of namespace cms are active on cluster west: it goes on after `isthmus deactivate`",
        "conditions": [ready("False", "DestinationActive", "the applications of namespace cms are active on cluster west")],
    });
    let nightly = json!({"schedule": "30 2 * * *", "timeZone": "Europe/Berlin", "startingDeadlineSeconds": 7200,
                         "template": {"spec": {"plan": "shop", "action": "Stage"}}});
    vec![
        record(
            "MigrationSchedule",
            "hourly",
            &json!({"schedule": "@hourly", "template": {"spec": options}}),
            &hourly,
        ),
        record("MigrationSchedule", "nightly", &nightly, &held),
        record("MigrationSchedule", "new", &nightly, &json!({})),
    ]
}

/// The runs of the first of them, the newest first.
pub fn runs_of_schedule() -> Vec<Migration> {
    let options = json!({"clusterPair": "prod", "namespaces": ["cms"]});
    vec![
        record(
            "Migration",
            "hourly-29453760",
            &options,
            &json!({"status": "InProgress", "startedAt": "2026-01-01T00:00:01Z", "elapsed": "9m59s", "bytesSummary": "1.2 GiB"}),
        ),
        record(
            "Migration",
            "hourly-29453700",
            &options,
            &json!({"status": "Succeeded", "startedAt": "2025-12-31T23:00:01Z", "finishedAt": "2025-12-31T23:04:10Z",
                    "elapsed": "4m9s", "bytesSummary": "2.0 GiB"}),
        ),
        record(
            "Migration",
            "hourly-29453640",
            &options,
            &json!({"status": "Failed", "startedAt": "2025-12-31T22:00:01Z", "elapsed": "3s",
                    "message": "Preflight failed: PersistentVolumeClaim cms/data: its class is missing"}),
        ),
    ]
}

/// A cutover of a plan that succeeded.
pub fn cutover() -> Migration {
    record(
        "Migration",
        "cutover-shop-x7k2b",
        &json!({"plan": "shop", "quiesce": true}),
        &json!({
            "status": "Succeeded", "source": "east", "destination": "west", "active": "Destination",
            "message": "The applications run on west, down for 42s, and stand still on east",
            "options": {"clusterPair": "prod", "namespaces": ["cms"], "quiesce": true, "plan": "shop"},
            "startedAt": "2026-01-01T00:01:00Z", "finishedAt": "2026-01-01T00:02:12Z",
            "stoppedAt": "2026-01-01T00:01:20Z", "readyAt": "2026-01-01T00:02:02Z",
            "pipeline": [{"step": "Quiesce", "state": "Succeeded", "startedAt": "2026-01-01T00:01:10Z",
                          "finishedAt": "2026-01-01T00:01:20Z", "message": "2 workloads"}],
            "volumesSummary": "2/2", "resourcesSummary": "14/14", "bytesDone": 1024, "elapsed": "1m12s",
        }),
    )
}

/// A cutover that failed and went back.
pub fn rolled_back() -> Migration {
    let step = |step: &str, state: &str| json!({"step": step, "state": state, "startedAt": "2026-01-01T00:01:10Z", "finishedAt": "2026-01-01T00:01:20Z"});
    record(
        "Migration",
        "cms-x7k2b",
        &json!({"clusterPair": "prod", "namespaces": ["cms"], "quiesce": true, "reclaim": "Delete",
                "operators": [{"namespace": "db-system", "name": "operator"}]}),
        &json!({
            "status": "RolledBack", "source": "east", "destination": "west", "active": "Source",
            "message": "HealthCheck failed: Deployment cms/web: not ready. The applications run on east, and nothing of the run on west",
            "startedAt": "2026-01-01T00:01:00Z", "finishedAt": "2026-01-01T00:02:12Z", "stoppedAt": "2026-01-01T00:01:20Z",
            "pipeline": [
                step("Quiesce", "Succeeded"), step("HealthCheck", "Failed"), step("StopDestination", "Succeeded"),
                step("RestoreSource", "Succeeded"), step("RemoveFromDestination", "Succeeded"), step("Cleanup", "Succeeded"),
            ],
            "failures": [{"object": "Deployment cms/web", "reason": "NotReady", "step": "HealthCheck",
                          "message": "not ready in time: look at its Pods' logs"}],
            "failuresTotal": 1, "bytesDone": 1024, "elapsed": "1m12s",
        }),
    )
}

fn object(kind: &str, name: &str, action: ObjectAction, why: Option<(&str, &str)>) -> ObjectResult {
    ObjectResult {
        api_version: if kind == "Deployment" { "apps/v1" } else { "v1" }.to_owned(),
        kind: kind.to_owned(),
        namespace: Some("cms".to_owned()),
        name: name.to_owned(),
        action,
        reason: why.map(|(reason, _)| reason.to_owned()),
        message: why.map(|(_, message)| message.to_owned()),
        diff: None,
        rewritten: None,
    }
}

pub fn view() -> MigrationView {
    let event = |reason: &str, message: &str, count: i32, at: &str| -> Event {
        serde_json::from_value(json!({
            "metadata": {"name": "e"}, "involvedObject": {}, "type": "Normal", "reason": reason, "message": message,
            "count": count, "lastTimestamp": at,
        }))
        .unwrap()
    };
    MigrationView {
        migration: migration(),
        objects: vec![
            object("Service", "wordpress", ObjectAction::Created, None),
            ObjectResult {
                diff: Some(
                    "--- on the destination\n+++ after the migration\n@@ -1 +1 @@\n-a: \u{1b}[2J1\n+a: 2\n"
                        .to_owned(),
                ),
                ..object("Deployment", "wordpress", ObjectAction::Updated, None)
            },
            object(
                "Pod",
                "wordpress-1",
                ObjectAction::LeftBehind,
                Some(("Owned", "its ReplicaSet makes it")),
            ),
        ],
        objects_missing: None,
        events: vec![
            event("StepStarted", "Preflight", 1, "2026-01-01T00:01:00Z"),
            event("VolumeMoved", "cms/px-mysql-pvc", 2, "2026-01-01T00:02:00Z"),
        ],
        events_missing: None,
    }
}

/// A dry run that finds something in the way.
pub fn diff_view() -> DiffView {
    let mut migration = migration();
    let status = migration.status.get_or_insert_default();
    status.status = isthmus_shared::resources::MigrationPhase::Failed;
    status.namespaces = vec![serde_json::from_value(json!({"from": "cms", "to": "cms-green"})).unwrap()];
    status.failures = vec![
        serde_json::from_value(json!({
            "object": "Service cms-green/db", "reason": "NodePortTaken", "step": "Preflight",
            "message": "node port 30123 is taken by Service tools/db: free it, or let the destination choose another",
        }))
        .unwrap(),
    ];
    status.failures_total = 1;
    let mut objects = view().objects;
    for object in &mut objects {
        object.namespace = Some("cms-green".to_owned());
    }
    objects[0].rewritten = Some("--- by the rules\n+++ by the options\n@@ -1 +1 @@\n-a\n+b\n".to_owned());
    objects.extend([
        object("ConfigMap", "settings", ObjectAction::Unchanged, None),
        object(
            "ConfigMap",
            "theirs",
            ObjectAction::Skipped,
            Some(("Exists", "existingResourcePolicy is Skip")),
        ),
        object(
            "ConfigMap",
            "old",
            ObjectAction::Deleted,
            Some(("GoneFromSource", "an earlier run brought it")),
        ),
        object("Service", "db", ObjectAction::Failed, Some(("NodePortTaken", "node port 30123 is taken"))),
        object("Pod", "wordpress-2", ObjectAction::LeftBehind, Some(("Owned", "its ReplicaSet makes it"))),
    ]);
    DiffView::new(&pair(), &migration, objects, None)
}
