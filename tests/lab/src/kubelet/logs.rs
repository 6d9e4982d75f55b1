//! The output of pods that run as processes: kept files, read whole or followed.

use std::collections::VecDeque;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, stream};

use crate::programs::supervise;

/// The logs of so many pods are kept in each cluster.
pub const KEPT_LOGS: usize = 256;
/// How often a followed log is looked at.
const POLL: Duration = Duration::from_millis(100);
/// What is read of a followed log at once.
const CHUNK_BYTES: u64 = 1 << 20;

/// Which output of a pod is wanted.
#[derive(Debug, Clone)]
pub(crate) struct LogQuery {
    pub pod_uid: String,
    pub container: String,
    pub follow: bool,
    pub tail_lines: Option<u64>,
    pub limit_bytes: Option<u64>,
}

#[derive(Debug, Clone)]
struct Entry {
    namespace: String,
    pod: String,
    dir: PathBuf,
}

/// Where the last pods' logs are.
#[derive(Debug, Default)]
pub(super) struct Kept(VecDeque<Entry>);

impl Kept {
    /// Remembers where a pod logs, and forgets the oldest.
    pub fn add(&mut self, namespace: String, pod: String, dir: PathBuf) {
        self.0.push_back(Entry { namespace, pod, dir });
        while self.0.len() > KEPT_LOGS {
            if let Some(oldest) = self.0.pop_front() {
                // What cannot be removed now goes with the cluster's folder.
                drop(std::fs::remove_dir_all(oldest.dir));
            }
        }
    }

    /// What the containers of the newest pod of this name have printed, one behind the other.
    pub fn text(&self, namespace: &str, pod: &str) -> Option<String> {
        let entry = self.0.iter().rev().find(|entry| entry.namespace == namespace && entry.pod == pod)?;
        let mut files: Vec<PathBuf> = std::fs::read_dir(&entry.dir)
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect();
        files.sort();
        Some(files.iter().map(|file| whole(file)).collect())
    }
}

/// The log of a container in its pod's folder.
pub(super) fn file(dir: &Path, container: &str) -> PathBuf {
    dir.join(format!("{container}.log"))
}

/// Both halves of a log.
fn whole(file: &Path) -> String {
    let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    read(&supervise::older(file)) + &read(file)
}

fn cut(text: &str, query: &LogQuery) -> Bytes {
    let from = query.tail_lines.map_or(0, |lines| {
        let lines = usize::try_from(lines).unwrap_or(usize::MAX);
        let starts: Vec<usize> = text
            .split_inclusive('\n')
            .map(str::len)
            .scan(0, |at, len| {
                let start = *at;
                *at += len;
                Some(start)
            })
            .collect();
        starts
            .len()
            .checked_sub(lines)
            .map_or(0, |skipped| starts.get(skipped).copied().unwrap_or(text.len()))
    });
    let bytes = &text.as_bytes()[from..];
    let limit = query.limit_bytes.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(bytes.len());
    Bytes::copy_from_slice(&bytes[..limit.min(bytes.len())])
}

/// Streams a log: what there is, and with `follow` what comes until `ended`.
pub(super) fn stream<E>(
    file: PathBuf,
    query: &LogQuery,
    ended: E,
) -> impl Stream<Item = Bytes> + Send + 'static + use<E>
where
    E: Fn() -> bool + Send + 'static,
{
    let first = cut(&whole(&file), query);
    let at = file.metadata().map_or(0, |meta| meta.len());
    let follow = query.follow;
    stream::unfold((Some(first), at, file, ended), move |(first, mut at, file, ended)| async move {
        if let Some(first) = first {
            return Some((first, (None, at, file, ended)));
        }
        if !follow {
            return None;
        }
        loop {
            // Asked before the file is read: what was written before the end is not missed.
            let last = ended();
            let chunk = from(&file, &mut at);
            if !chunk.is_empty() {
                return Some((chunk, (None, at, file, ended)));
            }
            if last {
                return None;
            }
            tokio::time::sleep(POLL).await;
        }
    })
}

fn from(file: &Path, at: &mut u64) -> Bytes {
    let Ok(mut open) = std::fs::File::open(file) else { return Bytes::new() };
    if open.metadata().is_ok_and(|meta| meta.len() < *at) {
        // It was begun anew.
        *at = 0;
    }
    let mut chunk = Vec::new();
    if open.seek(SeekFrom::Start(*at)).is_err() || open.take(CHUNK_BYTES).read_to_end(&mut chunk).is_err() {
        return Bytes::new();
    }
    *at += chunk.len() as u64;
    chunk.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(tail_lines: Option<u64>, limit_bytes: Option<u64>) -> LogQuery {
        LogQuery { pod_uid: String::new(), container: String::new(), follow: false, tail_lines, limit_bytes }
    }

    #[test]
    fn a_log_is_cut_to_its_last_lines_and_first_bytes() {
        assert_eq!(cut("a\nb\nc\n", &query(Some(2), None)), "b\nc\n");
        assert_eq!(cut("a\nb\nc\n", &query(Some(9), None)), "a\nb\nc\n");
        assert_eq!(cut("a\nb\nc\n", &query(Some(0), None)), "");
        assert_eq!(cut("a\nb\nc\n", &query(Some(2), Some(3))), "b\nc");
    }
}
