//! Schedules under a clock that tests set.

mod holding;
mod keeping;
mod properties;

use isthmus_shared::resources::{MigrationScheduleSpec, MigrationSpec, ScheduleTiming};
use jiff::SignedDuration;

use super::*;

/// A moment of a Monday, UTC.
fn at(time: &str) -> Timestamp {
    format!("2026-11-23T{time}:00Z").parse().unwrap()
}

/// A schedule that was made at midnight and is due at every full hour.
fn hourly() -> MigrationSchedule {
    let options = MigrationSpec { namespaces: vec!["cms".into()], ..MigrationSpec::through("prod") };
    let mut schedule = MigrationSchedule::new("hourly", MigrationScheduleSpec::new("0 * * * *", options));
    schedule.metadata.namespace = Some("isthmus".into());
    schedule.metadata.uid = Some("s".into());
    schedule.metadata.creation_timestamp = Some(Time(at("00:00")));
    schedule.metadata.generation = Some(1);
    schedule
}

fn run(due: Timestamp, phase: MigrationPhase) -> Run {
    Run {
        name: isthmus_shared::resources::run_name("hourly", due),
        uid: format!("uid-{due}"),
        created: due,
        due: Some(due),
        action: MigrationAction::Final,
        phase,
        started_at: Some(Time(due)),
        finished_at: phase.is_terminal().then(|| Time(due + SignedDuration::from_mins(10))),
        deleting: false,
    }
}

fn reason(decision: &Decision) -> &str {
    &decision.status.conditions[0].reason
}

#[test]
fn a_run_is_begun_when_it_is_due_and_not_before() {
    let mut schedule = hourly();
    let before = decide(&schedule, &Seen::default(), at("00:59"));
    assert_eq!((before.begin, reason(&before)), (None, "Scheduled"));
    assert_eq!(before.status.next_at, Some(Time(at("01:00"))));
    assert_eq!(before.status.message.as_deref(), Some("the next run is due at 2026-11-23T01:00:00Z"));
    schedule.status = Some(before.status);
    let due = decide(&schedule, &Seen::default(), at("01:00"));
    assert_eq!(due.begin, Some(at("01:00")));
    assert_eq!(due.status.next_at, Some(Time(at("02:00"))));
}

#[test]
fn what_was_begun_is_told_by_the_runs_themselves() {
    let schedule = hourly();
    let seen = Seen { runs: vec![run(at("01:00"), MigrationPhase::Succeeded)], ..Seen::default() };
    let decision = decide(&schedule, &seen, at("01:30"));
    assert_eq!(decision.begin, None, "the hub died before it wrote down that it had begun it");
    assert_eq!(decision.status.last_scheduled_at, Some(Time(at("01:00"))));
    assert_eq!(decision.status.last_succeeded.unwrap().name, "hourly-29923260");
}

#[test]
fn of_many_that_were_missed_one_is_begun_and_it_is_the_newest() {
    let mut schedule = hourly();
    let decision = decide(&schedule, &Seen::default(), at("13:20"));
    assert_eq!(decision.begin, Some(at("13:00")));
    schedule.status = Some(decision.status);
    let seen = Seen { runs: vec![run(at("13:00"), MigrationPhase::Succeeded)], ..Seen::default() };
    assert_eq!(decide(&schedule, &seen, at("13:21")).begin, None);
}

#[test]
fn a_run_that_comes_too_late_is_passed_over_and_told() {
    let mut schedule = hourly();
    schedule.spec.starting_deadline_seconds = Some(600);
    assert_eq!(decide(&schedule, &Seen::default(), at("01:10")).begin, Some(at("01:00")));
    let late = decide(&schedule, &Seen::default(), at("01:11"));
    assert_eq!((late.begin, reason(&late)), (None, "Scheduled"));
    assert!(late.status.message.unwrap().contains("could not be begun within startingDeadlineSeconds"));
    assert_eq!(late.status.next_at, Some(Time(at("02:00"))));
}

#[test]
fn no_run_is_begun_while_another_has_not_ended() {
    let schedule = hourly();
    for phase in [MigrationPhase::Pending, MigrationPhase::InProgress] {
        let mut running = run(at("01:00"), phase);
        for deleting in [false, true] {
            running.deleting = deleting;
            let seen = Seen { runs: vec![running.clone()], ..Seen::default() };
            let decision = decide(&schedule, &seen, at("02:05"));
            assert_eq!((decision.begin, reason(&decision)), (None, "Running"));
            assert_eq!(decision.status.active, ["hourly-29923260"]);
            assert!(
                decision.status.message.unwrap().contains("due at 2026-11-23T02:00:00Z is begun after it")
            );
        }
    }
    let seen = Seen { runs: vec![run(at("01:00"), MigrationPhase::Failed)], ..Seen::default() };
    assert_eq!(decide(&schedule, &seen, at("02:05")).begin, Some(at("02:00")), "it is begun late");
}

