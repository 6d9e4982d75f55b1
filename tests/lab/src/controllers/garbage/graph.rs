//! Who owns whom, and what is to be done about it.

use std::collections::{HashMap, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::discovery::ApiResource;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// A kind that is watched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    pub resource: ApiResource,
    pub namespaced: bool,
}

/// An object, reduced to what matters here.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub kind: Kind,
    pub uid: String,
    pub namespace: Option<String>,
    pub name: String,
    pub version: Option<String>,
    pub deleting: bool,
    pub finalizers: Vec<String>,
    pub owners: Vec<OwnerReference>,
}

/// An owner that is not in the graph.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Owner {
    pub uid: String,
    pub name: String,
    /// Unknown when the API server does not offer the kind.
    pub kind: Option<Kind>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    /// A dependent of an owner that waits for it.
    DeleteDependent { node: Node, foreground: bool },
    /// The owner has waited for, or let go of, its dependents.
    RemoveFinalizer { node: Node, finalizer: &'static str },
    /// A dependent of an owner that is to leave it behind.
    Disown { node: Node, owner: String },
    /// None of the owners is known; ask for each before deleting.
    DeleteIfOrphaned { node: Node, owners: Vec<Owner> },
}

/// All objects, by uid.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
    /// Kinds whose objects are all known.
    listed: HashSet<Kind>,
    /// Owners that were asked for and are there, although no watch has shown them.
    seen: HashSet<String>,
}

impl Graph {
    /// Takes the whole list of a kind.
    pub fn replace(&mut self, kind: &Kind, nodes: Vec<Node>) {
        self.nodes.retain(|_, node| node.kind != *kind);
        self.nodes.extend(nodes.into_iter().map(|node| (node.uid.clone(), node)));
        self.listed.insert(kind.clone());
    }

    pub fn apply(&mut self, node: Node) {
        self.nodes.insert(node.uid.clone(), node);
    }

    pub fn delete(&mut self, uid: &str) {
        self.nodes.remove(uid);
        self.seen.remove(uid);
    }

    /// The kind is not offered any more.
    pub fn forget(&mut self, kind: &Kind) {
        self.nodes.retain(|_, node| node.kind != *kind);
        self.listed.remove(kind);
    }

    /// The owner is there after all.
    pub fn seen(&mut self, uid: &str) {
        self.seen.insert(uid.to_owned());
    }

    /// What the graph asks for now.
    pub fn acts(&self) -> Vec<Act> {
        let mut dependents: HashMap<&str, Vec<&Node>> = HashMap::new();
        for node in self.nodes.values() {
            for owner in &node.owners {
                dependents.entry(owner.uid.as_str()).or_default().push(node);
            }
        }
        let mut acts = Vec::new();
        for node in self.nodes.values() {
            let own = dependents.get(node.uid.as_str()).map(Vec::as_slice).unwrap_or_default();
            if node.deleting {
                acts.extend(leave(node, own));
            } else if !node.owners.is_empty() {
                acts.extend(self.orphaned(node));
            }
        }
        acts
    }

    fn orphaned(&self, node: &Node) -> Option<Act> {
        let known =
            |owner: &OwnerReference| self.nodes.contains_key(&owner.uid) || self.seen.contains(&owner.uid);
        if node.owners.iter().any(known) {
            return None;
        }
        let owners: Vec<Owner> = node
            .owners
            .iter()
            .map(|owner| Owner {
                uid: owner.uid.clone(),
                name: owner.name.clone(),
                kind: self.kind_of(owner),
            })
            .collect();
        // A kind that is still being listed may yet show the owner.
        owners
            .iter()
            .all(|owner| owner.kind.is_some())
            .then(|| Act::DeleteIfOrphaned { node: node.clone(), owners })
    }

    fn kind_of(&self, owner: &OwnerReference) -> Option<Kind> {
        let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        self.listed
            .iter()
            .find(|kind| kind.resource.kind == owner.kind && kind.resource.group == group)
            .cloned()
    }
}

