//! The HTTPS endpoint that movers call: session, progress, result.
//!
//! ```text
//!   certificate   a CA of the spoke's own, kept in its Secret; a leaf for this start
//!   caller        who a mover is: its token, its Pod, its Job, its task
//!   handlers      what it is answered
//!   listener      TLS, bounded in connections and time
//! ```
//!
//! Promises: only the Pod of a task's own Job gets that task's key; a result is on the Job before
//! the mover hears that it was taken.

mod caller;
mod certificate;
mod handlers;
mod listener;

pub use certificate::{Certificates, names};
pub use listener::{bind, serve};
