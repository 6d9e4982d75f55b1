//! What of a command's output is kept: its first part in the run's log, its end for messages. Pure.

use std::collections::VecDeque;

use crate::cluster::Stream;

/// How much of one command's output goes into the run's log, bytes.
pub const MAX_LOGGED: usize = 64 * 1024;
/// The longest line, bytes; a longer one is broken.
const MAX_LINE: usize = 2048;
/// How much of the end is kept for messages, bytes.
const MAX_TAIL: usize = 600;

/// One command's output as it comes.
#[derive(Debug, Default)]
pub struct Output {
    logged: usize,
    left_out: u64,
    /// What came of a line that has not ended, of either stream.
    lines: [Vec<u8>; 2],
    tail: VecDeque<u8>,
}

impl Output {
    /// Takes in what came; gives back the lines to be logged.
    pub fn take(&mut self, stream: Stream, bytes: &[u8]) -> Vec<String> {
        self.tail.extend(bytes);
        let beyond = self.tail.len().saturating_sub(MAX_TAIL);
        self.tail.drain(..beyond);
        let which = usize::from(stream == Stream::Err);
        let mut ready = Vec::new();
        for byte in bytes {
            if *byte == b'\n' {
                self.end_line(which, &mut ready);
                continue;
            }
            self.lines[which].push(*byte);
            if self.lines[which].len() >= MAX_LINE {
                self.end_line(which, &mut ready);
            }
        }
        ready
    }

    /// The lines that are left when the command has ended, and how much was left out.
    pub fn finish(&mut self) -> Vec<String> {
        let mut ready = Vec::new();
        for which in 0..self.lines.len() {
            if !self.lines[which].is_empty() {
                self.end_line(which, &mut ready);
            }
        }
        if self.left_out > 0 {
            ready.push(format!("… {} more bytes of output are left out", self.left_out));
        }
        ready
    }

    fn end_line(&mut self, which: usize, ready: &mut Vec<String>) {
        let line = std::mem::take(&mut self.lines[which]);
        if self.logged + line.len() > MAX_LOGGED {
            self.left_out += line.len() as u64 + 1;
            return;
        }
        self.logged += line.len() + 1;
        ready.push(readable(&line));
    }

    /// The last lines, as one.
    pub fn tail(&self) -> String {
        let bytes: Vec<u8> = self.tail.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(|line| readable(line.as_bytes())).collect::<Vec<_>>().join(" | ")
    }

    /// The same, as the end of a sentence.
    pub fn last_words(&self) -> String {
        match self.tail().as_str() {
            "" => "it printed nothing".to_owned(),
            tail => format!("its last output: {tail}"),
        }
    }
}

/// A line that a terminal shows as it is.
fn readable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.trim_end_matches('\r')
        .chars()
        .map(|c| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_streams_stay_whole() {
        let mut output = Output::default();
        assert!(output.take(Stream::Out, b"one").is_empty());
        assert_eq!(output.take(Stream::Err, b"oh\nno"), ["oh"]);
        assert_eq!(output.take(Stream::Out, b" two\r\n"), ["one two"]);
        assert_eq!(output.finish(), ["no"]);
    }

    #[test]
    fn only_so_much_is_logged_and_the_rest_is_counted() {
        let mut output = Output::default();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        let logged: usize = (0..100).map(|_| output.take(Stream::Out, &line).len()).sum();
        assert_eq!(logged, MAX_LOGGED / 1024);
        assert_eq!(
            output.finish(),
            [format!("… {} more bytes of output are left out", (100 - logged) * 1024)]
        );
    }

    #[test]
    fn a_line_without_an_end_is_broken() {
        let mut output = Output::default();
        assert_eq!(output.take(Stream::Out, &[b'x'; 5000]).len(), 2);
        assert_eq!(output.finish().len(), 1);
    }

    #[test]
    fn the_end_is_kept_for_messages_without_what_would_spoil_a_terminal() {
        let mut output = Output::default();
        assert_eq!(output.last_words(), "it printed nothing");
        output.take(Stream::Out, &[b'x'; 5000]);
        output.take(Stream::Err, b"\nlocked\n\n\x1b[31mby 7\n");
        assert!(output.tail().ends_with("| locked | \u{fffd}[31mby 7"), "{}", output.tail());
        assert!(output.tail().len() < 700);
    }
}
