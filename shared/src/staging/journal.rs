//! The log of a migration in staging: sealed chunks that are only ever added.
//!
//! Each cluster's spoke writes its own chunks, numbered from zero; a spoke that starts again
//! goes on after the last one. Readers put the lines of all clusters into the order of time.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    layout::{self, InvalidName, MigrationUid, PairUid},
    seal::{PairKey, SealError, SealKey},
    store::{MAX_PAGE, ObjectStore, StoreError},
};

/// A chunk is written when it holds this many bytes; callers flush earlier at their own pace.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// A longer line is cut here.
pub const MAX_LINE: usize = 16 * 1024;
/// The most chunks that one cluster writes for one migration.
pub const MAX_CHUNKS: u32 = 100_000;

/// Why a log could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The store failed.
    #[error("log of cluster {cluster}: {source}")]
    Store {
        /// Whose log.
        cluster: String,
        /// Why.
        source: StoreError,
    },
    /// Sealed bytes do not open.
    #[error("log of cluster {cluster}: {source}")]
    Seal {
        /// Whose log.
        cluster: String,
        /// Why.
        source: SealError,
    },
    /// A name is not fit for a key.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A chunk holds something else than lines.
    #[error("log chunk {key} is damaged: {source}; remove it")]
    Damaged {
        /// The chunk's key.
        key: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The log is full.
    #[error(
        "the log of cluster {cluster} has {MAX_CHUNKS} chunks, and takes no more; look for a step that repeats without end"
    )]
    Full {
        /// Whose log.
        cluster: String,
    },
}

/// One line of a migration's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// When it was written, by the clock of the writing spoke.
    pub at: Timestamp,
    /// Which cluster's spoke wrote it. Not stored: the chunk's key says it.
    #[serde(skip)]
    pub cluster: String,
    /// The line, without a line break at its end.
    pub text: String,
}

/// Appends to the log of one migration as one cluster's spoke.
pub struct LogWriter {
    store: Arc<dyn ObjectStore>,
    key: SealKey,
    pair: PairUid,
    migration: MigrationUid,
    cluster: String,
    buffer: Vec<u8>,
    next: u32,
}

impl LogWriter {
    /// Opens the log behind the chunks that are already there.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        key: &PairKey,
        pair: &PairUid,
        migration: &MigrationUid,
        cluster: &str,
    ) -> Result<Self, JournalError> {
        let key = key.migration_key(migration).map_err(seal_error(cluster))?;
        let prefix = layout::log_prefix(pair, migration, cluster)?;
        let mut next = 0;
        for_each_chunk(store.as_ref(), cluster, &prefix, None, |number| next = number + 1).await?;
        Ok(Self {
            store,
            key,
            pair: pair.clone(),
            migration: migration.clone(),
            cluster: cluster.to_owned(),
            buffer: Vec::new(),
            next,
        })
    }

    /// Adds a line with the present time; writes a chunk when enough has come together.
    pub async fn append(&mut self, line: &str) -> Result<(), JournalError> {
        let mut end = line.len().min(MAX_LINE);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        let line = LogLine {
            at: Timestamp::now(),
            cluster: String::new(),
            text: line[..end].trim_end_matches('\n').to_owned(),
        };
        serde_json::to_writer(&mut self.buffer, &line)
            .map_err(|source| JournalError::Damaged { key: "a new line".to_owned(), source })?;
        self.buffer.push(b'\n');
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Writes what has come together. On an error the lines stay for the next attempt.
    pub async fn flush(&mut self) -> Result<(), JournalError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if self.next >= MAX_CHUNKS {
            return Err(JournalError::Full { cluster: self.cluster.clone() });
        }
        let key = layout::log_chunk(&self.pair, &self.migration, &self.cluster, self.next)?;
        let sealed = self.key.seal(&key, &self.buffer).map_err(seal_error(&self.cluster))?;
        self.store.put(&key, Bytes::from(sealed)).await.map_err(store_error(&self.cluster))?;
        self.next += 1;
        self.buffer.clear();
        Ok(())
    }
}

/// Reads the logs of `clusters` in the order of time, at most `limit` lines: the newest ones.
pub async fn read_all(
    store: &dyn ObjectStore,
    key: &PairKey,
    pair: &PairUid,
    migration: &MigrationUid,
    clusters: &[&str],
    limit: usize,
) -> Result<Vec<LogLine>, JournalError> {
    let mut lines = Vec::new();
    for cluster in clusters {
        let mut chunk = 0;
        loop {
            let (read, next) = read_from(store, key, pair, migration, cluster, chunk, limit).await?;
            lines.extend(read);
            // Two clusters' lines are held at the most twice over before the older ones go.
            keep_newest(&mut lines, limit);
            if next == chunk {
                break;
            }
            chunk = next;
        }
    }
    keep_newest(&mut lines, limit);
    Ok(lines)
}