#[test]
fn a_suspended_schedule_begins_nothing_and_catches_up_once_when_it_goes_on() {
    let mut schedule = hourly();
    schedule.spec.suspend = true;
    let decision = decide(&schedule, &Seen::default(), at("05:30"));
    assert_eq!(
        (decision.begin, reason(&decision), decision.status.next_at.clone()),
        (None, "Suspended", None)
    );
    schedule.status = Some(decision.status);
    schedule.spec.suspend = false;
    assert_eq!(decide(&schedule, &Seen::default(), at("05:31")).begin, Some(at("05:00")));
}

#[test]
fn what_cannot_be_carried_out_is_told_and_begins_nothing() {
    let mut schedule = hourly();
    let message = "there is no MigrationPlan shop".to_owned();
    let obstacle = Some(Obstacle { reason: "NoSuchPlan".into(), message: message.clone() });
    let decision = decide(&schedule, &Seen { obstacle, ..Seen::default() }, at("05:30"));
    assert_eq!((decision.begin, reason(&decision)), (None, "NoSuchPlan"));
    assert_eq!(decision.status.message, Some(message));
    schedule.spec.schedule = "often".into();
    let decision = decide(&schedule, &Seen::default(), at("05:30"));
    assert_eq!((decision.begin, reason(&decision)), (None, "BadSchedule"));
    assert!(decision.status.message.unwrap().starts_with("spec.schedule: "));
}

#[test]
fn a_run_waits_until_it_is_known_whether_the_destination_runs() {
    let unknown = Some("cluster west is not heard".to_owned());
    let decision = decide(&hourly(), &Seen { unknown, ..Seen::default() }, at("01:05"));
    assert_eq!((decision.begin, reason(&decision)), (None, "Waiting"));
    assert_eq!(decision.status.conditions[0].status, "Unknown");
    assert!(decision.status.message.unwrap().ends_with("waits: cluster west is not heard"));
}

#[test]
fn a_timing_that_is_changed_counts_from_then_on() {
    let mut schedule = hourly();
    schedule.status = Some(decide(&schedule, &Seen::default(), at("00:30")).status);
    schedule.spec.schedule = "45 * * * *".into();
    let decision = decide(&schedule, &Seen::default(), at("00:50"));
    assert_eq!(decision.begin, None, "00:45 was due by the new timing and nobody has waited for it");
    schedule.status = Some(decision.status);
    assert_eq!(decide(&schedule, &Seen::default(), at("01:46")).begin, Some(at("01:45")));
}

#[test]
fn a_clock_that_goes_back_repeats_no_run() {
    let mut schedule = hourly();
    schedule.status = Some(MigrationScheduleStatus {
        last_scheduled_at: Some(Time(at("05:00"))),
        ..MigrationScheduleStatus::default()
    });
    for time in ["03:59", "04:00", "04:59", "05:00", "05:59"] {
        let decision = decide(&schedule, &Seen::default(), at(time));
        assert_eq!((decision.begin, decision.status.next_at), (None, Some(Time(at("06:00")))), "{time}");
    }
    let told = decide(&schedule, &Seen::default(), at("03:59"));
    assert_eq!(reason(&told), "ClockWentBack");
    assert_eq!(decide(&schedule, &Seen::default(), at("06:00")).begin, Some(at("06:00")));
}

#[test]
fn a_status_is_written_for_news_only() {
    let mut schedule = hourly();
    let hold = Some(Hold { reason: HoldReason::DestinationActive, message: "it runs there".into() });
    for seen in [
        Seen::default(),
        Seen { runs: vec![run(at("01:00"), MigrationPhase::InProgress)], ..Seen::default() },
        Seen { hold, ..Seen::default() },
    ] {
        schedule.status = Some(decide(&schedule, &seen, at("01:30")).status);
        let again = decide(&schedule, &seen, at("01:31"));
        assert_eq!(Some(again.status), schedule.status);
    }
}

#[test]
fn a_schedule_that_is_being_deleted_begins_and_removes_nothing() {
    let mut schedule = hourly();
    schedule.metadata.deletion_timestamp = Some(Time(at("01:00")));
    let runs = (1..9).map(|hour| run(at(&format!("0{hour}:00")), MigrationPhase::Succeeded)).collect();
    let decision = decide(&schedule, &Seen { runs, ..Seen::default() }, at("12:00"));
    assert_eq!((decision.begin, decision.remove.len()), (None, 0));
}

#[test]
fn the_timing_of_a_new_schedule_counts_from_its_creation() {
    let schedule = hourly();
    let status = decide(&schedule, &Seen::default(), at("07:00")).status;
    let since = Time(at("00:00"));
    assert_eq!(status.timing, Some(ScheduleTiming { schedule: "0 * * * *".into(), time_zone: None, since }));
}
