//! The checks of plans, decided: when one is due, how it goes on, and what it comes to. Pure.
//!
//! ```text
//!   plan, surroundings ─ step ──▶ status with a check: the dry run of a Migration that nobody made
//!                                   │ docket: tasks ─▶ spokes ─▶ reports ─▶ step
//!                                   ▼
//!                                conclude ──▶ problems, phase, Ready
//! ```
//!
//! A check is a dry run's Preflight through the same itinerary as every run. Its record is the
//! plan; the migration that the itinerary sees is made of it ([`as_migration`]), under a uid of its
//! own for each check, so that no spoke's late word about one check is taken for another's.
//!
//! Promises: of a plan one check is under way at most, and [`MAX_CHECKS`] through the hub; no run
//! waits for a check: a check that a run gets in the way of is ended and begun again later; what was
//! found last stays until something newer was found.

use isthmus_shared::protocol::TaskReport;
use isthmus_shared::resources::{
    CANCEL, CHECK, Finding, MAX_PLAN_PROBLEMS, Migration, MigrationAction, MigrationPhase, MigrationPlan,
    MigrationPlanStatus, MigrationSpec, MigrationStatus, PlanCheck, PlanPhase, PlanProblem, ProblemSeverity,
};
use jiff::{Timestamp, ToSpan};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use crate::conditions::{READY, Said, set_ready};
use crate::itinerary::{self, PairView, Verdict};

/// How long what a check found counts before the plan is checked again, seconds.
pub(crate) const RECHECK_SECONDS: i64 = 600;
/// The same, where the clusters could not be looked at, seconds.
pub(crate) const RETRY_SECONDS: i64 = 60;
/// How long a check waits for its pair to become Ready before that is what it found, seconds.
pub(crate) const PAIR_PATIENCE_SECONDS: i64 = 15;
/// The most checks that are under way at a time.
pub(crate) const MAX_CHECKS: usize = 8;
/// What stands between the uid of a plan and the number of its check.
const MARK: &str = "-check-";
/// The reason of the condition Ready where the clusters could not be looked at.
const NOT_LOOKED_AT: &str = "NotLookedAt";
/// What ends a check that is in the way of a run, or of a newer check.
const CANCELLED: &str = "Cancelled";

/// What surrounds a plan.
pub(crate) struct Around {
    /// As the itinerary sees it.
    pub view: PairView,
    /// A run that is under way and touches the same namespaces.
    pub in_the_way: Option<String>,
    /// Whether nothing runs through the plan's pair.
    pub quiet: bool,
    /// Whether another check may begin.
    pub room: bool,
}

/// The uid under which a plan's check is known to spokes and in staging.
pub(crate) fn uid(plan: &str, number: u64) -> String {
    format!("{plan}{MARK}{number}")
}

/// The uid of the plan whose check this may be.
pub(crate) fn plan_uid(uid: &str) -> Option<&str> {
    uid.rsplit_once(MARK).map(|(plan, _)| plan)
}

/// The migration that a plan's check is, if one is under way.
pub(crate) fn as_migration(plan: &MigrationPlan) -> Option<Migration> {
    let check = plan.status.as_ref()?.check.as_ref()?;
    let options = check.run.options.as_deref().cloned().unwrap_or_else(|| options(plan));
    let mut migration = Migration::new(&plan.name_any(), options);
    migration.metadata.namespace = plan.namespace();
    migration.metadata.uid = Some(uid(plan.metadata.uid.as_deref()?, check.number));
    migration.metadata.creation_timestamp = Some(check.began_at.clone());
    migration.status = Some((*check.run).clone());
    Some(migration)
}

/// The migration that a plan's check is, or would be.
pub(crate) fn candidate(plan: &MigrationPlan) -> Migration {
    as_migration(plan).unwrap_or_else(|| {
        let mut migration = Migration::new(&plan.name_any(), options(plan));
        migration.metadata.namespace = plan.namespace();
        migration
    })
}

/// By what options a plan is checked: its own, as the dry run of a Final.
fn options(plan: &MigrationPlan) -> MigrationSpec {
    MigrationSpec { action: MigrationAction::Final, dry_run: true, ..plan.spec.options.clone() }
}

