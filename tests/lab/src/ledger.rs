//! An application that cannot lose anything unnoticed: it writes numbered records into its volume for
//! as long as it runs, and goes on counting where it finds that it was.
//!
//! A record is a line `<number> <writer>`, where the writer is one start of the program. Files hold
//! [`PER_FILE`] records each. A record that is on disk is acknowledged by a line of the program's output,
//! `acknowledged <number> <writer>`. [`read`] gives a volume's records back, or what is wrong with them.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// Records in one file.
const PER_FILE: u64 = 200;
/// The pause after each record.
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Parser)]
struct Options {
    /// The volume.
    #[arg(long)]
    dir: PathBuf,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// From 1, without a gap.
    pub number: u64,
    /// The start of the program that wrote it.
    pub writer: String,
}

/// Writes until SIGTERM.
pub(crate) async fn main(args: Vec<OsString>) -> ExitCode {
    let args = std::iter::once(OsString::from("ledger")).chain(args);
    let result = match Options::try_parse_from(args) {
        Ok(options) => {
            write(&options.dir).await.map_err(|error| format!("{}: {error}", options.dir.display()))
        }
        Err(error) => Err(error.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ledger: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn write(dir: &Path) -> io::Result<()> {
    let mut stop = signal(SignalKind::terminate())?;
    let writer = uuid::Uuid::new_v4().simple().to_string();
    let mut number = read(dir)?.last().map_or(0, |last| last.number);
    let mut file: Option<(PathBuf, File)> = None;
    loop {
        number += 1;
        let path = dir.join(format!("records-{:06}", number / PER_FILE));
        let open = match file.take().filter(|(open, _)| *open == path) {
            Some((_, file)) => file,
            None => OpenOptions::new().create(true).append(true).open(&path)?,
        };
        let (_, open) = file.insert((path, open));
        open.write_all(format!("{number} {writer}\n").as_bytes())?;
        open.sync_data()?;
        println!("acknowledged {number} {writer}");
        tokio::select! {
            _ = stop.recv() => return Ok(()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// The records of a volume in their order; an error if one is missing, doubled or damaged.
pub fn read(dir: &Path) -> io::Result<Vec<Record>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .filter(|path| path.as_ref().map_or(true, |path| is_ledger(path)))
        .collect::<io::Result<_>>()?;
    files.sort();
    let mut records: Vec<Record> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        for line in text.split_inclusive('\n') {
            let next = records.last().map_or(1, |last| last.number + 1);
            let record = line.strip_suffix('\n').and_then(|line| line.split_once(' '));
            let Some((_, writer)) = record.filter(|(number, _)| *number == next.to_string()) else {
                let what = format!("{}: {line:?} is where record {next} belongs", file.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            };
            records.push(Record { number: next, writer: writer.to_owned() });
        }
    }
    Ok(records)
}

fn is_ledger(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("records-"))
}

/// The records that a program's output says are safe: the last number and its writer.
pub fn acknowledged(output: &str) -> Option<Record> {
    let line = output.split_inclusive('\n').rfind(|line| line.ends_with('\n'))?;
    let (number, writer) = line.trim_end().strip_prefix("acknowledged ")?.split_once(' ')?;
    Some(Record { number: number.parse().ok()?, writer: writer.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_missing_doubled_or_torn_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let of = |text: &str| {
            std::fs::write(folder.path().join("records-000000"), text).unwrap();
            read(folder.path())
        };
        assert_eq!(of("1 a\n2 a\n3 b\n").unwrap()[2], Record { number: 3, writer: "b".into() });
        for wrong in ["1 a\n3 a\n", "1 a\n1 a\n", "2 a\n", "1 a\n2 a", "1 a\nx\n"] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_acknowledged_is_the_last_whole_line() {
        let said = "acknowledged 1 a\nacknowledged 2 a\nacknowledged 3";
        assert_eq!(acknowledged(said), Some(Record { number: 2, writer: "a".into() }));
        assert_eq!(acknowledged(""), None);
    }
}
