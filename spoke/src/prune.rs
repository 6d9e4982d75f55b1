//! Collecting what staging keeps of volumes and nobody needs any more.
//!
//! ```text
//!   contents   what a volume has in staging: passes, marks, sizes
//!      |
//!   choice     which passes stay: pure
//!      |
//!   packs      what the manifests of those name, as a sorted set
//!      |
//!   volume     one volume: the three above, then the deletions in their order
//!    /    \
//!  run    pair     a run's own volumes at its end; all volumes of a pair on request
//!            \
//!           origin     which claim a volume is of
//! ```
//!
//! What stays of a volume: the newest complete passes, as many as are asked for; those that a failover
//! would go by; every pass above the newest complete one, for it may be under way, with all packs numbered so; the packs that
//! the manifests of these name; and whatever cannot be read or is not known, which is told.
//!
//! Promises:
//! - A pass that stays can be received whole afterwards, whenever this is killed. What a sender or
//!   receiver of a pass that builds on the newest complete one needs is never touched, so it may
//!   run meanwhile. Other passes exclude each other in the hub.
//! - A pass first stops to count as complete, then its manifest goes, then the packs: what is left
//!   half done is finished by the next collection.
//! - Memory is bounded, see [`packs::MAX_PACKS`]; listings are read page by page.

mod choice;
mod contents;
mod origin;
mod packs;
mod pair;
mod run;
mod volume;

#[cfg(test)]
mod tests;

pub use origin::{Origin, OriginError, note as note_origin, read as read_origin};
pub use pair::prune_pair;
pub use run::after_run;
