//! Pods, Jobs and endpoints: what a controller keeps, and what has run.

use serde_json::Value;

use super::{Choice, Context, Object, leave_if};
use crate::cluster::{annotation, array, label, text};

/// A Pod that no controller keeps goes along where that is asked for. (One that a controller
/// keeps is left to [`super::super::ownership`].)
pub(super) fn pod(object: &Object<'_>, context: &Context) -> Option<Choice> {
    if !object.is("", "Pod") {
        return None;
    }
    let kept = array(object.value, "/metadata/ownerReferences")
        .iter()
        .any(|owner| owner.get("controller").is_some_and(|v| v == true));
    if annotation(object.value, "kubernetes.io/config.mirror").is_some() {
        return Some(Choice::leave(
            "Generated",
            "a kubelet of the source shows one of its static Pods by it",
        ));
    }
    if kept {
        return None;
    }
    if !context.optional.bare_pods {
        return Some(Choice::leave(
            "Pod",
            "no controller keeps it, so it is taken only if includeOptionalResourceTypes names Pod",
        ));
    }
    let ended = matches!(text(object.value, "/status/phase"), "Succeeded" | "Failed");
    leave_if(ended, "Finished", "it has run, and is not to run again")
}

/// Endpoints that a controller keeps from what a Service selects, or that are a lock.
pub(super) fn endpoints(object: &Object<'_>, context: &Context) -> Option<Choice> {
    let selects = |service: &str| context.selecting_services.contains(service);
    let kept = match (object.group, object.kind) {
        ("", "Endpoints") => {
            if annotation(object.value, "control-plane.alpha.kubernetes.io/leader").is_some() {
                return Some(Choice::leave("Lease", "it is a lock that a process of the source holds"));
            }
            selects(object.name)
        }
        ("discovery.k8s.io", "EndpointSlice") => {
            label(object.value, "endpointslice.kubernetes.io/managed-by")
                .is_some_and(|by| by.ends_with(".k8s.io"))
                || label(object.value, "kubernetes.io/service-name").is_some_and(selects)
        }
        _ => false,
    };
    leave_if(kept, "Endpoints", "a controller keeps it from what the Service selects")
}

pub(super) fn finished_job(object: &Object<'_>, context: &Context) -> Option<Choice> {
    let finished = object.is("batch", "Job")
        && !context.optional.finished_jobs
        && array(object.value, "/status/conditions").iter().any(is_end);
    leave_if(
        finished,
        "Finished",
        "it has run, and is not to run again; includeOptionalResourceTypes takes it if it names Job",
    )
}

fn is_end(condition: &Value) -> bool {
    matches!(text(condition, "/type"), "Complete" | "Failed") && text(condition, "/status") == "True"
}
