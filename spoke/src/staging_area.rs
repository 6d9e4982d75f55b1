//! A run's place in the bucket, opened with the key that the task brought.

use std::sync::{Arc, Mutex, PoisonError};

use isthmus_shared::protocol::Run;
use isthmus_shared::staging::layout::InvalidName;
use isthmus_shared::staging::s3::{self, RetryPolicy};
use isthmus_shared::staging::{
    ArchiveError, ArchiveName, ArchiveReader, ArchiveWriter, MigrationUid, ObjectStore, PairKey, PairUid,
    SealError, StoreAccess, StoreError,
};

/// Opened stores that are kept for the next task.
const MAX_STORES: usize = 32;

/// Why staging could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// The description of the store is no use.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pair's key is none.
    #[error("the pair's key cannot be used: {0}; make the pair anew")]
    Key(#[from] SealError),
    /// A uid is none.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

/// Open stores by their access, so that tasks share connections.
#[derive(Debug, Default)]
pub struct Stores {
    open: Mutex<Vec<(StoreAccess, Arc<dyn ObjectStore>)>>,
}

impl Stores {
    /// The store of this access.
    pub fn open(&self, access: &StoreAccess) -> Result<Arc<dyn ObjectStore>, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, store)) = open.iter().find(|(known, _)| known == access) {
            return Ok(Arc::clone(store));
        }
        let store = s3::open_with(access, RetryPolicy::PATIENT)?;
        if open.len() >= MAX_STORES {
            open.remove(0);
        }
        open.push((access.clone(), Arc::clone(&store)));
        Ok(store)
    }
}

/// One migration's staging.
#[derive(Clone, Debug)]
pub struct StagingArea {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The pair's key.
    pub key: PairKey,
    /// The pair.
    pub pair: PairUid,
    /// The migration.
    pub migration: MigrationUid,
    /// The migration that has read the source for this one: it itself, unless it brings back an
    /// earlier one.
    pub origin: MigrationUid,
}

impl StagingArea {
    /// Opens a run's staging. Nothing is sent yet.
    pub fn open(stores: &Stores, run: &Run) -> Result<Self, StagingError> {
        let origin = run.recovers.as_deref().unwrap_or(&run.migration);
        Ok(Self {
            origin: MigrationUid::new(origin)?,
            store: stores.open(&run.staging.access)?,
            key: PairKey::from_base64(&run.staging.key)?,
            pair: PairUid::new(run.staging.pair.as_str())?,
            migration: MigrationUid::new(run.migration.as_str())?,
        })
    }

    /// Begins an archive, which replaces one of the same name when it is finished.
    pub fn write(&self, name: ArchiveName) -> Result<ArchiveWriter, ArchiveError> {
        ArchiveWriter::new(Arc::clone(&self.store), &self.key, &self.pair, &self.migration, name)
    }

    /// Opens an archive: what was read of the source is that of its origin, what became of it is the
    /// migration's own.
    pub async fn read(&self, name: ArchiveName) -> Result<ArchiveReader, ArchiveError> {
        let migration = match &name {
            ArchiveName::Inventory
            | ArchiveName::Cluster
            | ArchiveName::Namespace(_)
            | ArchiveName::Candidates
            | ArchiveName::LeftBehind => &self.origin,
            ArchiveName::Survey | ArchiveName::Preview | ArchiveName::Results => &self.migration,
        };
        ArchiveReader::open(Arc::clone(&self.store), &self.key, &self.pair, migration, name).await
    }
}
