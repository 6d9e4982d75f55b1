//! Reading files: into frames, with hashing, deduplication and compression on the way.
//!
//! A worker owns its buffers. Blocks of small files are read one after the other into a shared
//! frame and get their places once that frame is full; a larger block is a frame of its own.

use std::{
    num::NonZeroU64,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, atomic::Ordering},
};

use rustix::{
    fs::{Advice, FileType, Mode, OFlags, SeekFrom, Stat, fadvise, fstat, openat, seek},
    io::{Errno, pread},
};

use super::{
    Shared,
    job::{Answer, FileName, Job, StreamedFile, WholeFile},
};
use crate::mover::{
    device::is_zero,
    error::MoverError,
    format::{BlockHash, Entry, FrameRef, Kind, Piece, PiecePlace, Record, Time},
    limits::{
        BLOCK_BYTES, INLINE_BYTES, MAX_FRAME_RAW, RACY_AGE, READ_ATTEMPTS, SHARED_BLOCK_BYTES,
        SHARED_FRAME_BYTES,
    },
    metadata,
    work::Taken,
};

/// Fast, and strong enough that packs of text and databases shrink to a half or third.
const ZSTD_LEVEL: i32 = 1;
/// A frame stays as it is unless compression saves this part of it (a 32nd).
const WORTHWHILE: usize = 32;
/// What happened to a file that is not as it was when it was opened.
pub const CHANGED: &str = "changed while it was read";
/// Large frames are tried on two samples of this size first.
const SAMPLE_BYTES: usize = 8 * 1024;

/// A file whose blocks wait for the shared frame.
struct Waiting {
    entry: Box<Entry>,
    previous: Option<Box<Entry>>,
    pieces: Vec<Piece>,
    /// Of `pieces`: those without a place, and where they are in the shared frame.
    unplaced: Vec<(usize, u32, BlockHash)>,
    /// `None` while it is still being read.
    answer: Option<Answer<WholeFile>>,
}

pub struct Worker {
    shared: Arc<Shared>,
    block: Vec<u8>,
    frame: Vec<u8>,
    waiting: Vec<Waiting>,
    compressed: Vec<u8>,
    compressor: zstd::bulk::Compressor<'static>,
    flushed: u64,
}

