//! Which namespaces a run may move: what its spec names is judged before it begins
//! ([`refusal`]), and what its globs and selector came to when the source has told ([`resolved`]).
//!
//! Promises: a run moves a namespace only if an entry or the selector of its spec asks for it, if
//! its pair allows it under both names, and if, where it belongs to the platform on the
//! destination, a person named it outright. A pair outside of the hub's namespace belongs to the
//! people of one namespace, and moves only that.

use std::collections::BTreeSet;

use globset::GlobBuilder;
use isthmus_shared::resources::{
    Finding, Hook, IncludeClusterResources, MAX_NAMESPACES, MigrationSpec, NamespaceMove, NamespaceRule,
    TransformMatch, VolumeAction, glob_matcher, is_label,
};

use super::findings::finding;
use super::view::Pair;

/// How the names of namespaces begin that Kubernetes reserves or OpenShift keeps.
const PLATFORM: [&str; 2] = ["kube-", "openshift-"];

/// Why a spec may not move what it names through a pair.
pub(super) fn refusal(spec: &MigrationSpec, pair: &Pair) -> Option<Finding> {
    let rules: Vec<NamespaceRule> = spec.namespaces.iter().filter_map(|entry| entry.rule().ok()).collect();
    if !pair.in_hub_namespace
        && let Some(beyond) = beyond_own(spec, &rules, pair)
    {
        return Some(beyond);
    }
    // A hook reaches no further than the pair does.
    let mut reached = spec.hooks.iter().filter_map(Hook::namespace);
    if let Some(beyond) = reached.find_map(|name| not_allowed(&spec.cluster_pair, pair, name)) {
        return Some(beyond);
    }
    rules.iter().find_map(|rule| match rule {
        NamespaceRule::Name(name) => not_allowed(&spec.cluster_pair, pair, name),
        NamespaceRule::Mapped(moved) => not_allowed(&spec.cluster_pair, pair, &moved.from)
            .or_else(|| not_allowed(&spec.cluster_pair, pair, &moved.to)),
        NamespaceRule::Glob(_) => None,
    })
}

/// What a run through a pair outside of the hub's namespace asks for beyond that namespace.
fn beyond_own(spec: &MigrationSpec, rules: &[NamespaceRule], pair: &Pair) -> Option<Finding> {
    let own = &pair.namespace;
    let refuse = |object: String, what: String| {
        let message = format!(
            "ClusterPair {} lies in namespace {own} and may move only the namespace of that name, under that name: {what} needs a pair in the hub's own namespace",
            spec.cluster_pair
        );
        Some(finding(object, "NamespaceNotAllowed", message))
    };
    if spec.namespace_selector.is_some() {
        return refuse("spec.namespaceSelector".to_owned(), "a selector of namespaces".to_owned());
    }
    if spec.include_cluster_resources == IncludeClusterResources::All {
        return refuse(
            "spec.includeClusterResources".to_owned(),
            "taking objects of cluster scope".to_owned(),
        );
    }
    let reaches = |hook: &Hook| hook.namespace().is_some_and(|namespace| namespace != own);
    if let Some(at) = spec.hooks.iter().position(reaches) {
        return refuse(format!("spec.hooks[{at}]"), "a hook in another namespace".to_owned());
    }
    if let Some(at) = spec.operators.iter().position(|operator| operator.namespace != *own) {
        return refuse(format!("spec.operators[{at}]"), "stopping what lies in another namespace".to_owned());
    }
    if let Some(at) = spec.volumes.iter().position(|volume| volume.action == VolumeAction::Keep) {
        return refuse(format!("spec.volumes[{at}].action"), "making PersistentVolumes".to_owned());
    }
    if let Some(at) = spec.transforms.iter().position(|transform| may_grant(&transform.matching)) {
        let what = "a transform of no certain kind, of Namespaces, or of what grants rights";
        return refuse(format!("spec.transforms[{at}].match.kind"), what.to_owned());
    }
    rules.iter().find_map(|rule| match rule {
        NamespaceRule::Name(name) if name == own => None,
        NamespaceRule::Mapped(moved) if moved.from == *own && moved.to == *own => None,
        NamespaceRule::Name(name) => refuse(format!("Namespace {name}"), format!("to move {name}")),
        NamespaceRule::Mapped(moved) => {
            refuse(format!("Namespace {}", moved.from), format!("to move {moved}"))
        }
        NamespaceRule::Glob(glob) => refuse("spec.namespaces".to_owned(), format!("the glob {glob}")),
    })
}

/// Whether a transform may be for objects that say who may do what: by one of those the people of
/// a namespace could give themselves what nobody has given them.
fn may_grant(matching: &TransformMatch) -> bool {
    let of = |group: &str| matching.group.as_deref().is_none_or(|wanted| wanted == group);
    match matching.kind.as_deref() {
        None => true,
        Some("Namespace") => of(""),
        Some("Role" | "RoleBinding" | "ClusterRole" | "ClusterRoleBinding") => {
            of("rbac.authorization.k8s.io")
        }
        Some(_) => false,
    }
}

