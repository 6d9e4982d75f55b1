//! What is wrong with a migration's options, as far as the spec alone tells.
//!
//! The hub asks before it begins a run, the command line before it makes a record: bad input
//! changes nothing anywhere. What only a cluster can tell (whether a class is there, whether a
//! patch fits an object) preflight tells.
//!
//! Promises: the order of the problems is that of the fields in the spec; each names its field as
//! a path into the record and says what to write instead; at most [`MAX_FINDINGS`] are told.

use std::collections::BTreeMap;

use globset::GlobBuilder;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::Selector;

use super::{MAX_FINDINGS, MAX_NAMESPACES, MigrationSpec, NamespaceRule};

mod actions;
mod hooks;
mod names;
mod schedule;
mod transforms;
mod volumes;

pub use names::{is_label, is_subdomain};

/// The access modes of claims.
const ACCESS_MODES: [&str; 4] = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];
/// The types that `includeOptionalResourceTypes` may name, in the spellings that are read.
const OPTIONAL_TYPES: [&str; 8] = ["pod", "pods", "pod.", "pods.", "job", "jobs", "job.batch", "jobs.batch"];

/// Something that a spec says and that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct OptionProblem {
    /// Where it says so, as a path into the record: `spec.transforms[2].jsonPatch[0].path`.
    pub field: String,
    /// One word in CamelCase, for programs.
    pub reason: &'static str,
    /// What is the matter and what to write instead.
    pub message: String,
}

/// Gathers problems, the first [`MAX_FINDINGS`].
#[derive(Default)]
struct Problems(Vec<OptionProblem>);

impl Problems {
    fn add(&mut self, field: impl Into<String>, reason: &'static str, message: impl Into<String>) {
        if self.0.len() < MAX_FINDINGS {
            self.0.push(OptionProblem { field: field.into(), reason, message: message.into() });
        }
    }
}

impl MigrationSpec {
    /// What is wrong with the options; nothing, if the run may be begun.
    pub fn problems(&self) -> Vec<OptionProblem> {
        let mut found = Problems::default();
        actions::check(self, &mut found);
        namespaces(self, &mut found);
        if let Some(selector) = &self.namespace_selector {
            label_selector("spec.namespaceSelector", selector, &mut found);
        }
        volumes::check(self, &mut found);
        if let Err(error) = self.selectors.all_of() {
            found.add("spec.selectors", "BadSelector", format!("{error}; {SELECTOR_ADVICE}"));
        }
        if let Err(error) = self.exclude_selectors.any_of() {
            found.add("spec.excludeSelectors", "BadSelector", format!("{error}; {SELECTOR_ADVICE}"));
        }
        types("spec.includedResourceTypes", &self.included_resource_types, &mut found);
        types("spec.excludedResourceTypes", &self.excluded_resource_types, &mut found);
        for (at, text) in self.include_optional_resource_types.iter().enumerate() {
            if !OPTIONAL_TYPES.contains(&text.trim().to_lowercase().as_str()) {
                let message = format!(
                    "{text:?} is not a type that stays behind by default: only Pod (Pods without a controller) and Job (completed Jobs) are; to choose by type, use includedResourceTypes"
                );
                found.add(format!("spec.includeOptionalResourceTypes[{at}]"), "NotOptional", message);
            }
        }
        classes("spec.storageClassMapping", &self.storage_class_mapping, &mut found);
        for (from, to) in &self.access_mode_mapping {
            for mode in [from, to].into_iter().filter(|mode| !ACCESS_MODES.contains(&mode.as_str())) {
                let message = format!("{mode:?} is no access mode: write one of {}", ACCESS_MODES.join(", "));
                found.add(format!("spec.accessModeMapping[{from}]"), "BadMapping", message);
            }
        }
        images(&self.image_mapping, &mut found);
        classes("spec.ingressClassMapping", &self.ingress_class_mapping, &mut found);
        transforms::check(&self.transforms, &mut found);
        found.0
    }
}

const SELECTOR_ADVICE: &str =
    "write labels as a map, or a list of texts such as app=web,tier in (front, back)";

