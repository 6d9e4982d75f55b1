//! Which reclaim policy a kept volume is given: an object in, a merge patch out. The caller adds the
//! resource version.

use isthmus_shared::resources::{MIGRATED_BY, RECLAIM_POLICY, RETAINED_BY};
use serde_json::{Value, json};

use crate::cluster::{annotation, label, text};
use crate::transform::RETAIN;

/// What becomes of the policy when a run is undone.
#[derive(Clone, Debug, PartialEq)]
pub enum Release {
    /// The run has not changed it.
    Nothing,
    /// This gives it back.
    Write(Value),
    /// It stays Retain, for a reason that a person should know.
    Keep(&'static str),
}

fn policy_of(volume: &Value) -> &str {
    match text(volume, "/spec/persistentVolumeReclaimPolicy") {
        // What the API server makes of none.
        "" => RETAIN,
        policy => policy,
    }
}

/// Retains a volume of the source; nothing to do where it is so by itself, or by this run.
pub fn retaining(volume: &Value, migration: &str) -> Option<Value> {
    let aside = annotation(volume, RECLAIM_POLICY);
    let policy = match (policy_of(volume), aside) {
        (RETAIN, None) => return None,
        (RETAIN, Some(_)) if annotation(volume, RETAINED_BY) == Some(migration) => return None,
        // An earlier run retained it: what it had before that counts.
        (RETAIN, Some(aside)) => aside,
        (policy, _) => policy,
    };
    Some(json!({
        "metadata": {"annotations": {RECLAIM_POLICY: policy, RETAINED_BY: migration}},
        "spec": {"persistentVolumeReclaimPolicy": RETAIN}
    }))
}

/// Gives a volume of the source back what `migration` took; `claim` is the uid of the claim that is
/// there.
pub fn releasing(volume: &Value, claim: &str, migration: &str) -> Release {
    if annotation(volume, RETAINED_BY) != Some(migration) {
        return Release::Nothing;
    }
    let unmarked = json!({"annotations": {RECLAIM_POLICY: null, RETAINED_BY: null}});
    let Some(aside) = annotation(volume, RECLAIM_POLICY).filter(|_| policy_of(volume) == RETAIN) else {
        // Somebody has set it since.
        return Release::Write(json!({"metadata": unmarked}));
    };
    if text(volume, "/spec/claimRef/uid") != claim || text(volume, "/status/phase") != "Bound" {
        return Release::Keep(
            "it is not bound to the claim any more, and its data would be deleted with its former reclaim policy: bind \
             it again, or look after its data, then set the policy by hand",
        );
    }
    Release::Write(json!({"metadata": unmarked, "spec": {"persistentVolumeReclaimPolicy": aside}}))
}

/// Gives a volume of the destination its own policy, once a run has brought the applications here:
/// one that the run brought, or one that was retained here when an earlier run took them away.
pub fn settling(volume: &Value) -> Option<Value> {
    let aside = annotation(volume, RECLAIM_POLICY)?;
    let brought = label(volume, MIGRATED_BY).is_some_and(|mark| !mark.is_empty());
    if !brought && annotation(volume, RETAINED_BY).is_none() {
        return None;
    }
    let metadata = json!({"annotations": {RECLAIM_POLICY: null, RETAINED_BY: null}});
    if policy_of(volume) != RETAIN {
        return Some(json!({"metadata": metadata}));
    }
    Some(json!({"metadata": metadata, "spec": {"persistentVolumeReclaimPolicy": aside}}))
}

/// Retains a volume of the destination before the claim goes that it is bound to.
pub fn holding(volume: &Value) -> Option<Value> {
    let policy = policy_of(volume);
    (policy != RETAIN).then(|| {
        json!({
            "metadata": {"annotations": {RECLAIM_POLICY: policy}},
            "spec": {"persistentVolumeReclaimPolicy": RETAIN}
        })
    })
}

/// Whether deleting the object leaves what the volume holds.
pub fn is_retained(volume: &Value) -> bool {
    policy_of(volume) == RETAIN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::merge;

    fn volume(policy: &str, annotations: &Value) -> Value {
        json!({"metadata": {"name": "pv", "annotations": annotations, "labels": {MIGRATED_BY: "made"}},
               "spec": {"persistentVolumeReclaimPolicy": policy, "claimRef": {"uid": "c"}}, "status": {"phase": "Bound"}})
    }

    fn after(mut volume: Value, patch: Option<Value>) -> Value {
        merge(&mut volume, &patch.unwrap());
        volume
    }

    #[test]
    fn a_volume_is_retained_once_and_gets_its_own_policy_back() {
        let before = volume("Delete", &json!({}));
        let retained = after(before.clone(), retaining(&before, "run"));
        assert_eq!(policy_of(&retained), "Retain");
        assert_eq!(retaining(&retained, "run"), None, "twice is once");
        let Release::Write(patch) = releasing(&retained, "c", "run") else { panic!("{retained}") };
        assert_eq!(after(retained.clone(), Some(patch)), before);
        assert_eq!(releasing(&retained, "c", "other"), Release::Nothing, "another run's is left");
        assert_eq!(releasing(&before, "c", "run"), Release::Nothing);
    }

    #[test]
    fn what_is_retained_by_itself_is_not_touched() {
        for policy in ["Retain", ""] {
            let own = volume(policy, &json!({}));
            assert_eq!(retaining(&own, "run"), None);
            assert_eq!(releasing(&own, "c", "run"), Release::Nothing);
            assert_eq!((settling(&own), holding(&own)), (None, None));
        }
    }

    #[test]
    fn a_second_run_remembers_what_there_was_before_the_first() {
        let retained = after(volume("Delete", &json!({})), retaining(&volume("Delete", &json!({})), "first"));
        let again = after(retained.clone(), retaining(&retained, "second"));
        assert_eq!(releasing(&again, "c", "first"), Release::Nothing);
        let Release::Write(patch) = releasing(&again, "c", "second") else { panic!("{again}") };
        assert_eq!(patch["spec"]["persistentVolumeReclaimPolicy"], "Delete");
    }

    #[test]
    fn what_a_person_has_set_since_stays() {
        let changed = volume("Recycle", &json!({RECLAIM_POLICY: "Delete", RETAINED_BY: "run"}));
        let Release::Write(patch) = releasing(&changed, "c", "run") else { panic!("{changed}") };
        assert!(patch.get("spec").is_none());
        let settled = volume("Recycle", &json!({RECLAIM_POLICY: "Delete"}));
        assert!(settling(&settled).unwrap().get("spec").is_none());
    }

    #[test]
    fn a_volume_without_its_claim_is_never_given_a_policy_that_deletes_it() {
        let mut retained = volume("Retain", &json!({RECLAIM_POLICY: "Delete", RETAINED_BY: "run"}));
        assert!(matches!(releasing(&retained, "another", "run"), Release::Keep(_)));
        retained["status"]["phase"] = json!("Released");
        assert!(matches!(releasing(&retained, "c", "run"), Release::Keep(_)));
    }

    #[test]
    fn the_destinations_volume_gets_its_policy_after_success_and_is_held_before_it_goes() {
        let arrived = volume("Retain", &json!({RECLAIM_POLICY: "Delete"}));
        assert!(is_retained(&arrived));
        let settled = after(arrived, settling(&volume("Retain", &json!({RECLAIM_POLICY: "Delete"}))));
        assert_eq!(settled, volume("Delete", &json!({})));
        assert_eq!(settling(&settled), None);
        assert!(is_retained(&after(settled.clone(), holding(&settled))));
        let mut foreign = volume("Retain", &json!({RECLAIM_POLICY: "Delete"}));
        foreign["metadata"]["labels"] = json!({});
        assert_eq!(settling(&foreign), None, "what no run brought is not ours to settle");
    }

    #[test]
    fn a_volume_that_went_away_and_came_back_has_the_policy_that_it_had_at_first() {
        let mut own = volume("Delete", &json!({}));
        own["metadata"]["labels"] = json!({});
        let retained = after(own.clone(), retaining(&own, "there"));
        assert_eq!(after(retained.clone(), settling(&retained)), own);
        assert_eq!(settling(&own), None);
        // And the other side's, which a run had brought before it was retained there.
        let brought = volume("Delete", &json!({}));
        let retained = after(brought.clone(), retaining(&brought, "back"));
        assert_eq!(after(retained.clone(), settling(&retained)), brought);
    }
}
