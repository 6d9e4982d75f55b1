//! What has been done of a run's hooks: a ConfigMap in the spoke's own namespace, by which a spoke that
//! starts anew knows what is not to be done again.
//!
//! It has a key for each hook. The spoke of a cluster is the only writer, and writes each key whole. It
//! goes when the run's clean-up has let go of everything.

use std::collections::BTreeMap;

use isthmus_shared::resources::{COMPONENT, COMPONENT_HOOK};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::pods::Target;
use crate::cluster::{Cluster, ClusterError, DeleteOptions, PatchKind, escape};
use crate::findings::shorten;
use crate::task::{Spoke, TaskError};
use crate::volumes::MIGRATION;

/// The most records that are read at a spoke's start.
const MAX_RECORDS: usize = 1_000;
/// The longest text that is kept of a failure, bytes.
const MAX_KEPT: usize = 2_048;

/// What has been done of one hook.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
struct Entry {
    /// It is not to be carried out again.
    done: bool,
    /// What it was warned of then.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
    /// How many attempts have failed.
    failed: u32,
    /// Why the last one did.
    #[serde(skip_serializing_if = "String::is_empty")]
    last: String,
    /// The uids of the Pods in which the command has returned 0.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pods: Vec<String>,
    /// Where the command goes on in the background, or may.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    held: Vec<Target>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
}

/// A command that goes on in the background, or may.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The hook.
    pub hook: String,
    /// Where.
    pub targets: Vec<Target>,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// The record of one run.
pub struct Record {
    cluster: Cluster,
    collection: String,
    migration: String,
    exists: bool,
    entries: BTreeMap<String, Entry>,
}

impl Record {
    /// Reads the record of a run.
    pub async fn open(spoke: &Spoke, migration: &str) -> Result<Self, TaskError> {
        let record = Self::read(&spoke.cluster, &spoke.namespace, migration).await;
        record.map_err(|error| failed(migration, "reading it", &error))
    }

    /// The same, for whoever tells the error otherwise.
    pub async fn read(cluster: &Cluster, namespace: &str, migration: &str) -> Result<Self, ClusterError> {
        let collection = format!("/api/v1/namespaces/{namespace}/configmaps");
        let found = cluster.find(&format!("{collection}/{}", name_of(migration))).await?;
        Ok(Self {
            cluster: cluster.clone(),
            collection,
            migration: migration.to_owned(),
            exists: found.is_some(),
            entries: found.as_ref().map(entries).unwrap_or_default(),
        })
    }

    /// The runs that there are records of.
    pub async fn migrations(cluster: &Cluster, namespace: &str) -> Result<Vec<String>, ClusterError> {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        let query = format!("labelSelector={}", escape(&format!("{COMPONENT}={COMPONENT_HOOK}")));
        let found = cluster.list(&path, &query, MAX_RECORDS).await?;
        let of = |map: &Value| crate::cluster::label(map, MIGRATION).map(str::to_owned);
        Ok(found.iter().filter_map(of).collect())
    }

    /// Whether there is a record at all.
    pub fn exists(&self) -> bool {
        self.exists
    }

    /// Whether a hook has been carried out.
    pub fn is_finished(&self, hook: &str) -> bool {
        self.entries.get(hook).is_some_and(|entry| entry.done)
    }

    /// What was warned of when a hook was carried out.
    pub fn warning(&self, hook: &str) -> Option<String> {
        self.entries.get(hook)?.warning.clone()
    }

    /// How many attempts at a hook have failed, and why the last one did.
    pub fn failed(&self, hook: &str) -> (u32, String) {
        self.entries.get(hook).map(|entry| (entry.failed, entry.last.clone())).unwrap_or_default()
    }

    /// Whether the command of a hook has returned 0 in a Pod.
    pub fn has_returned(&self, hook: &str, pod: &Target) -> bool {
        self.entries.get(hook).is_some_and(|entry| entry.pods.contains(&pod.uid))
    }

    /// The commands that go on in the background, or may.
    pub fn held(&self) -> Vec<Held> {
        let held = self.entries.iter().filter(|(_, entry)| !entry.held.is_empty());
        held.map(|(hook, entry)| Held { hook: hook.clone(), targets: entry.held.clone(), since: entry.since })
            .collect()
    }

