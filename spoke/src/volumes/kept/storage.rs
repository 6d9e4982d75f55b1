//! Which storage a volume is of, and whether another cluster can reach it.

use serde_json::Value;

use super::claim_of;
use crate::cluster::text;

/// Storage that is reached over a network, by an address that means the same everywhere.
const SHARED: &[&str] = &["nfs", "iscsi", "fc", "rbd", "cephfs", "glusterfs"];
/// Storage of one node.
const LOCAL: &[&str] = &["hostPath", "local"];
/// Fields of a volume's spec that say nothing of its storage.
const OTHER: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

/// Who can reach a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach<'a> {
    /// Clusters that have this CSI driver.
    Driver(&'a str),
    /// Clusters that reach its server.
    Network,
    /// One node of its own cluster, by this kind of storage.
    Node(&'a str),
    /// It is not known, of this kind of storage.
    Unknown(&'a str),
}

/// Who can reach a volume.
pub fn reach(volume: &Value) -> Reach<'_> {
    match storage(volume) {
        Some(("csi", of)) => Reach::Driver(text(of, "/driver")),
        Some((kind, _)) if SHARED.contains(&kind) => Reach::Network,
        Some((kind, _)) if LOCAL.contains(&kind) => Reach::Node(kind),
        Some((kind, _)) => Reach::Unknown(kind),
        None => Reach::Unknown("unknown"),
    }
}

/// Whether a volume of one cluster is the same storage as one of another, and for the same claim.
pub fn stands_for(live: &Value, wanted: &Value) -> bool {
    is_same_storage(live, wanted) && claim_of(live) == claim_of(wanted)
}

/// Whether two volumes are of the same storage, by what it is called.
pub fn is_same_storage(a: &Value, b: &Value) -> bool {
    match (storage(a), storage(b)) {
        (Some(("csi", a)), Some(("csi", b))) => {
            let of = |of: &Value| (text(of, "/driver").to_owned(), text(of, "/volumeHandle").to_owned());
            of(a) == of(b)
        }
        (a, b) => a.is_some() && a == b,
    }
}

/// The kind of storage, and what is said of it.
fn storage(volume: &Value) -> Option<(&str, &Value)> {
    let spec = volume.get("spec")?.as_object()?;
    let found = spec.iter().find(|(key, value)| value.is_object() && !OTHER.contains(&key.as_str()));
    found.map(|(kind, of)| (kind.as_str(), of))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn volume(storage: &Value) -> Value {
        let mut volume = json!({"spec": {"capacity": {"storage": "1Gi"}, "nodeAffinity": {"required": {}},
                                         "claimRef": {"namespace": "cms", "name": "data", "uid": "u"}}});
        crate::transform::merge(&mut volume, &json!({"spec": storage}));
        volume
    }

    #[test]
    fn each_kind_of_storage_is_known_by_who_reaches_it() {
        let csi = volume(&json!({"csi": {"driver": "d.example.com", "volumeHandle": "h"}}));
        assert_eq!(reach(&csi), Reach::Driver("d.example.com"));
        for kind in ["nfs", "iscsi", "fc", "rbd", "cephfs", "glusterfs"] {
            assert_eq!(reach(&volume(&json!({kind: {"x": 1}}))), Reach::Network, "{kind}");
        }
        assert_eq!(reach(&volume(&json!({"hostPath": {"path": "/p"}}))), Reach::Node("hostPath"));
        assert_eq!(reach(&volume(&json!({"local": {"path": "/p"}}))), Reach::Node("local"));
        let disk = volume(&json!({"awsElasticBlockStore": {"volumeID": "v"}}));
        assert_eq!(reach(&disk), Reach::Unknown("awsElasticBlockStore"));
        assert_eq!(reach(&json!({"spec": {}})), Reach::Unknown("unknown"));
    }

    #[test]
    fn the_same_storage_is_known_by_what_it_is_called_and_not_by_what_else_is_said() {
        let csi = |handle: &str, attributes: Value| {
            volume(&json!({"csi": {"driver": "d", "volumeHandle": handle, "volumeAttributes": attributes}}))
        };
        assert!(stands_for(&csi("h", json!({"a": "1"})), &csi("h", json!({}))));
        assert!(!stands_for(&csi("h", json!({})), &csi("other", json!({}))));
        let nfs = |path: &str| volume(&json!({"nfs": {"server": "s", "path": path}}));
        assert!(stands_for(&nfs("/a"), &nfs("/a")) && !stands_for(&nfs("/a"), &nfs("/b")));
        assert!(!stands_for(&nfs("/a"), &csi("h", json!({}))));
        let mut other = nfs("/a");
        other["spec"]["claimRef"]["name"] = json!("other");
        assert!(!stands_for(&nfs("/a"), &other), "it is for another claim");
    }
}
