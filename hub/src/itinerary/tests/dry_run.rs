//! Dry runs, and what a preview tells before a real one.

use isthmus_shared::protocol::{Outcome, Progress, TaskState};
use isthmus_shared::resources::{MigrationPhase, ResourceCounts, Step, StepState};

use super::world::{World, finding, world};
use crate::itinerary::{Verdict, notes};

fn counts() -> ResourceCounts {
    ResourceCounts {
        total: 14,
        done: 12,
        created: 6,
        updated: 3,
        unchanged: 2,
        skipped: 1,
        deleted: 4,
        failed: 2,
        left_behind: 5,
    }
}

fn previewed() -> Outcome {
    Outcome::Previewed { counts: counts() }
}

/// A dry run that has come to the destination.
fn at_destination() -> World {
    let mut run = world(|spec| {
        spec.dry_run = true;
        spec.start_applications = true;
    });
    run.advance();
    run.inspect(2);
    run
}

#[test]
fn a_dry_run_looks_and_cleans_up_and_does_nothing_else() {
    let mut run = at_destination();
    let steps: Vec<Step> = run.status().pipeline.iter().map(|step| step.step).collect();
    assert_eq!(steps, [Step::Preflight, Step::Cleanup]);
    assert_eq!(run.docket(), ["west Preflight/destination"]);
    let before = run.migration.clone();
    run.succeed("destination", previewed());
    assert_eq!(run.docket(), ["east Cleanup/source", "west Cleanup/destination"]);
    run.clean_up();
    let status = run.status();
    assert_eq!(status.status, MigrationPhase::Succeeded);
    assert_eq!((status.resources.clone(), status.bytes_done), (counts(), 0));
    assert_eq!(
        status.message.as_deref(),
        Some(
            "a dry run, nothing was changed: of 14 objects 6 would be created, 3 updated, 2 unchanged, 1 skipped, 2 refused; 4 would be deleted, 5 left behind by rule"
        )
    );
    let told = notes(&before, &status);
    assert!(told.iter().all(|note| !note.message.contains("arrived")), "{told:?}");
}

#[test]
fn a_dry_run_with_warnings_says_so() {
    let mut run = at_destination();
    let task = run.task("destination");
    let mut report = run.report(task, TaskState::Succeeded, Progress::default(), Some(previewed()));
    report.warnings = vec![finding("Ingress cms/web")];
    report.warnings_total = 1;
    run.take(&report);
    run.clean_up();
    assert_eq!(run.phase(), MigrationPhase::SucceededWithWarnings);
    assert!(run.status().message.unwrap().ends_with("with a warning: read it before you migrate"));
}

#[test]
fn a_dry_run_that_finds_something_in_the_way_fails_and_keeps_its_counts() {
    let mut run = at_destination();
    let task = run.task("destination");
    let mut report = run.report(task, TaskState::Failed, Progress::default(), Some(previewed()));
    report.failures = vec![finding("Service cms/web")];
    report.failures_total = 1;
    assert_eq!(run.take(&report), Verdict::Ended);
    run.clean_up();
    let status = run.status();
    assert_eq!((status.status, status.resources.failed), (MigrationPhase::Failed, 2));
    assert_eq!(status.pipeline[0].state, StepState::Failed);
}

#[test]
fn before_a_real_run_a_preview_tells_how_many_and_not_what_was_done() {
    let mut run = world(|_| {});
    run.advance();
    run.inspect(1);
    run.succeed("destination", previewed());
    let resources = run.status().resources;
    assert_eq!(resources, ResourceCounts { total: 14, left_behind: 5, ..ResourceCounts::default() });
    assert_eq!(run.status().resources_summary.as_deref(), Some("0/14"));
    assert_eq!(run.step(Step::Preflight).message.as_deref(), Some("14 objects and 1 volumes to move"));
    assert_eq!(run.current(), Some(Step::PrepareDestination));
}

#[test]
fn a_preview_is_taken_from_the_destinations_inspection_alone() {
    let mut run = world(|spec| spec.dry_run = true);
    run.advance();
    run.succeed("survey", previewed());
    assert_eq!(run.status().resources, ResourceCounts::default());
    assert_eq!(run.docket(), ["east Preflight/source"]);
    run.succeed("source", previewed());
    assert_eq!(run.status().failures[0].reason, "BadReport");
}

#[test]
fn a_late_survey_does_not_count_as_the_destinations_inspection() {
    let mut run = world(|_| {});
    run.advance();
    let survey = run.task("survey");
    let report = run.report(survey.clone(), TaskState::Succeeded, Progress::default(), Some(Outcome::Done));
    run.take(&report);
    assert_eq!(run.take(&report), Verdict::Ignored);
    run.inspect(0);
    let again = run.report(survey, TaskState::Failed, Progress::default(), None);
    assert_eq!(run.take(&again), Verdict::Ignored);
    assert_eq!(run.docket(), ["west Preflight/destination"]);
}

#[test]
fn objects_that_were_skipped_or_deleted_are_told_when_they_were_applied() {
    let mut run = world(|spec| spec.include_volumes = false);
    run.advance();
    run.inspect(0);
    run.succeed("destination", Outcome::Done);
    run.succeed("destination", Outcome::Done);
    run.succeed("source", super::world::exported());
    run.succeed("destination", Outcome::Applied { counts: counts() });
    let told = run.step(Step::ApplyResources).message;
    assert_eq!(told.as_deref(), Some("6 created, 3 updated, 2 unchanged, 1 skipped, 4 deleted"));
    assert_eq!(run.status().resources_summary.as_deref(), Some("12/14"));
}
