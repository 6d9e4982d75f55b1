//! Which of the kinds that the source serves are read, and in which version: a pure choice from
//! what both sides serve ([`super::versions`]) and the run's types ([`super::types`]).

use super::types::{Refusal, Types};
use super::versions;
use crate::cluster::{Catalogue, Kind};

/// Groups of Kubernetes itself: what owns or serves objects there is known to this program.
const BUILT_IN: &[&str] = &[
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "extensions",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// Groups that serve a second time, or in another form, what a first group serves.
const SHADOWS: &[(&str, &str)] = &[
    // Old clusters serve Deployments, Ingresses and the like in both.
    ("extensions", "apps"),
    ("extensions", "networking.k8s.io"),
    ("extensions", "policy"),
    ("events.k8s.io", ""),
    ("authorization.openshift.io", "rbac.authorization.k8s.io"),
];

/// Views of what lies elsewhere: each of their objects is another one, seen a second time.
const VIEWS: &[(&str, &str)] = &[
    ("packages.operators.coreos.com", "PackageManifest"),
    ("image.openshift.io", "ImageStreamTag"),
    ("image.openshift.io", "ImageTag"),
    ("project.openshift.io", "Project"),
];

/// A kind that is read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The kind, in the version in which it is read.
    pub kind: Kind,
    /// Why none of its objects is taken, if that is so.
    pub refusal: Option<Refused>,
    /// How both sides agree about it.
    pub agreement: Agreement,
}

/// Why no object of a kind is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The run's types say so.
    ByType(Refusal),
    /// Its API takes no creations.
    NotCreatable,
}

/// How source and destination agree about a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// It is read in a version that both serve.
    Common,
    /// The destination does not serve it at all.
    SourceOnly,
    /// The destination serves it in these versions only, none of which the source serves.
    Apart(Vec<String>),
}

/// Whether a group is of Kubernetes itself.
pub fn is_built_in(group: &str) -> bool {
    BUILT_IN.contains(&group)
}

/// The kinds of one scope that are read, each once.
pub fn readable(
    source: &Catalogue,
    destination: &Catalogue,
    types: &Types,
    namespaced: bool,
) -> Vec<Reading> {
    let mut chosen: Vec<Reading> = Vec::new();
    for kind in source.kinds() {
        let seen = chosen.iter().any(|c| c.kind.group == kind.group && c.kind.kind == kind.kind);
        if kind.namespaced != namespaced || seen || !kind.can("list") || repeats(source, kind) {
            continue;
        }
        let (kind, agreement) = in_version(source, destination, kind);
        let by_type = if namespaced {
            types.refuse(kind)
        } else {
            // What is of cluster scope is chosen by `includeClusterResources`, and only excluded
            // by type.
            types.is_excluded(kind).then_some(Refusal::Excluded)
        };
        let refusal = match by_type {
            _ if !(kind.can("create") && kind.can("get")) => Some(Refused::NotCreatable),
            refusal => refusal.map(Refused::ByType),
        };
        chosen.push(Reading { kind: kind.clone(), refusal, agreement });
    }
    chosen
}

/// The kind in the version in which it is read.
pub fn in_version<'a>(
    source: &'a Catalogue,
    destination: &Catalogue,
    preferred: &'a Kind,
) -> (&'a Kind, Agreement) {
    let (group, kind) = (preferred.group.as_str(), preferred.kind.as_str());
    // A version in which the source cannot be listed is none to read in.
    let here: Vec<&Kind> = source
        .kinds()
        .iter()
        .filter(|k| k.group == group && k.kind == kind && k.namespaced == preferred.namespaced)
        .filter(|k| k.can("list"))
        .collect();
    let there = destination.versions(group, kind);
    let here_names: Vec<&str> = here.iter().map(|kind| kind.version.as_str()).collect();
    let there_names: Vec<&str> = there.iter().map(String::as_str).collect();
    let chosen = versions::common(&here_names, &there_names);
    match chosen.and_then(|version| here.iter().find(|kind| kind.version == version)) {
        Some(kind) => (kind, Agreement::Common),
        None if there.is_empty() => (preferred, Agreement::SourceOnly),
        None => (preferred, Agreement::Apart(there)),
    }
}

