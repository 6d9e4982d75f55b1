//! Whether a volume is read from a snapshot, and by which classes. Pure.

use isthmus_shared::resources::VolumeMethod;
use serde_json::Value;

use crate::cluster::{annotation, name, text};
use crate::task::TaskError;

const DEFAULT_SNAPSHOT_CLASS: &str = "snapshot.storage.kubernetes.io/is-default-class";
/// The class of claims from before `storageClassName`.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// By which classes a claim with a volume's content is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The VolumeSnapshotClass.
    pub snapshot_class: String,
    /// The storage class of the claim from the snapshot.
    pub storage_class: String,
    /// Whether that claim is bound only once a Pod uses it.
    pub waits_for_consumer: bool,
}

/// Why there can be no snapshot of a volume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSnapshot {
    /// Nobody asked for one.
    #[error("the run's method is Live, or no Pod uses it")]
    NotWanted,
    /// The kinds are not there.
    #[error("the cluster has no VolumeSnapshots: snapshot.storage.k8s.io/v1 is not served")]
    NotServed,
    /// They may not be read.
    #[error("the spoke may not see the cluster's VolumeSnapshotClasses: {0}")]
    Forbidden(String),
    /// There is no class at all.
    #[error("the cluster has no VolumeSnapshotClass")]
    NoClasses,
    /// The volume has no driver that is known.
    #[error("PersistentVolume {volume} belongs to no CSI driver, and its storage class is not there")]
    NoDriver {
        /// The volume.
        volume: String,
    },
    /// None of the classes is of the volume's driver.
    #[error("no VolumeSnapshotClass is of its driver {driver}")]
    NoClass {
        /// The driver.
        driver: String,
    },
    /// No claim can be made from a snapshot.
    #[error("no storage class is of its driver {driver}, so that no claim can be made from a snapshot")]
    NoStorageClass {
        /// The driver.
        driver: String,
    },
}

impl NoSnapshot {
    /// As the failure of a run that must have one.
    pub fn failure(&self, object: impl Into<String>) -> TaskError {
        TaskError::failed(object, "NoSnapshot", self.told())
    }

    /// The same for a person, with what to do.
    pub fn told(&self) -> String {
        let remedy = match self {
            Self::Forbidden(_) => "grant the spoke's service account what its ClusterRole in deploy/ lists",
            Self::NotServed => "install the storage driver's snapshot controller",
            _ => "make a VolumeSnapshotClass and a storage class of the volume's driver",
        };
        format!(
            "the run's method is Snapshot, and there can be none: {self}; {remedy}, or set `method: Auto`, then run again"
        )
    }
}

/// How a volume is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Itself.
    Live {
        /// Nobody writes to it meanwhile.
        still: bool,
        /// Why not from a snapshot, where one would have been better.
        because: Option<NoSnapshot>,
    },
    /// From a snapshot.
    Snapshot(Route),
}

/// Chooses by what is asked for, whether Pods use the volume, and whether there can be a snapshot.
pub fn choose(
    method: VolumeMethod,
    in_use: bool,
    route: Result<Route, NoSnapshot>,
) -> Result<Choice, NoSnapshot> {
    match (method, route) {
        (VolumeMethod::Live, _) => Ok(Choice::Live { still: !in_use, because: None }),
        // What nobody writes to is as still as its snapshot.
        (VolumeMethod::Auto, _) if !in_use => Ok(Choice::Live { still: true, because: None }),
        (VolumeMethod::Auto, Err(because)) => Ok(Choice::Live { still: false, because: Some(because) }),
        (VolumeMethod::Auto | VolumeMethod::Snapshot, Ok(route)) => Ok(Choice::Snapshot(route)),
        (VolumeMethod::Snapshot, Err(because)) => Err(because),
    }
}

/// Finds the classes for a claim's volume.
pub fn route(
    claim: &Value,
    volume: &Value,
    storage_classes: &[Value],
    snapshot_classes: &[Value],
) -> Result<Route, NoSnapshot> {
    let own = class_of(claim, volume);
    let own = storage_classes.iter().find(|class| !own.is_empty() && name(class) == own);
    let driver = match (text(volume, "/spec/csi/driver"), own) {
        ("", Some(class)) => text(class, "/provisioner"),
        ("", None) => return Err(NoSnapshot::NoDriver { volume: name(volume).to_owned() }),
        (driver, _) => driver,
    };
    let snapshot_class = snapshot_class(driver, snapshot_classes)
        .ok_or_else(|| NoSnapshot::NoClass { driver: driver.to_owned() })?;
    // A volume that was made by hand has no class, and a class may be gone.
    let storage_class = own
        .filter(|class| text(class, "/provisioner") == driver)
        .or_else(|| first(storage_classes.iter().filter(|class| text(class, "/provisioner") == driver)))
        .ok_or_else(|| NoSnapshot::NoStorageClass { driver: driver.to_owned() })?;
    Ok(Route {
        snapshot_class: snapshot_class.to_owned(),
        storage_class: name(storage_class).to_owned(),
        waits_for_consumer: text(storage_class, "/volumeBindingMode") == "WaitForFirstConsumer",
    })
}

