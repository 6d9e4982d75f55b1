//! Chooses between bars and lines, and keeps the time.

use std::io::IsTerminal;
use std::time::Instant;

use isthmus_shared::resources::MigrationStatus;

use super::bars::Bars;
use super::meter::Meter;
use super::plain::Lines;
use crate::output;

/// Where progress is shown: bars if both streams are a terminal, lines on standard error if not.
pub struct Screen {
    meter: Meter,
    style: Style,
    start: Instant,
}

enum Style {
    Bars(Bars),
    Lines(Lines),
}

impl Screen {
    /// One for the streams of this program.
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
        let style = if terminal { Style::Bars(Bars::new()) } else { Style::Lines(Lines::default()) };
        Self { meter: Meter::default(), style, start: Instant::now() }
    }

    /// Shows how a run stands.
    pub fn show(&mut self, status: &MigrationStatus) {
        let now = self.start.elapsed();
        let frame = self.meter.frame(status, now);
        match &mut self.style {
            Style::Bars(bars) => bars.draw(&frame),
            Style::Lines(lines) => lines.new_in(&frame, now).iter().for_each(|line| output::note(line)),
        }
    }

    /// Ends with the last status, and leaves the terminal to what follows.
    pub fn finish(mut self, last: Option<&MigrationStatus>) {
        let now = self.start.elapsed();
        match &mut self.style {
            Style::Bars(bars) => bars.clear(),
            Style::Lines(lines) => {
                if let Some(status) = last {
                    let frame = self.meter.frame(status, now);
                    lines.rest(&frame, now).iter().for_each(|line| output::note(line));
                }
            }
        }
    }
}
