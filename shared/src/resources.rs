//! The API kinds of `isthmus.dev/v1alpha1`, one file each.
//!
//! The hub's whole state is objects of these kinds: specs are written by people, statuses by
//! the hub. Status is small and bounded; what is large (a result for every object, logs) lies
//! in staging and is read through the hub.
//!
//! [`crds`] is the one list of them, which `isthmus-hub crds`, the hub's start and the test
//! that guards `deploy/` all use.

mod cluster;
mod cluster_pair;
mod marks;
mod migration;
mod migration_status;
mod object_store;

pub use cluster::{
    Activation, ActivationPhase, ActivationStatus, Cluster, ClusterSpec, ClusterStatus, JoinStatus,
    StorageClassFact, TargetState,
};
pub use cluster_pair::{ClusterPair, ClusterPairSpec, ClusterPairStatus, LinkState};
pub use marks::*;
pub use migration::{Migration, MigrationAction, MigrationSpec};
pub use migration_status::{
    Finding, MAX_FINDINGS, MAX_VOLUMES, MigrationPhase, MigrationStatus, ResourceCounts, Side, Step,
    StepState, StepStatus, TaskRecord, VolumePhase, VolumeStatus,
};
pub use object_store::{ObjectStore, ObjectStoreSpec, ObjectStoreStatus, SecretRef};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group of every kind here.
pub const GROUP: &str = "isthmus.dev";
/// The version of every kind here.
pub const VERSION: &str = "v1alpha1";

/// The custom resource definitions of all kinds, in the order in which they are applied.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![Cluster::crd(), ObjectStore::crd(), ClusterPair::crd(), Migration::crd()]
}
