//! Migrations that may not begin, or not yet.

use isthmus_shared::resources::{
    IncludeClusterResources, MigrationPhase, MigrationSpec, Transform, TransformMatch,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::world::{World, finding, world};
use crate::itinerary::{Busy, Claim, PENDING_LIMIT_SECONDS, Reach, SETTLE_SECONDS, waits_for_room};

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
    for name in ["Cms", "a/b", "-a", "a-", &"x".repeat(64)] {
        assert_eq!(refusal(world(namespaces(&[name]))).0, "BadNamespaceName", "{name}");
    }
    for entry in ["", "a-*:b", "["] {
        assert_eq!(refusal(world(namespaces(&[entry]))).0, "BadNamespace", "{entry}");
    }
}

#[test]
fn options_that_cannot_be_are_all_told_by_their_fields() {
    let mut run = world(|spec| {
        spec.namespaces = vec!["a:c".into(), "b:c".into()];
        spec.included_resource_types = vec!["a/b".into()];
        let operation = serde_json::json!({"op": "add", "path": "spec", "value": 1});
        spec.transforms = vec![Transform { json_patch: vec![operation], ..Transform::default() }];
    });
    // A pair that is not there either: the spec comes first.
    run.view.pair = None;
    run.advance();
    run.pass(SETTLE_SECONDS);
    let status = run.status();
    let told: Vec<&str> = status.failures.iter().map(|found| found.object.as_str()).collect();
    assert_eq!(
        told,
        ["spec.namespaces[1]", "spec.includedResourceTypes[0]", "spec.transforms[0].jsonPatch[0].path"]
    );
    assert_eq!((status.status, status.failures_total), (MigrationPhase::Failed, 3));
    let message = status.message.unwrap();
    assert!(message.starts_with("spec.namespaces[1]: ") && message.ends_with("(and 2 more)"), "{message}");
}

#[test]
fn both_names_of_a_mapping_have_to_be_allowed() {
    let refused = |entry: &str| {
        let mut run = world(namespaces(&[entry]));
        run.view.pair.as_mut().unwrap().allowed_namespaces = Some(vec!["cms*".into()]);
        run.advance();
        run.pass(SETTLE_SECONDS);
        run.status().failures.first().map(|found| found.object.clone())
    };
    assert_eq!(refused("cms:cms-green"), None);
    assert_eq!(refused("cms:shop").as_deref(), Some("Namespace shop"));
    assert_eq!(refused("shop:cms").as_deref(), Some("Namespace shop"));
}

fn transform(group: Option<&str>, kind: Option<&str>) -> Transform {
    let matching = TransformMatch {
        group: group.map(Into::into),
        kind: kind.map(Into::into),
        ..TransformMatch::default()
    };
    Transform { matching, merge_patch: Some(serde_json::json!({})), ..Transform::default() }
}

#[test]
fn a_pair_elsewhere_takes_nothing_beyond_its_namespace() {
    let elsewhere = |change: fn(&mut MigrationSpec)| {
        let mut run = world(change);
        let pair = run.view.pair.as_mut().unwrap();
        pair.in_hub_namespace = false;
        pair.namespace = "cms".into();
        run
    };
    let changes: [fn(&mut MigrationSpec); 9] = [
        |spec| spec.namespaces = vec!["cms*".into()],
        |spec| spec.namespaces = vec!["cms:cms-green".into()],
        |spec| spec.namespaces = vec!["shop:cms".into()],
        |spec| spec.namespace_selector = Some(LabelSelector::default()),
        |spec| spec.include_cluster_resources = IncludeClusterResources::All,
        |spec| spec.transforms = vec![transform(None, None)],
        |spec| spec.transforms = vec![transform(None, Some("RoleBinding"))],
        |spec| spec.transforms = vec![transform(Some(""), Some("Namespace"))],
        |spec| spec.transforms = vec![transform(Some("rbac.authorization.k8s.io"), Some("Role"))],
    ];
    for change in changes {
        assert_eq!(refusal(elsewhere(change)).0, "NamespaceNotAllowed");
    }
    let mut own = elsewhere(|spec| {
        spec.namespaces = vec!["cms:cms".into()];
        let roles = [(None, Some("Deployment")), (Some("keycloak.org"), Some("Role"))];
        spec.transforms = roles.map(|(group, kind)| transform(group, kind)).into();
    });
    own.advance();
    assert_eq!(own.phase(), MigrationPhase::InProgress);
}