fn namespaces(spec: &MigrationSpec, found: &mut Problems) {
    if spec.namespaces.is_empty() && spec.namespace_selector.is_none() {
        found.add(
            "spec.namespaces",
            "NoNamespaces",
            "name at least one namespace, or give a namespaceSelector",
        );
    }
    if spec.namespaces.len() > MAX_NAMESPACES {
        let message = format!(
            "it has {} entries, and one migration moves at most {MAX_NAMESPACES} namespaces: make several migrations",
            spec.namespaces.len()
        );
        found.add("spec.namespaces", "TooManyNamespaces", message);
    }
    let (mut leaving, mut arriving) = (BTreeMap::new(), BTreeMap::new());
    for (at, entry) in spec.namespaces.iter().enumerate() {
        let field = format!("spec.namespaces[{at}]");
        let moved = match entry.rule() {
            Err(error) => {
                found.add(field, "BadNamespace", error.to_string());
                continue;
            }
            Ok(NamespaceRule::Glob(glob)) => {
                if let Err(problem) = glob_matcher(&glob) {
                    found.add(field, "BadNamespace", problem);
                }
                continue;
            }
            Ok(NamespaceRule::Name(name)) => super::NamespaceMove::same(name),
            Ok(NamespaceRule::Mapped(moved)) => moved,
        };
        if let Some(name) = [&moved.from, &moved.to].into_iter().find(|name| !is_label(name)) {
            let message = format!(
                "{name:?} is not a namespace's name: write 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends"
            );
            found.add(field, "BadNamespaceName", message);
            continue;
        }
        if let Some(before) =
            leaving.insert(moved.from.clone(), moved.to.clone()).filter(|to| *to != moved.to)
        {
            let message = format!(
                "namespace {} would become {before} and {} at once: keep one of the entries",
                moved.from, moved.to
            );
            found.add(field, "NamespaceTwice", message);
        } else if let Some(other) =
            arriving.insert(moved.to.clone(), moved.from.clone()).filter(|from| *from != moved.from)
        {
            let message = format!(
                "namespaces {other} and {} would both arrive in {}: give each a destination of its own, as in old: new",
                moved.from, moved.to
            );
            found.add(field, "SameDestination", message);
        }
    }
}

/// A glob of names, as `spec.namespaces` and transforms have them.
pub fn glob_matcher(glob: &str) -> Result<globset::GlobMatcher, String> {
    match GlobBuilder::new(glob).literal_separator(true).build() {
        Ok(glob) => Ok(glob.compile_matcher()),
        Err(error) => {
            Err(format!("{glob:?} is no glob ({}): write one such as team-* or {{a,b}}-prod", error.kind()))
        }
    }
}

fn label_selector(field: &str, selector: &LabelSelector, found: &mut Problems) {
    if let Err(error) = Selector::try_from(selector.clone()) {
        let message = format!("it is no label selector ({error}): write matchLabels or matchExpressions");
        found.add(field, "BadSelector", message);
    }
}

fn types(field: &str, types: &[String], found: &mut Problems) {
    let word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    for (at, text) in types.iter().enumerate() {
        let (name, group) = text.trim().split_once('.').map_or((text.trim(), None), |(a, b)| (a, Some(b)));
        let sound = (name == "*" && group.is_some()) || (!name.is_empty() && word(name));
        if !sound || !group.is_none_or(word) {
            let message = format!(
                "{text:?} names no type: write a kind (Deployment), a resource with its group (deployments.apps) or all of a group (*.apps)"
            );
            found.add(format!("{field}[{at}]"), "BadType", message);
        }
    }
}

fn classes(field: &str, map: &BTreeMap<String, String>, found: &mut Problems) {
    for (from, to) in map {
        if let Some(name) = [from, to].into_iter().find(|name| !is_subdomain(name)) {
            let message = format!(
                "{name:?} is not the name of a class: write a-z, 0-9, '-' and '.', with a letter or digit at both ends"
            );
            found.add(format!("{field}[{from}]"), "BadMapping", message);
        }
    }
}

fn images(map: &BTreeMap<String, String>, found: &mut Problems) {
    let tagged = |image: &str| {
        image.contains('@') || image.rsplit_once('/').is_some_and(|(_, last)| last.contains(':'))
    };
    for (from, to) in map {
        let field = format!("spec.imageMapping[{from}]");
        let sides = || [from.as_str(), to.as_str()].into_iter();
        if sides().any(|side| side.trim_matches('/').is_empty() || side.contains(char::is_whitespace)) {
            let message = "name a registry, a repository or an image on both sides, as in docker.io/library: registry.example.com/mirror";
            found.add(field, "BadMapping", message);
        } else if sides().any(tagged) {
            let message =
                "leave out tag and digest: those of each image are kept; to change a tag, use a transform";
            found.add(field, "BadMapping", message);
        }
    }
}

#[cfg(test)]
mod tests;
