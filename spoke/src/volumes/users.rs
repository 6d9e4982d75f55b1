//! Who uses a claim: the Pods that mount it and the workloads whose templates name it, pared to
//! what a mover takes from them. Where they may run, it runs; as whom they run, it runs where the
//! namespace lets no root in.
//!
//! They are read while the source is looked at and lie in the inventory: by the time that a volume
//! moves the application may be stopped, and the destination has none of it yet.

use isthmus_shared::protocol::Run;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::manifests::is_mover;
use super::placement::bound_volume;
use crate::cluster::{Cluster, ClusterError, array, describe, kind, label, name, text};
use crate::task::TaskError;
use crate::transform::{Arrival, Rewriter};
use crate::workloads::state::PARKED;

/// Pods of a namespace that are looked at.
const MAX_PODS: usize = 10_000;
/// Workloads of one kind and namespace that are looked at.
const MAX_WORKLOADS: usize = 5_000;

/// The kinds that have a template of Pods: apiVersion, kind, plural.
const WORKLOADS: [(&str, &str, &str); 8] = [
    ("apps/v1", "StatefulSet", "statefulsets"),
    ("apps/v1", "Deployment", "deployments"),
    ("apps/v1", "DaemonSet", "daemonsets"),
    ("apps/v1", "ReplicaSet", "replicasets"),
    ("v1", "ReplicationController", "replicationcontrollers"),
    ("apps.openshift.io/v1", "DeploymentConfig", "deploymentconfigs"),
    ("batch/v1", "CronJob", "cronjobs"),
    ("batch/v1", "Job", "jobs"),
];

/// Who uses a claim. Both are pared: neither could be applied.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimUser {
    /// The claim's namespace.
    pub namespace: String,
    /// The claim.
    pub claim: String,
    /// A Pod that mounts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Value>,
    /// A workload whose template names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Value>,
}

impl ClaimUser {
    /// The template of the workload, then the Pod: the first says what the application asks for,
    /// the second also what its cluster has filled in.
    pub fn specs(&self) -> impl Iterator<Item = &Value> {
        let template = self.workload.as_ref().and_then(template).and_then(|t| t.get("spec"));
        template.into_iter().chain(self.pod.as_ref().and_then(|pod| pod.get("spec")))
    }

    /// How messages name it, if there is one.
    pub fn describe(&self) -> Option<String> {
        self.workload.as_ref().or(self.pod.as_ref()).map(describe)
    }

    /// As it arrives on the destination: the run's transforms may move an application to other
    /// nodes or give it other ids. A transform that asks for what was pared away does not fit, and
    /// what the source has counts.
    pub fn arriving(mut self, rewriter: &Rewriter, run: &Run) -> Self {
        let arrival = Arrival { mark: &run.migration, plan: None, stopped: false, owners: &[] };
        if let Some(workload) = &self.workload
            && let Ok(rewritten) = rewriter.rewrite(workload.clone(), &arrival)
        {
            self.workload = Some(rewritten.object);
        }
        let to = run.claim_on_destination(&self.namespace, &self.claim).to_owned();
        let volumes = self.pod.as_mut().and_then(|pod| pod.pointer_mut("/spec/volumes")?.as_array_mut());
        for volume in volumes.into_iter().flatten() {
            if let Some(Value::String(claim)) = volume.pointer_mut("/persistentVolumeClaim/claimName")
                && *claim == self.claim
            {
                claim.clone_from(&to);
            }
        }
        self.claim = to;
        self
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.pod.is_none() && self.workload.is_none()
    }
}

/// The Pods and workloads of a namespace that use claims.
#[derive(Clone, Debug, Default)]
pub struct Users {
    pods: Vec<Value>,
    workloads: Vec<Value>,
}

impl Users {
    /// Reads them.
    pub async fn read(cluster: &Cluster, namespace: &str) -> Result<Self, ClusterError> {
        let pods = cluster.list(&format!("/api/v1/namespaces/{namespace}/pods"), "", MAX_PODS).await?;
        let pods = pods.iter().filter(|pod| is_active(pod)).filter_map(pared_pod).collect();
        let mut workloads = Vec::new();
        for (version, kind, plural) in WORKLOADS {
            let root = if version == "v1" { "api/v1".to_owned() } else { format!("apis/{version}") };
            let path = format!("/{root}/namespaces/{namespace}/{plural}");
            let found = match cluster.list(&path, "", MAX_WORKLOADS).await {
                // Not every cluster serves every kind.
                Err(error) if error.is_not_found() => continue,
                found => found?,
            };
            workloads.extend(found.iter().filter_map(|object| pared_workload(version, kind, object)));
        }
        Ok(Self { pods, workloads })
    }

