//! Failures and warnings of one task: all are counted, the first are kept.

use isthmus_shared::resources::{Finding, MAX_FINDINGS, Step};

/// The longest message of a finding, in bytes: a report of them all stays below 100 KiB.
const MAX_MESSAGE: usize = 2048;

/// A bounded list of findings.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The first [`MAX_FINDINGS`].
    pub list: Vec<Finding>,
    /// How many there were.
    pub total: u64,
}

impl Findings {
    /// Adds one.
    pub fn push(&mut self, mut finding: Finding) {
        self.total += 1;
        if self.list.len() < MAX_FINDINGS {
            shorten(&mut finding.message, MAX_MESSAGE);
            self.list.push(finding);
        }
    }

    /// Adds several.
    pub fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            self.push(finding);
        }
    }

    /// Adds those of another list, which may have counted more than it kept.
    pub fn append(&mut self, other: Self) {
        let unkept = other.total - other.list.len() as u64;
        self.extend(other.list);
        self.total += unkept;
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Notes the step that found them, where none is noted.
    pub fn at_step(&mut self, step: Option<Step>) {
        for finding in &mut self.list {
            finding.step = finding.step.or(step);
        }
    }
}

impl From<Finding> for Findings {
    fn from(finding: Finding) -> Self {
        let mut findings = Self::default();
        findings.push(finding);
        findings
    }
}

/// A finding about an object.
pub fn finding(object: impl Into<String>, reason: &str, message: impl Into<String>) -> Finding {
    Finding { object: object.into(), reason: reason.to_owned(), message: message.into(), step: None }
}

/// Cuts a text off at so many bytes, with a sign that it was.
pub fn shorten(message: &mut String, limit: usize) {
    if message.len() > limit {
        let mut end = limit;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_findings_are_counted_and_the_first_kept() {
        let mut findings = Findings::default();
        for n in 0..100 {
            findings.push(finding(format!("Service a/{n}"), "Taken", "é".repeat(5000)));
        }
        assert_eq!((findings.total, findings.list.len()), (100, MAX_FINDINGS));
        assert_eq!(findings.list[0].object, "Service a/0");
        assert!(findings.list[0].message.len() <= MAX_MESSAGE + 3);
    }
}
