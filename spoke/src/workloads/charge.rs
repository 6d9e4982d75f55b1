//! Who stops what: a workload or Pod that something else runs is stopped through that. Pure.
//!
//! Owners are followed up, by owner references and by the labels of custom resources, until there is
//! one that is stopped by a switch or a rule:
//!
//! - what an owner of Kubernetes makes is its owner's, but for running Jobs of CronJobs: these run on
//!   when no more are made;
//! - what a custom resource with a rule owns is its operator's, unless the rule says that it is not, or
//!   the operator itself is stopped;
//! - what a controller without a rule owns cannot be stopped for good: it would be started again. It is
//!   named, rather than fought over.

use std::collections::HashMap;

use isthmus_shared::resources::COMPONENT;
use serde_json::{Value, json};

use super::rules::{Registry, Rule};
use super::state::{self, SWITCHES};
use crate::cluster::{annotation, api_version, array, describe, kind, label, namespace, text, uid};

/// The longest chain of owners that is followed.
pub const MAX_CHAIN: usize = 8;
/// The annotation of Pods that a kubelet runs by itself.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Who stops a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Charge {
    /// We do.
    Ours,
    /// What owns it does, once that is stopped.
    Owners,
    /// A controller does that we have no way to stop.
    Unknown {
        /// Which.
        owner: String,
    },
}

/// What a Pod means to whoever waits until all have gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has ended, or is no part of the application.
    NoMatter,
    /// It goes when what runs it is stopped.
    Goes,
    /// Nothing runs it, so nothing stops it.
    Bare,
    /// A controller runs it that we have no way to stop.
    Unknown {
        /// Which.
        owner: String,
    },
}

/// What is known of the objects that may own others.
#[derive(Debug, Default)]
pub struct Owners {
    /// Pared to what is asked of them, by uid.
    known: HashMap<String, Value>,
    /// Custom resources with rules that claim by labels.
    claiming: Vec<Value>,
}

/// Where following the owners of an object ends.
enum Root<'a> {
    /// With what has no owner that runs it.
    None,
    /// With a kind of Kubernetes' own, or one alike: group and kind of the owner.
    Switch(&'a Value),
    /// With a custom resource that has a rule.
    Ruled(&'a Rule),
    /// With a controller that is neither.
    Unknown(String),
}

impl Owners {
    /// Notes an object that may own others.
    pub fn note(&mut self, registry: &Registry, object: &Value) {
        let group = group_of(api_version(object));
        if registry.rule(group, kind(object)).is_some_and(|rule| !rule.labels.is_empty()) {
            self.claiming.push(pared(object));
        }
        self.known.insert(uid(object).to_owned(), pared(object));
    }

    /// The controllers of an object that must be read before it is known who stops it.
    pub fn missing<'a>(&'a self, registry: &'a Registry, object: &'a Value) -> Option<&'a Value> {
        let mut at = object;
        for _ in 0..MAX_CHAIN {
            let reference = runner(registry, at)?;
            if is_decided(registry, reference) {
                return None;
            }
            match self.known.get(text(reference, "/uid")) {
                Some(owner) => at = owner,
                None => return Some(reference),
            }
        }
        None
    }

    /// Who stops a workload; `operators_stop` where operators are stopped themselves, so that what they
    /// run is not started again.
    pub fn charge(&self, registry: &Registry, workload: &Value, operators_stop: bool) -> Charge {
        match self.root(registry, workload) {
            Root::None => Charge::Ours,
            Root::Switch(owner) => {
                let of_cron_job = kind(workload) == "Job" && text(owner, "/kind").ends_with("CronJob");
                if of_cron_job { Charge::Ours } else { Charge::Owners }
            }
            Root::Ruled(rule) => {
                let left_to_us = rule.stops.iter().any(|stopped| stopped == kind(workload));
                if left_to_us || operators_stop { Charge::Ours } else { Charge::Owners }
            }
            Root::Unknown(_) if operators_stop => Charge::Ours,
            Root::Unknown(owner) => Charge::Unknown { owner },
        }
    }

    /// Whether a workload's own readiness counts: also that of one which an operator runs, but not that
    /// of what Kubernetes makes of another workload.
    pub fn counts_itself(&self, registry: &Registry, workload: &Value) -> bool {
        !matches!(self.root(registry, workload), Root::Switch(_))
    }

    /// What a Pod means.
    pub fn standing(&self, registry: &Registry, pod: &Value, operators_stop: bool) -> Standing {
        if has_ended(pod) || annotation(pod, MIRROR).is_some() || is_own(pod) {
            return Standing::NoMatter;
        }
        match self.root(registry, pod) {
            Root::Switch(_) | Root::Ruled(_) => Standing::Goes,
            // What is on its way out needs nobody to stop it.
            _ if is_leaving(pod) => Standing::Goes,
            Root::Unknown(_) if operators_stop => Standing::Goes,
            Root::Unknown(owner) => Standing::Unknown { owner },
            Root::None => Standing::Bare,
        }
    }

    fn root<'a>(&'a self, registry: &'a Registry, object: &'a Value) -> Root<'a> {
        let mut at = object;
        let mut above = String::new();
        for _ in 0..MAX_CHAIN {
            let Some(reference) = runner(registry, at) else { break };
            let (group, kind) = (group_of(text(reference, "/apiVersion")), text(reference, "/kind"));
            if let Some(rule) = registry.rule(group, kind) {
                return Root::Ruled(rule);
            }
            if is_switch(group, kind) {
                return Root::Switch(reference);
            }
            above = format!("{kind} {}/{}", namespace(object), text(reference, "/name"));
            match self.known.get(text(reference, "/uid")) {
                Some(owner) => at = owner,
                None => break,
            }
        }
        let by_labels = self.claiming.iter().find_map(|resource| {
            let rule = registry.rule(group_of(api_version(resource)), kind(resource))?;
            let near = namespace(resource) == namespace(object);
            (near && rule.claims(resource, object)).then_some(rule)
        });
        match by_labels {
            Some(rule) => Root::Ruled(rule),
            None if above.is_empty() => Root::None,
            None => Root::Unknown(above),
        }
    }
}

