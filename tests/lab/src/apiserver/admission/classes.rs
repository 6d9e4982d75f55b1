//! The Priority and RuntimeClass plugins: a pod's classes exist, and give it what they say.

use serde_json::{Value, json};

use crate::apiserver::error::{ApiError, ApiResult};
use crate::apiserver::json::{at, default, list, name, number, object, place, set, text};
use crate::apiserver::store::Transaction;

/// Gives a new pod the priority of its class, or of the cluster's default.
pub fn prioritise(t: &Transaction<'_>, pod: &mut Value) -> ApiResult<()> {
    let refused = |pod: &Value, why: &str| Err(ApiError::forbidden("", "pods", name(pod), why));
    let wanted = text(pod, &["spec", "priorityClassName"]).to_owned();
    let classes = t.list("scheduling.k8s.io/priorityclasses", None);
    let class = if wanted.is_empty() {
        classes
            .iter()
            .filter(|class| class["globalDefault"] == Value::Bool(true))
            .min_by_key(|class| number(class, &["value"]))
    } else {
        let found = classes.iter().find(|class| name(class) == wanted);
        if found.is_none() {
            return refused(pod, &format!("no PriorityClass with name {wanted} was found"));
        }
        found
    };
    let value = class.and_then(|class| number(class, &["value"])).unwrap_or(0);
    if let Some(given) = number(pod, &["spec", "priority"]).filter(|given| *given != value) {
        return refused(
            pod,
            &format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
            ),
        );
    }
    let policy = class.map_or("", |class| text(class, &["preemptionPolicy"]));
    let policy = if policy.is_empty() { "PreemptLowerPriority" } else { policy };
    if let Some(class) = class {
        set(pod, &["spec", "priorityClassName"], name(class));
    }
    set(pod, &["spec", "priority"], value);
    default(pod, &["spec", "preemptionPolicy"], policy);
    Ok(())
}

/// Gives a new pod what its runtime class adds: overhead, a place, tolerations.
pub fn runtime(t: &Transaction<'_>, pod: &mut Value) -> ApiResult<()> {
    let wanted = text(pod, &["spec", "runtimeClassName"]).to_owned();
    if wanted.is_empty() {
        return Ok(());
    }
    let Some(class) = t.get("node.k8s.io/runtimeclasses", &(String::new(), wanted.clone())) else {
        let why = format!("pod rejected: RuntimeClass {wanted:?} not found");
        return Err(ApiError::forbidden("", "pods", name(pod), &why));
    };
    let overhead = at(&class, &["overhead", "podFixed"]);
    if overhead.is_object() {
        if at(pod, &["spec", "overhead"]).is_object() && pod["spec"]["overhead"] != *overhead {
            let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
            return Err(ApiError::forbidden("", "pods", name(pod), why));
        }
        set(pod, &["spec", "overhead"], overhead.clone());
    }
    for (key, value) in at(&class, &["scheduling", "nodeSelector"]).as_object().into_iter().flatten() {
        object(place(pod, &["spec", "nodeSelector"])).insert(key.clone(), value.clone());
    }
    let more = list(&class, &["scheduling", "tolerations"]);
    if !more.is_empty() {
        let tolerations = place(pod, &["spec", "tolerations"]);
        if !tolerations.is_array() {
            *tolerations = json!([]);
        }
        if let Some(all) = tolerations.as_array_mut() {
            let new: Vec<Value> = more.iter().filter(|one| !all.contains(one)).cloned().collect();
            all.extend(new);
        }
    }
    Ok(())
}
