//! What is printed, as a whole.

use super::fixtures::{
    clusters, cutover, diff_view, migration, now, pair, plans as some_plans, rolled_back, runs_of_schedule,
    schedules as some_schedules, stores, view,
};
use super::*;

#[test]
fn lists_are_tables_with_the_columns_of_kubectl() {
    let text = [
        lists::clusters(&clusters(), now()),
        lists::stores(&stores(), now()),
        pairs(&[pair()], now()),
        migrations(&[migration()], now()),
    ];
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn a_cluster_is_described_with_its_storage_and_activations() {
    insta::assert_snapshot!(describe_cluster(&clusters()[0], now()));
}

#[test]
fn a_cluster_that_has_not_joined_is_described_with_its_token() {
    insta::assert_snapshot!(describe_cluster(&clusters()[1], now()));
}

#[test]
fn a_store_is_described_with_what_is_the_matter_with_it() {
    insta::assert_snapshot!(describe_store(&stores()[0]));
}

#[test]
fn a_pair_is_described_with_both_statuses() {
    insta::assert_snapshot!(describe_pair(&pair()));
}

#[test]
fn a_migration_is_described_with_all_there_is_to_it() {
    insta::assert_snapshot!(describe_migration(&view(), true, now()));
}

#[test]
fn a_run_that_stopped_the_source_is_described_with_the_side_that_runs() {
    let described = |migration| {
        let view = MigrationView { migration, objects: Vec::new(), events: Vec::new(), ..view() };
        describe_migration(&view, false, now())
    };
    insta::assert_snapshot!([described(cutover()), described(rolled_back())].join("\n---\n"));
}

#[test]
fn a_plan_is_described_with_what_its_check_found() {
    let all = some_plans();
    let text = [plans(&all, now()), describe_plan(&all[0], now()), describe_plan(&all[1], now())];
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn a_schedule_is_described_with_its_next_run_its_last_ones_and_why_it_does_not_run() {
    let all = some_schedules();
    let text = [
        schedules(&all, now()),
        describe_schedule(&all[0], None, &runs_of_schedule(), now()),
        describe_schedule(&all[1], None, &[], now()),
        describe_schedule(&all[2], None, &[], now()),
        first_run(&all[1], now()),
    ];
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn a_description_without_details_names_no_objects() {
    let view = MigrationView { objects: Vec::new(), ..view() };
    let text = describe_migration(&view, false, now());
    assert!(!text.contains("\nObjects:"), "{text}");
    assert!(text.contains("12 created, 1 updated") && text.contains("FileChanged"), "{text}");
}

#[test]
fn a_dry_run_is_shown_with_what_would_be_and_what_is_in_the_way() {
    insta::assert_snapshot!(describe_diff(&diff_view(), false));
}

#[test]
fn a_dry_run_with_details_names_every_object() {
    insta::assert_snapshot!(describe_diff(&diff_view(), true));
}

#[test]
fn a_dry_run_that_the_clusters_had_no_part_in_says_nothing_of_them() {
    let mut migration = migration();
    let status = migration.status.get_or_insert_default();
    status.status = isthmus_shared::resources::MigrationPhase::Failed;
    let reasons = |migration: &isthmus_shared::resources::Migration| {
        DiffView::new(&pair(), migration, Vec::new(), None).prospect
    };
    assert_eq!(reasons(&migration), Prospect::Unknown);
    let finding = |reason: &str| isthmus_shared::resources::Finding {
        object: "Cluster west".to_owned(),
        reason: reason.to_owned(),
        message: "m".to_owned(),
        step: None,
    };
    migration.status.get_or_insert_default().failures = vec![finding("NoNews")];
    assert_eq!(reasons(&migration), Prospect::Unknown);
    migration.status.get_or_insert_default().failures.push(finding("QuotaExceeded"));
    assert_eq!(reasons(&migration), Prospect::InTheWay);
}

#[test]
fn a_description_says_what_it_could_not_get_and_why() {
    let missing = || Some("no answer from the hub at https://hub:8443".to_owned());
    let view = MigrationView {
        objects: Vec::new(),
        objects_missing: missing(),
        events_missing: missing(),
        ..view()
    };
    let text = describe_migration(&view, true, now());
    assert!(text.contains("Objects:\n  the list is missing: no answer from the hub"), "{text}");
    assert!(text.contains("Events:\n  they are missing: no answer from the hub"), "{text}");
}
