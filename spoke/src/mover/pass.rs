//! A pass: what its sender and its receiver are told alike.

use std::{path::PathBuf, sync::Arc};

use isthmus_shared::{
    resources::Exclusions,
    staging::{ObjectStore, PairUid, VolumeKey, VolumeUid},
};

use super::{error::MoverError, limits::Limits, manifest::Place};

/// One pass over one volume.
#[derive(Debug, Clone)]
pub struct Pass {
    /// The mounted volume.
    pub root: PathBuf,
    /// The store between the two sides.
    pub store: Arc<dyn ObjectStore>,
    /// The volume's key.
    pub key: VolumeKey,
    /// The volume.
    pub volume: VolumeUid,
    /// The pair.
    pub pair: PairUid,
    /// The number of this pass, from 1.
    pub number: u32,
    /// The complete pass that it builds on: one whose manifest is in staging. Whether what it says
    /// holds for the volume that is mounted here `claim` tells.
    pub previous: Option<u32>,
    /// The uid of the claim that is mounted. Passes over one volume may go either way between two
    /// claims: a sender relies only on the stamps of inodes that it wrote itself, and a receiver only
    /// on what it received itself. Unknown, the previous pass is taken to have gone the same way.
    pub claim: Option<String>,
    /// What is left alone.
    pub exclude: Exclusions,
    /// Bounds that a caller may set.
    pub limits: Limits,
}

impl Pass {
    /// Where it lies in staging.
    pub(super) fn place(&self) -> Result<Place, MoverError> {
        Ok(Place {
            store: self.store.clone(),
            pair: self.pair.clone(),
            volume: self.volume.clone(),
            key: Arc::new(self.key.manifest_key()?),
        })
    }
}
