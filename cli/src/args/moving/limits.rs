//! What single steps may take, and how often they are begun again.

use std::time::Duration;

use clap::Args;
use isthmus_shared::resources::PerStep;

use crate::args::duration;

/// See [`PerStep`].
#[derive(Args, Clone, Debug, Default)]
pub struct StepLimits {
    /// How long a step may take in all, such as quiesce=5m; again for each. Steps: preflight, hooks,
    /// prepare, volumes, export, quiesce, apply, verify, start, health, goBack, cleanup
    #[arg(id = "step-limit", long = "step-limit", value_name = "STEP=TIME", value_parser = limit)]
    limits: Vec<(String, u32)>,
    /// How often a step is begun again after it failed, such as quiesce=2; again for each
    #[arg(id = "step-retries", long = "step-retries", value_name = "STEP=COUNT", value_parser = retries)]
    retries: Vec<(String, u32)>,
}

impl StepLimits {
    /// `spec.timeouts`.
    pub fn timeouts(&self) -> PerStep {
        gathered(&self.limits)
    }

    /// `spec.retries`.
    pub fn retries(&self) -> PerStep {
        gathered(&self.retries)
    }
}

fn gathered(given: &[(String, u32)]) -> PerStep {
    let mut all = PerStep::default();
    for (step, number) in given {
        set(&mut all, step, *number);
    }
    all
}

/// Sets the number of a step; tells whether there is such a step.
fn set(all: &mut PerStep, step: &str, number: u32) -> bool {
    let mut entries = all.entries().into_iter();
    entries.find(|(name, _)| *name == step).is_some_and(|(_, value)| {
        *value = Some(number);
        true
    })
}

fn limit(text: &str) -> Result<(String, u32), String> {
    entry(text, "5m", |value| {
        duration(value).map(|time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX))
    })
}

fn retries(text: &str) -> Result<(String, u32), String> {
    entry(text, "2", |value| value.parse().map_err(|_| format!("{value:?} is no count")))
}

fn entry(
    text: &str,
    example: &str,
    read: impl Fn(&str) -> Result<u32, String>,
) -> Result<(String, u32), String> {
    let (step, value) =
        text.split_once('=').ok_or_else(|| format!("{text:?} names no step: write quiesce={example}"))?;
    if !set(&mut PerStep::default(), step, 0) {
        let names: Vec<_> = PerStep::default().entries().map(|(name, _)| name).to_vec();
        return Err(format!("{step:?} is no step: write one of {}", names.join(", ")));
    }
    Ok((step.to_owned(), read(value)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_named_as_in_a_manifest() {
        assert_eq!(limit("quiesce=5m"), Ok(("quiesce".to_owned(), 300)));
        assert_eq!(retries("goBack=3"), Ok(("goBack".to_owned(), 3)));
        for bad in ["quiesce", "quiesce=soon", "Quiesce=5m", "nothing=5m"] {
            assert!(limit(bad).is_err(), "{bad} was taken");
        }
        let given = StepLimits { limits: vec![("apply".to_owned(), 60)], ..StepLimits::default() };
        assert_eq!((given.timeouts().apply, given.timeouts().verify), (Some(60), None));
        assert!(given.retries().is_empty());
    }
}
