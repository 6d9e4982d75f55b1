//! `spec.volumes`: single claims that arrive otherwise than the rest.
//!
//! Before namespaces are renamed, a claim gets the class, the size, the access modes and the name
//! that were chosen for it, and what mounts it follows to that name: every `persistentVolumeClaim`
//! that names it, in templates of Pods as in custom resources. What was chosen is not mapped again
//! ([`super::storage`] asks here). A claim whose volume itself moves stays bound to it by name, and
//! the volume waits for the claim under the name that it arrives with.

use std::collections::HashMap;

use isthmus_shared::protocol::Run;
use isthmus_shared::resources::{VolumeAction, VolumeChoice};
use serde_json::{Value, json};

use super::{Scope, is, merge, remove};
use crate::cluster::{name, namespace, text};

/// The annotation that older claims name their class by.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The choices of a run, made ready once.
#[derive(Clone, Debug, Default)]
pub struct VolumeChoices {
    /// By namespace and name on the source.
    leaving: ByClaim,
    /// By namespace and name on the destination.
    arriving: ByClaim,
}

type ByClaim = HashMap<String, HashMap<String, VolumeChoice>>;

impl VolumeChoices {
    /// The choices of a run.
    pub fn of(run: &Run) -> Self {
        let mut choices = Self::default();
        for choice in &run.spec.volumes {
            let place = run.destination_of(&choice.namespace).to_owned();
            let to = run.claim_on_destination(&choice.namespace, &choice.claim).to_owned();
            choices.arriving.entry(place).or_default().insert(to, choice.clone());
            let leaving = choices.leaving.entry(choice.namespace.clone()).or_default();
            leaving.insert(choice.claim.clone(), choice.clone());
        }
        choices
    }

    /// The choice for a claim of the source.
    fn leaving(&self, namespace: &str, claim: &str) -> Option<&VolumeChoice> {
        self.leaving.get(namespace)?.get(claim)
    }

    /// The choice for a claim, by its names on the destination.
    pub fn arriving(&self, namespace: &str, claim: &str) -> Option<&VolumeChoice> {
        self.arriving.get(namespace)?.get(claim)
    }

    /// Whether the volume of a claim of the source itself moves.
    pub fn keeps(&self, namespace: &str, claim: &str) -> bool {
        self.leaving(namespace, claim).is_some_and(|choice| choice.action == VolumeAction::Keep)
    }
}

/// Does as was chosen.
pub fn rewrite(object: &mut Value, scope: &mut Scope<'_>) {
    let choices = &scope.options.volumes;
    if choices.leaving.is_empty() {
        return;
    }
    if is(object, "", "PersistentVolumeClaim") {
        let Some(choice) = choices.leaving(namespace(object), name(object)) else { return };
        if choice.action == VolumeAction::Skip {
            let message = "its data stays on the source, as spec.volumes asks: it arrives without";
            scope.notes.push("DataLeftBehind", message.to_owned());
        }
        claim(object, choice);
    } else if is(object, "", "PersistentVolume") {
        let of = |field: &str| text(object, &format!("/spec/claimRef/{field}")).to_owned();
        let Some(choice) = choices.leaving(&of("namespace"), &of("name")) else { return };
        if let Some(to) = &choice.name {
            merge(object, &json!({"spec": {"claimRef": {"name": to}}}));
        }
        let message = "both clusters know this volume from now on, and it holds the same data for both: the source's \
                       keeps the reclaim policy Retain, so its claim may be deleted there without losing any";
        scope.notes.push("VolumeKept", message.to_owned());
    } else if !is(object, "", "ConfigMap")
        && !is(object, "", "Secret")
        && let Some(claims) = choices.leaving.get(namespace(object))
        && claims.values().any(|choice| choice.name.is_some())
    {
        mounts(object, claims);
    }
}

fn claim(claim: &mut Value, choice: &VolumeChoice) {
    if let Some(class) = &choice.storage_class {
        remove(claim, "/metadata/annotations", &[BETA_CLASS]);
        merge(claim, &json!({"spec": {"storageClassName": class}}));
    }
    if let Some(size) = &choice.size {
        merge(claim, &json!({"spec": {"resources": {"requests": {"storage": size}}}}));
        // A limit that somebody wrote beside the old size would be in its way.
        remove(claim, "/spec/resources/limits", &["storage"]);
    }
    if !choice.access_modes.is_empty() {
        merge(claim, &json!({"spec": {"accessModes": choice.access_modes}}));
    }
    if let Some(to) = &choice.name {
        merge(claim, &json!({"metadata": {"name": to}}));
    }
}

/// Whatever mounts one of the claims, at any depth.
fn mounts(value: &mut Value, claims: &HashMap<String, VolumeChoice>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(claim)) =
                map.get_mut("persistentVolumeClaim").and_then(|source| source.get_mut("claimName"))
                && let Some(to) = claims.get(claim.as_str()).and_then(|choice| choice.name.as_ref())
            {
                claim.clone_from(to);
            }
            map.values_mut().for_each(|value| mounts(value, claims));
        }
        Value::Array(list) => list.iter_mut().for_each(|item| mounts(item, claims)),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
