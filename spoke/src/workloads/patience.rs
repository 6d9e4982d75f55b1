//! How long a step of a run waits for what it has asked for, and by which field.

use std::time::Duration;

use isthmus_shared::resources::{MigrationSpec, PerStep, Step};
use tokio::time::Instant;

/// The patience of one step.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    until: Instant,
    seconds: u32,
    name: &'static str,
    /// Whether the run says it of this step, or of all that a spoke says nothing new of.
    own: bool,
}

impl Patience {
    /// Of a step that begins now.
    pub fn of(spec: &MigrationSpec, step: Step) -> Self {
        let seconds = spec.step_wait(step);
        Self {
            until: Instant::now() + Duration::from_secs(u64::from(seconds)),
            seconds,
            name: PerStep::name(step),
            own: spec.timeouts.of(step).is_some(),
        }
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// How long it was, and how it is set.
    pub fn told(&self) -> String {
        let Self { seconds, name, own, .. } = self;
        if *own {
            format!("within the {seconds} s of spec.timeouts.{name}")
        } else {
            format!(
                "within the {seconds} s of spec.stepTimeoutSeconds (spec.timeouts.{name} sets it for this step)"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(spec: Value) -> String {
        Patience::of(&serde_json::from_value(spec).unwrap(), Step::StopDestination).told()
    }

    #[test]
    fn it_says_by_which_field_it_is_set() {
        let own = told(json!({"clusterPair": "prod", "timeouts": {"goBack": 60}}));
        assert_eq!(own, "within the 60 s of spec.timeouts.goBack");
        let other = told(json!({"clusterPair": "prod", "stepTimeoutSeconds": 120}));
        assert!(other.contains("120 s of spec.stepTimeoutSeconds (spec.timeouts.goBack"), "{other}");
    }
}
