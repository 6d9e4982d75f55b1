//! Whether the destination can take volumes that move themselves: its nodes reach their storage, its
//! names are free, and nothing there is bound in their place.

use std::collections::BTreeSet;

use isthmus_shared::protocol::Run;
use serde_json::Value;

use super::concern::Concern;
use crate::cluster::{array, describe, name, text};
use crate::task::{TaskContext, TaskError};
use crate::volumes::{Node, Reach, is_same_storage, reach};

/// CSI drivers of a cluster that are looked at.
const MAX_DRIVERS: usize = 1_000;
/// The references of a volume to Secrets.
const SECRETS: &[&str] = &[
    "controllerExpandSecretRef",
    "controllerPublishSecretRef",
    "nodeExpandSecretRef",
    "nodePublishSecretRef",
    "nodeStageSecretRef",
];

/// What the destination has.
#[derive(Debug, Default)]
struct Facts {
    /// Its name.
    cluster: String,
    /// The CSI drivers that are registered.
    drivers: BTreeSet<String>,
    nodes: Vec<Node>,
    /// The volume of that name.
    there: Option<Value>,
    /// The namespace and name of the claim that the volume is for, and that claim.
    place: String,
    claim: String,
    live_claim: Option<Value>,
}

/// Looks at each of the volumes, as they are on the source.
pub async fn look_at_kept(
    context: &TaskContext,
    run: &Run,
    volumes: &[Value],
) -> Result<Vec<Concern>, TaskError> {
    let mut concerns = Vec::new();
    if volumes.is_empty() {
        return Ok(concerns);
    }
    context.doing("looking whether the kept volumes can be reached");
    let cluster = context.cluster();
    let drivers = cluster.list("/apis/storage.k8s.io/v1/csidrivers", "", MAX_DRIVERS).await;
    let drivers = drivers.map_err(|e| TaskError::cluster("the CSI drivers", "listing them", &e))?;
    let nodes = context.spoke.nodes.read(cluster).await;
    let nodes = nodes.map_err(|e| TaskError::cluster("the nodes", "listing them", &e))?;
    let mut facts = Facts {
        cluster: context.spoke.name.clone(),
        drivers: drivers.iter().map(|driver| name(driver).to_owned()).collect(),
        nodes: nodes.to_vec(),
        ..Facts::default()
    };
    for volume in volumes {
        let of = |field: &str| text(volume, &format!("/spec/claimRef/{field}"));
        run.destination_of(of("namespace")).clone_into(&mut facts.place);
        run.claim_on_destination(of("namespace"), of("name")).clone_into(&mut facts.claim);
        let find = async |path: String, object: String| {
            cluster.find(&path).await.map_err(|e| TaskError::cluster(object, "reading it", &e))
        };
        let path = format!("/api/v1/persistentvolumes/{}", name(volume));
        facts.there = find(path, describe(volume)).await?;
        let path = format!("/api/v1/namespaces/{}/persistentvolumeclaims/{}", facts.place, facts.claim);
        facts.live_claim = find(path, facts.object()).await?;
        concerns.extend(facts.in_the_way(volume));
        for (place, secret) in secrets(volume) {
            let to = run.destination_of(place);
            // What lies in the run's namespaces comes along.
            if run.sources().any(|namespace| namespace == place) {
                continue;
            }
            let path = format!("/api/v1/namespaces/{to}/secrets/{secret}");
            if find(path, format!("Secret {to}/{secret}")).await?.is_none() {
                let message = format!(
                    "cluster {} has no Secret {to}/{secret}, by which its driver reaches it: make it there, or Pods that \
                     mount it will wait",
                    facts.cluster
                );
                concerns.push(Concern::warning(describe(volume), "SecretNotFound", message));
            }
        }
    }
    Ok(concerns)
}

/// The namespaces and names of the Secrets that a CSI volume needs.
fn secrets(volume: &Value) -> impl Iterator<Item = (&str, &str)> {
    let csi = volume.pointer("/spec/csi");
    let references = SECRETS.iter().filter_map(|field| csi?.get(*field));
    let found: BTreeSet<_> =
        references.map(|secret| (text(secret, "/namespace"), text(secret, "/name"))).collect();
    found.into_iter()
}

impl Facts {
    /// How messages name the claim.
    fn object(&self) -> String {
        format!("PersistentVolumeClaim {}/{}", self.place, self.claim)
    }

    fn in_the_way(&self, volume: &Value) -> Vec<Concern> {
        let mut concerns = Vec::new();
        let object = describe(volume);
        let cluster = &self.cluster;
        if let Reach::Driver(driver) = reach(volume)
            && !self.drivers.contains(driver)
        {
            let message = format!(
                "cluster {cluster} has no CSI driver {driver} (no CSIDriver of that name), so nothing there can mount the \
                 volume: install the driver there, or copy the volume"
            );
            concerns.push(Concern::failure(&object, "DriverNotFound", message));
        }
        let terms = array(volume, "/spec/nodeAffinity/required/nodeSelectorTerms");
        if !terms.is_empty() && !self.nodes.iter().any(|node| node.matches(terms)) {
            let message = format!(
                "it can be reached from certain nodes only (spec.nodeAffinity), and no node of cluster {cluster} is one: \
                 label those that reach it, or copy the volume"
            );
            concerns.push(Concern::failure(&object, "NoNodeReachesVolume", message));
        }
        if let Some(there) = &self.there {
            concerns.extend(self.name_taken(&object, volume, there));
        }
        if let Some(claim) = &self.live_claim {
            let bound = text(claim, "/spec/volumeName");
            if bound != name(volume) {
                let to =
                    if bound.is_empty() { "not bound yet".to_owned() } else { format!("bound to {bound}") };
                let message = format!(
                    "it is there already on cluster {cluster} and {to}, and should be bound to the kept volume {}: remove \
                     it there if it is not needed, or give the arriving one another `name`",
                    name(volume)
                );
                concerns.push(Concern::failure(self.object(), "ClaimTaken", message));
            }
        }
        concerns
    }

