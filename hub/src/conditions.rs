//! Conditions as Kubernetes has them: the transition time changes with the status only.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The longest message, bytes.
const MAX_MESSAGE: usize = 2048;

/// The condition that every kind has.
pub(crate) const READY: &str = "Ready";

/// What a condition is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// True, False, or not known.
    pub value: Option<bool>,
    /// One word in CamelCase.
    pub reason: String,
    /// For a person.
    pub message: String,
}

impl Said {
    pub(crate) fn new(value: Option<bool>, reason: &str, message: impl Into<String>) -> Self {
        Self { value, reason: reason.to_owned(), message: message.into() }
    }
}

/// Sets the condition `Ready`, the only one that these kinds have.
pub(crate) fn set_ready(
    conditions: &mut Vec<Condition>,
    said: &Said,
    generation: Option<i64>,
    now: Timestamp,
) {
    let value = match said.value {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let before = conditions.iter().find(|c| c.type_ == READY && c.status == value);
    let since = before.map_or_else(|| Time(now), |c| c.last_transition_time.clone());
    let mut end = said.message.len().min(MAX_MESSAGE);
    while !said.message.is_char_boundary(end) {
        end -= 1;
    }
    let condition = Condition {
        type_: READY.to_owned(),
        status: value.to_owned(),
        reason: said.reason.clone(),
        message: said.message[..end].to_owned(),
        last_transition_time: since,
        observed_generation: generation,
    };
    conditions.retain(|c| c.type_ != READY);
    conditions.push(condition);
}

/// Whether the condition `Ready` is True.
pub(crate) fn is_ready(conditions: &[Condition]) -> bool {
    conditions.iter().any(|c| c.type_ == READY && c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_changes_with_the_status_only() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut conditions = Vec::new();
        set_ready(&mut conditions, &Said::new(Some(true), "Heard", "a"), None, at(1));
        set_ready(&mut conditions, &Said::new(Some(true), "Heard", "b"), None, at(2));
        assert_eq!(conditions[0].last_transition_time.0, at(1));
        assert_eq!(conditions[0].message, "b");
        set_ready(&mut conditions, &Said::new(None, "Lost", ""), None, at(3));
        assert_eq!((conditions.len(), conditions[0].last_transition_time.0), (1, at(3)));
    }
}