    /// Notes that a hook has been carried out, with what was warned of.
    pub async fn finish(&mut self, hook: &str, warning: Option<&str>) -> Result<(), TaskError> {
        let warning = warning.map(kept);
        self.change(hook, |entry| {
            entry.done = true;
            entry.warning = warning;
            entry.pods.clear();
        })
        .await
    }

    /// Notes that an attempt has failed.
    pub async fn fail(&mut self, hook: &str, why: &str) -> Result<(), TaskError> {
        self.change(hook, |entry| {
            entry.failed += 1;
            entry.last = kept(why);
        })
        .await
    }

    /// Notes that the command of a hook has returned 0 in a Pod.
    pub async fn returned(&mut self, hook: &str, pod: &Target) -> Result<(), TaskError> {
        self.change(hook, |entry| entry.pods.push(pod.uid.clone())).await
    }

    /// Notes where a command is about to be begun in the background.
    pub async fn hold(&mut self, hook: &str, targets: &[Target]) -> Result<(), TaskError> {
        self.change(hook, |entry| {
            entry.since.get_or_insert_with(Timestamp::now);
            for target in targets {
                if !entry.held.contains(target) {
                    entry.held.push(target.clone());
                }
            }
        })
        .await
    }

    /// Notes that a command in the background goes on nowhere.
    pub async fn let_go(&mut self, hook: &str) -> Result<(), TaskError> {
        self.change(hook, |entry| {
            entry.held.clear();
            entry.since = None;
        })
        .await
    }

    async fn change(&mut self, hook: &str, change: impl FnOnce(&mut Entry)) -> Result<(), TaskError> {
        let entry = self.entries.entry(hook.to_owned()).or_default();
        change(entry);
        let value = serde_json::to_string(entry).unwrap_or_default();
        let data = json!({hook: value});
        self.write(&data).await.map_err(|error| failed(&self.migration, "writing it", &error))?;
        self.exists = true;
        Ok(())
    }

    async fn write(&self, data: &Value) -> Result<(), ClusterError> {
        let name = name_of(&self.migration);
        if !self.exists {
            let map = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": name, "labels": {COMPONENT: COMPONENT_HOOK, MIGRATION: self.migration}},
                "data": data
            });
            match self.cluster.make(&self.collection, &map).await {
                Ok(_) => return Ok(()),
                // An attempt before this one made it, and its answer was lost.
                Err(error) if error.is_already_exists() => {}
                Err(error) => return Err(error),
            }
        }
        let path = format!("{}/{name}", self.collection);
        self.cluster.patch(&path, &json!({"data": data}), PatchKind::Merge).await.map(drop)
    }

    /// Removes the record.
    pub async fn remove(&self) -> Result<(), TaskError> {
        let path = format!("{}/{}", self.collection, name_of(&self.migration));
        let removed = self.cluster.delete(&path, &DeleteOptions::default()).await;
        removed.map_err(|error| failed(&self.migration, "removing it", &error))
    }
}

fn name_of(migration: &str) -> String {
    format!("isthmus-hooks-{migration}")
}

fn kept(text: &str) -> String {
    let mut text = text.to_owned();
    shorten(&mut text, MAX_KEPT);
    text
}

/// What a ConfigMap holds. An entry that cannot be read is as none: its hook is carried out again.
fn entries(map: &Value) -> BTreeMap<String, Entry> {
    let data = map.get("data").and_then(Value::as_object);
    let read =
        |(hook, value): (&String, &Value)| Some((hook.clone(), serde_json::from_str(value.as_str()?).ok()?));
    data.into_iter().flatten().filter_map(read).collect()
}

fn failed(migration: &str, doing: &str, error: &ClusterError) -> TaskError {
    let doing = format!("{doing} (the record of which hooks have been carried out)");
    TaskError::cluster(format!("ConfigMap {}", name_of(migration)), &doing, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_what_cannot_be_read_is_none() {
        let target =
            Target { namespace: "cms".into(), pod: "db-0".into(), uid: "u".into(), container: "db".into() };
        let entry = Entry { failed: 1, last: "no".into(), held: vec![target], ..Entry::default() };
        let map = json!({"data": {"lock": serde_json::to_string(&entry).unwrap(), "odd": "{"}});
        assert_eq!(entries(&map), BTreeMap::from([("lock".to_owned(), entry)]));
        assert!(entries(&json!({})).is_empty());
    }
}
