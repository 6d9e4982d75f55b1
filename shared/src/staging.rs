//! The bucket between two clusters: what lies where, sealed how, and how it is reached.
//!
//! ```text
//!   layout   every key name, typed            seal     keys and sealed bytes
//!      \                                        /
//!       archive   Kubernetes objects      journal   log lines        (the mover's packs and
//!             \                            /                          segments: isthmus-spoke)
//!              store   the trait: put, get, range, list, delete
//!              /   \
//!            s3     memory                access   where the bucket is and who may use it
//!                                             \
//!                                              sts   credentials for one volume only
//! ```
//!
//! Promises:
//!
//! - nothing leaves this module's writers unsealed; a reader either gets the bytes that were
//!   written under that very key, or an error;
//! - every call to a store is bounded in size, in time and in attempts;
//! - no conditional puts: locks and fences live in Kubernetes, never in the bucket.

pub mod access;
pub mod archive;
pub mod journal;
pub mod layout;
pub mod memory;
pub mod probe;
pub mod s3;
pub mod seal;
pub mod store;
pub mod sts;

pub use access::{StoreAccess, StsAccess};
pub use archive::{ArchiveError, ArchiveReader, ArchiveSummary, ArchiveWriter};
pub use journal::{JournalError, LogLine, LogWriter};
pub use layout::{ArchiveName, MigrationUid, PairUid, VolumeUid};
pub use memory::MemoryStore;
pub use seal::{PairKey, SealError, SealKey, VolumeKey};
pub use store::{ListPage, ListedObject, MAX_OBJECT, ObjectStore, StoreError, delete_prefix};