#[test]
fn what_goes_through_a_pair_elsewhere_takes_nothing_of_the_clusters_along() {
    let mut run = world(|_| {});
    let included = |run: &World| {
        let staging = serde_json::from_value(serde_json::json!({
            "access": {"endpoint": "https://s3", "region": "r", "bucket": "b", "pathStyle": true,
                       "accessKeyId": "i", "secretAccessKey": "s"},
            "pair": "pair-1", "key": "k"
        }));
        let work = run.tasks().remove(0).job.into_work(&run.migration, &run.view, staging.unwrap());
        work.run().unwrap().spec.include_cluster_resources
    };
    run.advance();
    assert_eq!(included(&run), IncludeClusterResources::Auto);
    run.view.pair.as_mut().unwrap().in_hub_namespace = false;
    assert_eq!(included(&run), IncludeClusterResources::None);
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

/// Another migration that is under way and has to do with a namespace of the destination.
fn other(namespace: &str, dry_run: bool) -> Busy {
    let claim = Claim { cluster: "west".into(), reach: Reach::Name(namespace.into()) };
    Busy { migration: "isthmus/other".into(), dry_run, claims: vec![claim] }
}

#[test]
fn two_dry_runs_do_not_wait_for_each_other_but_a_dry_and_a_real_one_do() {
    for (ours, theirs, waits) in [(true, true, false), (true, false, true), (false, true, true)] {
        let mut run = world(|spec| spec.dry_run = ours);
        run.view.busy = vec![other("cms", theirs)];
        run.advance();
        assert_eq!(run.phase() == MigrationPhase::Pending, waits, "{ours} {theirs}");
    }
}

#[test]
fn of_several_that_are_in_the_way_it_is_always_the_same_that_is_named() {
    let mut run = world(namespaces(&["c*"]));
    let second = Busy { migration: "isthmus/a".into(), ..other("cache", false) };
    run.view.busy = vec![other("cms", false), second];
    run.advance();
    assert!(run.status().message.unwrap().contains("isthmus/a to end"));
}

#[test]
fn a_namespace_that_another_run_moves_is_waited_for_as_long_as_it_takes() {
    let mut run = world(|_| {});
    run.view.busy = vec![other("cms", false)];
    run.advance();
    run.pass(86_400);
    assert_eq!(run.phase(), MigrationPhase::Pending);
    let message = run.status().message.unwrap();
    assert_eq!(
        message,
        "waits for migration isthmus/other to end, which moves namespace cms of cluster west now"
    );
    run.view.busy = vec![other("shop", false)];
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

#[test]
fn where_there_is_no_room_a_run_waits_as_long_as_it_takes_and_says_for_what() {
    let mut run = world(|_| {});
    run.view.full = Some("cluster east, where at most 2 migrations run at a time".into());
    run.advance();
    run.pass(PENDING_LIMIT_SECONDS * 2);
    assert_eq!(run.phase(), MigrationPhase::Pending);
    let message = run.status().message.unwrap();
    assert_eq!(message, "waits for room on cluster east, where at most 2 migrations run at a time");
    assert!(waits_for_room(&run.migration, &run.view, run.now));
    run.view.full = None;
    assert!(!waits_for_room(&run.migration, &run.view, run.now));
    run.advance();
    assert_eq!(run.phase(), MigrationPhase::InProgress);
}

#[test]
fn whoever_waits_for_a_namespace_does_not_wait_for_room_beside() {
    let mut run = world(|_| {});
    let claim = Claim { cluster: "east".into(), reach: Reach::Name("cms".into()) };
    run.view.busy = vec![Busy { migration: "isthmus/other".into(), dry_run: false, claims: vec![claim] }];
    run.view.full = Some("cluster east".into());
    run.advance();
    assert!(run.status().message.unwrap().starts_with("waits for migration isthmus/other"));
    assert!(!waits_for_room(&run.migration, &run.view, run.now));
}
