//! Regular files: what of their content is right already, and what has to be fetched.

use std::{
    ffi::CString,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use rustix::fs::{FileType, Stat};

use super::{Planner, Streamed};
use crate::mover::{
    error::MoverError,
    format::{Content, End, Entry, FormatError, Kind, Piece, PiecePlace, show_path},
    metadata,
    receive::{
        Window,
        directory::DirHandle,
        file::{FileTask, Home, Present},
        worker::Job,
    },
    work::lock,
};

/// What was found of a file at the destination.
struct Found {
    present: Present,
    complete: bool,
}

impl Planner {
    pub(super) fn file(
        &mut self,
        dir: &Arc<DirHandle>,
        name: CString,
        entry: Entry,
        now: Option<Stat>,
        window: &Arc<Window>,
    ) -> Result<(), MoverError> {
        let Kind::File(content) = &entry.kind else {
            return Ok(());
        };
        let found = self.judge_present(&entry, content, now.as_ref());
        if found.present == Present::Nothing && now.is_some() {
            self.remove(dir, &name, &entry.path)?;
        }
        if found.complete {
            self.shared.count(|counters| &counters.unchanged, 1);
            self.shared.progress.add_bytes(content.size);
            self.shared.progress.add_file();
            if content.open {
                self.streamed = Some(Streamed { entry, task: None, at: 0 });
            }
            return Ok(());
        }
        let open = content.open;
        let (size, pieces) = (content.size, content.pieces.clone());
        let fresh = found.present == Present::Nothing;
        // What is not written at once must be found lacking first.
        let inline = if fresh { inline_pieces(&pieces) } else { Vec::new() };
        let finish_in = (!open).then(|| window.clone());
        let task = self.new_file(dir, name, &entry, size, found.present, inline, finish_in);
        match found.present {
            Present::Nothing => self.need_all(&task, &pieces),
            Present::Differing | Present::AsBefore if !open => self.compare(&task, pieces, 0, size)?,
            Present::Differing | Present::AsBefore => {}
            Present::SameContent => {
                self.shared.count(|counters| &counters.unchanged, 1);
                self.shared.progress.add_bytes(size);
            }
        }
        if open {
            self.streamed = Some(Streamed { entry, task: Some(task), at: 0 });
            return Ok(());
        }
        self.finish_later(task)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn new_file(
        &self,
        dir: &Arc<DirHandle>,
        name: CString,
        entry: &Entry,
        size: u64,
        present: Present,
        inline: Vec<Piece>,
        window: Option<Arc<Window>>,
    ) -> Arc<FileTask> {
        self.shared.file_opened();
        Arc::new(FileTask {
            path: entry.path.clone(),
            home: Home::Directory(dir.clone()),
            name,
            metadata: entry.metadata.clone(),
            size,
            present,
            inline,
            fd: Mutex::new(None),
            written: AtomicU64::new(0),
            window: Mutex::new(window),
        })
    }

    fn judge_present(&self, entry: &Entry, content: &Content, now: Option<&Stat>) -> Found {
        let nothing = Found { present: Present::Nothing, complete: false };
        let Some(now) = now.filter(|now| metadata::file_type(now) == FileType::RegularFile) else {
            return nothing;
        };
        let received_before = self.previous.is_some_and(|previous| entry.changed_in <= previous);
        let looks_like = |size, mtime| metadata::size(now) == size && metadata::mtime(now) == mtime;
        let same_content = received_before && looks_like(content.size, entry.metadata.mtime);
        let as_before = content.before.is_some_and(|before| {
            self.previous == Some(before.pass) && looks_like(before.size, before.mtime)
        });
        let complete = same_content && metadata::matches(now, &entry.metadata);
        let shared_inode = now.st_nlink > 1;
        if shared_inode && !complete {
            // Writing into it would change its other names, which may have become files of
            // their own.
            return nothing;
        }
        let present = if same_content {
            Present::SameContent
        } else if as_before {
            Present::AsBefore
        } else {
            Present::Differing
        };
        Found { present, complete }
    }

    fn need_all(&mut self, task: &Arc<FileTask>, pieces: &[Piece]) {
        for piece in pieces {
            self.needs.add(task, piece);
        }
    }

    pub(super) fn compare(
        &mut self,
        task: &Arc<FileTask>,
        pieces: Vec<Piece>,
        from: u64,
        to: u64,
    ) -> Result<(), MoverError> {
        self.comparing += 1;
        let job = Job::Compare { task: task.clone(), pieces, from, to, answer: self.answers.0.clone() };
        self.shared.jobs.push(job, &self.shared.stop)
    }

    /// Takes in the answers to all comparisons of this window.
    pub(super) fn compared(&mut self) -> Result<(), MoverError> {
        while self.comparing > 0 {
            self.shared.stop.check()?;
            let Ok(answer) = self.answers.1.recv_timeout(Duration::from_millis(100)) else {
                continue;
            };
            self.comparing -= 1;
            let (task, missing) = answer?;
            for piece in &missing {
                match &piece.place {
                    PiecePlace::Inline(bytes) => task.write(piece.offset, bytes, &self.shared)?,
                    PiecePlace::Frame { .. } => self.needs.add(&task, piece),
                }
            }
            self.finish_later(task)?;
        }
        Ok(())
    }

    /// Lets go of a file; if nobody else holds it, a worker finishes it.
    fn finish_later(&self, task: Arc<FileTask>) -> Result<(), MoverError> {
        self.shared.jobs.push(Job::Finish(task), &self.shared.stop)
    }

    pub(super) fn data(&mut self, pieces: Vec<Piece>, number: u64) -> Result<(), MoverError> {
        let Some(streamed) = &mut self.streamed else {
            return Ok(());
        };
        let size = match &streamed.entry.kind {
            Kind::File(content) => content.size,
            _ => 0,
        };
        let first = pieces.first().map_or(streamed.at, |piece| piece.offset);
        let end = pieces.last().map_or(first, |piece| piece.offset + u64::from(piece.length));
        if end > size || first < streamed.at {
            let path = show_path(&streamed.entry.path);
            let why = "a piece lies beyond the file's end or before the one before it";
            return Err(self.refused(number, FormatError::Content { path, why }));
        }
        let from = streamed.at;
        streamed.at = end;
        let Some(task) = streamed.task.clone() else {
            return Ok(());
        };
        match task.present {
            Present::SameContent => Ok(()),
            Present::Differing | Present::AsBefore => {
                let from = self.clear_before(&task, from, first)?;
                self.compare(&task, pieces, from, end)
            }
            Present::Nothing => {
                for piece in inline_pieces(&pieces) {
                    if let PiecePlace::Inline(bytes) = &piece.place {
                        task.write(piece.offset, bytes, &self.shared)?;
                    }
                }
                self.need_all(&task, &pieces);
                Ok(())
            }
        }
    }

    pub(super) fn end(&mut self, _end: End, window: &Arc<Window>) -> Result<(), MoverError> {
        let Some(streamed) = self.streamed.take() else {
            return Ok(());
        };
        let Some(task) = streamed.task else {
            return Ok(());
        };
        *lock(&task.window) = Some(window.clone());
        if matches!(task.present, Present::Differing | Present::AsBefore) {
            let size = task.size;
            let at = self.clear_before(&task, streamed.at.min(size), size)?;
            self.compare(&task, Vec::new(), at, size)?;
        }
        self.finish_later(task)
    }

    /// The sender opened the large file again: what was written of the first attempt stays, and
    /// is compared with the second.
    pub(super) fn abandon_streamed(&mut self) -> Result<(), MoverError> {
        // What was asked for is waited for, so that old content cannot come after new.
        self.compared()?;
        let Some(streamed) = self.streamed.take() else {
            return Ok(());
        };
        let Some(task) = streamed.task else {
            return Ok(());
        };
        self.needs.forget(&task);
        let (mut waited, path) = (task, streamed.entry.path);
        loop {
            match Arc::try_unwrap(waited) {
                Ok(alone) => {
                    drop(alone);
                    self.shared.file_closed();
                    return Ok(());
                }
                Err(still_shared) => {
                    self.shared.stop.check().inspect_err(|_| {
                        tracing::debug!(path = %show_path(&path), "stopped while it was reopened");
                    })?;
                    waited = still_shared;
                    std::thread::park_timeout(Duration::from_millis(5));
                }
            }
        }
    }
}

fn inline_pieces(pieces: &[Piece]) -> Vec<Piece> {
    let is_inline = |piece: &&Piece| matches!(piece.place, PiecePlace::Inline(_));
    pieces.iter().filter(is_inline).cloned().collect()
}
