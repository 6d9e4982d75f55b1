//! Migrations that may not begin, or not yet.

use isthmus_shared::resources::{MigrationPhase, MigrationSpec};

use super::world::{World, finding, world};
use crate::itinerary::{Busy, PENDING_LIMIT_SECONDS, SETTLE_SECONDS};

/// The reason that a migration is refused for once its surroundings have settled.
fn refusal(mut run: World) -> (String, String) {
    run.advance();
    assert_eq!(run.phase(), MigrationPhase::Pending, "what is missing may come a moment later");
    assert!(run.status().message.is_some());
    run.pass(SETTLE_SECONDS);
    let status = run.status();
    assert_eq!(status.status, MigrationPhase::Failed, "{status:?}");
    assert!(status.pipeline.is_empty(), "nothing was begun");
    assert!(run.docket().is_empty());
    (status.failures[0].reason.clone(), status.message.unwrap())
}

fn namespaces(list: &[&str]) -> impl FnOnce(&mut MigrationSpec) {
    let list = list.iter().map(|&name| name.into()).collect();
    move |spec| spec.namespaces = list
}

#[test]
fn a_missing_pair_is_refused() {
    let mut run = world(|_| {});
    run.view.pair = None;
    let (reason, message) = refusal(run);
    assert_eq!(reason, "NoSuchPair");
    assert!(message.contains("isthmus pair create prod"), "{message}");
}

#[test]
fn a_pair_that_is_made_a_moment_after_the_migration_serves() {
    let mut run = world(|_| {});
    let pair = run.view.pair.take();
    run.advance();
    run.view.pair = pair;
    run.pass(1);
    assert_eq!(run.phase(), MigrationPhase::InProgress);
}

#[test]
fn a_pair_that_is_being_deleted_is_none() {
    let mut run = world(|_| {});
    run.view.pair.as_mut().unwrap().deleting = true;
    assert_eq!(refusal(run).0, "NoSuchPair");
}

#[test]
fn a_pair_in_the_hubs_namespace_moves_what_its_globs_allow() {
    let allowed = |name: &str, globs: &[&str]| {
        let mut run = world(namespaces(&[name]));
        run.view.pair.as_mut().unwrap().allowed_namespaces =
            Some(globs.iter().map(|&g| g.to_owned()).collect());
        run.advance();
        run.phase() == MigrationPhase::InProgress
    };
    assert!(allowed("cms", &["cms"]));
    assert!(allowed("cms-dev", &["x", "cms-*"]));
    assert!(!allowed("cms", &["cms-*"]));
    assert!(!allowed("cms", &[]), "an empty list allows nothing");
}

#[test]
fn a_namespace_that_is_not_allowed_is_refused_by_name() {
    let mut run = world(namespaces(&["cms", "shop"]));
    run.view.pair.as_mut().unwrap().allowed_namespaces = Some(vec!["cms*".into()]);
    let (reason, message) = refusal(run);
    assert_eq!(reason, "NamespaceNotAllowed");
    assert!(message.starts_with("Namespace shop:") && message.contains("cms*"), "{message}");
}

#[test]
fn a_pair_elsewhere_moves_only_the_namespace_of_its_name() {
    let elsewhere = |names: &[&str]| {
        let mut run = world(namespaces(names));
        let pair = run.view.pair.as_mut().unwrap();
        pair.in_hub_namespace = false;
        pair.namespace = "cms".into();
        run
    };
    let mut own = elsewhere(&["cms"]);
    own.advance();
    assert_eq!(own.phase(), MigrationPhase::InProgress);
    assert_eq!(refusal(elsewhere(&["cms", "shop"])).0, "NamespaceNotAllowed");
}

#[test]
fn a_glob_that_is_none_is_refused() {
    let mut run = world(|_| {});
    run.view.pair.as_mut().unwrap().allowed_namespaces = Some(vec!["cms[".into()]);
    assert_eq!(refusal(run).0, "BadGlob");
}

#[test]
fn what_is_not_a_namespaces_name_is_refused() {
    for name in ["", "Cms", "a/b", "-a", "a-", &"x".repeat(64)] {
        assert_eq!(refusal(world(namespaces(&[name]))).0, "BadNamespaceName", "{name}");
    }
}

#[test]
fn the_reverse_needs_a_pair_that_goes_both_ways() {
    assert_eq!(refusal(world(|spec| spec.reverse = true)).0, "NotBidirectional");
}

#[test]
fn a_defect_of_the_pair_is_told_as_it_is() {
    let mut run = world(|_| {});
    run.view.pair.as_mut().unwrap().defect = Some(finding("ObjectStore stage"));
    let (reason, message) = refusal(run);
    assert_eq!((reason.as_str(), message.as_str()), ("Broken", "ObjectStore stage: it is broken: mend it"));
}

fn unready() -> World {
    let mut run = world(|_| {});
    let pair = run.view.pair.as_mut().unwrap();
    pair.ready = false;
    pair.message = "spoke of cluster east: NoSuchBucket".into();
    run
}

#[test]
fn a_pair_that_is_not_ready_is_waited_for() {
    let mut run = unready();
    run.advance();
    let status = run.status();
    assert_eq!(status.status, MigrationPhase::Pending);
    assert!(status.message.unwrap().contains("spoke of cluster east: NoSuchBucket"));
    assert_eq!(status.conditions[0].status, "Unknown");
    run.pass(300);
    run.view.pair.as_mut().unwrap().ready = true;
    run.advance();
    assert_eq!(run.phase(), MigrationPhase::InProgress);
    assert_eq!(run.status().message, None);
}

#[test]
fn the_wait_for_a_pair_ends_after_ten_minutes() {
    let mut run = unready();
    run.advance();
    run.pass(PENDING_LIMIT_SECONDS);
    assert_eq!(run.phase(), MigrationPhase::Pending);
    run.pass(1);
    let status = run.status();
    assert_eq!(
        (status.status, status.failures[0].reason.as_str()),
        (MigrationPhase::Failed, "WaitedTooLong")
    );
    assert!(status.message.unwrap().contains("NoSuchBucket"));
}

#[test]
fn a_hub_that_was_away_begins_to_wait_anew() {
    let mut run = unready();
    run.advance();
    run.now += jiff::ToSpan::hours(5);
    run.view.since = run.now;
    run.advance();
    assert_eq!(run.phase(), MigrationPhase::Pending);
}

#[test]
fn a_namespace_that_another_run_moves_is_waited_for_as_long_as_it_takes() {
    let mut run = world(|_| {});
    run.view.busy = vec![Busy { namespace: "cms".into(), migration: "isthmus/other".into() }];
    run.advance();
    run.pass(86_400);
    assert_eq!(run.phase(), MigrationPhase::Pending);
    assert!(run.status().message.unwrap().contains("isthmus/other"));
    run.view.busy = vec![Busy { namespace: "shop".into(), migration: "isthmus/other".into() }];
    run.advance();
    assert_eq!(run.phase(), MigrationPhase::InProgress);
}

#[test]
fn a_migration_that_is_deleted_before_it_began_leaves_nothing_to_do() {
    let mut run = unready();
    run.advance();
    run.delete();
    run.advance();
    assert_eq!(run.phase(), MigrationPhase::Failed);
    assert!(run.docket().is_empty());
}
