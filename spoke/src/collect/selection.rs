//! Which objects of the namespaces are taken: a pure choice, each refusal with its reason.
//!
//! The rules stand in [`RULES`], in the order in which they are asked; the first that has
//! something to say decides. What no rule names is taken, unless its owners say otherwise
//! ([`super::ownership`]).
//!
//! ```text
//!   kinds       kinds that stay whatever their objects say: Events, Leases, measurements, ...
//!   generated   what Kubernetes and OpenShift make by themselves in every namespace
//!   workloads   Pods, Jobs and endpoints, which a controller keeps or which have run
//! ```

mod generated;
mod kinds;
mod workloads;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use isthmus_shared::resources::{COMPONENT, GROUP, SKIP};
use kube::core::{Selector, SelectorExt};
use serde_json::Value;

use super::types::Optional;
use crate::cluster::{annotation, api_version, kind, label, name, text};

/// What a choice depends on beside the object.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The namespace's Services with a selector, whose endpoints a controller keeps.
    pub selecting_services: HashSet<String>,
    /// Only objects that one of these selects; all, if there is none.
    pub selectors: Vec<Selector>,
    /// Not objects that one of these selects.
    pub exclude_selectors: Vec<Selector>,
    /// What is taken only where it is asked for.
    pub optional: Optional,
    /// PersistentVolumes that the run names itself.
    pub kept_volumes: BTreeSet<String>,
}

impl Context {
    /// Whether an object is a volume that the run names itself: no other choice counts for it.
    pub fn keeps(&self, object: &Value) -> bool {
        kind(object) == "PersistentVolume"
            && api_version(object) == "v1"
            && self.kept_volumes.contains(name(object))
    }
}

/// What is to become of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It goes along.
    Keep,
    /// It stays, for this reason.
    LeaveBehind {
        /// One word in CamelCase.
        reason: &'static str,
        /// The same for a person.
        message: Cow<'static, str>,
    },
}

impl Choice {
    /// It stays.
    pub fn leave(reason: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::LeaveBehind { reason, message: message.into() }
    }
}

type Rule = fn(&Object<'_>, &Context) -> Option<Choice>;

const RULES: &[Rule] = &[
    skipped,
    our_own,
    being_deleted,
    kinds::stays,
    generated::by_name,
    generated::account,
    generated::secret,
    generated::config,
    generated::binding,
    workloads::pod,
    workloads::endpoints,
    workloads::finished_job,
    excluded,
    not_selected,
];

struct Object<'a> {
    value: &'a Value,
    group: &'a str,
    kind: &'a str,
    name: &'a str,
}

impl<'a> Object<'a> {
    fn of(value: &'a Value) -> Self {
        let group = api_version(value).split_once('/').map_or("", |(group, _)| group);
        Self { value, group, kind: kind(value), name: name(value) }
    }

    fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }
}

/// Whether an object of a chosen namespace is taken, its owners aside.
pub fn choose(object: &Value, context: &Context) -> Choice {
    first(RULES, object, context)
}

/// What every object may be left behind for, of whatever scope: because somebody says so, because
/// it is ours, or because it is going.
pub fn choose_any(object: &Value, context: &Context) -> Choice {
    first(&[skipped, our_own, being_deleted, excluded], object, context)
}

fn first(rules: &[Rule], object: &Value, context: &Context) -> Choice {
    let view = Object::of(object);
    rules.iter().find_map(|rule| rule(&view, context)).unwrap_or(Choice::Keep)
}

/// A rule's verdict: it stays, if the condition holds.
fn leave_if(condition: bool, reason: &'static str, message: &'static str) -> Option<Choice> {
    condition.then(|| Choice::leave(reason, message))
}

fn skipped(object: &Object<'_>, _: &Context) -> Option<Choice> {
    let skip = annotation(object.value, SKIP) == Some("true");
    leave_if(skip, "Skipped", "it is annotated isthmus.dev/skip: \"true\"")
}

fn our_own(object: &Object<'_>, _: &Context) -> Option<Choice> {
    let ours = label(object.value, COMPONENT).is_some()
        || object.group == GROUP
        || (object.is("apiextensions.k8s.io", "CustomResourceDefinition")
            && text(object.value, "/spec/group") == GROUP);
    leave_if(ours, "OwnObject", "it is Isthmus' own, for this cluster")
}

fn being_deleted(object: &Object<'_>, _: &Context) -> Option<Choice> {
    let going = !text(object.value, "/metadata/deletionTimestamp").is_empty();
    leave_if(going, "BeingDeleted", "it is being deleted on the source")
}

fn excluded(object: &Object<'_>, context: &Context) -> Option<Choice> {
    let excluded = selected(object, &context.exclude_selectors);
    leave_if(excluded, "Excluded", "one of `excludeSelectors` selects it")
}

fn not_selected(object: &Object<'_>, context: &Context) -> Option<Choice> {
    let missed = !context.selectors.is_empty() && !selected(object, &context.selectors);
    leave_if(missed, "NotSelected", "none of `selectors` selects it")
}

fn selected(object: &Object<'_>, by: &[Selector]) -> bool {
    if by.is_empty() {
        return false;
    }
    let labels = labels(object.value);
    by.iter().any(|selector| selector.matches(&labels))
}

/// An object's labels.
pub fn labels(object: &Value) -> BTreeMap<String, String> {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    labels.into_iter().flatten().filter_map(text).collect()
}

#[cfg(test)]
mod tests;
