//! What the objects taken refer to in cluster scope.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::cluster::{ObjectId, annotation, api_version, array, kind, name, namespace, text};

/// Where kinds hold the template of their Pods; custom workloads mostly keep to the first.
const POD_SPECS: &[&str] = &["/spec/template/spec", "/spec/jobTemplate/spec/template/spec", "/template/spec"];

const ACCOUNT: &str = "ServiceAccount";
const SERVICE: &str = "Service";

/// What the objects taken need, as far as it was read.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// The namespaces' names on the source.
    namespaces: BTreeSet<String>,
    /// Service accounts and Services that neither go along nor come to be on the destination, as
    /// kind, namespace and name: what refers to them is not needed there.
    staying: BTreeSet<(&'static str, String, String)>,
    /// ClusterRoles that RoleBindings refer to.
    pub cluster_roles: BTreeSet<String>,
    /// PriorityClasses that Pods name.
    pub priority_classes: BTreeSet<String>,
    /// Storage classes that claims name, and how many do; `""` where none is named.
    pub storage_classes: BTreeMap<String, u64>,
    /// What the names of claims begin with that StatefulSets make: their namespace, and
    /// `<template>-<set>-`.
    pub claim_templates: BTreeSet<(String, String)>,
    /// Ingress classes, likewise.
    pub ingress_classes: BTreeMap<String, u64>,
}

impl Needs {
    /// Of these namespaces.
    pub fn of<'a>(namespaces: impl IntoIterator<Item = &'a str>) -> Self {
        Self { namespaces: namespaces.into_iter().map(str::to_owned).collect(), ..Self::default() }
    }

    /// Notes what an object that is taken refers to.
    pub fn note(&mut self, object: &Value) {
        let group = api_version(object).split_once('/').map_or("", |(group, _)| group);
        match (group, kind(object)) {
            ("", "PersistentVolumeClaim") => self.claim(object),
            ("", "Pod") => self.pod(object.get("spec")),
            ("rbac.authorization.k8s.io", "RoleBinding") => self.cluster_roles.extend(bound_role(object)),
            ("networking.k8s.io" | "extensions", "Ingress") => {
                let class = match text(object, "/spec/ingressClassName") {
                    "" => annotation(object, "kubernetes.io/ingress.class").unwrap_or_default(),
                    class => class,
                };
                *self.ingress_classes.entry(class.to_owned()).or_default() += 1;
            }
            _ => {
                for pointer in POD_SPECS {
                    self.pod(object.pointer(pointer));
                }
                for claim in array(object, "/spec/volumeClaimTemplates") {
                    let made = format!("{}-{}-", name(claim), name(object));
                    self.claim_templates.insert((namespace(object).to_owned(), made));
                    self.claim(claim);
                }
            }
        }
    }

    /// Notes what does not go along.
    pub fn note_staying(&mut self, id: &ObjectId, reason: &str) {
        let kind = match (id.group(), id.kind.as_str()) {
            ("", "ServiceAccount") => ACCOUNT,
            ("", "Service") => SERVICE,
            _ => return,
        };
        if !matches!(reason, "Generated" | "Owned") {
            self.staying.insert((kind, id.namespace.clone().unwrap_or_default(), id.name.clone()));
        }
    }

    /// Whether something of the namespaces will be on the destination.
    fn will_be(&self, kind: &'static str, namespace: &str, name: &str) -> bool {
        self.namespaces.contains(namespace)
            && !self.staying.contains(&(kind, namespace.to_owned(), name.to_owned()))
    }

    fn claim(&mut self, claim: &Value) {
        let class = text(claim, "/spec/storageClassName");
        *self.storage_classes.entry(class.to_owned()).or_default() += 1;
    }

    fn pod(&mut self, spec: Option<&Value>) {
        let class = spec.map_or("", |spec| text(spec, "/priorityClassName"));
        if !class.is_empty() {
            self.priority_classes.insert(class.to_owned());
        }
    }

    /// Whether a ClusterRoleBinding binds a service account of the namespaces, or all of one's.
    pub fn is_bound_by(&self, binding: &Value) -> bool {
        array(binding, "/subjects").iter().any(|subject| match text(subject, "/kind") {
            ACCOUNT => self.will_be(ACCOUNT, text(subject, "/namespace"), text(subject, "/name")),
            "Group" => text(subject, "/name")
                .strip_prefix("system:serviceaccounts:")
                .is_some_and(|namespace| self.namespaces.contains(namespace)),
            "User" => text(subject, "/name")
                .strip_prefix("system:serviceaccount:")
                .and_then(|rest| rest.split_once(':'))
                .is_some_and(|(namespace, name)| self.will_be(ACCOUNT, namespace, name)),
            _ => false,
        })
    }

    /// Whether a webhook configuration calls a service in the namespaces. One whose service stays
    /// would refuse what it is asked about, wherever it is brought.
    pub fn is_called_by(&self, configuration: &Value) -> bool {
        array(configuration, "/webhooks").iter().any(|webhook| {
            let place = |part: &str| text(webhook, &format!("/clientConfig/service/{part}")).to_owned();
            self.will_be(SERVICE, &place("namespace"), &place("name"))
        })
    }

    /// Whether an APIService is served from the namespaces.
    pub fn is_serving(&self, api_service: &Value) -> bool {
        let (namespace, name) =
            (text(api_service, "/spec/service/namespace"), text(api_service, "/spec/service/name"));
        self.will_be(SERVICE, namespace, name)
    }
}

/// The ClusterRole that a binding refers to, if it is one.
pub fn bound_role(binding: &Value) -> Option<String> {
    (text(binding, "/roleRef/kind") == "ClusterRole").then(|| text(binding, "/roleRef/name").to_owned())
}
