//! The namespaces as the destination has them, or will have them.

use std::collections::{BTreeMap, HashSet};

use isthmus_shared::protocol::{ObjectAction, ObjectResult, Run};
use serde_json::{Map, Value, json};

use super::concern::Concern;
use crate::cluster::{Cluster, ClusterError, ObjectId, name, text};
use crate::collect::Header;
use crate::diff::{State, diff};
use crate::task::{TaskContext, TaskError};
use crate::transform::{merge, namespace_marks};

/// One namespace of the run, by its name on the destination.
#[derive(Clone, Debug)]
pub struct Place {
    /// The namespace on the source.
    pub source: Value,
    /// The namespace on the destination, if it is there.
    pub live: Option<Value>,
    /// Its labels once the run has prepared it: the destination's own, and the source's that it
    /// lacks.
    pub labels: Map<String, Value>,
    /// The names of its service accounts, where it is there.
    pub accounts: HashSet<String>,
}

impl Place {
    /// Whether the destination has it already.
    pub fn is_there(&self) -> bool {
        self.live.is_some()
    }

    /// What would become of the namespace itself.
    fn line(&self, name: &str) -> ObjectResult {
        let id = ObjectId {
            api_version: "v1".to_owned(),
            kind: "Namespace".to_owned(),
            namespace: None,
            name: name.to_owned(),
        };
        let Some(live) = &self.live else { return id.result(ObjectAction::Created) };
        let mut after = live.clone();
        for which in ["labels", "annotations"] {
            let lacking = Value::Object(namespace_marks(&self.source, live, which));
            merge(&mut after, &json!({"metadata": {which: lacking}}));
        }
        let state = |name, object| State { name, object };
        match diff(state("on the destination", live), state("after the migration", &after)) {
            None => id.result(ObjectAction::Unchanged),
            changed => ObjectResult { diff: changed, ..id.result(ObjectAction::Updated) },
        }
    }
}

/// The namespaces of a run, by their names on the destination.
#[derive(Clone, Debug, Default)]
pub struct Places(BTreeMap<String, Place>);

/// Service accounts of a namespace that are looked at.
const MAX_ACCOUNTS: usize = 5_000;

impl Places {
    /// Looks at them; what is in the way of a whole namespace goes to `concerns`.
    pub async fn look(
        context: &TaskContext,
        run: &Run,
        header: &Header,
        concerns: &mut Vec<Concern>,
    ) -> Result<Self, TaskError> {
        let mut places = BTreeMap::new();
        for source in &header.namespaces {
            let from = name(source);
            let to = run.destination_of(from);
            let object = format!("Namespace {to}");
            let failed = |doing: &str, error: &ClusterError| TaskError::cluster(object.clone(), doing, error);
            let path = format!("/api/v1/namespaces/{to}");
            let live = context.cluster().find(&path).await.map_err(|e| failed("reading it", &e))?;
            if live.as_ref().is_some_and(is_ending) {
                let message = "it is being deleted on the destination: wait until it is gone (look at its finalizers \
                               if it stays), then run again";
                concerns.push(Concern::failure(object, "NamespaceTerminating", message));
                continue;
            }
            let place = Place {
                source: source.clone(),
                labels: labels_of(source, live.as_ref()),
                accounts: match &live {
                    Some(_) => accounts(context.cluster(), to)
                        .await
                        .map_err(|e| failed("listing its service accounts", &e))?,
                    None => HashSet::new(),
                },
                live,
            };
            places.insert(to.to_owned(), place);
        }
        Ok(Self(places))
    }

    /// A namespace by its name on the destination.
    pub fn get(&self, namespace: &str) -> Option<&Place> {
        self.0.get(namespace)
    }

    /// What would become of the namespaces themselves.
    pub fn lines(&self) -> impl Iterator<Item = ObjectResult> {
        self.iter().map(|(name, place)| place.line(name))
    }

    /// Whether the destination has a namespace already.
    pub fn has(&self, namespace: &str) -> bool {
        self.get(namespace).is_some_and(Place::is_there)
    }

    /// One namespace with these labels, for tests.
    #[cfg(test)]
    pub fn of(name: &str, labels: &Value, there: bool) -> Self {
        let place = Place {
            source: Value::Null,
            live: there.then(|| json!({"metadata": {"labels": labels}})),
            labels: labels.as_object().cloned().unwrap_or_default(),
            accounts: HashSet::new(),
        };
        Self(BTreeMap::from([(name.to_owned(), place)]))
    }

    /// All of them with their names on the destination.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Place)> {
        self.0.iter().map(|(name, place)| (name.as_str(), place))
    }
}

fn is_ending(namespace: &Value) -> bool {
    !text(namespace, "/metadata/deletionTimestamp").is_empty()
}

fn labels_of(source: &Value, live: Option<&Value>) -> Map<String, Value> {
    let there = live.unwrap_or(&Value::Null);
    let own = there.pointer("/metadata/labels").and_then(Value::as_object).cloned();
    let mut labels = own.unwrap_or_default();
    labels.extend(namespace_marks(source, there, "labels"));
    labels
}

async fn accounts(cluster: &Cluster, namespace: &str) -> Result<HashSet<String>, ClusterError> {
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
    let found = cluster.list(&path, "", MAX_ACCOUNTS).await?;
    Ok(found.iter().map(|account| name(account).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_keeps_its_own_labels_and_gets_those_that_it_lacks() {
        let source =
            json!({"metadata": {"labels": {"team": "a", "pod-security.kubernetes.io/enforce": "baseline"}}});
        let live = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
        let labels = labels_of(&source, Some(&live));
        assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
        assert_eq!(labels["team"], "a");
        assert_eq!(labels_of(&source, None)["pod-security.kubernetes.io/enforce"], "baseline");
    }

    #[test]
    fn a_namespace_has_a_line_that_says_what_would_become_of_it() {
        let place = |live: Option<Value>| Place {
            source: json!({"metadata": {"labels": {"team": "a"}}}),
            live,
            labels: Map::new(),
            accounts: HashSet::new(),
        };
        assert_eq!(place(None).line("cms").action, ObjectAction::Created);
        let same = place(Some(json!({"metadata": {"name": "cms", "labels": {"team": "b"}}}))).line("cms");
        assert_eq!((same.action, same.diff), (ObjectAction::Unchanged, None));
        let changed = place(Some(json!({"metadata": {"name": "cms", "labels": {}}}))).line("cms");
        assert!(changed.diff.is_some_and(|diff| diff.contains("+    team: a")));
    }
}
