//! Failovers: with the source gone in the middle of a pass, and with the source alive.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use isthmus_lab::trees::{CompareOptions, compare_trees};
use isthmus_shared::resources::{
    Active, COMPONENT, COMPONENT_MOVER, Cluster, HoldReason, Migration, MigrationPhase, MigrationSchedule,
    SCHEDULE,
};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::app::CLAIMS;
use crate::cutover::{marked, marks, running};
use crate::volume_options::noise;
use crate::world::{NAMESPACE, PAIR, World, eventually};

impl World {
    /// A schedule of a namespace, which begins no run for the time of a test unless it says so.
    pub async fn schedule(&self, name: &str, cron: &str, namespace: &str) {
        let schedule: MigrationSchedule = serde_json::from_value(json!({
            "apiVersion": "isthmus.dev/v1alpha1", "kind": "MigrationSchedule", "metadata": {"name": name},
            "spec": {
                "schedule": cron,
                "template": {"spec": {"clusterPair": PAIR, "namespaces": [namespace]}},
            },
        }))
        .unwrap();
        self.schedules().create(&PostParams::default(), &schedule).await.unwrap();
    }

    fn schedules(&self) -> Api<MigrationSchedule> {
        Api::namespaced(self.client("hub"), NAMESPACE)
    }

    /// Begins a run of a schedule, as the hub does when one is due.
    pub async fn run_of_schedule(&self, schedule: &str, name: &str) {
        let known = self.schedules().get(schedule).await.unwrap();
        let mut run = Migration::new(name, known.spec.template.spec);
        run.metadata.labels = Some([(SCHEDULE.to_owned(), schedule.to_owned())].into());
        let runs = Api::<Migration>::namespaced(self.client("hub"), NAMESPACE);
        runs.create(&PostParams::default(), &run).await.unwrap();
    }

