//! Whether what a volume holds fits into the size that its claim asks for on the destination, with
//! room to grow. Pure.
//!
//! A warning: storage that keeps to no size (NFS, folders of a node) takes whatever comes.

use isthmus_shared::quantity::{self, Amount};
use isthmus_shared::resources::{Finding, VolumeAction, VolumeChoice};
use serde_json::Value;

use crate::cluster::{describe, name, namespace, text};
use crate::findings::finding;
use crate::volumes::{Fullness, Measured};

/// From this share on, in percent, a volume is nearly full.
const NEARLY_FULL_PERCENT: u64 = 85;
/// How full a volume of the size that is proposed would be, in percent.
const PROPOSED_PERCENT: u64 = 70;
/// Proposed sizes are whole multiples of this, bytes; smaller ones of [`SMALL_UNIT`].
const UNIT: u64 = 1 << 30;
/// The same below one [`UNIT`].
const SMALL_UNIT: u64 = 1 << 20;

/// What is to be said of a claim, by what was measured of its volume.
pub fn too_full(claim: &Value, choice: Option<&VolumeChoice>, fullness: Fullness) -> Option<Finding> {
    // A device is as full as it is large.
    if text(claim, "/spec/volumeMode") == "Block"
        || choice.is_some_and(|choice| choice.action != VolumeAction::Copy)
    {
        return None;
    }
    let asked = text(claim, "/spec/resources/requests/storage");
    let size = quantity::bytes(choice.and_then(|choice| choice.size.as_deref()).unwrap_or(asked));
    let Fullness { used, by } = fullness;
    if size == 0 || percent(used, size) < NEARLY_FULL_PERCENT {
        return None;
    }
    let by = match by {
        Measured::Kubelet => "as the kubelet of its node measures it".to_owned(),
        Measured::Pass(pass) => format!("as pass {pass} of it has counted"),
    };
    let (reason, what) = if used > size {
        ("VolumeTooSmall", "which is more than the claim asks for on the destination".to_owned())
    } else {
        ("VolumeNearlyFull", format!("so the destination's would be {} % full", percent(used, size)))
    };
    let message = format!(
        "{} of {} are in use ({by}), {what}: give it {} by spec.volumes ({{namespace: {}, claim: {}, size: {}}})",
        shown(used),
        shown(size),
        proposal(used),
        namespace(claim),
        name(claim),
        proposal(used),
    );
    Some(finding(describe(claim), reason, message))
}

fn percent(used: u64, size: u64) -> u64 {
    u64::try_from(u128::from(used) * 100 / u128::from(size.max(1))).unwrap_or(u64::MAX)
}

/// A size in which so much leaves room.
fn proposal(used: u64) -> Amount {
    let roomy = u64::try_from(u128::from(used) * 100 / u128::from(PROPOSED_PERCENT)).unwrap_or(u64::MAX);
    let unit = if roomy > UNIT { UNIT } else { SMALL_UNIT };
    amount(roomy.div_ceil(unit).saturating_mul(unit))
}

/// Bytes as a person reads them: whole Mi, so that they are short.
fn shown(bytes: u64) -> Amount {
    if bytes < SMALL_UNIT { amount(bytes) } else { amount(bytes / SMALL_UNIT * SMALL_UNIT) }
}

fn amount(bytes: u64) -> Amount {
    Amount::of(i64::try_from(bytes).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GI: u64 = 1 << 30;

    fn claim() -> Value {
        json!({"kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "cms"},
               "spec": {"resources": {"requests": {"storage": "10Gi"}}}})
    }

    fn told(used: u64, choice: Option<Value>) -> Option<Finding> {
        let choice: Option<VolumeChoice> = choice.map(|choice| serde_json::from_value(choice).unwrap());
        too_full(&claim(), choice.as_ref(), Fullness { used, by: Measured::Pass(3) })
    }

    #[test]
    fn a_volume_that_is_nearly_full_gets_a_larger_size_proposed() {
        assert_eq!(told(8 * GI, None), None);
        let found = told(9 * GI, None).unwrap();
        assert_eq!(
            (found.object.as_str(), found.reason.as_str()),
            ("PersistentVolumeClaim cms/data", "VolumeNearlyFull")
        );
        for part in ["9Gi of 10Gi", "pass 3", "90 % full", "{namespace: cms, claim: data, size: 13Gi}"] {
            assert!(found.message.contains(part), "{part}: {}", found.message);
        }
    }

    #[test]
    fn what_does_not_fit_at_all_is_told_so() {
        let found = told(11 * GI, None).unwrap();
        assert_eq!(found.reason, "VolumeTooSmall");
        assert!(found.message.contains("size: 16Gi"), "{}", found.message);
    }

    #[test]
    fn the_size_that_was_chosen_counts_and_what_is_not_copied_does_not() {
        let choice = |more: Value| {
            let mut choice = json!({"namespace": "cms", "claim": "data"});
            crate::transform::merge(&mut choice, &more);
            Some(choice)
        };
        assert_eq!(told(9 * GI, choice(json!({"size": "13Gi"}))), None);
        assert_eq!(told(9 * GI, choice(json!({"action": "Skip"}))), None);
        assert!(told(12 * GI, choice(json!({"size": "13Gi"}))).is_some());
        let mut block = claim();
        block["spec"]["volumeMode"] = json!("Block");
        assert!(too_full(&block, None, Fullness { used: 10 * GI, by: Measured::Kubelet }).is_none());
    }

    #[test]
    fn small_volumes_are_proposed_in_whole_mebibytes() {
        assert_eq!(proposal(15 << 20).to_string(), "22Mi");
        assert_eq!(proposal(900 << 20).to_string(), "2Gi");
    }
}
