//! What is wrong with a schedule, as far as its spec, and that of the plan that it names, tell.

use super::{OptionProblem, Problems, is_subdomain};
use crate::resources::{MAX_SCHEDULE_NAME, MigrationAction, MigrationScheduleSpec, MigrationSpec};

/// Where the options of a schedule's runs are.
const TEMPLATE: &str = "spec.template.spec";

impl MigrationScheduleSpec {
    /// What is wrong with a schedule of this name; nothing, if its runs may be begun.
    pub fn problems(&self, name: &str) -> Vec<OptionProblem> {
        let mut found = Problems::default();
        if name.len() > MAX_SCHEDULE_NAME || !is_subdomain(name) {
            let message = format!(
                "the runs of a schedule are called after it, and carry its name as a label: give it a name of at most {MAX_SCHEDULE_NAME} characters a-z, 0-9, '-' and '.'"
            );
            found.add("metadata.name", "BadName", message);
        }
        if let Err(error) = self.cadence() {
            found.add(error.field(), error.reason(), error.to_string());
        }
        if self.successful_history_limit == 0 {
            let message = "the newest run that succeeded is always kept: write 1 or more";
            found.add("spec.successfulHistoryLimit", "OutOfRange", message);
        }
        let options = &self.template.spec;
        if options.plan.is_some() {
            if let Some(field) = options.beside_plan() {
                let message = "the options are those of the plan: set it there, or leave out `plan`";
                found.add(format!("{TEMPLATE}.{field}"), "BesidePlan", message);
            }
        } else {
            for problem in options.problems() {
                let field = problem.field.replacen("spec", TEMPLATE, 1);
                found.add(field, problem.reason, problem.message);
            }
        }
        unrepeatable(options, TEMPLATE, &mut found);
        found.0
    }

    /// What is wrong with a schedule's runs as soon as they take their options from this plan.
    pub fn problems_with(&self, plan: &MigrationSpec) -> Vec<OptionProblem> {
        let (own, mut found) = (&self.template.spec, Problems::default());
        let options = own.with_plan(plan);
        if !own.cluster_pair.is_empty() && own.cluster_pair != plan.cluster_pair {
            let message =
                format!("the plan goes through ClusterPair {}: leave it out here", plan.cluster_pair);
            found.add(format!("{TEMPLATE}.clusterPair"), "AnotherPair", message);
        }
        unrepeatable(&options, &format!("{TEMPLATE}.plan"), &mut found);
        for problem in options.problems() {
            found.add(problem.field, problem.reason, format!("{} (in the plan)", problem.message));
        }
        found.0
    }
}

/// A schedule repeats what leaves the source as it is.
fn unrepeatable(options: &MigrationSpec, field: &str, found: &mut Problems) {
    if !matches!(options.action, MigrationAction::Stage | MigrationAction::Final) {
        let message = format!("{:?} is nothing to repeat: write Stage or Final", options.action);
        found.add(format!("{TEMPLATE}.action"), "BadAction", message);
    }
    if options.rollback_of.is_some() {
        let message = "a schedule undoes nothing: leave it out";
        found.add(format!("{TEMPLATE}.rollbackOf"), "BadAction", message);
    }
    if options.dry_run {
        found.add(
            format!("{TEMPLATE}.dryRun"),
            "BadAction",
            "a run that changes nothing is not repeated: leave it out",
        );
    }
    if options.action == MigrationAction::Final && options.quiesce {
        let message = "runs that are repeated leave the source running, and with `quiesce` each would stop it for good: write `action: Stage`, or leave `quiesce` out; `isthmus failover` cuts a schedule over";
        let field = if field == TEMPLATE { format!("{TEMPLATE}.quiesce") } else { field.to_owned() };
        found.add(field, "BadCutover", message);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(change: &Value, options: &Value) -> MigrationScheduleSpec {
        let mut spec = json!({"schedule": "0 2 * * *", "template": {"spec": options}});
        spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    fn told(change: &Value, options: &Value) -> Vec<String> {
        let problems = spec(change, options).problems("nightly");
        problems.iter().map(|problem| format!("{}: {}", problem.field, problem.reason)).collect()
    }

    fn cms() -> Value {
        json!({"clusterPair": "prod", "namespaces": ["cms"]})
    }

    #[test]
    fn a_schedule_of_options_and_one_of_a_plan_are_sound() {
        let whole = json!({"timeZone": "Europe/Berlin", "startingDeadlineSeconds": 600, "suspend": true,
                           "successfulHistoryLimit": 1, "failedHistoryLimit": 0, "autoSuspend": false});
        assert!(told(&whole, &cms()).is_empty());
        assert!(told(&json!({}), &json!({"plan": "shop", "action": "Stage", "quiesce": true})).is_empty());
    }

    #[test]
    fn each_fault_is_named_by_its_field() {
        let bad = json!({"schedule": "often", "successfulHistoryLimit": 0});
        assert_eq!(
            told(&bad, &cms()),
            ["spec.schedule: BadSchedule", "spec.successfulHistoryLimit: OutOfRange"]
        );
        assert_eq!(told(&json!({"timeZone": "Mars"}), &cms()), ["spec.timeZone: UnknownTimeZone"]);
        assert_eq!(
            told(
                &json!({}),
                &json!({"clusterPair": "prod", "namespaces": ["CMS"], "bandwidthLimit": "fast"})
            ),
            [
                "spec.template.spec.namespaces[0]: BadNamespaceName",
                "spec.template.spec.bandwidthLimit: BadQuantity"
            ]
        );
        assert_eq!(
            told(&json!({}), &json!({"plan": "shop", "parallelVolumes": 7})),
            ["spec.template.spec.parallelVolumes: BesidePlan"]
        );
        let sound = spec(&json!({}), &cms());
        for name in ["", "A", &"a".repeat(MAX_SCHEDULE_NAME + 1)] {
            assert_eq!(sound.problems(name)[0].field, "metadata.name");
        }
        assert!(sound.problems(&"a".repeat(MAX_SCHEDULE_NAME)).is_empty());
    }

    #[test]
    fn what_would_stop_the_source_or_undo_is_not_repeated() {
        let with = |change: Value| {
            let mut options = cms();
            options.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            told(&json!({}), &options)
        };
        assert_eq!(with(json!({"quiesce": true})), ["spec.template.spec.quiesce: BadCutover"]);
        assert!(with(json!({"quiesce": true, "action": "Stage"})).is_empty());
        assert_eq!(with(json!({"dryRun": true})), ["spec.template.spec.dryRun: BadAction"]);
        let undo = with(json!({"action": "Rollback", "rollbackOf": "m"}));
        assert!(undo.contains(&"spec.template.spec.action: BadAction".to_owned()), "{undo:?}");
    }

    #[test]
    fn what_a_plan_brings_is_looked_at_too() {
        let plan: MigrationSpec = serde_json::from_value(json!({
            "clusterPair": "prod", "namespaces": ["cms"], "quiesce": true
        }))
        .unwrap();
        let with = |options: Value| {
            let problems = spec(&json!({}), &options).problems_with(&plan);
            problems
                .iter()
                .map(|problem| format!("{}: {}", problem.field, problem.reason))
                .collect::<Vec<_>>()
        };
        assert!(with(json!({"plan": "shop", "action": "Stage"})).is_empty());
        assert_eq!(with(json!({"plan": "shop"})), ["spec.template.spec.plan: BadCutover"]);
        assert_eq!(
            with(json!({"plan": "shop", "action": "Stage", "clusterPair": "other"})),
            ["spec.template.spec.clusterPair: AnotherPair"]
        );
    }
}