    fn name_taken(&self, object: &str, volume: &Value, there: &Value) -> Option<Concern> {
        let cluster = &self.cluster;
        if !is_same_storage(volume, there) {
            let message = format!(
                "cluster {cluster} has another volume of this name, of other storage: rename or remove that one, or copy \
                 the volume"
            );
            return Some(Concern::failure(object, "VolumeNameTaken", message));
        }
        let of = |field: &str| text(there, &format!("/spec/claimRef/{field}"));
        let is_ours = of("namespace") == self.place && of("name") == self.claim;
        if !is_ours {
            let message = format!(
                "cluster {cluster} has this volume already, for claim {}/{}: if that does not need it, remove the \
                 PersistentVolume there once its reclaim policy is Retain (the data stays), then run again",
                of("namespace"),
                of("name")
            );
            return Some(Concern::failure(object, "VolumeInUse", message));
        }
        if text(there, "/status/phase") == "Released" {
            let message = format!(
                "cluster {cluster} has this volume already, still for a claim that is gone, and would bind no other to \
                 it: remove the PersistentVolume there once its reclaim policy is Retain (the data stays), then run again"
            );
            return Some(Concern::failure(object, "VolumeReleased", message));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn volume(more: &Value) -> Value {
        let mut volume = json!({"kind": "PersistentVolume", "metadata": {"name": "pv"}, "spec": {
            "csi": {"driver": "d.example.com", "volumeHandle": "h"}, "claimRef": {"namespace": "cms", "name": "data"}}});
        crate::transform::merge(&mut volume, more);
        volume
    }

    fn facts() -> Facts {
        Facts {
            cluster: "west".to_owned(),
            drivers: BTreeSet::from(["d.example.com".to_owned()]),
            nodes: vec![Node::of(&json!({"metadata": {"name": "n", "labels": {"zone": "a"}}}))],
            place: "shop".to_owned(),
            claim: "data".to_owned(),
            ..Facts::default()
        }
    }

    fn reasons(facts: &Facts, volume: &Value) -> Vec<String> {
        facts.in_the_way(volume).into_iter().map(|concern| concern.finding.reason).collect()
    }

    #[test]
    fn a_volume_whose_driver_is_there_and_whose_names_are_free_is_taken() {
        assert!(reasons(&facts(), &volume(&json!({}))).is_empty());
        let nfs = volume(&json!({"spec": {"csi": null, "nfs": {"server": "s", "path": "/"}}}));
        assert!(reasons(&Facts { drivers: BTreeSet::new(), ..facts() }, &nfs).is_empty());
    }

    #[test]
    fn a_driver_that_is_not_registered_is_named() {
        let lacking = Facts { drivers: BTreeSet::new(), ..facts() };
        assert_eq!(reasons(&lacking, &volume(&json!({}))), ["DriverNotFound"]);
    }

    #[test]
    fn a_volume_that_no_node_reaches_is_refused() {
        let in_zone = |zone: &str| {
            volume(&json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}]}}}}))
        };
        assert!(reasons(&facts(), &in_zone("a")).is_empty());
        assert_eq!(reasons(&facts(), &in_zone("b")), ["NoNodeReachesVolume"]);
    }

    #[test]
    fn a_name_that_another_volume_has_is_in_the_way_and_the_volume_itself_is_not() {
        let there = |more: Value| Facts { there: Some(volume(&more)), ..facts() };
        let of_claim = |name: &str, phase: &str| json!({"spec": {"claimRef": {"namespace": "shop", "name": name}}, "status": {"phase": phase}});
        assert!(reasons(&there(of_claim("data", "Bound")), &volume(&json!({}))).is_empty());
        assert_eq!(reasons(&there(of_claim("data", "Released")), &volume(&json!({}))), ["VolumeReleased"]);
        assert_eq!(reasons(&there(of_claim("other", "Bound")), &volume(&json!({}))), ["VolumeInUse"]);
        let other = there(json!({"spec": {"csi": {"volumeHandle": "other"}}}));
        assert_eq!(reasons(&other, &volume(&json!({}))), ["VolumeNameTaken"]);
    }

    #[test]
    fn a_claim_that_is_there_must_be_bound_to_the_very_volume() {
        let claim = |volume: &str| Facts {
            live_claim: Some(json!({"metadata": {"name": "data"}, "spec": {"volumeName": volume}})),
            ..facts()
        };
        assert!(reasons(&claim("pv"), &volume(&json!({}))).is_empty());
        assert_eq!(reasons(&claim("pv-2"), &volume(&json!({}))), ["ClaimTaken"]);
        assert_eq!(reasons(&claim(""), &volume(&json!({}))), ["ClaimTaken"]);
    }

    #[test]
    fn the_secrets_of_a_driver_are_found_once_each() {
        let secret = json!({"name": "s", "namespace": "rook"});
        let with =
            volume(&json!({"spec": {"csi": {"nodeStageSecretRef": secret, "nodePublishSecretRef": secret}}}));
        assert_eq!(secrets(&with).collect::<Vec<_>>(), [("rook", "s")]);
        assert_eq!(secrets(&volume(&json!({}))).count(), 0);
    }
}
