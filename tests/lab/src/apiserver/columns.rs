//! Objects as rows, for `kubectl get`.

use serde_json::{Value, json};

use super::json::{at, list, name, terminating, text};
use super::jsonpath;
use super::registry::Resource;

/// A column with the way to its cell.
struct Column {
    name: String,
    kind: &'static str,
    description: String,
    priority: i64,
    cell: Cell,
}

enum Cell {
    Of(fn(&Value) -> Value),
    Path(String),
    DatePath(String),
}

fn column(name: &str, kind: &'static str, priority: i64, cell: fn(&Value) -> Value) -> Column {
    Column { name: name.to_owned(), kind, description: name.to_owned(), priority, cell: Cell::Of(cell) }
}

/// `5m`, as kubectl shows ages.
pub fn age(seconds: i64) -> String {
    let (m, h, d) = (60, 3600, 86400);
    match seconds {
        s if s < 0 => "<invalid>".to_owned(),
        s if s < 120 => format!("{s}s"),
        s if s < 10 * m => both(s / m, "m", s % m, "s"),
        s if s < 3 * h => format!("{}m", s / m),
        s if s < 8 * h => both(s / h, "h", s % h / m, "m"),
        s if s < 48 * h => format!("{}h", s / h),
        s if s < 8 * d => both(s / d, "d", s % d / h, "h"),
        s if s < 730 * d => format!("{}d", s / d),
        s => format!("{}y", s / (365 * d)),
    }
}

fn both(a: i64, a_unit: &str, b: i64, b_unit: &str) -> String {
    if b == 0 { format!("{a}{a_unit}") } else { format!("{a}{a_unit}{b}{b_unit}") }
}

fn since(time: &Value) -> Value {
    let parsed = time.as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok());
    match parsed {
        Some(then) => json!(age(jiff::Timestamp::now().as_second() - then.as_second())),
        None => json!("<unknown>"),
    }
}

fn created(object: &Value) -> Value {
    since(at(object, &["metadata", "creationTimestamp"]))
}

fn or_none(text: &str) -> Value {
    if text.is_empty() { json!("<none>") } else { json!(text) }
}

fn joined(values: &[Value]) -> String {
    values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

fn count(object: &Value, path: &[&str]) -> i64 {
    at(object, path).as_i64().unwrap_or(0)
}

fn ready_of(object: &Value, ready: &str) -> Value {
    json!(format!("{}/{}", count(object, &["status", ready]), count(object, &["spec", "replicas"])))
}

fn short_modes(modes: &[Value]) -> String {
    let short = |mode: &Value| match mode.as_str().unwrap_or("") {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "?",
    };
    modes.iter().map(short).collect::<Vec<_>>().join(",")
}

fn pod_status(pod: &Value) -> Value {
    if terminating(pod) {
        return json!("Terminating");
    }
    let reason = list(pod, &["status", "containerStatuses"]).iter().find_map(|c| {
        let state = &c["state"];
        state["waiting"]["reason"].as_str().or_else(|| state["terminated"]["reason"].as_str())
    });
    let phase = text(pod, &["status", "phase"]);
    json!(reason.or_else(|| pod["status"]["reason"].as_str()).unwrap_or(phase))
}

fn ports(service: &Value) -> Value {
    let one = |p: &Value| {
        let protocol = text(p, &["protocol"]);
        match p["nodePort"].as_i64() {
            Some(node) => format!("{}:{node}/{protocol}", p["port"]),
            None => format!("{}/{protocol}", p["port"]),
        }
    };
    or_none(&list(service, &["spec", "ports"]).iter().map(one).collect::<Vec<_>>().join(","))
}

fn selector(object: &Value) -> Value {
    let labels = at(object, &["spec", "selector", "matchLabels"])
        .as_object()
        .or_else(|| at(object, &["spec", "selector"]).as_object());
    let pairs: Vec<String> =
        labels.into_iter().flatten().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or(""))).collect();
    or_none(&pairs.join(","))
}

fn images(object: &Value) -> Value {
    let containers = list(object, &["spec", "template", "spec", "containers"]);
    or_none(&containers.iter().map(|c| text(c, &["image"])).collect::<Vec<_>>().join(","))
}

fn data_count(object: &Value) -> Value {
    let of = |field: &str| at(object, &[field]).as_object().map_or(0, serde_json::Map::len);
    json!(of("data") + of("binaryData"))
}

fn job_state(job: &Value) -> Value {
    let condition = |kind: &str| {
        list(job, &["status", "conditions"]).iter().any(|c| c["type"] == kind && c["status"] == "True")
    };
    json!(if condition("Complete") {
        "Complete"
    } else if condition("Failed") {
        "Failed"
    } else if terminating(job) {
        "Terminating"
    } else if condition("Suspended") {
        "Suspended"
    } else {
        "Running"
    })
}

fn columns(resource: &Resource) -> Vec<Column> {
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

/// A `Table` of objects. Rows carry what `include` says: the metadata, the whole object, or nothing.
pub fn table(
    resource: &Resource,
    objects: &[&Value],
    metadata: &Value,
    include: &str,
    header: bool,
) -> Value {
    let columns = columns(resource);
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let cells: Vec<Value> = columns.iter().map(|c| cell(c, object)).collect();
            let shown = match include {
                "None" => Value::Null,
                "Object" => (*object).clone(),
                _ => metadata_of(object),
            };
            let mut row = json!({"cells": cells});
            if !shown.is_null() {
                row["object"] = shown;
            }
            row
        })
        .collect();
    let definitions: Vec<Value> = if header {
        columns
            .iter()
            .map(|c| {
                let format = if c.name == "Name" { "name" } else { "" };
                json!({"name": c.name, "type": c.kind, "format": format, "description": c.description, "priority": c.priority})
            })
            .collect()
    } else {
        Vec::new()
    };
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": definitions, "rows": rows})
}

fn cell(column: &Column, object: &Value) -> Value {
    match &column.cell {
        Cell::Of(make) => make(object),
        Cell::DatePath(path) => match jsonpath::find(object, path).first() {
            Some(time) => since(time),
            None => Value::Null,
        },
        Cell::Path(path) => {
            let found = jsonpath::find(object, path);
            match (found.as_slice(), column.kind) {
                ([], _) => Value::Null,
                ([one], "integer" | "number" | "boolean") => (*one).clone(),
                (many, _) => {
                    let shown: Vec<String> = many
                        .iter()
                        .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
                        .collect();
                    json!(shown.join(","))
                }
            }
        }
    }
}

/// A `PartialObjectMetadata`.
pub fn metadata_of(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_shown_as_kubectl_shows_them() {
        for (seconds, shown) in [
            (5, "5s"),
            (119, "119s"),
            (125, "2m5s"),
            (3600, "60m"),
            (4 * 3600, "4h"),
            (3 * 86400, "3d"),
            (900 * 86400, "2y"),
        ] {
            assert_eq!(age(seconds), shown);
        }
    }
}
