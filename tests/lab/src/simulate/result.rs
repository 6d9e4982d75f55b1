//! What is printed.

use std::fmt;
use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;

use super::SimulateArgs;
use crate::bench::measure::Usage;

/// What was measured.
pub struct Measured {
    /// Of the hub, from its start.
    pub usage: Usage,
    /// The hub's CPU time while it was measured.
    pub window_cpu_s: f64,
    /// How long it was measured.
    pub window_s: f64,
    /// The fewest migrations that were under way meanwhile.
    pub in_flight: usize,
    /// How many tasks were ended meanwhile.
    pub ended: usize,
    /// The times from report to next task.
    pub latencies: Vec<Duration>,
}

/// The result, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Row {
    /// CPU seconds of the hub from its start to the end of the measurement.
    cpu_s: f64,
    /// The most memory of the hub at any time, in MiB.
    peak_mib: f64,
    /// Half of the times from a report to the next task are at most this, in milliseconds.
    p50_ms: f64,
    /// 99% of them.
    p99_ms: f64,
    /// The longest.
    max_ms: f64,
    /// How many there were.
    samples: usize,
    /// Spokes.
    spokes: u32,
    /// Migrations that were asked for.
    migrations: u32,
    /// The fewest that were under way at any time of the measurement.
    in_flight: usize,
    /// Tasks that ended per second.
    tasks_per_s: f64,
    /// CPU seconds of the hub during the measurement.
    window_cpu_s: f64,
    /// How long that was, seconds.
    window_s: f64,
}

impl Row {
    #[allow(clippy::cast_precision_loss)]
    pub fn new(args: &SimulateArgs, measured: &Measured) -> anyhow::Result<Self> {
        ensure!(
            !measured.latencies.is_empty(),
            "nothing was measured: give more --seconds or a higher --rate"
        );
        let mut sorted = measured.latencies.clone();
        sorted.sort();
        let millis = |part: f64| rounded(percentile(&sorted, part).as_secs_f64() * 1000.0);
        Ok(Self {
            cpu_s: rounded(measured.usage.cpu_s),
            peak_mib: rounded(measured.usage.peak_mib),
            p50_ms: millis(0.5),
            p99_ms: millis(0.99),
            max_ms: millis(1.0),
            samples: sorted.len(),
            spokes: args.spokes,
            migrations: args.migrations,
            in_flight: measured.in_flight,
            tasks_per_s: rounded(measured.ended as f64 / measured.window_s),
            window_cpu_s: rounded(measured.window_cpu_s),
            window_s: rounded(measured.window_s),
        })
    }
}

/// The smallest of sorted values that so large a part of them does not exceed (nearest rank).
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn percentile(sorted: &[Duration], part: f64) -> Duration {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).or(sorted.last()).copied().unwrap_or_default()
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// CPU time and memory in words.
pub fn used(usage: &Usage) -> String {
    format!("{:.1} s of CPU and at most {:.0} MiB", usage.cpu_s, usage.peak_mib)
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} spokes; {} migrations under way ({} at the least); {:.0} tasks ended per second for {:.0} s",
            self.spokes, self.migrations, self.in_flight, self.tasks_per_s, self.window_s
        )?;
        writeln!(
            f,
            "The hub: {:.1} s of CPU in all, {:.1} s of it while it was measured; at most {:.0} MiB",
            self.cpu_s, self.window_cpu_s, self.peak_mib
        )?;
        write!(
            f,
            "From report to next task: half within {:.1} ms, 99% within {:.1} ms, all {} within {:.1} ms",
            self.p50_ms, self.p99_ms, self.samples, self.max_ms
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let sorted: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        let millis = |part| percentile(&sorted, part).as_millis();
        assert_eq!((millis(0.5), millis(0.99), millis(1.0)), (100, 198, 200));
        assert_eq!(percentile(&sorted[..1], 0.99), Duration::from_millis(1));
    }
}
