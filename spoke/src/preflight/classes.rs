//! Classes that objects name: of storage, ingress, priority and runtime. They do not go along,
//! except PriorityClasses; the destination must have them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::concern::Concern;
use super::pod_shape::{PodShape, template};
use crate::cluster::{annotation, api_version, array, describe, kind, name, text};

/// Marks the class that counts for what names none.
const DEFAULT_STORAGE: &str = "storageclass.kubernetes.io/is-default-class";
/// The same, as older clusters have it.
const OLD_DEFAULT_STORAGE: &str = "storageclass.beta.kubernetes.io/is-default-class";
/// Likewise of Ingresses.
const DEFAULT_INGRESS: &str = "ingressclass.kubernetes.io/is-default-class";
/// How Ingresses named their class once.
const OLD_INGRESS: &str = "kubernetes.io/ingress.class";
/// Priority classes that every cluster has.
const BUILT_IN: &[&str] = &["system-node-critical", "system-cluster-critical"];

/// The classes of one sort that a cluster has.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    names: BTreeSet<String>,
    default: bool,
}

/// Who names a class: the first, and how many there are.
#[derive(Clone, Debug)]
struct Users {
    first: String,
    count: u64,
}

/// The classes that the objects of a run name.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// By name; empty for those that name none.
    storage: BTreeMap<String, Users>,
    /// Of claims that workloads make for themselves.
    template_storage: BTreeMap<String, Users>,
    ingress: BTreeMap<String, Users>,
    priority: BTreeMap<String, Users>,
    runtime: BTreeMap<String, Users>,
    brought: BTreeSet<String>,
}

/// What the destination has.
#[derive(Clone, Debug, Default)]
pub struct Has {
    /// Storage classes.
    pub storage: Classes,
    /// Ingress classes.
    pub ingress: Classes,
    /// Priority classes.
    pub priority: Classes,
    /// Runtime classes.
    pub runtime: Classes,
}

impl Classes {
    /// Of the objects of one sort.
    pub fn of(objects: &[Value]) -> Self {
        let is_default = |class: &Value| {
            [DEFAULT_STORAGE, OLD_DEFAULT_STORAGE, DEFAULT_INGRESS]
                .iter()
                .any(|key| annotation(class, key) == Some("true"))
        };
        Self {
            names: objects.iter().map(|class| name(class).to_owned()).collect(),
            default: objects.iter().any(is_default),
        }
    }

    fn list(&self) -> String {
        if self.names.is_empty() {
            "none".to_owned()
        } else {
            self.names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
        }
    }
}

fn note(users: &mut BTreeMap<String, Users>, class: &str, object: &Value) {
    users.entry(class.to_owned()).or_insert_with(|| Users { first: describe(object), count: 0 }).count += 1;
}

impl Needs {
    /// Notes what an object names, as it would be applied. `new_claim`: whether it is a claim that
    /// is yet to be made; one that is there has its volume.
    pub fn see(&mut self, object: &Value, new_claim: bool) {
        match (api_version(object), kind(object)) {
            ("v1", "PersistentVolumeClaim") if new_claim && wants_a_class(object) => {
                note(&mut self.storage, class_of(object), object);
            }
            (version, "StatefulSet") if version.starts_with("apps/") => {
                for claim in array(object, "/spec/volumeClaimTemplates") {
                    if wants_a_class(claim) {
                        note(&mut self.template_storage, class_of(claim), object);
                    }
                }
            }
            (version, "Ingress") if version.starts_with("networking.k8s.io/") => {
                let class = text(object, "/spec/ingressClassName");
                if !class.is_empty() || annotation(object, OLD_INGRESS).is_none() {
                    note(&mut self.ingress, class, object);
                }
            }
            (version, "PriorityClass") if version.starts_with("scheduling.k8s.io/") => {
                self.brought.insert(name(object).to_owned());
            }
            _ => {}
        }
        if let Some(template) = template(object) {
            let shape = PodShape::of(template);
            if let Some(class) = shape.priority_class {
                note(&mut self.priority, &class, object);
            }
            if let Some(class) = shape.runtime_class {
                note(&mut self.runtime, &class, object);
            }
        }
    }