    /// The Pods that mount a claim now.
    pub fn pods<'a>(&'a self, claim: &'a str) -> impl Iterator<Item = &'a Value> {
        self.pods.iter().filter(move |pod| names(pod, claim))
    }

    /// Who uses a claim: Pods that run before those that wait.
    pub fn of(&self, namespace: &str, claim: &str) -> ClaimUser {
        let waits = |pod: &&Value| text(pod, "/spec/nodeName").is_empty();
        let named = |workload: &&Value| {
            template(workload).is_some_and(|template| names(template, claim)) || is_made_by(workload, claim)
        };
        ClaimUser {
            namespace: namespace.to_owned(),
            claim: claim.to_owned(),
            pod: self.pods(claim).min_by_key(waits).cloned(),
            workload: self.workloads.iter().find(named).cloned(),
        }
    }
}

/// The Pods that use a claim now; our own movers aside.
pub async fn pods_of_claims(
    cluster: &Cluster,
    namespace: &str,
    claim: &str,
) -> Result<Vec<Value>, ClusterError> {
    let pods = cluster.list(&format!("/api/v1/namespaces/{namespace}/pods"), "", MAX_PODS).await?;
    Ok(pods.into_iter().filter(|pod| is_active(pod) && names(pod, claim)).collect())
}

/// The volume that a claim is bound to, if it is.
pub async fn volume_of(cluster: &Cluster, claim: &Value) -> Result<Option<Value>, TaskError> {
    let Some(volume) = bound_volume(claim) else { return Ok(None) };
    let found = cluster.find(&format!("/api/v1/persistentvolumes/{volume}")).await;
    found.map_err(|e| TaskError::cluster(format!("PersistentVolume {volume}"), "reading it", &e))
}

/// Whether a Pod has not ended and is none of our own.
fn is_active(pod: &Value) -> bool {
    !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") && !is_mover(pod)
}

/// Whether a Pod, or a template of one, names a claim.
fn names(pod: &Value, claim: &str) -> bool {
    called(pod, claim).is_some()
}

/// What a Pod calls the volume of a claim.
fn called<'a>(pod: &'a Value, claim: &str) -> Option<&'a str> {
    let volume = array(pod, "/spec/volumes")
        .iter()
        .find(|volume| text(volume, "/persistentVolumeClaim/claimName") == claim);
    volume.map(|volume| text(volume, "/name"))
}

/// Whether a claim is of a StatefulSet's claim template: `<template>-<set>-<ordinal>`.
fn is_made_by(workload: &Value, claim: &str) -> bool {
    array(workload, "/spec/volumeClaimTemplates").iter().any(|template| {
        let rest = claim.strip_prefix(name(template)).and_then(|rest| rest.strip_prefix('-'));
        let ordinal = rest.and_then(|rest| rest.strip_prefix(name(workload))?.strip_prefix('-'));
        ordinal.is_some_and(|ordinal| !ordinal.is_empty() && ordinal.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// The container that mounts a claim, or the first one; of a Pod or a template.
pub fn container_of<'a>(spec: &'a Value, claim: &str) -> Option<&'a Value> {
    let volume = array(spec, "/volumes")
        .iter()
        .find(|volume| text(volume, "/persistentVolumeClaim/claimName") == claim)
        .map(|volume| text(volume, "/name"));
    let mounts = |container: &&Value| {
        ["/volumeMounts", "/volumeDevices"]
            .iter()
            // A claim template's volume has the template's name, which is none of the volumes'.
            .flat_map(|list| array(container, list))
            .any(|mount| match volume {
                Some(volume) => text(mount, "/name") == volume,
                None => claim.starts_with(&format!("{}-", text(mount, "/name"))),
            })
    };
    let containers = array(spec, "/containers");
    containers.iter().find(mounts).or(containers.first())
}

/// The template of a pared workload.
fn template(workload: &Value) -> Option<&Value> {
    workload.pointer(if kind(workload) == "CronJob" {
        "/spec/jobTemplate/spec/template"
    } else {
        "/spec/template"
    })
}

fn pared_pod(pod: &Value) -> Option<Value> {
    let spec = pared_spec(pod.get("spec")?);
    array(&spec, "/volumes").first()?;
    let users: Vec<Value> = array(pod, "/status/containerStatuses")
        .iter()
        .filter(|status| status.get("user").is_some())
        .map(|status| json!({"name": status["name"], "user": status["user"]}))
        .collect();
    Some(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name(pod), "namespace": text(pod, "/metadata/namespace"), "labels": labels(pod)},
        "spec": spec,
        "status": {"phase": text(pod, "/status/phase"), "containerStatuses": users}
    }))
}