impl Worker {
    pub fn new(shared: Arc<Shared>) -> Result<Self, MoverError> {
        let compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)
            .map_err(|error| MoverError::Worker { detail: format!("no compressor: {error}") })?;
        Ok(Self {
            shared,
            block: vec![0; BLOCK_BYTES],
            frame: Vec::with_capacity(SHARED_FRAME_BYTES + SHARED_BLOCK_BYTES),
            waiting: Vec::new(),
            compressed: vec![0; MAX_FRAME_RAW],
            compressor,
            flushed: 0,
        })
    }

    /// Works until there are no more jobs.
    pub fn run(mut self) -> Result<(), MoverError> {
        let shared = self.shared.clone();
        loop {
            let taken = shared.jobs.pop();
            if shared.stop.is_set() {
                return Ok(());
            }
            match taken {
                Taken::Item(Job::Whole { at, entry, previous, answer }) => {
                    self.read_whole(&at, entry, previous, answer)?;
                }
                Taken::Item(Job::Range { file, start, end, known, answer }) => {
                    let pieces = self.read_range(&file, start, end, &known);
                    // Nobody waits any more only if the run is over.
                    answer.send(pieces).ok();
                }
                Taken::Empty => {}
                Taken::Closed => {
                    self.close_frame()?;
                    shared.worker_done();
                    return Ok(());
                }
            }
            if let Some(epoch) = shared.flush_wanted(self.flushed) {
                self.flushed = epoch;
                self.close_frame()?;
                shared.worker_flushed();
            }
        }
    }

    fn read_whole(
        &mut self,
        at: &FileName,
        entry: Box<Entry>,
        previous: Option<Box<Entry>>,
        answer: Answer<WholeFile>,
    ) -> Result<(), MoverError> {
        let known = match previous.as_ref().map(|previous| &previous.kind) {
            Some(Kind::File(content)) => content.pieces.clone(),
            _ => Vec::new(),
        };
        let (pieces, unplaced) = (Vec::new(), Vec::new());
        self.waiting.push(Waiting { entry, previous, pieces, unplaced, answer: None });
        let read = self.read_attempts(at, &known);
        let Some(file) = self.waiting.last_mut() else {
            return Ok(());
        };
        match read {
            Ok(true) => {
                file.answer = Some(answer);
                if file.unplaced.is_empty()
                    && let Some(file) = self.waiting.pop()
                {
                    finish(file);
                }
                if self.frame.len() >= SHARED_FRAME_BYTES {
                    self.close_frame()?;
                }
                return Ok(());
            }
            Ok(false) => {
                answer.send(Ok(WholeFile::Vanished(file.entry.path.clone()))).ok();
            }
            Err(error) => {
                answer.send(Err(error)).ok();
            }
        }
        // What it put into the shared frame stays there unnamed.
        self.waiting.pop();
        Ok(())
    }

    /// Reads the newest waiting file until it did not change meanwhile. False if it is gone.
    fn read_attempts(&mut self, at: &FileName, known: &[Piece]) -> Result<bool, MoverError> {
        for attempt in 1..=READ_ATTEMPTS {
            let Some(file) = self.waiting.last_mut() else {
                return Ok(false);
            };
            file.pieces.clear();
            file.unplaced.clear();
            let path = file.entry.path.clone();
            let Some((fd, before)) = open_file(at, &path)? else {
                return Ok(false);
            };
            let xattrs = metadata::read_xattrs(metadata::open_target(&fd))
                .map_err(|errno| MoverError::file("reading the extended attributes of", &path, errno))?;
            set_state(&mut file.entry, &before, xattrs);
            self.read_blocks(&fd, &path, metadata::size(&before), is_sparse(&before), known)?;
            let after = fstat(&fd).map_err(|errno| MoverError::file("reading the state of", &path, errno))?;
            let sound = same_state(&before, &after);
            if !sound {
                self.shared.changed(&path, CHANGED)?;
            }
            if sound || attempt == READ_ATTEMPTS {
                if let Some(Kind::File(content)) = self.waiting.last_mut().map(|file| &mut file.entry.kind) {
                    content.inconsistent = !sound;
                }
                self.shared.progress.add_file();
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn read_blocks(
        &mut self,
        fd: &OwnedFd,
        path: &[u8],
        size: u64,
        sparse: bool,
        known: &[Piece],
    ) -> Result<(), MoverError> {
        let mut at = 0;
        while let Some((start, end)) = next_data(fd, path, at, size, sparse)? {
            let mut offset = start;
            while offset < end {
                let length = block_length(offset, end);
                let got = if length <= SHARED_BLOCK_BYTES {
                    self.read_shared_block(fd, path, offset, length, size, known)?
                } else {
                    let got = read_at(fd, path, offset, &mut self.block[..length])?;
                    let piece = self.place_block(offset, got, known)?;
                    self.keep(piece);
                    got
                };
                self.count_read(got);
                if got < length {
                    // The file became shorter; the comparison of states will tell.
                    return Ok(());
                }
                offset += length as u64;
            }
            at = end;
        }
        Ok(())
    }

    fn keep(&mut self, piece: Option<Piece>) {
        if let (Some(piece), Some(file)) = (piece, self.waiting.last_mut()) {
            file.pieces.push(piece);
        }
    }

    fn count_read(&self, bytes: usize) {
        self.shared.progress.add_bytes(bytes as u64);
        self.shared.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Reads a block straight into the shared frame.
    fn read_shared_block(
        &mut self,
        fd: &OwnedFd,
        path: &[u8],
        offset: u64,
        length: usize,
        size: u64,
        known: &[Piece],
    ) -> Result<usize, MoverError> {
        if self.frame.len() + length > MAX_FRAME_RAW {
            self.close_frame()?;
        }
        let inner = self.frame.len();
        self.frame.resize(inner + length, 0);
        let got = read_at(fd, path, offset, &mut self.frame[inner..])?;
        self.frame.truncate(inner + got);
        let bytes = &self.frame[inner..];
        if got == 0 || is_zero(bytes) {
            self.frame.truncate(inner);
            return Ok(got);
        }
        let mut piece = Piece {
            offset,
            length: u32::try_from(got).unwrap_or(u32::MAX),
            place: PiecePlace::Inline(Vec::new()),
            kept: false,
        };
        if size <= INLINE_BYTES as u64 && got <= INLINE_BYTES {
            piece.place = PiecePlace::Inline(bytes.to_vec());
        } else {
            let hash = self.shared.name_block(bytes);
            let Some((place, kept)) = self.shared.find(hash, &piece, known) else {
                if let Some(file) = self.waiting.last_mut() {
                    let inner = u32::try_from(inner).unwrap_or(u32::MAX);
                    file.unplaced.push((file.pieces.len(), inner, hash));
                    file.pieces.push(piece);
                }
                return Ok(got);
            };
            (piece.place, piece.kept) = (place, kept);
        }
        self.frame.truncate(inner);
        self.keep(Some(piece));
        Ok(got)
    }

    /// Makes `length` bytes of the block buffer a piece; `None` if they are a hole.
    fn place_block(
        &mut self,
        offset: u64,
        length: usize,
        known: &[Piece],
    ) -> Result<Option<Piece>, MoverError> {
        let bytes = &self.block[..length];
        if length == 0 || is_zero(bytes) {
            return Ok(None);
        }
        let hash = self.shared.name_block(bytes);
        let mut piece = Piece {
            offset,
            length: u32::try_from(length).unwrap_or(u32::MAX),
            place: PiecePlace::Inline(Vec::new()),
            kept: false,
        };
        if let Some((place, kept)) = self.shared.find(hash, &piece, known) {
            (piece.place, piece.kept) = (place, kept);
            return Ok(Some(piece));
        }
        let frame =
            add_frame(&self.shared, &mut self.compressor, &mut self.compressed, &self.block[..length])?;
        piece.place = PiecePlace::Frame { frame, inner: 0, hash };
        self.shared.dedup.insert(&piece);
        Ok(Some(piece))
    }

    fn read_range(
        &mut self,
        file: &StreamedFile,
        start: u64,
        end: u64,
        known: &[Piece],
    ) -> Result<Vec<Piece>, MoverError> {
        let mut pieces = Vec::new();
        // Several workers read one file: to the kernel that is no sequence, so it is told what
        // comes next.
        let part = NonZeroU64::new(end - start);
        fadvise(&file.fd, start, part, Advice::WillNeed).ok();
        let mut offset = start;
        while offset < end {
            let length = block_length(offset, end);
            let got = read_at(&file.fd, &file.entry.path, offset, &mut self.block[..length])?;
            pieces.extend(self.place_block(offset, got, known)?);
            self.count_read(got);
            if got < length {
                break;
            }
            offset += length as u64;
        }
        if file.passing {
            fadvise(&file.fd, start, part, Advice::DontNeed).ok();
        }
        Ok(pieces)
    }

    /// Seals the shared frame and answers the files that waited for it.
    fn close_frame(&mut self) -> Result<(), MoverError> {
        if !self.frame.is_empty() {
            let frame = add_frame(&self.shared, &mut self.compressor, &mut self.compressed, &self.frame)?;
            self.frame.clear();
            for file in &mut self.waiting {
                for (at, inner, hash) in file.unplaced.drain(..) {
                    let piece = &mut file.pieces[at];
                    piece.place = PiecePlace::Frame { frame, inner, hash };
                    self.shared.dedup.insert(piece);
                }
            }
        }
        // The file that is still being read stays.
        let unfinished = self.waiting.pop_if(|file| file.answer.is_none());
        self.waiting.drain(..).for_each(finish);
        self.waiting.extend(unfinished);
        Ok(())
    }
}

fn finish(mut file: Waiting) {
    if let Kind::File(content) = &mut file.entry.kind {
        content.pieces = file.pieces;
    }
    if let Some(previous) = file.previous
        && previous.metadata == file.entry.metadata
        && let (Kind::File(old), Kind::File(new)) = (&previous.kind, &file.entry.kind)
        && old.is_same(new)
    {
        // Read again only because its stamp could not be relied on.
        file.entry.changed_in = previous.changed_in;
    }
    if let Some(answer) = file.answer {
        let record = Box::new(Record::Entry(*file.entry));
        answer.send(Ok(WholeFile::Read(record))).ok();
    }
}

fn add_frame(
    shared: &Shared,
    compressor: &mut zstd::bulk::Compressor<'static>,
    compressed: &mut [u8],
    bytes: &[u8],
) -> Result<FrameRef, MoverError> {
    let raw = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    // A destination that is too small makes zstd give up: it did not shrink enough.
    let limit = bytes.len() - bytes.len().div_ceil(WORTHWHILE);
    let length = if looks_compressible(compressor, compressed, bytes) {
        compressor.compress_to_buffer(bytes, &mut compressed[..limit]).ok()
    } else {
        None
    };
    match length {
        Some(length) => shared.packer.add(&compressed[..length], raw),
        None => shared.packer.add(bytes, raw),
    }
}

fn looks_compressible(
    compressor: &mut zstd::bulk::Compressor<'static>,
    scratch: &mut [u8],
    bytes: &[u8],
) -> bool {
    if bytes.len() < 8 * SAMPLE_BYTES {
        return true;
    }
    let limit = SAMPLE_BYTES - SAMPLE_BYTES / WORTHWHILE;
    [bytes.len() / 4, bytes.len() / 4 * 3].into_iter().any(|at| {
        let sample = &bytes[at..at + SAMPLE_BYTES];
        compressor.compress_to_buffer(sample, &mut scratch[..limit]).is_ok()
    })
}

/// Opens a file for reading. `None` if it is gone or no regular file any more.
pub fn open_file(at: &FileName, path: &[u8]) -> Result<Option<(OwnedFd, Stat)>, MoverError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = match openat(&*at.parent, &at.name, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(MoverError::file("opening", path, errno)),
    };
    let stat = fstat(&fd).map_err(|errno| MoverError::file("reading the state of", path, errno))?;
    Ok((metadata::file_type(&stat) == FileType::RegularFile).then_some((fd, stat)))
}

/// Puts what a stat says into an entry.
pub fn set_state(entry: &mut Entry, stat: &Stat, xattrs: Vec<crate::mover::format::Xattr>) {
    entry.metadata = metadata::from_stat(stat);
    entry.metadata.xattrs = xattrs;
    entry.stamp = metadata::stamp(stat);
    if is_racy(entry.stamp.ctime) {
        entry.stamp.ctime = Time::default();
    }
    if let Kind::File(content) = &mut entry.kind {
        content.size = metadata::size(stat);
    }
}

/// A change within the same tick of the filesystem's clock would not show: such a file is read
/// again in the next pass.
fn is_racy(ctime: Time) -> bool {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    seconds.saturating_sub(ctime.seconds) <= i64::try_from(RACY_AGE.as_secs()).unwrap_or(0)
}

/// Whether nothing happened to the file between two stats.
pub fn same_state(a: &Stat, b: &Stat) -> bool {
    metadata::size(a) == metadata::size(b)
        && metadata::mtime(a) == metadata::mtime(b)
        && metadata::stamp(a) == metadata::stamp(b)
}

/// Whether the file has fewer blocks than its size needs.
pub fn is_sparse(stat: &Stat) -> bool {
    u64::try_from(stat.st_blocks).unwrap_or_default() * 512 < metadata::size(stat)
}

/// The next run of data from `at` on: all that is left, unless the file is sparse.
pub fn next_data(
    fd: &OwnedFd,
    path: &[u8],
    at: u64,
    size: u64,
    sparse: bool,
) -> Result<Option<(u64, u64)>, MoverError> {
    if at >= size {
        return Ok(None);
    }
    if !sparse {
        return Ok(Some((at, size)));
    }
    let error = |errno| MoverError::file("finding the holes of", path, errno);
    let start = match seek(fd, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // A filesystem that does not know holes has none.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((at, size))),
        Err(errno) => return Err(error(errno)),
    };
    let end = match seek(fd, SeekFrom::Hole(start)) {
        Ok(end) => end.min(size),
        Err(Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(error(errno)),
    };
    Ok((start < end).then_some((start, end)))
}

/// Blocks lie on multiples of their size, so that a change moves no later block.
fn block_length(offset: u64, end: u64) -> usize {
    let block = BLOCK_BYTES as u64;
    let boundary = (offset / block + 1) * block;
    usize::try_from(boundary.min(end) - offset).unwrap_or(BLOCK_BYTES)
}

fn read_at(fd: &impl AsFd, path: &[u8], offset: u64, into: &mut [u8]) -> Result<usize, MoverError> {
    let mut got = 0;
    while got < into.len() {
        match pread(fd, &mut into[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(read) => got += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(MoverError::file("reading", path, errno)),
        }
    }
    Ok(got)
}
