//! Applications that go on writing: staged twice and cut over, and going back from each step.
//!
//! The application writes numbered records and says which of them are safe (`isthmus_lab::ledger`). A
//! record that is missing, or two writers at a time, cannot go unnoticed.

use isthmus_lab::kubelet::LEDGER_IMAGE;
use isthmus_lab::ledger::{self, Record};
use isthmus_shared::resources::{Active, MigrationPhase, Step, StepState, StepStatus};
use serde_json::{Value, json};

use crate::reading::text;
use crate::world::{PAIR, World, eventually};

const REPLICAS: usize = 2;
/// Records that a writer must have added, to be believed that it goes on.
const MORE: u64 = 20;

fn application(namespace: &str) -> String {
    let container = json!({
        "name": "ledger", "image": LEDGER_IMAGE, "args": ["--dir", "/books"],
        "volumeMounts": [{"name": "books", "mountPath": "/books"}],
    });
    let claim = json!({
        "metadata": {"name": "books"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": "ledger", "namespace": namespace},
        "spec": {
            "replicas": REPLICAS, "serviceName": "ledger", "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": "ledger"}}, "volumeClaimTemplates": [claim],
            "template": {
                "metadata": {"labels": {"app": "ledger"}},
                "spec": {"terminationGracePeriodSeconds": 20, "containers": [container]},
            },
        },
    });
    let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    format!("{space}\n---\n{set}")
}

/// One of the writers of a namespace on a cluster.
#[derive(Clone, Copy)]
struct Writer<'a> {
    world: &'a World,
    cluster: &'a str,
    namespace: &'a str,
    number: usize,
}

impl Writer<'_> {
    /// Its records; none while there is no volume.
    async fn records(&self) -> Vec<Record> {
        let claim = format!("books-ledger-{}", self.number);
        let cluster = self.world.lab.cluster(self.cluster).unwrap();
        match cluster.volume_dir(self.namespace, &claim).await {
            Ok(folder) => ledger::read(&folder).unwrap(),
            Err(_) => Vec::new(),
        }
    }

    /// What it has said last to be safe.
    fn acknowledged(&self) -> Record {
        let output = self.world.lab.cluster(self.cluster).unwrap();
        let output = output.pod_log(self.namespace, &format!("ledger-{}", self.number)).unwrap();
        ledger::acknowledged(&output).unwrap()
    }

    /// Waits until it has added to what there was, and gives back what there is.
    async fn goes_on(&self) -> Vec<Record> {
        let before = self.records().await.len() as u64;
        eventually(&format!("writer {} of {} to go on", self.number, self.cluster), || async {
            let now = self.records().await;
            if now.len() as u64 >= before + MORE { Ok(now) } else { Err(format!("{} records", now.len())) }
        })
        .await
    }
}

fn writers<'a>(world: &'a World, cluster: &'a str, namespace: &'a str) -> impl Iterator<Item = Writer<'a>> {
    (0..REPLICAS).map(move |number| Writer { world, cluster, namespace, number })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_are_staged_twice_and_cut_over_without_losing_a_record() {
    let world = World::start().await;
    world.apply("east", &application("books")).await;
    for writer in writers(&world, "east", "books") {
        writer.goes_on().await;
    }
    world.isthmus(&["plan", "create", "books", "books", "--pair", PAIR]).await.ends_with(0);
    for stage in ["books-1", "books-2"] {
        let said = world.isthmus(&["stage", "books", "--name", stage, "--wait"]).await;
        // A file that is written to while it is read is a warning.
        assert!(matches!(said.code, 0 | 3), "{said:#?}");
        for writer in writers(&world, "east", "books") {
            writer.goes_on().await;
        }
    }
    let said = world.isthmus(&["cutover", "books", "--output", "json"]).await;
    assert!(matches!(said.code, 0 | 3), "{said:#?}");
    let made: Value = serde_json::from_str(&said.out).unwrap();

    let status = world.migration(text(&made, "/metadata/name")).await;
    assert_eq!((status.status, status.active), (MigrationPhase::Succeeded, Some(Active::Destination)));
    assert!(status.stopped_at.is_some() && status.ready_at.is_some(), "{status:#?}");
    for writer in writers(&world, "west", "books") {
        let there = writer.goes_on().await;
        let here = Writer { cluster: "east", ..writer };
        let (safe, left) = (here.acknowledged(), here.records().await);
        let last = left.last().unwrap();
        assert_eq!(last, &safe, "a writer that is told to stop ends with what it has said");
        assert_eq!(there[..left.len()], left, "what was written here is there, in its place");
        assert_ne!(there[left.len()].writer, safe.writer, "what follows is the new writer's");
        assert_eq!(here.records().await.len(), left.len(), "nobody writes here any more");
    }
}

/// Cancels a cutover as soon as it is at a step; the source must go on from where it was, alone.
async fn goes_back_from(world: &World, step: Step) {
    let name = format!("back-from-{step:?}").to_lowercase();
    let before: Vec<usize> = {
        let mut lengths = Vec::new();
        for writer in writers(world, "east", "ledgers") {
            lengths.push(writer.goes_on().await.len());
        }
        lengths
    };
    let spec = json!({
        "clusterPair": PAIR, "namespaces": ["ledgers"], "quiesce": true, "health": {"durationSeconds": 5},
        "reclaim": "Delete",
    });
    world.create_migration(&name, spec).await.unwrap();
    world.migration_is(&name, &format!("at {step:?}"), |status| status.step >= Some(step)).await;
    world.isthmus(&["migration", "cancel", &name]).await.ends_with(0);
    let status = world.migration_is(&name, "ended", |status| status.status.is_terminal()).await;
    // Before it has changed anything there is nothing to take back.
    let untouched =
        |known: &StepStatus| known.step == Step::PrepareDestination && known.state == StepState::Skipped;
    let expected = if status.pipeline.iter().any(untouched) {
        MigrationPhase::Failed
    } else {
        MigrationPhase::RolledBack
    };
    assert_eq!(status.status, expected, "cancelled at {step:?}: {status:#?}");
    assert!(status.message.iter().any(|message| message.contains("cancel")), "{:?}", status.message);
    assert!(matches!(status.active, None | Some(Active::Source)), "{step:?}: {:?}", status.active);
    for (writer, before) in writers(world, "east", "ledgers").zip(before) {
        // Reading them proves that none is missing and that one at a time has written.
        assert!(writer.goes_on().await.len() > before, "cancelled at {step:?}");
    }
    let there = "/apis/apps/v1/namespaces/ledgers/statefulsets/ledger";
    assert!(world.find("west", there).await.is_none(), "cancelled at {step:?}, and it is still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cutover_that_is_cancelled_at_any_step_gives_its_writers_back() {
    let world = World::start().await;
    world.apply("east", &application("ledgers")).await;
    for step in [
        Step::Preflight,
        Step::PrepareDestination,
        Step::StageVolumes,
        Step::ExportResources,
        Step::Quiesce,
        Step::FinalVolumes,
        Step::ApplyResources,
        Step::Verify,
        Step::StartApplications,
        Step::HealthCheck,
    ] {
        goes_back_from(&world, step).await;
    }
    // And after all that it still moves.
    let spec = json!({"namespaces": ["ledgers"], "quiesce": true});
    world.run("at-last", spec).await.succeeded();
    for writer in writers(&world, "west", "ledgers") {
        let safe = Writer { cluster: "east", ..writer }.acknowledged();
        let there = writer.goes_on().await;
        assert!(there.contains(&safe), "{safe:?} is missing");
    }
}
