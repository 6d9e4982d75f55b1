//! Which namespaces a run takes, and under which names: a pure choice from what a person wrote
//! and what the source has.
//!
//! - A name is taken as it stands, whatever it is.
//! - A mapping is a name with another name for the destination; it goes before a glob or a
//!   selector that finds the same namespace.
//! - Globs and `namespaceSelector` choose among applications: a platform's own namespaces (those
//!   whose names begin with `kube-`, which Kubernetes reserves, or with `openshift-`) and the
//!   spoke's are never found by them, only by name. Namespaces that are being deleted are not found
//!   either, which is told as a warning.
//! - Where one pattern finds nothing, where two sources would become one destination, or where one
//!   source would become two, the run does not begin. All findings are told at once.

use std::collections::{BTreeMap, BTreeSet};

use globset::{GlobBuilder, GlobMatcher};
use isthmus_shared::resources::{Finding, MAX_NAMESPACES, MigrationSpec, NamespaceMove, NamespaceRule};
use kube::core::{Selector, SelectorExt};
use serde_json::Value;

use super::selection::labels;
use crate::cluster::{name, text};
use crate::findings::{Findings, finding};

/// How the names of namespaces begin that belong to Kubernetes or OpenShift.
const PLATFORM: &[&str] = &["kube-", "openshift-"];

/// What is known of a namespace of the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is being deleted.
    pub terminating: bool,
}

impl NamespaceFacts {
    /// Of a Namespace.
    pub fn of(namespace: &Value) -> Self {
        Self {
            name: name(namespace).to_owned(),
            labels: labels(namespace),
            terminating: !text(namespace, "/metadata/deletionTimestamp").is_empty(),
        }
    }
}

/// What the entries came to.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// The namespaces, each once, by their names on the source.
    pub moves: Vec<NamespaceMove>,
    /// What is in the way.
    pub failures: Findings,
    /// What a person should know.
    pub warnings: Vec<Finding>,
}

/// Who looks at which cluster, for messages.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The source's name.
    pub cluster: &'a str,
    /// The spoke's own namespace there.
    pub own: &'a str,
}

/// Resolves names, globs, mappings and the selector.
pub fn resolve(spec: &MigrationSpec, present: &[NamespaceFacts], place: Place<'_>) -> Resolved {
    let mut resolving = Resolving {
        present: present.iter().map(|facts| (facts.name.as_str(), facts)).collect(),
        place,
        named: BTreeMap::new(),
        found: BTreeSet::new(),
        out: Resolved::default(),
    };
    for entry in &spec.namespaces {
        match entry.rule() {
            Ok(NamespaceRule::Name(name)) => resolving.name(NamespaceMove::same(name)),
            Ok(NamespaceRule::Mapped(moved)) => resolving.name(moved),
            Ok(NamespaceRule::Glob(glob)) => resolving.glob(&glob),
            Err(error) => resolving.fail("spec.namespaces", "BadNamespace", error.to_string()),
        }
    }
    if let Some(selector) = &spec.namespace_selector {
        match Selector::try_from(selector.clone()) {
            Ok(selector) => resolving.select(&selector),
            Err(error) => resolving.fail(
                "spec.namespaceSelector",
                "BadSelector",
                format!("it is no label selector: {error}; correct it"),
            ),
        }
    }
    resolving.finish()
}

struct Resolving<'a> {
    present: BTreeMap<&'a str, &'a NamespaceFacts>,
    place: Place<'a>,
    /// Named by a person: source to destinations, of which there should be one.
    named: BTreeMap<String, BTreeSet<String>>,
    /// Found by a glob or a selector.
    found: BTreeSet<String>,
    out: Resolved,
}

