//! Whether the source stops, and what is done where that goes wrong.

use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use isthmus_shared::resources::{HealthOptions, OnFailure, OperatorRef, VolumeReclaim};

use crate::args::{duration, length};
use crate::names;

/// The longest that the API takes for the health of started applications.
const LONGEST: Duration = Duration::from_hours(24);

/// How one side stops and the other starts.
#[derive(Args, Clone)]
#[command(next_help_heading = "Cutover")]
pub struct Cutover {
    /// Stop the applications on the source before their volumes are read for the last time, and start
    /// them on the destination: from then on one side runs and no more than one
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set)]
    pub quiesce: bool,
    /// What is done when a cutover fails after the source was stopped
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Failing::Rollback)]
    pub on_failure: Failing,
    /// What becomes of the volumes that the run made on the destination when it is rolled back
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Reclaim::Retain)]
    pub reclaim: Reclaim,
    /// A workload of the source that manages others: it stops before them and starts before them. It is a
    /// Deployment, unless it is said to be a StatefulSet. May be given several times
    #[arg(long = "operator", value_name = "NAMESPACE/NAME[=StatefulSet]", value_parser = operator)]
    pub operators: Vec<OperatorRef>,
    /// How long started applications may take until they are ready
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = health_timeout)]
    pub health_timeout: Duration,
    /// How long they must then stay ready [default: 10s with --quiesce, else 0s]
    #[arg(long, value_name = "TIME", value_parser = health_duration)]
    pub health_duration: Option<Duration>,
}

/// See [`OnFailure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Failing {
    /// Everything goes back: the destination stops, the source starts as it was
    Rollback,
    /// Everything stays as it is, for a person to look at
    Hold,
}

/// See [`VolumeReclaim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Reclaim {
    /// They stay with their data; the next run goes on from them
    #[value(alias = "Retain")]
    Retain,
    /// They are deleted
    #[value(alias = "Delete")]
    Delete,
}

impl Cutover {
    /// When started applications are well.
    pub(super) fn health(&self) -> HealthOptions {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        HealthOptions {
            timeout_seconds: seconds(self.health_timeout),
            duration_seconds: self.health_duration.map(seconds),
        }
    }
}

fn operator(text: &str) -> Result<OperatorRef, String> {
    let (place, kind) = text.split_once('=').unwrap_or((text, "Deployment"));
    let kind = ["Deployment", "StatefulSet"].into_iter().find(|known| known.eq_ignore_ascii_case(kind));
    match (place.split_once('/'), kind) {
        (Some((namespace, name)), Some(kind)) => Ok(OperatorRef {
            namespace: names::label(namespace).map_err(|error| error.to_string())?,
            name: names::subdomain(name).map_err(|error| error.to_string())?,
            kind: kind.to_owned(),
        }),
        _ => Err(format!("{text:?} is no operator: write NAMESPACE/NAME or NAMESPACE/NAME=StatefulSet")),
    }
}

fn health_timeout(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if (Duration::from_secs(1)..=LONGEST).contains(&time) {
        Ok(time)
    } else {
        Err(format!("{text} is not between 1s and 24h"))
    }
}

fn health_duration(text: &str) -> Result<Duration, String> {
    let time = length(text)?;
    if time <= LONGEST { Ok(time) } else { Err(format!("{text} is not between 0s and 24h")) }
}

impl From<Failing> for OnFailure {
    fn from(what: Failing) -> Self {
        match what {
            Failing::Rollback => Self::Rollback,
            Failing::Hold => Self::Hold,
        }
    }
}

impl From<Reclaim> for VolumeReclaim {
    fn from(what: Reclaim) -> Self {
        match what {
            Reclaim::Retain => Self::Retain,
            Reclaim::Delete => Self::Delete,
        }
    }
}
