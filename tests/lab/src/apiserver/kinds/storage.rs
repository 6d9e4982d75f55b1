//! Persistent volumes, claims and storage classes.

use serde_json::{Value, json};

use super::unchanged;
use crate::apiserver::error::FieldError;
use crate::apiserver::json::{at, default, list, now, object, place, set, text};
use crate::apiserver::quantity::Quantity;
use crate::apiserver::store::Transaction;

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// Defaults of a claim.
pub fn default_claim(claim: &mut Value) {
    if claim["spec"].is_object() {
        default(claim, &["spec", "volumeMode"], "Filesystem");
    }
}

/// Defaults of a volume.
pub fn default_volume(volume: &mut Value) {
    let Some(spec) = volume.get_mut("spec").filter(|s| s.is_object()) else { return };
    default(spec, &["persistentVolumeReclaimPolicy"], "Retain");
    default(spec, &["volumeMode"], "Filesystem");
    if spec["hostPath"].is_object() {
        default(spec, &["hostPath", "type"], "");
    }
}

/// Defaults of a class.
pub fn default_class(class: &mut Value) {
    default(class, &["reclaimPolicy"], "Delete");
    default(class, &["volumeBindingMode"], "Immediate");
}

/// What the server sets on a new claim: the default class, the phase, the protection.
pub fn begin_claim(transaction: &Transaction<'_>, claim: &mut Value) {
    set(claim, &["status"], json!({"phase": "Pending"}));
    protect(claim, "kubernetes.io/pvc-protection");
    if claim["spec"]["storageClassName"].is_string()
        || at(claim, &["metadata", "annotations", BETA_CLASS]).is_string()
    {
        return;
    }
    let newest = transaction
        .list("storage.k8s.io/storageclasses", None)
        .into_iter()
        .filter(|class| text(class, &["metadata", "annotations", DEFAULT_CLASS]) == "true")
        .max_by_key(|class| text(class, &["metadata", "creationTimestamp"]).to_owned());
    if let Some(class) = newest {
        set(claim, &["spec", "storageClassName"], crate::apiserver::json::name(&class));
    }
}

/// What the server sets on a new volume.
pub fn begin_volume(volume: &mut Value) {
    set(volume, &["status"], json!({"phase": "Pending", "lastPhaseTransitionTime": now()}));
    protect(volume, "kubernetes.io/pv-protection");
    if volume["spec"]["claimRef"].is_object() {
        default(volume, &["spec", "claimRef", "kind"], "PersistentVolumeClaim");
        default(volume, &["spec", "claimRef", "apiVersion"], "v1");
    }
}

/// Notes when a volume came into its phase.
pub fn note_phase(old: &Value, new: &mut Value) {
    if old["status"]["phase"] != new["status"]["phase"]
        && old["status"]["lastPhaseTransitionTime"] == new["status"]["lastPhaseTransitionTime"]
    {
        set(new, &["status", "lastPhaseTransitionTime"], now());
    }
}

fn protect(object: &mut Value, finalizer: &str) {
    let finalizers = place(object, &["metadata", "finalizers"]);
    match finalizers.as_array_mut() {
        Some(list) if list.iter().any(|f| f == finalizer) => {}
        Some(list) => list.push(json!(finalizer)),
        None => *finalizers = json!([finalizer]),
    }
}

/// A claim that leaves its bound volume out keeps it.
pub fn keep_claim(old: &Value, new: &mut Value) {
    for field in ["volumeName", "storageClassName"] {
        if new["spec"][field].is_null() && !old["spec"][field].is_null() {
            set(new, &["spec", field], old["spec"][field].clone());
        }
    }
}

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

fn validate_modes(spec: &Value, errors: &mut Vec<FieldError>) {
    if list(spec, &["accessModes"]).is_empty() {
        errors.push(FieldError::required("spec.accessModes", "at least 1 access mode is required"));
    }
    for mode in list(spec, &["accessModes"]) {
        if !mode.as_str().is_some_and(|m| MODES.contains(&m)) {
            errors.push(FieldError::unsupported("spec.accessModes", mode, &MODES.map(str::to_owned)));
        }
    }
}

/// That of one pod goes with no other.
fn validate_one_pod(spec: &Value, errors: &mut Vec<FieldError>) {
    let modes = list(spec, &["accessModes"]);
    if modes.iter().any(|mode| mode == "ReadWriteOncePod")
        && modes.iter().any(|mode| mode != "ReadWriteOncePod")
    {
        let why = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden("spec.accessModes", why));
    }
}

/// What is wrong with a claim.
pub fn validate_claim(claim: &Value) -> Vec<FieldError> {
    let spec = &claim["spec"];
    let mut errors = Vec::new();
    validate_modes(spec, &mut errors);
    validate_one_pod(spec, &mut errors);
    let class = text(spec, &["storageClassName"]);
    if let Some(why) = super::names::subdomain_problem(class).filter(|_| !class.is_empty()) {
        errors.push(FieldError::invalid("spec.storageClassName", &json!(class), &why));
    }
    match Quantity::from_json(at(spec, &["resources", "requests", "storage"])) {
        None => errors.push(FieldError::required("spec.resources[storage]", "")),
        Some(size) if size <= Quantity::ZERO => errors.push(FieldError::invalid(
            "spec.resources[storage]",
            at(spec, &["resources", "requests", "storage"]),
            "must be greater than zero",
        )),
        Some(_) => {}
    }
    errors
}

