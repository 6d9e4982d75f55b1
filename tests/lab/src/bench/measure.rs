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
pub fn own_usage() -> anyhow::Result<Usage> {
    usage_of(std::process::id())
}

/// What a process used so far.
pub fn usage_of(process: u32) -> anyhow::Result<Usage> {
    Ok(Usage { cpu_s: ticks(process, 14)?, peak_mib: peak_mib_of(process)? })
}

/// CPU time of the children that this process has waited for, and of theirs, in seconds.
pub fn children_cpu_s() -> anyhow::Result<f64> {
    ticks(std::process::id(), 16)
}

/// The most memory that a process held at any time, in MiB.
#[allow(clippy::cast_precision_loss)]
pub fn peak_mib_of(process: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let peak: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .with_context(|| format!("no VmHWM in {path}"))?
        .parse()?;
    Ok(peak as f64 / 1024.0)
}

/// Seconds of user and system time: two fields of a process' `stat`, the first `from`.
#[allow(clippy::cast_precision_loss)]
fn ticks(process: u32, from: usize) -> anyhow::Result<f64> {
    let path = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    // The name, in parentheses, may hold anything; the fields behind it count from 3.
    let fields: Vec<&str> =
        stat.rsplit_once(") ").with_context(|| format!("an odd {path}"))?.1.split(' ').collect();
    let field = |number: usize| -> anyhow::Result<u64> {
        Ok(fields.get(number - 3).with_context(|| format!("a short {path}"))?.parse()?)
    };
    Ok((field(from)? + field(from + 1)?) as f64 / rustix::param::clock_ticks_per_second() as f64)
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
