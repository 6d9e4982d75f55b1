//! Which runs are kept.

use super::*;

fn removed(schedule: &MigrationSchedule, runs: &[Run], hold: Option<HoldReason>) -> Vec<String> {
    let hold = hold.map(|reason| Hold { reason, message: String::new() });
    let seen = Seen { runs: runs.to_vec(), hold, ..Seen::default() };
    decide(schedule, &seen, at("12:00")).remove.into_iter().map(|removal| removal.uid).collect()
}

fn runs(phases: &[MigrationPhase]) -> Vec<Run> {
    phases.iter().enumerate().map(|(n, phase)| run(at(&format!("0{n}:00")), *phase)).collect()
}

const GOOD: MigrationPhase = MigrationPhase::Succeeded;
const BAD: MigrationPhase = MigrationPhase::Failed;

fn uid(hour: usize) -> String {
    format!("uid-{}", at(&format!("0{hour}:00")))
}

#[test]
fn so_many_that_succeeded_and_so_many_that_failed_are_kept() {
    let warned = MigrationPhase::SucceededWithWarnings;
    let all = runs(&[GOOD, BAD, warned, GOOD, MigrationPhase::RolledBack, GOOD, BAD]);
    assert_eq!(removed(&hourly(), &all, None), [uid(0), uid(1), uid(4)]);
}

#[test]
fn what_is_under_way_and_the_newest_that_succeeded_are_never_removed() {
    let mut schedule = hourly();
    schedule.spec.successful_history_limit = 0;
    schedule.spec.failed_history_limit = 0;
    let all = runs(&[GOOD, GOOD, BAD, MigrationPhase::InProgress, MigrationPhase::Pending]);
    assert_eq!(removed(&schedule, &all, None), [uid(0), uid(2)]);
}

#[test]
fn the_newest_run_that_took_the_objects_along_stays_behind_newer_stages() {
    let mut schedule = hourly();
    schedule.spec.successful_history_limit = 1;
    let mut all = runs(&[GOOD, GOOD, GOOD, GOOD]);
    for run in &mut all[2..] {
        run.action = MigrationAction::Stage;
    }
    assert_eq!(removed(&schedule, &all, None), [uid(0), uid(2)]);
}

#[test]
fn nothing_is_removed_while_a_failover_may_be_reading_it() {
    let all = runs(&[GOOD; 6]);
    assert!(removed(&hourly(), &all, Some(HoldReason::FailedOver)).is_empty());
    assert_eq!(removed(&hourly(), &all, Some(HoldReason::DestinationActive)).len(), 3);
}

#[test]
fn a_run_that_is_going_already_is_not_counted_and_not_the_last_that_succeeded() {
    let mut all = runs(&[GOOD, GOOD, GOOD, GOOD]);
    all[3].deleting = true;
    assert!(removed(&hourly(), &all, None).is_empty());
    let decision = decide(&hourly(), &Seen { runs: all, ..Seen::default() }, at("12:00"));
    assert_eq!(decision.status.last_succeeded.unwrap().uid, uid(2));
}
