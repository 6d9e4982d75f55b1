//! How an object is rewritten on its way: JSON in, JSON out, no I/O, one file a family of rules.
//!
//! ```text
//!   standard rules
//!     volume_choice                             single claims, and what mounts them
//!     service, claim, volume, job, pod,         what the source's cluster allocated, bound,
//!     service_account, secret, injected,          made or filled in
//!     definition, openshift, metadata
//!     references, host_names, grants            namespaces that get another name, or are not taken
//!   the run's own maps
//!     storage, images, ingress_class
//!   kept_configuration                          the same again, in what kubectl keeps of the object
//!   own                                         the run's transforms
//!   (stopped)                                   replica counts kept aside: `crate::workloads::state`
//!
//!   beside them, for preflight and apply: scc, merge_subjects, namespace
//! ```
//!
//! Promises: the same object becomes the same each time; rewriting twice is rewriting once; a field
//! that no rule names stays as it is.
//!
//! Maps may chain (`a: b`, `b: c`) and patches may add to lists, so rules cannot tell from an object
//! alone whether they have seen it. The mark does: what carries the mark of this very run, and lies
//! in a namespace that the run fills, was rewritten by it and stays.
//!
//! A rule is a function of the object and of a [`Scope`]; a new rule is a new line in [`STANDARD`]
//! or [`MAPS`].

mod chosen;
mod claim;
mod definition;
mod grants;
mod host_names;
mod images;
mod ingress_class;
mod injected;
mod job;
mod kept_configuration;
mod metadata;
mod namespace;
mod notes;
mod openshift;
mod options;
mod own;
mod pod;
mod pod_specs;
mod references;
mod scc;
mod secret;
mod service;
mod service_account;
mod storage;
mod volume;
mod volume_choice;

use std::sync::Arc;

use isthmus_shared::protocol::Run;
use isthmus_shared::resources::{MIGRATED_BY, PLAN};
use serde_json::{Map, Value, json};

pub use grants::merge_subjects;
pub use namespace::carried as namespace_marks;
pub use notes::Note;
use notes::Notes;
use options::{Namespaces, Options};
use own::OwnTransform;
pub use scc::scc_collisions;
pub use volume::RETAIN;

use crate::cluster::{label, namespace as namespace_of};
use crate::workloads::state;

/// Why an object cannot be rewritten as the run asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransformError {
    /// A transform that cannot be used at all.
    #[error("{transform} cannot be used: {detail}")]
    Bad {
        /// Which.
        transform: String,
        /// Why, and what to do.
        detail: String,
    },
    /// An entry of one of the run's maps that means nothing.
    #[error("the entry {key:?} of {map} cannot be used: {detail}")]
    BadMapping {
        /// The field of the spec.
        map: &'static str,
        /// The entry.
        key: String,
        /// Why, and what to do.
        detail: String,
    },
    /// A transform that does not fit an object.
    #[error("{transform} cannot be applied to {object}: {detail}")]
    Failed {
        /// Which.
        transform: String,
        /// The object, by its names on the destination.
        object: String,
        /// Why, and what to do.
        detail: String,
    },
}

/// Rewrites the objects of one run: what its spec asks for, made ready once. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Rewriter(Arc<Asked>);

#[derive(Debug, Default)]
struct Asked {
    options: Options,
    transforms: Vec<OwnTransform>,
}

/// How an object is to arrive.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrival<'a> {
    /// The value of the mark `isthmus.dev/migrated-by`.
    pub mark: &'a str,
    /// The value of the mark `isthmus.dev/plan`; none for objects of cluster scope.
    pub plan: Option<&'a str>,
    /// Whether workloads arrive stopped.
    pub stopped: bool,
    /// Its owners on the destination.
    pub owners: &'a [Value],
}

/// An object, rewritten.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewritten {
    /// As it is to be applied.
    pub object: Value,
    /// As it would be without the run's own maps and transforms, if those changed it. The
    /// mapping of namespaces is in both.
    pub standard: Option<Value>,
    /// The run's transforms that changed it, as messages name them.
    pub transforms: Vec<String>,
    /// What a person should know of it.
    pub notes: Vec<Note>,
}

/// What a rule may look at, and tell.
struct Scope<'a> {
    options: &'a Options,
    notes: Notes,
    /// Whether the object is what a person wrote, in which nothing was allocated.
    as_written: bool,
}

