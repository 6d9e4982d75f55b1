//! One object on its way into the destination.

use isthmus_shared::resources::MIGRATED_BY;
use serde_json::Value;

use crate::cluster::{
    Catalogue, Cluster, ClusterError, Kind, PatchKind, api_version, kind, label, name, namespace, text,
};
use crate::transform::{Arrival, Rewriter, TransformError};
use crate::workloads::state;

const APPLY: PatchKind = PatchKind::Apply { force: true, dry_run: false };
const TRY: PatchKind = PatchKind::Apply { force: true, dry_run: true };

/// What was done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was made.
    Created,
    /// It was changed.
    Updated,
    /// It was so already.
    Unchanged,
}

/// Why an object could not be applied.
#[derive(Clone, Debug)]
pub struct Problem {
    /// One word in CamelCase.
    pub reason: String,
    /// What was the matter and what to do.
    pub message: String,
    /// Whether another object of the run may resolve it.
    pub may_resolve: bool,
    /// Whether the API server is to be asked again rather than a person.
    pub transient: bool,
}

/// Applies objects for one run.
#[derive(Clone, Copy)]
pub struct Applier<'a> {
    /// The destination.
    pub cluster: &'a Cluster,
    /// What it serves.
    pub catalogue: &'a Catalogue,
    /// How objects are rewritten.
    pub rewriter: &'a Rewriter,
    /// The migration's uid.
    pub migration: &'a str,
    /// Whether the applications are to run in the end.
    pub start: bool,
}

impl From<TransformError> for Problem {
    fn from(error: TransformError) -> Self {
        Self {
            reason: "TransformFailed".to_owned(),
            message: error.to_string(),
            may_resolve: false,
            transient: false,
        }
    }
}

/// Whether an object carries our mark.
pub fn is_ours(object: &Value) -> bool {
    label(object, MIGRATED_BY).is_some_and(|by| !by.is_empty())
}

impl Applier<'_> {
    /// Brings an object, as it was on the source, to the destination.
    pub async fn apply(&self, object: Value) -> Result<Applied, Problem> {
        let kind = self.kind_of(&object)?;
        let path = kind.object(Some(namespace(&object)).filter(|n| !n.is_empty()), name(&object));
        let live = self.cluster.find(&path).await.map_err(|e| refused(&e))?;
        match live {
            None => self.create(kind, &path, object).await,
            Some(live) if !is_ours(&live) => Err(taken(&live)),
            Some(live) if !text(&live, "/metadata/deletionTimestamp").is_empty() => Err(Problem {
                reason: "BeingDeleted".to_owned(),
                message:
                    "an earlier one of this name is still being deleted on the destination: look at its \
                          finalizers, and run again once it is gone"
                        .to_owned(),
                may_resolve: true,
                transient: false,
            }),
            Some(live) => self.update(&path, object, live).await,
        }
    }

    fn rewritten(&self, object: Value, mark: &str, stopped: bool) -> Result<Value, Problem> {
        let arrival = Arrival { mark, stopped, ..Arrival::default() };
        Ok(self.rewriter.rewrite(object, &arrival)?.object)
    }

    fn kind_of(&self, object: &Value) -> Result<&Kind, Problem> {
        self.catalogue.find(api_version(object), kind(object)).ok_or_else(|| Problem {
            reason: "KindNotServed".to_owned(),
            message: format!(
                "the destination does not serve {} {}: install what serves it there, or leave these objects behind \
                 with the annotation isthmus.dev/skip",
                api_version(object),
                kind(object)
            ),
            may_resolve: true,
            transient: false,
        })
    }

    async fn create(&self, kind: &Kind, path: &str, object: Value) -> Result<Applied, Problem> {
        let place = Some(namespace(&object).to_owned()).filter(|n| !n.is_empty());
        let wanted = self.rewritten(object, self.migration, true)?;
        match self.cluster.patch(path, &wanted, APPLY).await {
            Ok(_) => Ok(Applied::Created),
            // Lists that hold a key twice are taken by a creation, and not by an apply.
            Err(error) if error.message().contains("duplicate entries for key") => {
                let collection = kind.collection(place.as_deref());
                self.cluster.create(&collection, &wanted).await.map_err(|e| refused(&e))?;
                Ok(Applied::Created)
            }
            Err(error) => Err(refused(&error)),
        }
    }

    async fn update(&self, path: &str, object: Value, live: Value) -> Result<Applied, Problem> {
        // What runs already is not stopped by a run that is to leave it running.
        let stopped = !self.start || state::is_stopped(&live);
        let mark = label(&live, MIGRATED_BY).unwrap_or(self.migration);
        let same = self.rewritten(object.clone(), mark, stopped)?;
        let tried = self.cluster.patch(path, &same, TRY).await.map_err(|e| refused(&e))?;
        if content(tried) == content(live.clone()) {
            // A restarted run finds what it has made itself.
            let by_this_run = mark == self.migration;
            return Ok(if by_this_run { Applied::Created } else { Applied::Unchanged });
        }
        let wanted = self.rewritten(object, self.migration, stopped)?;
        self.cluster.patch(path, &wanted, APPLY).await.map_err(|e| refused(&e))?;
        Ok(Applied::Updated)
    }
}

