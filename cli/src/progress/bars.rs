//! Progress as bars on a terminal. The number of lines is bounded, however many volumes there are.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use isthmus_shared::resources::VolumePhase;

use super::meter::{Frame, Row};
use crate::render::clean;

/// The most volumes that have a bar at the same time.
const MAX_BARS: usize = 8;
/// The resolution of a bar.
const FULL: u64 = 100;
/// The longest label, characters.
const MAX_LABEL: usize = 32;

/// Bars that are on the terminal.
pub struct Bars {
    all: MultiProgress,
    headline: ProgressBar,
    volumes: Vec<ProgressBar>,
    others: Option<ProgressBar>,
    objects: Option<ProgressBar>,
}

impl Bars {
    /// Puts up the first line.
    pub fn new() -> Self {
        let all = MultiProgress::new();
        let headline = all.add(ProgressBar::new(FULL).with_style(style("{wide_msg}")));
        Self { all, headline, volumes: Vec::new(), others: None, objects: None }
    }

    /// Draws a frame.
    pub fn draw(&mut self, frame: &Frame) {
        self.headline.set_message(clean(&frame.headline));
        let chosen = choose(&frame.volumes);
        let label = widest(&chosen);
        while self.volumes.len() < chosen.len() {
            let index = 1 + self.volumes.len();
            self.volumes.push(self.all.insert(index, ProgressBar::new(FULL).with_style(bar_style())));
        }
        for (bar, row) in self.volumes.iter().zip(&chosen) {
            put(bar, row, label);
        }
        let hidden = frame.volumes.len() - chosen.len();
        if hidden > 0 {
            let index = 1 + self.volumes.len();
            let others = self.others.get_or_insert_with(|| {
                self.all.insert(index, ProgressBar::new(FULL).with_style(style("{wide_msg}")))
            });
            others.set_message(rest(&frame.volumes, hidden));
        }
        if let Some(row) = &frame.objects {
            let objects = self
                .objects
                .get_or_insert_with(|| self.all.add(ProgressBar::new(FULL).with_style(bar_style())));
            put(objects, row, label);
        }
    }

    /// Takes the bars off the terminal.
    pub fn clear(&self) {
        if let Err(error) = self.all.clear() {
            // What is left on the terminal harms nobody, and the result follows below it.
            tracing::debug!(%error, "the bars could not be cleared");
        }
    }
}

/// Those that have a bar: what moves or failed before what waits, and that before what is done.
fn choose(volumes: &[Row]) -> Vec<&Row> {
    let rank = |row: &&Row| match row.phase {
        VolumePhase::InProgress => 0,
        VolumePhase::Failed => 1,
        VolumePhase::Pending => 2,
        VolumePhase::Succeeded => 3,
    };
    let mut rows: Vec<&Row> = volumes.iter().collect();
    if rows.len() > MAX_BARS {
        rows.sort_by_key(rank);
        rows.truncate(MAX_BARS);
    }
    rows
}

/// The line for those that have no bar.
fn rest(volumes: &[Row], hidden: usize) -> String {
    let count = |phase| volumes.iter().filter(|row| row.phase == phase).count();
    let (done, waiting) = (count(VolumePhase::Succeeded), count(VolumePhase::Pending));
    format!("… and {hidden} more volumes; of all {}, {done} are done and {waiting} wait", volumes.len())
}

fn widest(rows: &[&Row]) -> usize {
    let longest = rows.iter().map(|row| row.label.chars().count()).max().unwrap_or_default();
    longest.clamp("objects".len(), MAX_LABEL)
}

fn put(bar: &ProgressBar, row: &Row, width: usize) {
    let label = clean(&row.label);
    let label: String = match label.chars().count() {
        length if length > width => label.chars().take(width - 1).chain(['…']).collect(),
        _ => label,
    };
    bar.set_prefix(format!("{label:<width$}"));
    bar.set_position(row.percent());
    bar.set_message(clean(&row.figures()));
}

fn bar_style() -> ProgressStyle {
    style("{prefix} [{bar:28}] {wide_msg}").progress_chars("=> ")
}

/// The templates are ours; one that is wrong shows as the default bar, and in the test below.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::meter::Meter;
    use super::super::meter::tests::{running, volume};
    use super::*;

    #[test]
    fn the_templates_are_sound() {
        for template in ["{wide_msg}", "{prefix} [{bar:28}] {wide_msg}"] {
            ProgressStyle::with_template(template).unwrap();
        }
    }

    #[test]
    fn however_many_volumes_there_are_what_moves_has_one_of_few_bars() {
        let mut volumes: Vec<_> =
            (0..40).map(|n| volume(&format!("done-{n}"), VolumePhase::Succeeded, 1, 1)).collect();
        volumes.extend((0..40).map(|n| volume(&format!("waits-{n}"), VolumePhase::Pending, 0, 1)));
        volumes.push(volume("moves", VolumePhase::InProgress, 0, 1));
        let frame = Meter::default().frame(&running(volumes), Duration::ZERO);
        let chosen = choose(&frame.volumes);
        assert_eq!(chosen.len(), MAX_BARS);
        assert_eq!(chosen[0].label, "cms/moves");
        assert_eq!(
            rest(&frame.volumes, 81 - MAX_BARS),
            "… and 73 more volumes; of all 81, 40 are done and 40 wait"
        );
        let mut bars = Bars::new();
        bars.draw(&frame);
        assert_eq!(bars.volumes.len(), MAX_BARS);
        bars.clear();
    }
}
