//! How far a migration is, how fast it goes, and how long it may take: pure.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use isthmus_shared::resources::{MigrationPhase, MigrationStatus, VolumePhase, VolumeStatus};

use crate::render::figures;
use crate::render::word;

/// The span over which a rate is taken.
const WINDOW: Duration = Duration::from_secs(15);
/// A rate over less than this means nothing.
const SHORTEST: Duration = Duration::from_secs(1);
/// Times left beyond this are not said: they are guesses.
const LONGEST_LEFT: Duration = Duration::from_hours(99);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of a volume.
    Bytes,
    /// Objects.
    Objects,
}

/// How one volume, or all objects together, stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it is: `cms/wordpress`, `objects`.
    pub label: String,
    /// How far.
    pub phase: VolumePhase,
    /// In what `done` and `total` are.
    pub unit: Unit,
    /// How much is done.
    pub done: u64,
    /// Of how much, as far as known.
    pub total: u64,
    /// How much a second.
    pub rate: u64,
    /// How long it may take.
    pub left: Option<Duration>,
    /// What it waits for, or why it failed.
    pub message: Option<String>,
}

impl Row {
    /// Percent done; 100 as soon as it has succeeded, of nothing too.
    pub fn percent(&self) -> u64 {
        if self.phase == VolumePhase::Succeeded { 100 } else { figures::percent(self.done, self.total) }
    }

    /// The figures in words: `34% 72.3 MiB of 212.4 MiB, 30.1 MiB/s, 5s left`.
    pub fn figures(&self) -> String {
        let amount = |count| match self.unit {
            Unit::Bytes => figures::bytes(count),
            Unit::Objects => count.to_string(),
        };
        let mut text = match self.total {
            0 => amount(self.done),
            total => format!("{}% {} of {}", self.percent(), amount(self.done), amount(total)),
        };
        if self.phase == VolumePhase::InProgress && self.rate > 0 {
            text = format!("{text}, {}/s", amount(self.rate));
        }
        if let Some(left) = self.left {
            text = format!("{text}, {} left", figures::length(left));
        }
        if let Some(message) = &self.message {
            text = format!("{text} ({message})");
        }
        text
    }
}

/// The whole picture at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the run as a whole is doing: `FinalVolumes`, `Pending: …`.
    pub headline: String,
    /// Every volume, in the order of the status.
    pub volumes: Vec<Row>,
    /// The objects, once any are known.
    pub objects: Option<Row>,
}

/// Keeps what is needed for rates.
#[derive(Default)]
pub struct Meter {
    samples: HashMap<String, VecDeque<(Duration, u64)>>,
}

impl Meter {
    /// The picture of a status at a moment (counted from any start).
    pub fn frame(&mut self, status: &MigrationStatus, now: Duration) -> Frame {
        let volumes = status.volumes.iter().map(|volume| self.volume(volume, now)).collect();
        let objects = (status.resources.total > 0).then(|| self.objects(status, now));
        Frame { headline: headline(status), volumes, objects }
    }

    fn volume(&mut self, volume: &VolumeStatus, now: Duration) -> Row {
        let label = format!("{}/{}", volume.namespace, volume.claim);
        let row = Row {
            phase: volume.phase,
            unit: Unit::Bytes,
            done: volume.bytes_done,
            total: volume.bytes_total,
            rate: 0,
            left: None,
            message: volume.message.clone(),
            label,
        };
        self.rated(row, &volume.uid, now)
    }

    fn objects(&mut self, status: &MigrationStatus, now: Duration) -> Row {
        let counts = &status.resources;
        let phase = match (counts.done, counts.failed) {
            (done, _) if done >= counts.total => VolumePhase::Succeeded,
            (done, failed) if done + failed >= counts.total => VolumePhase::Failed,
            (0, 0) => VolumePhase::Pending,
            _ => VolumePhase::InProgress,
        };
        let message = (counts.failed > 0).then(|| format!("{} failed", counts.failed));
        let row = Row {
            label: "objects".to_owned(),
            phase,
            unit: Unit::Objects,
            done: counts.done,
            total: counts.total,
            rate: 0,
            left: None,
            message,
        };
        self.rated(row, "objects", now)
    }

