//! Workloads of the destination that a cutover did not bring, though it would have had they been there:
//! they are gone from the side that the applications come from. An earlier run had stopped them here,
//! or had brought them; to start them would bring back what somebody has removed.
//!
//! They stay stopped, which is told. Once the cutover has succeeded they are not kept ready to be
//! started any more either.

use isthmus_shared::protocol::{ObjectAction, ObjectResult, Run};
use isthmus_shared::resources::{MIGRATED_BY, MIGRATION_REPLICAS, MigrationSpec, QUIESCED_BY, SKIP};
use isthmus_shared::staging::{ArchiveError, ArchiveName};
use serde_json::Value;

use super::Tools;
use super::charge::{Charge, Owners};
use super::inventory::{Reader, Workload};
use super::state;
use super::switch::{Aim, bring_all};
use crate::apply::purge::Brought;
use crate::cluster::{ClusterError, annotation, api_version, array, describe, kind, label, name, namespace};
use crate::findings::finding;
use crate::task::{TaskContext, TaskError};

/// What a cutover has brought, where what it has not brought is gone from its source.
pub struct Arrived(Brought);

impl Arrived {
    /// Reads what became of the run's objects. None where a workload may be missing among them for
    /// another reason: the run is no cutover, brings no objects, or not all.
    pub async fn read(context: &TaskContext, run: &Run) -> Result<Option<Self>, TaskError> {
        if !run.spec.quiesce || !takes_all(&run.spec) {
            return Ok(None);
        }
        let mut results = match context.staging(run)?.read(ArchiveName::Results).await {
            Ok(results) => results,
            Err(ArchiveError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut brought = Brought::default();
        while let Some(line) = results.next().await? {
            if let Ok(result) = serde_json::from_value::<ObjectResult>(line) {
                note(&mut brought, &result);
            }
        }
        Ok(Some(Self(brought)))
    }

    /// Whether a workload of the destination is gone from the source.
    pub fn lacks(&self, object: &Value) -> bool {
        let group = api_version(object).split_once('/').map_or("", |(group, _)| group);
        let controlled = array(object, "/metadata/ownerReferences")
            .iter()
            .any(|owner| owner.get("controller") == Some(&true.into()));
        !controlled
            && annotation(object, SKIP) != Some("true")
            && !self.0.has(group, kind(object), namespace(object), name(object))
    }
}

/// Whether a run takes every workload of its namespaces.
fn takes_all(spec: &MigrationSpec) -> bool {
    spec.include_resources
        && spec.selectors.is_empty()
        && spec.exclude_selectors.is_empty()
        && spec.included_resource_types.is_empty()
        && spec.excluded_resource_types.is_empty()
}

fn note(brought: &mut Brought, result: &ObjectResult) {
    let arrived = matches!(
        result.action,
        ObjectAction::Created | ObjectAction::Updated | ObjectAction::Unchanged | ObjectAction::Skipped
    );
    if let Some(namespace) = result.namespace.as_deref().filter(|_| arrived) {
        let group = result.api_version.split_once('/').map_or("", |(group, _)| group);
        brought.note(group, &result.kind, namespace, &result.name);
    }
}

/// Tells of a workload that is not started.
pub fn tell(context: &TaskContext, run: &Run, object: &Value) {
    let kept = annotation(object, MIGRATION_REPLICAS);
    let count = kept.map(|count| format!(" (it ran with {count} replicas)")).unwrap_or_default();
    let message = format!(
        "it is not on cluster {} any more, so it is not started{count}: delete it if it is not needed, or start it by hand",
        run.source
    );
    context.warn(finding(describe(object), "GoneFromSource", message));
}

/// Lets go of what such workloads had before they were stopped, once a cutover has succeeded: nothing
/// starts them by itself from then on. What a person has stopped is left alone.
pub async fn retire(context: &TaskContext, run: &Run) -> Result<(), TaskError> {
    let Some(arrived) = Arrived::read(context, run).await? else { return Ok(()) };
    let tools = Tools::lenient(context).await?;
    let reader = tools.reader(context);
    for namespace in run.destinations() {
        let left = left_in(reader, namespace, &arrived).await?;
        bring_all(context, reader.registry, left, Aim::Forget).await?;
    }
    Ok(())
}

async fn left_in(reader: Reader<'_>, namespace: &str, arrived: &Arrived) -> Result<Vec<Workload>, TaskError> {
    let failed = |e: ClusterError| {
        TaskError::cluster(format!("Namespace {namespace}"), "listing what was not started in it", &e)
    };
    let all = reader.workloads(namespace).await.map_err(failed)?;
    let mut owners = Owners::default();
    for workload in &all {
        owners.note(reader.registry, &workload.object);
    }
    let is_left = |workload: &Workload| {
        let object = &workload.object;
        let by_a_run = annotation(object, QUIESCED_BY).is_some() || label(object, MIGRATED_BY).is_some();
        by_a_run
            && arrived.lacks(object)
            && !state::has_finished(object)
            && owners.charge(reader.registry, object, false) == Charge::Ours
    };
    Ok(all.iter().filter(|workload| is_left(workload)).cloned().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(more: &Value) -> Value {
        let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "cms"}});
        crate::transform::merge(&mut object, more);
        object
    }

    fn after(action: ObjectAction) -> Arrived {
        let result = ObjectResult {
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            namespace: Some("cms".to_owned()),
            name: "web".to_owned(),
            action,
            reason: None,
            message: None,
            diff: None,
            rewritten: None,
        };
        let mut brought = Brought::default();
        note(&mut brought, &result);
        Arrived(brought)
    }

    #[test]
    fn what_the_run_did_not_bring_is_gone_from_where_it_comes_from() {
        for action in
            [ObjectAction::Created, ObjectAction::Updated, ObjectAction::Unchanged, ObjectAction::Skipped]
        {
            assert!(!after(action).lacks(&deployment(&json!({}))), "{action:?}");
        }
        for action in [ObjectAction::LeftBehind, ObjectAction::Deleted] {
            assert!(after(action).lacks(&deployment(&json!({}))), "{action:?}");
        }
        assert!(after(ObjectAction::Created).lacks(&deployment(&json!({"metadata": {"name": "other"}}))));
    }

    #[test]
    fn what_never_goes_along_is_not_missed() {
        let none = Arrived(Brought::default());
        let skipped = deployment(&json!({"metadata": {"annotations": {SKIP: "true"}}}));
        let owned =
            deployment(&json!({"metadata": {"ownerReferences": [{"kind": "CronJob", "controller": true}]}}));
        assert!(!none.lacks(&skipped) && !none.lacks(&owned));
    }

    #[test]
    fn a_run_that_takes_only_a_part_tells_nothing_of_the_rest() {
        let spec = |fields: Value| {
            let mut spec = serde_json::to_value(MigrationSpec::through("p")).unwrap();
            crate::transform::merge(&mut spec, &fields);
            serde_json::from_value::<MigrationSpec>(spec).unwrap()
        };
        assert!(takes_all(&spec(json!({}))));
        for part in [
            json!({"selectors": {"app": "web"}}),
            json!({"excludeSelectors": {"app": "web"}}),
            json!({"includedResourceTypes": ["Deployment"]}),
            json!({"excludedResourceTypes": ["Deployment"]}),
            json!({"includeResources": false}),
        ] {
            assert!(!takes_all(&spec(part.clone())), "{part}");
        }
    }
}
