//! Which objects of the destination are deleted because they are gone from the source: a pure
//! choice, and a cautious one. What it is not sure of, it leaves.

use isthmus_shared::resources::{COMPONENT, PLAN};
use serde_json::Value;

use crate::cluster::{array, label, text};
use crate::collect::is_built_in;

/// What is known of an object that carries the plan's mark.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its API group.
    pub group: &'a str,
    /// Its kind.
    pub kind: &'a str,
    /// As it is on the destination.
    pub live: &'a Value,
}

/// What is known of the source.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence {
    /// Whether the run brought an object of this kind and name.
    pub brought: bool,
    /// Whether the source has one of this kind and name that was left behind.
    pub left_behind: bool,
    /// Whether any object of the kind was read from the source.
    pub kind_seen: bool,
}

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It stays.
    Keep,
    /// It is gone from the source.
    Delete,
    /// It may be gone, but the source may just as well not have answered for its kind.
    Unsure,
}

/// Decides on one object.
pub fn choose(candidate: Candidate<'_>, plan: &str, evidence: Evidence) -> Choice {
    let Candidate { group, kind, live } = candidate;
    let is_ours = label(live, PLAN) == Some(plan) && label(live, COMPONENT).is_none();
    if !is_ours || evidence.brought || evidence.left_behind || follows_another(group, kind, live) {
        return Choice::Keep;
    }
    if !text(live, "/metadata/deletionTimestamp").is_empty() {
        return Choice::Keep;
    }
    // Reading one of Kubernetes' own kinds on the source either works or fails the export, so that
    // what is not in the archives is gone; a custom one may merely not have answered.
    if is_built_in(group) || evidence.kind_seen { Choice::Delete } else { Choice::Unsure }
}

/// Objects that controllers make carry their owner's labels, our marks among them; they go with
/// their owner.
pub fn follows_another(group: &str, kind: &str, live: &Value) -> bool {
    let controlled = array(live, "/metadata/ownerReferences")
        .iter()
        .any(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true));
    let mirrored = match (group, kind) {
        ("", "Endpoints" | "Event") | ("events.k8s.io", _) => true,
        ("discovery.k8s.io", "EndpointSlice") => {
            label(live, "endpointslice.kubernetes.io/managed-by").is_some_and(|by| by.ends_with(".k8s.io"))
        }
        _ => false,
    };
    controlled || mirrored
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn live(extra: &Value) -> Value {
        let mut live = json!({"metadata": {"name": "x", "labels": {PLAN: "p"}}});
        crate::transform::merge(&mut live, extra);
        live
    }

    fn decide(group: &str, kind: &str, extra: &Value, evidence: Evidence) -> Choice {
        choose(Candidate { group, kind, live: &live(extra) }, "p", evidence)
    }

    const GONE: Evidence = Evidence { brought: false, left_behind: false, kind_seen: false };

    #[test]
    fn what_carries_the_plans_mark_and_is_gone_from_the_source_is_deleted() {
        assert_eq!(decide("", "ConfigMap", &json!({}), GONE), Choice::Delete);
        assert_eq!(decide("", "Service", &json!({}), GONE), Choice::Delete);
    }

    #[test]
    fn what_was_brought_or_left_behind_is_not_gone() {
        assert_eq!(decide("", "ConfigMap", &json!({}), Evidence { brought: true, ..GONE }), Choice::Keep);
        assert_eq!(decide("", "ConfigMap", &json!({}), Evidence { left_behind: true, ..GONE }), Choice::Keep);
    }

    #[test]
    fn the_mark_of_another_plan_is_none() {
        let other = json!({"metadata": {"labels": {PLAN: "q"}}});
        assert_eq!(decide("", "ConfigMap", &other, GONE), Choice::Keep);
    }

    #[test]
    fn what_follows_another_object_or_is_our_own_tool_stays() {
        let owned = json!({"metadata": {"ownerReferences": [{"controller": true}]}});
        assert_eq!(decide("apps", "ReplicaSet", &owned, GONE), Choice::Keep);
        let mirrored = json!({"metadata": {"labels": {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}}});
        assert_eq!(decide("discovery.k8s.io", "EndpointSlice", &mirrored, GONE), Choice::Keep);
        assert_eq!(decide("", "Endpoints", &json!({}), GONE), Choice::Keep);
        let mover = json!({"metadata": {"labels": {COMPONENT: "mover"}}});
        assert_eq!(decide("batch", "Job", &mover, GONE), Choice::Keep);
        let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(decide("", "ConfigMap", &going, GONE), Choice::Keep);
    }

    #[test]
    fn a_custom_kind_of_which_nothing_was_read_may_merely_not_have_answered() {
        assert_eq!(decide("example.com", "Database", &json!({}), GONE), Choice::Unsure);
        let seen = Evidence { kind_seen: true, ..GONE };
        assert_eq!(decide("example.com", "Database", &json!({}), seen), Choice::Delete);
    }
}
