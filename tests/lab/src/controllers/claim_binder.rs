//! Binds claims to volumes, and keeps the phases of both.
//!
//! A claim without a volume takes the default class if it names none, then a volume that was made for
//! it or a free one that suits it; otherwise the class's provisioner is named on the claim.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::cache::{Cache, Topic};
use super::provisioner::{WANTED_OF, class_of, waits_for_consumer};
use super::scheduler::SELECTED_NODE;
use super::{Again, Context, Controller, Error, Settled, deleting, namespace_of, owner};

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// The volume mode of what names none.
const FILESYSTEM: &str = "Filesystem";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

pub(super) struct Claims(pub Context);
pub(super) struct Volumes(pub Context);

fn volume_name(spec: &PersistentVolumeClaimSpec) -> Option<&str> {
    spec.volume_name.as_deref().filter(|name| !name.is_empty())
}

fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// Whether the volume is reserved for this claim and not for an earlier one of its name.
fn refers_to(reference: &ObjectReference, claim: &PersistentVolumeClaim) -> bool {
    reference.namespace == claim.namespace()
        && reference.name == claim.metadata.name
        && (reference.uid.is_none() || reference.uid == claim.uid())
}

/// A quantity in its base unit; for comparing sizes only.
fn amount(quantity: &Quantity) -> f64 {
    let text = quantity.0.as_str();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "Ki" => 1024.0,
        "Mi" => 1024.0_f64.powi(2),
        "Gi" => 1024.0_f64.powi(3),
        "Ti" => 1024.0_f64.powi(4),
        "Pi" => 1024.0_f64.powi(5),
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        _ => 1.0,
    };
    digits.parse::<f64>().unwrap_or_default() * factor
}

fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(has), Some(wants)) = (&volume.spec, &claim.spec) else { return false };
    let size = has.capacity.as_ref().and_then(|capacity| capacity.get("storage")).map_or(0.0, amount);
    let wanted = wants.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let wanted = wanted.and_then(|requests| requests.get("storage")).map_or(0.0, amount);
    let modes = has.access_modes.as_deref().unwrap_or_default();
    !deleting(volume)
        && has.claim_ref.is_none()
        // What is to begin with a source's data is made for it, never found.
        && wants.data_source.is_none()
        && wants.data_source_ref.is_none()
        && has.storage_class_name.as_deref().unwrap_or("")
            == wants.storage_class_name.as_deref().unwrap_or("")
        && has.volume_mode.as_deref().unwrap_or(FILESYSTEM)
            == wants.volume_mode.as_deref().unwrap_or(FILESYSTEM)
        && size >= wanted
        && wants.access_modes.iter().flatten().all(|mode| modes.contains(mode))
        && wants.selector.as_ref().is_none_or(|selector| owner::selects(selector, volume.labels()))
}

fn phase_of_volume(volume: &PersistentVolume) -> Option<&str> {
    volume.status.as_ref()?.phase.as_deref()
}

impl Controller for Claims {
    type Object = PersistentVolumeClaim;
    const TOPICS: &'static [Topic] = &[Topic::Claims, Topic::Volumes, Topic::Classes];

    fn objects(&self, cache: &Cache) -> Vec<Arc<PersistentVolumeClaim>> {
        cache.claims.state_filter(|claim| !deleting(claim))
    }

    async fn reconcile(&self, claim: &PersistentVolumeClaim) -> Result<Again, Error> {
        let Some(spec) = &claim.spec else { return Ok(None) };
        let cache = &self.0.cache;
        if claim.annotations().contains_key(BIND_COMPLETED) && volume_name(spec).is_some() {
            return self.report(claim, spec).await.map(|()| None);
        }
        if let Some(volume) = self.candidate(claim, spec) {
            return self.bind(claim, &volume).await.map(|()| None);
        }
        if volume_name(spec).is_some() {
            // It asks for one volume, which is not there yet or belongs to another claim.
            return self.phase(claim, "Pending", &json!({})).await.map(|()| None);
        }
        if spec.storage_class_name.is_none()
            && let Some(default) = cache
                .classes
                .find(|class| class.annotations().get(DEFAULT_CLASS).is_some_and(|value| value == "true"))
        {
            let patch = json!({"spec": {"storageClassName": default.name_any()}});
            return self.patch(claim, "classing", &patch).await.map(|()| None);
        }
        if let Some(class) = class_of(cache, claim)
            && class.provisioner != NO_PROVISIONER
            && (!waits_for_consumer(cache, claim) || claim.annotations().contains_key(SELECTED_NODE))
            && claim.annotations().get(WANTED_OF) != Some(&class.provisioner)
        {
            let patch = json!({"metadata": {"annotations": {
                WANTED_OF: class.provisioner,
                "volume.beta.kubernetes.io/storage-provisioner": class.provisioner,
            }}});
            self.patch(claim, "naming the provisioner of", &patch).await?;
        }
        self.phase(claim, "Pending", &json!({})).await.map(|()| None)
    }
}

