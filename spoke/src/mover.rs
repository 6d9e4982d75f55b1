//! The data plane: moves a volume's content through staging, exactly and in bounded memory.
//!
//! - [`send()`]: one pass from a mounted directory into staging.
//! - [`receive()`]: the same pass from staging into a mounted directory, while it is being sent.
//! - [`recover()`]: back to a pass that was received before, from staging alone.
//! - [`send_device()`], [`receive_device()`], [`recover_device()`]: the same for volumes of raw blocks.
//! - [`format`]: the manifest between them.
//! - [`program`]: the mover's process, which gets its orders from its spoke.
//!
//! The engine knows nothing of Kubernetes: a folder, an object store and a volume key are all
//! it needs.

pub mod error;
pub mod format;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod limits;
pub mod pass;
pub mod program;
pub mod receive;
pub mod report;
pub mod send;

mod device;
mod links;
mod listing;
mod manifest;
mod metadata;
mod naming;
mod throttle;
mod work;

pub use error::MoverError;
pub use limits::Limits;
pub use naming::named_packs;
pub use pass::Pass;
pub use program::{MAY_RESTART, run};
#[cfg(any(test, feature = "fuzzing"))]
use receive::read_any_mark;
pub use receive::{ReceiveOptions, is_received, receive, receive_device, received, recover, recover_device};
pub use report::{Progress, ProgressFigures, ReceiveReport, SendReport};
pub use send::{SendOptions, send, send_device};

#[cfg(test)]
mod tests;