/// The owner that runs an object: its controller, else a custom resource with a rule.
fn runner<'a>(registry: &Registry, object: &'a Value) -> Option<&'a Value> {
    let owners = array(object, "/metadata/ownerReferences");
    let controls = |owner: &&Value| owner.get("controller") == Some(&Value::Bool(true));
    let ruled =
        |owner: &&Value| registry.rule(group_of(text(owner, "/apiVersion")), text(owner, "/kind")).is_some();
    owners.iter().find(controls).or_else(|| owners.iter().find(ruled))
}

fn is_decided(registry: &Registry, reference: &Value) -> bool {
    let (group, kind) = (group_of(text(reference, "/apiVersion")), text(reference, "/kind"));
    is_switch(group, kind) || registry.rule(group, kind).is_some()
}

/// Whether a kind is one that Kubernetes itself stops and starts, or one alike.
pub fn is_switch(group: &str, kind: &str) -> bool {
    SWITCHES.iter().any(|(g, k, _)| *g == group && *k == kind)
}

fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

fn pared(object: &Value) -> Value {
    let metadata = |field: &str| object.pointer(&format!("/metadata/{field}")).cloned().unwrap_or_default();
    json!({"apiVersion": api_version(object), "kind": kind(object), "metadata": {"name": metadata("name"),
           "namespace": metadata("namespace"), "uid": metadata("uid"), "ownerReferences": metadata("ownerReferences")}})
}

/// Whether it is of our own making: movers and what runs hooks.
pub fn is_own(object: &Value) -> bool {
    label(object, COMPONENT).is_some()
}