fn labels(object: &Value) -> Value {
    object.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({}))
}

fn pared_workload(version: &str, kind: &str, object: &Value) -> Option<Value> {
    let owned = array(object, "/metadata/ownerReferences")
        .iter()
        .any(|owner| owner.get("controller") == Some(&Value::Bool(true)) && is_workload(owner));
    let ended = array(object, "/status/conditions").iter().any(|condition| {
        kind == "Job"
            && text(condition, "/status") == "True"
            && matches!(text(condition, "/type"), "Complete" | "Failed")
    });
    if owned || ended || label(object, isthmus_shared::resources::COMPONENT).is_some() {
        return None;
    }
    let pointer = if kind == "CronJob" { "/spec/jobTemplate/spec/template" } else { "/spec/template" };
    let template = object.pointer(pointer)?;
    let spec = pared_spec(template.get("spec")?);
    let claims: Vec<Value> = array(object, "/spec/volumeClaimTemplates")
        .iter()
        .map(|claim| json!({"metadata": {"name": name(claim)}}))
        .collect();
    if array(&spec, "/volumes").is_empty() && claims.is_empty() {
        return None;
    }
    let template = json!({"metadata": {"labels": labels(template)}, "spec": spec});
    let mut pared = json!({
        "apiVersion": version, "kind": kind,
        "metadata": {"name": name(object), "namespace": text(object, "/metadata/namespace"), "labels": labels(object)},
        "spec": if kind == "CronJob" { json!({"jobTemplate": {"spec": {"template": template}}}) } else { json!({"template": template}) }
    });
    if !claims.is_empty() {
        pared["spec"]["volumeClaimTemplates"] = Value::Array(claims);
    }
    Some(pared)
}

fn is_workload(owner: &Value) -> bool {
    WORKLOADS.iter().any(|(_, of, _)| *of == kind(owner))
}

