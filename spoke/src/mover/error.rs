//! Why a mover failed. A variant names the file or object, and its message ends with what to do.

use std::io;

use isthmus_shared::staging::{SealError, StoreError};

use super::{
    format::{FormatError, show_path},
    limits::{MAX_DEPTH, MAX_PATH_BYTES},
    report::Notes,
};

/// Why sending or receiving a volume failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoverError {
    /// The object store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something in staging does not open, or cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A manifest says what it must not say.
    #[error("{object}: {source}; remove the volume's staging and run the migration again")]
    Manifest {
        /// The segment.
        object: String,
        /// What is wrong.
        source: FormatError,
    },
    /// A block is not what the manifest says.
    #[error(
        "a block of {path} in {object} {detail}: it was changed in the bucket or is damaged; remove the volume's staging and run the migration again"
    )]
    Block {
        /// The file.
        path: String,
        /// The pack.
        object: String,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// The system refused something on a file.
    #[error("{operation} {path} failed: {source}; {advice}")]
    File {
        /// What was being done.
        operation: &'static str,
        /// The file below the volume's root.
        path: String,
        /// The system's error.
        source: io::Error,
        /// What to do next.
        advice: &'static str,
    },
    /// The destination refuses a part of a file's metadata.
    #[error("{path} cannot be given its {what}: {source}; {fix}")]
    Metadata {
        /// The file below the volume's root.
        path: String,
        /// Ownership, mode, an attribute, ...
        what: String,
        /// The system's error.
        source: io::Error,
        /// What to do next.
        fix: &'static str,
    },
    /// Something writes to a volume to which nothing may write.
    #[error(
        "{path} {what}, although nothing may write to the volume while it is read, as its application is stopped or it is a snapshot; find what writes to it, such as another Pod that mounts the claim, stop that and run the migration again"
    )]
    NotStill {
        /// The file below the volume's root.
        path: String,
        /// What happened to it.
        what: &'static str,
    },
    /// What was read back is not what was sent.
    #[error(
        "{} entries of the destination are not as they were sent; make sure that nothing else writes to its claim, look at its storage, and run the migration again, which writes them anew",
        notes.total
    )]
    Differs {
        /// Which ones.
        notes: Box<Notes>,
    },
    /// Something that is to be left alone stands where something else is to be.
    #[error(
        "{path} has another type in the source, but at the destination it is or holds {kept}, which excludePaths leaves alone; remove that yourself, or take it out of excludePaths"
    )]
    Excluded {
        /// The file below the volume's root.
        path: String,
        /// What is left alone.
        kept: String,
    },
    /// The other side showed no sign of life.
    #[error(
        "nothing came from the sender of pass {pass} for {seconds} s ({last}); look at the sending mover's Job in the source cluster"
    )]
    SenderSilent {
        /// The pass.
        pass: u32,
        /// For how long.
        seconds: u64,
        /// What was last seen of it.
        last: String,
    },
    /// A pass to which the volume is to be brought back was never received to its end.
    #[error(
        "pass {pass} was not received to its end, as far as staging tells: it may have been removed from there; look at `isthmus staging list`, and go by a later run"
    )]
    NotComplete {
        /// The pass.
        pass: u32,
    },
    /// A part of a complete pass is gone from staging.
    #[error(
        "segment {segment} of pass {pass}, which was received to its end before, is gone from staging: look what removes objects from the bucket; the destination's volume may be half of that pass and half of a later one"
    )]
    StagingLost {
        /// The pass.
        pass: u32,
        /// The first part of it that is gone.
        segment: u64,
    },
    /// The table of hard links is full.
    #[error(
        "{path}: more files with several hard links than {limit} bytes of names can remember; move this volume in parts"
    )]
    TooManyLinks {
        /// The file at which it was full.
        path: String,
        /// The table's size.
        limit: usize,
    },
    /// Directories within directories without end.
    #[error(
        "{path} lies deeper than {MAX_DEPTH} directories or has a path of more than {MAX_PATH_BYTES} bytes; move it further up, or name a directory above it in excludePaths"
    )]
    TooDeep {
        /// The entry.
        path: String,
    },
    /// The root is not what was announced.
    #[error(
        "{path} is not a directory or cannot be opened: {source}; check that the volume is mounted there"
    )]
    Root {
        /// The root.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// The root of a block-mode volume is not there.
    #[error(
        "{path} cannot be opened as a block device: {source}; check that the claim has volumeMode Block, and that nothing else holds its device"
    )]
    NoDevice {
        /// The root.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// The destination's device cannot hold the source's.
    #[error(
        "{path} has {have} bytes, but the source's device has {need}: nothing was written; enlarge the destination's claim to at least {need} bytes and run the migration again"
    )]
    DeviceTooSmall {
        /// The root.
        path: String,
        /// The destination's size in bytes.
        have: u64,
        /// The source's size in bytes.
        need: u64,
    },
    /// A device got another size while it was read.
    #[error(
        "{path} had {before} bytes when the pass began and has {now} now; let the volume's resizing finish and run the migration again"
    )]
    DeviceResized {
        /// The root.
        path: String,
        /// The size at first.
        before: u64,
        /// The size now.
        now: u64,
    },
    /// The two sides are of different volume modes.
    #[error(
        "the source's volume holds {sent}, but the one here is {here}; give both claims the same volumeMode"
    )]
    VolumeModeDiffers {
        /// What the manifest describes.
        sent: &'static str,
        /// What the destination is.
        here: &'static str,
    },
    /// Someone asked to stop.
    #[error("cancelled; what was moved so far stays in staging for the next attempt")]
    Cancelled,
    /// A thread of the mover ended abnormally.
    #[error(
        "a worker of the mover ended abnormally ({detail}); run the migration again and report this with the mover's log"
    )]
    Worker {
        /// What is known.
        detail: String,
    },
}