/// Whether a plan is to be checked now.
pub(crate) fn is_due(plan: &MigrationPlan, quiet: bool, now: Timestamp) -> bool {
    if plan.metadata.deletion_timestamp.is_some() {
        return false;
    }
    let status = plan.status.clone().unwrap_or_default();
    let Some(checked) = &status.checked_at else { return true };
    let asked = request(plan).is_some_and(|request| status.answered.as_deref() != Some(request));
    if asked || status.observed_generation != plan.metadata.generation {
        return true;
    }
    let looked = !status.conditions.iter().any(|c| c.type_ == READY && c.reason == NOT_LOOKED_AT);
    let counts = if looked { RECHECK_SECONDS } else { RETRY_SECONDS };
    quiet && now >= checked.0 + counts.seconds()
}

/// What a person asked for last.
fn request(plan: &MigrationPlan) -> Option<&str> {
    plan.metadata.annotations.as_ref()?.get(CHECK).map(String::as_str)
}

/// Whether the check that is under way is no longer what is wanted.
fn is_outdated(plan: &MigrationPlan, check: &PlanCheck) -> bool {
    plan.metadata.deletion_timestamp.is_some() || check.generation != plan.metadata.generation
}

/// The status of a plan after these reports and the time that has passed: a check that is due is
/// begun, one that is under way goes on. One that has ended stays to be concluded.
pub(crate) fn step(
    plan: &MigrationPlan,
    around: &Around,
    reports: &[TaskReport],
    now: Timestamp,
) -> MigrationPlanStatus {
    let mut plan = plan.clone();
    let mut status = plan.status.clone().unwrap_or_default();
    if status.check.is_none() {
        if !is_due(&plan, around.quiet, now) {
            return status;
        }
        status.message = around.in_the_way.as_ref().map(|run| format!("waits for migration {run} to end"));
        if status.message.is_none() && !around.room {
            status.message = Some("waits for the checks of other plans to end".to_owned());
        }
        if status.message.is_some() {
            return status;
        }
        status.checks += 1;
        let run = MigrationStatus { options: Some(Box::new(options(&plan))), ..MigrationStatus::default() };
        status.check = Some(PlanCheck {
            number: status.checks,
            began_at: Time(now),
            generation: plan.metadata.generation,
            request: request(&plan).map(str::to_owned),
            run: Box::new(run),
        });
        if status.observed_generation != plan.metadata.generation {
            status.phase = PlanPhase::Checking;
        }
        plan.status = Some(status.clone());
    }
    let Some(check) = &mut status.check else { return status };
    let ends = around.in_the_way.is_some() || is_outdated(&plan, check);
    if ends && check.run.status == MigrationPhase::Pending {
        // Nothing was begun that would have to be ended.
        status.check = None;
        status.message = None;
        return status;
    }
    let Some(mut migration) = as_migration(&plan) else { return status };
    let mut heard = false;
    let of_this =
        |report: &&TaskReport| migration.metadata.uid.as_deref() == Some(report.task.record.as_str());
    for report in reports.iter().filter(of_this).collect::<Vec<_>>() {
        let (after, verdict) = itinerary::record(&migration, &around.view, report, now);
        if verdict != Verdict::Ignored {
            migration.status = Some(after);
            heard = true;
        }
    }
    if ends {
        migration.annotations_mut().insert(CANCEL.to_owned(), "true".to_owned());
    }
    let mut run = itinerary::advance(&migration, &around.view, now);
    wait_for_pair(&mut run, check, &around.view, now);
    if heard || outline(&run) != outline(&check.run) {
        status.message = run.message.clone().filter(|_| run.status == MigrationPhase::Pending);
        *check.run = run;
    }
    status
}

