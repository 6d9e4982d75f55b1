//! How a run has ended, in a few lines: pure.

use isthmus_shared::resources::{Finding, Migration, MigrationAction, MigrationPhase};
use kube::ResourceExt;

use crate::render::{clean, figures, side_lines, word};

/// Findings that are shown; the description shows more.
const SHOWN: usize = 5;

/// The result for a person, with what to do next.
pub fn summary(migration: &Migration) -> String {
    let (namespace, name) = (migration.namespace().unwrap_or_default(), migration.name_any());
    let status = migration.status.clone().unwrap_or_default();
    let mut lines = vec![format!("Migration {namespace}/{name}: {}", word(status.status))];
    if let Some(message) = status.message.as_deref().filter(|message| !message.is_empty()) {
        lines.push(format!("  {}", clean(message)));
    }
    let mut facts = Vec::new();
    // A stage brings no objects, and a rollback brings nothing.
    let action = migration.spec.action;
    if action != MigrationAction::Rollback {
        facts.extend(status.volumes_summary.iter().map(|volumes| format!("volumes {volumes}")));
        if action != MigrationAction::Stage {
            facts.extend(status.resources_summary.iter().map(|objects| format!("objects {objects}")));
        }
        facts.push(figures::bytes(status.bytes_done));
    }
    if let Some(elapsed) = &status.elapsed {
        facts.push(format!("in {elapsed}"));
    }
    if !facts.is_empty() {
        lines.push(format!("  {}", clean(&facts.join(", "))));
    }
    for (name, value) in side_lines(&status) {
        lines.push(format!("  {name}: {}", clean(&value)));
    }
    findings(&mut lines, "failed", &status.failures, status.failures_total);
    findings(&mut lines, "warning", &status.warnings, status.warnings_total);
    if status.status != MigrationPhase::Succeeded {
        lines.push(format!("  More: isthmus migration describe {name} --namespace {namespace}"));
    }
    lines.join("\n") + "\n"
}

fn findings(lines: &mut Vec<String>, title: &str, findings: &[Finding], total: u64) {
    for finding in findings.iter().take(SHOWN) {
        lines.push(format!("  {title}: {}: {}", clean(&finding.object), clean(&finding.message)));
    }
    let shown = u64::try_from(findings.len().min(SHOWN)).unwrap_or(u64::MAX);
    if total > shown {
        lines.push(format!("  {title}: and {} more", total - shown));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures;

    #[test]
    fn only_what_a_run_brings_is_counted() {
        let of = |action| {
            let mut migration = fixtures::migration();
            migration.spec.action = action;
            summary(&migration)
        };
        assert!(
            of(MigrationAction::Final).contains("volumes ")
                && of(MigrationAction::Final).contains("objects ")
        );
        assert!(
            of(MigrationAction::Stage).contains("volumes ")
                && !of(MigrationAction::Stage).contains("objects ")
        );
        let rollback = of(MigrationAction::Rollback);
        assert!(!rollback.contains("volumes ") && rollback.contains("  in "), "{rollback}");
    }

    #[test]
    fn a_result_says_what_came_over_and_what_to_look_at() {
        insta::assert_snapshot!(summary(&fixtures::migration()));
    }

    #[test]
    fn the_result_of_a_cutover_says_which_side_runs_and_how_long_none_did() {
        let text = [summary(&fixtures::cutover()), summary(&fixtures::rolled_back())];
        insta::assert_snapshot!(text.join("\n"));
    }
}
