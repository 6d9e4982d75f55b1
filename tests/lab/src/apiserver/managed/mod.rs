//! Who set which field: `metadata.managedFields` and server-side apply.
//!
//! [`check`] refuses configurations that the schema cannot type; [`set`] is the set of fields and its
//! JSON form; [`typed`] gets sets out of objects, compares, merges and removes by schema; [`update`]
//! keeps the managers' books for every write; [`apply`] is server-side apply. The rules are those of
//! structured-merge-diff.

pub mod apply;
pub mod check;
pub mod set;
pub mod typed;
pub mod update;
