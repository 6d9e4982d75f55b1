//! How a run has ended, in a few lines: pure.

use isthmus_shared::resources::{Finding, Migration, MigrationPhase};
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
    if let Some(volumes) = &status.volumes_summary {
        facts.push(format!("volumes {volumes}"));
    }
    if let Some(objects) = &status.resources_summary {
        facts.push(format!("objects {objects}"));
    }
    facts.push(figures::bytes(status.bytes_done));
    if let Some(elapsed) = &status.elapsed {
        facts.push(format!("in {elapsed}"));
    }
    lines.push(format!("  {}", clean(&facts.join(", "))));
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
    fn a_result_says_what_came_over_and_what_to_look_at() {
        insta::assert_snapshot!(summary(&fixtures::migration()));
    }

    #[test]
    fn the_result_of_a_cutover_says_which_side_runs_and_how_long_none_did() {
        let text = [summary(&fixtures::cutover()), summary(&fixtures::rolled_back())];
        insta::assert_snapshot!(text.join("\n"));
    }
}