/// The object without what every write changes.
fn content(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(key);
        }
    }
    object
}

/// There is an object of this name that is not ours.
pub fn taken(live: &Value) -> Problem {
    Problem {
        reason: "AlreadyExists".to_owned(),
        message: format!(
            "the destination has a {} of this name that no migration brought: remove or rename it there, leave the \
             source's behind with the annotation isthmus.dev/skip, or hand it over by labelling it \
             isthmus.dev/migrated-by=adopted",
            kind(live)
        ),
        may_resolve: false,
        transient: false,
    }
}

fn refused(error: &ClusterError) -> Problem {
    let message = error.message();
    let code = error.code();
    // A namespace, a service account or a webhook's service that is on its way.
    let may_resolve = code == Some(404)
        || message.contains("not found")
        || message.contains("failed calling webhook")
        || error.is_conflict();
    let advice = match code {
        Some(403) if message.contains("exceeded quota") => {
            "raise the quota of the namespace on the destination"
        }
        Some(403) if message.contains("is forbidden: User") => {
            "grant the spoke's service account what its ClusterRole in deploy/ lists"
        }
        Some(403) => "look at the destination's admission rules",
        Some(422) => "correct the field on the source, or leave the object behind with isthmus.dev/skip",
        _ => "look at the API server's answer and correct what it names",
    };
    Problem {
        reason: error.reason().to_owned(),
        message: format!(
            "the destination's API server does not take it: {message}; {advice}, then run again"
        ),
        may_resolve,
        transient: error.is_transient(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_ours_by_its_mark_alone() {
        assert!(is_ours(&json!({"metadata": {"labels": {MIGRATED_BY: "m"}}})));
        assert!(!is_ours(&json!({"metadata": {"labels": {MIGRATED_BY: ""}}})));
        assert!(!is_ours(&json!({"metadata": {"labels": {"app": "x"}}})));
    }

    #[test]
    fn what_every_write_changes_is_no_difference() {
        let a = json!({"metadata": {"name": "x", "resourceVersion": "1", "generation": 1, "managedFields": [1]}, "data": {}});
        let b = json!({"metadata": {"name": "x", "resourceVersion": "2", "generation": 2, "managedFields": []}, "data": {}});
        assert_eq!(content(a), content(b));
    }

    #[test]
    fn a_refusal_that_another_object_may_resolve_is_told_from_one_that_a_person_must() {
        let refusal = |code, reason: &str, message: &str| {
            let body = json!({"reason": reason, "message": message}).to_string();
            refused(&ClusterError::refused("PATCH /x".to_owned(), code, None, body.as_bytes()))
        };
        assert!(refusal(404, "NotFound", "namespaces \"x\" not found").may_resolve);
        assert!(refusal(500, "InternalError", "failed calling webhook \"a\"").may_resolve);
        let invalid = refusal(422, "Invalid", "spec.ports: Required value");
        assert!(!invalid.may_resolve && invalid.message.contains("spec.ports"));
    }
}
