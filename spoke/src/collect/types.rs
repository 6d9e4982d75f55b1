//! Types of objects as people name them: `includedResourceTypes`, `excludedResourceTypes` and
//! `includeOptionalResourceTypes`.
//!
//! A pattern is a kind (`Deployment`) or a resource (`deployments`) of any group, either with its
//! group (`deployments.apps`, `Deployment.apps`, `services.` for the core group), or all of a
//! group (`*.apps`, `*.` for the core group). Case does not matter.

use isthmus_shared::resources::{Finding, MigrationSpec};

use crate::cluster::{Catalogue, Kind};
use crate::findings::{Findings, finding};

/// One type, or several.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    /// The kind or resource; none for all of the group.
    name: Option<String>,
    /// The group; none for any.
    group: Option<String>,
}

impl Pattern {
    fn of(text: &str) -> Self {
        let text = text.trim().to_lowercase();
        let (name, group) = match text.split_once('.') {
            Some((name, group)) => (name, Some(group.to_owned())),
            None => (text.as_str(), None),
        };
        Self { name: (name != "*").then(|| name.to_owned()), group }
    }

    fn matches(&self, kind: &Kind) -> bool {
        let named = self.name.as_ref().is_none_or(|name| {
            kind.kind.eq_ignore_ascii_case(name) || kind.plural.eq_ignore_ascii_case(name)
        });
        named && self.group.as_ref().is_none_or(|group| kind.group.eq_ignore_ascii_case(group))
    }
}

/// What is left behind unless it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Optional {
    /// Pods that no controller keeps.
    pub bare_pods: bool,
    /// Jobs that have run.
    pub finished_jobs: bool,
}

/// Which types a run takes.
#[derive(Clone, Debug, Default)]
pub struct Types {
    included: Vec<Pattern>,
    excluded: Vec<Pattern>,
    /// What it takes beside.
    pub optional: Optional,
}

/// Why objects of a type are left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `excludedResourceTypes` names the type.
    Excluded,
    /// `includedResourceTypes` does not name it.
    NotIncluded,
}

impl Types {
    /// Reads a spec's lists; a name that means nothing to the source is a failure.
    pub fn of(spec: &MigrationSpec, source: &Catalogue, failures: &mut Findings) -> Self {
        let mut read = |field: &str, texts: &[String]| -> Vec<Pattern> {
            let patterns = texts.iter().map(|text| (text, Pattern::of(text)));
            patterns
                .inspect(|(text, pattern)| {
                    if !source.kinds().iter().any(|kind| pattern.matches(kind)) {
                        failures.push(unknown(field, text));
                    }
                })
                .map(|(_, pattern)| pattern)
                .collect()
        };
        let included = read("includedResourceTypes", &spec.included_resource_types);
        let excluded = read("excludedResourceTypes", &spec.excluded_resource_types);
        let mut optional = Optional::default();
        for text in &spec.include_optional_resource_types {
            match text.trim().to_lowercase().as_str() {
                "pod" | "pods" | "pods." | "pod." => optional.bare_pods = true,
                "job" | "jobs" | "jobs.batch" | "job.batch" => optional.finished_jobs = true,
                _ => failures.push(finding(
                    "spec.includeOptionalResourceTypes",
                    "NotOptional",
                    format!(
                        "{text:?} is not a type that is left behind by default: only Pod (Pods without a controller) \
                         and Job (completed Jobs) are; to choose by type, use includedResourceTypes"
                    ),
                )),
            }
        }
        Self { included, excluded, optional }
    }

    /// Why objects of a kind are left behind, if they are. What is optional and asked for counts
    /// as included.
    pub fn refuse(&self, kind: &Kind) -> Option<Refusal> {
        if self.is_excluded(kind) {
            return Some(Refusal::Excluded);
        }
        let asked_for = (self.optional.bare_pods && kind.group.is_empty() && kind.kind == "Pod")
            || (self.optional.finished_jobs && kind.group == "batch" && kind.kind == "Job");
        let included = self.included.is_empty() || self.included.iter().any(|pattern| pattern.matches(kind));
        (!included && !asked_for).then_some(Refusal::NotIncluded)
    }

    /// Whether `excludedResourceTypes` names a kind.
    pub fn is_excluded(&self, kind: &Kind) -> bool {
        self.excluded.iter().any(|pattern| pattern.matches(kind))
    }
}

impl Refusal {
    /// The reason and its text, for the report.
    pub fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::Excluded => ("TypeExcluded", "its type is named in excludedResourceTypes"),
            Self::NotIncluded => ("TypeNotIncluded", "its type is not named in includedResourceTypes"),
        }
    }
}

