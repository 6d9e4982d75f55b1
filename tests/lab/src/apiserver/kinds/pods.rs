//! Pods and pod templates.

use serde_json::{Map, Value, json};

use super::names;
use crate::apiserver::error::FieldError;
use crate::apiserver::json::{at, default, list, object, set, text};
use crate::apiserver::quantity::Quantity;

/// Fields of a pod's spec that may change once it is there.
const CHANGEABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Defaults of a pod.
pub fn default_pod(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec").filter(|s| s.is_object()) else { return };
    default(spec, &["enableServiceLinks"], true);
    default_spec(spec);
    for kind in ["initContainers", "containers"] {
        for container in spec.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten() {
            let limits = container["resources"]["limits"].clone();
            for (name, amount) in limits.as_object().into_iter().flatten() {
                default(container, &["resources", "requests", name], amount.clone());
            }
        }
    }
}

/// Defaults of a pod template.
pub fn default_template(template: &mut Value) {
    if template.get("spec").is_some_and(Value::is_object) {
        default_spec(&mut template["spec"]);
    }
}

fn default_spec(spec: &mut Value) {
    default(spec, &["restartPolicy"], "Always");
    default(spec, &["terminationGracePeriodSeconds"], 30);
    default(spec, &["dnsPolicy"], "ClusterFirst");
    default(spec, &["securityContext"], json!({}));
    default(spec, &["schedulerName"], "default-scheduler");
    let account = match (text(spec, &["serviceAccountName"]), text(spec, &["serviceAccount"])) {
        ("", old) => old.to_owned(),
        (name, _) => name.to_owned(),
    };
    if !account.is_empty() {
        set(spec, &["serviceAccountName"], account.clone());
        set(spec, &["serviceAccount"], account);
    }
    for kind in ["initContainers", "containers"] {
        for container in spec.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten() {
            default_container(container);
        }
    }
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        default_volume(volume);
    }
}

fn default_container(container: &mut Value) {
    default(container, &["terminationMessagePath"], "/dev/termination-log");
    default(container, &["terminationMessagePolicy"], "File");
    default(container, &["resources"], json!({}));
    let image = text(container, &["image"]).to_owned();
    if !image.is_empty() {
        let last = image.rsplit('/').next().unwrap_or(&image);
        let latest = !last.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest");
        default(container, &["imagePullPolicy"], if latest { "Always" } else { "IfNotPresent" });
    }
    for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        default(port, &["protocol"], "TCP");
    }
    for variable in container.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten() {
        if at(variable, &["valueFrom", "fieldRef"]).is_object() {
            default(variable, &["valueFrom", "fieldRef", "apiVersion"], "v1");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get_mut(probe).filter(|p| p.is_object()) else { continue };
        for (field, value) in
            [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
        {
            default(probe, &[field], value);
        }
        if let Some(get) = probe.get_mut("httpGet").filter(|p| p.is_object()) {
            default(get, &["path"], "/");
            default(get, &["scheme"], "HTTP");
        }
        if let Some(grpc) = probe.get_mut("grpc").filter(|p| p.is_object()) {
            default(grpc, &["service"], "");
        }
    }
}

fn default_volume(volume: &mut Value) {
    let sources = object(volume).keys().filter(|key| *key != "name").count();
    if sources == 0 {
        set(volume, &["emptyDir"], json!({}));
    }
    for kind in ["secret", "configMap", "downwardAPI", "projected"] {
        if at(volume, &[kind]).is_object() {
            default(volume, &[kind, "defaultMode"], 420);
        }
    }
    if at(volume, &["hostPath"]).is_object() {
        default(volume, &["hostPath", "type"], "");
    }
    let reference = |items: Option<&mut Value>| {
        for item in items.and_then(Value::as_array_mut).into_iter().flatten() {
            if at(item, &["fieldRef"]).is_object() {
                default(item, &["fieldRef", "apiVersion"], "v1");
            }
        }
    };
    reference(volume.pointer_mut("/downwardAPI/items"));
    for source in volume.pointer_mut("/projected/sources").and_then(Value::as_array_mut).into_iter().flatten()
    {
        if at(source, &["serviceAccountToken"]).is_object() {
            default(source, &["serviceAccountToken", "expirationSeconds"], 3600);
        }
        reference(source.pointer_mut("/downwardAPI/items"));
    }
    if let Some(claim) = volume.pointer_mut("/ephemeral/volumeClaimTemplate/spec") {
        default(claim, &["volumeMode"], "Filesystem");
    }
}

/// What the server sets on a new pod.
pub fn begin(pod: &mut Value) {
    let class = qos(&pod["spec"]);
    set(pod, &["status"], json!({"phase": "Pending", "qosClass": class}));
    let spec = &mut pod["spec"];
    let tolerations = super::super::json::place(spec, &["tolerations"]);
    if !tolerations.is_array() {
        *tolerations = json!([]);
    }
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covered = tolerations.as_array().into_iter().flatten().any(|t| {
            (t["key"] == key || t.get("key").is_none()) && matches!(text(t, &["effect"]), "" | "NoExecute")
        });
        if !covered && let Some(list) = tolerations.as_array_mut() {
            list.push(
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}),
            );
        }
    }
}

