//! Failures and warnings in a status: bounded in number and in size, whoever sent them.

use isthmus_shared::resources::{Finding, MAX_FINDINGS, MigrationStatus, Step};

/// The longest message of a finding or a step that a status holds, bytes.
pub const MAX_MESSAGE: usize = 1024;
/// The longest name of an object in a finding, bytes.
pub const MAX_OBJECT: usize = 320;
/// The longest reason, bytes.
pub const MAX_REASON: usize = 64;

/// Which list a finding belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Failure,
    Warning,
}

/// Makes a finding of the hub's own.
pub(super) fn finding(object: impl Into<String>, reason: &str, message: impl Into<String>) -> Finding {
    Finding { object: object.into(), reason: reason.to_owned(), message: message.into(), step: None }
}

/// Adds one finding.
pub(super) fn add(status: &mut MigrationStatus, severity: Severity, step: Option<Step>, finding: Finding) {
    add_all(status, severity, step, vec![finding], 1);
}

/// Adds findings of which `total` there are, though `found` may list only the first of them.
pub(super) fn add_all(
    status: &mut MigrationStatus,
    severity: Severity,
    step: Option<Step>,
    found: Vec<Finding>,
    total: u64,
) {
    let (list, count) = match severity {
        Severity::Failure => (&mut status.failures, &mut status.failures_total),
        Severity::Warning => (&mut status.warnings, &mut status.warnings_total),
    };
    *count = count.saturating_add(total.max(found.len() as u64));
    let room = MAX_FINDINGS.saturating_sub(list.len());
    list.extend(found.into_iter().take(room).map(|found| Finding {
        object: cut(&found.object, MAX_OBJECT),
        reason: cut(&found.reason, MAX_REASON),
        message: cut(&found.message, MAX_MESSAGE),
        step: found.step.or(step),
    }));
}

/// A text of at most `limit` bytes, cut at a character, with an ellipsis where it was cut.
pub(super) fn cut(text: &str, limit: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit.saturating_sub(ELLIPSIS.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ELLIPSIS}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let text = cut(&"é".repeat(600), 101);
        assert!(text.len() <= 101 && text.ends_with('…'), "{text}");
    }

    #[test]
    fn only_the_first_findings_are_listed_and_all_are_counted() {
        let mut status = MigrationStatus::default();
        let many = (0..15).map(|n| finding(format!("Pod a/{n}"), "R", "m")).collect::<Vec<_>>();
        add_all(&mut status, Severity::Failure, Some(Step::Verify), many.clone(), 40);
        add_all(&mut status, Severity::Failure, None, many, 15);
        assert_eq!(status.failures.len(), MAX_FINDINGS);
        assert_eq!(status.failures_total, 55);
        assert_eq!(status.failures[0].step, Some(Step::Verify));
        assert!(status.warnings.is_empty());
    }
}
