//! `plan`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Creation, MigrationOptions, Output, duration};
use crate::names;

/// `isthmus plan …`
#[derive(Subcommand)]
pub enum PlanCommand {
    /// Record what to move and how; the hub checks it, and checks it again as it changes
    Create(Box<PlanCreate>),
    /// List the plans
    List(Output),
    /// Show a plan and what its last check found
    Describe {
        /// The plan
        #[arg(value_name = "PLAN", value_parser = names::subdomain)]
        name: String,
        /// How to print it
        #[command(flatten)]
        output: Output,
    },
    /// Have a plan checked now, and show what was found
    Check(PlanCheck),
    /// Delete a plan; runs that have begun go on
    Delete {
        /// The plan
        #[arg(value_name = "PLAN", value_parser = names::subdomain)]
        name: String,
    },
}

/// `isthmus plan create`
#[derive(Args)]
pub struct PlanCreate {
    /// The plan, under the name that `stage` and `cutover` will use
    #[arg(value_name = "PLAN", value_parser = names::subdomain)]
    pub name: String,
    /// Whether to create it
    #[command(flatten)]
    pub creation: Creation,
    // Last, as its groups have headings that would go on.
    /// What to move and how.
    #[command(flatten)]
    pub options: MigrationOptions,
}

/// `isthmus plan check`
#[derive(Args)]
#[command(after_help = "\
Exit codes:
  0    nothing is in the way of a run
  1    something critical is: the output says what, and what to do
  3    nothing is in the way, and there are warnings that a person should read
  4    it could not be told: the check was not done in time")]
pub struct PlanCheck {
    /// The plan
    #[arg(value_name = "PLAN", value_parser = names::subdomain)]
    pub name: String,
    /// How long to wait for both clusters
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub timeout: Duration,
    /// How to print it
    #[command(flatten)]
    pub output: Output,
}