fn qos(spec: &Value) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    for kind in ["initContainers", "containers"] {
        for container in list(spec, &[kind]) {
            for resource in ["cpu", "memory"] {
                let amount = |part: &str| {
                    Quantity::from_json(at(container, &["resources", part, resource]))
                        .filter(|q| *q > Quantity::ZERO)
                };
                let (limit, request) = (amount("limits"), amount("requests"));
                any |= limit.is_some() || request.is_some();
                guaranteed &= limit.is_some() && (request.is_none() || request == limit);
            }
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// What is wrong with a pod's spec.
pub fn validate_spec(spec: &Value, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut volumes = Vec::new();
    for (index, volume) in list(spec, &["volumes"]).iter().enumerate() {
        let name = text(volume, &["name"]);
        let at = format!("{field}.volumes[{index}].name");
        if name.is_empty() {
            errors.push(FieldError::required(at, ""));
        } else if let Some(problem) = names::label_problem(name) {
            errors.push(FieldError::invalid(at, &json!(name), &problem));
        } else if volumes.contains(&name) {
            errors.push(FieldError::duplicate(at, &json!(name)));
        }
        volumes.push(name);
        let sources = volume.as_object().map_or(0, |v| v.keys().filter(|k| *k != "name").count());
        if sources > 1 {
            errors.push(FieldError::forbidden(
                format!("{field}.volumes[{index}]"),
                "may not specify more than 1 volume type",
            ));
        }
        if volume.get("persistentVolumeClaim").is_some()
            && text(volume, &["persistentVolumeClaim", "claimName"]).is_empty()
        {
            errors.push(FieldError::required(
                format!("{field}.volumes[{index}].persistentVolumeClaim.claimName"),
                "",
            ));
        }
    }
    if list(spec, &["containers"]).is_empty() {
        errors.push(FieldError::required(format!("{field}.containers"), ""));
    }
    let mut seen = Vec::new();
    for kind in ["containers", "initContainers"] {
        for (index, container) in list(spec, &[kind]).iter().enumerate() {
            validate_container(
                container,
                &format!("{field}.{kind}[{index}]"),
                &volumes,
                &mut seen,
                &mut errors,
            );
        }
    }
    let policy = at(spec, &["restartPolicy"]);
    let policies = ["Always", "OnFailure", "Never"].map(str::to_owned);
    if policy.as_str().is_some_and(|p| !policies.iter().any(|x| x == p)) {
        errors.push(FieldError::unsupported(format!("{field}.restartPolicy"), policy, &policies));
    }
    errors
}

fn validate_container<'a>(
    container: &'a Value,
    field: &str,
    volumes: &[&str],
    seen: &mut Vec<&'a str>,
    errors: &mut Vec<FieldError>,
) {
    let name = text(container, &["name"]);
    if name.is_empty() {
        errors.push(FieldError::required(format!("{field}.name"), ""));
    } else if let Some(problem) = names::label_problem(name) {
        errors.push(FieldError::invalid(format!("{field}.name"), &json!(name), &problem));
    } else if seen.contains(&name) {
        errors.push(FieldError::duplicate(format!("{field}.name"), &json!(name)));
    }
    seen.push(name);
    if text(container, &["image"]).is_empty() {
        errors.push(FieldError::required(format!("{field}.image"), ""));
    }
    for (index, mount) in list(container, &["volumeMounts"]).iter().enumerate() {
        let volume = text(mount, &["name"]);
        if !volumes.contains(&volume) {
            errors.push(FieldError::not_found(format!("{field}.volumeMounts[{index}].name"), &json!(volume)));
        }
        if text(mount, &["mountPath"]).is_empty() {
            errors.push(FieldError::required(format!("{field}.volumeMounts[{index}].mountPath"), ""));
        }
    }
    for (index, variable) in list(container, &["env"]).iter().enumerate() {
        if text(variable, &["name"]).is_empty() {
            errors.push(FieldError::required(format!("{field}.env[{index}].name"), ""));
        }
    }
    let limits = at(container, &["resources", "limits"]);
    for (resource, request) in at(container, &["resources", "requests"]).as_object().into_iter().flatten() {
        let (Some(asked), Some(limit)) =
            (Quantity::from_json(request), limits.get(resource).and_then(Quantity::from_json))
        else {
            continue;
        };
        if asked > limit {
            errors.push(FieldError::invalid(
                format!("{field}.resources.requests"),
                request,
                &format!("must be less than or equal to {resource} limit of {}", limit.canonical()),
            ));
        }
    }
}

/// What of a pod may not change.
pub fn validate_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let blanked = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for kind in ["containers", "initContainers"] {
            for container in spec.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten() {
                object(container).remove("image");
            }
        }
        let fields = object(&mut spec);
        for field in
            ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates"]
        {
            fields.remove(field);
        }
        spec
    };
    let mut errors = Vec::new();
    if blanked(old) != blanked(new) {
        errors.push(FieldError::forbidden("spec", CHANGEABLE));
    }
    let kept =
        list(old, &["spec", "tolerations"]).iter().all(|t| list(new, &["spec", "tolerations"]).contains(t));
    if !kept {
        errors.push(FieldError::forbidden(
            "spec.tolerations",
            "existing toleration can not be modified except its tolerationSeconds",
        ));
    }
    errors
}

