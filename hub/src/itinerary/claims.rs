//! Which namespaces of which clusters a run touches, or may come to touch: two runs whose claims
//! meet do not run at the same time.
//!
//! A run that has looked at its source claims what its globs and selector came to; before that it
//! claims whatever they may come to. What it comes to is always within what it claimed before
//! ([`super::namespaces::resolved`] sees to that), so two runs that were let in side by side never
//! come to meet later.

use std::collections::BTreeSet;

use isthmus_shared::resources::{MigrationSpec, MigrationStatus, NamespaceRule, glob_matcher};

/// A namespace, or several, of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The `Cluster`.
    pub cluster: String,
    /// Its namespaces.
    pub reach: Reach,
}

/// Which namespaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// One.
    Name(String),
    /// Those that a glob matches.
    Glob(String),
    /// Any: a selector of labels is told only by the cluster.
    Any,
}

/// What a run claims between two clusters.
pub fn claims(
    spec: &MigrationSpec,
    status: Option<&MigrationStatus>,
    source: &str,
    destination: &str,
) -> Vec<Claim> {
    let claim = |cluster: &str, reach: Reach| Claim { cluster: cluster.to_owned(), reach };
    let both = |from: Reach, to: Reach| [claim(source, from), claim(destination, to)];
    let resolved = status.map(|status| status.namespaces.as_slice()).unwrap_or_default();
    let found: BTreeSet<Claim> = if resolved.is_empty() {
        let rules = spec.namespaces.iter().filter_map(|entry| entry.rule().ok());
        let selected = spec.namespace_selector.iter().flat_map(|_| both(Reach::Any, Reach::Any));
        rules
            .flat_map(|rule| match rule {
                NamespaceRule::Name(name) => both(Reach::Name(name.clone()), Reach::Name(name)),
                NamespaceRule::Mapped(moved) => both(Reach::Name(moved.from), Reach::Name(moved.to)),
                NamespaceRule::Glob(glob) => both(Reach::Glob(glob.clone()), Reach::Glob(glob)),
            })
            .chain(selected)
            .collect()
    } else {
        let names = resolved
            .iter()
            .flat_map(|moved| both(Reach::Name(moved.from.clone()), Reach::Name(moved.to.clone())));
        names.collect()
    };
    found.into_iter().collect()
}

/// The first claim of `theirs` that one of `ours` meets.
pub fn meeting<'a>(ours: &[Claim], theirs: &'a [Claim]) -> Option<&'a Claim> {
    theirs
        .iter()
        .find(|their| ours.iter().any(|our| our.cluster == their.cluster && our.reach.meets(&their.reach)))
}

impl Reach {
    /// Whether a namespace may be in both. Of two globs it is told conservatively: only their
    /// literal beginnings and ends keep them apart.
    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::Name(a), Self::Name(b)) => a == b,
            (Self::Name(name), Self::Glob(glob)) | (Self::Glob(glob), Self::Name(name)) => {
                // A glob that cannot be read was refused before it claimed anything.
                glob_matcher(glob).is_ok_and(|glob| glob.is_match(name))
            }
            (Self::Glob(a), Self::Glob(b)) => {
                let ((head_a, tail_a), (head_b, tail_b)) = (literal_ends(a), literal_ends(b));
                (head_a.starts_with(head_b) || head_b.starts_with(head_a))
                    && (tail_a.ends_with(tail_b) || tail_b.ends_with(tail_a))
            }
        }
    }
}

/// What every match of a glob begins and ends with. Braces and classes may hold anything, escapes
/// too.
fn literal_ends(glob: &str) -> (&str, &str) {
    let special = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    let head = glob.find(special).unwrap_or(glob.len());
    let tail = glob.rfind(special).map_or(0, |at| at + glob[at..].chars().next().map_or(0, char::len_utf8));
    (&glob[..head], &glob[tail..])
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.reach {
            Reach::Name(name) => write!(f, "namespace {name} of cluster {}", self.cluster),
            Reach::Glob(glob) => write!(f, "namespaces {glob} of cluster {}", self.cluster),
            Reach::Any => write!(f, "namespaces of cluster {} that it selects by labels", self.cluster),
        }
    }
}

