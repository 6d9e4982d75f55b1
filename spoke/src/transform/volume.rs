//! PersistentVolumes that are kept and bound anew: the same storage, another cluster's claim.

use isthmus_shared::resources::{RECLAIM_POLICY, RETAINED_BY};
use serde_json::{Value, json};

use super::{Scope, is, merge, remove};
use crate::cluster::text;

/// While two clusters know the volume, none of them may delete what it holds.
pub const RETAIN: &str = "Retain";

/// Frees the volume of the source's claim, by its identity only: the claim's names stay, the
/// namespace as it is called on the destination. The reclaim policy that it had is kept aside.
pub fn rewrite(object: &mut Value, _: &mut Scope<'_>) {
    if !is(object, "", "PersistentVolume") {
        return;
    }
    remove(object, "/metadata/annotations", &["pv.kubernetes.io/bound-by-controller", RETAINED_BY]);
    remove(object, "/spec/claimRef", &["uid", "resourceVersion"]);
    let policy = text(object, "/spec/persistentVolumeReclaimPolicy").to_owned();
    if !policy.is_empty() && policy != RETAIN {
        merge(
            object,
            &json!({
                "metadata": {"annotations": {RECLAIM_POLICY: policy}},
                "spec": {"persistentVolumeReclaimPolicy": RETAIN}
            }),
        );
    }
}
