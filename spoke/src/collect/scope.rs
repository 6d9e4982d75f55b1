//! Everything that a run's choice depends on, made ready once: which kinds are read in which
//! versions, and what is asked of each object. Pure: a spec and two catalogues in.

use isthmus_shared::resources::{IncludeClusterResources, MigrationSpec};

use super::kinds::{Agreement, Reading, readable};
use super::selection::Context;
use super::types::Types;
use crate::cluster::Catalogue;
use crate::findings::{Findings, finding};

/// What is read, and by which rules it is chosen.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The kinds of the namespaces' objects.
    pub namespaced: Vec<Reading>,
    /// The kinds of cluster scope.
    pub clustered: Vec<Reading>,
    /// What the choice of each object depends on.
    pub context: Context,
    /// What of cluster scope is wanted.
    pub mode: IncludeClusterResources,
    /// All versions that the source serves.
    pub source: Catalogue,
}

impl Scope {
    /// What a spec asks for between these two; all that is wrong with it is told at once.
    pub fn of(spec: &MigrationSpec, source: Catalogue, destination: &Catalogue) -> (Self, Findings) {
        let mut failures = Findings::default();
        let types = Types::of(spec, &source, &mut failures);
        let mut context = Context { optional: types.optional, ..Context::default() };
        match spec.selectors.all_of() {
            Ok(selectors) => context.selectors = selectors,
            Err(error) => failures.push(finding("spec.selectors", "BadSelector", error.to_string())),
        }
        match spec.exclude_selectors.any_of() {
            Ok(selectors) => context.exclude_selectors = selectors,
            Err(error) => failures.push(finding("spec.excludeSelectors", "BadSelector", error.to_string())),
        }
        let mut namespaced = readable(&source, destination, &types, true);
        let mut clustered = Vec::new();
        let mut mode = spec.include_cluster_resources;
        if spec.include_resources {
            clustered = readable(&source, destination, &types, false);
        } else {
            // Volumes alone: their claims are all that is read.
            namespaced.retain(|reading| {
                reading.kind.group.is_empty() && reading.kind.kind == "PersistentVolumeClaim"
            });
            mode = IncludeClusterResources::None;
        }
        (Self { namespaced, clustered, context, mode, source }, failures)
    }

    /// Why the destination cannot take objects of a kind, if it cannot; `along` says whether the
    /// kind's definition goes along.
    pub fn disagreement(
        &self,
        reading: &Reading,
        count: u64,
        along: bool,
    ) -> Option<isthmus_shared::resources::Finding> {
        let kind = &reading.kind;
        let api_version = if kind.group.is_empty() {
            kind.version.clone()
        } else {
            format!("{}/{}", kind.group, kind.version)
        };
        let object = format!("{api_version} {}", kind.kind);
        let of = format!("{count} objects of it would be taken along");
        let leave = format!("leave them behind by naming {} in excludedResourceTypes", kind.resource());
        match &reading.agreement {
            Agreement::Common => None,
            Agreement::SourceOnly if along => None,
            Agreement::SourceOnly => {
                let message = format!(
                    "only the source serves this kind, and {of}: install what serves it on the destination, or {leave}"
                );
                Some(finding(object, "KindNotServed", message))
            }
            Agreement::Apart(there) => {
                let here = self.source.versions(&kind.group, &kind.kind).join(", ");
                let message = format!(
                    "the source serves this kind as {here}, the destination as {} only, and {of}: upgrade what serves \
                     it on the older side, or {leave}",
                    there.join(", ")
                );
                Some(finding(object, "VersionNotServed", message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::Kind;

    fn kind(group: &str, version: &str, kind: &str, namespaced: bool) -> Kind {
        Kind {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: format!("{}s", kind.to_lowercase()),
            namespaced,
            verbs: ["get", "list", "create"].map(str::to_owned).to_vec(),
        }
    }

    fn source() -> Catalogue {
        Catalogue::of(vec![
            kind("", "v1", "ConfigMap", true),
            kind("", "v1", "PersistentVolumeClaim", true),
            kind("autoscaling", "v1", "HorizontalPodAutoscaler", true),
            kind("example.com", "v1", "Widget", true),
            kind("rbac.authorization.k8s.io", "v1", "ClusterRole", false),
        ])
    }

    #[test]
    fn volumes_alone_are_their_claims_and_nothing_of_cluster_scope() {
        let mut spec = MigrationSpec::through("p");
        spec.include_resources = false;
        spec.include_cluster_resources = IncludeClusterResources::All;
        let (scope, failures) = Scope::of(&spec, source(), &source());
        assert!(failures.is_empty() && scope.clustered.is_empty());
        assert_eq!(scope.namespaced[0].kind.kind, "PersistentVolumeClaim");
        assert_eq!((scope.namespaced.len(), scope.mode), (1, IncludeClusterResources::None));
    }

    #[test]
    fn selectors_that_cannot_be_read_are_told_with_all_else() {
        let mut spec = MigrationSpec::through("p");
        spec.selectors = serde_json::from_value(json!(["a near (b)"])).unwrap();
        spec.exclude_selectors = serde_json::from_value(json!(7)).unwrap();
        spec.included_resource_types = vec!["Nonsense".to_owned()];
        let (_, failures) = Scope::of(&spec, source(), &source());
        let reasons: Vec<&str> = failures.list.iter().map(|f| f.reason.as_str()).collect();
        assert_eq!(reasons, ["UnknownType", "BadSelector", "BadSelector"]);
    }

    #[test]
    fn a_kind_that_only_the_source_serves_is_in_the_way_unless_its_definition_goes_along() {
        let destination = Catalogue::of(vec![
            kind("", "v1", "ConfigMap", true),
            kind("autoscaling", "v2", "HorizontalPodAutoscaler", true),
        ]);
        let (scope, _) = Scope::of(&MigrationSpec::through("p"), source(), &destination);
        let reason = |name: &str, along| {
            let reading = scope.namespaced.iter().find(|r| r.kind.kind == name).unwrap();
            scope.disagreement(reading, 2, along).map(|finding| (finding.object, finding.reason))
        };
        assert_eq!(reason("ConfigMap", false), None);
        assert_eq!(
            reason("Widget", false),
            Some(("example.com/v1 Widget".to_owned(), "KindNotServed".to_owned()))
        );
        assert_eq!(reason("Widget", true), None);
        let apart = ("autoscaling/v1 HorizontalPodAutoscaler".to_owned(), "VersionNotServed".to_owned());
        assert_eq!(reason("HorizontalPodAutoscaler", false), Some(apart.clone()));
        assert_eq!(reason("HorizontalPodAutoscaler", true), Some(apart));
    }
}
