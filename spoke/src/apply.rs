//! Bringing objects to the destination.
//!
//! ```text
//!   run             the archives, stage by stage, as many objects at a time as the server bears
//!    ├─ definitions custom resource definitions, until they are Established
//!    ├─ owners      owner references, rebuilt
//!    ├─ object      one object: rewritten, met, and created, updated, merged, replaced or left
//!    │   ├─ live         what the destination has, by listing
//!    │   ├─ decision     what becomes of it (pure; preflight asks the same)
//!    │   ├─ comparison   whether it is so already (pure)
//!    │   ├─ ownership    which of its fields are ours (pure)
//!    │   ├─ merge        what a shared object lacks (pure)
//!    │   ├─ replace, replacement   existingResourcePolicy: Replace
//!    │   ├─ handover     which namespaces an earlier cutover handed over from here
//!    │   └─ give_back, returning   what was handed over, brought up to date
//!    ├─ purge       what is gone from the source
//!    ├─ problem     what a refusal comes to, and what to do
//!    └─ tally       counts, findings and the result of every object
//!   verify          whether all of it is there
//!   removal         what a run made, taken away again
//!    └─ fate        of which objects (pure)
//! ```
//!
//! Promises: an object that carries no mark of ours is touched only as the run's policy says, or where
//! it was handed over to the side that the run comes from, and is then neither marked nor removed by
//! going back; none is overwritten by a creation; one that would not change is not written; every
//! object's result is in staging, whatever it is.

pub mod body;
mod comparison;
mod decision;
mod definitions;
mod give_back;
pub mod handover;
mod live;
mod merge;
mod object;
pub mod order;
mod owners;
pub mod ownership;
mod problem;
pub mod purge;
mod removal;
mod replace;
mod replacement;
pub mod returning;
mod run;
mod tally;
mod verify;

pub use comparison::{covers, will_do};
pub use decision::{Decision, Facts, Subject, decide};
pub use live::{Found, LiveIndex};
pub use merge::merged;
pub use object::{Applied, Applier, Arrived};
pub use owners::Owners;
pub use problem::{Problem, refused};
pub use removal::remove_run;
pub use replacement::{replacement, undeletable};
pub use run::apply_run;
pub use tally::Tally;
pub use verify::verify_run;
