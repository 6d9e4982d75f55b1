//! Kinds whose objects stay whatever they say.

use super::{Choice, Context, Object};

pub(super) fn stays(object: &Object<'_>, _: &Context) -> Option<Choice> {
    let (reason, message) = match (object.group, object.kind) {
        ("" | "events.k8s.io", "Event") => ("Event", "it tells of the source's past"),
        ("coordination.k8s.io", "Lease" | "LeaseCandidate") => {
            ("Lease", "it is held by a process of the source")
        }
        ("metrics.k8s.io" | "custom.metrics.k8s.io" | "external.metrics.k8s.io", _) => {
            ("Metrics", "it is a measurement of the source")
        }
        ("authorization.k8s.io" | "authentication.k8s.io" | "authorization.openshift.io", kind)
            if kind.ends_with("Review") =>
        {
            ("Review", "it is a question, not an object")
        }
        ("storage.k8s.io", "CSIStorageCapacity") => ("Generated", "the source's storage driver keeps it"),
        ("apps", "ControllerRevision") => (
            "Generated",
            "a controller keeps the source's revisions in it, and makes its own on the destination",
        ),
        ("cilium.io", "CiliumEndpoint")
        | ("projectcalico.org" | "crd.projectcalico.org", "WorkloadEndpoint") => {
            ("Generated", "the source's network keeps it for a Pod")
        }
        (group, "VolumeSnapshot" | "VolumeGroupSnapshot") if group.ends_with("snapshot.storage.k8s.io") => {
            ("Snapshot", "it names a snapshot in the source's storage, which does not go along")
        }
        _ => return None,
    };
    Some(Choice::leave(reason, message))
}
