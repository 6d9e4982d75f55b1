//! Plans: checked as they change, when asked for, and now and then.

use std::sync::Arc;

use futures::future::BoxFuture;
use isthmus_shared::resources::{FINALIZER, MigrationPlan};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use super::{Desk, migration};
use crate::records::WriteError;
use crate::{checks, surroundings};

/// How long what a check has in staging is tried to be removed before it is left where it is.
const REMOVE_LIMIT: SignedDuration = SignedDuration::from_mins(1);

/// Begins a plan's check, moves it on, and concludes it.
pub(super) fn reconcile(
    desk: Arc<Desk>,
    plan: Arc<MigrationPlan>,
) -> BoxFuture<'static, Result<(), WriteError>> {
    Box::pin(async move {
        let (namespace, name) = (plan.namespace().unwrap_or_default(), plan.name_any());
        let records = desk.records();
        let Some(plan) = records.plans.get(&namespace, &name) else { return Ok(()) };
        let deleted = plan.metadata.deletion_timestamp.is_some();
        let finalized = plan.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
        if !deleted && !finalized {
            // It comes back with the finalizer: nothing is begun that would not be ended.
            desk.office.writer.finalizer(&records.plans, &plan, true).await?;
            return Ok(());
        }
        if deleted && !finalized {
            return Ok(());
        }
        move_on(&desk, &namespace, &name).await?;
        let Some(plan) = records.plans.get(&namespace, &name) else { return Ok(()) };
        if checks::has_ended(&plan) && swept(&desk, &plan).await {
            desk.office
                .writer
                .status(&records.plans, &namespace, &name, |known| {
                    let now = Timestamp::now();
                    let mut others = surroundings::wrong_clocks(records, &desk.office.presence, known, now);
                    others.extend(surroundings::plans_beside(records, known));
                    changed(known, checks::conclude(known, others, now))
                })
                .await?;
        }
        let Some(plan) = records.plans.get(&namespace, &name) else { return Ok(()) };
        let checking = plan.status.as_ref().is_some_and(|status| status.check.is_some());
        if deleted && !checking {
            desk.office.writer.finalizer(&records.plans, &plan, false).await?;
        }
        Ok(())
    })
}

/// Begins a check or moves it on. Checks begin one after the other, as their number is bounded, and
/// not while a run is let in: it must be seen by the check.
async fn move_on(desk: &Desk, namespace: &str, name: &str) -> Result<(), WriteError> {
    let records = desk.records();
    let Some(plan) = records.plans.get(namespace, name) else { return Ok(()) };
    let begins = plan.status.as_ref().is_none_or(|status| status.check.is_none());
    if begins && !checks::is_due(&plan, true, Timestamp::now()) {
        return Ok(());
    }
    let _held = if begins { Some(desk.office.runs.admission().await) } else { None };
    let presence = &desk.office.presence;
    desk.office
        .writer
        .status(&records.plans, namespace, name, |known| {
            let around = surroundings::around(records, presence, known);
            changed(known, checks::step(known, &around, &[], Timestamp::now()))
        })
        .await?;
    Ok(())
}

/// Whether what an ended check had in staging is removed, or given up.
async fn swept(desk: &Desk, plan: &MigrationPlan) -> bool {
    let Some(check) = checks::as_migration(plan) else { return true };
    let Err(why) = migration::remove_staging(desk, &check).await else { return true };
    let ended = check.status.as_ref().and_then(|status| status.finished_at.as_ref());
    let ended = ended.map_or(Timestamp::MIN, |at| at.0).max(desk.office.presence.since);
    let (plan, check) = (plan.name_any(), check.uid().unwrap_or_default());
    if Timestamp::now().duration_since(ended) <= REMOVE_LIMIT {
        tracing::warn!(plan, why, "removing what a check has in staging failed; trying again");
        return false;
    }
    tracing::warn!(
        plan,
        why,
        "what a check has in staging is left there: remove the keys below */migrations/{check}/ from the bucket"
    );
    true
}

/// The plan with another status, if it is another.
pub(crate) fn changed(
    known: &MigrationPlan,
    after: isthmus_shared::resources::MigrationPlanStatus,
) -> Option<MigrationPlan> {
    (known.status.clone().unwrap_or_default() != after).then(|| {
        let mut changed = known.clone();
        changed.status = Some(after);
        changed
    })
}
