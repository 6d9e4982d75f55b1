//! What new claims ask of the destination's storage classes beyond their being there: access modes
//! that the provisioner serves, and room. Pure.
//!
//! ```text
//!   provisioners   which access modes the known ones do not serve
//!   room           what CSI drivers publish as CSIStorageCapacity, for each class and each part of the
//!                  cluster (a segment: a node, a zone)
//! ```
//!
//! A volume lies in one segment, so a claim must fit into the largest; all claims of a class together
//! must fit into all segments together. That they do is no promise: another class may draw on the same
//! pool, and what is left may lie in pieces.
//!
//! What is not known is not judged: most provisioners publish no capacity, and what an unknown one
//! serves shows only once a claim waits for it.

mod provisioners;

use std::collections::BTreeMap;

use isthmus_shared::quantity::Amount;
use serde_json::Value;

use self::provisioners::{Verdict, judge};
use super::concern::Concern;
use crate::cluster::{annotation, api_version, array, describe, kind, name, text};

/// Marks the class that counts for what names none.
const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
/// Claims that are looked at.
const MAX_CLAIMS: usize = 5_000;

/// The claims that a run makes.
#[derive(Clone, Debug, Default)]
pub struct NewClaims(Vec<NewClaim>);

#[derive(Clone, Debug)]
struct NewClaim {
    object: String,
    /// Empty where it names none.
    class: String,
    modes: Vec<String>,
    block: bool,
    size: Amount,
    /// Whether it is made by its workload, as often as that has Pods.
    of_template: bool,
}

/// The storage classes of a cluster, and the room that their drivers publish.
#[derive(Clone, Debug, Default)]
pub struct Storage {
    provisioners: BTreeMap<String, String>,
    default: Option<String>,
    /// By class, where its driver publishes it.
    room: BTreeMap<String, Room>,
}

/// What a driver tells of one class.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// The largest volume that a segment has room for.
    largest: Amount,
    /// What is left in all segments; none where one of them does not tell.
    left: Option<Amount>,
}

impl NewClaims {
    /// Notes an object as it would be applied; `is_new`: whether it is yet to be made.
    pub fn see(&mut self, object: &Value, is_new: bool) {
        let claims: Vec<NewClaim> = match (api_version(object), kind(object)) {
            ("v1", "PersistentVolumeClaim") if is_new => {
                NewClaim::of(object, describe(object), false).into_iter().collect()
            }
            (version, "StatefulSet") if version.starts_with("apps/") && is_new => {
                let templates = array(object, "/spec/volumeClaimTemplates").iter();
                templates.filter_map(|claim| NewClaim::of(claim, describe(object), true)).collect()
            }
            _ => return,
        };
        let room = MAX_CLAIMS.saturating_sub(self.0.len());
        self.0.extend(claims.into_iter().take(room));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is in their way; `starts` says whether the applications are started.
    pub fn concerns(&self, storage: &Storage, cluster: &str, starts: bool) -> Vec<Concern> {
        let mut concerns = Vec::new();
        let mut wanted: BTreeMap<&str, (Amount, u64, &str)> = BTreeMap::new();
        for claim in &self.0 {
            let Some(class) = storage.class_of(claim) else { continue };
            concerns.extend(claim.modes_not_served(storage, class, cluster, starts));
            let Some(room) = storage.room.get(class) else { continue };
            if claim.size > room.largest {
                concerns.push(claim.too_large(class, room.largest, cluster));
            } else if !claim.of_template {
                let sum = wanted.entry(class).or_insert((Amount::ZERO, 0, &claim.object));
                *sum = (sum.0 + claim.size, sum.1 + 1, sum.2);
            }
        }
        for (class, (size, count, first)) in wanted {
            let Some(left) = storage.room.get(class).and_then(|room| room.left) else { continue };
            if size > left {
                let message = format!(
                    "{count} new claims of class {class} ask for {size}, and the driver of cluster {cluster} tells of \
                     {left} that are left: make room there, or say by storageClassMapping or spec.volumes which class \
                     they get"
                );
                concerns.push(Concern::warning(first, "NotEnoughCapacity", message));
            }
        }
        concerns
    }
}

impl NewClaim {
    fn of(claim: &Value, object: String, of_template: bool) -> Option<Self> {
        // One that names its volume, or wants none made, is not provisioned.
        let class = claim.pointer("/spec/storageClassName").and_then(Value::as_str);
        if !text(claim, "/spec/volumeName").is_empty() || class == Some("") {
            return None;
        }
        Some(Self {
            object,
            class: class.unwrap_or_default().to_owned(),
            modes: array(claim, "/spec/accessModes")
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            block: text(claim, "/spec/volumeMode") == "Block",
            size: claim
                .pointer("/spec/resources/requests/storage")
                .and_then(Amount::read)
                .unwrap_or_default(),
            of_template,
        })
    }

