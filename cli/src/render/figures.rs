//! Sizes, times and rates as people read them.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Bytes with a binary unit: `212.4 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // Tenths in whole numbers: floating point would round 1023.96 KiB to "1024.0 KiB".
    let mut tenths = u128::from(count) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A length of time in its two largest units: `1m12s`.
pub fn length(time: Duration) -> String {
    let seconds = time.as_secs();
    let two = |first: u64, name: &str, second: u64, other: &str| {
        if second == 0 { format!("{first}{name}") } else { format!("{first}{name}{second}{other}") }
    };
    if seconds < MINUTE {
        format!("{seconds}s")
    } else if seconds < HOUR {
        two(seconds / MINUTE, "m", seconds % MINUTE, "s")
    } else if seconds < DAY {
        two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m")
    } else {
        two(seconds / DAY, "d", seconds % DAY / HOUR, "h")
    }
}

/// The time from one moment to another; nothing if it is in the wrong order.
pub fn between(from: &Time, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from.0)).unwrap_or_default()
}

/// How long ago something was, in its largest unit alone once it is hours: for columns.
pub fn age(since: Option<&Time>, now: Timestamp) -> String {
    let Some(since) = since else { return "<unknown>".to_owned() };
    let ago = between(since, now);
    match ago.as_secs() {
        seconds if seconds < 2 * DAY => length(ago),
        seconds => format!("{}d", seconds / DAY),
    }
}

/// How long ago something was, in a sentence.
pub fn ago(since: Option<&Time>, now: Timestamp) -> String {
    since.map_or_else(|| "never".to_owned(), |since| format!("{} ago", length(between(since, now))))
}

/// A moment, to the second.
pub fn moment(time: Option<&Time>) -> String {
    time.map_or_else(String::new, |time| time.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Percent done, never 100 before all of it is.
pub fn percent(done: u64, total: u64) -> u64 {
    if total == 0 {
        0
    } else {
        u64::try_from(u128::from(done.min(total)) * 100 / u128::from(total)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_one_place_and_a_binary_unit() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(1024 * 1024 - 1), "1023.9 KiB");
        assert_eq!(bytes(222_717_542), "212.3 MiB");
        assert_eq!(bytes(u64::MAX), "15.9 EiB");
    }

    #[test]
    fn lengths_of_time_have_two_units_at_most() {
        let said = |seconds| length(Duration::from_secs(seconds));
        assert_eq!(said(0), "0s");
        assert_eq!(said(72), "1m12s");
        assert_eq!(said(120), "2m");
        assert_eq!(said(3 * HOUR + 61), "3h1m");
        assert_eq!(said(50 * HOUR), "2d2h");
    }

    #[test]
    fn hundred_percent_is_said_only_when_all_is_done() {
        assert_eq!(percent(999, 1000), 99);
        assert_eq!(percent(1000, 1000), 100);
        assert_eq!(percent(0, 0), 0);
        assert_eq!(percent(u64::MAX - 1, u64::MAX), 99);
    }
}
