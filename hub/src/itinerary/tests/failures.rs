//! Runs in which something goes wrong: a failure, a loss, a repetition, silence, cancellation.

use isthmus_shared::protocol::{Outcome, Progress, TaskId, TaskState, VolumeFacts};
use isthmus_shared::resources::{MAX_FINDINGS, MigrationPhase, Step, StepState, VolumePhase};

use super::world::{applied, at_volumes, exported, facts, finding, inspected, moved, world};
use crate::itinerary::{Verdict, notes};

#[test]
fn a_failing_step_ends_the_run_after_its_clean_up_and_skips_the_rest() {
    for failing in 0..6 {
        let mut run = world(|spec| spec.include_volumes = false);
        run.advance();
        for _ in 0..failing {
            match run.current().unwrap() {
                Step::Preflight if run.docket()[0].ends_with("/survey") => run.survey(),
                Step::Preflight if run.docket()[0].starts_with("east") => run.inspect(0),
                Step::ExportResources => drop(run.succeed("source", exported())),
                _ => drop(run.succeed("destination", applied())),
            }
        }
        let step = run.current().unwrap();
        let item = run.tasks()[0].id.item.clone().unwrap();
        run.fail(&item, "Service cms/web");
        assert_eq!(run.step(step).state, StepState::Failed, "{step:?}");
        assert_eq!(run.phase(), MigrationPhase::InProgress, "it is cleaned up after first");
        assert_eq!(run.docket(), ["east Cleanup/source", "west Cleanup/destination"]);
        run.clean_up();
        let status = run.status();
        assert_eq!(status.status, MigrationPhase::Failed);
        let message = status.message.unwrap();
        assert_eq!(message, format!("{step:?} failed: Service cms/web: it is broken: mend it"));
        assert_eq!(status.failures[0].step, Some(step));
        assert_eq!(status.step, Some(step), "the column shows where it failed");
        let later = status.pipeline.iter().filter(|s| s.state == StepState::Skipped).count();
        assert_eq!(
            later,
            status
                .pipeline
                .iter()
                .filter(|s| s.state == StepState::Pending || s.state == StepState::Skipped)
                .count()
        );
    }
}

#[test]
fn a_failing_volume_stops_the_others() {
    let mut run = at_volumes(3);
    run.fail("send.v1", "PersistentVolumeClaim cms/claim-1");
    let status = run.status();
    assert_eq!(status.volumes[0].phase, VolumePhase::Failed);
    assert_eq!(status.volumes[0].send, StepState::Skipped);
    assert_eq!(status.volumes[0].message.as_deref(), Some("stopped, because the step ended"));
    assert_eq!(status.volumes[1].message.as_deref(), Some("it is broken: mend it"));
    assert_eq!(status.volumes[2].phase, VolumePhase::Pending);
    assert_eq!(run.current(), Some(Step::Cleanup));
}

#[test]
fn a_doubled_or_late_report_counts_once() {
    let mut run = at_volumes(2);
    let mut report =
        run.report(run.task("send.v0"), TaskState::Succeeded, Progress::default(), Some(moved()));
    report.warnings = vec![finding("File a")];
    report.warnings_total = 1;
    assert_eq!(run.take(&report), Verdict::Ended);
    let after = run.status();
    assert_eq!(run.take(&report), Verdict::Ignored);
    assert_eq!(run.status(), after);
    let mut late = report.clone();
    late.state = TaskState::Running;
    assert_eq!(run.take(&late), Verdict::Ignored);
    late.state = TaskState::Failed;
    assert_eq!(run.take(&late), Verdict::Ignored);
    assert_eq!(run.status(), after);
}

#[test]
fn a_volume_of_which_one_half_failed_is_not_heard_of_in_the_clean_up() {
    let mut run = at_volumes(2);
    let mut sent = run.report(run.task("send.v1"), TaskState::Succeeded, Progress::default(), Some(moved()));
    run.fail("receive.v1", "PersistentVolumeClaim cms/claim-1");
    assert_eq!(run.current(), Some(Step::Cleanup));
    let after = run.status();
    sent.task.step = "Cleanup".into();
    assert_eq!(run.take(&sent), Verdict::Ignored);
    assert_eq!(run.status(), after);
}

#[test]
fn a_lost_report_costs_nothing_because_the_next_says_it_all() {
    let mut run = at_volumes(1);
    let lost = run.running("send.v0", Progress { bytes_total: 10, ..Progress::default() });
    drop(lost);
    run.succeed("send.v0", moved());
    run.succeed("receive.v0", moved());
    assert_eq!(run.status().bytes_total, 100);
}