    fn rated(&mut self, mut row: Row, key: &str, now: Duration) -> Row {
        let samples = self.samples.entry(key.to_owned()).or_default();
        // Time spent waiting is not time spent moving, and a pass that begins anew counts anew.
        if row.phase == VolumePhase::Pending || samples.back().is_some_and(|(_, done)| *done > row.done) {
            samples.clear();
        }
        samples.push_back((now, row.done));
        // The oldest sample kept is the newest that is older than the window, so that a rate
        // exists as long as anything has moved within it.
        while samples.get(1).is_some_and(|(time, _)| now.saturating_sub(*time) >= WINDOW) {
            samples.pop_front();
        }
        if row.phase != VolumePhase::InProgress {
            return row;
        }
        if let Some((since, before)) = samples.front()
            && now.saturating_sub(*since) >= SHORTEST
        {
            let moved = u128::from(row.done - before);
            let millis = now.saturating_sub(*since).as_millis().max(1);
            row.rate = u64::try_from(moved * 1000 / millis).unwrap_or(u64::MAX);
            let remaining = row.total.saturating_sub(row.done);
            row.left = remaining
                .checked_div(row.rate)
                .map(Duration::from_secs)
                .filter(|left| remaining > 0 && *left <= LONGEST_LEFT);
        }
        row
    }
}

fn headline(status: &MigrationStatus) -> String {
    let state = match (status.status, status.step) {
        (MigrationPhase::InProgress, Some(step)) => word(step),
        (phase, _) => word(phase),
    };
    match &status.message {
        Some(message) if !message.is_empty() => format!("{state}: {message}"),
        _ => state,
    }
}

#[cfg(test)]
pub mod tests {
    use isthmus_shared::resources::Step;

    use super::*;

    pub fn volume(claim: &str, phase: VolumePhase, done: u64, total: u64) -> VolumeStatus {
        VolumeStatus {
            namespace: "cms".to_owned(),
            claim: claim.to_owned(),
            uid: claim.to_owned(),
            phase,
            bytes_done: done,
            bytes_total: total,
            ..VolumeStatus::default()
        }
    }

    pub fn running(volumes: Vec<VolumeStatus>) -> MigrationStatus {
        MigrationStatus {
            status: MigrationPhase::InProgress,
            step: Some(Step::FinalVolumes),
            volumes,
            ..MigrationStatus::default()
        }
    }

    const MIB: u64 = 1 << 20;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn first(meter: &mut Meter, done: u64, now: Duration) -> Row {
        let status = running(vec![volume("data", VolumePhase::InProgress, done, 100 * MIB)]);
        meter.frame(&status, now).volumes.remove(0)
    }

    #[test]
    fn a_rate_and_the_time_left_come_from_the_last_seconds() {
        let mut meter = Meter::default();
        assert_eq!(first(&mut meter, 0, at(0)).rate, 0);
        let row = first(&mut meter, 20 * MIB, at(2));
        assert_eq!((row.rate, row.left), (10 * MIB, Some(at(8))));
        assert_eq!(row.figures(), "20% 20.0 MiB of 100.0 MiB, 10.0 MiB/s, 8s left");
    }

    #[test]
    fn a_volume_that_stands_still_has_no_time_left() {
        let mut meter = Meter::default();
        first(&mut meter, 50 * MIB, at(0));
        for second in 1..40 {
            first(&mut meter, 50 * MIB, at(second));
        }
        let row = first(&mut meter, 50 * MIB, at(40));
        assert_eq!((row.rate, row.left), (0, None));
    }

    #[test]
    fn a_pass_that_begins_anew_counts_anew() {
        let mut meter = Meter::default();
        first(&mut meter, 50 * MIB, at(0));
        assert_eq!(first(&mut meter, 10 * MIB, at(2)).rate, 0);
        assert_eq!(first(&mut meter, 12 * MIB, at(4)).rate, MIB);
    }

    #[test]
    fn an_empty_volume_that_has_arrived_is_complete() {
        let mut meter = Meter::default();
        let status = running(vec![volume("empty", VolumePhase::Succeeded, 0, 0)]);
        let row = meter.frame(&status, at(0)).volumes.remove(0);
        assert_eq!((row.percent(), row.figures().as_str()), (100, "0 B"));
    }

    #[test]
    fn a_run_that_waits_says_for_what() {
        let status = MigrationStatus {
            message: Some("pair prod is not Ready".to_owned()),
            ..MigrationStatus::default()
        };
        assert_eq!(Meter::default().frame(&status, at(0)).headline, "Pending: pair prod is not Ready");
    }
}
