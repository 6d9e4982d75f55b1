//! What a mover tells its spoke about how it ended.

use isthmus_shared::{
    protocol::{Direction, Progress},
    resources::{Finding, MAX_FINDINGS, Verified},
};

use crate::mover::{
    MoverError, ProgressFigures, ReceiveReport, SendReport,
    report::{FileNote, Notes},
};

/// Findings as they are reported: a count and the first few.
#[derive(Debug, Default)]
pub struct Findings {
    pub list: Vec<Finding>,
    pub total: u64,
}

impl Findings {
    fn add(&mut self, object: String, reason: &str, message: String) {
        self.total += 1;
        if self.list.len() < MAX_FINDINGS {
            self.list.push(Finding { object, reason: reason.to_owned(), message, step: None });
        }
    }

    fn add_notes(&mut self, reason: &str, notes: Notes) {
        let listed = notes.listed.len() as u64;
        for FileNote { path, message } in notes.listed {
            self.add(format!("file {path}"), reason, message);
        }
        self.total += notes.total.saturating_sub(listed);
    }
}

/// How it ended.
#[derive(Debug, Default)]
pub struct Outcome {
    pub succeeded: bool,
    pub verified: Verified,
    pub failures: Findings,
    pub warnings: Findings,
    summary: String,
}

impl Outcome {
    /// A failure that is not the engine's.
    pub fn failed(reason: &str, message: &str) -> Self {
        let mut outcome = Self::default();
        outcome.failures.add("the volume".to_owned(), reason, message.to_owned());
        outcome
    }

    fn of_error(error: &MoverError) -> Self {
        if let MoverError::Differs { notes } = error {
            let mut outcome = Self::failed(error.reason(), &error.to_string());
            outcome.failures.add_notes("Differs", (**notes).clone());
            return outcome;
        }
        let object = error.object().map_or_else(|| "the volume".to_owned(), |path| format!("file {path}"));
        let mut outcome = Self::default();
        outcome.failures.add(object, error.reason(), error.to_string());
        outcome
    }

    /// How sending ended.
    pub fn of_sending(result: Result<SendReport, MoverError>) -> Self {
        let report = match result {
            Ok(report) => report,
            Err(error) => return Self::of_error(&error),
        };
        let mut warnings = Findings::default();
        warnings.add_notes("SocketSkipped", report.skipped_sockets);
        warnings.add_notes("FileVanished", report.vanished);
        warnings.add_notes("FileChanging", report.inconsistent);
        Self {
            succeeded: true,
            warnings,
            summary: format!(
                "sent {} files of {} bytes: read {}, uploaded {}, already staged {}",
                report.totals.files,
                report.totals.bytes,
                report.bytes_read,
                report.bytes_uploaded,
                report.bytes_deduplicated
            ),
            ..Self::default()
        }
    }

    /// How receiving ended.
    pub fn of_receiving(result: Result<ReceiveReport, MoverError>) -> Self {
        let report = match result {
            Ok(report) => report,
            Err(error) => return Self::of_error(&error),
        };
        let mut warnings = Findings::default();
        warnings.add_notes("MetadataRefused", report.refused_metadata);
        if report.forgiven_metadata.total > 0 {
            let message = format!(
                "{} entries were read back with other metadata than was sent, as the destination refused some; metadataPolicy: Strict would have ended the run",
                report.forgiven_metadata.total
            );
            warnings.add("the volume".to_owned(), "MetadataDiffers", message);
        }
        Self {
            succeeded: true,
            verified: Verified {
                blocks: report.blocks_verified,
                files_read_back: report.files_read_back,
                bytes_read_back: report.bytes_read_back,
            },
            warnings,
            summary: format!(
                "received {} files of {} bytes: wrote {}, verified {} blocks, removed {} names{}",
                report.totals.files,
                report.totals.bytes,
                report.bytes_written,
                report.blocks_verified,
                report.deleted,
                read_back(report.files_read_back, report.bytes_read_back),
            ),
            ..Self::default()
        }
    }

    /// Why it failed, if it did: the first failure's word for it.
    pub fn reason(&self) -> Option<&str> {
        self.failures.list.first().map(|failure| failure.reason.as_str())
    }

    /// One line about it.
    pub fn last_words(&self) -> String {
        match self.failures.list.first() {
            Some(failure) => format!("{}: {}", failure.reason, failure.message),
            None => self.summary.clone(),
        }
    }
}

fn read_back(files: Option<u64>, bytes: Option<u64>) -> String {
    match (files, bytes) {
        (Some(files), Some(bytes)) => format!(", read back and compared {files} files of {bytes} bytes"),
        _ => String::new(),
    }
}

/// The engine's figures as the protocol has them.
pub fn progress(direction: Direction, figures: ProgressFigures, message: Option<&str>) -> Progress {
    Progress {
        bytes_done: figures.bytes_done,
        bytes_total: figures.bytes_total,
        files_done: figures.files_done,
        bytes_uploaded: if direction == Direction::Send { figures.bytes_transferred } else { 0 },
        message: message.map(str::to_owned),
        ..Progress::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_lists_the_first_findings_and_counts_all() {
        let mut report = SendReport::default();
        for n in 0..1000 {
            report.inconsistent.add(format!("f{n}"), "changing".to_owned());
        }
        let outcome = Outcome::of_sending(Ok(report));
        assert!(outcome.succeeded);
        assert_eq!(outcome.warnings.total, 1000);
        assert_eq!(outcome.warnings.list.len(), MAX_FINDINGS.min(crate::mover::limits::MAX_LISTED));
        assert_eq!(outcome.warnings.list[0].object, "file f0");
    }

    #[test]
    fn a_failed_verification_names_each_file_after_saying_what_to_do() {
        let mut notes = Notes::default();
        for n in 0..1000 {
            notes.add(format!("f{n}"), "its content differs in the bytes 0 to 9".to_owned());
        }
        let outcome = Outcome::of_receiving(Err(MoverError::Differs { notes: Box::new(notes) }));
        assert!(!outcome.succeeded);
        assert_eq!(outcome.failures.total, 1001);
        assert!(outcome.failures.list[0].message.contains("run the migration again"));
        assert_eq!(outcome.failures.list[1].object, "file f0");
    }

    #[test]
    fn what_was_read_back_is_counted_and_told() {
        let report =
            ReceiveReport { files_read_back: Some(3), bytes_read_back: Some(9), ..ReceiveReport::default() };
        let outcome = Outcome::of_receiving(Ok(report));
        assert_eq!((outcome.verified.files_read_back, outcome.verified.bytes_read_back), (Some(3), Some(9)));
        assert!(outcome.last_words().contains("compared 3 files of 9 bytes"), "{}", outcome.last_words());
    }

    #[test]
    fn a_failure_names_its_file() {
        let error = MoverError::file("writing", b"a/b", rustix::io::Errno::NOSPC);
        let outcome = Outcome::of_receiving(Err(error));
        assert!(!outcome.succeeded);
        let failure = &outcome.failures.list[0];
        assert_eq!(failure.object, "file a/b");
        assert!(failure.message.contains("enlarge"), "{}", failure.message);
    }
}
