//! The parts of a status that people read in columns: sums, summaries, the condition.

use isthmus_shared::resources::{MigrationPhase, MigrationStatus, StepState, VolumePhase};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::findings::cut;

/// The longest message of a condition (the API's own limit is 32768 bytes).
const MAX_CONDITION: usize = 2048;

/// Brings everything that is derived from the rest of the status in line with it.
pub(super) fn refresh(status: &mut MigrationStatus, generation: Option<i64>, now: Timestamp) {
    status.bytes_done = status.volumes.iter().map(|volume| volume.bytes_done).sum();
    status.bytes_total = status.volumes.iter().map(|volume| volume.bytes_total).sum();
    status.step = current_or_last_step(status);
    if !status.pipeline.is_empty() {
        let arrived = status.volumes.iter().filter(|v| v.phase == VolumePhase::Succeeded).count();
        status.volumes_summary = Some(format!("{arrived}/{}", status.volumes.len()));
        status.resources_summary = Some(format!("{}/{}", status.resources.done, status.resources.total));
        status.bytes_summary = Some(human_bytes(status.bytes_done));
    }
    set_condition(status, generation, now);
}

/// Puts in what changes with time alone. It is called when a status is written for another
/// reason: a clock that ticks is no reason to write.
pub fn stamp(status: &mut MigrationStatus, fence: i64, now: Timestamp) {
    status.fence = fence;
    status.elapsed = status.started_at.as_ref().map(|started| {
        let end = status.finished_at.as_ref().map_or(now, |finished| finished.0);
        elapsed(end.as_second().saturating_sub(started.0.as_second()))
    });
}

fn current_or_last_step(status: &MigrationStatus) -> Option<isthmus_shared::resources::Step> {
    let under_way = |state| matches!(state, StepState::Pending | StepState::InProgress);
    let failed = status.pipeline.iter().find(|step| step.state == StepState::Failed);
    let current = status.pipeline.iter().find(|step| under_way(step.state));
    // A failed run shows where it failed, not that it was cleaned up after.
    let ended_early = matches!(status.status, MigrationPhase::Failed | MigrationPhase::RolledBack);
    let shown = if ended_early { failed } else { current };
    shown.or(status.pipeline.last()).map(|step| step.step)
}

fn set_condition(status: &mut MigrationStatus, generation: Option<i64>, now: Timestamp) {
    let (value, reason) = match status.status {
        MigrationPhase::Pending => ("Unknown", "Pending"),
        MigrationPhase::InProgress => ("Unknown", "InProgress"),
        MigrationPhase::Succeeded => ("True", "Succeeded"),
        MigrationPhase::SucceededWithWarnings => ("True", "SucceededWithWarnings"),
        MigrationPhase::Failed => ("False", "Failed"),
        MigrationPhase::RolledBack => ("False", "RolledBack"),
    };
    let message = cut(status.message.as_deref().unwrap_or_default(), MAX_CONDITION);
    let previous = status.conditions.iter().find(|c| c.type_ == "Succeeded");
    let since =
        previous.filter(|c| c.status == value).map_or_else(|| now.into(), |c| c.last_transition_time.clone());
    status.conditions = vec![Condition {
        type_: "Succeeded".to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: since,
        observed_generation: generation,
    }];
}

/// Bytes for a person: `212.4 MiB`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Tenths of the unit, rounded to the nearest, in whole numbers: 2^64 tenths do not overflow
    // in 128 bits.
    let mut unit = 0;
    let mut size = u128::from(bytes) * 10;
    while size + 5 >= 10240 && unit + 1 < UNITS.len() {
        size = (size + 512) / 1024;
        unit += 1;
    }
    format!("{}.{} {}", size / 10, size % 10, UNITS[unit])
}

/// A length of time for a person: `45s`, `1m12s`, `2h03m`.
pub fn elapsed(seconds: i64) -> String {
    let seconds = seconds.max(0);
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_binary_units() {
        assert_eq!(human_bytes(0), "0 B");
        assert_eq!(human_bytes(1023), "1023 B");
        assert_eq!(human_bytes(1024), "1.0 KiB");
        assert_eq!(human_bytes(222_717_542), "212.4 MiB");
        assert_eq!(human_bytes(u64::MAX), "16384.0 PiB");
    }

    #[test]
    fn times_are_told_shortly() {
        assert_eq!(elapsed(-3), "0s");
        assert_eq!(elapsed(72), "1m12s");
        assert_eq!(elapsed(7380), "2h03m");
    }
}
