//! Owner references, rebuilt where both ends are taken: the source's name, the destination's uid.
//!
//! Objects that are taken though they are owned stand at the end of a namespace's archive, so
//! their owners are there when they come. An owner that is not there, or that no migration
//! brought, is dropped with a warning: a reference to nothing would make the garbage collector
//! delete the object.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::decision::is_ours;
use super::problem::{Problem, refused};
use crate::cluster::{Catalogue, Cluster, Kind, array, describe, text, uid};
use isthmus_shared::resources::Finding;

use crate::findings::finding;

/// Owners that are remembered.
const MAX_KNOWN: usize = 10_000;

/// Finds owners on the destination.
pub struct Owners<'a> {
    cluster: &'a Cluster,
    catalogue: &'a Catalogue,
    /// Uids by path; none for what is not there or not ours.
    known: Mutex<HashMap<String, Option<String>>>,
}

/// The references as they are to arrive, and what was dropped.
#[derive(Debug, Default)]
pub struct Rebuilt {
    /// The owner references.
    pub references: Vec<Value>,
    /// What a person should know.
    pub dropped: Vec<Finding>,
}

impl<'a> Owners<'a> {
    /// Looks in this cluster.
    pub fn new(cluster: &'a Cluster, catalogue: &'a Catalogue) -> Self {
        Self { cluster, catalogue, known: Mutex::default() }
    }

    /// The owner references of an object that comes to a namespace of the destination.
    pub async fn rebuild(&self, object: &Value, namespace: &str) -> Result<Rebuilt, Problem> {
        let mut rebuilt = Rebuilt::default();
        for reference in array(object, "/metadata/ownerReferences") {
            let kind = same_kind(self.catalogue, reference);
            let uid = match kind {
                Some(kind) => self.uid_of(kind, namespace, text(reference, "/name")).await?,
                None => None,
            };
            match (kind, uid) {
                (Some(kind), Some(uid)) => rebuilt.references.push(renewed(reference, kind, &uid)),
                _ => rebuilt.dropped.push(finding(
                    describe(object),
                    "OwnerMissing",
                    format!(
                        "its owner, the {} {}, was not brought to the destination, so it arrives without it: bring \
                         the owner too if it is to be removed with it",
                        text(reference, "/kind"),
                        text(reference, "/name")
                    ),
                )),
            }
        }
        Ok(rebuilt)
    }

    async fn uid_of(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Option<String>, Problem> {
        let path = kind.object(Some(namespace), name);
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&path) {
            return Ok(known.clone());
        }
        let live = self.cluster.find(&path).await.map_err(|e| refused(&e))?;
        let found = live.filter(is_ours).map(|live| uid(&live).to_owned());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MAX_KNOWN {
            known.insert(path, found.clone());
        }
        Ok(found)
    }
}

/// The owner's kind as the destination serves it, in whichever version.
fn same_kind<'c>(catalogue: &'c Catalogue, reference: &Value) -> Option<&'c Kind> {
    let (api_version, kind) = (text(reference, "/apiVersion"), text(reference, "/kind"));
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    catalogue.find(api_version, kind).or_else(|| catalogue.preferred(group, kind))
}

fn renewed(reference: &Value, kind: &Kind, uid: &str) -> Value {
    let api_version =
        if kind.group.is_empty() { kind.version.clone() } else { format!("{}/{}", kind.group, kind.version) };
    let mut renewed = json!({
        "apiVersion": api_version,
        "kind": kind.kind,
        "name": text(reference, "/name"),
        "uid": uid,
    });
    for field in ["controller", "blockOwnerDeletion"] {
        if let Some(value) = reference.get(field) {
            renewed[field] = value.clone();
        }
    }
    renewed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_keeps_what_it_says_and_gets_the_destinations_uid_and_version() {
        let kind = Kind {
            group: "example.com".to_owned(),
            version: "v2".to_owned(),
            kind: "Database".to_owned(),
            plural: "databases".to_owned(),
            namespaced: true,
            verbs: Vec::new(),
        };
        let catalogue = Catalogue::of(vec![kind]);
        let reference = json!({"apiVersion": "example.com/v1", "kind": "Database", "name": "db", "uid": "old",
                               "controller": true, "blockOwnerDeletion": true});
        let kind = same_kind(&catalogue, &reference).unwrap();
        assert_eq!(
            renewed(&reference, kind, "new"),
            json!({"apiVersion": "example.com/v2", "kind": "Database", "name": "db", "uid": "new",
                   "controller": true, "blockOwnerDeletion": true})
        );
        assert!(same_kind(&catalogue, &json!({"apiVersion": "v1", "kind": "Database"})).is_none());
    }
}