fn unknown(field: &str, text: &str) -> Finding {
    finding(
        format!("spec.{field}"),
        "UnknownType",
        format!(
            "the source serves no type {text:?}: write a kind (Deployment), a resource with its group \
             (deployments.apps) or all of a group (*.apps), as kubectl api-resources lists them there"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(group: &str, plural: &str, kind: &str) -> Kind {
        Kind {
            group: group.to_owned(),
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            namespaced: true,
            verbs: Vec::new(),
        }
    }

    fn catalogue() -> Catalogue {
        Catalogue::of(vec![
            kind("", "services", "Service"),
            kind("", "pods", "Pod"),
            kind("apps", "deployments", "Deployment"),
            kind("apps", "statefulsets", "StatefulSet"),
            kind("batch", "jobs", "Job"),
            kind("networking.k8s.io", "ingresses", "Ingress"),
            kind("serving.knative.dev", "services", "Service"),
        ])
    }

    fn matched(pattern: &str) -> Vec<String> {
        let catalogue = catalogue();
        catalogue.kinds().iter().filter(|k| Pattern::of(pattern).matches(k)).map(Kind::resource).collect()
    }

    #[test]
    fn patterns_name_kinds_resources_and_groups() {
        for (pattern, expected) in [
            ("Deployment", &["deployments.apps"][..]),
            ("deployment", &["deployments.apps"]),
            ("deployments", &["deployments.apps"]),
            ("DEPLOYMENTS.APPS", &["deployments.apps"]),
            ("Deployment.apps", &["deployments.apps"]),
            ("ingresses.networking.k8s.io", &["ingresses.networking.k8s.io"]),
            ("Service", &["services", "services.serving.knative.dev"]),
            ("services.", &["services"]),
            ("services.serving.knative.dev", &["services.serving.knative.dev"]),
            ("*.apps", &["deployments.apps", "statefulsets.apps"]),
            ("*.", &["services", "pods"]),
            ("*.k8s.io", &[]),
            ("deployments.extensions", &[]),
            ("Deploy", &[]),
            ("", &[]),
        ] {
            assert_eq!(matched(pattern), expected, "{pattern}");
        }
        assert_eq!(matched("*").len(), catalogue().kinds().len());
    }

    fn types(included: &[&str], excluded: &[&str], optional: &[&str]) -> (Types, Findings) {
        let mut spec = MigrationSpec::through("p");
        let own = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        spec.included_resource_types = own(included);
        spec.excluded_resource_types = own(excluded);
        spec.include_optional_resource_types = own(optional);
        let mut failures = Findings::default();
        (Types::of(&spec, &catalogue(), &mut failures), failures)
    }

    #[test]
    fn an_exclusion_goes_before_an_inclusion_and_no_inclusion_is_all() {
        let deployment = kind("apps", "deployments", "Deployment");
        let service = kind("", "services", "Service");
        let (all, _) = types(&[], &["*.apps"], &[]);
        assert_eq!((all.refuse(&deployment), all.refuse(&service)), (Some(Refusal::Excluded), None));
        let (some, _) = types(&["*.apps"], &["Deployment"], &[]);
        assert_eq!(some.refuse(&deployment), Some(Refusal::Excluded));
        assert_eq!(some.refuse(&service), Some(Refusal::NotIncluded));
    }

    #[test]
    fn what_is_optional_and_asked_for_is_included() {
        let (types, failures) = types(&["Deployment"], &[], &["pods", "Job"]);
        assert!(failures.is_empty());
        assert_eq!(types.refuse(&kind("", "pods", "Pod")), None);
        assert_eq!(types.refuse(&kind("batch", "jobs", "Job")), None);
        assert_eq!(types.optional, Optional { bare_pods: true, finished_jobs: true });
    }

    #[test]
    fn a_type_that_the_source_does_not_serve_is_refused_with_what_to_do() {
        let (_, failures) = types(&["Deploy", "Deployment"], &["*.nowhere.io"], &["Secret"]);
        let told: Vec<(&str, &str)> =
            failures.list.iter().map(|f| (f.object.as_str(), f.reason.as_str())).collect();
        assert_eq!(
            told,
            [
                ("spec.includedResourceTypes", "UnknownType"),
                ("spec.excludedResourceTypes", "UnknownType"),
                ("spec.includeOptionalResourceTypes", "NotOptional"),
            ]
        );
        assert!(failures.list[0].message.contains("api-resources"), "{:?}", failures.list[0]);
    }
}
