//! What the source has against `spec.volumes`: claims that it does not take, names and sizes that
//! cannot be, and volumes that no other cluster can reach.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_shared::protocol::Run;
use isthmus_shared::quantity::{self, Amount};
use isthmus_shared::resources::{
    Finding, IncludeClusterResources, MigrationSpec, VolumeAction, VolumeChoice,
};
use serde_json::Value;

use super::capacity;
use crate::cluster::{describe, name, namespace, text};
use crate::findings::{Findings, finding};
use crate::task::{TaskContext, TaskError};
use crate::volumes::{Reach, reach, volume_of};

/// What is in the way of the choices; `templates` is what the names of claims begin with that
/// StatefulSets of the run make.
pub fn in_the_way(
    spec: &MigrationSpec,
    claims: &[Value],
    templates: &BTreeSet<(String, String)>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, choice) in spec.volumes.iter().enumerate() {
        let is = |claim: &&Value| namespace(claim) == choice.namespace && name(claim) == choice.claim;
        let Some(claim) = claims.iter().find(is) else {
            let message = format!(
                "claim {}/{} is none of those that the migration takes: correct the name, take its namespace and its \
                 type along, or leave it out of spec.volumes",
                choice.namespace, choice.claim
            );
            found.push(finding(format!("spec.volumes[{at}]"), "ClaimNotTaken", message));
            continue;
        };
        found.extend(renamed_template(claim, choice, templates));
        found.extend(too_small(claim, choice));
    }
    found.extend(same_names(spec, claims));
    found
}

/// A StatefulSet finds its claims by their names alone, and would make others.
fn renamed_template(
    claim: &Value,
    choice: &VolumeChoice,
    templates: &BTreeSet<(String, String)>,
) -> Option<Finding> {
    let to = choice.name.as_ref().filter(|to| **to != choice.claim)?;
    let is_made = templates.iter().any(|(place, start)| {
        let ordinal = choice.claim.strip_prefix(start.as_str()).unwrap_or_default();
        *place == choice.namespace && !ordinal.is_empty() && ordinal.bytes().all(|b| b.is_ascii_digit())
    });
    is_made.then(|| {
        let message = format!(
            "it cannot be called {to} on the destination: it is of a StatefulSet's claim template, whose Pods find it by \
             its name alone; leave `name` out"
        );
        finding(describe(claim), "ClaimOfTemplate", message)
    })
}

/// What is measured of a volume is not known here: it holds no more than its capacity.
fn too_small(claim: &Value, choice: &VolumeChoice) -> Option<Finding> {
    let size = choice.size.as_deref()?;
    if choice.action != VolumeAction::Copy || text(claim, "/status/phase") != "Bound" {
        return None;
    }
    let wanted = quantity::bytes(size);
    let has = capacity(claim);
    (wanted < has).then(|| {
        let has = Amount::of(i64::try_from(has).unwrap_or(i64::MAX));
        let message = format!(
            "{size} is less than the volume has on the source ({has}), and what it holds may not fit: ask for {has} or \
             more"
        );
        finding(describe(claim), "SizeTooSmall", message)
    })
}

/// Two claims that would arrive under one name.
fn same_names(spec: &MigrationSpec, claims: &[Value]) -> Vec<Finding> {
    let mut arriving: BTreeMap<(&str, &str), &Value> = BTreeMap::new();
    let mut found = Vec::new();
    for claim in claims {
        let to = spec.arriving_claim(namespace(claim), name(claim));
        if let Some(other) = arriving.insert((namespace(claim), to), claim) {
            let message =
                format!("it and {} would both arrive as {to}: give each a name of its own", describe(other));
            found.push(finding(describe(claim), "NameTwice", message));
        }
    }
    found
}

/// The volumes that are to move themselves, as they are; what cannot is a failure.
pub async fn kept_volumes(
    context: &TaskContext,
    run: &Run,
    claims: &[Value],
    failures: &mut Findings,
) -> Result<Vec<Value>, TaskError> {
    let mut kept = Vec::new();
    let keeps = |claim: &&Value| run.spec.action_of(namespace(claim), name(claim)) == VolumeAction::Keep;
    for claim in claims.iter().filter(keeps) {
        let volume = volume_of(context.cluster(), claim).await?;
        match keepable(volume.as_ref(), run.spec.include_cluster_resources) {
            Ok(()) => kept.extend(volume),
            Err((reason, message)) => failures.push(finding(describe(claim), reason, message)),
        }
    }
    Ok(kept)
}

