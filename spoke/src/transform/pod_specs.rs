//! Where pod specs are in an object: of Pods, of the templates of workloads (and of custom
//! resources that have one in the place of a Deployment's), and of the templates of CronJobs.

use serde_json::Value;

use super::is;

/// Where templates have their pod's spec; the first is a PodTemplate's.
const TEMPLATES: &[&str] = &["/template/spec", "/spec/template/spec", "/spec/jobTemplate/spec/template/spec"];
/// The lists of containers in a pod spec.
pub const CONTAINERS: &[&str] = &["initContainers", "containers", "ephemeralContainers"];

/// The pointers of an object's pod specs.
pub fn pointers(object: &Value) -> impl Iterator<Item = &'static str> + use<> {
    let pod = is(object, "", "Pod").then_some("/spec");
    let has = |pointer: &&&str| {
        object.pointer(pointer).and_then(|spec| spec.get("containers")).is_some_and(Value::is_array)
    };
    let found: Vec<&'static str> = pod.into_iter().chain(TEMPLATES.iter().filter(has).copied()).collect();
    found.into_iter()
}

/// The pod specs of an object.
pub fn of(object: &Value) -> impl Iterator<Item = &Value> {
    pointers(object).filter_map(|pointer| object.pointer(pointer))
}

/// Does something to each pod spec of an object.
pub fn each(object: &mut Value, mut change: impl FnMut(&mut Value)) {
    for pointer in pointers(object) {
        if let Some(spec) = object.pointer_mut(pointer) {
            change(spec);
        }
    }
}

/// Does something to each container of a pod spec.
pub fn each_container(spec: &mut Value, mut change: impl FnMut(&mut Value)) {
    for list in CONTAINERS {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        containers.into_iter().flatten().for_each(&mut change);
    }
}

/// The containers of a pod spec.
pub fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    CONTAINERS.iter().filter_map(|list| spec.get(list)?.as_array()).flatten()
}
