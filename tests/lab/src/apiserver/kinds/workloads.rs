//! Deployments, stateful sets, daemon sets, replica sets and replication controllers.

use serde_json::{Value, json};

use super::{pods, unchanged};
use crate::apiserver::error::FieldError;
use crate::apiserver::json::{at, default, list, object, set, text};

const STATEFUL_SET_FIELDS: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

/// Defaults of a workload.
pub fn set_defaults(kind: &str, workload: &mut Value) {
    if !workload["spec"].is_object() {
        return;
    }
    let spec = &mut workload["spec"];
    if kind != "DaemonSet" {
        default(spec, &["replicas"], 1);
    }
    match kind {
        "Deployment" => {
            default(spec, &["revisionHistoryLimit"], 10);
            default(spec, &["progressDeadlineSeconds"], 600);
            default(spec, &["strategy", "type"], "RollingUpdate");
            if text(spec, &["strategy", "type"]) == "RollingUpdate" {
                default(spec, &["strategy", "rollingUpdate", "maxSurge"], "25%");
                default(spec, &["strategy", "rollingUpdate", "maxUnavailable"], "25%");
            }
        }
        "StatefulSet" => {
            default(spec, &["revisionHistoryLimit"], 10);
            default(spec, &["podManagementPolicy"], "OrderedReady");
            default(spec, &["updateStrategy", "type"], "RollingUpdate");
            if text(spec, &["updateStrategy", "type"]) == "RollingUpdate" {
                default(spec, &["updateStrategy", "rollingUpdate", "partition"], 0);
            }
            default(spec, &["persistentVolumeClaimRetentionPolicy", "whenDeleted"], "Retain");
            default(spec, &["persistentVolumeClaimRetentionPolicy", "whenScaled"], "Retain");
            default(spec, &["serviceName"], "");
            for claim in
                spec.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten()
            {
                default(claim, &["apiVersion"], "v1");
                default(claim, &["kind"], "PersistentVolumeClaim");
                default(claim, &["spec", "volumeMode"], "Filesystem");
                set(claim, &["status"], json!({"phase": "Pending"}));
            }
        }
        "DaemonSet" => {
            default(spec, &["revisionHistoryLimit"], 10);
            default(spec, &["updateStrategy", "type"], "RollingUpdate");
            if text(spec, &["updateStrategy", "type"]) == "RollingUpdate" {
                default(spec, &["updateStrategy", "rollingUpdate", "maxSurge"], 0);
                default(spec, &["updateStrategy", "rollingUpdate", "maxUnavailable"], 1);
            }
        }
        "ReplicationController" => {
            let labels = pods::template_labels(&spec["template"]);
            if !labels.is_empty() {
                default(spec, &["selector"], Value::Object(labels));
            }
        }
        _ => {}
    }
    if let Some(template) = spec.get_mut("template") {
        pods::default_template(template);
    }
}

/// Whether a label selector's equality part and its expressions select these labels.
pub fn selects(selector: &Value, labels: &serde_json::Map<String, Value>) -> bool {
    let equal = at(selector, &["matchLabels"])
        .as_object()
        .is_none_or(|m| m.iter().all(|(k, v)| labels.get(k) == Some(v)));
    equal
        && list(selector, &["matchExpressions"]).iter().all(|e| {
            let value = labels.get(text(e, &["key"]));
            let among = || value.is_some_and(|v| list(e, &["values"]).contains(v));
            match text(e, &["operator"]) {
                "In" => among(),
                "NotIn" => !among(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// What is wrong with a workload.
pub fn validate(kind: &str, workload: &Value) -> Vec<FieldError> {
    let spec = &workload["spec"];
    let mut errors = Vec::new();
    let labels = pods::template_labels(&spec["template"]);
    if kind == "ReplicationController" {
        if at(spec, &["selector"])
            .as_object()
            .is_none_or(|s| s.is_empty() || s.iter().any(|(k, v)| labels.get(k) != Some(v)))
        {
            errors.push(FieldError::invalid(
                "spec.template.metadata.labels",
                &json!(labels),
                "`selector` does not match template `labels`",
            ));
        }
    } else {
        let selector = &spec["selector"];
        let empty = selector.as_object().is_none_or(serde_json::Map::is_empty);
        if selector.is_null() {
            errors.push(FieldError::required("spec.selector", ""));
        } else if empty {
            errors.push(FieldError::invalid(
                "spec.selector",
                selector,
                "empty selector is invalid for deployment",
            ));
        }
        if empty || !selects(selector, &labels) {
            errors.push(FieldError::invalid(
                "spec.template.metadata.labels",
                &json!(labels),
                "`selector` does not match template `labels`",
            ));
        }
    }
    if spec["replicas"].as_i64().is_some_and(|r| r < 0) {
        errors.push(FieldError::invalid(
            "spec.replicas",
            &spec["replicas"],
            "must be greater than or equal to 0",
        ));
    }
    if kind == "Deployment"
        && text(spec, &["strategy", "type"]) == "Recreate"
        && at(spec, &["strategy", "rollingUpdate"]).is_object()
    {
        errors.push(FieldError::forbidden(
            "spec.strategy.rollingUpdate",
            "may not be specified when strategy `type` is 'Recreate'",
        ));
    }
    // As kube-apiserver: a StatefulSet's pods may mount claims that only its templates name.
    if kind != "StatefulSet" {
        errors.extend(pods::validate_spec(&spec["template"]["spec"], "spec.template.spec"));
    }
    let policy = at(spec, &["template", "spec", "restartPolicy"]);
    if policy.as_str().is_some_and(|p| p != "Always") {
        errors.push(FieldError::unsupported(
            "spec.template.spec.restartPolicy",
            policy,
            &["Always".to_owned()],
        ));
    }
    errors
}

/// What of a workload may not change.
pub fn validate_update(kind: &str, old: &Value, new: &Value) -> Vec<FieldError> {
    match kind {
        "Deployment" | "DaemonSet" | "ReplicaSet" => {
            unchanged(old, new, &["spec", "selector"], "field is immutable")
        }
        "StatefulSet" => {
            let fixed = |set: &Value| {
                let mut spec = set["spec"].clone();
                let fields = object(&mut spec);
                for field in STATEFUL_SET_FIELDS {
                    fields.remove(field);
                }
                spec
            };
            if fixed(old) == fixed(new) {
                return Vec::new();
            }
            vec![FieldError::forbidden(
                "spec",
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            )]
        }
        "ControllerRevision" => unchanged(old, new, &["data"], "field is immutable"),
        _ => Vec::new(),
    }
}
