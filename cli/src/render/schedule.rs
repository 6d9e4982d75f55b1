//! `schedule list` and `schedule describe`.

use isthmus_shared::resources::{
    Migration, MigrationSchedule, MigrationScheduleStatus, MigrationSpec, MigrationStatus, due_time_of,
};
use jiff::Timestamp;
use kube::ResourceExt;

use super::sheet::{self, Sheet};
use super::{condition, figures, migration, word};

/// The most runs that a description shows.
const MAX_RUNS: usize = 10;

/// Schedules.
pub fn schedules(items: &[MigrationSchedule], now: Timestamp) -> String {
    let rows: Vec<_> = items
        .iter()
        .map(|schedule| {
            let status = schedule.status.clone().unwrap_or_default();
            let succeeded = status.last_succeeded.as_ref().and_then(|run| run.finished_at.as_ref());
            vec![
                schedule.name_any(),
                schedule.spec.schedule.clone(),
                zone(schedule).to_owned(),
                state(&status),
                status.active.join(","),
                figures::ago(succeeded, now),
                status.next_at.as_ref().map(|at| until(at.0, now)).unwrap_or_default(),
                figures::age(schedule.creation_timestamp().as_ref(), now),
            ]
        })
        .collect();
    let heads = ["NAME", "SCHEDULE", "TIME-ZONE", "STATE", "ACTIVE", "LAST-SUCCESS", "NEXT", "AGE"];
    sheet::table(&heads, &rows)
}

/// When runs are due, what runs, the last runs, and why none does; by `options`, those of a plan among
/// them, what a failback will leave out.
pub fn describe_schedule(
    schedule: &MigrationSchedule,
    options: Option<&MigrationSpec>,
    runs: &[Migration],
    now: Timestamp,
) -> String {
    let spec = &schedule.spec;
    let status = schedule.status.clone().unwrap_or_default();
    let mut sheet = Sheet::default();
    super::identity_lines(&mut sheet, schedule);
    sheet.line("Schedule", &format!("{} ({})", spec.schedule, zone(schedule)));
    let deadline = spec.starting_deadline_seconds.map(|seconds| {
        let time = figures::length(std::time::Duration::from_secs(seconds.into()));
        format!("a run that is later than {time} is left out")
    });
    sheet.line("Starting deadline", &deadline.unwrap_or_default());
    sheet.line("Suspended", if spec.suspend { "yes" } else { "no" });
    sheet.line("Auto suspend", if spec.auto_suspend { "yes" } else { "no" });
    sheet.line("State", &state(&status));
    sheet.line("Message", status.message.as_deref().unwrap_or_default());
    if let Some(held) = &status.held {
        sheet.line("Held since", &figures::moment(Some(&held.since)));
    }
    if let Some(next) = &status.next_at {
        sheet.line("Next run", &format!("{} ({})", on_the_clock(schedule, next.0), until(next.0, now)));
    }
    sheet.line("Under way", &status.active.join(", "));
    sheet.line("Last success", &last_success(&status, now));
    let kept = format!(
        "{} that succeeded, {} that failed",
        spec.successful_history_limit, spec.failed_history_limit
    );
    sheet.line("Runs kept", &kept);
    sheet.line("Action", &word(spec.template.spec.action));
    match &spec.template.spec.plan {
        Some(plan) => sheet.line("Plan", plan),
        None => migration::option_lines(&mut sheet, &spec.template.spec),
    }
    for problem in options.map(|options| options.turned_round(&[]).left_out).unwrap_or_default() {
        sheet.line("Not failed back", &format!("{}: {}", problem.field, problem.message));
    }
    let rows: Vec<_> = runs.iter().take(MAX_RUNS).map(|run| run_row(schedule, run, now)).collect();
    let title = if runs.len() > MAX_RUNS {
        format!("Runs (newest {MAX_RUNS} of {})", runs.len())
    } else {
        "Runs".to_owned()
    };
    sheet.rows(&title, &["NAME", "DUE", "STATUS", "BEGAN", "TOOK", "BYTES", "MESSAGE"], &rows);
    if runs.is_empty() {
        sheet.instead("Runs", "none yet");
    }
    sheet.finish()
}

/// What follows the creation of a schedule.
pub fn first_run(schedule: &MigrationSchedule, now: Timestamp) -> String {
    let name = schedule.name_any();
    if schedule.spec.suspend {
        return format!("It is suspended until `isthmus schedule resume {name}`.\n");
    }
    let next = schedule.spec.cadence().ok().and_then(|cadence| cadence.next_after(now));
    let next = next.map_or_else(String::new, |next| {
        format!("Its first run is due at {} ({}). ", on_the_clock(schedule, next), until(next, now))
    });
    format!("{next}See `isthmus schedule describe {name}`.\n")
}

fn run_row(schedule: &MigrationSchedule, run: &Migration, now: Timestamp) -> Vec<String> {
    let status: MigrationStatus = run.status.clone().unwrap_or_default();
    let due = due_time_of(&schedule.name_any(), &run.name_any());
    let began = status.started_at.as_ref().map(|_| figures::ago(status.started_at.as_ref(), now));
    vec![
        run.name_any(),
        due.map(|due| on_the_clock(schedule, due)).unwrap_or_default(),
        word(status.status),
        began.unwrap_or_default(),
        status.elapsed.unwrap_or_default(),
        status.bytes_summary.unwrap_or_default(),
        status.message.unwrap_or_default(),
    ]
}

/// What a schedule is at, in one word.
fn state(status: &MigrationScheduleStatus) -> String {
    condition(&status.conditions, "Ready").map_or_else(|| "Unknown".to_owned(), |ready| ready.reason.clone())
}

fn zone(schedule: &MigrationSchedule) -> &str {
    schedule.spec.time_zone.as_deref().unwrap_or("UTC")
}

fn last_success(status: &MigrationScheduleStatus, now: Timestamp) -> String {
    let Some(run) = &status.last_succeeded else { return "none".to_owned() };
    let began = figures::ago(run.started_at.as_ref(), now);
    format!("{} ({}; what it brought is from {began})", run.name, figures::ago(run.finished_at.as_ref(), now))
}

/// A moment as the clock of the schedule's zone shows it.
fn on_the_clock(schedule: &MigrationSchedule, at: Timestamp) -> String {
    match schedule.spec.cadence() {
        Ok(cadence) => at.to_zoned(cadence.zone().clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        Err(_) => at.to_string(),
    }
}

/// How long it is until a moment.
fn until(at: Timestamp, now: Timestamp) -> String {
    match std::time::Duration::try_from(at.duration_since(now)) {
        Ok(left) => format!("in {}", figures::length(left)),
        Err(_) => "now".to_owned(),
    }
}
