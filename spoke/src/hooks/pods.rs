//! Which Pods a command is for.

use isthmus_shared::protocol::Run;
use isthmus_shared::resources::{COMPONENT, ExecHook, Hook, Side};
use kube::core::Selector;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::failure::Failure;
use crate::cluster::{Place, annotation, array, escape, label, name, namespace, text, uid};
use crate::task::TaskContext;

/// The most Pods of one hook.
pub const MAX_PODS: usize = 100;
/// The container that is meant where none is named.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// A container of a Pod.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Target {
    /// The Pod's namespace.
    pub namespace: String,
    /// The Pod.
    pub pod: String,
    /// Its uid: another Pod of the same name is another.
    pub uid: String,
    /// The container.
    pub container: String,
}

impl Target {
    /// Where a command is run.
    pub fn place(&self) -> Place {
        let (namespace, pod, container) = (self.namespace.clone(), self.pod.clone(), self.container.clone());
        Place { namespace, pod, container }
    }

    /// As messages name it.
    pub fn name(&self) -> String {
        format!("Pod {}/{} (container {})", self.namespace, self.pod, self.container)
    }
}

/// The namespaces that a hook is for where it names none.
pub fn namespaces(run: &Run, side: Side) -> Vec<String> {
    match side {
        Side::Source => run.sources().map(str::to_owned).collect(),
        Side::Destination => run.destinations().map(str::to_owned).collect(),
    }
}

/// The Pods of a command, by namespace and name.
pub async fn find(
    context: &TaskContext,
    run: &Run,
    hook: &Hook,
    exec: &ExecHook,
) -> Result<Vec<Target>, Failure> {
    let selector = Selector::try_from(exec.pod_selector.clone())
        .map_err(|error| Failure::Failed(format!("its podSelector is no label selector: {error}")))?;
    let query = match selector.to_string() {
        selector if selector.is_empty() => String::new(),
        selector => format!("labelSelector={}", escape(&selector)),
    };
    let wanted = exec.namespace.clone().map_or_else(|| namespaces(run, hook.side()), |name| vec![name]);
    let mut found = Vec::new();
    for namespace in wanted {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let pods = context.cluster().list(&path, &query, MAX_PODS + 1).await;
        found.extend(
            pods.map_err(|error| Failure::cluster(&format!("listing the Pods of {namespace}"), &error))?,
        );
    }
    choose(&found, exec).map_err(Failure::Failed)
}

/// Those that a command is for. Pure.
fn choose(pods: &[Value], exec: &ExecHook) -> Result<Vec<Target>, String> {
    let runs = |pod: &&Value| {
        text(pod, "/status/phase") == "Running"
            && pod.pointer("/metadata/deletionTimestamp").is_none()
            && label(pod, COMPONENT).is_none()
    };
    let mut running: Vec<&Value> = pods.iter().filter(runs).collect();
    running.sort_by_key(|pod| (namespace(pod), name(pod)));
    if running.len() > MAX_PODS {
        return Err(format!(
            "more than {MAX_PODS} Pods have these labels, and a hook is for at most so many: narrow its podSelector, or set singlePod"
        ));
    }
    if exec.single_pod {
        running.truncate(1);
    }
    running.into_iter().map(|pod| target(pod, exec.container.as_deref())).collect()
}

fn target(pod: &Value, wanted: Option<&str>) -> Result<Target, String> {
    let containers: Vec<&str> =
        array(pod, "/spec/containers").iter().map(|container| text(container, "/name")).collect();
    let container = wanted.or_else(|| annotation(pod, DEFAULT_CONTAINER)).or(containers.first().copied());
    let container = container.filter(|name| containers.contains(name)).ok_or_else(|| {
        format!(
            "Pod {}/{} has no container {}: name one of {}",
            namespace(pod),
            name(pod),
            wanted.unwrap_or_default(),
            containers.join(", ")
        )
    })?;
    let owned = str::to_owned;
    Ok(Target {
        namespace: owned(namespace(pod)),
        pod: owned(name(pod)),
        uid: owned(uid(pod)),
        container: owned(container),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "cms", "uid": format!("uid-{name}")},
            "spec": {"containers": [{"name": "main"}, {"name": "side"}]},
            "status": {"phase": "Running"}
        });
        change(&mut pod);
        pod
    }

    fn exec(change: &Value) -> ExecHook {
        let mut exec = json!({"podSelector": {}, "command": ["true"]});
        exec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value(exec).unwrap()
    }

    fn chosen(pods: &[Value], change: &Value) -> Vec<String> {
        let chosen = choose(pods, &exec(change)).unwrap();
        chosen.into_iter().map(|target| format!("{}:{}", target.pod, target.container)).collect()
    }

    #[test]
    fn only_pods_that_run_and_are_not_ours_count() {
        let pods = [
            pod("b", |_| {}),
            pod("a", |pod| pod["metadata"]["annotations"] = json!({DEFAULT_CONTAINER: "side"})),
            pod("ended", |pod| pod["status"]["phase"] = json!("Succeeded")),
            pod("going", |pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")),
            pod("mover", |pod| pod["metadata"]["labels"] = json!({COMPONENT: "mover"})),
        ];
        assert_eq!(chosen(&pods, &json!({})), ["a:side", "b:main"]);
        assert_eq!(chosen(&pods, &json!({"singlePod": true, "container": "side"})), ["a:side"]);
    }

    #[test]
    fn a_container_that_is_not_there_is_an_error_that_names_those_that_are() {
        let error = choose(&[pod("a", |_| {})], &exec(&json!({"container": "db"}))).unwrap_err();
        assert!(error.contains("cms/a") && error.contains("main, side"), "{error}");
    }

    #[test]
    fn there_are_not_more_than_so_many() {
        let pods: Vec<Value> = (0..=MAX_PODS).map(|n| pod(&format!("p{n}"), |_| {})).collect();
        assert!(choose(&pods, &exec(&json!({}))).unwrap_err().contains("singlePod"));
    }
}
