//! One measurement.

use serde::Serialize;

const MIB: f64 = 1024.0 * 1024.0;

/// One tool's pass over one tree.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The tree.
    pub tree: &'static str,
    /// The tool.
    pub tool: &'static str,
    /// 1, or 2 after a part of the tree was changed.
    pub pass: u32,
    /// From the source folder to the destination folder, seconds.
    pub wall_s: f64,
    /// User and system time of the tool's processes, without the S3 server's.
    pub cpu_s: f64,
    /// The most memory that one of the tool's processes held, MiB.
    pub peak_mib: f64,
    /// Sizes of the tree's regular files.
    pub bytes: u64,
    /// The tree's regular files.
    pub files: u64,
}

/// The table's first line.
pub fn heading() -> String {
    format!(
        "{:6} {:>8} {:>9} {:>4} {:8} {:>8} {:>9} {:>8} {:>9}",
        "tree", "files", "MiB", "pass", "tool", "wall s", "MiB/s", "CPU s", "peak MiB"
    )
}

/// A row as a line of the table.
#[allow(clippy::cast_precision_loss)]
pub fn line(row: &Row) -> String {
    let bytes = row.bytes as f64 / MIB;
    format!(
        "{:6} {:>8} {:>9.1} {:>4} {:8} {:>8.2} {:>9.1} {:>8.2} {:>9.1}",
        row.tree,
        row.files,
        bytes,
        row.pass,
        row.tool,
        row.wall_s,
        bytes / row.wall_s,
        row.cpu_s,
        row.peak_mib,
    )
}