/// What an object that is being deleted asks for.
fn leave(node: &Node, dependents: &[&Node]) -> Vec<Act> {
    let has = |finalizer: &str| node.finalizers.iter().any(|name| name == finalizer);
    if has(ORPHAN) {
        if dependents.is_empty() {
            return vec![Act::RemoveFinalizer { node: node.clone(), finalizer: ORPHAN }];
        }
        let disown = |dependent: &&Node| Act::Disown { node: (*dependent).clone(), owner: node.uid.clone() };
        return dependents.iter().map(disown).collect();
    }
    if !has(FOREGROUND) {
        return Vec::new();
    }
    let blocks = |dependent: &Node| {
        let reference = dependent.owners.iter().find(|owner| owner.uid == node.uid);
        reference.is_some_and(|owner| owner.block_owner_deletion == Some(true))
    };
    if !dependents.iter().any(|dependent| blocks(dependent)) {
        return vec![Act::RemoveFinalizer { node: node.clone(), finalizer: FOREGROUND }];
    }
    let waiting = dependents.iter().filter(|dependent| !dependent.deleting);
    waiting
        .map(|dependent| Act::DeleteDependent { node: (*dependent).clone(), foreground: blocks(dependent) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind() -> Kind {
        let gvk = kube::core::GroupVersionKind::gvk("apps", "v1", "ReplicaSet");
        Kind { resource: ApiResource::from_gvk(&gvk), namespaced: true }
    }

    fn node(uid: &str, owner: Option<&str>) -> Node {
        Node {
            kind: kind(),
            uid: uid.to_owned(),
            namespace: Some("n".to_owned()),
            name: uid.to_owned(),
            version: None,
            deleting: false,
            finalizers: Vec::new(),
            owners: owner
                .map(|uid| OwnerReference {
                    api_version: "apps/v1".to_owned(),
                    kind: "ReplicaSet".to_owned(),
                    name: uid.to_owned(),
                    uid: uid.to_owned(),
                    block_owner_deletion: Some(true),
                    ..OwnerReference::default()
                })
                .into_iter()
                .collect(),
        }
    }

    fn graph(nodes: Vec<Node>) -> Graph {
        let mut graph = Graph::default();
        graph.replace(&kind(), nodes);
        graph
    }

    #[test]
    fn a_dependent_of_an_owner_that_is_gone_is_deleted_after_asking() {
        let acts = graph(vec![node("child", Some("gone"))]).acts();
        assert!(matches!(&acts[..], [Act::DeleteIfOrphaned { node, .. }] if node.uid == "child"));
    }

    #[test]
    fn nothing_is_deleted_before_the_owners_kind_was_listed() {
        let mut graph = Graph::default();
        graph.apply(node("child", Some("owner")));
        assert!(graph.acts().is_empty());
    }

    #[test]
    fn a_foreground_deletion_waits_for_its_dependents() {
        let mut owner = node("owner", None);
        owner.deleting = true;
        owner.finalizers = vec![FOREGROUND.to_owned()];
        let mut graph = graph(vec![owner, node("child", Some("owner"))]);
        assert!(
            matches!(&graph.acts()[..], [Act::DeleteDependent { node, foreground: true }] if node.uid == "child")
        );
        graph.delete("child");
        assert!(matches!(&graph.acts()[..], [Act::RemoveFinalizer { finalizer: FOREGROUND, .. }]));
    }

    #[test]
    fn an_orphaning_deletion_lets_its_dependents_go_first() {
        let mut owner = node("owner", None);
        owner.deleting = true;
        owner.finalizers = vec![ORPHAN.to_owned()];
        let graph = graph(vec![owner, node("child", Some("owner"))]);
        assert!(matches!(&graph.acts()[..], [Act::Disown { node, .. }] if node.uid == "child"));
    }
}
