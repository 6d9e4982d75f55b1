//! What hub, spokes and movers say to each other: JSON over HTTPS.
//!
//! ```text
//!   spoke ── enroll, heartbeat, tasks (long poll), reports ──▶ hub
//!   mover ── session, progress, result ──▶ its spoke
//! ```
//!
//! The hub never dials. A task is derived from a record and never stored, so the reply to a poll
//! is the whole set of what the spoke should be doing now; what is no longer in it is cancelled.
//! Reports carry a sequence number that rises over a spoke's restarts too, so a late or doubled
//! report is known as such.

pub mod identity;
mod link;
mod mover;
mod prune;
mod report;
mod task;

pub use link::*;
pub use mover::*;
pub use prune::*;
pub use report::*;
pub use task::*;
