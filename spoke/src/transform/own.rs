//! `spec.transforms`: people's own rewritings, each a match and one patch.
//!
//! They come after all other rules, so a patch is written for the object as it would arrive, with
//! the destination's namespace; a match is by the source's namespace. They may not change which
//! object it is, nor the marks by which a run knows its own again.

use std::fmt;

use globset::{Glob, GlobSet, GlobSetBuilder};
use isthmus_shared::resources::{Transform, TransformMatch};
use isthmus_shared::strategic_merge::{builtin, strategic_merge};
use json_patch::{Patch, PatchOperation};
use kube::core::{Selector, SelectorExt};
use serde_json::Value;

use super::{TransformError, group, merge};
use crate::cluster::{describe, kind, name};

/// The prefix of the labels and annotations that are the run's own.
const MARKS: &str = "isthmus.dev/";

/// A transform, read and found good.
#[derive(Clone, Debug)]
pub struct OwnTransform {
    name: TransformName,
    matching: Matching,
    form: Form,
}

/// How messages name a transform: by its name, or by its place in the list.
#[derive(Clone, Debug)]
struct TransformName {
    number: usize,
    name: Option<String>,
}

#[derive(Clone, Debug)]
struct Matching {
    group: Option<String>,
    kind: Option<String>,
    names: Option<GlobSet>,
    namespaces: Option<GlobSet>,
    labels: Option<Selector>,
}

#[derive(Clone, Debug)]
enum Form {
    Json(Patch),
    Merge(Value),
    Strategic(Value),
}

impl fmt::Display for TransformName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "the transform {name:?}"),
            None => write!(f, "transform number {}", self.number),
        }
    }
}

/// Reads the transforms of a run.
pub fn compile(transforms: &[Transform]) -> Result<Vec<OwnTransform>, TransformError> {
    transforms.iter().enumerate().map(|(at, transform)| OwnTransform::new(at + 1, transform)).collect()
}

impl OwnTransform {
    fn new(number: usize, transform: &Transform) -> Result<Self, TransformError> {
        let name = TransformName { number, name: transform.name.clone().filter(|name| !name.is_empty()) };
        let bad = |detail: String| TransformError::Bad { transform: name.to_string(), detail };
        let matching = Matching::new(&transform.matching).map_err(&bad)?;
        let form = form(transform).map_err(&bad)?;
        Ok(Self { name, matching, form })
    }

    /// Changes the object, if it is one that the transform is for, and answers how messages name
    /// the transform if it did. `namespace` is the object's namespace on the source.
    pub fn apply(&self, object: &mut Value, namespace: &str) -> Result<Option<String>, TransformError> {
        if !self.matching.matches(object, namespace) {
            return Ok(None);
        }
        let failed = |object: &Value, detail: String| TransformError::Failed {
            transform: self.name.to_string(),
            object: describe(object),
            detail,
        };
        let before = Identity::of(object);
        let after = match &self.form {
            Form::Json(patch) => {
                let mut after = object.clone();
                json_patch::patch(&mut after, patch).map_err(|error| {
                    failed(
                        object,
                        format!(
                            "{error}; correct the patch, or narrow its match to the objects that it fits"
                        ),
                    )
                })?;
                after
            }
            Form::Merge(patch) => {
                let mut after = object.clone();
                merge(&mut after, patch);
                after
            }
            Form::Strategic(patch) => {
                let Some(shape) = builtin::shape(group(object), kind(object)) else {
                    let detail = format!(
                        "{} is no kind of Kubernetes itself, and only those have keys to merge lists by: use mergePatch or jsonPatch",
                        kind(object)
                    );
                    return Err(failed(object, detail));
                };
                strategic_merge(object.clone(), patch.clone(), Some(shape))
                    .map_err(|error| failed(object, format!("{error}; correct the patch")))?
            }
        };
        if let Some(field) = before.first_difference(&Identity::of(&after)) {
            let detail = format!(
                "it changes {field}, which no transform may: take that out of the patch (labels and annotations are best set one by one)"
            );
            return Err(failed(object, detail));
        }
        let changed = *object != after;
        *object = after;
        Ok(changed.then(|| self.name.to_string()))
    }
}

fn form(transform: &Transform) -> Result<Form, String> {
    let mut forms = Vec::new();
    if !transform.json_patch.is_empty() {
        forms.push(Form::Json(json_patch(&transform.json_patch)?));
    }
    if let Some(patch) = &transform.merge_patch {
        forms.push(Form::Merge(object_patch("mergePatch", patch)?));
    }
    if let Some(patch) = &transform.strategic_merge_patch {
        forms.push(Form::Strategic(strategic_patch(transform, patch)?));
    }
    match (forms.pop(), forms.is_empty()) {
        (Some(form), true) => Ok(form),
        (Some(_), false) => Err("it has more than one patch: make a transform of each".to_owned()),
        (None, _) => Err("it has no patch: give jsonPatch, mergePatch or strategicMergePatch".to_owned()),
    }
}

