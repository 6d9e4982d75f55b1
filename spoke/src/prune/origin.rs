//! Which claim a volume is of, kept in staging: the claim itself may be gone one day.

use isthmus_shared::protocol::{Run, VolumeTask};
use isthmus_shared::staging::{ObjectStore, PairKey, PairUid, SealError, StoreError, VolumeUid, layout};
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, ClusterError, uid};
use crate::task::TaskContext;

/// The claim.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The name of the cluster's record.
    pub cluster: String,
    /// The uid of the cluster's `kube-system`: another cluster may get the name one day.
    pub cluster_uid: String,
    /// The claim's namespace.
    pub namespace: String,
    /// The claim.
    pub claim: String,
}

/// Why an origin is not known.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// The store did not give it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It is not one.
    #[error("{object} cannot be read ({detail}): it was written by another version of the spoke")]
    Unknown {
        /// Its key.
        object: String,
        /// Why.
        detail: String,
    },
}

/// The origin of a volume; none if nobody noted it.
pub async fn read(
    store: &dyn ObjectStore,
    key: &PairKey,
    pair: &PairUid,
    volume: &VolumeUid,
) -> Result<Option<Origin>, OriginError> {
    let object = layout::volume_origin(pair, volume);
    let sealed = match store.get(&object).await {
        Ok(sealed) => sealed,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let plain = key.volume_key(volume)?.manifest_key()?.open(&object, &sealed)?;
    let unknown = |error: serde_json::Error| OriginError::Unknown { object, detail: error.to_string() };
    serde_json::from_slice(&plain).map(Some).map_err(unknown)
}

/// Writes the origin of a volume.
pub async fn write(
    store: &dyn ObjectStore,
    key: &PairKey,
    pair: &PairUid,
    volume: &VolumeUid,
    origin: &Origin,
) -> Result<(), OriginError> {
    let object = layout::volume_origin(pair, volume);
    let plain = serde_json::to_vec(origin)
        .map_err(|error| OriginError::Unknown { object: object.clone(), detail: error.to_string() })?;
    let sealed = key.volume_key(volume)?.manifest_key()?.seal(&object, &plain)?;
    Ok(store.put(&object, sealed.into()).await?)
}

/// What tells this cluster from every other one.
pub async fn cluster_uid(cluster: &Cluster) -> Result<Option<String>, ClusterError> {
    let found = cluster.find("/api/v1/namespaces/kube-system").await?;
    Ok(found.as_ref().map(|namespace| uid(namespace).to_owned()).filter(|uid| !uid.is_empty()))
}

/// Notes which claim a volume is of, before it is sent. Where that is not possible the volume is
/// only never taken for one whose claim is gone, so it is a line in the log.
pub async fn note(context: &TaskContext, run: &Run, volume: &VolumeTask) {
    if let Err(why) = try_to_note(context, run, volume).await {
        let message = format!(
            "that the volume is of PersistentVolumeClaim {}/{} could not be noted in staging ({why}); `isthmus staging list` will not name it",
            volume.namespace, volume.claim
        );
        context.log(message);
    }
}

async fn try_to_note(context: &TaskContext, run: &Run, volume: &VolumeTask) -> Result<(), String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let Some(cluster_uid) = cluster_uid(context.cluster()).await.map_err(|e| told(&e))? else {
        return Err("the cluster has no namespace kube-system".to_owned());
    };
    let area = context.staging(run).map_err(|e| told(&e))?;
    let uid = VolumeUid::new(volume.uid.as_str()).map_err(|e| told(&e))?;
    let origin = Origin {
        cluster: context.spoke.name.clone(),
        cluster_uid,
        namespace: volume.namespace.clone(),
        claim: volume.claim.clone(),
    };
    let store = area.store.as_ref();
    match read(store, &area.key, &area.pair, &uid).await {
        Ok(Some(known)) if known == origin => Ok(()),
        // On the way back a volume keeps the name, and the claim, that it began with.
        Ok(Some(known)) if known.cluster_uid != origin.cluster_uid => Ok(()),
        // What cannot be read is written anew: this spoke knows what it is about to send.
        Ok(_) | Err(OriginError::Seal(_) | OriginError::Unknown { .. }) => {
            write(store, &area.key, &area.pair, &uid, &origin).await.map_err(|e| told(&e))
        }
        Err(error) => Err(told(&error)),
    }
}
