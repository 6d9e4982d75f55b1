//! Runs that wait for their turn: each says for what, and for whom.

use std::fs;

use isthmus_shared::resources::{MigrationPhase, MigrationStatus};

use crate::volume_options::{claim, noise};
use crate::world::{PAIR, World, eventually};

/// Waits until a run that has not begun says what it waits for.
async fn waits(world: &World, name: &str, parts: &[&str]) -> MigrationStatus {
    world
        .migration_is(name, &format!("waiting and saying {parts:?}"), |status| {
            let message = status.message.as_deref().unwrap_or_default();
            status.status == MigrationPhase::Pending && parts.iter().all(|part| message.contains(part))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_says_for_which_cluster_store_or_migration_and_begins_in_its_turn() {
    let limits = ["--max-runs-per-cluster", "2", "--max-runs-per-store", "1"];
    let world = World::start_limited(&limits).await;
    for namespace in ["first", "second", "third"] {
        world.apply("east", &claim(namespace)).await;
        world.volume("east", namespace, "data").await;
    }
    let folder = world.volume("east", "first", "data").await;
    fs::write(folder.join("file"), noise(1, 8 << 20)).unwrap();

    // One that is slow, so that the others find it under way.
    let slow = ["migrate", "first", "--pair", PAIR, "--name", "slow", "--bandwidth-limit", "64Ki"];
    world.isthmus(&slow).await.ends_with(0);
    world.migration_is("slow", "sending", |status| status.bytes_total > 0).await;

    world.begin("first", "same").await;
    waits(&world, "same", &["migration isthmus/slow", "namespace first"]).await;
    // Of two that wait for room the younger has to wait beside the older one too: on the cluster.
    world.begin("second", "second").await;
    world.begin("third", "third").await;
    let waiting = eventually("one to wait for the store, the other for a cluster", || async {
        let (second, third) = (world.migration("second").await, world.migration("third").await);
        let message = |status: &MigrationStatus| status.message.clone().unwrap_or_default();
        let of_store = |message: &str| {
            ["store stage", "at most 1", "--max-runs-per-store"].iter().all(|part| message.contains(part))
        };
        let of_cluster = |message: &str| {
            ["cluster ", "at most 2", "--max-runs-per-cluster"].iter().all(|part| message.contains(part))
        };
        let (one, other) = (message(&second), message(&third));
        if of_store(&one) && of_cluster(&other) {
            Ok(["second", "third"])
        } else if of_store(&other) && of_cluster(&one) {
            Ok(["third", "second"])
        } else {
            Err(format!("{one} / {other}"))
        }
    })
    .await;
    let listed = world.isthmus(&["migration", "list"]).await.ends_with(0).out;
    assert!(listed.contains("Pending"), "{listed}");
    let described = world.isthmus(&["migration", "describe", waiting[0]]).await.ends_with(0).out;
    assert!(described.contains("--max-runs-per-store"), "{described}");

    // As soon as it has ended the others go on, each in its turn.
    world.isthmus(&["migration", "cancel", "slow", "--wait"]).await.ends_with(0);
    let mut began = Vec::new();
    for name in [waiting[0], waiting[1], "same"] {
        let status = world.migration_is(name, "ended", |status| status.status.is_terminal()).await;
        let well = matches!(status.status, MigrationPhase::Succeeded | MigrationPhase::SucceededWithWarnings);
        assert!(well, "{status:#?}");
        began.push(status.started_at.unwrap());
    }
    // Who waits for the same room begins by age; who waits for a namespace has its turn when that is free.
    assert!(began[0] <= began[1], "{began:?}");
}