fn class_of<'a>(claim: &'a Value, volume: &'a Value) -> &'a str {
    let of_claim = text(claim, "/spec/storageClassName");
    if !of_claim.is_empty() {
        return of_claim;
    }
    annotation(claim, BETA_CLASS).unwrap_or_else(|| text(volume, "/spec/storageClassName"))
}

/// The driver's default class, else the first by name.
fn snapshot_class<'a>(driver: &str, classes: &'a [Value]) -> Option<&'a str> {
    let of_driver = || classes.iter().filter(|class| text(class, "/driver") == driver);
    let default = of_driver().filter(|class| annotation(class, DEFAULT_SNAPSHOT_CLASS) == Some("true"));
    first(default).or_else(|| first(of_driver())).map(name)
}

fn first<'a>(classes: impl Iterator<Item = &'a Value>) -> Option<&'a Value> {
    classes.min_by_key(|class| name(class))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn snapshot_class(name: &str, driver: &str, default: bool) -> Value {
        json!({"metadata": {"name": name, "annotations": {DEFAULT_SNAPSHOT_CLASS: default.to_string()}}, "driver": driver})
    }

    fn storage_class(name: &str, provisioner: &str) -> Value {
        json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer"})
    }

    fn claim(class: &str) -> Value {
        json!({"metadata": {"name": "data"}, "spec": {"storageClassName": class}})
    }

    fn csi(driver: &str) -> Value {
        json!({"metadata": {"name": "pv"}, "spec": {"csi": {"driver": driver}}})
    }

    #[test]
    fn the_drivers_default_class_is_taken_else_the_first_by_name() {
        let storage = [storage_class("fast", "d")];
        let chosen = |classes: &[Value]| {
            route(&claim("fast"), &csi("d"), &storage, classes).map(|route| route.snapshot_class)
        };
        let (a, b) = (snapshot_class("a", "d", false), snapshot_class("b", "d", false));
        let default = snapshot_class("c", "d", true);
        let other = snapshot_class("0", "other", true);
        assert_eq!(chosen(&[b.clone(), a.clone(), default, other.clone()]).unwrap(), "c");
        assert_eq!(chosen(&[other.clone(), b, a]).unwrap(), "a");
        assert_eq!(chosen(&[other]), Err(NoSnapshot::NoClass { driver: "d".to_owned() }));
    }

    #[test]
    fn the_driver_is_the_volumes_own_else_its_class_provisioner() {
        let classes = [snapshot_class("s", "d", false)];
        let local = json!({"metadata": {"name": "pv"}, "spec": {"hostPath": {"path": "/x"}}});
        let found = route(&claim("fast"), &local, &[storage_class("fast", "d")], &classes).unwrap();
        assert_eq!((found.storage_class.as_str(), found.waits_for_consumer), ("fast", true));
        let gone = route(&claim("gone"), &local, &[storage_class("fast", "d")], &classes);
        assert_eq!(gone, Err(NoSnapshot::NoDriver { volume: "pv".to_owned() }));
    }

    #[test]
    fn a_claim_whose_class_is_gone_is_restored_by_another_class_of_the_driver() {
        let classes = [snapshot_class("s", "d", false)];
        let storage = [storage_class("z", "d"), storage_class("b", "d"), storage_class("a", "other")];
        assert_eq!(route(&claim("gone"), &csi("d"), &storage, &classes).unwrap().storage_class, "b");
        let none = route(&claim("gone"), &csi("d"), &storage[2..], &classes);
        assert_eq!(none, Err(NoSnapshot::NoStorageClass { driver: "d".to_owned() }));
    }

    #[test]
    fn a_snapshot_is_taken_where_it_makes_a_difference_and_can_be() {
        let route = || Route {
            snapshot_class: "s".to_owned(),
            storage_class: "c".to_owned(),
            waits_for_consumer: false,
        };
        let live = |still| Ok(Choice::Live { still, because: None });
        assert_eq!(choose(VolumeMethod::Auto, true, Ok(route())), Ok(Choice::Snapshot(route())));
        assert_eq!(choose(VolumeMethod::Auto, false, Ok(route())), live(true));
        assert_eq!(choose(VolumeMethod::Live, true, Ok(route())), live(false));
        assert_eq!(choose(VolumeMethod::Live, false, Ok(route())), live(true));
        assert_eq!(choose(VolumeMethod::Snapshot, false, Ok(route())), Ok(Choice::Snapshot(route())));
        let because = Some(NoSnapshot::NotServed);
        let fallen = choose(VolumeMethod::Auto, true, Err(NoSnapshot::NotServed));
        assert_eq!(fallen, Ok(Choice::Live { still: false, because }));
        assert_eq!(
            choose(VolumeMethod::Snapshot, true, Err(NoSnapshot::NoClasses)),
            Err(NoSnapshot::NoClasses)
        );
    }
}
