//! Movers with credentials for their one volume, where the store has STS.

use std::collections::BTreeMap;

use isthmus_shared::resources::MigrationPhase;

use crate::world::{PAIR, World, eventually};

const ROLE: [&str; 2] = ["--sts-role-arn", "arn:aws:iam::123456789012:role/movers"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn movers_touch_staging_with_keys_for_their_own_volume_only() {
    let world = World::start_with(&ROLE).await;
    let described = world.isthmus(&["store", "describe", "stage"]).await.ends_with(0).out;
    assert!(described.contains("role/movers") && described.contains("60 min"), "{described}");
    world.install_cms("cms").await;
    world.isthmus(&["migrate", "cms", "--pair", PAIR, "--name", "first", "--wait"]).await.ends_with(0);
    let status = world.migration("first").await;
    assert_eq!(status.status, MigrationPhase::Succeeded, "{status:?}");
    world.volumes_are_equal("cms").await;

    let keys = world.lab.s3().keys();
    let owner = &world.lab.s3_keys().access_key;
    // What spokes do there themselves: they note the claim, and look what earlier passes left.
    let of_movers = |what: &String| {
        what.ends_with("/packs") || (what.starts_with("s3:PutObject") && what.ends_with("/passes"))
    };
    let by_owner: Vec<String> = keys.touched(owner).into_iter().filter(of_movers).collect();
    assert!(by_owner.is_empty(), "packs and passes were touched with the store's own keys: {by_owner:?}");

    // Each volume has a session of its sender and one of its receiver, and each touched only that.
    let mut sessions: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    for assumed in keys.assumed() {
        assert_eq!((&assumed.parent, assumed.role_arn.as_str()), (owner, ROLE[1]));
        let volume = assumed.name.strip_prefix("isthmus-").unwrap().to_owned();
        let touched = keys.touched(&assumed.access_key);
        let elsewhere = touched.iter().find(|what| !what.contains(&format!("/volumes/{volume}/")));
        assert_eq!(elsewhere, None, "of the session for {volume}");
        sessions.entry(volume).or_default().push(touched);
    }
    assert_eq!(sessions.len(), 2, "{sessions:?}");
    for (volume, touched) in &sessions {
        let wrote_packs = |of: &&Vec<String>| {
            of.iter().any(|what| what.starts_with("s3:PutObject") && what.ends_with("packs"))
        };
        let read_packs = |of: &&Vec<String>| {
            of.iter().any(|what| what.starts_with("s3:GetObject") && what.ends_with("packs"))
        };
        assert_eq!(touched.iter().filter(wrote_packs).count(), 1, "{volume}: {touched:?}");
        assert!(touched.iter().any(|of| read_packs(&of) && !wrote_packs(&of)), "{volume}: {touched:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn movers_whose_credentials_end_are_replaced_and_go_on() {
    let world = World::start_with(&ROLE).await;
    world.install_cms("cms").await;
    world.begin("cms", "first").await;
    let keys = world.lab.s3().keys();
    eventually("a mover to use its session", || async {
        let used = keys.assumed().iter().any(|assumed| !keys.touched(&assumed.access_key).is_empty());
        if used { Ok(()) } else { Err("no session was used".to_owned()) }
    })
    .await;
    let before = keys.assumed().len();
    keys.expire_sessions();

    let status = world.migration_is("first", "over", |status| status.status.is_terminal()).await;
    assert_eq!(status.status, MigrationPhase::Succeeded, "{status:?}");
    assert!(keys.assumed().len() > before, "nobody asked for new credentials");
    world.volumes_are_equal("cms").await;
}
