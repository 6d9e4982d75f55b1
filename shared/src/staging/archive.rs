//! A sealed archive of Kubernetes objects, written and read as a stream.
//!
//! Objects are JSON values behind their lengths, gathered into parts; a part is compressed,
//! sealed and put on its own, so neither side holds more than one. A trailer, written last,
//! carries the counts and a digest over all objects in order. Without its trailer an archive
//! does not exist; with it, a missing, added, reordered or changed object is an error.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{
    layout::{self, ArchiveName, InvalidName, MigrationUid, PairUid},
    seal::{PairKey, SealError, SealKey},
    store::{ObjectStore, StoreError, delete_prefix},
};

/// A part is closed when it holds this many bytes of JSON.
pub const PART_BYTES: usize = 4 * 1024 * 1024;
/// The largest single object, as JSON. etcd holds 1.5 MiB; an aggregated API may hold more.
pub const MAX_OBJECT_JSON: usize = 16 * 1024 * 1024;
/// The most parts of one archive: bounds what a reader believes of a trailer.
pub const MAX_PARTS: u32 = 65_536;

/// Objects are text with much repetition: this level costs little and takes most of it out.
const ZSTD_LEVEL: i32 = 3;
const LENGTH_BYTES: usize = 4;
const MAX_PART_RAW: usize = PART_BYTES + LENGTH_BYTES + MAX_OBJECT_JSON;