/// The labels of a template.
pub fn template_labels(template: &Value) -> Map<String, Value> {
    at(template, &["metadata", "labels"]).as_object().cloned().unwrap_or_default()
}

/// What is doubtful about a pod's spec and allowed all the same.
pub fn warnings(spec: &Value, field: &str) -> Vec<String> {
    let mut told = Vec::new();
    for kind in ["initContainers", "containers"] {
        for (index, container) in list(spec, &[kind]).iter().enumerate() {
            let here = format!("{field}.{kind}[{index}]");
            let mut names = std::collections::HashSet::new();
            for (at, variable) in list(container, &["env"]).iter().enumerate() {
                let name = text(variable, &["name"]);
                if !names.insert(name) {
                    told.push(format!(
                        "{here}.env[{at}]: hides previous definition of {name:?}, which may be dropped when using apply"
                    ));
                }
            }
            let ports = list(container, &["ports"]);
            let identity = |port: &Value| {
                let protocol =
                    if text(port, &["protocol"]).is_empty() { "TCP" } else { text(port, &["protocol"]) };
                (port["containerPort"].clone(), protocol.to_owned())
            };
            for (at, port) in ports.iter().enumerate() {
                if let Some(first) = ports[..at].iter().position(|p| identity(p) == identity(port)) {
                    told.push(format!(
                        "{here}.ports[{at}]: duplicate port definition with {here}.ports[{first}]"
                    ));
                }
            }
        }
    }
    told
}
