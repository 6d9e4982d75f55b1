//! The lab's dynamic provisioner: a volume is a folder of this machine, or a file where the claim asks
//! for raw blocks.
//!
//! [`Provisioner`] makes a PersistentVolume for a claim once the binder has named this provisioner on
//! it, as any external provisioner does; empty, or with what the claim's data source holds.
//! [`Reclaimer`] removes data and volume when a released volume's policy is `Delete`. ReadWriteOnce
//! volumes are bound to one node, as local disks are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Event, Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::backing::{self, Content};
use super::cache::{Cache, Topic};
use super::scheduler::SELECTED_NODE;
use super::{Again, Context, Controller, Error, Settled, deleting, full_name, namespace_of, snapshots};
use crate::apiserver::quantity::Quantity;

/// The provisioner's name in StorageClasses.
pub(crate) const PROVISIONER: &str = "lab.isthmus.dev/local";
/// The default class; binds at once.
pub(crate) const CLASS_IMMEDIATE: &str = "lab-local";
/// Binds when the first pod is scheduled.
pub(crate) const CLASS_WAIT: &str = "lab-wffc";
/// Named by the binder on a claim that wants a volume made.
pub(crate) const WANTED_OF: &str = "volume.kubernetes.io/storage-provisioner";
const MADE_BY: &str = "pv.kubernetes.io/provisioned-by";

pub(super) struct Provisioner(pub Context);
pub(super) struct Reclaimer(pub Context);

/// The volume that a claim is fully bound to.
pub(crate) fn bound_volume(claim: &PersistentVolumeClaim) -> Option<&str> {
    let volume = claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())?;
    let phase = claim.status.as_ref()?.phase.as_deref()?;
    (phase == "Bound").then_some(volume)
}

/// The claim's class, if there is one of that name.
pub(crate) fn class_of(cache: &Cache, claim: &PersistentVolumeClaim) -> Option<Arc<StorageClass>> {
    let name = claim.spec.as_ref()?.storage_class_name.as_deref().filter(|name| !name.is_empty())?;
    cache.classes.get(&ObjectRef::new(name))
}

/// Whether the claim's class binds only when a pod is scheduled.
pub(crate) fn waits_for_consumer(cache: &Cache, claim: &PersistentVolumeClaim) -> bool {
    class_of(cache, claim)
        .is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
}

/// The folder, or for raw blocks the file, of a volume of this lab.
pub(crate) fn folder(volume: &PersistentVolume) -> Option<&Path> {
    let spec = volume.spec.as_ref()?;
    let path = spec.host_path.as_ref().map(|source| &source.path);
    path.or_else(|| spec.local.as_ref().map(|source| &source.path)).map(Path::new)
}

/// Creates the lab's storage classes; those that are there stay as they are.
pub(crate) async fn create_classes(client: &Client) -> Result<(), Error> {
    for (name, mode, default) in
        [(CLASS_IMMEDIATE, "Immediate", true), (CLASS_WAIT, "WaitForFirstConsumer", false)]
    {
        let class: StorageClass = object(&json!({
            "metadata": {"name": name, "annotations": {
                "storageclass.kubernetes.io/is-default-class": default.to_string(),
            }},
            "provisioner": PROVISIONER,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": mode,
            "allowVolumeExpansion": false,
        }))?;
        Api::<StorageClass>::all(client.clone())
            .create(&PostParams::default(), &class)
            .await
            .settled("creating", &class)?;
    }
    Ok(())
}

fn object<K: serde::de::DeserializeOwned>(value: &serde_json::Value) -> Result<K, Error> {
    serde_json::from_value(value.clone()).map_err(|error| Error::Object {
        object: value["metadata"]["name"].to_string(),
        problem: error.to_string(),
    })
}

impl Controller for Provisioner {
    type Object = PersistentVolumeClaim;
    const TOPICS: &'static [Topic] = &[Topic::Claims, Topic::Classes, Topic::Nodes];