    fn modes_not_served(
        &self,
        storage: &Storage,
        class: &str,
        cluster: &str,
        starts: bool,
    ) -> Option<Concern> {
        let provisioner = storage.provisioners.get(class)?;
        let (mode, verdict) =
            self.modes.iter().find_map(|mode| Some((mode, judge(provisioner, mode, self.block)?)))?;
        let would = match verdict {
            Verdict::Never => "does not serve it, so the claim would wait for ever",
            Verdict::Seldom => {
                "serves it only where it was set up for that, else the claim would wait for ever"
            }
        };
        let message = format!(
            "it asks for {mode}, and class {class} of cluster {cluster} is of {provisioner}, which {would}: say by \
             accessModeMapping or spec.volumes which mode it gets, or by storageClassMapping which class"
        );
        Some(match (verdict, self.of_template) {
            (Verdict::Never, false) => Concern::failure(&self.object, "AccessModeNotServed", message),
            (Verdict::Never, true) => Concern::of_pods(starts, &self.object, "AccessModeNotServed", message),
            (Verdict::Seldom, _) => Concern::warning(&self.object, "AccessModeNotServed", message),
        })
    }

    fn too_large(&self, class: &str, largest: Amount, cluster: &str) -> Concern {
        let message = format!(
            "it asks for {}, and the largest volume of class {class} for which the driver of cluster {cluster} tells of \
             room in one place is {largest}: make room there, or say by storageClassMapping or spec.volumes which class it gets",
            self.size
        );
        Concern::warning(&self.object, "NotEnoughCapacity", message)
    }
}

impl Storage {
    /// The storage classes of a cluster, of whose room nothing is known yet.
    pub fn of(classes: &[Value]) -> Self {
        Self {
            provisioners: classes
                .iter()
                .map(|class| (name(class).to_owned(), text(class, "/provisioner").to_owned()))
                .collect(),
            default: classes
                .iter()
                .find(|class| annotation(class, DEFAULT) == Some("true"))
                .map(|class| name(class).to_owned()),
            room: BTreeMap::new(),
        }
    }

    /// Takes in a CSIStorageCapacity.
    pub fn see_room(&mut self, capacity: &Value) {
        // Where no topology is given, no node reaches the storage.
        if !capacity.get("nodeTopology").is_some_and(Value::is_object) {
            return;
        }
        let amount = |field: &str| capacity.get(field).and_then(Amount::read);
        let left = amount("capacity");
        // As the scheduler judges: what is left counts only where the driver tells no more.
        let Some(largest) = amount("maximumVolumeSize").or(left) else { return };
        let class = text(capacity, "/storageClassName").to_owned();
        let room = self.room.entry(class).or_insert(Room { largest, left: Some(Amount::ZERO) });
        room.largest = room.largest.max(largest);
        room.left = room.left.zip(left).map(|(sum, left)| sum + left);
    }

    fn class_of<'a>(&'a self, claim: &'a NewClaim) -> Option<&'a str> {
        if claim.class.is_empty() { self.default.as_deref() } else { Some(&claim.class) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::preflight::concern::Severity;

    fn claim(name: &str, class: &Value, mode: &str, size: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "cms"},
               "spec": {"storageClassName": class, "accessModes": [mode], "resources": {"requests": {"storage": size}}}})
    }

    fn class(name: &str, provisioner: &str, default: bool) -> Value {
        json!({"metadata": {"name": name, "annotations": {DEFAULT: default.to_string()}}, "provisioner": provisioner})
    }

    /// What a driver's external-provisioner publishes of one node.
    fn capacity(class: &str, node: &str, left: Option<&str>, largest: Option<&str>) -> Value {
        json!({"metadata": {"generateName": "csisc-", "namespace": "topolvm-system"}, "storageClassName": class,
               "capacity": left, "maximumVolumeSize": largest,
               "nodeTopology": {"matchLabels": {"topology.topolvm.io/node": node}}})
    }

    fn told(objects: &[Value], storage: &Storage) -> Vec<(String, Severity, String)> {
        let mut claims = NewClaims::default();
        for object in objects {
            claims.see(object, true);
        }
        let concerns = claims.concerns(storage, "west", false).into_iter();
        concerns.map(|c| (c.finding.reason, c.severity, c.finding.message)).collect()
    }

    #[test]
    fn a_mode_that_the_provisioner_of_the_class_never_serves_is_a_failure() {
        let storage = Storage::of(&[class("disk", "ebs.csi.aws.com", true)]);
        for asked in [json!("disk"), Value::Null] {
            let found = told(&[claim("data", &asked, "ReadWriteMany", "1Gi")], &storage);
            assert_eq!((found[0].0.as_str(), found[0].1), ("AccessModeNotServed", Severity::Failure));
            assert!(
                found[0].2.contains("accessModeMapping") && found[0].2.contains("ebs.csi.aws.com"),
                "{}",
                found[0].2
            );
        }
        assert!(told(&[claim("data", &json!("disk"), "ReadWriteOnce", "1Gi")], &storage).is_empty());
        let mut block = claim("data", &json!("disk"), "ReadWriteMany", "1Gi");
        block["spec"]["volumeMode"] = json!("Block");
        assert!(told(&[block], &storage).is_empty(), "raw devices may be shared");
        let unknown = Storage::of(&[class("disk", "csi.example.com", true)]);
        assert!(told(&[claim("data", &json!("disk"), "ReadWriteMany", "1Gi")], &unknown).is_empty());
    }

