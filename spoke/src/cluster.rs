//! The Kubernetes API as JSON: what the rest of the spoke reads and writes its cluster through.
//!
//! ```text
//!   discovery   which kinds are served, where
//!       |
//!   client      get, list by pages, create, apply, patch, delete - each bounded and retried
//!       |       only where repeating it is harmless
//!   limiter     how many calls are under way at a time, by what the server bears
//!   exec        a command in a container
//!   object      names, marks and places of an object
//!   error       what the API server said, and what to do about it
//! ```
//!
//! An object stays the JSON that the server sent: typed structs would drop the fields that they
//! do not know.

mod client;
mod discovery;
mod error;
mod exec;
mod limiter;
mod object;

pub use client::{Cluster, DeleteOptions, PatchKind};
pub(crate) use client::{chain, escape};
pub use discovery::{Catalogue, Kind, discover};
pub use error::ClusterError;
pub use exec::{Ended, Place, Stream};
pub use object::{
    ObjectId, annotation, api_version, array, describe, kind, label, name, namespace, text, uid,
};
