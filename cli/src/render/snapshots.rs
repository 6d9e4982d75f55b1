//! What is printed, as a whole.

use super::fixtures::{clusters, migration, now, pair, stores, view};
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
    insta::assert_snapshot!(describe_migration(&view(), now()));
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
    let text = describe_migration(&view, now());
    assert!(text.contains("Objects:\n  the list is missing: no answer from the hub"), "{text}");
    assert!(text.contains("Events:\n  they are missing: no answer from the hub"), "{text}");
}
