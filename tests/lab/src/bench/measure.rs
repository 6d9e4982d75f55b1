//! What a process used, as the kernel counts it.

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// CPU time and memory of a process.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Usage {
    /// User and system time of all its threads, in seconds.
    pub cpu_s: f64,
    /// The most memory that was resident at any time, in MiB.
    pub peak_mib: f64,
}

/// What this process used so far.
#[allow(clippy::cast_precision_loss)]
pub fn own_usage() -> anyhow::Result<Usage> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("reading /proc/self/stat")?;
    // The name, in parentheses, may hold anything; user and system time are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(") ").context("an odd /proc/self/stat")?.1.split(' ').collect();
    let ticks = |field: usize| -> anyhow::Result<u64> {
        Ok(fields.get(field - 3).context("a short /proc/self/stat")?.parse()?)
    };
    let cpu_s = (ticks(14)? + ticks(15)?) as f64 / rustix::param::clock_ticks_per_second() as f64;
    let status = std::fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let peak: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .context("no VmHWM in /proc/self/status")?
        .parse()?;
    Ok(Usage { cpu_s, peak_mib: peak as f64 / 1024.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_what_it_used() {
        let usage = own_usage().unwrap();
        assert!(usage.peak_mib > 1.0, "{usage:?}");
    }
}
