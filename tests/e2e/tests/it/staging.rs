//! Collecting what staging keeps: after runs, on request, and while a migration runs.

use std::fs;

use isthmus_shared::resources::{MigrationPhase, MigrationStatus, PrunePhase, PruneStatus};

use crate::volume_options::{claim, noise};
use crate::world::{PAIR, World};

/// `isthmus staging …` and its answer.
async fn staging(world: &World, args: &[&str]) -> PruneStatus {
    let line = [&["staging"], args, &["--pair", PAIR, "--timeout", "2m", "-o", "json"]].concat();
    let said = world.isthmus(&line).await;
    let pair = world.pair_is(PAIR, "there", |_, _, _| true).await;
    assert_eq!(said.code, 0, "{said:#?}\n{:#?}", pair.status);
    let answer: PruneStatus = serde_json::from_str(&said.out).unwrap();
    assert_eq!(answer.phase, PrunePhase::Succeeded, "{answer:#?}");
    answer
}

async fn migrate(world: &World, namespace: &str, name: &str, options: &[&str]) -> MigrationStatus {
    let line = ["migrate", namespace, "--pair", PAIR, "--name", name];
    world.isthmus(&[&line, options].concat()).await.ends_with(0);
    ended(world, name).await
}

async fn ended(world: &World, name: &str) -> MigrationStatus {
    let status = world.migration_is(name, "ended", |status| status.status.is_terminal()).await;
    assert_eq!(status.status, MigrationPhase::Succeeded, "{status:#?}");
    status
}

