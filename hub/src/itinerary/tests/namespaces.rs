//! What globs and selectors came to, as a spoke that may be wrong reports it.

use isthmus_shared::protocol::Outcome;
use isthmus_shared::resources::{MigrationPhase, MigrationSpec, NamespaceMove, Step};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::world::{World, world};

fn reported(mut run: World, namespaces: &[(&str, &str)]) -> World {
    run.advance();
    run.survey();
    let namespaces = namespaces
        .iter()
        .map(|&(from, to)| NamespaceMove { from: from.to_owned(), to: to.to_owned() })
        .collect();
    run.succeed("source", Outcome::SourceInspected { volumes: Vec::new(), objects: 1, namespaces });
    run
}

fn asking(entries: &[&str]) -> World {
    let entries = entries.iter().map(|&entry| entry.into()).collect();
    world(|spec| spec.namespaces = entries)
}

/// The reason that the report is refused for, if it is.
fn refused(run: World, namespaces: &[(&str, &str)]) -> Option<String> {
    let run = reported(run, namespaces);
    let status = run.status();
    let refused = status.failures.first().map(|found| found.reason.clone());
    match &refused {
        Some(_) => {
            assert!(status.namespaces.is_empty() && status.failures[0].step == Some(Step::Preflight));
            assert_eq!(run.current(), Some(Step::Cleanup), "nothing else is done");
        }
        None => assert_eq!(status.namespaces.len(), namespaces.len()),
    }
    refused
}

#[test]
fn what_follows_from_the_entries_is_taken_over() {
    let run = reported(
        asking(&["cms", "team-*", "team-b:blue"]),
        &[("cms", "cms"), ("team-a", "team-a"), ("team-b", "blue")],
    );
    let names: Vec<String> = run.status().namespaces.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["cms", "team-a", "team-b -> blue"]);
    assert_eq!(run.docket(), ["west Preflight/destination"]);
}

#[test]
fn what_does_not_follow_from_the_entries_is_refused() {
    let entries = ["cms", "team-*", "team-b:blue"];
    let rest = [("cms", "cms"), ("team-b", "blue")];
    for (stray, reason) in [
        (("shop", "shop"), "BadReport"),
        (("team-a", "shop"), "BadReport"),
        (("team-a", "Team"), "BadReport"),
        (("team-/", "team-/"), "BadReport"),
        (("cms", "cms"), "BadReport"),
        (("team-b", "team-b"), "BadReport"),
    ] {
        let report = [&rest[..], &[stray]].concat();
        assert_eq!(refused(asking(&entries), &report).as_deref(), Some(reason), "{stray:?}");
    }
    assert_eq!(refused(asking(&entries), &rest[..1]).as_deref(), Some("BadReport"), "one is missing");
    assert_eq!(refused(asking(&["a*"]), &[]).as_deref(), Some("NoNamespaceFound"));
    let twice = [("a", "blue"), ("blue", "blue")];
    assert_eq!(refused(asking(&["a:blue", "b*"]), &twice).as_deref(), Some("SameDestination"));
}

#[test]
fn a_selector_may_find_any_namespace_under_its_own_name() {
    let selecting = || {
        world(|spec: &mut MigrationSpec| {
            spec.namespaces = Vec::new();
            spec.namespace_selector = Some(LabelSelector::default());
        })
    };
    assert_eq!(refused(selecting(), &[("a", "a"), ("b", "b")]), None);
    assert_eq!(refused(selecting(), &[("a", "b")]).as_deref(), Some("BadReport"));
}

#[test]
fn the_platforms_namespaces_are_taken_only_by_name() {
    let all = || asking(&["*"]);
    for name in ["kube-system", "kube-public", "openshift", "openshift-ingress"] {
        assert_eq!(refused(all(), &[(name, name)]).as_deref(), Some("PlatformNamespace"), "{name}");
        assert_eq!(refused(asking(&[name]), &[(name, name)]), None);
    }
    assert_eq!(refused(asking(&["a:kube-system"]), &[("a", "kube-system")]), None);
    assert_eq!(refused(all(), &[("default", "default"), ("kubeflow", "kubeflow")]), None);
}

#[test]
fn what_a_glob_came_to_has_to_be_allowed_too() {
    let mut run = asking(&["*"]);
    run.view.pair.as_mut().unwrap().allowed_namespaces = Some(vec!["cms*".into()]);
    assert_eq!(refused(run, &[("cms", "cms"), ("shop", "shop")]).as_deref(), Some("NamespaceNotAllowed"));
}

#[test]
fn more_namespaces_than_a_status_holds_are_refused() {
    let names: Vec<String> = (0..201).map(|n| format!("n{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
    assert_eq!(refused(asking(&["n*"]), &many).as_deref(), Some("TooManyNamespaces"));
}

#[test]
fn a_run_that_is_refused_for_its_namespaces_ends_cleanly() {
    let mut run = reported(asking(&["a*"]), &[]);
    run.clean_up();
    assert_eq!(run.phase(), MigrationPhase::Failed);
}
