//! The way to the hub: the spoke dials, the hub never does.
//!
//! ```text
//!   identity   key, CA and name in a Secret        trust      which server certificate is the hub's
//!       \                                            /
//!        enroll   once, with a join token      channel   one signed request, its errors told apart
//!                                                |
//!             heartbeat (facts, probes)      polling      outbox (reports)
//! ```
//!
//! Promises: each request carries a token of its own; the hub is known by the CA whose hash the
//! join token carried, and by nothing else; a hub that is away is tried again for ever, with
//! backoff; a report is sent until the hub accepts it.

mod channel;
mod enroll;
mod facts;
mod heartbeat;
mod identity;
mod outbox;
mod polling;
mod probes;
mod trust;

pub use channel::{Channel, LinkError, SignedChannel};
pub use enroll::join;
pub use heartbeat::send_heartbeats;
pub use identity::IdentityStore;
pub use outbox::Outbox;
pub use polling::poll;
pub use trust::Anchor;
