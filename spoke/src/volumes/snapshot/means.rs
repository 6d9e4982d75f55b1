//! What the cluster has for snapshots: its classes, read once for many claims.

use serde_json::Value;

use super::choice::{self, NoSnapshot, Route};
use crate::cluster::{Cluster, ClusterError, text};

/// Classes of each kind that are looked at.
const MAX_CLASSES: usize = 1_000;

/// The snapshot and storage classes of a cluster, or why there are none.
pub struct Means(Result<Classes, NoSnapshot>);

struct Classes {
    snapshot: Vec<Value>,
    storage: Vec<Value>,
}

impl Means {
    /// Looks.
    pub async fn look(cluster: &Cluster) -> Result<Self, ClusterError> {
        let path = "/apis/snapshot.storage.k8s.io/v1/volumesnapshotclasses";
        let snapshot = match cluster.list(path, "", MAX_CLASSES).await {
            Ok(classes) if classes.is_empty() => return Ok(Self(Err(NoSnapshot::NoClasses))),
            Ok(classes) => classes,
            Err(error) if error.is_not_found() => return Ok(Self(Err(NoSnapshot::NotServed))),
            Err(error) if error.code() == Some(403) => {
                return Ok(Self(Err(NoSnapshot::Forbidden(error.message()))));
            }
            Err(error) => return Err(error),
        };
        let storage = cluster.list("/apis/storage.k8s.io/v1/storageclasses", "", MAX_CLASSES).await?;
        Ok(Self(Ok(Classes { snapshot, storage })))
    }

    /// By which classes a claim with the content of this one can be made.
    pub async fn route(
        &self,
        cluster: &Cluster,
        claim: &Value,
    ) -> Result<Result<Route, NoSnapshot>, ClusterError> {
        let classes = match &self.0 {
            Ok(classes) => classes,
            Err(none) => return Ok(Err(none.clone())),
        };
        let name = text(claim, "/spec/volumeName");
        let volume = cluster.find(&format!("/api/v1/persistentvolumes/{name}")).await?;
        let gone = || NoSnapshot::NoDriver { volume: name.to_owned() };
        Ok(volume
            .ok_or_else(gone)
            .and_then(|volume| choice::route(claim, &volume, &classes.storage, &classes.snapshot)))
    }
}