/// Whether a claim's volume can be one of another cluster too, as far as its own cluster tells.
fn keepable(volume: Option<&Value>, scope: IncludeClusterResources) -> Result<(), (&'static str, String)> {
    if scope == IncludeClusterResources::None {
        let message = "its PersistentVolume is of cluster scope, of which this migration takes nothing \
                       (includeClusterResources: None, or a pair outside of the hub's namespace): copy the volume";
        return Err(("VolumeOfClusterScope", message.to_owned()));
    }
    let Some(volume) = volume else {
        let message = "it is not bound to a volume on the source, so there is none to keep: leave it out of \
                       spec.volumes, or wait until it is bound, then run again";
        return Err(("ClaimNotBound", message.to_owned()));
    };
    let pv = describe(volume);
    match reach(volume) {
        Reach::Driver(_) | Reach::Network => Ok(()),
        Reach::Node(kind) => Err((
            "VolumeOfOneNode",
            format!(
                "its {pv} is of kind {kind}, which is storage of one node of the source: copy the volume"
            ),
        )),
        Reach::Unknown(kind) => Err((
            "VolumeNotShared",
            format!(
                "its {pv} is of kind {kind}, of which it is not known that another cluster reaches it (csi, nfs, iscsi, \
                 fc, rbd, cephfs and glusterfs can be kept): copy the volume"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claim(name: &str, phase: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "cms"},
               "status": {"phase": phase, "capacity": {"storage": "2Gi"}}})
    }

    fn reasons(choice: &Value) -> Vec<String> {
        let mut spec = MigrationSpec::through("p");
        spec.volumes = serde_json::from_value(json!([choice])).unwrap();
        let claims = [
            claim("data-db-0", "Bound"),
            claim("data-db-x", "Bound"),
            claim("plain", "Bound"),
            claim("new", "Pending"),
        ];
        let templates = BTreeSet::from([("cms".to_owned(), "data-db-".to_owned())]);
        in_the_way(&spec, &claims, &templates).into_iter().map(|finding| finding.reason).collect()
    }

    fn choice(claim: &str, more: &Value) -> Value {
        let mut choice = json!({"namespace": "cms", "claim": claim});
        crate::transform::merge(&mut choice, more);
        choice
    }

    #[test]
    fn a_claim_that_the_run_does_not_take_is_named() {
        assert_eq!(reasons(&choice("gone", &json!({"action": "Skip"}))), ["ClaimNotTaken"]);
        assert_eq!(reasons(&choice("plain", &json!({"namespace": "shop"}))), ["ClaimNotTaken"]);
        assert!(reasons(&choice("plain", &json!({"action": "Skip"}))).is_empty());
    }

    #[test]
    fn a_claim_of_a_stateful_sets_template_keeps_its_name() {
        assert_eq!(reasons(&choice("data-db-0", &json!({"name": "other"}))), ["ClaimOfTemplate"]);
        assert!(
            reasons(&choice("data-db-0", &json!({"name": "data-db-0", "storageClass": "fast"}))).is_empty()
        );
        assert!(
            reasons(&choice("data-db-x", &json!({"name": "other"}))).is_empty(),
            "no set makes that name"
        );
    }

    #[test]
    fn a_size_below_what_the_volume_has_is_refused_where_data_moves() {
        assert_eq!(reasons(&choice("plain", &json!({"size": "1Gi"}))), ["SizeTooSmall"]);
        for well in ["2Gi", "2048Mi", "1Ti"] {
            assert!(reasons(&choice("plain", &json!({"size": well}))).is_empty(), "{well}");
        }
        assert!(reasons(&choice("plain", &json!({"size": "1Gi", "action": "Skip"}))).is_empty());
        assert!(reasons(&choice("new", &json!({"size": "1Gi"}))).is_empty(), "it holds nothing");
    }

    #[test]
    fn a_name_that_another_claim_arrives_with_is_refused() {
        assert_eq!(reasons(&choice("plain", &json!({"name": "new"}))), ["NameTwice"]);
        assert!(reasons(&choice("plain", &json!({"name": "fresh"}))).is_empty());
    }

    #[test]
    fn only_what_another_cluster_can_reach_is_kept() {
        let kept = |volume: Value, scope| {
            let volume = json!({"kind": "PersistentVolume", "metadata": {"name": "pv"}, "spec": volume});
            keepable(Some(&volume), scope).err().map(|(reason, _)| reason)
        };
        let auto = IncludeClusterResources::Auto;
        assert_eq!(kept(json!({"nfs": {"server": "s", "path": "/"}}), auto), None);
        assert_eq!(kept(json!({"csi": {"driver": "d"}}), auto), None);
        assert_eq!(kept(json!({"hostPath": {"path": "/"}}), auto), Some("VolumeOfOneNode"));
        assert_eq!(kept(json!({"local": {"path": "/"}}), auto), Some("VolumeOfOneNode"));
        assert_eq!(kept(json!({"azureDisk": {"diskName": "d"}}), auto), Some("VolumeNotShared"));
        let none = IncludeClusterResources::None;
        assert_eq!(kept(json!({"csi": {"driver": "d"}}), none), Some("VolumeOfClusterScope"));
        let unbound = keepable(None, auto);
        assert_eq!(unbound.err().map(|(reason, _)| reason), Some("ClaimNotBound"));
    }
}
