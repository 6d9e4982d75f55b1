//! What a mover did, and how far it is.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use isthmus_shared::staging::VolumeUid;
use serde::{Deserialize, Serialize};

use super::limits::MAX_LISTED;

/// Something about one file that a person should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileNote {
    /// The file below the volume's root.
    pub path: String,
    /// What is the matter.
    pub message: String,
}

/// A count, and the first few of what was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notes {
    /// How many there are.
    pub total: u64,
    /// The first ones.
    pub listed: Vec<FileNote>,
}

impl Notes {
    /// Counts one more, and keeps it if there is room.
    pub fn add(&mut self, path: String, message: String) {
        self.total += 1;
        if self.listed.len() < MAX_LISTED {
            self.listed.push(FileNote { path, message });
        }
    }
}

/// What a manifest holds: counted by the sender as it writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Totals {
    /// Regular files.
    pub files: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Names of files that have an earlier name in the manifest.
    pub hard_links: u64,
    /// FIFOs and device nodes.
    pub special: u64,
    /// The sizes of all regular files.
    pub bytes: u64,
    /// Bytes of them that are holes or zeros and did not travel.
    pub hole_bytes: u64,
    /// Files that were taken over from the previous pass without being read.
    pub unchanged_files: u64,
}

/// What sending a pass came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SendReport {
    /// What the manifest holds.
    pub totals: Totals,
    /// Bytes read from files.
    pub bytes_read: u64,
    /// Bytes that went to staging, sealed.
    pub bytes_uploaded: u64,
    /// Bytes that staging held already.
    pub bytes_deduplicated: u64,
    /// Sockets: they do not outlive their process.
    pub skipped_sockets: Notes,
    /// Files that vanished between being listed and being read.
    pub vanished: Notes,
    /// Files that kept changing while they were read. With any, the pass is not consistent.
    pub inconsistent: Notes,
    /// The uid of the claim that was sent; passes of before this was noted went from the claim that
    /// gave the volume its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// Whether `trusted.*` attributes were seen. What a pass that did not see them says of a file's
    /// attributes is of no use to one that does, and the other way round.
    pub sees_trusted: bool,
    /// Time spent in this process.
    pub duration: Duration,
}

/// What receiving a pass came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReceiveReport {
    /// What the manifest held.
    pub totals: Totals,
    /// Bytes fetched from staging.
    pub bytes_fetched: u64,
    /// Bytes written into files.
    pub bytes_written: u64,
    /// Bytes of files that were there, read to find what differs.
    pub bytes_compared: u64,
    /// Blocks whose content was checked against its name.
    pub blocks_verified: u64,
    /// Files that were right already.
    pub unchanged_files: u64,
    /// Names removed because the manifest does not have them.
    pub deleted: u64,
    /// Metadata that the destination refused, with `metadataPolicy: BestEffort`.
    pub refused_metadata: Notes,
    /// Files that the sender marked as changing while they were read.
    pub inconsistent: Notes,
    /// Files that were read back and compared, with `verify: Full`.
    pub files_read_back: Option<u64>,
    /// The bytes of these.
    pub bytes_read_back: Option<u64>,
    /// Metadata that was found to differ on reading back, where the destination had refused some.
    pub forgiven_metadata: Notes,
    /// The uid of the claim that was sent, see [`SendReport::claim`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_by: Option<String>,
    /// The uid of the claim that received it; passes of before this was noted were received by
    /// another than the claim that gave the volume its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_by: Option<String>,
    /// Time spent in this process.
    pub duration: Duration,
}

impl SendReport {
    /// Whether the pass was sent from this claim.
    pub fn is_of(&self, claim: &str, volume: &VolumeUid) -> bool {
        self.claim.as_deref().unwrap_or(volume.as_str()) == claim
    }
}

impl ReceiveReport {
    /// Whether the pass was sent from this claim.
    pub fn was_sent_by(&self, claim: &str, volume: &VolumeUid) -> bool {
        self.sent_by.as_deref().unwrap_or(volume.as_str()) == claim
    }

    /// Whether the pass was received by this claim.
    pub fn was_received_by(&self, claim: &str, volume: &VolumeUid) -> bool {
        self.received_by.as_deref().map_or(claim != volume.as_str(), |known| known == claim)
    }
}

/// How far a mover is; cheap to update from any thread and to read from any other.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    files_done: AtomicU64,
    files_total: AtomicU64,
    bytes_transferred: AtomicU64,
    bytes_read_back: AtomicU64,
    stalled: Mutex<Option<String>>,
}

/// The figures of a [`Progress`] at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgressFigures {
    /// Bytes of file content sent, or written and verified.
    pub bytes_done: u64,
    /// Bytes of file content in all, as far as known.
    pub bytes_total: u64,
    /// Files done.
    pub files_done: u64,
    /// Files in all, as far as known.
    pub files_total: u64,
    /// Bytes that went to or came from staging.
    pub bytes_transferred: u64,
    /// Bytes that were read back from the destination.
    pub bytes_read_back: u64,
}

impl Progress {
    /// Progress at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// The figures now.
    pub fn figures(&self) -> ProgressFigures {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let bytes_done = load(&self.0.bytes_done);
        let files_done = load(&self.0.files_done);
        ProgressFigures {
            bytes_done,
            bytes_total: load(&self.0.bytes_total).max(bytes_done),
            files_done,
            files_total: load(&self.0.files_total).max(files_done),
            bytes_transferred: load(&self.0.bytes_transferred),
            bytes_read_back: load(&self.0.bytes_read_back),
        }
    }

    /// Why it makes no headway, while it makes none.
    pub fn stalled(&self) -> Option<String> {
        self.0.stalled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn stall(&self, why: Option<String>) {
        *self.0.stalled.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    pub(super) fn add_bytes(&self, bytes: u64) {
        self.0.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_file(&self) {
        self.0.files_done.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_transferred(&self, bytes: u64) {
        self.0.bytes_transferred.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_read_back(&self, bytes: u64) {
        self.0.bytes_read_back.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn set_totals(&self, files: u64, bytes: u64) {
        self.0.files_total.fetch_max(files, Ordering::Relaxed);
        self.0.bytes_total.fetch_max(bytes, Ordering::Relaxed);
    }

    /// What an earlier process of this pass did counts as done.
    pub(super) fn start_at(&self, files: u64, bytes: u64) {
        self.0.files_done.store(files, Ordering::Relaxed);
        self.0.bytes_done.store(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_of_before_claims_were_noted_went_from_the_claim_that_names_the_volume() {
        let volume = VolumeUid::new("v").unwrap();
        assert!(SendReport::default().is_of("v", &volume) && !SendReport::default().is_of("w", &volume));
        let old = ReceiveReport::default();
        assert!(old.was_sent_by("v", &volume) && old.was_received_by("w", &volume));
        assert!(!old.was_sent_by("w", &volume) && !old.was_received_by("v", &volume));
        let back = ReceiveReport {
            sent_by: Some("w".to_owned()),
            received_by: Some("v".to_owned()),
            ..ReceiveReport::default()
        };
        assert!(back.was_sent_by("w", &volume) && back.was_received_by("v", &volume));
        assert!(!back.was_received_by("w", &volume));
    }
}