    #[test]
    fn claims_of_templates_are_in_the_way_of_whoever_starts_their_pods() {
        let storage = Storage::of(&[class("disk", "ebs.csi.aws.com", true)]);
        let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "cms"},
            "spec": {"volumeClaimTemplates": [claim("data", &json!("disk"), "ReadWriteMany", "1Gi")]}});
        let mut claims = NewClaims::default();
        claims.see(&set, true);
        assert_eq!(claims.concerns(&storage, "west", false)[0].severity, Severity::Warning);
        assert_eq!(claims.concerns(&storage, "west", true)[0].severity, Severity::Failure);
    }

    fn told_of(sizes: &[&str], capacities: &[Value]) -> Vec<String> {
        let mut storage = Storage::of(&[class("disk", "topolvm.io", false)]);
        for capacity in capacities {
            storage.see_room(capacity);
        }
        let claims: Vec<Value> =
            sizes.iter().map(|size| claim("data", &json!("disk"), "ReadWriteOnce", size)).collect();
        let found = told(&claims, &storage).into_iter();
        found
            .map(|(reason, severity, message)| {
                assert_eq!((reason.as_str(), severity), ("NotEnoughCapacity", Severity::Warning));
                message
            })
            .collect()
    }

    #[test]
    fn a_claim_must_fit_into_one_segment_and_all_of_them_into_all() {
        let nodes = [
            capacity("disk", "a", Some("10Gi"), None),
            capacity("disk", "b", Some("5Gi"), Some("4Gi")),
            capacity("other", "a", Some("90Gi"), None),
        ];
        assert!(told_of(&["10Gi", "5Gi"], &nodes).is_empty());
        let one = told_of(&["11Gi"], &nodes);
        assert!(
            one.len() == 1 && one[0].contains("in one place is 10Gi"),
            "fifteen are left in all: {one:?}"
        );
        let all = told_of(&["10Gi", "6Gi"], &nodes);
        assert!(
            all.len() == 1 && all[0].contains("ask for 16Gi") && all[0].contains("15Gi that are left"),
            "{all:?}"
        );
        assert!(told_of(&["99Ti"], &[]).is_empty(), "most drivers tell nothing");
        assert!(told_of(&["99Ti"], &[capacity("disk", "a", None, None)]).is_empty());
    }

    #[test]
    fn the_largest_volume_counts_as_the_scheduler_counts_it() {
        let cut = [capacity("disk", "a", Some("90Gi"), Some("8Gi"))];
        assert_eq!(told_of(&["9Gi"], &cut).len(), 1, "however much is left");
        assert!(told_of(&["8Gi", "8Gi"], &cut).is_empty());
        // A thin pool gives out more than it has.
        let thin = [capacity("disk", "a", Some("5Gi"), Some("64Gi"))];
        let told = told_of(&["10Gi"], &thin);
        assert!(told.len() == 1 && told[0].contains("5Gi that are left"), "as a sum: {told:?}");
    }

    #[test]
    fn a_segment_that_tells_no_sum_leaves_the_sum_open() {
        let some = [capacity("disk", "a", Some("1Gi"), None), capacity("disk", "b", None, Some("20Gi"))];
        assert!(told_of(&["15Gi", "15Gi"], &some).is_empty());
        assert_eq!(told_of(&["21Gi"], &some).len(), 1);
    }

    #[test]
    fn storage_that_no_node_reaches_is_no_room() {
        let mut nowhere = capacity("disk", "a", Some("90Gi"), None);
        nowhere["nodeTopology"] = Value::Null;
        let mut everywhere = capacity("disk", "a", Some("2Gi"), None);
        everywhere["nodeTopology"] = json!({});
        assert_eq!(told_of(&["3Gi"], &[nowhere.clone(), everywhere]).len(), 1);
        assert!(told_of(&["3Gi"], &[nowhere]).is_empty(), "nothing is known of it");
    }

    #[test]
    fn what_is_there_or_needs_no_provisioner_is_not_judged() {
        let mut claims = NewClaims::default();
        claims.see(&claim("data", &json!("disk"), "ReadWriteMany", "1Gi"), false);
        claims.see(&claim("data", &json!(""), "ReadWriteMany", "1Gi"), true);
        let mut bound = claim("data", &json!("disk"), "ReadWriteMany", "1Gi");
        bound["spec"]["volumeName"] = json!("pv");
        claims.see(&bound, true);
        assert!(claims.is_empty());
    }
}