fn repeats(source: &Catalogue, kind: &Kind) -> bool {
    VIEWS.contains(&(kind.group.as_str(), kind.kind.as_str()))
        || SHADOWS.iter().any(|(shadow, original)| {
            kind.group == *shadow && source.preferred(original, &kind.kind).is_some()
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Findings;
    use isthmus_shared::resources::MigrationSpec;

    const ALL: &[&str] = &["get", "list", "create"];

    fn kind(group: &str, version: &str, kind: &str, verbs: &[&str]) -> Kind {
        Kind {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: format!("{}s", kind.to_lowercase()),
            namespaced: true,
            verbs: verbs.iter().map(ToString::to_string).collect(),
        }
    }

    fn read(source: Vec<Kind>, destination: Vec<Kind>, excluded: &[&str]) -> Vec<Reading> {
        let source = Catalogue::of(source);
        let mut spec = MigrationSpec::through("p");
        spec.excluded_resource_types = excluded.iter().map(ToString::to_string).collect();
        let types = Types::of(&spec, &source, &mut Findings::default());
        readable(&source, &Catalogue::of(destination), &types, true)
    }

    fn named(readings: &[Reading]) -> Vec<String> {
        readings.iter().map(|r| format!("{} {}", r.kind.resource(), r.kind.version)).collect()
    }

    #[test]
    fn each_kind_is_read_once_and_what_cannot_be_listed_not_at_all() {
        let source = vec![
            kind("", "v1", "Event", ALL),
            kind("events.k8s.io", "v1", "Event", ALL),
            kind("extensions", "v1beta1", "Ingress", ALL),
            kind("networking.k8s.io", "v1", "Ingress", ALL),
            kind("autoscaling", "v2", "HorizontalPodAutoscaler", ALL),
            kind("autoscaling", "v1", "HorizontalPodAutoscaler", ALL),
            kind("metrics.k8s.io", "v1beta1", "PodMetrics", &["get", "list"]),
            kind("authorization.k8s.io", "v1", "LocalSubjectAccessReview", &["create"]),
            kind("image.openshift.io", "v1", "ImageStreamTag", ALL),
        ];
        let readings = read(source, Vec::new(), &[]);
        assert_eq!(
            named(&readings),
            [
                "events v1",
                "ingresss.networking.k8s.io v1",
                "horizontalpodautoscalers.autoscaling v2",
                "podmetricss.metrics.k8s.io v1beta1"
            ]
        );
        assert_eq!(readings[3].refusal, Some(Refused::NotCreatable));
    }

    #[test]
    fn a_kind_is_read_in_the_version_that_the_destination_prefers() {
        let here = |version| kind("autoscaling", version, "HorizontalPodAutoscaler", ALL);
        let readings = read(vec![here("v2"), here("v1")], vec![here("v1"), here("v2")], &[]);
        assert_eq!(named(&readings), ["horizontalpodautoscalers.autoscaling v1"]);
        assert_eq!(readings[0].agreement, Agreement::Common);
    }

    #[test]
    fn a_version_that_cannot_be_listed_is_not_chosen() {
        let list = kind("example.com", "v1", "Widget", ALL);
        let blind = kind("example.com", "v2", "Widget", &["get"]);
        let readings = read(vec![list, blind.clone()], vec![blind], &[]);
        assert_eq!(readings[0].agreement, Agreement::Apart(vec!["v2".to_owned()]));
    }

    #[test]
    fn what_the_destination_lacks_is_read_as_the_source_prefers_and_told() {
        let source = vec![kind("example.com", "v1", "Widget", ALL), kind("policy", "v1beta1", "Budget", ALL)];
        let readings = read(source, vec![kind("policy", "v1", "Budget", ALL)], &["Widget"]);
        assert_eq!(readings[0].agreement, Agreement::SourceOnly);
        assert_eq!(readings[0].refusal, Some(Refused::ByType(Refusal::Excluded)));
        assert_eq!(readings[1].agreement, Agreement::Apart(vec!["v1".to_owned()]));
        assert_eq!(readings[1].kind.version, "v1beta1");
    }

    #[test]
    fn custom_groups_are_told_from_kubernetes_own() {
        assert!(is_built_in("") && is_built_in("apps") && is_built_in("rbac.authorization.k8s.io"));
        assert!(!is_built_in("gateway.networking.k8s.io") && !is_built_in("example.com"));
    }
}