/// The bytes of file that are on both sides the same.
async fn assert_arrived(world: &World, namespace: &str) {
    let east = world.volume("east", namespace, "data").await;
    let west = world.volume("west", namespace, "data").await;
    for entry in fs::read_dir(&east).unwrap().map(Result::unwrap).filter(|e| e.path().is_file()) {
        let there = fs::read(west.join(entry.file_name())).unwrap();
        assert!(fs::read(entry.path()).unwrap() == there, "{} differs", entry.file_name().display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn staging_keeps_what_the_next_run_builds_on_and_gives_up_the_rest() {
    let world = World::start().await;
    world.apply("east", &claim("shop")).await;
    let east = world.volume("east", "shop", "data").await;
    for file in 0..4 {
        fs::write(east.join(format!("file-{file}")), noise(file, 1 << 20)).unwrap();
    }
    let first = migrate(&world, "shop", "run-1", &["--keep-passes", "5"]).await;
    for run in 2..5_u64 {
        fs::write(east.join("file-0"), noise(100 + run, 1 << 20)).unwrap();
        migrate(&world, "shop", &format!("run-{run}"), &["--keep-passes", "5"]).await;
    }
    let before = staging(&world, &["list"]).await;
    let volume = &before.volumes[0];
    assert_eq!((volume.claim.as_deref(), volume.namespace.as_deref()), (Some("data"), Some("shop")));
    assert_eq!((volume.cluster.as_deref(), volume.passes, volume.newest_pass), (Some("east"), 4, 4));
    assert!(volume.bytes_kept >= 7 << 20, "four files, and one of them three times more: {volume:?}");

    let told = staging(&world, &["prune", "--dry-run"]).await;
    let again = staging(&world, &["list"]).await;
    assert_eq!(again.totals, before.totals, "a dry run changes nothing");
    let done = staging(&world, &["prune"]).await;
    assert_eq!(done.totals, told.totals, "and tells what would be");
    // The packs of runs 2 and 3. That of the first run has files that are as they were.
    assert!(done.totals.bytes_removed >= 2 << 20, "{:?}", done.totals);
    let after = staging(&world, &["list"]).await;
    assert_eq!((after.volumes[0].passes, after.volumes[0].newest_pass), (1, 4));
    assert_eq!(after.totals.bytes_kept, done.totals.bytes_kept);

    // The next run builds on what was kept, and keeps one pass, as is the default.
    fs::write(east.join("file-1"), noise(200, 1 << 20)).unwrap();
    let next = migrate(&world, "shop", "run-5", &[]).await;
    let (sent, whole) = (next.volumes[0].bytes_uploaded, first.volumes[0].bytes_uploaded);
    assert!(sent < whole / 2, "{sent} of {whole}");
    assert_eq!(next.volumes[0].previous_pass, Some(4));
    assert_arrived(&world, "shop").await;
    let list = staging(&world, &["list"]).await;
    assert_eq!((list.volumes[0].passes, list.volumes[0].newest_pass), (1, 5));
    let log = world.isthmus(&["migration", "logs", "run-5"]).await.ends_with(0);
    assert!(log.out.contains("of each volume the newest 1 complete passes stay"), "{}", log.out);

    // With nothing to keep nothing is left, and the next run is a whole one.
    migrate(&world, "shop", "run-6", &["--keep-passes", "0"]).await;
    assert_eq!(staging(&world, &["list"]).await.totals.volumes, 0);
    let whole = migrate(&world, "shop", "run-7", &[]).await;
    assert_eq!((whole.volumes[0].pass, whole.volumes[0].previous_pass), (1, None));
    assert_arrived(&world, "shop").await;

    // A claim that is gone leaves its volume until it is asked for.
    world.delete("east", "/api/v1/namespaces/shop/persistentvolumeclaims/data").await;
    let kept = staging(&world, &["prune"]).await;
    assert_eq!((kept.totals.gone, kept.totals.volumes), (1, 1));
    assert!(kept.totals.bytes_kept > 0 && kept.volumes[0].note.as_ref().unwrap().contains("--gone"));
    let gone = staging(&world, &["prune", "--gone"]).await;
    assert_eq!((gone.totals.bytes_kept, gone.totals.objects_kept), (0, 0), "{gone:#?}");
    let described = world.isthmus(&["pair", "describe", PAIR]).await.ends_with(0).out;
    assert!(described.contains("Staging prune:") && described.contains("Succeeded"), "{described}");
    assert_eq!(staging(&world, &["list"]).await.totals.volumes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_leaves_alone_what_a_migration_is_using_and_others_wait_for_it() {
    let world = World::start().await;
    for namespace in ["idle", "moving"] {
        world.apply("east", &claim(namespace)).await;
        let east = world.volume("east", namespace, "data").await;
        fs::write(east.join("file"), noise(1, 2 << 20)).unwrap();
        migrate(&world, namespace, &format!("{namespace}-1"), &[]).await;
    }
    let east = world.volume("east", "moving", "data").await;
    fs::write(east.join("more"), noise(2, 6 << 20)).unwrap();
    let slowly = ["migrate", "moving", "--pair", PAIR, "--name", "moving-2", "--bandwidth-limit", "1Mi"];
    world.isthmus(&slowly).await.ends_with(0);
    world
        .migration_is("moving-2", "sending", |status| status.volumes.iter().any(|v| v.bytes_uploaded > 0))
        .await;
    let during = staging(&world, &["prune", "--keep", "0"]).await;
    assert_eq!((during.totals.volumes, during.totals.in_use), (2, 1), "{during:#?}");
    assert!(during.totals.bytes_removed >= 2 << 20, "what is idle went: {:?}", during.totals);
    ended(&world, "moving-2").await;
    assert_arrived(&world, "moving").await;

    // Both at once, in whatever order: no run is ever hurt.
    for round in 0..3_u64 {
        fs::write(east.join("file"), noise(10 + round, 1 << 20)).unwrap();
        let name = format!("both-{round}");
        let line = ["migrate", "moving", "--pair", PAIR, "--name", &name];
        let (begun, pruned) = tokio::join!(world.isthmus(&line), staging(&world, &["prune", "--keep", "0"]));
        begun.ends_with(0);
        assert!(pruned.totals.problems == 0, "{pruned:#?}");
        ended(&world, &name).await;
        assert_arrived(&world, "moving").await;
    }
}