fn keep_newest(lines: &mut Vec<LogLine>, limit: usize) {
    lines.sort_by_key(|line| line.at);
    let surplus = lines.len().saturating_sub(limit);
    lines.drain(..surplus);
}

/// Reads one cluster's lines from chunk number `from` on, until there are no more chunks or at
/// least `limit` lines were read. Gives the number of the chunk to go on with: for following a
/// log, call again with it.
pub async fn read_from(
    store: &dyn ObjectStore,
    key: &PairKey,
    pair: &PairUid,
    migration: &MigrationUid,
    cluster: &str,
    from: u32,
    limit: usize,
) -> Result<(Vec<LogLine>, u32), JournalError> {
    let seal = key.migration_key(migration).map_err(seal_error(cluster))?;
    let mut lines = Vec::new();
    let mut next = from;
    while lines.len() < limit && next < MAX_CHUNKS {
        let chunk = layout::log_chunk(pair, migration, cluster, next)?;
        let sealed = match store.get(&chunk).await {
            Ok(sealed) => sealed,
            Err(error) if error.is_not_found() => break,
            Err(error) => return Err(store_error(cluster)(error)),
        };
        let plain = seal.open(&chunk, &sealed).map_err(seal_error(cluster))?;
        for line in plain.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let mut line: LogLine = serde_json::from_slice(line)
                .map_err(|source| JournalError::Damaged { key: chunk.clone(), source })?;
            (*cluster).clone_into(&mut line.cluster);
            lines.push(line);
        }
        next += 1;
    }
    Ok((lines, next))
}

async fn for_each_chunk(
    store: &dyn ObjectStore,
    cluster: &str,
    prefix: &str,
    mut after: Option<String>,
    mut visit: impl FnMut(u32),
) -> Result<(), JournalError> {
    loop {
        let page = store.list(prefix, after.as_deref(), MAX_PAGE).await.map_err(store_error(cluster))?;
        for object in &page.objects {
            // `east-` is also the start of cluster `east-2`'s chunks: those are not numbers.
            if let Some(number) = object.key.strip_prefix(prefix).and_then(|n| n.parse().ok()) {
                visit(number);
            }
        }
        after = page.objects.into_iter().next_back().map(|object| object.key);
        if !page.more || after.is_none() {
            return Ok(());
        }
    }
}

fn store_error(cluster: &str) -> impl FnOnce(StoreError) -> JournalError {
    let cluster = cluster.to_owned();
    move |source| JournalError::Store { cluster, source }
}

fn seal_error(cluster: &str) -> impl FnOnce(SealError) -> JournalError {
    let cluster = cluster.to_owned();
    move |source| JournalError::Seal { cluster, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::staging::MemoryStore;

    #[tokio::test]
    async fn lines_of_both_clusters_come_in_the_order_of_time_over_restarts() {
        let store = MemoryStore::new();
        let shared: Arc<dyn ObjectStore> = Arc::new(store.clone());
        let key = PairKey::generate().unwrap();
        let pair = PairUid::new("p").unwrap();
        let migration = MigrationUid::new("m").unwrap();
        for round in 0..3 {
            for cluster in ["east", "east-2"] {
                let mut writer =
                    LogWriter::open(shared.clone(), &key, &pair, &migration, cluster).await.unwrap();
                writer.append(&format!("{cluster} {round}")).await.unwrap();
                writer.flush().await.unwrap();
            }
        }
        let lines = read_all(&store, &key, &pair, &migration, &["east", "east-2"], 100).await.unwrap();
        let texts: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["east 0", "east-2 0", "east 1", "east-2 1", "east 2", "east-2 2"]);
        assert_eq!(lines[1].cluster, "east-2");
        let newest = read_all(&store, &key, &pair, &migration, &["east", "east-2"], 2).await.unwrap();
        assert_eq!(newest[0].text, "east 2");
    }

    #[tokio::test]
    async fn a_long_line_is_cut_at_a_character() {
        let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
        let key = PairKey::generate().unwrap();
        let (pair, migration) = (PairUid::new("p").unwrap(), MigrationUid::new("m").unwrap());
        let mut writer = LogWriter::open(store.clone(), &key, &pair, &migration, "c").await.unwrap();
        writer.append(&"é".repeat(MAX_LINE)).await.unwrap();
        writer.flush().await.unwrap();
        let (lines, next) = read_from(store.as_ref(), &key, &pair, &migration, "c", 0, 10).await.unwrap();
        assert_eq!(next, 1);
        assert!(lines[0].text.len() <= MAX_LINE);
    }
}
