//! Every bound of the data plane. Together they keep a mover below 128 MiB of memory, whatever
//! the volume holds.

use std::time::Duration;

use isthmus_shared::staging::seal::OVERHEAD;

/// Files are cut into blocks of this many bytes; a block is named, deduplicated and verified
/// as a whole.
pub const BLOCK_BYTES: usize = 1024 * 1024;
/// A block up to this size shares a frame with others; a larger one has a frame of its own.
pub const SHARED_BLOCK_BYTES: usize = 256 * 1024;
/// A shared frame is closed once it holds this much. Small files are compressed together, but
/// fetching one of them later costs no more than this.
pub const SHARED_FRAME_BYTES: usize = 256 * 1024;
/// The largest frame before compression.
pub const MAX_FRAME_RAW: usize = BLOCK_BYTES;
/// Content up to this size travels in the manifest: it is smaller than a reference.
pub const INLINE_BYTES: usize = 64;
/// A pack is closed at this size: large enough for few requests, small enough for
/// [`PACK_BUFFERS`] of them in memory.
pub const PACK_BYTES: usize = 16 * 1024 * 1024;
/// One pack is being filled, the others are on their way to the store.
pub const PACK_BUFFERS: usize = 4;
/// A file larger than this is spread over several records and read by several workers.
pub const STREAMED_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// How much of a streamed file one job covers.
pub const STREAMED_RANGE_BYTES: u64 = 2 * 1024 * 1024;
/// A segment is closed at this many bytes of records ...
pub const SEGMENT_BYTES: usize = 512 * 1024;
/// ... or when its records name this much new content, so that the receiver is never far behind,
/// ...
pub const SEGMENT_CONTENT_BYTES: u64 = 48 * 1024 * 1024;
/// ... or this much content in all: of what the receiver has already it needs to fetch nothing,
/// but one that has to begin anew does not redo more than a few segments ...
pub const SEGMENT_NAMED_BYTES: u64 = 1024 * 1024 * 1024;
/// ... or after this time.
pub const SEGMENT_AGE: Duration = Duration::from_secs(2);
/// The largest segment that a reader takes, uncompressed: [`SEGMENT_BYTES`], the record that went
/// beyond them with all its attributes, the names of packs and the report.
pub const MAX_SEGMENT_BYTES: usize = 4 * 1024 * 1024;
/// The same as it lies in the bucket, if nothing of it could be compressed: that adds a 256th.
pub const MAX_SEALED_SEGMENT: usize = MAX_SEGMENT_BYTES + MAX_SEGMENT_BYTES / 256 + OVERHEAD;
/// The most pieces of content in one segment that a reader takes.
pub const MAX_SEGMENT_PIECES: usize = 64 * 1024;
/// The most memory that the records of one segment may take: three times what a sender fills one
/// with. Of records that were made up for it each byte could cost a hundred.
pub const MAX_SEGMENT_MEMORY: usize = 16 * 1024 * 1024;
/// Segments that a reader asks for before it needs them.
pub const SEGMENTS_AHEAD: usize = 16;
/// The largest segment that it takes before it needs it. Hardly any is larger, and such a one is
/// asked for alone: so what is ahead, of which nobody knows yet who made it, is 10 MiB at the most.
pub const SEGMENT_AHEAD_BYTES: usize = SEGMENT_BYTES + SEGMENT_BYTES / 4;
/// The largest sign of life of a sender that a receiver takes, in bytes: it is a line of JSON.
pub const MAX_HEARTBEAT_BYTES: usize = 64 * 1024;
/// The largest mark of a receiver, in bytes: it names each directory that is open with its whole
/// path.
pub const MAX_MARK_BYTES: usize = 40 * 1024 * 1024;
/// The longest path below the volume's root, in bytes.
pub const MAX_PATH_BYTES: usize = 64 * 1024;
/// The most names in a path: each directory on the way is held open, with its path in memory.
pub const MAX_DEPTH: usize = 1024;
/// The longest name of one entry, in bytes.
pub const MAX_NAME_BYTES: usize = 255;
/// The longest target of a symbolic link, in bytes.
pub const MAX_TARGET_BYTES: usize = 4096;
/// The most bytes of extended attributes of one entry.
pub const MAX_XATTR_BYTES: usize = 1024 * 1024;
/// The most extended attributes of one entry: the kernel lists 64 KiB of names.
pub const MAX_XATTRS: usize = 16 * 1024;
/// The largest file that a manifest may claim: no filesystem that Kubernetes mounts goes beyond.
pub const MAX_FILE_BYTES: u64 = 1 << 50;
/// The most memory, in bytes of records, between the walk and the manifest.
pub const PENDING_BYTES: usize = 6 * 1024 * 1024;
/// Jobs that wait for a worker.
pub const QUEUED_JOBS: usize = 128;
/// Memory for the names of one directory while it is walked; a larger one is read repeatedly.
pub const DIRECTORY_BYTES: usize = 6 * 1024 * 1024;
/// Memory for remembering which inodes with several links were already sent.
pub const HARD_LINK_BYTES: usize = 16 * 1024 * 1024;
/// Slots of the table that finds equal blocks within a run (about 100 bytes each).
pub const DEDUP_SLOTS: usize = 64 * 1024;
/// How often a file is read again that changed while it was read.
pub const READ_ATTEMPTS: u32 = 3;
/// An inode that changed this recently may change again without its ctime showing it.
pub const RACY_AGE: Duration = Duration::from_secs(2);
/// How long the sender lets finished records wait for a pack to fill before it sends it as it is.
pub const FLUSH_AGE: Duration = Duration::from_secs(1);
/// How often a sender shows that it lives.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// The shortest and the longest pause between two looks for the next segment.
pub const POLL_SHORTEST: Duration = Duration::from_millis(20);
/// See [`POLL_SHORTEST`].
pub const POLL_LONGEST: Duration = Duration::from_secs(2);
/// In between, the next look comes when this part more of the time has gone by that was waited so
/// far: so what a receiver waits in vain is a small part of what it has to wait for.
pub const POLL_PART: u32 = 10;
/// The receiver fetches up to this much of a pack at once: half of one. A server that keeps
/// objects in blocks reads those at both ends of a range whole, so few large ranges cost it less.
pub const RANGE_BYTES: usize = 8 * 1024 * 1024;
/// Frames of a pack that are at most this far apart are fetched together.
pub const RANGE_GAP: u64 = 64 * 1024;
/// Ranges in memory: some on their way, some being written.
pub const RANGE_BUFFERS: usize = 5;
/// Segments whose content is being fetched and written at one time.
pub const SEGMENTS_IN_FLIGHT: usize = 3;
/// A file is sent on its way to the disk each time this much was written to it, so that there is
/// little left to wait for at the end.
pub const WRITE_BACK_BYTES: u64 = 32 * 1024 * 1024;
/// Files that wait to be sent to the disk; with more the last are left to the end.
pub const WRITE_BACK_FILES: usize = 16;
/// How often the receiver makes sure that what it wrote is on disk and notes how far it is.
pub const MARK_INTERVAL: Duration = Duration::from_secs(30);
/// The most findings (files that changed, metadata that was refused, ...) that a report lists.
pub const MAX_LISTED: usize = 20;
/// The most entries that are counted beforehand to tell how much there is to do.
pub const MAX_COUNTED: u64 = 2_000_000;
/// The most workers of one mover.
pub const MAX_WORKERS: usize = 8;

/// What a caller may set.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Threads that read, hash, compress and seal, or open, verify and write.
    pub workers: usize,
    /// Without any sign of the other side for this long, a receiver gives up.
    pub peer_timeout: Duration,
    /// The size at which a pack is closed, at most [`PACK_BYTES`].
    pub pack_bytes: usize,
    /// See [`SEGMENT_BYTES`]; a test sets it low.
    pub segment_bytes: usize,
    /// See [`HEARTBEAT`].
    pub heartbeat: Duration,
    /// See [`MARK_INTERVAL`].
    pub mark_interval: Duration,
    /// Whether a receiver waits until all is on disk before it reports success. Only a
    /// benchmark against tools that do not wait sets this to false.
    pub durable: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(MAX_WORKERS),
            peer_timeout: Duration::from_mins(10),
            pack_bytes: PACK_BYTES,
            segment_bytes: SEGMENT_BYTES,
            heartbeat: HEARTBEAT,
            mark_interval: MARK_INTERVAL,
            durable: true,
        }
    }
}
