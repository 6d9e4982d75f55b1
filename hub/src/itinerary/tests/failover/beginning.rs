//! How a failover begins: as a cutover, without its source, or not at all.

use isthmus_shared::resources::{CANCEL, Finding, MigrationAction, MigrationPhase};

use super::super::cutover::steps;
use super::super::world::{World, world};
use super::{alone, failover, silent};
use crate::itinerary::{Busy, Claim, Reach, Scheduled, runs_to_end};

/// Why it is refused once its surroundings have settled.
fn refused(mut run: World) -> Finding {
    run.advance();
    alone(&mut run, 5);
    let status = run.status();
    assert_eq!(status.status, MigrationPhase::Failed, "{status:?}");
    assert!(status.pipeline.is_empty(), "nothing was begun");
    status.failures[0].clone()
}

#[test]
fn with_its_source_heard_a_failover_is_a_cutover_by_the_schedules_options() {
    let mut run = failover(|_| {});
    run.advance();
    assert_eq!(run.phase(), MigrationPhase::InProgress);
    let status = run.status();
    assert!(status.recovers.is_none());
    let options = status.options.unwrap();
    assert_eq!((options.action, options.quiesce), (MigrationAction::Failover, true));
    let mut cutover = world(|spec| spec.quiesce = true);
    cutover.advance();
    assert_eq!(steps(&run), steps(&cutover));
}

#[test]
fn without_anything_to_go_by_it_is_refused_with_what_to_do() {
    let refusal = |change: fn(&mut Scheduled)| {
        let mut run = failover(change);
        silent(&mut run);
        refused(run)
    };
    let none = refusal(|scheduled| scheduled.last = None);
    assert_eq!(none.reason, "NoCompleteRun");
    assert!(none.message.contains("bring the spoke of east back"), "{}", none.message);
    let stage = refusal(|scheduled| scheduled.last.as_mut().unwrap().spec.action = MigrationAction::Stage);
    assert_eq!(stage.reason, "NoObjects");
    let schedule = refusal(|scheduled| *scheduled = Scheduled::default());
    assert_eq!(schedule.reason, "NoSuchSchedule");
    let over = refusal(|scheduled| scheduled.failed_over = Some("before".into()));
    assert_eq!(over.reason, "AlreadyFailedOver");
    assert!(over.message.contains("isthmus failback nightly"), "{}", over.message);
    let mut more = failover(|_| {});
    more.migration.spec.parallel_volumes = 7;
    assert_eq!(refused(more).reason, "BesideSchedule");
}

#[test]
fn a_hub_that_has_just_begun_to_look_waits_for_a_sign_of_life() {
    let mut run = failover(|_| {});
    run.view.source.heard_at = None;
    run.advance();
    assert_eq!(run.phase(), MigrationPhase::Pending);
    assert!(run.status().message.unwrap().contains("sign of life of cluster east"));
    alone(&mut run, 41);
    assert_eq!(run.phase(), MigrationPhase::InProgress);
    assert!(run.status().recovers.is_some());
}

#[test]
fn runs_of_the_schedule_are_ended_and_waited_for_on_the_destination_alone() {
    let mut run = failover(|scheduled| scheduled.under_way = vec!["nightly-2".into()]);
    assert!(runs_to_end(&run.migration, &run.view, run.now).is_empty(), "its source is heard");
    silent(&mut run);
    assert_eq!(runs_to_end(&run.migration, &run.view, run.now), ["nightly-2"]);
    let on = |cluster: &str, namespace: &str| Claim {
        cluster: cluster.into(),
        reach: Reach::Name(namespace.into()),
    };
    let busy = |claims| Busy { migration: "isthmus/nightly-2".into(), dry_run: false, claims };
    run.view.busy = vec![busy(vec![on("east", "cms"), on("west", "shop")])];
    run.advance();
    assert_eq!(run.phase(), MigrationPhase::Pending);
    assert!(run.status().message.unwrap().contains("isthmus/nightly-2"));
    run.view.busy = vec![busy(vec![on("east", "cms")])];
    run.advance();
    assert_eq!(run.phase(), MigrationPhase::InProgress, "it has left the destination");
}

#[test]
fn a_destination_that_is_not_heard_or_has_no_staging_is_waited_for() {
    let mut run = failover(|_| {});
    silent(&mut run);
    run.view.destination.heard_at = None;
    run.advance();
    assert_eq!(run.phase(), MigrationPhase::Pending);
    run.view.pair.as_mut().unwrap().out_of_reach = Some("AccessDenied".into());
    alone(&mut run, 1);
    assert!(run.status().message.unwrap().contains("AccessDenied"));
    run.view.pair.as_mut().unwrap().out_of_reach = None;
    alone(&mut run, 1);
    assert_eq!(run.phase(), MigrationPhase::InProgress);
}

#[test]
fn a_migration_that_is_cancelled_before_it_begins_never_does() {
    let mut run = world(|_| {});
    run.migration.metadata.annotations = Some([(CANCEL.to_owned(), "true".to_owned())].into());
    run.advance();
    assert_eq!(run.phase(), MigrationPhase::Failed);
    assert!(run.status().pipeline.is_empty());
}
