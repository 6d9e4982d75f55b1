//! Log lines on their way to a terminal: whole lines, without control characters.

use crate::render::clean;

/// The longest line that is put together; a longer one is cut into several.
const MAX_LINE: usize = 64 * 1024;

/// Puts lines together from pieces.
#[derive(Default)]
pub struct LogLines {
    begun: Vec<u8>,
}

impl LogLines {
    /// The lines that a piece completes.
    pub fn push(&mut self, piece: &[u8]) -> String {
        let mut text = String::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(part);
            if part.ends_with(b"\n") || self.begun.len() >= MAX_LINE {
                text.push_str(&self.rest());
            }
        }
        text
    }

    /// What has been begun and not completed.
    pub fn rest(&mut self) -> String {
        let line = std::mem::take(&mut self.begun);
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() { String::new() } else { clean(&line) + "\n" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let mut lines = LogLines::default();
        assert_eq!(lines.push("one\ntw".as_bytes()), "one\n");
        assert_eq!(lines.push("o\nthr\u{e9}".as_bytes()), "two\n");
        assert_eq!(lines.rest(), "thr\u{e9}\n");
        assert_eq!(lines.rest(), "");
    }

    #[test]
    fn a_log_cannot_steer_the_terminal() {
        assert_eq!(LogLines::default().push(b"a\x1b[31mb\n"), "a [31mb\n");
    }

    #[test]
    fn a_line_without_an_end_does_not_fill_memory() {
        let mut lines = LogLines::default();
        for _ in 0..100 {
            lines.push(&[b'a'; 10_000]);
        }
        assert!(lines.begun.len() < MAX_LINE);
    }
}