#[test]
fn reports_of_other_steps_runs_and_volumes_are_ignored() {
    let mut run = at_volumes(1);
    let good = run.task("send.v0");
    for change in [
        |task: &mut TaskId| task.step = "StageVolumes".into(),
        |task: &mut TaskId| task.item = Some("send.v9".into()),
        |task: &mut TaskId| task.item = Some("source".into()),
        |task: &mut TaskId| task.item = None,
        |task: &mut TaskId| task.item = Some("nonsense".into()),
    ] {
        let mut task = good.clone();
        change(&mut task);
        let report = run.report(task, TaskState::Succeeded, Progress::default(), Some(moved()));
        assert_eq!(run.take(&report), Verdict::Ignored, "{}", report.task);
    }
}

#[test]
fn a_restarted_spoke_gets_the_task_that_it_had_and_ends_it() {
    let mut run = at_volumes(1);
    let before = run.docket();
    // The spoke is gone for a while, comes back, asks, and reports with higher sequences.
    run.pass(600);
    assert_eq!(run.docket(), before);
    run.move_volume(0);
    assert_eq!(run.current(), Some(Step::ApplyResources));
}

#[test]
fn silence_of_a_step_ends_it_and_news_keeps_it_alive() {
    let mut run = world(|spec| spec.step_timeout_seconds = 60);
    run.advance();
    run.survey();
    for n in 0..5 {
        run.pass(50);
        let report =
            run.running("source", Progress { message: Some(format!("kind {n}")), ..Progress::default() });
        run.take(&report);
        assert_eq!(run.current(), Some(Step::Preflight));
    }
    for _ in 0..2 {
        run.pass(45);
        let same = run.running("source", Progress { message: Some("kind 4".into()), ..Progress::default() });
        if run.current() == Some(Step::Preflight) {
            run.take(&same);
        }
        if run.current() == Some(Step::Cleanup) {
            break;
        }
    }
    let status = run.status();
    assert_eq!(status.failures[0].reason, "NoNews");
    assert!(status.failures[0].message.contains("cluster east has said nothing new for 1m00s"), "{status:?}");
}

#[test]
fn a_volume_without_news_fails_by_its_claim() {
    let mut run = at_volumes(1);
    let progress = Progress { message: Some("waits for its pod".into()), ..Progress::default() };
    let report = run.running("send.v0", progress);
    run.take(&report);
    run.pass(1801);
    let failure = &run.status().failures[0];
    assert_eq!(failure.object, "PersistentVolumeClaim cms/claim-0");
    assert!(failure.message.ends_with("(the last was: waits for its pod)"), "{}", failure.message);
}

#[test]
fn a_hub_that_was_away_blames_nobody_for_silence_from_before() {
    let mut run = at_volumes(1);
    run.now += jiff::ToSpan::hours(5);
    run.view.since = run.now;
    run.view.source.heard_at = None;
    run.view.destination.heard_at = None;
    run.advance();
    assert_eq!(run.current(), Some(Step::FinalVolumes));
    run.move_volume(0);
    assert_eq!(run.current(), Some(Step::ApplyResources));
}

#[test]
fn a_deleted_run_is_cancelled_and_cleaned_up() {
    let mut run = at_volumes(2);
    run.delete();
    assert!(run.docket().is_empty(), "nothing is asked for any more even before the status says so");
    run.advance();
    assert_eq!(run.docket(), ["west RemoveFromDestination/destination"]);
    run.succeed("destination", Outcome::Removed { objects: 3, kept: 0 });
    assert_eq!(run.docket(), ["east Cleanup/source", "west Cleanup/destination"]);
    run.clean_up();
    assert_eq!(run.phase(), MigrationPhase::RolledBack);
    assert_eq!(run.status().failures[0].reason, "Cancelled");
}

#[test]
fn deleting_a_run_that_is_cleaning_up_lets_it_end() {
    let mut run = at_volumes(1);
    run.fail("send.v0", "PersistentVolumeClaim cms/claim-0");
    run.delete();
    run.advance();
    assert_eq!(run.docket().len(), 2);
    run.clean_up();
    assert_eq!(run.status().failures_total, 1);
}

#[test]
fn the_clean_up_of_a_cluster_that_is_gone_is_skipped_with_a_warning() {
    let mut run = at_volumes(1);
    run.fail("receive.v0", "PersistentVolumeClaim cms/claim-0");
    run.succeed("destination", Outcome::Done);
    run.now += jiff::ToSpan::seconds(301);
    run.advance();
    let status = run.status();
    assert_eq!(status.status, MigrationPhase::Failed);
    assert_eq!(status.warnings[0].reason, "CleanupSkipped");
    assert_eq!(status.warnings[0].object, "Cluster east");
    assert_eq!(run.step(Step::Cleanup).message.as_deref(), Some("not cleaned up: east"));
}

