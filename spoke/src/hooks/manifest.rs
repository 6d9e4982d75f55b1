//! The Job of a hook: values in, JSON out.
//!
//! It asks for no more than the `restricted` level of Pod Security admits, unless the hook names root
//! as its user; it opts out of sidecars, which would keep it from ending; and it carries a mark by which
//! no run takes it along. A run that never cleans up leaves it to its time to live.

use isthmus_shared::protocol::TaskId;
use isthmus_shared::resources::{COMPONENT, COMPONENT_HOOK, Hook, JobHook, TASK};
use serde_json::{Map, Value, json};

use super::script::mark;
use crate::own_pods;
use crate::volumes::MIGRATION;

/// The container.
pub const CONTAINER: &str = "hook";
/// Annotation on a Job: the hook that it is of.
const HOOK: &str = "isthmus.dev/hook";
/// How long beyond the hook's timeout a Job may go on that no spoke ends, seconds.
const BEYOND: u32 = 60;
/// A finished Job whose run never cleaned up goes after this long, seconds.
const TTL_SECONDS: u32 = 24 * 3600;
/// How long a container that is ended may take, seconds.
const GRACE_SECONDS: u32 = 10;

/// The name of the Job of an attempt: short, and the same each time.
pub fn job_name(migration: &str, hook: &str, attempt: u32) -> String {
    format!("isthmus-hook-{}-{attempt}", mark(migration, hook))
}

/// The Job of an attempt.
pub fn job(
    migration: &str,
    task: &TaskId,
    namespace: &str,
    hook: &Hook,
    job: &JobHook,
    attempt: u32,
) -> Value {
    let labels = json!({
        COMPONENT: COMPONENT_HOOK,
        MIGRATION: migration,
        "sidecar.istio.io/inject": "false",
        "app.kubernetes.io/name": "isthmus-hook",
        "app.kubernetes.io/managed-by": "isthmus"
    });
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(migration, &hook.name, attempt),
            "namespace": namespace,
            "labels": labels,
            "annotations": {TASK: task.to_string(), HOOK: hook.name}
        },
        "spec": {
            // Attempts are counted by us.
            "backoffLimit": 0,
            "activeDeadlineSeconds": hook.timeout_seconds.saturating_add(BEYOND),
            "ttlSecondsAfterFinished": TTL_SECONDS,
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": own_pods::annotations(HOOK, &hook.name)
                },
                "spec": pod_spec(job)
            }
        }
    })
}

