//! Which of a run's namespaces were handed over to it before: an earlier cutover took their
//! applications from here to where this run brings them from, so what is in them is the run's to bring
//! up to date, though no migration made it.
//!
//! The fencing marks tell: the namespace is not the active one, and its other side is the very
//! namespace that the run comes from.

use std::collections::HashSet;

use isthmus_shared::protocol::Run;
use serde_json::Value;

use crate::cluster::{Cluster, ClusterError, name};
use crate::transform::Note;
use crate::workloads::is_handed_over;

/// The namespaces that were handed over, by their names on the destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandedOver {
    namespaces: HashSet<String>,
    all: bool,
}

impl HandedOver {
    /// What the destination's namespaces of the run say, as far as they are there.
    pub fn of<'a>(run: &Run, live: impl Iterator<Item = &'a Value>) -> Self {
        let namespaces: HashSet<String> = live
            .filter(|namespace| is_handed_over(run, namespace))
            .map(|namespace| name(namespace).to_owned())
            .collect();
        let all = !namespaces.is_empty() && run.destinations().all(|to| namespaces.contains(to));
        Self { namespaces, all }
    }

    /// Asks the destination.
    pub async fn read(cluster: &Cluster, run: &Run) -> Result<Self, ClusterError> {
        let mut live = Vec::new();
        for namespace in run.destinations() {
            live.extend(cluster.find(&format!("/api/v1/namespaces/{namespace}")).await?);
        }
        Ok(Self::of(run, live.iter()))
    }

    /// Whether what lies in this namespace was handed over; of what lies in none, whether all of the
    /// run was.
    pub fn has(&self, namespace: Option<&str>) -> bool {
        namespace.map_or(self.all, |namespace| self.namespaces.contains(namespace))
    }
}

/// The reason of what a person is told of an object of cluster scope that differs.
pub const DIFFERS_HERE: &str = "DiffersHere";

/// What a person is told of such an object.
pub fn left_as_it_is() -> Note {
    let message = "the destination's own differs from the one that the applications used where they come from, and stays \
                   as it is, as others of the cluster may depend on it: compare the two with `isthmus diff`, and change \
                   the destination's by hand if the applications need it";
    Note { reason: DIFFERS_HERE, message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use isthmus_shared::resources::{ACTIVE, COUNTERPART};
    use serde_json::json;

    use super::*;
    use crate::transform::tests::run_of;

    fn namespace(name: &str, active: &str, other: &str) -> Value {
        json!({"kind": "Namespace", "metadata": {
            "name": name, "labels": {ACTIVE: active}, "annotations": {COUNTERPART: other}}})
    }

    #[test]
    fn a_namespace_is_handed_over_if_its_other_side_is_the_very_one_that_the_run_comes_from() {
        let mut run = run_of(json!({}), &[("cms-green", "cms"), ("shop", "shop")]);
        run.source = "west".to_owned();
        let of = |live: &[Value]| HandedOver::of(&run, live.iter());
        let handed =
            of(&[namespace("cms", "false", "west/cms-green"), namespace("shop", "true", "west/shop")]);
        assert!(handed.has(Some("cms")) && !handed.has(Some("shop")) && !handed.has(None));
        for other in ["west/cms", "north/cms-green", ""] {
            assert_eq!(of(&[namespace("cms", "false", other)]), HandedOver::default(), "{other}");
        }
        let both =
            of(&[namespace("cms", "false", "west/cms-green"), namespace("shop", "false", "west/shop")]);
        assert!(both.has(None));
        assert!(!of(&[]).has(None));
    }
}
