//! The columns of each kind.

use serde_json::{Value, json};

use super::cells::{
    count, created, data_count, images, job_state, joined, or_none, pod_status, ports, ready_of, selector,
    short_modes, since,
};
use super::{Cell, Column, column};
use crate::apiserver::json::{at, list, name, terminating, text};
use crate::apiserver::registry::Resource;

/// The columns of a resource: its own, or those that its definition names.
pub fn columns(resource: &Resource) -> Vec<Column> {
    let s = "string";
    let i = "integer";
    let name_column = Column {
        name: "Name".to_owned(),
        kind: s,
        description: "Name must be unique within a namespace.".to_owned(),
        priority: 0,
        cell: Cell::Of(|o| json!(name(o))),
    };
    let age_column = || column("Age", s, 0, created);
    let mut all = vec![name_column];
    if let Some(custom) = &resource.custom {
        for definition in &custom.columns {
            let path = text(definition, &["jsonPath"]).to_owned();
            let date = text(definition, &["type"]) == "date";
            all.push(Column {
                name: text(definition, &["name"]).to_owned(),
                kind: match text(definition, &["type"]) {
                    "integer" => "integer",
                    "number" => "number",
                    "boolean" => "boolean",
                    "date" => "date",
                    _ => s,
                },
                description: text(definition, &["description"]).to_owned(),
                priority: definition["priority"].as_i64().unwrap_or(0),
                cell: if date { Cell::DatePath(path) } else { Cell::Path(path) },
            });
        }
        if custom.columns.is_empty() {
            all.push(age_column());
        }
        return all;
    }
    let own: Vec<Column> = match resource.kind.as_str() {
        "Pod" => vec![
            column("Ready", s, 0, |o| {
                let statuses = list(o, &["status", "containerStatuses"]);
                let ready = statuses.iter().filter(|c| c["ready"] == Value::Bool(true)).count();
                json!(format!("{ready}/{}", list(o, &["spec", "containers"]).len()))
            }),
            column("Status", s, 0, pod_status),
            column("Restarts", s, 0, |o| {
                let sum: i64 = list(o, &["status", "containerStatuses"])
                    .iter()
                    .filter_map(|c| c["restartCount"].as_i64())
                    .sum();
                json!(sum.to_string())
            }),
            age_column(),
            column("IP", s, 1, |o| or_none(text(o, &["status", "podIP"]))),
            column("Node", s, 1, |o| or_none(text(o, &["spec", "nodeName"]))),
            column("Nominated Node", s, 1, |o| or_none(text(o, &["status", "nominatedNodeName"]))),
            column("Readiness Gates", s, 1, |_| json!("<none>")),
        ],
        "Deployment" => vec![
            column("Ready", s, 0, |o| ready_of(o, "readyReplicas")),
            column("Up-to-date", i, 0, |o| json!(count(o, &["status", "updatedReplicas"]))),
            column("Available", i, 0, |o| json!(count(o, &["status", "availableReplicas"]))),
            age_column(),
            column("Images", s, 1, images),
            column("Selector", s, 1, selector),
        ],
        "StatefulSet" => vec![
            column("Ready", s, 0, |o| ready_of(o, "readyReplicas")),
            age_column(),
            column("Images", s, 1, images),
        ],
        "ReplicaSet" | "ReplicationController" => vec![
            column("Desired", i, 0, |o| json!(count(o, &["spec", "replicas"]))),
            column("Current", i, 0, |o| json!(count(o, &["status", "replicas"]))),
            column("Ready", i, 0, |o| json!(count(o, &["status", "readyReplicas"]))),
            age_column(),
            column("Images", s, 1, images),
        ],
        "DaemonSet" => vec![
            column("Desired", i, 0, |o| json!(count(o, &["status", "desiredNumberScheduled"]))),
            column("Current", i, 0, |o| json!(count(o, &["status", "currentNumberScheduled"]))),
            column("Ready", i, 0, |o| json!(count(o, &["status", "numberReady"]))),
            column("Up-to-date", i, 0, |o| json!(count(o, &["status", "updatedNumberScheduled"]))),
            column("Available", i, 0, |o| json!(count(o, &["status", "numberAvailable"]))),
            age_column(),
            column("Images", s, 1, images),
        ],
        "Job" => vec![
            column("Status", s, 0, job_state),
            column("Completions", s, 0, |o| {
                json!(format!(
                    "{}/{}",
                    count(o, &["status", "succeeded"]),
                    o["spec"]["completions"].as_i64().unwrap_or(1)
                ))
            }),
            age_column(),
            column("Images", s, 1, images),
        ],
        "CronJob" => vec![
            column("Schedule", s, 0, |o| json!(text(o, &["spec", "schedule"]))),
            column("Timezone", s, 0, |o| or_none(text(o, &["spec", "timeZone"]))),
            column("Suspend", s, 0, |o| {
                json!(if o["spec"]["suspend"] == Value::Bool(true) { "True" } else { "False" })
            }),
            column("Active", i, 0, |o| json!(list(o, &["status", "active"]).len())),
            column("Last Schedule", s, 0, |o| match at(o, &["status", "lastScheduleTime"]) {
                Value::Null => json!("<none>"),
                time => since(time),
            }),
            age_column(),
        ],
        "Service" => vec![
            column("Type", s, 0, |o| json!(text(o, &["spec", "type"]))),
            column("Cluster-IP", s, 0, |o| or_none(text(o, &["spec", "clusterIP"]))),
            column("External-IP", s, 0, |o| {
                let ingress: Vec<&str> = list(o, &["status", "loadBalancer", "ingress"])
                    .iter()
                    .map(|a| text(a, &["ip"]))
                    .collect();
                let kind = text(o, &["spec", "type"]);
                match (kind, ingress.is_empty()) {
                    ("ExternalName", _) => json!(text(o, &["spec", "externalName"])),
                    ("LoadBalancer", true) => json!("<pending>"),
                    _ => or_none(&ingress.join(",")),
                }
            }),
            column("Port(s)", s, 0, ports),
            age_column(),
            column("Selector", s, 1, selector),
        ],
        "PersistentVolumeClaim" => vec![
            column("Status", s, 0, |o| {
                json!(if terminating(o) { "Terminating" } else { text(o, &["status", "phase"]) })
            }),
            column("Volume", s, 0, |o| json!(text(o, &["spec", "volumeName"]))),
            column("Capacity", s, 0, |o| json!(text(o, &["status", "capacity", "storage"]))),
            column("Access Modes", s, 0, |o| json!(short_modes(list(o, &["status", "accessModes"])))),
            column("StorageClass", s, 0, |o| json!(text(o, &["spec", "storageClassName"]))),
            column("VolumeAttributesClass", s, 0, |o| {
                match text(o, &["spec", "volumeAttributesClassName"]) {
                    "" => json!("<unset>"),
                    class => json!(class),
                }
            }),
            age_column(),
            column("VolumeMode", s, 1, |o| json!(text(o, &["spec", "volumeMode"]))),
        ],
        "PersistentVolume" => vec![
            column("Capacity", s, 0, |o| json!(text(o, &["spec", "capacity", "storage"]))),
            column("Access Modes", s, 0, |o| json!(short_modes(list(o, &["spec", "accessModes"])))),
            column("Reclaim Policy", s, 0, |o| json!(text(o, &["spec", "persistentVolumeReclaimPolicy"]))),
            column("Status", s, 0, |o| {
                json!(if terminating(o) { "Terminating" } else { text(o, &["status", "phase"]) })
            }),
            column("Claim", s, 0, |o| {
                let claim = at(o, &["spec", "claimRef"]);
                json!(if claim.is_null() {
                    String::new()
                } else {
                    format!("{}/{}", text(claim, &["namespace"]), text(claim, &["name"]))
                })
            }),
            column("StorageClass", s, 0, |o| json!(text(o, &["spec", "storageClassName"]))),
            column("Reason", s, 0, |o| json!(text(o, &["status", "reason"]))),
            age_column(),
        ],
        "StorageClass" => vec![
            column("Provisioner", s, 0, |o| json!(text(o, &["provisioner"]))),
            column("ReclaimPolicy", s, 0, |o| json!(text(o, &["reclaimPolicy"]))),
            column("VolumeBindingMode", s, 0, |o| json!(text(o, &["volumeBindingMode"]))),
            column("AllowVolumeExpansion", s, 0, |o| json!(o["allowVolumeExpansion"] == Value::Bool(true))),
            age_column(),
        ],
        "Namespace" => vec![column("Status", s, 0, |o| json!(text(o, &["status", "phase"]))), age_column()],
        "Node" => vec![
            column("Status", s, 0, |o| {
                let ready = list(o, &["status", "conditions"]).iter().find(|c| c["type"] == "Ready");
                let state = match ready.map(|c| text(c, &["status"])) {
                    Some("True") => "Ready",
                    Some(_) => "NotReady",
                    None => "Unknown",
                };
                json!(if o["spec"]["unschedulable"] == Value::Bool(true) {
                    format!("{state},SchedulingDisabled")
                } else {
                    state.to_owned()
                })
            }),
            column("Roles", s, 0, |o| {
                let roles: Vec<&str> = at(o, &["metadata", "labels"])
                    .as_object()
                    .into_iter()
                    .flatten()
                    .filter_map(|(k, _)| k.strip_prefix("node-role.kubernetes.io/"))
                    .collect();
                or_none(&roles.join(","))
            }),
            age_column(),
            column("Version", s, 0, |o| json!(text(o, &["status", "nodeInfo", "kubeletVersion"]))),
        ],
        "ConfigMap" => vec![column("Data", s, 0, data_count), age_column()],
        "Secret" => vec![
            column("Type", s, 0, |o| json!(text(o, &["type"]))),
            column("Data", s, 0, data_count),
            age_column(),
        ],
        "ServiceAccount" => {
            vec![column("Secrets", s, 0, |o| json!(list(o, &["secrets"]).len())), age_column()]
        }
        "Ingress" => vec![
            column("Class", s, 0, |o| or_none(text(o, &["spec", "ingressClassName"]))),
            column("Hosts", s, 0, |o| {
                let hosts: Vec<&str> = list(o, &["spec", "rules"])
                    .iter()
                    .map(|r| text(r, &["host"]))
                    .filter(|h| !h.is_empty())
                    .collect();
                json!(if hosts.is_empty() { "*".to_owned() } else { hosts.join(",") })
            }),
            column("Address", s, 0, |o| {
                json!(
                    list(o, &["status", "loadBalancer", "ingress"])
                        .iter()
                        .map(|a| text(a, &["ip"]))
                        .collect::<Vec<_>>()
                        .join(",")
                )
            }),
            column("Ports", s, 0, |o| {
                json!(if list(o, &["spec", "tls"]).is_empty() { "80" } else { "80, 443" })
            }),
            age_column(),
        ],
        "Event" => vec![
            column("Last Seen", s, 0, |o| {
                let seen = ["lastTimestamp", "deprecatedLastTimestamp", "eventTime"]
                    .iter()
                    .map(|f| &o[*f])
                    .find(|t| t.is_string());
                seen.map_or_else(|| created(o), since)
            }),
            column("Type", s, 0, |o| json!(text(o, &["type"]))),
            column("Reason", s, 0, |o| json!(text(o, &["reason"]))),
            column("Object", s, 0, |o| {
                let target =
                    if o.get("regarding").is_some() { &o["regarding"] } else { &o["involvedObject"] };
                json!(format!("{}/{}", text(target, &["kind"]).to_lowercase(), text(target, &["name"])))
            }),
            column("Message", s, 0, |o| {
                json!(format!("{}{}", text(o, &["message"]), text(o, &["note"])).trim())
            }),
        ],
        "CustomResourceDefinition" => {
            vec![column("Created At", "date", 0, |o| at(o, &["metadata", "creationTimestamp"]).clone())]
        }
        "Role" | "ClusterRole" => {
            vec![column("Created At", "date", 0, |o| at(o, &["metadata", "creationTimestamp"]).clone())]
        }
        "RoleBinding" | "ClusterRoleBinding" => vec![
            column("Role", s, 0, |o| {
                json!(format!("{}/{}", text(o, &["roleRef", "kind"]), text(o, &["roleRef", "name"])))
            }),
            age_column(),
        ],
        "HorizontalPodAutoscaler" => vec![
            column("Reference", s, 0, |o| {
                json!(format!(
                    "{}/{}",
                    text(o, &["spec", "scaleTargetRef", "kind"]),
                    text(o, &["spec", "scaleTargetRef", "name"])
                ))
            }),
            column("MinPods", s, 0, |o| json!(count(o, &["spec", "minReplicas"]).to_string())),
            column("MaxPods", i, 0, |o| json!(count(o, &["spec", "maxReplicas"]))),
            column("Replicas", i, 0, |o| json!(count(o, &["status", "currentReplicas"]))),
            age_column(),
        ],
        "Lease" => {
            vec![column("Holder", s, 0, |o| json!(text(o, &["spec", "holderIdentity"]))), age_column()]
        }
        "NetworkPolicy" => vec![
            column("Pod-Selector", s, 0, |o| {
                let labels = at(o, &["spec", "podSelector", "matchLabels"]).as_object();
                let pairs: Vec<String> = labels
                    .into_iter()
                    .flatten()
                    .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or("")))
                    .collect();
                or_none(&pairs.join(","))
            }),
            age_column(),
        ],
        "Endpoints" => vec![
            column("Endpoints", s, 0, |o| {
                let addresses: Vec<&str> = list(o, &["subsets"])
                    .iter()
                    .flat_map(|x| list(x, &["addresses"]))
                    .map(|a| text(a, &["ip"]))
                    .collect();
                or_none(&addresses.join(","))
            }),
            age_column(),
        ],
        "IngressClass" => {
            vec![column("Controller", s, 0, |o| json!(text(o, &["spec", "controller"]))), age_column()]
        }
        "PriorityClass" => vec![column("Value", i, 0, |o| o["value"].clone()), age_column()],
        "EndpointSlice" => vec![
            column("AddressType", s, 0, |o| json!(text(o, &["addressType"]))),
            column("Endpoints", s, 0, |o| {
                or_none(
                    &list(o, &["endpoints"])
                        .iter()
                        .map(|e| joined(list(e, &["addresses"])))
                        .collect::<Vec<_>>()
                        .join(","),
                )
            }),
            age_column(),
        ],
        _ => vec![age_column()],
    };
    all.extend(own);
    all
}
