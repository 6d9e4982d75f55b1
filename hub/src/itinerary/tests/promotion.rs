//! Runs in which nothing goes wrong.

use isthmus_shared::protocol::{Outcome, Progress, TaskState};
use isthmus_shared::resources::{MigrationPhase, Step, StepState, VolumePhase};

use super::world::{applied, at_volumes, exported, facts, finding, inspected, moved, world};
use crate::itinerary::{Verdict, advance, notes};

#[test]
fn a_promotion_goes_through_its_steps_and_succeeds() {
    let mut run = world(|spec| spec.start_applications = true);
    run.advance();
    assert_eq!(run.phase(), MigrationPhase::InProgress);
    let steps: Vec<Step> = run.status().pipeline.iter().map(|step| step.step).collect();
    assert_eq!(
        steps,
        [
            Step::Preflight,
            Step::PrepareDestination,
            Step::ExportResources,
            Step::FinalVolumes,
            Step::ApplyResources,
            Step::Verify,
            Step::StartApplications,
            Step::HealthCheck,
            Step::Cleanup
        ]
    );
    assert_eq!(run.docket(), ["west Preflight/survey"]);
    run.survey();
    assert_eq!(run.docket(), ["east Preflight/source"]);
    run.inspect(1);
    assert_eq!(run.docket(), ["west Preflight/destination"]);
    run.succeed("destination", Outcome::Done);
    assert_eq!(run.docket(), ["west PrepareDestination/destination"]);
    run.succeed("destination", Outcome::Done);
    assert_eq!(run.docket(), ["east ExportResources/source"]);
    run.succeed("source", exported());
    assert_eq!(run.docket(), ["east FinalVolumes/send.v0", "west FinalVolumes/receive.v0"]);
    run.succeed("receive.v0", moved());
    assert_eq!(run.docket(), ["east FinalVolumes/send.v0"], "a receiver may end before its sender is heard");
    run.succeed("send.v0", moved());
    assert_eq!(run.docket(), ["west ApplyResources/destination"]);
    run.succeed("destination", applied());
    assert_eq!(run.docket(), ["west Verify/destination"]);
    run.succeed("destination", applied());
    assert_eq!(run.docket(), ["west StartApplications/destination"]);
    run.succeed("destination", Outcome::Workloads { workloads: 2 });
    assert_eq!(run.docket(), ["west HealthCheck/destination"]);
    run.succeed("destination", Outcome::Workloads { workloads: 2 });
    assert_eq!(run.docket(), ["east Cleanup/source", "west Cleanup/destination"]);
    run.clean_up();
    let status = run.status();
    assert_eq!(status.status, MigrationPhase::Succeeded);
    assert_eq!(status.volumes_summary.as_deref(), Some("1/1"));
    assert_eq!(status.resources_summary.as_deref(), Some("14/14"));
    assert_eq!((status.bytes_done, status.resources.left_behind), (100, 3));
    assert_eq!((status.conditions[0].status.as_str(), status.message), ("True", None));
    assert!(run.docket().is_empty());
}

#[test]
fn a_run_without_resources_moves_volumes_alone() {
    let mut run = world(|spec| spec.include_resources = false);
    run.advance();
    let steps: Vec<Step> = run.status().pipeline.iter().map(|step| step.step).collect();
    assert_eq!(steps, [Step::Preflight, Step::PrepareDestination, Step::FinalVolumes, Step::Cleanup]);
}

#[test]
fn a_run_without_volumes_ignores_those_that_are_there() {
    let mut run = world(|spec| spec.include_volumes = false);
    run.advance();
    run.inspect(3);
    assert!(run.status().volumes.is_empty());
    assert!(run.status().pipeline.iter().all(|step| step.step != Step::FinalVolumes));
}

#[test]
fn the_volume_step_is_skipped_when_there_are_none() {
    let mut run = world(|_| {});
    run.advance();
    run.inspect(0);
    run.succeed("destination", Outcome::Done);
    run.succeed("destination", Outcome::Done);
    run.succeed("source", exported());
    assert_eq!(run.step(Step::FinalVolumes).state, StepState::Skipped);
    assert_eq!(run.current(), Some(Step::ApplyResources));
}

#[test]
fn as_many_volumes_as_allowed_are_under_way_and_the_next_begins_when_one_is_there() {
    let mut run = at_volumes(5);
    let senders = |run: &super::world::World| {
        run.docket()
            .iter()
            .filter_map(|task| task.split("send.").nth(1).map(str::to_owned))
            .collect::<Vec<_>>()
    };
    assert_eq!(senders(&run), ["v0", "v1"]);
    run.succeed("send.v1", moved());
    assert_eq!(run.docket().len(), 3, "v1 is there only when it has been received too");
    run.succeed("receive.v1", moved());
    assert_eq!(senders(&run), ["v0", "v2"]);
    for n in [0, 2, 3, 4] {
        run.move_volume(n);
    }
    assert!(run.status().volumes.iter().all(|volume| volume.phase == VolumePhase::Succeeded));
    assert_eq!(run.current(), Some(Step::ApplyResources));
}