#[cfg(test)]
mod tests {
    use isthmus_shared::resources::NamespaceMove;
    use serde_json::{Value, json};

    use super::*;

    fn of(options: &Value, source: &str, destination: &str) -> Vec<Claim> {
        let mut spec = json!({"clusterPair": "p"});
        for (field, value) in options.as_object().unwrap().clone() {
            spec[field] = value;
        }
        claims(&serde_json::from_value(spec).unwrap(), None, source, destination)
    }

    fn names(namespaces: &Value) -> Vec<Claim> {
        of(&json!({ "namespaces": namespaces }), "east", "west")
    }

    fn meet(a: &Value, b: &Value) -> bool {
        let (a, b) = (names(a), names(b));
        let met = meeting(&a, &b).is_some();
        assert_eq!(met, meeting(&b, &a).is_some(), "it does not matter who asks");
        met
    }

    #[test]
    fn names_meet_by_cluster_and_side() {
        assert!(meet(&json!(["cms"]), &json!(["shop", "cms"])));
        assert!(!meet(&json!(["cms"]), &json!(["shop"])));
        assert!(meet(&json!(["cms:shop"]), &json!(["shop"])), "both arrive in shop");
        assert!(meet(&json!(["cms:a"]), &json!(["cms:b"])), "both leave cms");
        assert!(!meet(&json!(["cms:shop"]), &json!(["shop:cms"])), "they are of different clusters");
        let elsewhere = of(&json!({"namespaces": ["cms"]}), "north", "south");
        assert!(meeting(&names(&json!(["cms"])), &elsewhere).is_none());
        let back = of(&json!({"namespaces": ["shop:cms"]}), "west", "east");
        assert!(meeting(&names(&json!(["cms:shop"])), &back).is_some());
    }

    #[test]
    fn globs_meet_what_they_may_match() {
        assert!(meet(&json!(["team-*"]), &json!(["team-a"])));
        assert!(!meet(&json!(["team-*"]), &json!(["cms"])));
        assert!(meet(&json!(["team-*"]), &json!(["cms:team-a"])), "on the destination");
        assert!(meet(&json!(["team-*"]), &json!(["*-prod"])));
        assert!(!meet(&json!(["team-*"]), &json!(["shop-*"])));
        assert!(!meet(&json!(["*-prod"]), &json!(["*-test"])));
        assert!(meet(&json!(["{a,b}-prod"]), &json!(["c*"])), "what is not known to be apart may meet");
    }

    #[test]
    fn a_selector_may_come_to_anything_of_its_clusters() {
        let selected = of(&json!({"namespaceSelector": {}}), "east", "west");
        assert!(meeting(&selected, &names(&json!(["cms"]))).is_some());
        assert!(meeting(&selected, &of(&json!({"namespaces": ["cms"]}), "north", "south")).is_none());
    }

    #[test]
    fn what_was_resolved_counts_instead_of_what_might_have_been() {
        let spec: MigrationSpec =
            serde_json::from_value(json!({"clusterPair": "p", "namespaces": ["team-*"]})).unwrap();
        let status =
            MigrationStatus { namespaces: vec![NamespaceMove::same("team-a")], ..MigrationStatus::default() };
        let resolved = claims(&spec, Some(&status), "east", "west");
        assert!(meeting(&names(&json!(["team-a"])), &resolved).is_some());
        assert!(meeting(&names(&json!(["team-b"])), &resolved).is_none());
    }

    #[test]
    fn a_claim_is_told_in_words() {
        let told = |namespaces: Value| names(&namespaces)[0].to_string();
        assert_eq!(told(json!(["cms"])), "namespace cms of cluster east");
        assert_eq!(told(json!(["a*"])), "namespaces a* of cluster east");
    }
}