/// Whether a Pod runs no more.
pub fn has_ended(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// Whether a Pod is told to go.
pub fn is_leaving(pod: &Value) -> bool {
    !text(pod, "/metadata/deletionTimestamp").is_empty()
}

/// Whether a Pod has volumes that last.
pub fn mounts_claims(pod: &Value) -> bool {
    array(pod, "/spec/volumes")
        .iter()
        .any(|volume| volume.get("persistentVolumeClaim").is_some() || volume.get("ephemeral").is_some())
}

/// Whether a workload of a controller without a way to be stopped is one to be told of: it runs.
pub fn runs(registry: &Registry, workload: &Value) -> bool {
    !state::has_finished(workload) && registry.way(workload).is_some_and(|way| !way.is_stopped(workload))
}

/// What to do about something that only an unknown controller can stop.
pub fn unknown_owner(object: &Value, owner: &str) -> isthmus_shared::resources::Finding {
    let message = format!(
        "{owner} runs it and would start it again, and there is no rule for how that is stopped: name the operator of \
         {owner} under `operators`, add a rule in a ConfigMap labelled {}: \"true\" in the spoke's namespace, or stop \
         {owner} by hand; then run again",
        super::rules::SUSPEND_RULES
    );
    crate::findings::finding(describe(object), "NoSuspendRule", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(version: &str, kind: &str, owner: (&str, &str, &str), controller: bool) -> Value {
        let (owner_version, owner_kind, owner_uid) = owner;
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "cms", "uid": format!("{kind}-uid"),
            "ownerReferences": [{"apiVersion": owner_version, "kind": owner_kind, "name": "o", "uid": owner_uid,
                                 "controller": controller}]}})
    }

    fn charge(owners: &Owners, workload: &Value, operators_stop: bool) -> Charge {
        owners.charge(Registry::built_in(), workload, operators_stop)
    }

    #[test]
    fn what_kubernetes_makes_is_its_owners_but_for_jobs_that_run_on() {
        let owners = Owners::default();
        let set = owned("apps/v1", "ReplicaSet", ("apps/v1", "Deployment", "d"), true);
        assert_eq!(charge(&owners, &set, false), Charge::Owners);
        let job = owned("batch/v1", "Job", ("batch/v1", "CronJob", "c"), true);
        assert_eq!(charge(&owners, &job, false), Charge::Ours);
        let bare = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "x"}});
        assert_eq!(charge(&owners, &bare, false), Charge::Ours);
    }

    #[test]
    fn what_a_custom_resource_with_a_rule_owns_is_left_to_it_controller_or_not() {
        let owners = Owners::default();
        for controller in [true, false] {
            let set = owned(
                "apps/v1",
                "StatefulSet",
                ("pxc.percona.com/v1", "PerconaXtraDBCluster", "p"),
                controller,
            );
            assert_eq!(charge(&owners, &set, false), Charge::Owners);
            // Its operator is stopped, so nobody else would stop it, nor start it again.
            assert_eq!(charge(&owners, &set, true), Charge::Ours);
        }
        let elastic = ("elasticsearch.k8s.elastic.co/v1", "Elasticsearch", "e");
        assert_eq!(charge(&owners, &owned("apps/v1", "StatefulSet", elastic, true), false), Charge::Ours);
    }

    #[test]
    fn an_owner_between_is_followed_up_to_the_one_with_a_rule() {
        let mut owners = Owners::default();
        let pod = owned("v1", "Pod", ("kubevirt.io/v1", "VirtualMachineInstance", "vmi"), true);
        let registry = Registry::built_in();
        let missing = owners.missing(registry, &pod).cloned().unwrap();
        assert_eq!(text(&missing, "/uid"), "vmi");
        assert!(matches!(owners.standing(registry, &pod, false), Standing::Unknown { .. }));
        let mut instance = owned(
            "kubevirt.io/v1",
            "VirtualMachineInstance",
            ("kubevirt.io/v1", "VirtualMachine", "vm"),
            true,
        );
        instance["metadata"]["uid"] = json!("vmi");
        owners.note(registry, &instance);
        assert!(owners.missing(registry, &pod).is_none());
        assert_eq!(owners.standing(registry, &pod, false), Standing::Goes);
    }

    #[test]
    fn what_an_unknown_controller_owns_is_named_with_it() {
        let owners = Owners::default();
        let set = owned("apps/v1", "StatefulSet", ("example.com/v1", "Database", "d"), true);
        assert_eq!(charge(&owners, &set, false), Charge::Unknown { owner: "Database cms/o".to_owned() });
        assert_eq!(charge(&owners, &set, true), Charge::Ours);
        let collected_with = owned("apps/v1", "StatefulSet", ("v1", "ConfigMap", "c"), false);
        assert_eq!(charge(&owners, &collected_with, false), Charge::Ours);
    }

    #[test]
    fn labels_of_a_custom_resource_stand_for_an_owner_reference() {
        let mut owners = Owners::default();
        let resource = json!({"apiVersion": "acid.zalan.do/v1", "kind": "postgresql",
                              "metadata": {"name": "acid-db", "namespace": "cms", "uid": "z"}});
        owners.note(Registry::built_in(), &resource);
        let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "acid-db",
            "namespace": "cms", "labels": {"application": "spilo", "cluster-name": "acid-db"}}});
        assert_eq!(charge(&owners, &set, false), Charge::Owners);
        let mut elsewhere = set.clone();
        elsewhere["metadata"]["namespace"] = json!("shop");
        assert_eq!(charge(&owners, &elsewhere, false), Charge::Ours);
    }

    #[test]
    fn of_pods_those_that_ended_mirror_files_or_are_ours_do_not_matter_and_bare_ones_stay() {
        let standing = |change: &dyn Fn(&mut Value)| {
            let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "cms"},
                                 "spec": {}, "status": {"phase": "Running"}});
            change(&mut pod);
            Owners::default().standing(Registry::built_in(), &pod, false)
        };
        assert_eq!(standing(&|_| {}), Standing::Bare);
        assert_eq!(standing(&|pod| pod["status"]["phase"] = json!("Succeeded")), Standing::NoMatter);
        assert_eq!(
            standing(&|pod| pod["metadata"]["annotations"] = json!({MIRROR: "x"})),
            Standing::NoMatter
        );
        assert_eq!(
            standing(&|pod| pod["metadata"]["labels"] = json!({COMPONENT: "mover"})),
            Standing::NoMatter
        );
        assert_eq!(
            standing(&|pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")),
            Standing::Goes
        );
        let of = |version: &str, kind: &str| {
            let pod = owned("v1", "Pod", (version, kind, "o"), true);
            Owners::default().standing(Registry::built_in(), &pod, false)
        };
        for kind in ["ReplicaSet", "StatefulSet", "DaemonSet"] {
            assert_eq!(of("apps/v1", kind), Standing::Goes);
        }
        assert_eq!(of("batch/v1", "Job"), Standing::Goes);
        assert_eq!(of("postgresql.cnpg.io/v1", "Cluster"), Standing::Goes);
        assert_eq!(
            of("example.com/v1", "Database"),
            Standing::Unknown { owner: "Database cms/o".to_owned() }
        );
    }

    #[test]
    fn only_volumes_that_last_count_as_mounted() {
        let pod = |volume: Value| json!({"spec": {"volumes": [volume]}});
        assert!(mounts_claims(&pod(json!({"persistentVolumeClaim": {"claimName": "data"}}))));
        assert!(!mounts_claims(&pod(json!({"emptyDir": {}}))));
    }
}
