//! Failovers whose source dies when they have begun: they go on by themselves.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use isthmus_shared::resources::{
    Active, COMPONENT, COMPONENT_MOVER, Cluster, MigrationPhase, MigrationStatus, Step,
};
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{DeleteParams, ListParams};

use crate::app::CLAIMS;
use crate::cutover::{marked, marks, running};
use crate::failover::{LARGE, assert_equal, copy, kept_folder, write_more};
use crate::volume_options::noise;
use crate::world::{NAMESPACE, World, eventually};

/// An application that a run of its schedule has brought, as it was then, and that has been written to
/// since.
struct Brought {
    namespace: &'static str,
    schedule: String,
    run: String,
    kept: Vec<PathBuf>,
}

impl World {
    async fn brought(&self, namespace: &'static str) -> Brought {
        self.install_cms(namespace).await;
        let (schedule, run) = (format!("of-{namespace}"), format!("{namespace}-1"));
        self.schedule(&schedule, "0 0 1 1 *", namespace).await;
        self.run_of_schedule(&schedule, &run).await;
        let first = self.migration_is(&run, "ended", |status| status.status.is_terminal()).await;
        assert_eq!(first.status, MigrationPhase::Succeeded, "{first:#?}");
        let folder = kept_folder(self).join(namespace);
        fs::create_dir_all(&folder).unwrap();
        let mut kept = Vec::new();
        for claim in CLAIMS {
            kept.push(copy(&self.volume("west", namespace, claim).await, &folder.join(claim)));
            write_more(&self.volume("east", namespace, claim).await);
        }
        Brought { namespace, schedule, run, kept }
    }

    /// Waits until a failover has ended, which went on by the run.
    async fn went_on(&self, name: &str, by: &Brought) -> MigrationStatus {
        let status = self.migration_is(name, "ended", |status| status.status.is_terminal()).await;
        assert_eq!(status.status, MigrationPhase::SucceededWithWarnings, "{status:#?}");
        let recovered = status.recovers.clone().unwrap();
        assert_eq!(recovered.run, by.run);
        assert!(recovered.source_lost.is_some(), "it began as a cutover");
        assert!(status.warnings.iter().any(|warning| warning.reason == "SourceLost"), "{status:#?}");
        for (claim, kept) in CLAIMS.iter().zip(&by.kept) {
            assert_equal(kept, &self.volume("west", by.namespace, claim).await);
        }
        let arrived = running(self.client("west"), by.namespace).await;
        assert_eq!(arrived.iter().filter(|pod| pod.starts_with("wordpress-")).count(), 3, "{arrived:?}");
        let other = format!("east/{}", by.namespace);
        assert_eq!(marks(self.client("west"), by.namespace).await, marked("true", &other));
        status
    }

    /// Waits until the source, which is heard again, stands still, and the failover says so.
    async fn source_stops(&self, name: &str, by: &Brought) {
        eventually("the source to stop", || async {
            match running(self.client("east"), by.namespace).await {
                left if left.is_empty() => Ok(()),
                left => Err(format!("{left:?}")),
            }
        })
        .await;
        let other = format!("west/{}", by.namespace);
        assert_eq!(marks(self.client("east"), by.namespace).await, marked("false", &other));
        let settled =
            self.migration_is(name, "settled", |status| status.active == Some(Active::Destination)).await;
        let message = settled.message.unwrap_or_default();
        assert!(message.contains("east has been heard since, and stands still"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_goes_on_by_itself_where_its_source_dies_in_the_midst_of_a_pass_and_the_hub_too() {
    let mut world = World::start().await;
    let shop = world.brought("shop").await;
    let large = world.volume("east", "shop", CLAIMS[0]).await.join("a-large");
    fs::write(&large, noise(7, LARGE)).unwrap();
    world.lab.s3().faults().delay(Duration::from_millis(700));
    let said = world.isthmus(&["failover", &shop.schedule, "--name", "over"]).await.ends_with(0);
    assert!(said.err.contains("nothing that was written there is lost"), "{}", said.all());
    let arriving = world.volume("west", "shop", CLAIMS[0]).await.join("a-large");
    eventually("the destination to have a part of the pass", || async {
        if arriving.exists() { Ok(()) } else { Err(format!("{:?}", world.migration("over").await.step)) }
    })
    .await;
    world.lab.s3().faults().stop_answering(true);
    world.east.program.kill().await.unwrap();
    let jobs = Api::<Job>::namespaced(world.client("east"), "shop");
    let movers = ListParams::default().labels(&format!("{COMPONENT}={COMPONENT_MOVER}"));
    jobs.delete_collection(&DeleteParams::background(), &movers).await.unwrap();
    world.lab.s3().faults().clear();
    world.migration_is("over", "without its source", |status| status.recovers.is_some()).await;
    world.hub.program.kill().await.unwrap();
    world.hub.program.restart().await.unwrap();

    let status = world.went_on("over", &shop).await;
    let lost = status.recovers.unwrap().source_lost.unwrap();
    assert!(lost.step <= Step::StageVolumes && lost.stopped.is_empty(), "{lost:?}");
    assert_eq!(status.active, Some(Active::Unknown));
    assert!(!running(world.client("east"), "shop").await.is_empty(), "nobody could stop what is cut off");
    let described = world.isthmus(&["migration", "describe", "over"]).await.ends_with(0);
    assert!(described.out.contains("Source lost") && described.out.contains(&shop.run), "{}", described.out);

    world.east.program.restart().await.unwrap();
    world.source_stops("over", &shop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_goes_on_by_itself_where_its_source_was_dead_already_or_has_no_api_server_any_more() {
    let mut world = World::start().await;
    let shop = world.brought("shop").await;
    let blog = world.brought("blog").await;

    // Nobody knows yet that it is dead.
    world.east.program.kill().await.unwrap();
    let begin = ["failover", &shop.schedule, "--name", "shop-over", "--wait"];
    let said = world.isthmus(&begin).await.ends_with(3);
    assert!(said.err.contains("nothing that was written there is lost"), "{}", said.all());
    assert!(said.err.contains("goes on without cluster east"), "{}", said.all());
    world.went_on("shop-over", &shop).await;
    world.east.program.restart().await.unwrap();
    world.source_stops("shop-over", &shop).await;

    // Its spoke lives on, and can do nothing.
    world.lab.s3().faults().delay(Duration::from_millis(300));
    world.isthmus(&["failover", &blog.schedule, "--name", "blog-over"]).await.ends_with(0);
    world.lab.cluster("east").unwrap().silence_api(true).unwrap();
    world.migration_is("blog-over", "without its source", |status| status.recovers.is_some()).await;
    world.lab.s3().faults().clear();
    let clusters = Api::<Cluster>::namespaced(world.client("hub"), NAMESPACE);
    // The record is brought up to date a moment after the run.
    eventually("the hub to say why east does nothing", || async {
        let east = clusters.get("east").await.unwrap().status.unwrap_or_default();
        match east.conditions.iter().find(|condition| condition.type_ == "Ready") {
            Some(ready) if ready.reason == "ApiServerSilent" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    world.went_on("blog-over", &blog).await;
    world.lab.cluster("east").unwrap().silence_api(false).unwrap();
    world.source_stops("blog-over", &blog).await;
}