#[test]
fn a_pass_follows_the_newest_and_builds_on_the_newest_complete_one() {
    let mut run = world(|_| {});
    run.advance();
    run.survey();
    let volumes = vec![facts(0, 4, Some(3)), facts(1, 0, None)];
    run.succeed("source", inspected(volumes));
    let passes: Vec<_> = run.status().volumes.iter().map(|v| (v.pass, v.previous_pass)).collect();
    assert_eq!(passes, [(5, Some(3)), (1, None)]);
}

#[test]
fn in_reverse_the_pairs_destination_is_the_source() {
    let mut run = world(|spec| spec.reverse = true);
    run.view.pair.as_mut().unwrap().bidirectional = true;
    run.advance();
    assert_eq!(run.docket(), ["east Preflight/survey"]);
    run.survey();
    assert_eq!(run.docket(), ["west Preflight/source"]);
    assert_eq!(run.status().destination.as_deref(), Some("east"));
}

#[test]
fn warnings_make_a_success_with_warnings() {
    let mut run = at_volumes(1);
    let mut report =
        run.report(run.task("send.v0"), TaskState::Succeeded, Progress::default(), Some(moved()));
    report.warnings = vec![finding("File a"); 20];
    report.warnings_total = 57;
    run.take(&report);
    run.succeed("receive.v0", moved());
    run.succeed("destination", applied());
    run.succeed("destination", applied());
    run.clean_up();
    let status = run.status();
    assert_eq!(status.status, MigrationPhase::SucceededWithWarnings);
    assert_eq!((status.warnings.len(), status.warnings_total), (20, 57));
    assert!(status.message.unwrap().contains("57 warnings"));
    assert_eq!(status.conditions[0].status, "True");
}

#[test]
fn figures_follow_the_spokes() {
    let mut run = at_volumes(1);
    let progress = Progress {
        bytes_total: 200,
        bytes_uploaded: 9,
        message: Some("sends".into()),
        ..Progress::default()
    };
    let report = run.running("send.v0", progress);
    assert_eq!(run.take(&report), Verdict::Figures);
    let progress = Progress { bytes_total: 200, bytes_done: 50, files_done: 2, ..Progress::default() };
    let report = run.running("receive.v0", progress);
    run.take(&report);
    let status = run.status();
    assert_eq!((status.bytes_done, status.bytes_total), (50, 200));
    assert_eq!(status.volumes[0].message.as_deref(), Some("sends"));
    run.move_volume(0);
    let progress = Progress {
        objects_done: 5,
        objects_total: 14,
        message: Some("Services".into()),
        ..Progress::default()
    };
    let report = run.running("destination", progress);
    run.take(&report);
    assert_eq!(run.step(Step::ApplyResources).message.as_deref(), Some("5 of 14 objects; Services"));
    assert_eq!(run.status().resources_summary.as_deref(), Some("5/14"));
}

#[test]
fn an_estimate_that_comes_late_is_not_what_a_volume_held() {
    let mut run = at_volumes(1);
    run.succeed("send.v0", moved());
    let late =
        run.running("receive.v0", Progress { bytes_total: 200, bytes_done: 100, ..Progress::default() });
    run.take(&late);
    run.succeed("receive.v0", moved());
    assert_eq!((run.status().bytes_done, run.status().bytes_total), (100, 100));
}

#[test]
fn a_restarted_hub_derives_the_same_tasks_from_the_status_alone() {
    let mut run = at_volumes(3);
    run.succeed("send.v0", moved());
    let json = serde_json::to_string(&run.migration).unwrap();
    let before = run.docket();
    run.migration = serde_json::from_str(&json).unwrap();
    run.view.since = run.now;
    run.advance();
    assert_eq!(run.docket(), before);
}

#[test]
fn advancing_again_changes_nothing() {
    let mut run = at_volumes(2);
    let before = run.status();
    assert_eq!(advance(&run.migration, &run.view, run.now), before);
    run.now += jiff::ToSpan::seconds(20);
    assert_eq!(advance(&run.migration, &run.view, run.now), before, "time alone is no reason to write");
}

#[test]
fn what_happens_is_told_in_events_once() {
    let mut run = at_volumes(1);
    let before = run.migration.clone();
    run.succeed("send.v0", moved());
    let told = notes(&before, &run.status());
    assert!(told.is_empty(), "{told:?}");
    let before = run.migration.clone();
    run.succeed("receive.v0", moved());
    let told: Vec<_> =
        notes(&before, &run.status()).into_iter().map(|note| (note.reason, note.subject)).collect();
    let words = |reason: &str, subject: &str| (reason.to_owned(), subject.to_owned());
    assert_eq!(
        told,
        [
            words("StepSucceeded", "FinalVolumes"),
            words("StepStarted", "ApplyResources"),
            words("VolumeSucceeded", "Volume.v0")
        ]
    );
}
