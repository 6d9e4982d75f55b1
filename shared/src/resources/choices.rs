//! What becomes of single volumes, where it is not what becomes of the rest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MigrationSpec, VerifyMethod};

/// What becomes of one claim of the source.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VolumeChoice {
    /// Its namespace on the source.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name on the source.
    #[schemars(length(min = 1, max = 253))]
    pub claim: String,
    /// What becomes of it.
    #[serde(default)]
    pub action: VolumeAction,
    /// Its storage class on the destination, before `storageClassMapping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class: Option<String>,
    /// Its size on the destination, as a quantity; not below what it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub size: Option<String>,
    /// Its access modes on the destination, before `accessModeMapping`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(max = 63)))]
    pub access_modes: Vec<String>,
    /// Its name on the destination; what mounts it there follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// How its arrival is made sure of, in place of `verify`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifyMethod>,
}

/// What becomes of a claim.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum VolumeAction {
    /// Its data is copied into a claim on the destination.
    #[default]
    Copy,
    /// The claim goes along without its data.
    Skip,
    /// The volume itself moves: its PersistentVolume is made on the destination, for storage that
    /// both clusters reach. Only where the source stops.
    Keep,
}

impl MigrationSpec {
    /// What `volumes` says of a claim, by its names on the source.
    pub fn choice_of(&self, namespace: &str, claim: &str) -> Option<&VolumeChoice> {
        self.volumes.iter().find(|choice| choice.namespace == namespace && choice.claim == claim)
    }

    /// What becomes of a claim, by its names on the source.
    pub fn action_of(&self, namespace: &str, claim: &str) -> VolumeAction {
        self.choice_of(namespace, claim).map(|choice| choice.action).unwrap_or_default()
    }

    /// What a claim of the source is called on the destination.
    pub fn arriving_claim<'a>(&'a self, namespace: &str, claim: &'a str) -> &'a str {
        self.choice_of(namespace, claim).and_then(|choice| choice.name.as_deref()).unwrap_or(claim)
    }

    /// The claims whose volume itself moves.
    pub fn kept_volumes(&self) -> impl Iterator<Item = &VolumeChoice> {
        self.volumes.iter().filter(|choice| choice.action == VolumeAction::Keep)
    }
}