    fn objects(&self, cache: &Cache) -> Vec<Arc<PersistentVolumeClaim>> {
        cache.claims.state_filter(|claim| {
            let named = claim.annotations().get(WANTED_OF).is_some_and(|name| name == PROVISIONER);
            let spec = claim.spec.as_ref();
            named
                && !deleting(claim)
                && spec.is_some_and(|spec| spec.volume_name.as_deref().unwrap_or("").is_empty())
        })
    }

    async fn reconcile(&self, claim: &PersistentVolumeClaim) -> Result<Again, Error> {
        let cache = &self.0.cache;
        let (Some(class), Some(uid)) = (class_of(cache, claim), claim.uid()) else { return Ok(None) };
        let selected = claim.annotations().get(SELECTED_NODE);
        let name = format!("pvc-{uid}");
        let waits = waits_for_consumer(cache, claim) && selected.is_none();
        if class.provisioner != PROVISIONER || waits || cache.volume(&name).is_some() {
            return Ok(None);
        }
        let Some(node) = selected.cloned().or_else(|| node_for(cache.nodes.state(), &uid)) else {
            return Ok(None);
        };
        let path = self.0.volumes_dir.join(&name);
        if let Err(error) = self.make(claim, &path).await {
            self.tell(claim, &error.to_string()).await?;
            return Err(error);
        }
        let volume = volume_for(claim, &class, &name, &path, &node)?;
        Api::<PersistentVolume>::all(self.0.client.clone())
            .create(&PostParams::default(), &volume)
            .await
            .settled("creating", &volume)?;
        Ok(None)
    }
}

/// Spreads volumes over the nodes by the claims' uids.
fn node_for(mut nodes: Vec<Arc<Node>>, uid: &str) -> Option<String> {
    nodes.retain(|node| node.spec.as_ref().is_none_or(|spec| spec.unschedulable != Some(true)));
    nodes.sort_by_key(|node| node.name_any());
    let place = usize::from(blake3::hash(uid.as_bytes()).as_bytes()[0]);
    nodes.get(place.checked_rem(nodes.len())?).map(|node| node.name_any())
}

/// What the claim's volume holds, and how much of it a device has.
pub(super) fn content_of(claim: &PersistentVolumeClaim) -> Content {
    let spec = claim.spec.as_ref();
    let block = spec.and_then(|spec| spec.volume_mode.as_deref()) == Some("Block");
    if block { Content::Device(requested(claim).map_or(0, Quantity::units)) } else { Content::Folder }
}

fn requested(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    Quantity::parse(&requests.get("storage")?.0)
}

impl Provisioner {
    async fn make(&self, claim: &PersistentVolumeClaim, path: &Path) -> Result<(), Error> {
        let content = content_of(claim);
        match self.source_of(claim).await? {
            // One that is there is whole: a copy comes into its place when it is complete.
            Some(_) if path.exists() => Ok(()),
            Some(source) => backing::copy(&source, path, content).await,
            None => backing::make(path, content),
        }
    }

