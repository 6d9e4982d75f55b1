//! Progress as lines of text, for logs and pipes: pure.
//!
//! A line appears only when something has changed, and for one volume at most once a second. What
//! is held back for that reason comes with a later call, or with [`Lines::rest`].

use std::collections::HashMap;
use std::time::Duration;

use super::meter::{Frame, Row};
use crate::render::{clean, figures, word};

/// The shortest time between two lines of one volume.
const PACE: Duration = Duration::from_secs(1);

/// Remembers what was said last.
#[derive(Default)]
pub struct Lines {
    headline: String,
    said: HashMap<String, (Duration, String)>,
}

impl Lines {
    /// What is new in a frame.
    pub fn new_in(&mut self, frame: &Frame, now: Duration) -> Vec<String> {
        self.changed(frame, now, PACE)
    }

    /// What is new and was held back.
    pub fn rest(&mut self, frame: &Frame, now: Duration) -> Vec<String> {
        self.changed(frame, now, Duration::ZERO)
    }

    fn changed(&mut self, frame: &Frame, now: Duration, pace: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        let time = figures::length(now);
        if frame.headline != self.headline {
            lines.push(format!("[{time}] {}", clean(news(&frame.headline, &self.headline))));
            self.headline.clone_from(&frame.headline);
        }
        for row in frame.volumes.iter().chain(&frame.objects) {
            let state = state(row);
            let due = match self.said.get(&row.label) {
                Some((when, said)) => *said != state && now.saturating_sub(*when) >= pace,
                None => row.done > 0 || row.message.is_some(),
            };
            if due {
                lines.push(format!(
                    "[{time}] {}: {} {}",
                    clean(&row.label),
                    word(row.phase),
                    clean(&row.figures())
                ));
                self.said.insert(row.label.clone(), (now, state));
            }
        }
        lines
    }
}

/// What of a headline was not said by the last one: why a run goes back is told once, not at each of its
/// steps back.
fn news<'a>(headline: &'a str, last: &str) -> &'a str {
    match (headline.split_once(": "), last.split_once(": ")) {
        (Some((step, message)), Some((_, said))) if message == said => step,
        _ => headline,
    }
}

/// What must differ for a line to be worth it: not the rate alone, which changes by waiting.
fn state(row: &Row) -> String {
    format!("{:?} {} {} {:?}", row.phase, row.done, row.total, row.message)
}

#[cfg(test)]
mod tests {
    use isthmus_shared::resources::VolumePhase;

    use super::super::meter::Meter;
    use super::super::meter::tests::{running, volume};
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_line_appears_on_change_and_at_most_once_a_second() {
        let (mut meter, mut lines) = (Meter::default(), Lines::default());
        let mut say = |done: u64, millis| {
            let status = running(vec![volume("data", VolumePhase::InProgress, done << 20, 100 << 20)]);
            lines.new_in(&meter.frame(&status, at(millis)), at(millis)).join("\n")
        };
        assert_eq!(say(0, 0), "[0s] FinalVolumes");
        assert_eq!(say(10, 500), "[0s] cms/data: InProgress 10% 10.0 MiB of 100.0 MiB");
        assert_eq!(say(20, 1000), "", "too soon");
        assert_eq!(say(20, 1500), "[1s] cms/data: InProgress 20% 20.0 MiB of 100.0 MiB, 13.3 MiB/s, 6s left");
        assert_eq!(say(20, 9000), "", "nothing new");
    }

    #[test]
    fn what_was_held_back_is_said_at_the_end() {
        let (mut meter, mut lines) = (Meter::default(), Lines::default());
        let mut frame = |phase, done| meter.frame(&running(vec![volume("data", phase, done, 10)]), at(0));
        let (begun, done) = (frame(VolumePhase::InProgress, 5), frame(VolumePhase::Succeeded, 10));
        lines.new_in(&begun, at(0));
        assert!(lines.new_in(&done, at(10)).is_empty());
        assert_eq!(lines.rest(&done, at(10)), ["[0s] cms/data: Succeeded 100% 10 B of 10 B"]);
        assert!(lines.rest(&done, at(10)).is_empty());
    }

    #[test]
    fn a_message_that_stays_is_said_once() {
        let mut lines = Lines::default();
        let mut say = |headline: &str| {
            let frame = Frame { headline: headline.to_owned(), volumes: Vec::new(), objects: None };
            lines.new_in(&frame, at(0)).join("\n")
        };
        assert_eq!(say("StopDestination: the disk is full"), "[0s] StopDestination: the disk is full");
        assert_eq!(say("RestoreSource: the disk is full"), "[0s] RestoreSource");
        assert_eq!(
            say("RolledBack: the disk is full. East runs"),
            "[0s] RolledBack: the disk is full. East runs"
        );
        assert_eq!(say("RolledBack"), "[0s] RolledBack");
    }

    #[test]
    fn every_volume_has_its_own_pace() {
        let (mut meter, mut lines) = (Meter::default(), Lines::default());
        let status = running(vec![
            volume("a", VolumePhase::InProgress, 1, 10),
            volume("b", VolumePhase::InProgress, 2, 10),
        ]);
        assert_eq!(lines.new_in(&meter.frame(&status, at(0)), at(0)).len(), 3);
    }
}
