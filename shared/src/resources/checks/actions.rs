//! The action, the operators and the single volumes.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use super::{Problems, hooks, is_label, is_subdomain};
use crate::quantity::Amount;
use crate::resources::{
    IncludeClusterResources, MAX_STEP_LIMIT_SECONDS, MAX_STEP_RETRIES, MIN_STEP_LIMIT_SECONDS,
    MigrationAction, MigrationSpec, PerStep, VolumeAction, VolumeChoice,
};

pub(super) fn check(spec: &MigrationSpec, found: &mut Problems) {
    if spec.action == MigrationAction::Rollback && spec.rollback_of.is_none() {
        let message = "a Rollback undoes one Final: name that Migration here";
        found.add("spec.rollbackOf", "NoMigration", message);
    }
    if spec.action != MigrationAction::Rollback && spec.rollback_of.is_some() {
        let message = "only a Rollback undoes another Migration: set `action: Rollback`, or leave this out";
        found.add("spec.rollbackOf", "BadAction", message);
    }
    if spec.action.is_of_schedule() && spec.schedule.is_none() {
        let message = "it is of one MigrationSchedule: name that here";
        found.add("spec.schedule", "NoSchedule", message);
    }
    if !spec.action.is_of_schedule() && spec.schedule.is_some() {
        let message =
            "only a Failover or a Failback is of a schedule: set `action` to one of them, or leave this out";
        found.add("spec.schedule", "BadAction", message);
    }
    if spec.action == MigrationAction::Stage && !spec.include_volumes {
        let message = "a Stage moves nothing but volumes: leave `includeVolumes` out";
        found.add("spec.includeVolumes", "NothingToDo", message);
    }
    if spec.quiesce && spec.action.brings_all() && !spec.include_resources {
        let message = "a cutover starts the applications on the destination, and these must go along: leave `includeResources` out";
        found.add("spec.includeResources", "BadCutover", message);
    }
    hooks::check(spec, found);
    for (at, operator) in spec.operators.iter().enumerate() {
        let field = format!("spec.operators[{at}]");
        if !is_label(&operator.namespace) || !is_subdomain(&operator.name) {
            let message = "write the namespace and the name of a workload of the source";
            found.add(field, "BadOperator", message);
        } else if !["Deployment", "StatefulSet"].contains(&operator.kind.as_str()) {
            let message =
                format!("{:?} cannot be an operator: write Deployment or StatefulSet", operator.kind);
            found.add(format!("{field}.kind"), "BadOperator", message);
        }
    }
    per_step("spec.timeouts", spec.timeouts, MIN_STEP_LIMIT_SECONDS..=MAX_STEP_LIMIT_SECONDS, found);
    per_step("spec.retries", spec.retries, 0..=MAX_STEP_RETRIES, found);
    volumes(spec, found);
}

fn per_step(field: &str, mut set: PerStep, allowed: RangeInclusive<u32>, found: &mut Problems) {
    for (step, value) in set.entries() {
        if let Some(value) = value.filter(|value| !allowed.contains(value)) {
            let message = format!("{value} cannot be: write {} to {}", allowed.start(), allowed.end());
            found.add(format!("{field}.{step}"), "BadLimit", message);
        }
    }
}

fn volumes(spec: &MigrationSpec, found: &mut Problems) {
    let (mut seen, mut arriving) = (HashSet::new(), HashSet::new());
    for (at, choice) in spec.volumes.iter().enumerate() {
        let field = format!("spec.volumes[{at}]");
        let what = format!("{}/{}", choice.namespace, choice.claim);
        if !is_label(&choice.namespace) || !is_subdomain(&choice.claim) {
            let message =
                format!("{what:?} cannot be a claim: write its namespace and its name on the source");
            found.add(&field, "BadVolume", message);
            continue;
        }
        if !seen.insert(what.clone()) {
            found.add(&field, "BadVolume", format!("claim {what} is there twice: write it once"));
            continue;
        }
        if choice.action == VolumeAction::Keep && !spec.quiesce && spec.action == MigrationAction::Final {
            let message = format!(
                "claim {what} cannot be kept while the source goes on using it: set `quiesce: true`, or copy it"
            );
            found.add(format!("{field}.action"), "BadVolume", message);
        }
        if choice.action == VolumeAction::Keep {
            kept(spec, choice, &field, found);
        }
        let to = (choice.namespace.as_str(), choice.name.as_deref().unwrap_or(&choice.claim));
        if !arriving.insert(to) {
            let message = format!("two claims would arrive as {}: give each a name of its own", to.1);
            found.add(format!("{field}.name"), "BadVolume", message);
        }
        if let Some(size) = &choice.size
            && Amount::parse(size).is_none_or(|size| size.units() == 0)
        {
            let message = format!("{size:?} is no size: write a quantity such as 10Gi");
            found.add(format!("{field}.size"), "BadVolume", message);
        }
        if let Some(name) = choice.name.as_ref().filter(|name| !is_subdomain(name)) {
            found.add(format!("{field}.name"), "BadVolume", format!("{name:?} cannot name a claim"));
        }
        for mode in choice.access_modes.iter().filter(|mode| !super::ACCESS_MODES.contains(&mode.as_str())) {
            let message =
                format!("{mode:?} is no access mode: write one of {}", super::ACCESS_MODES.join(", "));
            found.add(format!("{field}.accessModes"), "BadVolume", message);
        }
    }
}

