//! `plan list` and `plan describe`.

use isthmus_shared::resources::{MigrationPlan, PlanPhase, PlanProblem};
use jiff::Timestamp;
use kube::ResourceExt;

use super::sheet::{self, Sheet};
use super::{figures, migration, word};

/// Plans.
pub fn plans(items: &[MigrationPlan], now: Timestamp) -> String {
    let rows: Vec<_> = items
        .iter()
        .map(|plan| {
            let status = plan.status.clone().unwrap_or_default();
            let checked = status.checked_at.as_ref();
            vec![
                plan.name_any(),
                plan.spec.options.cluster_pair.clone(),
                migration::intent(&plan.spec.options).to_owned(),
                word(status.phase),
                status.critical.to_string(),
                status.warnings.to_string(),
                figures::ago(checked, now),
                figures::age(plan.creation_timestamp().as_ref(), now),
            ]
        })
        .collect();
    sheet::table(&["NAME", "PAIR", "INTENT", "CHECK", "CRITICAL", "WARNINGS", "CHECKED", "AGE"], &rows)
}

/// What a plan moves, and what its last check found.
pub fn describe_plan(plan: &MigrationPlan, now: Timestamp) -> String {
    let status = plan.status.clone().unwrap_or_default();
    let mut sheet = Sheet::default();
    super::identity_lines(&mut sheet, plan);
    migration::option_lines(&mut sheet, &plan.spec.options);
    let phase = match status.phase {
        PlanPhase::NotReady => "NotReady: no run of it may begin before the critical problems are put right",
        PlanPhase::Ready => "Ready: a run of it may begin",
        PlanPhase::Checking => "Checking",
        PlanPhase::Pending => "Pending: it has not been checked yet",
    };
    sheet.line("Check", phase);
    sheet.line("Message", status.message.as_deref().unwrap_or_default());
    if status.checked_at.is_some() {
        sheet.line("Checked", &figures::ago(status.checked_at.as_ref(), now));
    }
    if status.checked_at.is_some() && status.observed_generation != plan.metadata.generation {
        sheet.line("Changed", "since it was checked last: what was found may no longer be so");
    }
    super::condition_lines(&mut sheet, &status.conditions);
    let rows: Vec<_> = status.problems.iter().map(problem_row).collect();
    let (shown, total) = (rows.len() as u64, status.critical.saturating_add(status.warnings));
    let title =
        if total > shown { format!("Problems (first {shown} of {total})") } else { "Problems".to_owned() };
    sheet.rows(&title, &["SEVERITY", "OBJECT", "REASON", "MESSAGE"], &rows);
    sheet.finish()
}

fn problem_row(problem: &PlanProblem) -> Vec<String> {
    vec![word(problem.severity), problem.object.clone(), problem.reason.clone(), problem.message.clone()]
}
