//! The API kinds of `isthmus.dev/v1alpha1`, one file each.
//!
//! The hub's whole state is objects of these kinds: specs are written by people, statuses by
//! the hub. Status is small and bounded; what is large (a result for every object, logs) lies
//! in staging and is read through the hub.
//!
//! [`crds`] is the one list of them, which `isthmus-hub crds`, the hub's start and the test
//! that guards `deploy/` all use.

// Every printer column has a type and a path: the lint takes columns of one type for a mistake.
// The fields of a kind are its API: flags that are independent stay flags.
#![allow(clippy::duplicated_attributes, clippy::struct_excessive_bools)]

mod checks;
mod choices;
mod cluster;
mod cluster_pair;
mod cutover;
mod definitions;
mod exclusions;
mod failover;
mod hooks;
mod marks;
mod migration;
mod migration_status;
mod namespaces;
mod object_store;
mod plan;
mod pruning;
mod rewriting;
mod rule;
mod schedule;
mod selectors;
mod step_limits;
mod volumes;

pub use checks::{OptionProblem, glob_matcher, is_label, is_subdomain};
pub use choices::{VolumeAction, VolumeChoice};
pub use cluster::{
    Activation, ActivationPhase, ActivationStatus, Cluster, ClusterSpec, ClusterStatus, JoinStatus,
    StorageClassFact, TargetState,
};
pub use cluster_pair::{ClusterPair, ClusterPairSpec, ClusterPairStatus, LinkState};
pub use cutover::{Active, HealthOptions, OnFailure, OperatorRef, UndoneRun, VolumeReclaim};
pub use exclusions::{BadPattern, Exclusions, LOST_AND_FOUND};
pub use failover::{RecoveredRun, SourceLost};
pub use hooks::{ExecHook, Hook, HookPhase, ImagePullPolicy, JobHook, MAX_HOOKS, OnError, Until, WAIT_CMD};
pub use marks::*;
pub use migration::{Migration, MigrationAction, MigrationSpec, Turned};
pub use migration_status::{
    Finding, MAX_FINDINGS, MAX_NAMESPACES, MAX_VOLUMES, MigrationPhase, MigrationStatus, ResourceCounts,
    Side, Step, StepState, StepStatus, TaskRecord, VolumePhase, VolumeStatus,
};
pub use namespaces::{BadNamespaceEntry, NamespaceEntry, NamespaceMove, NamespaceRule};
pub use object_store::{ObjectStore, ObjectStoreSpec, ObjectStoreStatus, SecretRef, StsSpec};
pub use plan::{
    MAX_PLAN_PROBLEMS, MigrationPlan, MigrationPlanSpec, MigrationPlanStatus, PlanCheck, PlanPhase,
    PlanProblem, ProblemSeverity,
};
pub use pruning::{MAX_STAGED_VOLUMES, PrunePhase, PruneRequest, PruneStatus, PruneTotals, StagedVolume};
pub use rewriting::{ExistingResourcePolicy, IncludeClusterResources, Transform, TransformMatch};
pub use rule::{RULE_RETRIES, RULE_TIMEOUT_SECONDS, Rule, RuleAction, RuleActionKind, RuleItem, RuleUse};
pub use schedule::{
    BadCadence, Cadence, HoldReason, MAX_ACTIVE_RUNS, MAX_SCHEDULE_NAME, MigrationSchedule,
    MigrationScheduleSpec, MigrationScheduleStatus, RunOfSchedule, ScheduleHeld, ScheduleTemplate,
    ScheduleTiming, due_time_of, run_name,
};
pub use selectors::{BadSelector, LabelSelectors, MAX_SELECTORS, parse as parse_selector};
pub use step_limits::{
    LONG_STEP_LIMIT_SECONDS, MAX_STEP_LIMIT_SECONDS, MAX_STEP_RETRIES, MIN_STEP_LIMIT_SECONDS, PerStep,
    STEP_LIMIT_SECONDS,
};
pub use volumes::{
    MetadataPolicy, MoverOptions, Retention, SnapshotRetention, Verified, VerifyMethod, VolumeMethod,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

/// The API group of every kind here.
pub const GROUP: &str = "isthmus.dev";
/// The version of every kind here.
pub const VERSION: &str = "v1alpha1";

/// The custom resource definitions of all kinds, in the order in which they are applied.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![
        Cluster::crd(),
        ObjectStore::crd(),
        ClusterPair::crd(),
        Migration::crd(),
        plan::definition(),
        schedule::definition(),
        rule::definition(),
    ];
    for version in crds.iter_mut().flat_map(|crd| &mut crd.spec.versions) {
        if let Some(schema) = version.schema.as_mut().and_then(|v| v.open_api_v3_schema.as_mut()) {
            drop_foreign_formats(schema);
        }
    }
    crds
}

/// The schema of what the hub alone writes and reads, and whose schema stands elsewhere: a definition
/// that holds it twice would be too large for `kubectl apply`.
fn as_it_is(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "nullable": true})
}

/// Kubernetes knows no unsigned formats and warns of each at every apply.
fn drop_foreign_formats(schema: &mut JSONSchemaProps) {
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    for property in schema.properties.iter_mut().flat_map(|map| map.values_mut()) {
        drop_foreign_formats(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        drop_foreign_formats(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        drop_foreign_formats(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBEMOTION: &str = r#"
        {"clusterPair": "prodcluster", "includeResources": true, "startApplications": true, "namespaces": ["cms"]}"#;

    #[test]
    fn a_kubemotion_spec_is_a_migration_spec() {
        let spec: MigrationSpec = serde_json::from_str(KUBEMOTION).unwrap();
        assert_eq!(
            (spec.cluster_pair.as_str(), spec.namespaces.as_slice()),
            ("prodcluster", &["cms".into()][..])
        );
        assert!(spec.include_resources && spec.include_volumes && spec.start_applications);
    }

    #[test]
    fn applications_are_not_started_unless_asked_for() {
        let spec: MigrationSpec =
            serde_json::from_str(r#"{"clusterPair": "p", "namespaces": ["a"]}"#).unwrap();
        assert!(!spec.start_applications);
    }

    #[test]
    fn no_schema_has_a_format_that_kubernetes_does_not_know() {
        let text = serde_json::to_string(&crds()).unwrap();
        assert!(!text.contains(r#""format":"uint"#));
    }

    #[test]
    fn every_kind_that_is_acted_on_has_a_status_of_its_own_and_each_a_column_of_age() {
        for crd in crds() {
            let version = &crd.spec.versions[0];
            let has_status = version.subresources.as_ref().is_some_and(|s| s.status.is_some());
            assert_eq!(has_status, crd.spec.names.kind != "Rule");
            assert!(version.additional_printer_columns.iter().flatten().any(|column| column.name == "Age"));
        }
    }
}
