//! Volumes that are read from CSI snapshots, while the application goes on writing to them.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use isthmus_lab::LabOptions;
use isthmus_lab::cluster::{ClusterTraits, SNAPSHOT_ERROR, SNAPSHOT_READY_AFTER};
use isthmus_lab::trees::{CompareOptions, compare_trees};
use isthmus_shared::resources::{MigrationPhase, MigrationStatus};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::reading::{everything, in_namespace, text};
use crate::world::{World, eventually};

const CLASS: &str = "/apis/snapshot.storage.k8s.io/v1/volumesnapshotclasses/lab-snapshots";
const CONTENTS: &str = "/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents";
/// The pause of a writer between two files.
const WRITE_EVERY: Duration = Duration::from_millis(20);

/// An application with one volume, whose Pod runs: `access` and `mode` are its claim's.
fn application(namespace: &str, class: &str, access: &str, mode: &str) -> String {
    let used = if mode == "Block" {
        "volumeDevices: [{name: data, devicePath: /dev/data}]"
    } else {
        "volumeMounts: [{name: data, mountPath: /data}]"
    };
    format!(
        "apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data, namespace: {namespace}}}
spec:
  storageClassName: {class}
  accessModes: [{access}]
  volumeMode: {mode}
  resources: {{requests: {{storage: 16Mi}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: writer, namespace: {namespace}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: writer}}}}
  template:
    metadata: {{labels: {{app: writer}}}}
    spec:
      containers: [{{name: writer, image: writer:1, {used}}}]
      volumes: [{{name: data, persistentVolumeClaim: {{claimName: data}}}}]
"
    )
}

/// A storage class whose volumes outlive their claims.
const KEEPING: &str = "
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: keeping}
provisioner: lab.isthmus.dev/local
reclaimPolicy: Retain
";

/// What goes on writing into a volume until it is dropped: files with numbers for names.
struct Writer {
    stop: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    fn start(folder: PathBuf) -> Self {
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, number) = (stop.clone(), next.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                let n = number.load(Ordering::SeqCst);
                std::fs::write(folder.join(format!("{n:08}")), n.to_string()).unwrap();
                number.store(n + 1, Ordering::SeqCst);
                std::thread::sleep(WRITE_EVERY);
            }
        });
        Self { stop, next, thread: Some(thread) }
    }

    /// The number of the next file.
    fn next(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().map(std::thread::JoinHandle::join).unwrap().unwrap();
    }
}

/// The numbers of the files that a writer left.
fn numbers(folder: &Path) -> Vec<u64> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut numbers: Vec<u64> = names.filter_map(|name| name.to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

async fn start() -> World {
    let traits = ClusterTraits { snapshots: true, ..ClusterTraits::default() };
    let traits = [("east".to_owned(), traits)].into();
    World::start_on(LabOptions { traits, ..LabOptions::default() }).await
}

/// One world for the tests that leave the snapshot class alone: its snapshots take two seconds, and
/// outlive their objects unless somebody sees to it.
async fn shared() -> &'static World {
    static SHARED: OnceCell<World> = OnceCell::const_new();
    let make = || async {
        let world = start().await;
        let slow = json!({"parameters": {SNAPSHOT_READY_AFTER: "2"}, "deletionPolicy": "Retain"});
        world.patch("east", CLASS, slow).await;
        world.apply("east", KEEPING).await;
        world.apply("west", KEEPING).await;
        world
    };
    SHARED.get_or_init(make).await
}

impl World {
    /// Installs [`application`] on east; its volume, once its Pod runs.
    pub async fn install(&self, namespace: &str, class: &str, access: &str, mode: &str) -> PathBuf {
        self.apply("east", &application(namespace, class, access, mode)).await;
        let deployment = format!("/apis/apps/v1/namespaces/{namespace}/deployments/writer");
        eventually("the writer to run", || async {
            let found = self.get("east", &deployment).await;
            match found.pointer("/status/readyReplicas") {
                Some(count) if count == 1 => Ok(()),
                _ => Err(found["status"].to_string()),
            }
        })
        .await;
        self.volume("east", namespace, "data").await
    }

