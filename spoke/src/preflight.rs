//! Preflight: both sides are looked at, nothing is changed, and everything that is in the way is
//! named at once.
//!
//! - [`source`]: the namespaces, their claims, and the objects that would be taken, into the
//!   inventory;
//! - [`destination`]: whether the destination can take what the inventory lists;
//! - [`pod_security`]: whether a namespace lets the mover in.

mod destination;
mod pod_security;
mod quantity;
mod source;
mod survey;

pub use destination::inspect_destination;
pub use source::inspect_source;
pub use survey::survey_destination;