fn pod_spec(job: &JobHook) -> Value {
    let mut security = json!({
        "runAsNonRoot": job.run_as_user != Some(0),
        "seccompProfile": {"type": "RuntimeDefault"}
    });
    if let Some(user) = job.run_as_user {
        security["runAsUser"] = json!(user);
    }
    let mut container = Map::new();
    container.insert("name".to_owned(), json!(CONTAINER));
    container.insert("image".to_owned(), json!(job.image));
    // Left out it is Kubernetes' own, which goes by the image's tag.
    if let Some(policy) = job.image_pull_policy {
        container.insert("imagePullPolicy".to_owned(), json!(policy));
    }
    for (field, list) in [("command", &job.command), ("args", &job.args)] {
        if !list.is_empty() {
            container.insert(field.to_owned(), json!(list));
        }
    }
    if !job.env.is_empty() {
        container.insert("env".to_owned(), json!(job.env));
    }
    let resources = job.resources.as_ref().map_or_else(
        || json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}),
        |resources| json!(resources),
    );
    container.insert("resources".to_owned(), resources);
    container.insert("terminationMessagePolicy".to_owned(), json!("FallbackToLogsOnError"));
    container.insert(
        "securityContext".to_owned(),
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}),
    );
    let mut spec = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "enableServiceLinks": false,
        // Of the default account nothing is asked: its token is nobody's here.
        "automountServiceAccountToken": job.service_account_name.is_some(),
        "securityContext": security,
        "containers": [container]
    });
    if let Some(account) = &job.service_account_name {
        spec["serviceAccountName"] = json!(account);
    }
    if !job.image_pull_secrets.is_empty() {
        let secrets = job.image_pull_secrets.iter().map(|name| json!({"name": name}));
        spec["imagePullSecrets"] = secrets.collect();
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(of_job: &Value) -> Value {
        let hook = json!({"name": "dump", "phase": "PreHooks", "timeoutSeconds": 90, "job": of_job});
        let hook: Hook = serde_json::from_value(hook).unwrap();
        let task: TaskId = "m-1/PreHooks/source".parse().unwrap();
        job("m-1", &task, "cms", &hook, hook.job.as_ref().unwrap(), 2)
    }

    #[test]
    fn it_asks_for_no_more_than_the_restricted_level_admits() {
        let job = made(&json!({"image": "tool:1"}));
        let pod = job.pointer("/spec/template/spec").unwrap();
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let container = &pod["containers"][0];
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
        assert_eq!(container["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert!(container.get("command").is_none() && pod.get("serviceAccountName").is_none());
        assert_eq!(job["spec"]["activeDeadlineSeconds"], 150);
        assert_eq!(job["spec"]["backoffLimit"], 0);
    }

    #[test]
    fn it_is_marked_as_ours_and_without_sidecars() {
        let job = made(&json!({"image": "tool:1"}));
        for labels in ["/metadata/labels", "/spec/template/metadata/labels"] {
            let labels = job.pointer(labels).unwrap();
            assert_eq!((&labels[COMPONENT], &labels[MIGRATION]), (&json!("hook"), &json!("m-1")));
        }
        let annotations = job.pointer("/spec/template/metadata/annotations").unwrap();
        assert_eq!(annotations["linkerd.io/inject"], "disabled");
        assert_eq!(annotations.get(TASK), None, "a Pod with that would be a mover's");
    }

    #[test]
    fn what_the_hook_says_is_in_it() {
        let job = made(&json!({
            "image": "tool:1", "command": ["dump"], "args": ["--all"], "serviceAccountName": "dumper",
            "env": [{"name": "A", "value": "b"}], "imagePullSecrets": ["registry"], "runAsUser": 0,
            "resources": {"limits": {"memory": "2Gi"}}
        }));
        let pod = job.pointer("/spec/template/spec").unwrap();
        assert_eq!(pod["securityContext"]["runAsNonRoot"], false);
        assert_eq!(pod["securityContext"]["runAsUser"], 0);
        assert_eq!(
            (&pod["serviceAccountName"], &pod["automountServiceAccountToken"]),
            (&json!("dumper"), &json!(true))
        );
        assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry"}]));
        let container = &pod["containers"][0];
        assert_eq!((&container["command"], &container["args"]), (&json!(["dump"]), &json!(["--all"])));
        assert_eq!(container["resources"], json!({"limits": {"memory": "2Gi"}}));
        assert_eq!(container["env"], json!([{"name": "A", "value": "b"}]));
    }

    #[test]
    fn its_image_is_pulled_as_the_hook_says_or_else_as_kubernetes_has_it() {
        let policy = |of_job: &Value| {
            let job = made(of_job);
            job.pointer("/spec/template/spec/containers/0/imagePullPolicy").cloned()
        };
        assert_eq!(policy(&json!({"image": "tool"})), None);
        for word in ["Always", "IfNotPresent", "Never"] {
            let wanted = json!({"image": "tool:1", "imagePullPolicy": word});
            assert_eq!(policy(&wanted), Some(json!(word)));
        }
    }

    #[test]
    fn each_attempt_has_a_job_of_its_own_and_the_same_each_time() {
        assert_eq!(job_name("m", "h", 1), job_name("m", "h", 1));
        let names =
            [job_name("m", "h", 1), job_name("m", "h", 2), job_name("m", "i", 1), job_name("n", "h", 1)];
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
    }
}
