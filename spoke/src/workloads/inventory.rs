//! What runs in namespaces, read at once: workloads, custom resources with rules, Pods, and what owns
//! them.

use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;

use super::charge::{MAX_CHAIN, Owners, is_own};
use super::rules::Registry;
use super::state::SWITCHES;
use crate::cluster::{Catalogue, Cluster, ClusterError, Kind, namespace, text};

/// Workloads of one kind and namespace that are looked at.
const MAX_WORKLOADS: usize = 20_000;
/// Pods of a namespace that are looked at.
const MAX_PODS: usize = 20_000;
/// Owners that are read because nothing else tells what they are.
const MAX_OWNERS: usize = 2_000;
/// Kinds that are listed at a time.
const PARALLEL_KINDS: usize = 4;

/// A workload, or a custom resource that is stopped by a rule.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its kind.
    pub kind: Kind,
    /// The object.
    pub object: Value,
}

impl Workload {
    /// Where it is.
    pub fn path(&self) -> String {
        self.kind.object(Some(namespace(&self.object)), text(&self.object, "/metadata/name"))
    }
}

/// Reads namespaces by what can be stopped.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// What it serves.
    pub catalogue: &'a Catalogue,
    /// How things are stopped.
    pub registry: &'a Registry,
}

impl Reader<'_> {
    /// Everything in a namespace that can be stopped, whoever stops it; our own movers aside.
    pub async fn workloads(&self, namespace: &str) -> Result<Vec<Workload>, ClusterError> {
        let switches = SWITCHES.iter().map(|(group, kind, _)| (*group, *kind));
        let kinds: Vec<Kind> = switches
            .chain(self.registry.kinds())
            .filter_map(|(group, kind)| self.catalogue.preferred(group, kind))
            .filter(|kind| kind.namespaced)
            .cloned()
            .collect();
        let lists: Vec<_> = kinds.into_iter().map(|kind| self.of_kind(kind, namespace)).collect();
        let lists: Vec<Vec<Workload>> = stream::iter(lists).buffered(PARALLEL_KINDS).try_collect().await?;
        Ok(lists.into_iter().flatten().collect())
    }

    async fn of_kind(&self, kind: Kind, namespace: &str) -> Result<Vec<Workload>, ClusterError> {
        let objects = self.cluster.list(&kind.collection(Some(namespace)), "", MAX_WORKLOADS).await?;
        let others = objects.into_iter().filter(|object| !is_own(object));
        Ok(others.map(|object| Workload { kind: kind.clone(), object }).collect())
    }

    /// The Pods of a namespace.
    pub async fn pods(&self, namespace: &str) -> Result<Vec<Value>, ClusterError> {
        self.cluster.list(&format!("/api/v1/namespaces/{namespace}/pods"), "", MAX_PODS).await
    }

    /// Reads the owners of objects until it is known what runs each; those that are gone, or that may
    /// not be read, stay unknown.
    pub async fn complete<'a>(
        &self,
        owners: &mut Owners,
        objects: impl Iterator<Item = &'a Value>,
    ) -> Result<(), ClusterError> {
        let mut read = 0;
        for object in objects {
            for _ in 0..MAX_CHAIN {
                let Some(reference) = owners.missing(self.registry, object) else { break };
                let kind = self.catalogue.find(text(reference, "/apiVersion"), text(reference, "/kind"));
                let Some(kind) = kind.filter(|_| read < MAX_OWNERS) else { break };
                let path = kind.object(Some(namespace(object)), text(reference, "/name"));
                let wanted = text(reference, "/uid").to_owned();
                read += 1;
                let found = match self.cluster.find(&path).await {
                    Err(error) if matches!(error.code(), Some(403 | 405)) => None,
                    found => found?,
                };
                match found.filter(|owner| text(owner, "/metadata/uid") == wanted) {
                    Some(owner) => owners.note(self.registry, &owner),
                    None => break,
                }
            }
        }
        Ok(())
    }
}