/// Each looks for itself whether the object is its concern.
type Rule = fn(&mut Value, &mut Scope<'_>);

/// What every object goes through. Rules that look at what the API server wrote come before the
/// one that drops it.
const STANDARD: &[Rule] = &[
    service::rewrite,
    claim::rewrite,
    volume::rewrite,
    volume_choice::rewrite,
    job::rewrite,
    pod::rewrite,
    service_account::rewrite,
    secret::rewrite,
    injected::rewrite,
    definition::rewrite,
    openshift::rewrite,
    grants::rewrite,
    metadata::rewrite,
    references::rewrite,
    host_names::rewrite,
];

/// What a run's own maps do.
const MAPS: &[Rule] = &[storage::rewrite, images::rewrite, ingress_class::rewrite];

impl Rewriter {
    /// Makes ready what a run's spec asks for.
    pub fn new(run: &Run) -> Result<Self, TransformError> {
        let (options, transforms) = (Options::new(run)?, own::compile(&run.spec.transforms)?);
        Ok(Self(Arc::new(Asked { options, transforms })))
    }

    /// The object as it is to be applied on the destination.
    pub fn rewrite(&self, mut object: Value, arrival: &Arrival<'_>) -> Result<Rewritten, TransformError> {
        let Asked { options, transforms } = &*self.0;
        let mut scope = Scope { options, notes: Notes::default(), as_written: false };
        if self.has_rewritten(&object, arrival) {
            // One that has been to an API server since brings what that wrote.
            if !crate::cluster::uid(&object).is_empty() {
                metadata::rewrite(&mut object, &mut scope);
                finish(&mut object, arrival);
            }
            return Ok(Rewritten { object, standard: None, transforms: Vec::new(), notes: Vec::new() });
        }
        let source = namespace_of(&object).to_owned();
        for rule in STANDARD {
            rule(&mut object, &mut scope);
        }
        kept_configuration::rewrite(&mut object, options, STANDARD);
        set_marks(&mut object, arrival);
        let has_own = options.has_maps() || !transforms.is_empty();
        let standard = has_own.then(|| object.clone());
        for rule in MAPS {
            rule(&mut object, &mut scope);
        }
        if options.has_maps() {
            kept_configuration::rewrite(&mut object, options, MAPS);
        }
        let mut changed_by = Vec::new();
        for transform in transforms {
            changed_by.extend(transform.apply(&mut object, &source)?);
        }
        let standard = standard.filter(|standard| *standard != object).map(|mut standard| {
            finish(&mut standard, arrival);
            standard
        });
        finish(&mut object, arrival);
        Ok(Rewritten { object, standard, transforms: changed_by, notes: scope.notes.finish() })
    }

    /// Whether the object is one that this run has rewritten.
    fn has_rewritten(&self, object: &Value, arrival: &Arrival<'_>) -> bool {
        let namespace = namespace_of(object);
        !arrival.mark.is_empty()
            && label(object, MIGRATED_BY) == Some(arrival.mark)
            && (namespace.is_empty() || self.0.options.namespaces.fills(namespace))
    }
}

/// Marks the object as the run's. An object of cluster scope may come from many plans and carries
/// the mark of none.
fn set_marks(object: &mut Value, arrival: &Arrival<'_>) {
    merge(object, &json!({"metadata": {"labels": {MIGRATED_BY: arrival.mark, PLAN: arrival.plan}}}));
}

/// What comes after the transforms: a workload is stopped with the count that they gave it.
fn finish(object: &mut Value, arrival: &Arrival<'_>) {
    if arrival.stopped
        && let Some(patch) = state::stop(object)
    {
        merge(object, &patch);
    }
    if !arrival.owners.is_empty() {
        merge(object, &json!({"metadata": {"ownerReferences": arrival.owners}}));
    }
}

/// RFC 7386: merges a patch into a value.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
}

/// The API group of an object; empty for the core one.
fn group(object: &Value) -> &str {
    crate::cluster::api_version(object).split_once('/').map_or("", |(group, _)| group)
}

/// Whether the object is of a group (in any version) and kind.
fn is(object: &Value, wanted: &str, kind: &str) -> bool {
    group(object) == wanted && crate::cluster::kind(object) == kind
}

/// Removes fields of the map at a pointer; the map itself too, once it is empty.
fn remove(object: &mut Value, pointer: &str, keys: &[&str]) {
    let Some(Value::Object(map)) = object.pointer_mut(pointer) else { return };
    let before = map.len();
    map.retain(|key, _| !keys.contains(&key.as_str()));
    if map.is_empty() && before > 0 && !pointer.is_empty() {
        let (parent, name) = pointer.rsplit_once('/').unwrap_or(("", pointer));
        if let Some(Value::Object(parent)) = object.pointer_mut(parent) {
            parent.remove(name);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
