//! Storage classes and access modes, by the run's maps.
//!
//! They stand in claims, in the templates of claims (of StatefulSets, of ephemeral volumes in pod
//! specs, and of any custom resource that names them `volumeClaimTemplate(s)`), in volumes, and in
//! the names of quotas. A claim without a class keeps none: it gets the destination's default.

use std::collections::BTreeMap;

use isthmus_shared::resources::{VolumeAction, VolumeChoice};
use serde_json::{Map, Value};

use super::{Options, Scope, is};
use crate::cluster::{name, namespace, text};

/// The annotation that older claims name their class by.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// What follows the class in the name of a quota.
const QUOTA: &str = ".storageclass.storage.k8s.io/";

/// Maps them.
pub fn rewrite(object: &mut Value, scope: &mut Scope<'_>) {
    let options = scope.options;
    if options.storage_classes.is_empty() && options.access_modes.is_empty() {
        return;
    }
    if is(object, "", "PersistentVolumeClaim") {
        match options.volumes.arriving(namespace(object), name(object)) {
            Some(choice) => chosen(object, choice, options),
            None => claim(object, options),
        }
    } else if is(object, "", "PersistentVolume") {
        let of = |field: &str| text(object, &format!("/spec/claimRef/{field}"));
        match options.volumes.arriving(of("namespace"), of("name")) {
            Some(choice) => chosen(object, choice, options),
            None => claim(object, options),
        }
    } else if is(object, "", "ResourceQuota") {
        if let Some(Value::Object(hard)) = object.pointer_mut("/spec/hard") {
            quotas(hard, &options.storage_classes);
        }
    } else if !is(object, "", "ConfigMap") && !is(object, "", "Secret") {
        templates(object, options);
    }
}

/// What was chosen for one claim is not mapped, and nothing of a volume that moves itself.
fn chosen(object: &mut Value, choice: &VolumeChoice, options: &Options) {
    let kept = choice.action == VolumeAction::Keep;
    if !kept && choice.storage_class.is_none() {
        class(object, options);
    }
    if !kept && choice.access_modes.is_empty() {
        modes(object, options);
    }
}

fn claim(claim: &mut Value, options: &Options) {
    class(claim, options);
    modes(claim, options);
}

fn class(claim: &mut Value, options: &Options) {
    if let Some(class) = claim.pointer_mut("/spec/storageClassName") {
        map_text(class, &options.storage_classes);
    }
    if let Some(Value::Object(annotations)) = claim.pointer_mut("/metadata/annotations")
        && let Some(class) = annotations.get_mut(BETA_CLASS)
    {
        map_text(class, &options.storage_classes);
    }
}

fn modes(claim: &mut Value, options: &Options) {
    if let Some(Value::Array(modes)) = claim.pointer_mut("/spec/accessModes") {
        for mode in modes.iter_mut() {
            map_text(mode, &options.access_modes);
        }
        // Two modes may have become one.
        let mut seen = Vec::with_capacity(modes.len());
        modes.retain(|mode| {
            let new = !seen.contains(mode);
            seen.push(mode.clone());
            new
        });
    }
}

/// Templates of claims wherever they are.
fn templates(value: &mut Value, options: &Options) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("volumeClaimTemplate", template @ Value::Object(_)) => claim(template, options),
                    ("volumeClaimTemplates", Value::Array(list)) => {
                        for template in list {
                            claim(template, options);
                        }
                    }
                    (_, value) => templates(value, options),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|item| templates(item, options)),
        _ => {}
    }
}

/// `fast.storageclass.storage.k8s.io/requests.storage` limits a class by its name.
fn quotas(hard: &mut Map<String, Value>, classes: &BTreeMap<String, String>) {
    let renamed = |name: &str| {
        let (class, rest) = name.split_once(QUOTA)?;
        classes.get(class).map(|to| format!("{to}{QUOTA}{rest}"))
    };
    *hard = std::mem::take(hard)
        .into_iter()
        .map(|(name, value)| (renamed(&name).unwrap_or(name), value))
        .collect();
}

/// A text that is a key of the map becomes its value; once, whatever the value is a key of.
pub fn map_text(value: &mut Value, map: &BTreeMap<String, String>) {
    if let Some(to) = value.as_str().and_then(|from| map.get(from)) {
        *value = Value::from(to.as_str());
    }
}