/// What a mover may take of the spec of a Pod.
fn pared_spec(spec: &Value) -> Value {
    let mut pared = Map::new();
    let mut keep = |field: &str, value: Option<&Value>| {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            pared.insert(field.to_owned(), value.clone());
        }
    };
    keep("nodeName", spec.get("nodeName"));
    keep("nodeSelector", spec.get("nodeSelector"));
    keep("tolerations", spec.get("tolerations"));
    keep("securityContext", spec.get("securityContext"));
    let affinity = spec.pointer("/affinity/nodeAffinity").map(|affinity| json!({"nodeAffinity": affinity}));
    keep("affinity", affinity.as_ref());
    let volumes =
        array(spec, "/volumes").iter().filter(|volume| volume.get("persistentVolumeClaim").is_some());
    keep("volumes", Some(&volumes.cloned().collect()));
    let container = |container: &Value| {
        let mut pared = json!({"name": container["name"]});
        for field in ["image", "securityContext", "volumeMounts", "volumeDevices"] {
            if let Some(value) = container.get(field) {
                pared[field] = value.clone();
            }
        }
        pared
    };
    keep("containers", Some(&array(spec, "/containers").iter().map(container).collect()));
    // A DaemonSet that we stopped waits for nodes that there are none of.
    if let Some(selector) = pared.get_mut("nodeSelector").and_then(Value::as_object_mut) {
        selector.remove(PARKED);
    }
    Value::Object(pared)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounting(claim: &str, node: &str) -> Value {
        json!({"metadata": {"name": format!("pod-{node}"), "namespace": "cms"}, "status": {"phase": "Running",
               "containerStatuses": [{"name": "db", "image": "x", "user": {"linux": {"uid": 999, "gid": 998}}}]},
               "spec": {"nodeName": node, "nodeSelector": {"disk": "fast"}, "terminationGracePeriodSeconds": 5,
                 "affinity": {"podAntiAffinity": {}, "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
                 "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}, {"name": "tmp", "emptyDir": {}}],
                 "containers": [{"name": "agent"}, {"name": "db", "env": [{"name": "A", "value": "secret"}],
                   "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}})
    }

    #[test]
    fn a_pod_is_pared_to_its_place_its_ids_and_its_claims() {
        let pod = pared_pod(&mounting("data", "n1")).unwrap();
        assert!(!pod.to_string().contains("secret"), "{pod}");
        assert!(pod.pointer("/spec/affinity/podAntiAffinity").is_none());
        assert_eq!(pod["spec"]["volumes"].as_array().unwrap().len(), 1);
        assert_eq!(pod["status"]["containerStatuses"][0]["user"]["linux"]["uid"], 999);
        assert_eq!(container_of(&pod["spec"], "data").unwrap()["name"], "db");
        assert!(pared_pod(&json!({"spec": {"containers": []}})).is_none(), "it uses no claim");
    }

    #[test]
    fn a_pod_that_runs_is_taken_before_one_that_waits() {
        let users = Users {
            pods: ["", "n2"].iter().filter_map(|node| pared_pod(&mounting("data", node))).collect(),
            workloads: Vec::new(),
        };
        assert_eq!(name(users.of("cms", "data").pod.as_ref().unwrap()), "pod-n2");
        assert!(users.of("cms", "other").is_empty());
    }

    #[test]
    fn a_claim_of_a_stateful_sets_template_is_found_by_its_name() {
        let set = json!({"metadata": {"name": "db", "namespace": "cms"}, "spec": {
            "template": {"spec": {"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "data"}]}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"resources": {}}}]}});
        let workloads = vec![pared_workload("apps/v1", "StatefulSet", &set).unwrap()];
        let users = Users { pods: Vec::new(), workloads };
        let user = users.of("cms", "data-db-11");
        assert_eq!(user.describe().as_deref(), Some("StatefulSet cms/db"));
        assert_eq!(container_of(user.specs().next().unwrap(), "data-db-11").unwrap()["name"], "b");
        for other in ["data-db-", "data-db", "data-dbx-1", "logs-db-0"] {
            assert!(users.of("cms", other).is_empty(), "{other}");
        }
    }

    #[test]
    fn every_kind_of_workload_is_looked_into_and_what_another_one_makes_is_not() {
        let pod = mounting("data", "n1");
        let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": pod["spec"]});
        for (version, kind, _) in WORKLOADS {
            let spec = if kind == "CronJob" {
                json!({"jobTemplate": {"spec": {"template": template}}})
            } else {
                json!({"template": template})
            };
            let mut object = json!({"metadata": {"name": "w", "namespace": "cms"}, "spec": spec});
            let pared = pared_workload(version, kind, &object).unwrap();
            let users = Users { pods: Vec::new(), workloads: vec![pared] };
            assert_eq!(users.of("cms", "data").describe(), Some(format!("{kind} cms/w")));
            object["metadata"]["ownerReferences"] = json!([{"kind": "Deployment", "controller": true}]);
            assert!(pared_workload(version, kind, &object).is_none());
            object["metadata"]["ownerReferences"] = json!([{"kind": "Database", "controller": true}]);
            assert!(pared_workload(version, kind, &object).is_some(), "an operator's");
        }
    }

    #[test]
    fn what_has_ended_and_our_own_mover_use_no_claim() {
        let mut pod = mounting("data", "n1");
        assert!(is_active(&pod) && names(&pod, "data") && !names(&pod, "other"));
        pod["status"]["phase"] = json!("Succeeded");
        assert!(!is_active(&pod));
        pod["status"]["phase"] = json!("Running");
        pod["metadata"]["labels"] = json!({"isthmus.dev/component": "mover"});
        assert!(!is_active(&pod));
    }

    #[test]
    fn a_daemon_set_that_is_stopped_says_nothing_of_its_place() {
        let pared = pared_spec(&json!({"nodeSelector": {PARKED: "true", "disk": "fast"}}));
        assert_eq!(pared["nodeSelector"], json!({"disk": "fast"}));
    }
}