    /// Whether any class is named.
    pub fn is_empty(&self) -> bool {
        [&self.storage, &self.template_storage, &self.ingress, &self.priority, &self.runtime]
            .iter()
            .all(|users| users.is_empty())
    }

    /// What is lacking on a cluster; `starts` says whether the applications are started.
    pub fn concerns(&self, has: &Has, cluster: &str, starts: bool) -> Vec<Concern> {
        let mut concerns = Vec::new();
        let lacking = |users: &BTreeMap<String, Users>, has: &Classes| -> Vec<(String, Users)> {
            let there = |class: &str| if class.is_empty() { has.default } else { has.names.contains(class) };
            users.iter().filter(|(class, _)| !there(class)).map(|(c, u)| (c.clone(), u.clone())).collect()
        };
        for (class, users) in lacking(&self.storage, &has.storage) {
            let (reason, message) = storage(&class, &users, &has.storage, cluster);
            concerns.push(Concern::failure(users.first, reason, message));
        }
        for (class, users) in lacking(&self.template_storage, &has.storage) {
            let (reason, message) = storage(&class, &users, &has.storage, cluster);
            concerns.push(Concern::of_pods(starts, users.first, reason, message));
        }
        for (class, users) in lacking(&self.ingress, &has.ingress) {
            // Where there are no classes at all, Ingresses are served as they were before there were
            // any: by whoever takes those that name none.
            if class.is_empty() && has.ingress.names.is_empty() {
                continue;
            }
            let (reason, message) = ingress(&class, &users, &has.ingress, cluster);
            concerns.push(Concern::warning(users.first, reason, message));
        }
        for (class, users) in lacking(&self.priority, &has.priority) {
            if BUILT_IN.contains(&class.as_str()) || self.brought.contains(&class) {
                continue;
            }
            let message = format!(
                "cluster {cluster} has no priority class {class}{}, and its Pods would be refused: create it there, or \
                 migrate with includeClusterResources: Auto, which brings it along",
                more(&users)
            );
            concerns.push(Concern::of_pods(starts, users.first, "PriorityClassNotFound", message));
        }
        for (class, users) in lacking(&self.runtime, &has.runtime) {
            let message = format!(
                "cluster {cluster} has no runtime class {class}{} (it has: {}), and its Pods would be refused: create \
                 it there, or name another by a transform",
                more(&users),
                has.runtime.list()
            );
            concerns.push(Concern::of_pods(starts, users.first, "RuntimeClassNotFound", message));
        }
        concerns
    }
}

fn class_of(claim: &Value) -> &str {
    text(claim, "/spec/storageClassName")
}

/// With an empty class a claim takes a volume that somebody makes by hand, and one that names its
/// volume needs no class to have one made.
fn wants_a_class(claim: &Value) -> bool {
    text(claim, "/spec/volumeName").is_empty()
        && claim.pointer("/spec/storageClassName").and_then(Value::as_str) != Some("")
}

fn more(users: &Users) -> String {
    if users.count > 1 { format!(" (which {} objects name)", users.count) } else { String::new() }
}

fn storage(class: &str, users: &Users, has: &Classes, cluster: &str) -> (&'static str, String) {
    if class.is_empty() {
        let message = format!(
            "it names no storage class{}, and cluster {cluster} has no default one (it has: {}): annotate one there with \
             {DEFAULT_STORAGE}=true, then run again",
            more(users),
            has.list()
        );
        return ("NoDefaultStorageClass", message);
    }
    let message = format!(
        "cluster {cluster} has no storage class {class}{} (it has: {}): say by storageClassMapping which is to stand for \
         it, or create one of this name there, then run again",
        more(users),
        has.list()
    );
    ("StorageClassNotFound", message)
}

