//! Bringing objects to the destination.
//!
//! ```text
//!   definitions   custom resource definitions that are lacking, until they are Established
//!        |
//!   run           the archives, object by object, some side by side, with rounds for what another
//!        |        object must resolve first
//!   object        one object: absent, ours or another's -> create, apply, leave alone or refuse
//!        |
//!   tally         counts, findings and the result of every object
//! ```
//!
//! Promises: an object that carries no mark of ours is never touched; one that would not change
//! is not written; every object's result is in staging, whatever it is.

mod definitions;
mod object;
pub mod order;
mod run;
mod tally;
mod verify;

pub use object::{Applied, Applier, Problem, is_ours, taken};
pub use run::apply_run;
pub use tally::Tally;
pub use verify::verify_run;