/// What is wrong with a volume.
pub fn validate_volume(volume: &Value) -> Vec<FieldError> {
    const SOURCES: [&str; 12] = [
        "hostPath",
        "local",
        "csi",
        "nfs",
        "fc",
        "iscsi",
        "cephfs",
        "rbd",
        "awsElasticBlockStore",
        "gcePersistentDisk",
        "azureDisk",
        "azureFile",
    ];
    let spec = &volume["spec"];
    let mut errors = Vec::new();
    validate_modes(spec, &mut errors);
    validate_one_pod(spec, &mut errors);
    if at(spec, &["capacity"]).as_object().is_none_or(serde_json::Map::is_empty) {
        errors.push(FieldError::required("spec.capacity", ""));
    }
    let others = [
        "vsphereVolume",
        "flexVolume",
        "cinder",
        "portworxVolume",
        "glusterfs",
        "photonPersistentDisk",
        "quobyte",
        "scaleIO",
        "storageos",
    ];
    match SOURCES.iter().chain(&others).filter(|s| spec.get(**s).is_some()).count() {
        0 => errors.push(FieldError::required("spec", "must specify a volume type")),
        1 => {}
        _ => errors.push(FieldError::forbidden("spec", "may not specify more than 1 volume type")),
    }
    if spec.get("local").is_some() && spec.get("nodeAffinity").is_none() {
        errors.push(FieldError::required("spec.nodeAffinity", "Local volume requires node affinity"));
    }
    errors
}

/// What is wrong with a class.
pub fn validate_class(class: &Value) -> Vec<FieldError> {
    if text(class, &["provisioner"]).is_empty() {
        vec![FieldError::required("provisioner", "")]
    } else {
        Vec::new()
    }
}

/// What of a class may not change.
pub fn validate_class_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if old["parameters"] != new["parameters"] {
        errors.push(FieldError::forbidden("parameters", "updates to parameters are forbidden."));
    }
    if old["provisioner"] != new["provisioner"] {
        errors.push(FieldError::forbidden("provisioner", "updates to provisioner are forbidden."));
    }
    errors.extend(unchanged(old, new, &["volumeBindingMode"], "field is immutable"));
    if old["reclaimPolicy"] != new["reclaimPolicy"] {
        errors.push(FieldError::forbidden("reclaimPolicy", "updates to reclaimPolicy are forbidden."));
    }
    errors
}

/// What of a claim may not change.
pub fn validate_claim_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let fixed = |claim: &Value| {
        let mut spec = claim["spec"].clone();
        object(&mut spec).remove("volumeAttributesClassName");
        if text(old, &["spec", "volumeName"]).is_empty() {
            object(&mut spec).remove("volumeName");
        }
        // A class may be given later to a claim that was made without one.
        if old["spec"]["storageClassName"].is_null() {
            object(&mut spec).remove("storageClassName");
        }
        crate::apiserver::json::remove(&mut spec, &["resources", "requests"]);
        spec
    };
    if fixed(old) != fixed(new) {
        errors.push(FieldError::forbidden(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        ));
    }
    let size = |claim: &Value| Quantity::from_json(at(claim, &["spec", "resources", "requests", "storage"]));
    let capacity = Quantity::from_json(at(old, &["status", "capacity", "storage"]));
    if let (Some(before), Some(after)) = (size(old), size(new))
        && before != after
    {
        if text(old, &["status", "phase"]) != "Bound" {
            errors.push(FieldError::forbidden(
                "spec",
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
            ));
        } else if after < before && capacity.is_none_or(|c| after <= c) {
            errors.push(FieldError::forbidden(
                "spec.resources.requests.storage",
                "field can not be less than status.capacity",
            ));
        }
    }
    errors
}

/// What of a volume may not change: where its data is.
pub fn validate_volume_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let source = |volume: &Value| {
        let mut spec = volume["spec"].clone();
        let fields = object(&mut spec);
        for field in [
            "capacity",
            "accessModes",
            "claimRef",
            "persistentVolumeReclaimPolicy",
            "storageClassName",
            "mountOptions",
            "volumeMode",
            "nodeAffinity",
            "volumeAttributesClassName",
        ] {
            fields.remove(field);
        }
        spec
    };
    let mut errors = Vec::new();
    if source(old) != source(new) {
        errors.push(FieldError::forbidden(
            "spec.persistentvolumesource",
            "spec.persistentvolumesource is immutable after creation",
        ));
    }
    errors.extend(unchanged(old, new, &["spec", "volumeMode"], "field is immutable"));
    if old["spec"].get("nodeAffinity").is_some() {
        errors.extend(unchanged(old, new, &["spec", "nodeAffinity"], "field is immutable"));
    }
    errors
}
