//! What staging keeps of a run's volumes, and runs that wait for a collection.

use isthmus_shared::protocol::{RunPrune, Staging, Work};
use isthmus_shared::resources::MigrationPhase;
use isthmus_shared::staging::StoreAccess;

use super::world::{World, at_volumes, world};
use crate::itinerary::tests::world::applied;

/// What the clean-up of each side collects: of the source, of the destination.
fn collected(run: &World) -> Vec<Option<RunPrune>> {
    let access = StoreAccess {
        endpoint: "http://s3".into(),
        region: "r".into(),
        bucket: "b".into(),
        prefix: None,
        path_style: true,
        ca_pem: None,
        access_key_id: "a".into(),
        secret_access_key: "s".into(),
        session_token: None,
        sts: None,
    };
    let staging = Staging { access, pair: "p".into(), key: "k".into() };
    let works =
        run.tasks().into_iter().map(|task| task.job.into_work(&run.migration, &run.view, staging.clone()));
    works
        .map(|work| match work {
            Work::Cleanup { prune, .. } => prune,
            other => panic!("not a clean-up: {other:?}"),
        })
        .collect()
}

fn of(volumes: &[&str], keep: u32) -> Vec<Option<RunPrune>> {
    let volumes = volumes.iter().map(|uid| (*uid).to_owned()).collect();
    vec![Some(RunPrune { volumes, keep, held: Vec::new() }), None]
}

#[test]
fn the_source_collects_what_the_next_run_does_not_need() {
    for passes in [0, 1, 3] {
        let mut run = at_volumes(2);
        run.migration.spec.retention.passes = passes;
        run.move_volume(0);
        run.move_volume(1);
        run.succeed("destination", applied());
        run.succeed("destination", applied());
        assert_eq!(collected(&run), of(&["v0", "v1"], passes));
    }
}

#[test]
fn a_run_that_failed_keeps_what_the_next_one_goes_on_from() {
    let mut run = at_volumes(3);
    run.migration.spec.retention.passes = 0;
    run.fail("send.v1", "PersistentVolumeClaim cms/claim-1");
    assert_eq!(collected(&run), of(&["v0", "v1"], 1), "the third had not begun");
}

#[test]
fn without_volumes_nothing_is_collected() {
    let mut run = world(|spec| spec.include_volumes = false);
    run.advance();
    run.survey();
    run.fail("source", "Namespace cms");
    assert_eq!(collected(&run), [None, None]);
}

#[test]
fn a_run_with_volumes_waits_while_staging_is_collected_and_others_do_not() {
    let pruned = |change: fn(&mut isthmus_shared::resources::MigrationSpec)| {
        let mut run = world(change);
        run.view.pair.as_mut().unwrap().pruning = true;
        run.advance();
        run
    };
    let mut run = pruned(|_| {});
    run.pass(3600);
    assert_eq!(run.phase(), MigrationPhase::Pending, "it waits as long as it takes");
    assert!(run.status().message.unwrap().contains("isthmus pair describe prod"));
    run.view.pair.as_mut().unwrap().pruning = false;
    run.pass(1);
    assert_eq!(run.phase(), MigrationPhase::InProgress);
    assert_eq!(pruned(|spec| spec.include_volumes = false).phase(), MigrationPhase::InProgress);
    assert_eq!(pruned(|spec| spec.dry_run = true).phase(), MigrationPhase::InProgress);
}