fn ingress(class: &str, users: &Users, has: &Classes, cluster: &str) -> (&'static str, String) {
    if class.is_empty() {
        let message = format!(
            "it names no ingress class{}, and cluster {cluster} has no default one (it has: {}), so nothing may serve it: \
             annotate one there with {DEFAULT_INGRESS}=true",
            more(users),
            has.list()
        );
        return ("NoDefaultIngressClass", message);
    }
    let message = format!(
        "cluster {cluster} has no ingress class {class}{} (it has: {}), so nothing may serve it: say by \
         ingressClassMapping which is to stand for it, or create one of this name there",
        more(users),
        has.list()
    );
    ("IngressClassNotFound", message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::preflight::concern::Severity;

    fn claim(class: &Value) -> Value {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "cms"},
               "spec": {"storageClassName": class}})
    }

    fn classes(names: &[&str], default: bool) -> Classes {
        Classes { names: names.iter().map(ToString::to_string).collect(), default }
    }

    fn reasons(objects: &[Value], has: &Has, starts: bool) -> Vec<String> {
        let mut needs = Needs::default();
        for object in objects {
            needs.see(object, true);
        }
        let word = |concern: &Concern| match concern.severity {
            Severity::Failure => concern.finding.reason.clone(),
            Severity::Warning => format!("{} (warning)", concern.finding.reason),
        };
        needs.concerns(has, "west", starts).iter().map(word).collect()
    }

    #[test]
    fn a_lacking_storage_class_is_named_with_those_that_are_there() {
        let mut needs = Needs::default();
        needs.see(&claim(&json!("fast")), true);
        needs.see(&claim(&json!("fast")), true);
        let has = Has { storage: classes(&["slow"], true), ..Has::default() };
        let found = needs.concerns(&has, "west", false);
        let said = &found[0].finding;
        assert_eq!(
            (said.object.as_str(), said.reason.as_str()),
            ("PersistentVolumeClaim cms/data", "StorageClassNotFound")
        );
        for part in ["fast", "slow", "2 objects", "storageClassMapping"] {
            assert!(said.message.contains(part), "{}", said.message);
        }
    }

    #[test]
    fn a_claim_without_a_class_needs_a_default_one_unless_it_wants_none() {
        let none = Has { storage: classes(&["slow"], false), ..Has::default() };
        assert_eq!(reasons(&[claim(&Value::Null)], &none, false), ["NoDefaultStorageClass"]);
        assert!(reasons(&[claim(&json!(""))], &none, false).is_empty());
        let default = Has { storage: classes(&["slow"], true), ..Has::default() };
        assert!(reasons(&[claim(&Value::Null)], &default, false).is_empty());
        let mut there = Needs::default();
        there.see(&claim(&json!("gone")), false);
        assert!(there.is_empty(), "a claim that is there has its volume");
    }

    #[test]
    fn classes_of_pods_are_in_the_way_of_whoever_starts_them() {
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "a"},
            "spec": {"template": {"spec": {"priorityClassName": "gold", "runtimeClassName": "gvisor", "containers": []}}}});
        let has = Has::default();
        assert_eq!(
            reasons(std::slice::from_ref(&deployment), &has, true),
            ["PriorityClassNotFound", "RuntimeClassNotFound"]
        );
        assert_eq!(
            reasons(std::slice::from_ref(&deployment), &has, false),
            ["PriorityClassNotFound (warning)", "RuntimeClassNotFound (warning)"]
        );
        let gold = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "gold"}});
        assert_eq!(
            reasons(&[gold, deployment.clone()], &has, true),
            ["RuntimeClassNotFound"],
            "it comes along"
        );
        let mut system = deployment;
        system["spec"]["template"]["spec"]["priorityClassName"] = json!("system-node-critical");
        assert_eq!(reasons(&[system], &has, true), ["RuntimeClassNotFound"]);
    }

    #[test]
    fn an_ingress_that_nothing_would_serve_is_a_warning() {
        let ingress = |class: Value, annotations: Value| {
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": {"ingressClassName": class},
                   "metadata": {"name": "web", "namespace": "a", "annotations": annotations}})
        };
        let has = Has { ingress: classes(&["nginx"], false), ..Has::default() };
        assert_eq!(
            reasons(&[ingress(json!("alb"), json!({}))], &has, true),
            ["IngressClassNotFound (warning)"]
        );
        assert_eq!(
            reasons(&[ingress(Value::Null, json!({}))], &has, true),
            ["NoDefaultIngressClass (warning)"]
        );
        assert!(reasons(&[ingress(json!("nginx"), json!({}))], &has, true).is_empty());
        assert!(reasons(&[ingress(Value::Null, json!({OLD_INGRESS: "alb"}))], &has, true).is_empty());
    }
}
