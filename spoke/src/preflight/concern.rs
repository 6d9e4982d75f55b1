//! What is in the way, and how much: what surely makes the run fail, or leaves the application
//! without its Pods, is a failure; what may do so is a warning.

use isthmus_shared::resources::Finding;

use crate::findings::finding;

/// How much something is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The run does not begin.
    Failure,
    /// A person should know.
    Warning,
}

/// Something that is in the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Concern {
    /// How much.
    pub severity: Severity,
    /// Which object, why, and what to do.
    pub finding: Finding,
}

impl Concern {
    /// What makes the run fail.
    pub fn failure(object: impl Into<String>, reason: &str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Failure, finding: finding(object, reason, message) }
    }

    /// What a person should know.
    pub fn warning(object: impl Into<String>, reason: &str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, finding: finding(object, reason, message) }
    }

    /// What keeps Pods from being made: of no matter to a run that does not start them, and to be
    /// known before somebody does.
    pub fn of_pods(
        starts: bool,
        object: impl Into<String>,
        reason: &str,
        message: impl Into<String>,
    ) -> Self {
        let severity = if starts { Severity::Failure } else { Severity::Warning };
        Self { severity, finding: finding(object, reason, message) }
    }
}