/// Why an archive could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The store failed.
    #[error("archive {archive}: {source}")]
    Store {
        /// Which archive.
        archive: String,
        /// Why.
        source: StoreError,
    },
    /// Sealed bytes do not open.
    #[error("archive {archive}: {source}")]
    Seal {
        /// Which archive.
        archive: String,
        /// Why.
        source: SealError,
    },
    /// There is no complete archive of this name.
    #[error("archive {archive} is not in staging or was never completed; run the migration's export again")]
    Missing {
        /// Which archive.
        archive: String,
    },
    /// The content contradicts itself.
    #[error("archive {archive} is damaged: {detail}; run the migration's export again")]
    Damaged {
        /// Which archive.
        archive: String,
        /// What is wrong.
        detail: String,
    },
    /// One object is larger than an archive takes.
    #[error(
        "an object of {bytes} bytes does not fit into archive {archive}, which takes {MAX_OBJECT_JSON}; exclude that object from the migration"
    )]
    ObjectTooLarge {
        /// Which archive.
        archive: String,
        /// The object's size.
        bytes: usize,
    },
    /// The archive has more parts than a reader would take.
    #[error(
        "archive {archive} would have more than {MAX_PARTS} parts; migrate fewer namespaces or kinds at once"
    )]
    TooManyParts {
        /// Which archive.
        archive: String,
    },
    /// A name is not fit for a key.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A value is not JSON, or cannot become JSON.
    #[error("archive {archive}: an object is not sound JSON: {source}; run the migration's export again")]
    Json {
        /// Which archive.
        archive: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveSummary {
    /// How many objects.
    pub objects: u64,
    /// How many bytes of JSON.
    pub bytes: u64,
    /// BLAKE3 over all objects and their lengths in order, in hex.
    pub digest: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trailer {
    run: Uuid,
    parts: u32,
    #[serde(flatten)]
    summary: ArchiveSummary,
}

/// Where an archive is and what opens it: what writer and reader have in common.
#[derive(Debug)]
struct Place {
    store: Arc<dyn ObjectStore>,
    key: SealKey,
    pair: PairUid,
    migration: MigrationUid,
    name: ArchiveName,
}

impl Place {
    fn new(
        store: Arc<dyn ObjectStore>,
        key: &PairKey,
        pair: &PairUid,
        migration: &MigrationUid,
        name: ArchiveName,
    ) -> Result<Self, ArchiveError> {
        name.validate()?;
        let key = key
            .migration_key(migration)
            .map_err(|source| ArchiveError::Seal { archive: name.to_string(), source })?;
        Ok(Self { store, key, pair: pair.clone(), migration: migration.clone(), name })
    }

    fn part_key(&self, run: Uuid, number: u32) -> String {
        layout::archive_part(&self.pair, &self.migration, &self.name, run, number)
    }

    fn trailer_key(&self) -> String {
        layout::archive_trailer(&self.pair, &self.migration, &self.name)
    }

    async fn put(&self, key: &str, plain: &[u8]) -> Result<(), ArchiveError> {
        let sealed = self.key.seal(key, plain).map_err(|e| self.seal_error(e))?;
        self.store.put(key, Bytes::from(sealed)).await.map_err(|e| self.store_error(e))
    }

    async fn get(&self, key: &str) -> Result<Vec<u8>, ArchiveError> {
        let sealed = self.store.get(key).await.map_err(|e| self.store_error(e))?;
        self.key.open(key, &sealed).map_err(|e| self.seal_error(e))
    }

    fn store_error(&self, source: StoreError) -> ArchiveError {
        ArchiveError::Store { archive: self.name.to_string(), source }
    }

    fn seal_error(&self, source: SealError) -> ArchiveError {
        ArchiveError::Seal { archive: self.name.to_string(), source }
    }

    fn json_error(&self, source: serde_json::Error) -> ArchiveError {
        ArchiveError::Json { archive: self.name.to_string(), source }
    }

    fn damaged(&self, detail: impl Into<String>) -> ArchiveError {
        ArchiveError::Damaged { archive: self.name.to_string(), detail: detail.into() }
    }
}

/// Writes an archive. Until `finish` returns, a reader sees what was there before.
pub struct ArchiveWriter {
    place: Place,
    run: Uuid,
    part: Vec<u8>,
    parts: u32,
    objects: u64,
    bytes: u64,
    digest: blake3::Hasher,
}

impl ArchiveWriter {
    /// Starts an archive that replaces the one of the same name.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        key: &PairKey,
        pair: &PairUid,
        migration: &MigrationUid,
        name: ArchiveName,
    ) -> Result<Self, ArchiveError> {
        Ok(Self {
            place: Place::new(store, key, pair, migration, name)?,
            run: Uuid::new_v4(),
            part: Vec::new(),
            parts: 0,
            objects: 0,
            bytes: 0,
            digest: blake3::Hasher::new(),
        })
    }

    /// Adds one object.
    pub async fn push(&mut self, object: &Value) -> Result<(), ArchiveError> {
        let start = self.part.len();
        self.part.extend_from_slice(&[0; LENGTH_BYTES]);
        serde_json::to_writer(&mut self.part, object).map_err(|e| self.place.json_error(e))?;
        let length = self.part.len() - start - LENGTH_BYTES;
        let Some(header) = u32::try_from(length).ok().filter(|_| length <= MAX_OBJECT_JSON) else {
            self.part.truncate(start);
            return Err(ArchiveError::ObjectTooLarge { archive: self.place.name.to_string(), bytes: length });
        };
        self.part[start..start + LENGTH_BYTES].copy_from_slice(&header.to_be_bytes());
        self.digest.update(&self.part[start..]);
        self.objects += 1;
        self.bytes += length as u64;
        if self.part.len() >= PART_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Completes the archive and removes the parts of earlier runs.
    pub async fn finish(mut self) -> Result<ArchiveSummary, ArchiveError> {
        if !self.part.is_empty() {
            self.flush().await?;
        }
        let previous = read_trailer(&self.place).await.ok().flatten();
        let summary = ArchiveSummary {
            objects: self.objects,
            bytes: self.bytes,
            digest: self.digest.finalize().to_hex().to_string(),
        };
        let trailer = Trailer { run: self.run, parts: self.parts, summary: summary.clone() };
        let json = serde_json::to_vec(&trailer).map_err(|e| self.place.json_error(e))?;
        self.place.put(&self.place.trailer_key(), &json).await?;
        if let Some(previous) = previous {
            let place = &self.place;
            let old = layout::archive_run_prefix(&place.pair, &place.migration, &place.name, previous.run);
            delete_prefix(place.store.as_ref(), &old).await.map_err(|e| place.store_error(e))?;
        }
        Ok(summary)
    }

    async fn flush(&mut self) -> Result<(), ArchiveError> {
        if self.parts >= MAX_PARTS {
            return Err(ArchiveError::TooManyParts { archive: self.place.name.to_string() });
        }
        let compressed = zstd::bulk::compress(&self.part, ZSTD_LEVEL)
            .map_err(|e| self.place.damaged(format!("compression failed: {e}")))?;
        let key = self.place.part_key(self.run, self.parts);
        self.place.put(&key, &compressed).await?;
        self.parts += 1;
        self.part.clear();
        Ok(())
    }
}

async fn read_trailer(place: &Place) -> Result<Option<Trailer>, ArchiveError> {
    let plain = match place.get(&place.trailer_key()).await {
        Ok(plain) => plain,
        Err(ArchiveError::Store { source, .. }) if source.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let trailer: Trailer = serde_json::from_slice(&plain).map_err(|e| place.json_error(e))?;
    if trailer.parts > MAX_PARTS {
        return Err(place.damaged(format!("its trailer names {} parts", trailer.parts)));
    }
    Ok(Some(trailer))
}

/// Reads an archive, object by object, in the order in which they were pushed.
pub struct ArchiveReader {
    place: Place,
    trailer: Trailer,
    part: Vec<u8>,
    at: usize,
    next_part: u32,
    objects: u64,
    bytes: u64,
    digest: blake3::Hasher,
}

impl ArchiveReader {
    /// Opens a complete archive.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        key: &PairKey,
        pair: &PairUid,
        migration: &MigrationUid,
        name: ArchiveName,
    ) -> Result<Self, ArchiveError> {
        let place = Place::new(store, key, pair, migration, name)?;
        let trailer = read_trailer(&place)
            .await?
            .ok_or_else(|| ArchiveError::Missing { archive: place.name.to_string() })?;
        Ok(Self {
            place,
            trailer,
            part: Vec::new(),
            at: 0,
            next_part: 0,
            objects: 0,
            bytes: 0,
            digest: blake3::Hasher::new(),
        })
    }

    /// What the archive claims to hold. `next` returning `None` confirms it.
    pub fn summary(&self) -> &ArchiveSummary {
        &self.trailer.summary
    }

    /// The next object; `None` once all were read and the whole agrees with the trailer.
    pub async fn next(&mut self) -> Result<Option<Value>, ArchiveError> {
        while self.at == self.part.len() {
            if self.next_part == self.trailer.parts {
                return self.confirm().map(|()| None);
            }
            self.load().await?;
        }
        let rest = &self.part[self.at..];
        let object = rest
            .split_first_chunk::<LENGTH_BYTES>()
            .and_then(|(length, body)| body.get(..u32::from_be_bytes(*length) as usize))
            .ok_or_else(|| self.place.damaged("an object is cut off"))?;
        let framed = &rest[..LENGTH_BYTES + object.len()];
        self.digest.update(framed);
        self.objects += 1;
        self.bytes += object.len() as u64;
        let value = serde_json::from_slice(object).map_err(|e| self.place.json_error(e))?;
        self.at += framed.len();
        Ok(Some(value))
    }

    async fn load(&mut self) -> Result<(), ArchiveError> {
        let key = self.place.part_key(self.trailer.run, self.next_part);
        let compressed = self.place.get(&key).await?;
        self.part = decompress(&compressed)
            .map_err(|e| self.place.damaged(format!("part {} does not decompress: {e}", self.next_part)))?;
        self.at = 0;
        self.next_part += 1;
        Ok(())
    }

    fn confirm(&self) -> Result<(), ArchiveError> {
        let found = ArchiveSummary {
            objects: self.objects,
            bytes: self.bytes,
            digest: self.digest.finalize().to_hex().to_string(),
        };
        if found == self.trailer.summary {
            Ok(())
        } else {
            Err(self.place.damaged(format!(
                "it holds {} objects and {} bytes, its trailer says {} and {}, or the digests differ",
                found.objects, found.bytes, self.trailer.summary.objects, self.trailer.summary.bytes
            )))
        }
    }
}

/// Decompresses at most `MAX_PART_RAW` bytes, allocating only what the frame says it needs.
fn decompress(compressed: &[u8]) -> std::io::Result<Vec<u8>> {
    let capacity = zstd::bulk::Decompressor::upper_bound(compressed)
        .filter(|bound| *bound <= MAX_PART_RAW)
        .ok_or_else(|| std::io::Error::other("its size is not credible"))?;
    zstd::bulk::decompress(compressed, capacity)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::staging::MemoryStore;

    struct Case {
        store: MemoryStore,
        key: PairKey,
        pair: PairUid,
        migration: MigrationUid,
    }

    impl Case {
        fn new() -> Self {
            Self {
                store: MemoryStore::new(),
                key: PairKey::generate().unwrap(),
                pair: PairUid::new("pair").unwrap(),
                migration: MigrationUid::new("migration").unwrap(),
            }
        }

        async fn write(&self, objects: &[Value]) -> ArchiveSummary {
            let mut writer = ArchiveWriter::new(
                Arc::new(self.store.clone()),
                &self.key,
                &self.pair,
                &self.migration,
                ArchiveName::namespace("cms").unwrap(),
            )
            .unwrap();
            for object in objects {
                writer.push(object).await.unwrap();
            }
            writer.finish().await.unwrap()
        }

        async fn read(&self) -> Result<Vec<Value>, ArchiveError> {
            let mut reader = ArchiveReader::open(
                Arc::new(self.store.clone()),
                &self.key,
                &self.pair,
                &self.migration,
                ArchiveName::namespace("cms").unwrap(),
            )
            .await?;
            let mut objects = Vec::new();
            while let Some(object) = reader.next().await? {
                objects.push(object);
            }
            Ok(objects)
        }
    }

    fn objects(count: usize, padding: usize) -> Vec<Value> {
        (0..count).map(|n| json!({"kind": "ConfigMap", "n": n, "data": "x".repeat(padding)})).collect()
    }

    #[tokio::test]
    async fn objects_come_back_in_order_across_parts() {
        let case = Case::new();
        let objects = objects(50, 300_000);
        let summary = case.write(&objects).await;
        assert_eq!(summary.objects, 50);
        assert!(case.store.contents().len() > 3, "several parts");
        assert_eq!(case.read().await.unwrap(), objects);
    }

    #[tokio::test]
    async fn an_empty_archive_is_complete() {
        let case = Case::new();
        case.write(&[]).await;
        assert!(case.read().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn writing_again_replaces_the_archive_and_leaves_no_old_parts() {
        let case = Case::new();
        case.write(&objects(40, 300_000)).await;
        case.write(&objects(1, 1)).await;
        assert_eq!(case.read().await.unwrap(), objects(1, 1));
        assert_eq!(case.store.contents().len(), 2);
    }

    #[tokio::test]
    async fn an_archive_without_its_trailer_is_not_there() {
        assert!(matches!(Case::new().read().await, Err(ArchiveError::Missing { .. })));
    }

    #[tokio::test]
    async fn a_flipped_byte_in_any_object_of_the_archive_is_an_error() {
        let case = Case::new();
        case.write(&objects(3, 10)).await;
        for (key, size) in case.store.contents() {
            let sound = case.store.raw(&key).unwrap();
            for at in 0..size {
                let mut changed = sound.to_vec();
                changed[at] ^= 0x40;
                case.store.set_raw(&key, Bytes::from(changed));
                assert!(case.read().await.is_err(), "{key} byte {at}");
            }
            case.store.set_raw(&key, sound);
        }
        assert!(case.read().await.is_ok());
    }
}
