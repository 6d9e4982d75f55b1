//! What the hub, the spokes and the command line speak among each other.
//!
//! - [`resources`]: the API kinds that people and the hub write.
//! - [`protocol`]: what hub, spokes and movers say to each other over HTTPS.
//! - [`quantity`]: how Kubernetes writes amounts.
//! - [`staging`]: what lies in the bucket between two clusters, and how it is sealed.
//! - [`strategic_merge`]: how Kubernetes merges patches of its own kinds.
//!
//! Nothing here acts: it is types, formats, pure functions and the object-store trait.

#[doc(hidden)]
pub mod fuzzing;
pub mod protocol;
pub mod quantity;
pub mod resources;
pub mod staging;
pub mod strategic_merge;