    async fn snapshots(&self, namespace: &str) -> Vec<Value> {
        let path = format!("/apis/snapshot.storage.k8s.io/v1/namespaces/{namespace}/volumesnapshots");
        let list = self.find("east", &path).await.unwrap_or_default();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits for the snapshot of a running migration.
    async fn snapshot(&self, namespace: &str) -> Value {
        eventually("a snapshot to be taken", || async {
            let snapshots = self.snapshots(namespace).await;
            let taken =
                |snapshot: &&Value| !text(snapshot, "/status/boundVolumeSnapshotContentName").is_empty();
            snapshots.iter().find(taken).cloned().ok_or_else(|| format!("{snapshots:?}"))
        })
        .await
    }

    pub async fn ended(&self, name: &str) -> MigrationStatus {
        self.migration_is(name, "ended", |status| status.status.is_terminal()).await
    }

    /// Nothing of a run is left on the source: no objects of ours, no volumes and no snapshots.
    pub async fn nothing_stays(&self, namespace: &str) {
        eventually("everything of the run to be gone", || async {
            let all = in_namespace(self.client("east"), namespace).await;
            let ours = |name: &&String| !name.starts_with("Event ") && name.contains("isthmus");
            let mut left: Vec<String> = all.keys().filter(ours).cloned().collect();
            let of_namespace = |kind: &str, reference: &str, items: &Value| -> Vec<String> {
                let items = items["items"].as_array().cloned().unwrap_or_default().into_iter();
                let here = items.filter(|item| {
                    text(item, &format!("{reference}/namespace")) == namespace
                        && text(item, &format!("{reference}/name")).contains("isthmus")
                });
                here.map(|item| format!("{kind} {}", text(&item, "/metadata/name"))).collect()
            };
            let volumes = self.get("east", "/api/v1/persistentvolumes").await;
            left.extend(of_namespace("PersistentVolume", "/spec/claimRef", &volumes));
            let contents = self.find("east", CONTENTS).await.unwrap_or_default();
            left.extend(of_namespace("VolumeSnapshotContent", "/spec/volumeSnapshotRef", &contents));
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
    }
}

/// A run of one namespace.
pub fn run_of(namespace: &str, more: &Value) -> Value {
    let mut spec = json!({"clusterPair": crate::world::PAIR, "namespaces": [namespace]});
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    spec
}

#[track_caller]
pub fn succeeded(status: &MigrationStatus, method: &str) {
    assert_eq!(status.status, MigrationPhase::Succeeded, "{status:#?}");
    assert_eq!(status.volumes[0].method.as_deref(), Some(method), "{status:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_is_the_volume_of_one_instant_while_the_application_goes_on_writing() {
    let world = shared().await;
    let east = world.install("written", "keeping", "ReadWriteOnce", "Filesystem").await;
    let writer = Writer::start(east.clone());
    world.create_migration("written", run_of("written", &json!({}))).await.unwrap();
    world.snapshot("written").await;
    let after = writer.next();
    let status = world.ended("written").await;
    // It was read some time after that: the snapshot took two seconds to be ready.
    assert!(writer.next() > after + 20, "the writer made {} files only", writer.next());
    drop(writer);
    succeeded(&status, "Snapshot");
    assert!(status.warnings.is_empty(), "{status:#?}");

    let west = numbers(&world.volume("west", "written", "data").await);
    assert!(!west.is_empty() && west.iter().all(|number| *number <= after), "{after}: {west:?}");
    let whole: Vec<u64> = (0..=*west.last().unwrap()).collect();
    assert_eq!(west, whole, "every file from before the snapshot");
    world.nothing_stays("written").await;
    let described = world.isthmus(&["migration", "describe", "written", "--details"]).await.ends_with(0).out;
    assert!(described.contains("Snapshot"), "{described}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_to_be_kept_says_whose_it_is_and_does_not_go_along() {
    let world = shared().await;
    let east = world.install("kept", "lab-local", "ReadWriteOnce", "Filesystem").await;
    std::fs::write(east.join("file"), "first").unwrap();
    let keep = json!({"retention": {"passes": 1, "snapshots": "Retain"}});
    world.create_migration("kept", run_of("kept", &keep)).await.unwrap();
    succeeded(&world.ended("kept").await, "Snapshot");
    let kept = world.snapshots("kept").await;
    assert_eq!(kept.len(), 1, "{kept:?}");
    let uid = text(
        &world.get("hub", "/apis/isthmus.dev/v1alpha1/namespaces/isthmus/migrations/kept").await,
        "/metadata/uid",
    )
    .to_owned();
    assert_eq!(kept[0]["metadata"]["labels"]["isthmus.dev/migration"], uid);
    assert_eq!(kept[0]["metadata"]["labels"]["isthmus.dev/claim"], "data");
    assert_eq!(kept[0]["status"]["readyToUse"], true);
    let content = format!("{CONTENTS}/{}", text(&kept[0], "/status/boundVolumeSnapshotContentName"));
    let policy = || async { text(&world.get("east", &content).await, "/spec/deletionPolicy").to_owned() };
    assert_eq!(policy().await, "Retain", "as its class says");
    let claims = world.get("east", "/api/v1/namespaces/kept/persistentvolumeclaims").await;
    assert_eq!(claims["items"].as_array().unwrap().len(), 1, "{claims}");

    std::fs::write(east.join("file"), "second").unwrap();
    world.create_migration("kept-again", run_of("kept", &json!({}))).await.unwrap();
    let status = world.ended("kept-again").await;
    succeeded(&status, "Snapshot");
    assert_eq!(world.snapshots("kept").await, kept, "another run's snapshot is left alone");
    let west = world.volume("west", "kept", "data").await;
    assert_eq!(std::fs::read_to_string(west.join("file")).unwrap(), "second");
    let arrived = in_namespace(world.client("west"), "kept").await;
    assert!(!arrived.keys().any(|name| name.contains("isthmus-snap")), "{:?}", arrived.keys());
    let told = world.objects_of("kept-again").await;
    let told: BTreeMap<String, Option<String>> =
        told.into_iter().map(|object| (crate::runs::name_of(&object), object.reason)).collect();
    let name = format!("VolumeSnapshot kept/{}", text(&kept[0], "/metadata/name"));
    assert_eq!(told.get(&name), Some(&Some("OwnObject".to_owned())), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_one_pod_has_for_itself_moves_by_a_snapshot() {
    let world = shared().await;
    let east = world.install("single", "lab-local", "ReadWriteOncePod", "Filesystem").await;
    std::fs::write(east.join("file"), "content").unwrap();
    world.create_migration("single", run_of("single", &json!({}))).await.unwrap();
    succeeded(&world.ended("single").await, "Snapshot");
    let west = world.volume("west", "single", "data").await;
    assert_eq!(compare_trees(&east, &west, &CompareOptions::default()).unwrap(), []);
    world.nothing_stays("single").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_snapshot_a_claim_that_one_pod_has_for_itself_moves_in_the_quiesced_pass_alone() {
    let world = shared().await;
    let east = world.install("alone", "lab-local", "ReadWriteOncePod", "Filesystem").await;
    std::fs::write(east.join("file"), "content").unwrap();
    let cutover = json!({"method": "Live", "quiesce": true});
    world.create_migration("alone", run_of("alone", &cutover)).await.unwrap();
    let status = world.ended("alone").await;
    succeeded(&status, "Live");
    assert_eq!(
        (status.volumes[0].pass, status.volumes[0].previous_pass),
        (1, None),
        "there was no other pass"
    );
    let west = world.volume("west", "alone", "data").await;
    assert_eq!(compare_trees(&east, &west, &CompareOptions::default()).unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_no_pod_uses_is_read_itself_and_its_snapshot_only_on_demand() {
    let world = shared().await;
    let east = world.install("unused", "lab-local", "ReadWriteOnce", "Filesystem").await;
    std::fs::write(east.join("file"), "content").unwrap();
    let stopped = json!({"spec": {"replicas": 0}});
    world.patch("east", "/apis/apps/v1/namespaces/unused/deployments/writer", stopped).await;
    eventually("the writer to stop", || async {
        let pods = world.get("east", "/api/v1/namespaces/unused/pods").await;
        if pods["items"].as_array().unwrap().is_empty() { Ok(()) } else { Err(pods.to_string()) }
    })
    .await;
    world.create_migration("unused", run_of("unused", &json!({}))).await.unwrap();
    succeeded(&world.ended("unused").await, "Live");
    let on_demand = run_of("unused", &json!({"method": "Snapshot"}));
    world.create_migration("on-demand", on_demand).await.unwrap();
    succeeded(&world.ended("on-demand").await, "Snapshot");
    world.nothing_stays("unused").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_without_room_for_a_second_claim_is_told_and_the_volume_itself_is_read() {
    let world = shared().await;
    let east = world.install("tight", "lab-local", "ReadWriteOnce", "Filesystem").await;
    std::fs::write(east.join("file"), "content").unwrap();
    let quota = json!({"metadata": {"name": "tight"}, "spec": {"hard": {"persistentvolumeclaims": "1"}}});
    world.post("east", "/api/v1/namespaces/tight/resourcequotas", &quota).await;
    eventually("the quota to be counted", || async {
        let found = world.get("east", "/api/v1/namespaces/tight/resourcequotas/tight").await;
        match found.pointer("/status/used/persistentvolumeclaims") {
            Some(used) if used == "1" => Ok(()),
            _ => Err(found["status"].to_string()),
        }
    })
    .await;
    let must = run_of("tight", &json!({"method": "Snapshot"}));
    world.create_migration("tight-must", must).await.unwrap();
    let status = world.ended("tight-must").await;
    assert_eq!(status.status, MigrationPhase::Failed, "{status:#?}");
    let failure = status.failures.iter().find(|failure| failure.reason == "QuotaExceeded");
    assert!(
        failure.is_some_and(|failure| failure.message.contains("raise the namespace's quota")),
        "{status:#?}"
    );

    world.create_migration("tight", run_of("tight", &json!({}))).await.unwrap();
    let status = world.ended("tight").await;
    assert_eq!(status.status, MigrationPhase::SucceededWithWarnings, "{status:#?}");
    assert_eq!(status.volumes[0].method.as_deref(), Some("Live"));
    let warning = status.warnings.iter().find(|warning| warning.reason == "SnapshotFailed");
    assert!(warning.is_some_and(|warning| warning.message.contains("exceeded quota")), "{status:#?}");
    world.nothing_stays("tight").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_can_be_no_snapshot_the_volume_itself_is_read_unless_it_must_be_one() {
    let mut world = start().await;
    let east = world.install("worn", "lab-local", "ReadWriteOnce", "Filesystem").await;
    std::fs::write(east.join("file"), "content").unwrap();

    // A spoke that dies while the snapshot is made goes on with it.
    let slow = json!({"parameters": {SNAPSHOT_READY_AFTER: "8"}});
    world.patch("east", CLASS, slow).await;
    world.create_migration("killed", run_of("worn", &json!({}))).await.unwrap();
    let before = world.snapshot("worn").await;
    assert_eq!(before["status"]["readyToUse"], false, "{before}");
    world.east.program.kill().await.unwrap();
    world.east.program.restart().await.unwrap();
    let after = world.snapshot("worn").await;
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    succeeded(&world.ended("killed").await, "Snapshot");
    world.nothing_stays("worn").await;

    // A run that is cancelled while the snapshot is made.
    world.patch("east", CLASS, json!({"parameters": {SNAPSHOT_READY_AFTER: "600"}})).await;
    world.create_migration("cancelled", run_of("worn", &json!({}))).await.unwrap();
    world.snapshot("worn").await;
    world.isthmus(&["migration", "delete", "cancelled", "--wait"]).await.ends_with(0);
    world.nothing_stays("worn").await;

    // A driver that cannot take one.
    let broken = json!({"parameters": {SNAPSHOT_READY_AFTER: null, SNAPSHOT_ERROR: "the array is full"}});
    world.patch("east", CLASS, broken).await;
    let began = Instant::now();
    world.create_migration("fallen", run_of("worn", &json!({}))).await.unwrap();
    let status = world.ended("fallen").await;
    assert_eq!(status.status, MigrationPhase::SucceededWithWarnings, "{status:#?}");
    assert_eq!(status.volumes[0].method.as_deref(), Some("Live"));
    let warning = status.warnings.iter().find(|warning| warning.reason == "SnapshotFailed");
    let warning = warning.unwrap_or_else(|| panic!("{status:#?}"));
    assert!(warning.message.contains("the array is full"), "{warning:?}");
    assert!(began.elapsed() < Duration::from_mins(3), "{:?}", began.elapsed());
    world.nothing_stays("worn").await;
    world.create_migration("fails", run_of("worn", &json!({"method": "Snapshot"}))).await.unwrap();
    let status = world.ended("fails").await;
    assert_eq!(status.status, MigrationPhase::Failed, "{status:#?}");
    assert!(
        status.failures.iter().any(|failure| failure.message.contains("the array is full")),
        "{status:#?}"
    );
    world.nothing_stays("worn").await;

    // No class at all.
    world.delete("east", CLASS).await;
    let all = everything(world.client("east")).await;
    world.create_migration("refused", run_of("worn", &json!({"method": "Snapshot"}))).await.unwrap();
    let status = world.ended("refused").await;
    assert_eq!(status.status, MigrationPhase::Failed, "{status:#?}");
    let failure = status.failures.iter().find(|failure| failure.reason == "NoSnapshot");
    let failure = failure.unwrap_or_else(|| panic!("{status:#?}"));
    assert_eq!(failure.object, "PersistentVolumeClaim worn/data");
    assert!(failure.message.contains("VolumeSnapshotClass"), "{failure:?}");
    assert_eq!(everything(world.client("east")).await, all, "a run that is refused changes nothing");
    world.create_migration("live", run_of("worn", &json!({}))).await.unwrap();
    succeeded(&world.ended("live").await, "Live");
}

/// The mebibytes of a device, each of one value.
fn fill(device: &Path, values: &[(u64, u8)]) {
    let file = File::options().write(true).open(device).unwrap();
    for (mebibyte, value) in values {
        file.write_all_at(&vec![*value; 1 << 20], mebibyte << 20).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_volume_moves_from_its_snapshot_and_a_second_pass_sends_only_what_changed() {
    let world = shared().await;
    let east = world.install("raw", "lab-local", "ReadWriteOnce", "Block").await;
    fill(&east, &[(0, 1), (3, 2), (9, 3), (15, 4)]);
    world.create_migration("raw", run_of("raw", &json!({}))).await.unwrap();
    let status = world.ended("raw").await;
    succeeded(&status, "Snapshot");
    let west = world.volume("west", "raw", "data").await;
    assert_eq!(std::fs::metadata(&west).unwrap().len(), 16 << 20);
    assert!(std::fs::read(&west).unwrap() == std::fs::read(&east).unwrap(), "the devices differ");
    let allocated = std::fs::metadata(&west).unwrap().blocks() * 512;
    assert!(allocated < 8 << 20, "{allocated} bytes are allocated: zeros were written");
    world.nothing_stays("raw").await;

    // What no compression makes smaller.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    let change: Vec<u8> = (0..1 << 20).map(noise).collect();
    File::options().write(true).open(&east).unwrap().write_all_at(&change, 3 << 20).unwrap();
    world.create_migration("raw-again", run_of("raw", &json!({"method": "Live"}))).await.unwrap();
    let status = world.ended("raw-again").await;
    succeeded(&status, "Live");
    let sent = status.volumes[0].bytes_uploaded;
    assert!((1 << 20..2 << 20).contains(&sent), "{sent} bytes for one changed block of a mebibyte");
    assert!(std::fs::read(&west).unwrap() == std::fs::read(&east).unwrap(), "the devices differ");
}