    /// Says in an Event why the claim has no volume yet; once for each reason.
    async fn tell(&self, claim: &PersistentVolumeClaim, problem: &str) -> Result<(), Error> {
        let namespace = namespace_of(claim);
        let hash = blake3::hash(problem.as_bytes()).to_hex();
        let now = jiff::Timestamp::now().strftime("%FT%TZ").to_string();
        let event: Event = object(&json!({
            "metadata": {"name": format!("{}.{}", claim.name_any(), &hash[..16]), "namespace": namespace},
            "involvedObject": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace,
                "name": claim.name_any(), "uid": claim.uid(),
            },
            "reason": "ProvisioningFailed",
            "message": format!("failed to provision volume: {problem}"),
            "type": "Warning",
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": PROVISIONER},
        }))?;
        Api::<Event>::namespaced(self.0.client.clone(), &namespace)
            .create(&PostParams::default(), &event)
            .await
            .settled("writing an Event of", claim)
            .map(|_| ())
    }

    /// What the claim is to begin with: a snapshot's data, or another claim's.
    async fn source_of(&self, claim: &PersistentVolumeClaim) -> Result<Option<PathBuf>, Error> {
        let Some(spec) = &claim.spec else { return Ok(None) };
        let named = match (&spec.data_source_ref, &spec.data_source) {
            (Some(source), _) => Some((source.kind.as_str(), source.name.as_str())),
            (None, Some(source)) => Some((source.kind.as_str(), source.name.as_str())),
            (None, None) => None,
        };
        let problem = |problem: String| Error::Object { object: full_name(claim), problem };
        let namespace = namespace_of(claim);
        match named {
            None => Ok(None),
            Some(("VolumeSnapshot", name)) => {
                let (path, least) = snapshots::data_of(&self.0, &namespace, name).await.map_err(&problem)?;
                let size = |text: &str| Quantity::parse(text).map_or(0, Quantity::units);
                let wanted = requested(claim).map_or(0, Quantity::units);
                if wanted < size(&least) {
                    return Err(problem(format!(
                        "requested volume size {wanted} is less than the size {least} of the source snapshot"
                    )));
                }
                Ok(Some(path))
            }
            Some(("PersistentVolumeClaim", name)) => {
                let cache = &self.0.cache;
                let source = cache
                    .claim(&namespace, name)
                    .and_then(|source| cache.volume(bound_volume(&source)?))
                    .and_then(|volume| folder(&volume).map(Path::to_owned));
                source.map(Some).ok_or_else(|| problem(format!("claim {name} to be cloned is not bound")))
            }
            Some((kind, _)) => Err(problem(format!("no volume is made from a {kind}"))),
        }
    }
}

fn volume_for(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    name: &str,
    path: &Path,
    node: &str,
) -> Result<PersistentVolume, Error> {
    let spec = claim.spec.clone().unwrap_or_default();
    let (mode, kind) = match content_of(claim) {
        Content::Folder => ("Filesystem", "Directory"),
        Content::Device(_) => ("Block", "File"),
    };
    let modes = spec.access_modes.unwrap_or_default();
    let one_node = modes.iter().all(|mode| mode == "ReadWriteOnce" || mode == "ReadWriteOncePod");
    let affinity = one_node.then(|| {
        json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]},
        ]}]}})
    });
    object(&json!({
        "metadata": {"name": name, "annotations": {MADE_BY: PROVISIONER}},
        "spec": {
            "capacity": spec.resources.and_then(|resources| resources.requests).unwrap_or_default(),
            "accessModes": modes,
            "volumeMode": mode,
            "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
            "storageClassName": class.name_any(),
            "mountOptions": class.mount_options,
            "hostPath": {"path": path, "type": kind},
            "nodeAffinity": affinity,
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": namespace_of(claim),
                "name": claim.name_any(),
                "uid": claim.uid(),
            },
        },
    }))
}

impl Controller for Reclaimer {
    type Object = PersistentVolume;
    const TOPICS: &'static [Topic] = &[Topic::Volumes];

    fn objects(&self, cache: &Cache) -> Vec<Arc<PersistentVolume>> {
        cache.volumes.state_filter(|volume| {
            let released =
                volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Released");
            let policy =
                volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
            let ours = volume.annotations().get(MADE_BY).is_some_and(|name| name == PROVISIONER);
            released && ours && policy == Some("Delete") && !deleting(volume)
        })
    }

    async fn reconcile(&self, volume: &PersistentVolume) -> Result<Again, Error> {
        // Only what this provisioner made, whatever the object says now.
        if let Some(path) = folder(volume).filter(|path| path.starts_with(&self.0.volumes_dir)) {
            backing::remove(path).await?;
        }
        let this = Preconditions { uid: volume.uid(), resource_version: None };
        Api::<PersistentVolume>::all(self.0.client.clone())
            .delete(&volume.name_any(), &DeleteParams::default().preconditions(this))
            .await
            .settled("deleting", volume)?;
        Ok(None)
    }
}