    /// Waits until the hub knows that a cluster is not heard.
    pub async fn is_not_heard(&self, cluster: &str) {
        let clusters = Api::<Cluster>::namespaced(self.client("hub"), NAMESPACE);
        let clusters = &clusters;
        eventually("the cluster not to be heard", || async move {
            let known = clusters.get(cluster).await.unwrap().status.unwrap_or_default();
            let ready = known.conditions.iter().find(|condition| condition.type_ == "Ready");
            match ready {
                Some(ready) if ready.reason == "NotHeard" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}

/// A copy of a volume, for later.
pub fn copy(of: &Path, to: &Path) -> PathBuf {
    assert!(Command::new("cp").arg("-a").arg(of).arg(to).status().unwrap().success());
    to.to_owned()
}

#[track_caller]
pub fn assert_equal(a: &Path, b: &Path) {
    let differences = compare_trees(a, b, &CompareOptions::default()).unwrap();
    assert!(differences.is_empty(), "{} and {}: {differences:?}", a.display(), b.display());
}

/// Bytes of a file that takes a pass so long that it can be cut off.
pub const LARGE: usize = 120 << 20;

/// Changes of every sort; one shows neither in size nor in time.
pub fn write_more(volume: &Path) {
    let file = volume.join("deep/er/file-7");
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    let open = fs::File::options().write(true).open(&file).unwrap();
    open.write_all_at(b"changed unseen", 100).unwrap();
    open.set_modified(time).unwrap();
    let big = fs::File::options().write(true).open(volume.join("big.bin")).unwrap();
    big.write_all_at(&vec![7; 100_000], 2_000_000).unwrap();
    fs::write(volume.join("written-later"), vec![9; 50_000]).unwrap();
    fs::remove_file(volume.join("deep/er/file-5")).unwrap();
}

fn described(said: &str) -> Value {
    serde_json::from_str(said).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_its_source_gone_midway_in_a_pass_the_last_complete_run_is_started_and_the_source_stops_when_it_is_back()
 {
    let mut world = World::start().await;
    let folder = kept_folder(&world);
    world.install_cms("shop").await;
    // The clock begins the first run.
    world.schedule("nightly", "* * * * *", "shop").await;
    let first = eventually("the first run to have ended well", || async {
        let schedule = world.schedules().get("nightly").await.unwrap();
        let status = schedule.status.unwrap_or_default();
        status.last_succeeded.clone().ok_or_else(|| format!("{status:?}"))
    })
    .await;
    let held_back = json!({"spec": {"suspend": true}});
    world.schedules().patch("nightly", &PatchParams::default(), &Patch::Merge(&held_back)).await.unwrap();
    eventually("no run to be under way", || async {
        let runs = Api::<Migration>::namespaced(world.client("hub"), NAMESPACE);
        let all = runs.list(&ListParams::default()).await.unwrap();
        let open = |run: &&Migration| !run.status.as_ref().is_some_and(|status| status.status.is_terminal());
        match all.iter().find(open) {
            None => Ok(()),
            Some(run) => Err(run.name_any()),
        }
    })
    .await;
    let first =
        world.schedules().get("nightly").await.unwrap().status.unwrap().last_succeeded.unwrap_or(first);
    let mut kept = Vec::new();
    for claim in CLAIMS {
        let west = world.volume("west", "shop", claim).await;
        assert_equal(&world.volume("east", "shop", claim).await, &west);
        kept.push(copy(&west, &folder.join(claim)));
    }

    // Then more is written, and in the middle of the next pass the source is gone: its spoke, and the
    // movers with it.
    for claim in CLAIMS {
        write_more(&world.volume("east", "shop", claim).await);
    }
    let large = world.volume("east", "shop", CLAIMS[0]).await.join("a-large");
    fs::write(&large, noise(7, LARGE)).unwrap();
    world.lab.s3().faults().delay(Duration::from_millis(700));
    world.run_of_schedule("nightly", "nightly-midway").await;
    let arriving = world.volume("west", "shop", CLAIMS[0]).await.join("a-large");
    eventually("the destination to have a part of the pass", || async {
        if arriving.exists() {
            Ok(())
        } else {
            Err(format!("{:?}", world.migration("nightly-midway").await.step))
        }
    })
    .await;
    world.lab.s3().faults().stop_answering(true);
    world.east.program.kill().await.unwrap();
    let jobs = Api::<Job>::namespaced(world.client("east"), "shop");
    let movers = ListParams::default().labels(&format!("{COMPONENT}={COMPONENT_MOVER}"));
    jobs.delete_collection(&DeleteParams::background(), &movers).await.unwrap();
    world.lab.s3().faults().clear();
    world.is_not_heard("east").await;

    let said = world.isthmus(&["failover", "nightly", "--name", "over", "--wait", "-o", "json"]).await;
    let told = said.all();
    assert!([0, 3].contains(&said.code), "{told}");
    assert!(said.err.contains("is not heard") && said.err.contains(&first.name), "{told}");
    assert_eq!(described(&said.out)["status"]["recovers"]["run"], json!(first.name), "{told}");
    let status = world.migration("over").await;
    assert_eq!(status.active, Some(Active::Unknown), "{status:#?}");
    for (claim, kept) in CLAIMS.iter().zip(&kept) {
        assert_equal(kept, &world.volume("west", "shop", claim).await);
    }
    let arrived = running(world.client("west"), "shop").await;
    assert_eq!(arrived.iter().filter(|pod| pod.starts_with("wordpress-")).count(), 3, "{arrived:?}");
    assert_eq!(marks(world.client("west"), "shop").await, marked("true", "east/shop"));
    let midway = world.migration("nightly-midway").await;
    assert!(
        midway.failures.iter().any(|failure| failure.reason == "Cancelled"),
        "it was ended for the failover: {midway:#?}"
    );
    assert!(!running(world.client("east"), "shop").await.is_empty(), "nobody could stop what is cut off");

    // No run overwrites what is written there now.
    let released = json!({"spec": {"suspend": false}});
    world.schedules().patch("nightly", &PatchParams::default(), &Patch::Merge(&released)).await.unwrap();
    eventually("the schedule to be held", || async {
        let status = world.schedules().get("nightly").await.unwrap().status.unwrap_or_default();
        match status.held {
            Some(held) if held.reason == HoldReason::FailedOver => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let again = world.isthmus(&["failover", "nightly", "--wait"]).await.ends_with(1);
    assert!(again.all().contains("isthmus failback nightly"), "{}", again.all());

    world.east.program.restart().await.unwrap();
    eventually("the source to stop", || async {
        match running(world.client("east"), "shop").await {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        }
    })
    .await;
    assert_eq!(marks(world.client("east"), "shop").await, marked("false", "west/shop"));
    let settled =
        world.migration_is("over", "settled", |status| status.active == Some(Active::Destination)).await;
    let message = settled.message.unwrap_or_default();
    assert!(message.contains("east has been heard since, and stands still"), "{message}");
    let said = world.isthmus(&["activate", "shop", "--cluster", "east"]).await.ends_with(1);
    assert!(said.all().contains("west/shop"), "{}", said.all());
    let described = world.isthmus(&["migration", "describe", "over"]).await.ends_with(0);
    assert!(described.out.contains("Goes by") && described.out.contains(&first.name), "{}", described.out);
}

/// A folder of the lab's own, which goes with it.
pub fn kept_folder(world: &World) -> PathBuf {
    let folder = world.lab.dir().join("kept");
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_its_source_alive_a_failover_loses_nothing() {
    let world = World::start().await;
    world.install_cms("alive").await;
    world.schedule("yearly", "0 0 1 1 *", "alive").await;
    world.run_of_schedule("yearly", "yearly-1").await;
    let first = world.migration_is("yearly-1", "ended", |status| status.status.is_terminal()).await;
    assert_eq!(first.status, MigrationPhase::Succeeded, "{first:#?}");
    for claim in CLAIMS {
        write_more(&world.volume("east", "alive", claim).await);
    }
    let said = world.isthmus(&["failover", "yearly", "--name", "alive-over", "--wait"]).await;
    assert!([0, 3].contains(&said.code), "{}", said.all());
    assert!(said.err.contains("nothing that was written there is lost"), "{}", said.all());
    let status = world.migration("alive-over").await;
    assert_eq!((status.active, status.recovers), (Some(Active::Destination), None));
    world.volumes_are_equal("alive").await;
    assert_eq!(marks(world.client("east"), "alive").await, marked("false", "west/alive"));
    assert_eq!(marks(world.client("west"), "alive").await, marked("true", "east/alive"));
    assert_eq!(running(world.client("east"), "alive").await, Vec::<String>::new());
    // It was a cutover, and is undone as one.
    let said = world.isthmus(&["rollback", "alive-over", "--wait"]).await;
    assert!([0, 3].contains(&said.code), "{}", said.all());
    assert_eq!(marks(world.client("east"), "alive").await.0.as_deref(), Some("true"));
}