/// Why a pair's `allowedNamespaces` refuse a namespace.
fn not_allowed(pair_name: &str, pair: &Pair, namespace: &str) -> Option<Finding> {
    let allowed = pair.allowed_namespaces.as_ref()?;
    for pattern in allowed {
        match GlobBuilder::new(pattern).build() {
            Ok(glob) if glob.compile_matcher().is_match(namespace) => return None,
            Ok(_) => {}
            Err(error) => {
                let message = format!(
                    "spec.allowedNamespaces has {pattern:?}, which is not a glob ({}): correct it on the pair, then create the Migration again",
                    error.kind()
                );
                return Some(finding(format!("ClusterPair {pair_name}"), "BadGlob", message));
            }
        }
    }
    let message = format!(
        "ClusterPair {pair_name} does not allow namespace {namespace} (allowedNamespaces: {}): have it added there or use another pair, then create the Migration again",
        allowed.join(", ")
    );
    Some(finding(format!("Namespace {namespace}"), "NamespaceNotAllowed", message))
}

/// Judges what the source says that the entries came to. A spoke is not trusted with it: it
/// could name any namespace.
pub(super) fn resolved(
    spec: &MigrationSpec,
    pair: Option<&Pair>,
    reported: &[NamespaceMove],
) -> Result<(), Finding> {
    let Some(pair) = pair else {
        let message =
            "the pair was deleted while the source was looked at: create the pair and the Migration again";
        return Err(finding(format!("ClusterPair {}", spec.cluster_pair), "PairGone", message));
    };
    if reported.is_empty() {
        let message = "its globs and its selector found no namespace on the source: correct them, then create the Migration again";
        return Err(finding("spec.namespaces", "NoNamespaceFound", message));
    }
    if reported.len() > MAX_NAMESPACES {
        let message = format!(
            "they come to {} namespaces, and one migration moves at most {MAX_NAMESPACES}: make several migrations",
            reported.len()
        );
        return Err(finding("spec.namespaces", "TooManyNamespaces", message));
    }
    let wanted = Wanted::of(spec);
    let (mut leaving, mut arriving) = (BTreeSet::new(), BTreeSet::new());
    for moved in reported {
        let sound = is_label(&moved.from) && is_label(&moved.to) && wanted.asks_for(moved);
        if !sound || !leaving.insert(&moved.from) {
            return Err(not_asked_for(moved));
        }
        if !arriving.insert(&moved.to) {
            let message = format!(
                "more than one namespace would arrive in {}: give each a destination of its own, as in old: new",
                moved.to
            );
            return Err(finding(format!("Namespace {}", moved.to), "SameDestination", message));
        }
        if is_platform(&moved.to) && !wanted.named.contains(moved) {
            let message = format!(
                "it belongs to the platform, and a glob or a selector does not take such a namespace: leave it out, or name it outright if it is to be moved into {}",
                moved.to
            );
            return Err(finding(format!("Namespace {}", moved.from), "PlatformNamespace", message));
        }
        let names = [&moved.from, &moved.to];
        if let Some(refused) = names.iter().find_map(|name| not_allowed(&spec.cluster_pair, pair, name)) {
            return Err(refused);
        }
    }
    match wanted.named.iter().find(|named| !reported.contains(named)) {
        Some(missing) => Err(not_asked_for(missing)),
        None => Ok(()),
    }
}

fn not_asked_for(moved: &NamespaceMove) -> Finding {
    let message = format!(
        "the spoke of the source reported namespaces that do not follow from spec.namespaces and spec.namespaceSelector ({moved:?}); nothing was changed: update the spoke to the hub's version, then create the Migration again"
    );
    finding(format!("Namespace {}", moved.from), "BadReport", message)
}

fn is_platform(namespace: &str) -> bool {
    namespace == "openshift" || PLATFORM.iter().any(|prefix| namespace.starts_with(prefix))
}

/// What a spec asks for.
struct Wanted {
    named: Vec<NamespaceMove>,
    globs: Vec<globset::GlobMatcher>,
    selected: bool,
}

impl Wanted {
    fn of(spec: &MigrationSpec) -> Self {
        let mut wanted =
            Self { named: Vec::new(), globs: Vec::new(), selected: spec.namespace_selector.is_some() };
        for rule in spec.namespaces.iter().filter_map(|entry| entry.rule().ok()) {
            match rule {
                NamespaceRule::Name(name) => wanted.named.push(NamespaceMove::same(name)),
                NamespaceRule::Mapped(moved) => wanted.named.push(moved),
                NamespaceRule::Glob(glob) => wanted.globs.extend(glob_matcher(&glob)),
            }
        }
        wanted
    }

    /// Whether a namespace may go that way. What was named goes as it was named, whatever else
    /// finds it.
    fn asks_for(&self, moved: &NamespaceMove) -> bool {
        if let Some(named) = self.named.iter().find(|named| named.from == moved.from) {
            return named == moved;
        }
        let found = self.selected || self.globs.iter().any(|glob| glob.is_match(&moved.from));
        found && !moved.is_renamed()
    }
}
