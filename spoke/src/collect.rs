//! What belongs to a migration, and reading it from the source.
//!
//! ```text
//!   namespaces     pure: names, globs, mappings and a selector -> the namespaces of the run
//!   types          pure: types as people name them
//!   versions       pure: in which version a kind is read
//!   kinds          pure: which kinds are read, each once
//!   scope          pure: all of it for one run, made ready once
//!      |
//!   listing        one collection in pages, whole and without repetition
//!   reading        many collections, some at a time
//!      |
//!   selection      pure: an object -> taken, or left behind with a reason
//!   ownership      pure: what owners say of it
//!   cluster_scope  pure: what is needed of cluster scope, and what is a cluster's own
//!      |
//!   gather         all of it together, into a sink: the one path of preflight and export
//!   staged         the sink that writes archives
//!
//!   survey         what SurveyDestination writes: what the destination serves
//!   inventory      what InspectSource writes and InspectDestination reads
//! ```
//!
//! Promises: every object of the namespaces is either taken or left behind with a reason; what is
//! taken is the server's JSON, untouched, in a version that both sides serve; memory holds some
//! pages, never a namespace.

mod cluster_scope;
#[cfg(test)]
mod fake;
mod gather;
mod inventory;
mod kinds;
mod listing;
mod namespaces;
mod ownership;
mod reading;
mod scope;
mod selection;
mod staged;
mod survey;
mod types;
mod versions;

#[cfg(test)]
pub(crate) use fake::Fake;
pub use gather::{Gathered, gather};
pub use inventory::{ClassFact, Header, InventoryReader, write_header};
pub use kinds::is_built_in;
pub use namespaces::{NamespaceFacts, Place as NamespacePlace, resolve};
pub use scope::Scope;
pub use staged::Staged;
pub use survey::{read_survey, write_survey};