impl Claims {
    fn candidate(
        &self,
        claim: &PersistentVolumeClaim,
        spec: &PersistentVolumeClaimSpec,
    ) -> Option<Arc<PersistentVolume>> {
        let cache = &self.0.cache;
        if let Some(name) = volume_name(spec) {
            let volume = cache.volume(name)?;
            let free = claim_ref(&volume).is_none_or(|reference| refers_to(reference, claim));
            return (free && !deleting(&*volume)).then_some(volume);
        }
        let reserved = cache.volumes.find(|volume| {
            !deleting(volume) && claim_ref(volume).is_some_and(|reference| refers_to(reference, claim))
        });
        reserved.or_else(|| {
            let mut suiting = cache.volumes.state_filter(|volume| suits(volume, claim));
            suiting.sort_by_key(|volume| volume.name_any());
            suiting.into_iter().next()
        })
    }

    async fn bind(&self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<(), Error> {
        let complete = claim_ref(volume).is_some_and(|reference| reference.uid == claim.uid());
        if !complete {
            // The version makes this the only claim that gets it.
            let patch = json!({
                "metadata": {
                    "resourceVersion": volume.resource_version(),
                    "annotations": {BOUND_BY_CONTROLLER: "yes"},
                },
                "spec": {"claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "namespace": namespace_of(claim),
                    "name": claim.name_any(),
                    "uid": claim.uid(),
                }},
            });
            let reserved = Api::<PersistentVolume>::all(self.0.client.clone())
                .patch(&volume.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .settled("reserving", volume)?;
            if reserved.is_none() {
                return Ok(());
            }
        }
        let patch = json!({
            "metadata": {"annotations": {BIND_COMPLETED: "yes", BOUND_BY_CONTROLLER: "yes"}},
            "spec": {"volumeName": volume.name_any()},
        });
        self.patch(claim, "binding", &patch).await
    }

    async fn report(
        &self,
        claim: &PersistentVolumeClaim,
        spec: &PersistentVolumeClaimSpec,
    ) -> Result<(), Error> {
        match volume_name(spec).and_then(|name| self.0.cache.volume(name)) {
            Some(volume) => {
                let has = volume.spec.clone().unwrap_or_default();
                let more = json!({"accessModes": has.access_modes, "capacity": has.capacity});
                self.phase(claim, "Bound", &more).await
            }
            // A volume that was just made may not be in the cache yet; a bound claim stays bound.
            None if claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound")) => {
                let name = volume_name(spec).unwrap_or_default();
                let volumes = Api::<PersistentVolume>::all(self.0.client.clone());
                match volumes.get_opt(name).await.settled("reading the volume of", claim)?.flatten() {
                    Some(_) => Ok(()),
                    None => self.phase(claim, "Lost", &json!({})).await,
                }
            }
            None => Ok(()),
        }
    }

    async fn phase(&self, claim: &PersistentVolumeClaim, phase: &str, more: &Value) -> Result<(), Error> {
        if claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some(phase)) {
            return Ok(());
        }
        let mut status = more.clone();
        status["phase"] = phase.into();
        Api::<PersistentVolumeClaim>::namespaced(self.0.client.clone(), &namespace_of(claim))
            .patch_status(
                &claim.name_any(),
                &PatchParams::default(),
                &Patch::Merge(&json!({"status": status})),
            )
            .await
            .settled("writing the status of", claim)
            .map(|_| ())
    }

    async fn patch(
        &self,
        claim: &PersistentVolumeClaim,
        action: &'static str,
        patch: &Value,
    ) -> Result<(), Error> {
        Api::<PersistentVolumeClaim>::namespaced(self.0.client.clone(), &namespace_of(claim))
            .patch(&claim.name_any(), &PatchParams::default(), &Patch::Merge(patch))
            .await
            .settled(action, claim)
            .map(|_| ())
    }
}

