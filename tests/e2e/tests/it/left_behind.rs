//! What a cluster made for its objects and another must make anew: Jobs' labels, health check
//! ports, tokens of service accounts, and what of cluster scope goes along.
//!
//! ```text
//!   jobs           which Jobs go, and whose labels they carry there
//!   optional       bare Pods and completed Jobs, where they are asked for
//!   ports          health check node ports: drawn, chosen, preserved
//!   tokens         Secrets of service accounts
//!   cluster_scope  All, None, Auto
//! ```
//!
//! Each looks at the destination's objects and at what `migration describe --details` says of
//! each.

mod cluster_scope;
mod jobs;
mod optional;
mod ports;
mod tokens;

use std::collections::BTreeMap;

use crate::reading::{in_namespace, versions};
use crate::world::World;

/// What a person reads of a run's objects.
struct Details(String);

impl Details {
    async fn of(world: &World, run: &str) -> Self {
        Self(world.isthmus(&["migration", "describe", run, "--details"]).await.ends_with(0).out)
    }

    /// The line of an object says all of this. The object is named by its first columns, such as
    /// `left-jobs Job.batch done`, or `- PriorityClass.scheduling.k8s.io gold` of cluster scope.
    #[track_caller]
    fn say(&self, object: &str, words: &[&str]) {
        let named: Vec<&str> = object.split(' ').collect();
        let is_its = |line: &&str| line.split_whitespace().take(named.len()).eq(named.iter().copied());
        let line = self.0.lines().find(is_its).unwrap_or_else(|| panic!("no {object} in\n{}", self.0));
        for word in words {
            assert!(line.contains(word), "{word:?} is not in {line:?}");
        }
    }
}

/// The resourceVersions of what stands in a namespace of the destination, Events aside.
async fn standing(world: &World, namespace: &str) -> BTreeMap<String, String> {
    let mut standing = versions(&in_namespace(world.client("west"), namespace).await);
    standing.retain(|name, _| !name.starts_with("Event "));
    standing
}
