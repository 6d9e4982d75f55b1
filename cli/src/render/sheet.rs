//! Tables and descriptions as plain text.

use std::fmt::Write;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

/// What stands where there is nothing.
const NONE: &str = "-";

/// Text without control characters; line breaks become spaces.
pub fn clean(text: &str) -> String {
    let parts = text.split(|c: char| c.is_control()).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(" ")
}

/// Columns under heads, two spaces apart, no line longer than it need be.
pub fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(heads.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| if cell.is_empty() { NONE.to_owned() } else { clean(cell) }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2)).set_cell_alignment(CellAlignment::Left);
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}

/// A description: lines of a name and a value, and tables below a title.
#[derive(Default)]
pub struct Sheet {
    text: String,
}

/// The column in which values begin.
const VALUES: usize = 20;

impl Sheet {
    /// A name and a value; left out when there is no value.
    pub fn line(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.put(&format!("{:<VALUES$}{}", format!("{name}:"), clean(value)));
        }
    }

    /// A title, and rows under heads below it; left out when there are no rows.
    pub fn rows(&mut self, title: &str, heads: &[&str], rows: &[Vec<String>]) {
        if !rows.is_empty() {
            self.put(&format!("\n{title}:"));
            for line in table(heads, rows).lines() {
                self.put(&format!("  {line}"));
            }
        }
    }

    /// A title alone, with lines to follow.
    pub fn title(&mut self, title: &str) {
        self.put(&format!("\n{title}:"));
    }

    /// A line as it is: the caller has taken out what could steer a terminal.
    pub fn text(&mut self, line: &str) {
        self.put(line);
    }

    /// A title, and a sentence in place of rows.
    pub fn instead(&mut self, title: &str, sentence: &str) {
        self.put(&format!("\n{title}:"));
        self.put(&format!("  {}", clean(sentence)));
    }

    /// The whole text.
    pub fn finish(self) -> String {
        self.text
    }

    fn put(&mut self, line: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_steer_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\r\nc\u{9b}d"), "a [2Jb c d");
        let text = table(&["MESSAGE"], &[vec!["\u{1b}]0;title\u{7}".to_owned()]]);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }

    #[test]
    fn columns_are_aligned_and_lines_not_padded() {
        let rows = [vec!["a".to_owned(), "b".to_owned()], vec!["longer".to_owned(), String::new()]];
        assert_eq!(table(&["X", "Y"], &rows), "X       Y\na       b\nlonger  -\n");
    }
}
