//! PersistentVolumeClaims: the binding to the source's volume.

use serde_json::Value;

use super::{Scope, is, remove};
use crate::cluster::{name, namespace};

/// Written while the claim was bound; with them the destination would wait for the source's
/// volume, node or provisioner.
const BINDING: &[&str] = &[
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "pv.kubernetes.io/migrated-to",
    "pv.kubernetes.io/provisioned-by",
    "volume.kubernetes.io/selected-node",
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-resizer",
];

/// Drops it. `dataSource` goes too: the data comes from the source's volume, not from what that
/// was made of. Only a claim whose volume itself moves goes on naming it.
pub fn rewrite(object: &mut Value, scope: &mut Scope<'_>) {
    if !is(object, "", "PersistentVolumeClaim") {
        return;
    }
    remove(object, "/metadata/annotations", BINDING);
    remove(object, "/spec", &["dataSource", "dataSourceRef"]);
    if !scope.options.volumes.keeps(namespace(object), name(object)) {
        remove(object, "/spec", &["volumeName"]);
    }
}
