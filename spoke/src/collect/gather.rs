//! Gathering: everything that a run takes is read, chosen and handed to a [`Sink`], object by
//! object. Preflight and export both gather, so that they can never choose differently.
//!
//! ```text
//!   reading ──▶ selection ──▶ ownership ──▶ Sink: taken, or left behind with a reason
//!                                 │
//!                               needs ──▶ cluster scope: read once the namespaces are known (Auto;
//!                                         None, to tell what stays), or before them, as owners of
//!                                         what they hold (All)
//! ```
//!
//! Objects are handed over in the order in which they are to be applied, those that owners held
//! back at the end of their namespace. Memory holds some pages, never a namespace.

mod cluster;
mod scope_reading;
mod sink;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use isthmus_shared::protocol::{ObjectAction, ObjectResult};
use isthmus_shared::resources::{IncludeClusterResources, ResourceCounts};
use serde_json::Value;

use super::cluster_scope::Needs;
use super::inventory::KindCount;
use super::kinds::{Reading, is_built_in};
use super::ownership::Fate;
use super::scope::Scope;
use super::selection::Choice;
use crate::cluster::{Cluster, ObjectId};
use crate::findings::{Findings, finding};
use crate::task::TaskError;

pub use sink::{Place, Sink};

/// The most objects of one migration.
pub const MAX_OBJECTS: u64 = 200_000;
/// The most claims of one migration: the inventory's header lists them all.
pub const MAX_CLAIMS: usize = 2_000;

/// What was gathered.
#[derive(Debug, Default)]
pub struct Gathered {
    /// `total` and `left_behind` are set.
    pub counts: ResourceCounts,
    /// The kinds of which objects are taken.
    pub kinds: Vec<KindCount>,
    /// All claims that are taken, untouched.
    pub claims: Vec<Value>,
    /// What the objects refer to.
    pub needs: Needs,
    /// What is in the way of taking them.
    pub failures: Findings,
}

/// Reads everything of these namespaces, and what it needs of cluster scope.
pub async fn gather<S: Sink>(
    cluster: &Cluster,
    scope: &Scope,
    namespaces: &[&str],
    sink: &mut S,
) -> Result<Gathered, TaskError> {
    let mut gathering = Gathering {
        cluster,
        scope,
        sink,
        needs: Needs::of(namespaces.iter().copied()),
        counts: ResourceCounts::default(),
        taken: BTreeMap::new(),
        definitions: BTreeSet::new(),
        cluster_fates: HashMap::new(),
        claims: Vec::new(),
        claims_by_type: 0,
    };
    if scope.mode == IncludeClusterResources::All {
        gathering.everything_of_cluster_scope().await?;
    }
    for namespace in namespaces {
        gathering.namespace(namespace).await?;
    }
    match scope.mode {
        // With `None` nothing of it is taken, but told; the archive of cluster scope is empty then.
        IncludeClusterResources::Auto | IncludeClusterResources::None => {
            gathering.needs_of_cluster_scope().await?;
        }
        IncludeClusterResources::All => {}
    }
    Ok(gathering.end())
}

/// A kind by its group and name.
type KindKey = (String, String);

struct Gathering<'a, S> {
    cluster: &'a Cluster,
    scope: &'a Scope,
    sink: &'a mut S,
    needs: Needs,
    counts: ResourceCounts,
    /// How many objects of a kind are taken.
    taken: BTreeMap<KindKey, u64>,
    /// The names of the custom resource definitions that go along.
    definitions: BTreeSet<String>,
    /// What became of objects of cluster scope, as owners.
    cluster_fates: HashMap<[u8; 16], Fate>,
    claims: Vec<Value>,
    /// Claims that the run's types leave behind.
    claims_by_type: u64,
}

impl<S: Sink> Gathering<'_, S> {
    async fn take(&mut self, reading: &Reading, object: Value) -> Result<(), TaskError> {
        self.sink.take(&object).await?;
        self.counts.total += 1;
        if self.counts.total > MAX_OBJECTS {
            let message =
                format!("there are more than {MAX_OBJECTS} objects: migrate fewer namespaces at once");
            return Err(TaskError::failed("the migration", "TooManyObjects", message));
        }
        let kind = &reading.kind;
        *self.taken.entry((kind.group.clone(), kind.kind.clone())).or_default() += 1;
        self.needs.note(&object);
        if kind.kind == "CustomResourceDefinition" && kind.group == "apiextensions.k8s.io" {
            self.definitions.insert(crate::cluster::name(&object).to_owned());
        }
        if kind.kind == "PersistentVolumeClaim" && kind.group.is_empty() {
            self.claims.push(object);
            if self.claims.len() > MAX_CLAIMS {
                let message =
                    format!("there are more than {MAX_CLAIMS} claims: migrate fewer namespaces at once");
                return Err(TaskError::failed("the migration", "TooManyClaims", message));
            }
        }
        Ok(())
    }

    async fn leave(&mut self, id: &ObjectId, reason: &str, message: &str) -> Result<(), TaskError> {
        self.counts.left_behind += 1;
        if reason.starts_with("Type") && id.kind == "PersistentVolumeClaim" && id.group().is_empty() {
            self.claims_by_type += 1;
        }
        self.needs.note_staying(id, reason);
        let result = ObjectResult {
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            ..id.result(ObjectAction::LeftBehind)
        };
        self.sink.leave(&result).await
    }

    /// Hands an object over as it was chosen.
    async fn settle(&mut self, reading: &Reading, object: Value, choice: Choice) -> Result<(), TaskError> {
        match choice {
            Choice::Keep => self.take(reading, object).await,
            Choice::LeaveBehind { reason, message } => {
                self.leave(&ObjectId::of(&object), reason, &message).await
            }
        }
    }

    fn end(self) -> Gathered {
        let Self { scope, sink, needs, counts, taken, definitions, claims, claims_by_type, .. } = self;
        if claims_by_type > 0 {
            sink.warn(finding(
                "the volumes",
                "ClaimsNotIncluded",
                format!(
                    "{claims_by_type} claims are left behind by includedResourceTypes or excludedResourceTypes, and \
                     their data with them: take PersistentVolumeClaim along if it matters"
                ),
            ));
        }
        let mut kinds = Vec::new();
        let mut failures = Findings::default();
        for reading in scope.namespaced.iter().chain(&scope.clustered) {
            let kind = &reading.kind;
            let Some(count) = taken.get(&(kind.group.clone(), kind.kind.clone())).copied() else { continue };
            let crd = definitions.contains(&definition_name(reading));
            failures.extend(scope.disagreement(reading, count, crd));
            kinds.push(KindCount {
                versions: scope.source.versions(&kind.group, &kind.kind),
                group: kind.group.clone(),
                version: kind.version.clone(),
                kind: kind.kind.clone(),
                plural: kind.plural.clone(),
                count,
                crd,
            });
        }
        Gathered { counts, kinds, claims, needs, failures }
    }
}

/// The name of the definition of a kind, if it is a custom one.
fn definition_name(reading: &Reading) -> String {
    if is_built_in(&reading.kind.group) { String::new() } else { reading.kind.resource() }
}

#[cfg(test)]
mod tests;
