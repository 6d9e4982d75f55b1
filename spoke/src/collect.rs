//! What belongs to a migration, and reading it from the source.
//!
//! ```text
//!   kinds       which kinds are read, each once
//!      |
//!   reading     pages of all kinds of a namespace, some at a time
//!      |
//!   selection   pure: an object and what is known of its surroundings -> taken or left behind
//!      |
//!   inventory   what InspectSource writes and InspectDestination reads
//!   definitions the custom resource definitions that go along
//! ```
//!
//! Promises: every object of the namespaces is either taken or left behind with a reason; what is
//! taken is the server's JSON, untouched; memory holds some pages, never a namespace.

mod definitions;
mod inventory;
mod kinds;
mod reading;
mod selection;

pub use definitions::definition_of;
pub use inventory::{Entry, Header, InventoryReader, KindCount, write_header};
pub use kinds::movable;
pub use reading::Reader;
pub use selection::{Choice, Context, choose};