impl MoverError {
    /// Wraps a system error on `path`.
    pub(super) fn file(operation: &'static str, path: &[u8], source: rustix::io::Errno) -> Self {
        Self::File { operation, path: show_path(path), advice: advice(source), source: source.into() }
    }

    /// One word in CamelCase, for findings and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Store(error) => error.reason(),
            Self::Seal(_) | Self::Block { .. } => "StagingDamaged",
            Self::Manifest { .. } => "ManifestRefused",
            Self::File { .. } => "FileRefused",
            Self::Metadata { .. } => "MetadataRefused",
            Self::NotStill { .. } => "FileChanged",
            Self::Differs { .. } => "VerificationFailed",
            Self::Excluded { .. } => "ExcludedInTheWay",
            Self::SenderSilent { .. } => "SenderSilent",
            Self::NotComplete { .. } => "PassNotComplete",
            Self::StagingLost { .. } => "StagingLost",
            Self::TooManyLinks { .. } => "TooManyHardLinks",
            Self::Root { .. } | Self::NoDevice { .. } => "VolumeNotMounted",
            Self::DeviceTooSmall { .. } => "DeviceTooSmall",
            Self::DeviceResized { .. } => "DeviceResized",
            Self::VolumeModeDiffers { .. } => "VolumeModeDiffers",
            Self::TooDeep { .. } => "PathTooDeep",
            Self::Cancelled => "Cancelled",
            Self::Worker { .. } => "MoverFailed",
        }
    }

    /// The file or object that it is about, if it is about one.
    pub fn object(&self) -> Option<&str> {
        match self {
            Self::Block { path, .. }
            | Self::File { path, .. }
            | Self::Metadata { path, .. }
            | Self::NotStill { path, .. }
            | Self::Excluded { path, .. }
            | Self::TooManyLinks { path, .. }
            | Self::TooDeep { path }
            | Self::Root { path, .. }
            | Self::NoDevice { path, .. }
            | Self::DeviceTooSmall { path, .. }
            | Self::DeviceResized { path, .. } => Some(path),
            Self::Manifest { object, .. } => Some(object),
            _ => None,
        }
    }
}

/// What to do about a system's error.
pub(super) fn advice(errno: rustix::io::Errno) -> &'static str {
    use rustix::io::Errno;
    match errno {
        Errno::NOSPC | Errno::DQUOT => "enlarge the destination's claim",
        Errno::ROFS => "the volume is mounted read-only: check the claim's access mode",
        Errno::ACCESS | Errno::PERM => {
            "the mover's user may not do this: let it run as root or as the files' owner"
        }
        Errno::MFILE | Errno::NFILE => "raise the limit of open files on the node",
        Errno::IO => "the volume reports an input/output error: check its storage",
        Errno::NAMETOOLONG => "the destination's filesystem takes only shorter names",
        Errno::FBIG => "the destination's filesystem takes only smaller files",
        Errno::BUSY => "another filesystem is mounted there or in it: unmount it",
        Errno::LOOP | Errno::NOTDIR | Errno::XDEV | Errno::NOTEMPTY => {
            "something replaced a directory while the mover ran: stop what writes to the volume"
        }
        _ => "look at the volume on its node, then run the migration again",
    }
}
