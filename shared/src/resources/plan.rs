//! `MigrationPlan`: what to move and how, to be checked, staged, cut over and repeated.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, CustomResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MigrationSpec, MigrationStatus, definitions};

/// The most problems that a plan's status lists.
pub const MAX_PLAN_PROBLEMS: usize = 40;
/// What a plan does not say because each run says it.
const OF_A_RUN: [&str; 5] = ["action", "dryRun", "plan", "rollbackOf", "schedule"];

/// The options of the runs that name the plan: those of a Migration, without what only a run says
/// (`action`, `dryRun`, `plan`, `rollbackOf`, `schedule`).
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "isthmus.dev",
    version = "v1alpha1",
    kind = "MigrationPlan",
    plural = "migrationplans",
    namespaced,
    status = "MigrationPlanStatus",
    schema = "disabled",
    category = "isthmus",
    derive = "PartialEq",
    printcolumn(name = "Pair", type_ = "string", json_path = ".spec.clusterPair"),
    printcolumn(name = "Check", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Critical", type_ = "integer", json_path = ".status.critical"),
    printcolumn(name = "Warnings", type_ = "integer", json_path = ".status.warnings"),
    printcolumn(name = "Checked", type_ = "date", json_path = ".status.checkedAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct MigrationPlanSpec {
    /// The options.
    #[serde(flatten, serialize_with = "as_a_plan")]
    pub options: MigrationSpec,
}

/// Without what the definition of a plan does not know: strict API servers refuse it.
fn as_a_plan<S: serde::Serializer>(options: &MigrationSpec, serializer: S) -> Result<S::Ok, S::Error> {
    let mut value = serde_json::to_value(options).map_err(serde::ser::Error::custom)?;
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| !OF_A_RUN.contains(&name.as_str()));
    }
    value.serialize(serializer)
}

/// What the last check of a plan found.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct MigrationPlanStatus {
    /// How the plan stands.
    pub phase: PlanPhase,
    /// The generation of the plan that was checked last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<Time>,
    /// The value of the annotation `isthmus.dev/check` that the last check answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered: Option<String>,
    /// What is the matter, the critical first; at most [`MAX_PLAN_PROBLEMS`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<PlanProblem>,
    /// How many problems stop a run.
    pub critical: u64,
    /// How many problems only tell.
    pub warnings: u64,
    /// What it is at or waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How many checks have been begun.
    pub checks: u64,
    /// The check that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<PlanCheck>,
    /// `Ready`: a run of the plan may begin.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A check of a plan: a dry run.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PlanCheck {
    /// Which of the plan's checks it is, from 1.
    pub number: u64,
    /// When it was begun.
    pub began_at: Time,
    /// The generation of the plan that is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The value of the annotation `isthmus.dev/check` that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The dry run.
    #[schemars(schema_with = "super::as_it_is")]
    pub run: Box<MigrationStatus>,
}

/// How a plan stands.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum PlanPhase {
    /// Not checked yet.
    #[default]
    Pending,
    /// Being checked.
    Checking,
    /// Nothing critical was found.
    Ready,
    /// Something critical was found.
    NotReady,
}

/// Something that the check of a plan found.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PlanProblem {
    /// Whether it stops a run.
    pub severity: ProblemSeverity,
    /// The object, or the field of the plan.
    pub object: String,
    /// One word in CamelCase, for programs.
    pub reason: String,
    /// What is the matter and what to do.
    pub message: String,
}

/// How bad a problem is.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum ProblemSeverity {
    /// No run begins before it is put right.
    Critical,
    /// A person should know.
    Warn,
}

/// The definition: the spec's schema is that of a Migration, which may change.
pub(super) fn definition() -> CustomResourceDefinition {
    let mut crd = MigrationPlan::crd();
    let mut schema = definitions::migration();
    let properties = schema.properties.get_or_insert_default();
    let spec = definitions::options("What to move and how: the options of a Migration", &OF_A_RUN);
    properties.insert("spec".to_owned(), spec);
    properties.insert("status".to_owned(), definitions::of::<MigrationPlanStatus>());
    schema.description = Some("What to move and how, checked by itself as it changes".to_owned());
    for version in &mut crd.spec.versions {
        version.schema.get_or_insert_default().open_api_v3_schema = Some(schema.clone());
    }
    crd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_the_options_of_a_migration_and_may_change() {
        let crd = definition();
        let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
        let properties = schema.properties.unwrap();
        let spec = &properties["spec"];
        let names = spec.properties.as_ref().unwrap();
        assert!(names.contains_key("clusterPair") && names.contains_key("transforms"));
        assert!(OF_A_RUN.iter().all(|name| !names.contains_key(*name)));
        assert!(spec.x_kubernetes_validations.is_none());
        assert_eq!(spec.any_of.as_ref().unwrap().len(), 2);
        let status = properties["status"].properties.as_ref().unwrap();
        assert!(status.contains_key("problems") && status.contains_key("check"));
    }

    #[test]
    fn a_plan_reads_as_a_migration_does() {
        let plan: MigrationPlanSpec = serde_json::from_str(
            r#"{"clusterPair": "prod", "namespaces": ["cms"], "quiesce": true, "parallelVolumes": 4}"#,
        )
        .unwrap();
        assert_eq!((plan.options.quiesce, plan.options.parallel_volumes), (true, 4));
        let written = serde_json::to_value(&plan).unwrap();
        assert_eq!(written["parallelVolumes"], 4);
        assert!(OF_A_RUN.iter().all(|name| written.get(*name).is_none()), "{written}");
    }
}
