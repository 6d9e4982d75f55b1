//! What a pair says of itself is true within a minute, and Ready comes back by itself.

use std::time::{Duration, Instant};

use isthmus_lab::s3::KeyAccess;
use isthmus_shared::resources::{ClusterPair, LinkState};

use crate::world::{PAIR, World};

/// What the issue promises.
const MINUTE: Duration = Duration::from_mins(1);

fn storage_message(pair: &ClusterPair) -> String {
    pair.status.as_ref().and_then(|status| status.storage_message.clone()).unwrap_or_default()
}

async fn storage_fails(world: &World, why: &str) {
    let since = Instant::now();
    let pair =
        world.pair_is(PAIR, "not Ready for its store", |_, _, storage| storage != LinkState::Ready).await;
    assert!(since.elapsed() < MINUTE, "it took {:?}", since.elapsed());
    let told = storage_message(&pair);
    assert!(told.contains(why), "{why:?} is not in {told:?}");
}

async fn all_is_well(world: &World) {
    let since = Instant::now();
    let ready =
        |_: &ClusterPair, scheduler, storage| scheduler == LinkState::Ready && storage == LinkState::Ready;
    world.pair_is(PAIR, "Ready again", ready).await;
    assert!(since.elapsed() < MINUTE, "it took {:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_bucket_a_revoked_key_and_a_dead_spoke_show_within_a_minute_and_heal() {
    let mut world = World::start().await;

    world.lab.s3().delete_bucket("isthmus");
    storage_fails(&world, "bucket").await;
    world.lab.s3().create_bucket("isthmus");
    all_is_well(&world).await;

    let keys = world.lab.s3_keys().clone();
    world.lab.s3().keys().revoke(&keys);
    storage_fails(&world, "key").await;
    world.lab.s3().keys().restore(&keys, KeyAccess::ReadWrite);
    all_is_well(&world).await;

    world.west.program.kill().await.unwrap();
    let since = Instant::now();
    let pair =
        world.pair_is(PAIR, "without its spoke", |_, scheduler, _| scheduler != LinkState::Ready).await;
    assert!(since.elapsed() < MINUTE, "it took {:?}", since.elapsed());
    let told = pair.status.and_then(|status| status.scheduler_message).unwrap_or_default();
    assert!(told.contains("west"), "{told}");
    world.west.program.restart().await.unwrap();
    all_is_well(&world).await;
}