impl Resolving<'_> {
    fn fail(&mut self, object: impl Into<String>, reason: &str, message: impl Into<String>) {
        self.out.failures.push(finding(object, reason, message));
    }

    fn name(&mut self, moved: NamespaceMove) {
        let unfit: Vec<&str> =
            [moved.from.as_str(), moved.to.as_str()].into_iter().filter(|name| !is_label(name)).collect();
        if let Some(name) = unfit.first() {
            let message = format!(
                "{name:?} is no name of a namespace: write 1 to 63 of a-z, 0-9 and '-', beginning and ending with a \
                 letter or digit"
            );
            self.fail("spec.namespaces", "BadNamespace", message);
            return;
        }
        let object = format!("Namespace {}", moved.from);
        match self.present.get(moved.from.as_str()) {
            None => {
                let message = format!(
                    "cluster {} has no such namespace: check the name, and that the pair's source is the right cluster",
                    self.place.cluster
                );
                self.fail(object, "NamespaceNotFound", message);
            }
            Some(facts) if facts.terminating => {
                let message =
                    "it is being deleted on the source: there is nothing sound to move; name another";
                self.fail(object, "NamespaceTerminating", message);
            }
            Some(_) => {}
        }
        self.named.entry(moved.from).or_default().insert(moved.to);
    }

    fn glob(&mut self, glob: &str) {
        match compile(glob) {
            Ok(matcher) => self.find(&format!("the glob {glob}"), |facts| matcher.is_match(&facts.name)),
            Err(error) => {
                let message = format!("{glob} is no glob: {error}; write one such as team-* or {{a,b}}-prod");
                self.fail("spec.namespaces", "BadNamespace", message);
            }
        }
    }

    fn select(&mut self, selector: &Selector) {
        self.find(&format!("the namespaceSelector {selector}"), |facts| selector.matches(&facts.labels));
    }

    fn find(&mut self, pattern: &str, finds: impl Fn(&NamespaceFacts) -> bool) {
        let own = |name: &str| {
            PLATFORM.iter().any(|prefix| name.starts_with(prefix))
                || name == "openshift"
                || name == self.place.own
        };
        let (reserved, free): (Vec<&NamespaceFacts>, Vec<&NamespaceFacts>) =
            self.present.values().copied().filter(|facts| finds(facts)).partition(|facts| own(&facts.name));
        let (going, sound): (Vec<&NamespaceFacts>, Vec<&NamespaceFacts>) =
            free.into_iter().partition(|facts| facts.terminating);
        for facts in &going {
            let message =
                format!("{pattern} finds it, but it is being deleted on the source: it is not taken");
            self.out.warnings.push(finding(
                format!("Namespace {}", facts.name),
                "NamespaceTerminating",
                message,
            ));
        }
        if sound.is_empty() && going.is_empty() {
            let but = match reserved.first() {
                Some(facts) => format!(
                    " but {}, which is not an application's and is taken by its name only",
                    facts.name
                ),
                None => String::new(),
            };
            let message = format!(
                "{pattern} finds no namespace on cluster {}{but}: correct it, or leave it out",
                self.place.cluster
            );
            self.fail("spec.namespaces", "NoNamespaceFound", message);
        }
        self.found.extend(sound.into_iter().map(|facts| facts.name.clone()));
    }

    fn finish(mut self) -> Resolved {
        let mut moves: BTreeSet<NamespaceMove> = BTreeSet::new();
        for (from, destinations) in std::mem::take(&mut self.named) {
            if destinations.len() > 1 {
                let names: Vec<&str> = destinations.iter().map(String::as_str).collect();
                let message =
                    format!("it would become {} at once: keep one of these entries", names.join(" and "));
                self.fail(format!("Namespace {from}"), "NamespaceTwice", message);
            }
            if let Some(to) = destinations.into_iter().next() {
                self.found.remove(&from);
                moves.insert(NamespaceMove { from, to });
            }
        }
        moves.extend(std::mem::take(&mut self.found).into_iter().map(NamespaceMove::same));
        let mut arriving: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for moved in &moves {
            arriving.entry(&moved.to).or_default().push(&moved.from);
        }
        for (to, from) in arriving.into_iter().filter(|(_, from)| from.len() > 1) {
            let message = format!(
                "{} would all arrive in it: give each a destination of its own, as in old: new",
                from.join(" and ")
            );
            self.out.failures.push(finding(format!("Namespace {to}"), "SameDestination", message));
        }
        if moves.len() > MAX_NAMESPACES {
            let message = format!(
                "{} namespaces are more than one migration takes ({MAX_NAMESPACES}): make several migrations",
                moves.len()
            );
            self.out.failures.push(finding("spec.namespaces", "TooManyNamespaces", message));
        }
        if moves.is_empty() && self.out.failures.is_empty() {
            let message = "no namespace is left to take: name at least one that is not being deleted";
            self.out.failures.push(finding("spec.namespaces", "NoNamespaceFound", message));
        }
        self.out.moves = moves.into_iter().take(MAX_NAMESPACES).collect();
        self.out
    }
}

fn compile(glob: &str) -> Result<GlobMatcher, globset::Error> {
    Ok(GlobBuilder::new(glob).literal_separator(true).build()?.compile_matcher())
}

/// Whether it is a DNS label of RFC 1123, as namespaces' names are.
fn is_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests;