/// A pair that does not become Ready soon is what the check found.
fn wait_for_pair(run: &mut MigrationStatus, check: &PlanCheck, view: &PairView, now: Timestamp) {
    let Some(pair) = view.pair.as_ref().filter(|pair| !pair.ready) else { return };
    let waits = run.status == MigrationPhase::Pending;
    if waits && now >= check.began_at.0 + PAIR_PATIENCE_SECONDS.seconds() {
        let name = run.options.as_ref().map(|options| options.cluster_pair.clone()).unwrap_or_default();
        run.status = MigrationPhase::Failed;
        run.finished_at = Some(Time(now));
        run.failures = vec![Finding {
            object: format!("ClusterPair {name}"),
            reason: "PairNotReady".to_owned(),
            message: format!(
                "the clusters could not be looked at, as the pair is not Ready: {}; `isthmus pair describe {name}` shows more",
                pair.message
            ),
            step: None,
        }];
        run.failures_total = 1;
    }
}

/// What of a check is worth a write: not the time that has passed.
fn outline(run: &MigrationStatus) -> impl PartialEq + use<> {
    let steps: Vec<_> = run.pipeline.iter().map(|step| (step.step, step.state, step.tasks.clone())).collect();
    let waits = (run.status == MigrationPhase::Pending).then(|| run.message.clone());
    (run.status, waits, steps, run.failures_total, run.warnings_total)
}

/// Whether a plan's check has ended and waits to be concluded.
pub(crate) fn has_ended(plan: &MigrationPlan) -> bool {
    let check = plan.status.as_ref().and_then(|status| status.check.as_ref());
    check.is_some_and(|check| check.run.status.is_terminal())
}

/// The status of a plan whose check has ended; `others` is what the hub itself has found.
pub(crate) fn conclude(
    plan: &MigrationPlan,
    others: Vec<PlanProblem>,
    now: Timestamp,
) -> MigrationPlanStatus {
    let mut status = plan.status.clone().unwrap_or_default();
    let Some(check) = status.check.take() else { return status };
    let PlanCheck { generation, request, run, .. } = check;
    status.message = None;
    let cancelled = |found: &Finding| found.reason == CANCELLED && found.object.starts_with("Migration ");
    if run.failures.iter().any(cancelled) {
        // What was found before stays, for the generation that it was found of.
        return status;
    }
    let told = |severity: ProblemSeverity| {
        move |found: &Finding| PlanProblem {
            severity,
            object: found.object.clone(),
            reason: found.reason.clone(),
            message: of_a_plan(&found.message),
        }
    };
    let (grave, light): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|problem| problem.severity == ProblemSeverity::Critical);
    let count = |problems: &[PlanProblem]| u64::try_from(problems.len()).unwrap_or(u64::MAX);
    status.critical = run.failures_total.saturating_add(count(&grave));
    status.warnings = run.warnings_total.saturating_add(count(&light));
    status.problems = run.failures.iter().map(told(ProblemSeverity::Critical)).collect();
    status.problems.extend(grave);
    status.problems.extend(light);
    status.problems.extend(run.warnings.iter().map(told(ProblemSeverity::Warn)));
    status.problems.truncate(MAX_PLAN_PROBLEMS);
    status.phase = if status.critical > 0 { PlanPhase::NotReady } else { PlanPhase::Ready };
    status.observed_generation = generation;
    status.answered = request.or(status.answered);
    status.checked_at = Some(Time(now));
    set_ready(&mut status.conditions, &verdict(&status.problems, status.critical, &run), generation, now);
    status
}

/// A message without the advice to make the Migration again: a plan is checked again by itself.
fn of_a_plan(message: &str) -> String {
    let advice = "then create the Migration again";
    message.replace(&format!("; {advice}"), "").replace(&format!(", {advice}"), "")
}

fn verdict(problems: &[PlanProblem], critical: u64, run: &MigrationStatus) -> Said {
    let Some(first) = problems.first().filter(|_| critical > 0) else {
        return Said::new(Some(true), "Checked", "a run of the plan may begin");
    };
    let more = if critical > 1 { format!(" (and {} more)", critical - 1) } else { String::new() };
    let message = format!("{}: {}{more}", first.object, first.message);
    // What could not begin, or heard nothing, may be otherwise in a moment.
    let unheard = run.failures.iter().any(|found| found.reason == "NoNews");
    let reason = if run.pipeline.is_empty() || unheard { NOT_LOOKED_AT } else { "Critical" };
    Said::new(Some(false), reason, message)
}

#[cfg(test)]
mod tests;
