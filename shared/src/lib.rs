//! What the hub, the spokes and the command line speak among each other.
//!
//! - [`resources`]: the API kinds that people and the hub write.
//! - [`protocol`]: what hub, spokes and movers say to each other over HTTPS.
//! - [`staging`]: what lies in the bucket between two clusters, and how it is sealed.
//!
//! Nothing here acts: it is types, formats and the object-store trait.

pub mod protocol;
pub mod resources;
pub mod staging;
