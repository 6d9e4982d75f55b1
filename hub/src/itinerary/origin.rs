//! Whether the options that a run is to go by can be had.

use isthmus_shared::resources::{Finding, Migration, MigrationAction, MigrationSpec};

use super::findings::finding;
use super::view::{Origin, Scheduled, Undone};

/// The options that a migration would be begun with, or why there are none.
pub(super) fn options(migration: &Migration, origin: &Origin) -> Result<MigrationSpec, Finding> {
    let own = &migration.spec;
    let namespace = migration.metadata.namespace.as_deref().unwrap_or_default();
    if own.schedule.is_some() && (own.plan.is_some() || own.rollback_of.is_some()) {
        let message = "a failover goes by a schedule alone: leave out `plan` and `rollbackOf`, then create the Migration again";
        return Err(finding("spec.schedule", "BadAction", message));
    }
    if own.plan.is_some() && own.rollback_of.is_some() {
        let message = "a run goes by a plan or undoes another run: leave out `plan` or `rollbackOf`, then create the Migration again";
        return Err(finding("spec.plan", "BadAction", message));
    }
    match origin {
        Origin::Own => {}
        Origin::Plan(plan) => {
            let name = own.plan.as_deref().unwrap_or_default();
            if let Some(field) = own.beside_plan() {
                let message = format!(
                    "the options are those of MigrationPlan {name}: set {field} there or leave out `plan`, then create the Migration again"
                );
                return Err(finding(format!("spec.{field}"), "BesidePlan", message));
            }
            if plan.is_none() {
                let message = format!(
                    "there is no such plan in namespace {namespace}: look at `isthmus plan list`, then create the Migration again"
                );
                return Err(finding(format!("MigrationPlan {name}"), "NoSuchPlan", message));
            }
        }
        Origin::Undoes(undone) => undoable(own, undone, namespace)?,
        Origin::Schedule(scheduled) => of_schedule(own, scheduled, namespace)?,
    }
    let options = origin.options(own);
    let another =
        |options: &&MigrationSpec| !own.cluster_pair.is_empty() && own.cluster_pair != options.cluster_pair;
    if let Some(other) = options.as_ref().filter(another) {
        let message = format!(
            "it goes through ClusterPair {}, and the Migration names {}: leave clusterPair out, then create the Migration again",
            other.cluster_pair, own.cluster_pair
        );
        return Err(finding("spec.clusterPair", "AnotherPair", message));
    }
    options
        .ok_or_else(|| finding("spec", "NoOptions", "the options cannot be had: create the Migration again"))
}

/// Whether a schedule can be failed over or back.
fn of_schedule(own: &MigrationSpec, scheduled: &Scheduled, namespace: &str) -> Result<(), Finding> {
    let name = own.schedule.as_deref().unwrap_or_default();
    let object = format!("MigrationSchedule {name}");
    if let Some(field) = own.beside_schedule() {
        let message = format!(
            "it goes by the options of MigrationSchedule {name}: leave {field} out, then create the Migration again"
        );
        return Err(finding(format!("spec.{field}"), "BesideSchedule", message));
    }
    if let Some(plan) = &scheduled.missing_plan {
        let message = format!(
            "its runs go by plan {plan}, and there is no such plan in namespace {namespace}: look at `isthmus plan list`, then create the Migration again"
        );
        return Err(finding(format!("MigrationPlan {plan}"), "NoSuchPlan", message));
    }
    if scheduled.template.is_none() {
        let message = format!(
            "there is no such schedule in namespace {namespace}: look at `isthmus schedule list`, then create the Migration again"
        );
        return Err(finding(object, "NoSuchSchedule", message));
    }
    if own.action == MigrationAction::Failover
        && let Some(run) = &scheduled.failed_over
    {
        let message = format!(
            "migration {run} has failed it over, and its applications have not been handed back since: do so with `isthmus failback {name}` first"
        );
        return Err(finding(object, "AlreadyFailedOver", message));
    }
    if own.action == MigrationAction::Failback && scheduled.failed_over.is_none() {
        let message = "no failover of it has succeeded since its applications were last handed back, so there is nothing to hand back: where a cutover has moved them, move them back by a Migration in reverse with `quiesce: true`";
        return Err(finding(object, "NotFailedOver", message));
    }
    Ok(())
}

/// Whether the run that is to be undone can be.
fn undoable(own: &MigrationSpec, undone: &Undone, namespace: &str) -> Result<(), Finding> {
    let name = own.rollback_of.as_deref().unwrap_or_default();
    let refuse = |reason: &str, message: String| Err(finding(format!("Migration {name}"), reason, message));
    if let Some(field) = own.beside_rollback() {
        let message = format!(
            "a Rollback goes by the options of Migration {name}: leave {field} out, then create the Migration again"
        );
        return Err(finding(format!("spec.{field}"), "BesideRollback", message));
    }
    let Some(known) = undone.migration.as_deref() else {
        return refuse(
            "NoSuchMigration",
            format!("there is no such migration in namespace {namespace}: look at `isthmus migration list`"),
        );
    };
    if known.status.as_ref().is_some_and(|status| status.recovers.is_some()) {
        let message = "it went by what was staged, without its source, and there is nothing there that it would start again: stop the destination with `isthmus deactivate` and start the source with `isthmus activate`, or hand the applications back with `isthmus failback`";
        return refuse("NotUndoable", message.to_owned());
    }
    if !known.options().action.brings_all() || known.options().dry_run {
        return refuse(
            "NotUndoable",
            "it is no Final, so it has stopped and started nothing: undo the Final that did".to_owned(),
        );
    }
    let ended = known.status.as_ref().filter(|status| status.status.is_terminal());
    if ended.is_none() {
        return refuse(
            "StillRunning",
            format!("it has not ended: cancel it with `isthmus migration cancel {name}`, which undoes it"),
        );
    }
    if ended.is_some_and(|status| status.pipeline.is_empty()) {
        return refuse("NotUndoable", "it never began, so there is nothing to undo".to_owned());
    }
    if let Some(later) = &undone.superseded_by {
        let message = format!(
            "migration {later} has moved its namespaces since, or begun to, so that nothing is as it was any more: move them back with a Migration in reverse"
        );
        return refuse("Superseded", message);
    }
    Ok(())
}
