//! Steps that take too long, steps that are begun again, and whom a run waits for.

use isthmus_shared::protocol::{Outcome, Progress, TaskState};
use isthmus_shared::resources::{Active, CANCEL, MigrationPhase, MigrationSpec, Step, StepState};
use jiff::ToSpan;

use super::cutover::{cutover, until};
use super::world::{World, at_volumes, world};
use crate::itinerary::{LONGEST_RETRY_PAUSE_SECONDS, RETRY_PAUSE_SECONDS, Verdict};

/// A cutover that has come to where its source is stopped.
fn at_quiesce(change: impl FnOnce(&mut MigrationSpec)) -> World {
    let mut run = cutover(change);
    until(&mut run, Step::Quiesce);
    run
}

#[test]
fn a_step_that_fails_is_begun_again_after_a_pause_under_an_id_of_its_own() {
    let mut run = at_quiesce(|spec| spec.retries.quiesce = Some(2));
    let first = run.fail("source", "Pod cms/web");
    assert!(run.docket().is_empty(), "it rests");
    let step = run.step(Step::Quiesce);
    assert!(step.message.unwrap().contains("retry 1 of 2 begins in 15s"));
    assert_eq!(run.status().active, Some(Active::Unknown), "some of it may stand still");
    run.pass(RETRY_PAUSE_SECONDS - 1);
    assert!(run.docket().is_empty());
    run.pass(1);
    assert_eq!(run.docket(), ["east Quiesce/source.1"]);
    assert_eq!(run.take(&first), Verdict::Ignored, "what was said of the first attempt");

    run.fail("source.1", "Pod cms/web");
    run.pass(2 * RETRY_PAUSE_SECONDS);
    assert_eq!(run.docket(), ["east Quiesce/source.2"]);
    run.succeed("source.2", Outcome::Quiesced { workloads: 1, stopped_at: None });
    assert_eq!(run.current(), Some(Step::FinalVolumes));
    until(&mut run, Step::Cleanup);
    run.clean_up();
    let status = run.status();
    assert_eq!(status.status, MigrationPhase::SucceededWithWarnings);
    assert!(status.failures.is_empty() && status.failures_total == 0, "{:?}", status.failures);
    assert_eq!(status.warnings.len(), 2);
    assert!(status.warnings[0].message.contains("(begun again, retry 1 of 2)"), "{:?}", status.warnings);
}

#[test]
fn when_its_retries_are_used_up_a_step_has_failed() {
    let mut run = at_quiesce(|spec| spec.retries.quiesce = Some(1));
    run.fail("source", "Pod cms/web");
    run.pass(RETRY_PAUSE_SECONDS);
    run.fail("source.1", "Pod cms/web");
    assert_eq!(run.step(Step::Quiesce).state, StepState::Failed);
    assert_eq!(run.docket(), ["east RestoreSource/source"], "the source goes on");
    assert_eq!(run.status().failures_total, 1);
}

#[test]
fn a_cutover_that_is_cancelled_while_a_step_rests_goes_back() {
    let mut run = at_quiesce(|spec| spec.retries.quiesce = Some(3));
    run.fail("source", "Pod cms/web");
    run.migration.metadata.annotations.get_or_insert_default().insert(CANCEL.into(), "true".into());
    run.advance();
    assert_eq!(run.docket(), ["east RestoreSource/source"], "some of the source may stand still");
}

#[test]
fn pauses_grow_to_a_bound_and_going_back_is_begun_again_too() {
    let mut run = at_quiesce(|spec| spec.retries.go_back = Some(9));
    run.fail("source", "Pod cms/web");
    let mut pause = RETRY_PAUSE_SECONDS;
    for attempt in 1..=9 {
        let item = if attempt == 1 { "source".to_owned() } else { format!("source.{}", attempt - 1) };
        run.fail(&item, "Deployment cms/web");
        run.pass(pause - 1);
        assert!(run.docket().is_empty(), "before attempt {attempt}");
        run.pass(1);
        assert_eq!(run.docket(), [format!("east RestoreSource/source.{attempt}")]);
        pause = (2 * pause).min(LONGEST_RETRY_PAUSE_SECONDS);
    }
    run.succeed("source.9", Outcome::Done);
    assert_eq!(run.status().active, Some(Active::Source));
    assert_eq!(run.status().failures_total, 1, "that of the step which made it go back");
}

#[test]
fn a_step_that_goes_on_talking_ends_by_its_time_limit() {
    let talk = |limit: Option<u32>| {
        let mut run = world(|spec| spec.timeouts.export = limit);
        run.advance();
        run.inspect(0);
        run.succeed("destination", Outcome::Done);
        run.succeed("destination", Outcome::Done);
        assert_eq!(run.current(), Some(Step::ExportResources));
        for minute in 0..20 {
            run.pass(60);
            if run.current() != Some(Step::ExportResources) {
                break;
            }
            let progress = Progress { message: Some(format!("object {minute}")), ..Progress::default() };
            let report = run.running("source", progress);
            run.take(&report);
        }
        run
    };
    let run = talk(Some(600));
    let failure = &run.status().failures[0];
    assert_eq!((failure.object.as_str(), failure.reason.as_str()), ("step ExportResources", "StepTimeout"));
    assert!(
        ["10m00s", "the last was: object 9", "spec.timeouts.export", "spec.retries.export"]
            .iter()
            .all(|part| failure.message.contains(part)),
        "{failure:?}"
    );
    assert_eq!(talk(None).current(), Some(Step::ExportResources), "a day is far away");
}

#[test]
fn a_step_that_took_too_long_may_be_begun_again() {
    let mut run = at_quiesce(|spec| {
        spec.timeouts.quiesce = Some(120);
        spec.retries.quiesce = Some(1);
    });
    run.pass(121);
    assert!(run.docket().is_empty());
    run.pass(RETRY_PAUSE_SECONDS);
    assert_eq!(run.docket(), ["east Quiesce/source.1"]);
    run.pass(120);
    assert_eq!(run.current(), Some(Step::Quiesce), "each attempt has its own time");
    run.pass(1);
    assert_eq!(run.step(Step::Quiesce).state, StepState::Failed);
}

#[test]
fn a_hub_that_has_just_begun_to_lead_hears_first_what_was_done_meanwhile() {
    let mut run = at_quiesce(|spec| spec.timeouts.quiesce = Some(120));
    run.now += 600.seconds();
    run.view.since = run.now;
    run.pass(30);
    assert_eq!(run.current(), Some(Step::Quiesce));
    run.pass(31);
    assert_eq!(run.step(Step::Quiesce).state, StepState::Failed);
}

#[test]
fn volumes_are_begun_again_by_their_spokes_alone() {
    let mut run = at_volumes(1);
    run.migration.spec.retries.volumes = Some(3);
    run.fail("send.v0", "PersistentVolumeClaim cms/claim-0");
    assert_eq!(run.step(Step::FinalVolumes).state, StepState::Failed);
}

#[test]
fn a_run_that_waits_for_a_cluster_that_is_not_heard_says_so() {
    let mut run = at_quiesce(|_| {});
    run.now += 60.seconds();
    run.view.destination.heard_at = Some(run.now);
    run.advance();
    let told = run.step(Step::Quiesce).message.unwrap();
    assert!(told.contains("waits for cluster east, whose spoke was last heard at"), "{told}");
    run.pass(0);
    let report =
        run.running("source", Progress { message: Some("waits for Pods".into()), ..Progress::default() });
    assert_eq!(report.state, TaskState::Running);
    run.take(&report);
    assert_eq!(run.step(Step::Quiesce).message.as_deref(), Some("waits for Pods"));
}