#[test]
fn the_clean_up_of_a_cluster_without_a_record_is_not_waited_for() {
    let mut run = at_volumes(1);
    run.view.source.exists = false;
    run.advance();
    assert_eq!(run.docket(), ["west Cleanup/destination"]);
    assert_eq!(run.status().failures[0].reason, "ClusterGone");
    run.succeed("destination", Outcome::Done);
    assert_eq!(run.phase(), MigrationPhase::Failed);
}

#[test]
fn a_failing_clean_up_is_a_warning() {
    let mut run = world(|spec| {
        spec.include_volumes = false;
        spec.include_resources = false;
    });
    run.advance();
    run.inspect(0);
    run.succeed("destination", Outcome::Done);
    run.succeed("destination", Outcome::Done);
    run.fail("source", "Job cms/isthmus-send");
    run.succeed("destination", Outcome::Done);
    let status = run.status();
    assert_eq!(status.status, MigrationPhase::SucceededWithWarnings);
    assert!(status.failures.is_empty());
    assert_eq!(status.warnings[0].object, "Job cms/isthmus-send");
}

#[test]
fn a_pair_that_goes_away_ends_the_run_at_once() {
    let mut run = at_volumes(1);
    run.view.pair = None;
    assert!(run.docket().is_empty());
    run.advance();
    assert_eq!(run.phase(), MigrationPhase::Failed);
    assert_eq!(run.status().failures[0].reason, "PairGone");
    assert_eq!(run.status().warnings_total, 2, "neither side could be cleaned up");
}

#[test]
fn another_pair_of_the_same_name_is_not_the_runs() {
    let mut run = at_volumes(1);
    run.view.pair.as_mut().unwrap().uid = "pair-2".into();
    run.advance();
    assert_eq!(run.status().failures[0].reason, "PairGone");
}

#[test]
fn a_pair_that_is_not_ready_for_a_while_does_not_end_a_run() {
    let mut run = at_volumes(1);
    run.view.pair.as_mut().unwrap().ready = false;
    run.advance();
    assert_eq!(run.docket().len(), 2);
}

#[test]
fn many_failures_are_counted_and_the_first_are_listed() {
    let mut run = at_volumes(1);
    run.move_volume(0);
    let mut report =
        run.report(run.task("destination"), TaskState::Failed, Progress::default(), Some(applied()));
    report.failures = (0..25).map(|n| finding(&format!("ConfigMap cms/{n}"))).collect();
    report.failures_total = 120;
    let before = run.migration.clone();
    run.take(&report);
    let status = run.status();
    assert_eq!((status.failures.len(), status.failures_total), (MAX_FINDINGS, 120));
    assert_eq!(status.resources.created, 12, "what was applied is told even so");
    let told = notes(&before, &status);
    assert_eq!(told.iter().filter(|note| note.subject.starts_with("Failure")).count(), MAX_FINDINGS);
}

#[test]
fn a_failure_without_a_reason_says_where_to_look() {
    let mut run = at_volumes(1);
    let report = run.report(run.task("send.v0"), TaskState::Failed, Progress::default(), None);
    run.take(&report);
    let failure = &run.status().failures[0];
    assert_eq!(failure.object, "task run-1/FinalVolumes/send.v0");
    assert!(failure.message.contains("isthmus migration logs"));
}

#[test]
fn an_inspection_without_its_findings_is_a_failure() {
    let mut run = world(|_| {});
    run.advance();
    run.survey();
    run.succeed("source", Outcome::Done);
    assert_eq!(run.status().failures[0].reason, "BadReport");
    assert_eq!(run.current(), Some(Step::Cleanup));
}

#[test]
fn a_spoke_cannot_bring_in_volumes_that_were_not_asked_for() {
    for change in [
        |facts: &mut VolumeFacts| facts.namespace = "kube-system".into(),
        |facts: &mut VolumeFacts| facts.uid = "../escape".into(),
        |facts: &mut VolumeFacts| facts.claim = "x".repeat(254),
        |facts: &mut VolumeFacts| facts.last_pass = u32::MAX,
    ] {
        let mut run = world(|_| {});
        run.advance();
        run.survey();
        let mut volume = facts(0, 0, None);
        change(&mut volume);
        run.succeed("source", inspected(vec![volume]));
        assert_eq!(run.status().failures[0].reason, "BadReport");
        assert!(run.status().volumes.is_empty());
    }
}

#[test]
fn more_volumes_than_a_status_holds_are_refused() {
    let mut run = world(|_| {});
    run.advance();
    run.inspect(501);
    assert_eq!(run.status().failures[0].reason, "TooManyVolumes");
}
