//! Which objects of cluster scope go along: pure choices.
//!
//! ```text
//!   needs   what the objects taken refer to, gathered while they are read
//!   roles   the ClusterRoles that are needed, with those that aggregated ones are made of
//!   own     what belongs to the cluster itself, and never goes
//! ```
//!
//! `includeClusterResources: Auto` takes what is needed, `All` everything that is not a cluster's
//! own, `None` nothing. `included` types and `selectors` choose among the namespaces' objects and
//! are not asked here; exclusions and the annotation `isthmus.dev/skip` count everywhere.

mod needs;
mod own;
mod roles;

use serde_json::Value;

pub use needs::{Needs, bound_role};
pub use roles::{RoleFacts, with_sources};

use super::selection::{self, Choice, Context};

/// Whether an object of cluster scope goes along, if it is wanted at all.
pub fn choose(object: &Value, context: &Context) -> Choice {
    if context.keeps(object) {
        return Choice::Keep;
    }
    match own::stays(object) {
        Some(stays) => stays,
        None => selection::choose_any(object, context),
    }
}

/// The order in which the kinds of cluster scope lie in their archive, from 0 to [`LAST`]: what
/// others refer to first, and what is asked about every creation last.
pub fn rank(group: &str, kind: &str) -> usize {
    match (group, kind) {
        ("apiextensions.k8s.io", _) => 0,
        ("scheduling.k8s.io", _) => 1,
        ("rbac.authorization.k8s.io", "ClusterRole") => 2,
        ("rbac.authorization.k8s.io", _) => 3,
        ("apiregistration.k8s.io", _) => 5,
        ("admissionregistration.k8s.io", _) => LAST,
        _ => 4,
    }
}

/// The last rank.
pub const LAST: usize = 6;

#[cfg(test)]
mod tests;