/// A volume that is kept stays what it is.
fn kept(spec: &MigrationSpec, choice: &VolumeChoice, field: &str, found: &mut Problems) {
    if !spec.include_volumes {
        let message = "no volume goes along without `includeVolumes`: leave that out, or skip this one";
        found.add(format!("{field}.action"), "BadVolume", message);
    }
    if spec.include_cluster_resources == IncludeClusterResources::None {
        let message = "a volume is of cluster scope, of which `includeClusterResources: None` takes nothing: write Auto, or copy it";
        found.add(format!("{field}.action"), "BadVolume", message);
    }
    let set = [
        ("storageClass", choice.storage_class.is_some()),
        ("size", choice.size.is_some()),
        ("accessModes", !choice.access_modes.is_empty()),
        ("verify", choice.verify.is_some()),
    ];
    for (option, _) in set.iter().filter(|(_, set)| *set) {
        let message = format!("a kept volume stays as it is: leave `{option}` out, or copy the volume");
        found.add(format!("{field}.{option}"), "BadVolume", message);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(options: &Value) -> Vec<String> {
        let mut spec = json!({"clusterPair": "p", "namespaces": ["cms"]});
        spec.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let spec: MigrationSpec = serde_json::from_value(spec).unwrap();
        spec.problems().into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn limits_of_steps_are_bounded_on_both_sides() {
        assert!(
            told(&json!({"timeouts": {"quiesce": 10, "goBack": 2_592_000}, "retries": {"apply": 10}}))
                .is_empty()
        );
        let bad = json!({"timeouts": {"quiesce": 9, "volumes": 2_592_001}, "retries": {"apply": 11}});
        assert_eq!(told(&bad), ["spec.timeouts.volumes", "spec.timeouts.quiesce", "spec.retries.apply"]);
    }

    #[test]
    fn an_action_and_what_belongs_to_it_go_together() {
        assert_eq!(told(&json!({"action": "Rollback"})), ["spec.rollbackOf"]);
        assert_eq!(told(&json!({"rollbackOf": "m"})), ["spec.rollbackOf"]);
        assert_eq!(told(&json!({"action": "Stage", "includeVolumes": false})), ["spec.includeVolumes"]);
        assert_eq!(told(&json!({"quiesce": true, "includeResources": false})), ["spec.includeResources"]);
        assert!(told(&json!({"action": "Stage", "quiesce": true})).is_empty());
        assert_eq!(told(&json!({"action": "Failover"})), ["spec.schedule"]);
        assert_eq!(told(&json!({"schedule": "nightly"})), ["spec.schedule"]);
        for action in ["Failover", "Failback"] {
            assert!(told(&json!({"action": action, "schedule": "nightly"})).is_empty());
            let without =
                json!({"action": action, "schedule": "s", "quiesce": true, "includeResources": false});
            assert_eq!(told(&without), ["spec.includeResources"]);
        }
    }

    #[test]
    fn volumes_are_named_once_and_kept_only_where_the_source_stops() {
        let keep = json!({"namespace": "cms", "claim": "data", "action": "Keep"});
        assert_eq!(told(&json!({"volumes": [keep]})), ["spec.volumes[0].action"]);
        assert!(told(&json!({"volumes": [keep], "quiesce": true})).is_empty());
        let bad =
            json!({"namespace": "cms", "claim": "data", "size": "much", "name": "A", "accessModes": ["x"]});
        assert_eq!(
            told(&json!({"volumes": [bad]})),
            ["spec.volumes[0].size", "spec.volumes[0].name", "spec.volumes[0].accessModes"]
        );
        assert_eq!(told(&json!({"volumes": [keep, keep], "quiesce": true})), ["spec.volumes[1]"]);
        let resized =
            json!({"namespace": "cms", "claim": "data", "action": "Keep", "size": "1Gi", "verify": "Full"});
        assert_eq!(
            told(&json!({"volumes": [resized], "quiesce": true})),
            ["spec.volumes[0].size", "spec.volumes[0].verify"]
        );
        let without = json!({"volumes": [keep], "quiesce": true, "includeVolumes": false});
        assert_eq!(told(&without), ["spec.volumes[0].action"]);
        let of_namespaces = json!({"volumes": [keep], "quiesce": true, "includeClusterResources": "None"});
        assert_eq!(told(&of_namespaces), ["spec.volumes[0].action"]);
    }

    #[test]
    fn two_claims_cannot_arrive_under_one_name() {
        let to = |claim: &str, name: &str| json!({"namespace": "cms", "claim": claim, "name": name});
        assert_eq!(told(&json!({"volumes": [to("a", "x"), to("b", "x")]})), ["spec.volumes[1].name"]);
        assert!(told(&json!({"volumes": [to("a", "b"), to("b", "a")]})).is_empty(), "they change places");
    }

    #[test]
    fn an_operator_is_a_deployment_or_a_stateful_set() {
        let operator = |kind: &str| json!({"operators": [{"namespace": "ops", "name": "o", "kind": kind}]});
        assert!(told(&operator("StatefulSet")).is_empty());
        assert_eq!(told(&operator("Pod")), ["spec.operators[0].kind"]);
    }
}