fn json_patch(operations: &[Value]) -> Result<Patch, String> {
    let read = |(at, operation): (usize, &Value)| {
        serde_json::from_value::<PatchOperation>(operation.clone()).map_err(|error| {
            format!(
                "operation {} of its jsonPatch cannot be read ({error}): write op (add, remove, replace, move, copy or test), path such as /spec/replicas, and value or from",
                at + 1
            )
        })
    };
    operations.iter().enumerate().map(read).collect::<Result<_, _>>().map(Patch)
}

fn object_patch(form: &str, patch: &Value) -> Result<Value, String> {
    if patch.is_object() {
        Ok(patch.clone())
    } else {
        Err(format!("its {form} is no object: write the fields to change as they stand in the object"))
    }
}

fn strategic_patch(transform: &Transform, patch: &Value) -> Result<Value, String> {
    let patch = object_patch("strategicMergePatch", patch)?;
    let matching = &transform.matching;
    let Some(kind) = &matching.kind else {
        return Err(
            "a strategicMergePatch is for one kind of Kubernetes itself: give match.kind, or use mergePatch"
                .to_owned(),
        );
    };
    let known = match &matching.group {
        Some(group) => builtin::shape(group, kind).is_some(),
        None => builtin::is_builtin(kind),
    };
    if known {
        Ok(patch)
    } else {
        Err(format!(
            "{kind} is no kind of Kubernetes itself, and only those have keys to merge lists by: use mergePatch or jsonPatch"
        ))
    }
}

impl Matching {
    fn new(matching: &TransformMatch) -> Result<Self, String> {
        let labels = matching
            .labels
            .clone()
            .map(|labels| {
                Selector::try_from(labels).map_err(|error| {
                    format!(
                        "its match.labels cannot be read ({error}): write matchLabels or matchExpressions"
                    )
                })
            })
            .transpose()?;
        Ok(Self {
            group: matching.group.clone(),
            kind: matching.kind.clone(),
            names: globs("names", &matching.names)?,
            namespaces: globs("namespaces", &matching.namespaces)?,
            labels,
        })
    }

    fn matches(&self, object: &Value, namespace: &str) -> bool {
        let is =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let within =
            |globs: &Option<GlobSet>, found: &str| globs.as_ref().is_none_or(|globs| globs.is_match(found));
        is(&self.group, group(object))
            && is(&self.kind, kind(object))
            && within(&self.names, name(object))
            && within(&self.namespaces, namespace)
            && self.labels.as_ref().is_none_or(|selector| selector.matches(&labels(object)))
    }
}

fn globs(field: &str, globs: &[String]) -> Result<Option<GlobSet>, String> {
    if globs.is_empty() {
        return Ok(None);
    }
    let bad = |error: &globset::Error| {
        format!("its match.{field} cannot be read ({error}): write names or globs such as web-*")
    };
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(Glob::new(glob).map_err(|error| bad(&error))?);
    }
    set.build().map(Some).map_err(|error| bad(&error))
}

fn labels(object: &Value) -> std::collections::BTreeMap<String, String> {
    texts(object, "labels")
        .map(|(key, value)| (key.to_owned(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

fn texts<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let map = object.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Value::as_object);
    map.into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// What a transform may not change.
#[derive(PartialEq)]
struct Identity {
    fields: [Option<Value>; 4],
    marks: Vec<(String, Value)>,
}

const IDENTITY: [(&str, &str); 4] = [
    ("apiVersion", "/apiVersion"),
    ("kind", "/kind"),
    ("metadata.name", "/metadata/name"),
    ("metadata.namespace", "/metadata/namespace"),
];

impl Identity {
    fn of(object: &Value) -> Self {
        let marks = ["labels", "annotations"].iter().flat_map(|field| {
            texts(object, field)
                .filter(|(key, _)| key.starts_with(MARKS))
                .map(move |(key, value)| (format!("metadata.{field}.{key}"), value.clone()))
        });
        Self { fields: IDENTITY.map(|(_, pointer)| object.pointer(pointer).cloned()), marks: marks.collect() }
    }

    fn first_difference(&self, after: &Self) -> Option<String> {
        let field = IDENTITY.iter().enumerate().find(|(at, _)| self.fields.get(*at) != after.fields.get(*at));
        if let Some((_, (name, _))) = field {
            return Some((*name).to_owned());
        }
        let differs = |a: &Self, b: &Self| {
            a.marks.iter().find(|mark| !b.marks.contains(mark)).map(|(name, _)| format!("the mark {name}"))
        };
        differs(self, after).or_else(|| differs(after, self))
    }
}

#[cfg(test)]
mod tests;
