//! Who may speak to the hub, and how it shows who it is.
//!
//! - [`certificate`]: the hub's CA and certificate, kept in a Secret that all replicas share.
//! - [`signing`]: the key that join tokens are signed with.
//! - [`join`]: whether a join token binds a spoke's key to a cluster's record.
//! - [`spoke`]: whether a request was signed by the key of a cluster, and only once.
//! - [`people`]: who a Kubernetes token is of, and whether they may read a migration.

pub mod certificate;
pub mod join;
pub(crate) mod people;
pub(crate) mod shared_secret;
pub(crate) mod signing;
pub(crate) mod spoke;