impl Controller for Volumes {
    type Object = PersistentVolume;
    const TOPICS: &'static [Topic] = &[Topic::Volumes, Topic::Claims];

    fn objects(&self, cache: &Cache) -> Vec<Arc<PersistentVolume>> {
        cache.volumes.state()
    }

    async fn reconcile(&self, volume: &PersistentVolume) -> Result<Again, Error> {
        let phase = match claim_ref(volume) {
            None => "Available",
            Some(reference) if reference.uid.is_none() => "Available",
            Some(reference) => match self.claim(volume, reference).await? {
                None => "Released",
                Some(claim)
                    if claim.spec.as_ref().and_then(volume_name) == volume.metadata.name.as_deref() =>
                {
                    "Bound"
                }
                // The claim is about to be bound.
                Some(_) => return Ok(None),
            },
        };
        if phase_of_volume(volume) == Some(phase) {
            return Ok(None);
        }
        Api::<PersistentVolume>::all(self.0.client.clone())
            .patch_status(
                &volume.name_any(),
                &PatchParams::default(),
                &Patch::Merge(&json!({"status": {"phase": phase}})),
            )
            .await
            .settled("writing the status of", volume)?;
        Ok(None)
    }
}

impl Volumes {
    /// The claim that holds the volume; asked live before it is called gone.
    async fn claim(
        &self,
        volume: &PersistentVolume,
        reference: &ObjectReference,
    ) -> Result<Option<PersistentVolumeClaim>, Error> {
        let namespace = reference.namespace.as_deref().unwrap_or_default();
        let name = reference.name.as_deref().unwrap_or_default();
        if let Some(claim) = self.0.cache.claim(namespace, name).filter(|claim| claim.uid() == reference.uid)
        {
            return Ok(Some((*claim).clone()));
        }
        let claims = Api::<PersistentVolumeClaim>::namespaced(self.0.client.clone(), namespace);
        let live = claims.get_opt(name).await.settled("reading the claim of", volume)?.flatten();
        Ok(live.filter(|claim| claim.uid() == reference.uid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(storage: &str, mode: &str) -> PersistentVolume {
        serde_json::from_value(json!({"metadata": {"name": "v"}, "spec": {
            "capacity": {"storage": storage}, "accessModes": [mode], "storageClassName": "s"}}))
        .unwrap()
    }

    fn claim() -> PersistentVolumeClaim {
        serde_json::from_value(json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "s", "resources": {"requests": {"storage": "2Gi"}}}}))
        .unwrap()
    }

    #[test]
    fn a_volume_suits_by_size_and_access_mode() {
        assert!(suits(&volume("2048Mi", "ReadWriteOnce"), &claim()));
        assert!(!suits(&volume("2G", "ReadWriteOnce"), &claim()));
        assert!(!suits(&volume("4Gi", "ReadWriteMany"), &claim()));
    }

    #[test]
    fn a_device_does_not_suit_a_claim_for_a_filesystem() {
        let mut device = volume("4Gi", "ReadWriteOnce");
        device.spec.as_mut().unwrap().volume_mode = Some("Block".to_owned());
        assert!(!suits(&device, &claim()));
        let mut raw = claim();
        raw.spec.as_mut().unwrap().volume_mode = Some("Block".to_owned());
        assert!(suits(&device, &raw));
    }

    #[test]
    fn a_volume_kept_for_an_earlier_claim_of_the_name_is_not_ours() {
        let reference = |uid: Option<&str>| ObjectReference {
            namespace: Some("n".into()),
            name: Some("c".into()),
            uid: uid.map(Into::into),
            ..ObjectReference::default()
        };
        assert!(refers_to(&reference(None), &claim()));
        assert!(refers_to(&reference(Some("u")), &claim()));
        assert!(!refers_to(&reference(Some("older")), &claim()));
    }
}
