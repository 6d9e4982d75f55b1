//! `migrate`, `migration`, `activate` and `deactivate`.

use std::time::Duration;

use clap::{ArgAction, Args, Subcommand};

use super::{Creation, Making, MigrationOptions, Output, duration};
use crate::names;

/// `isthmus migrate`
#[derive(Args)]
pub struct Migrate {
    /// The migration's name [default: the first namespace and a few random letters]
    #[arg(long, value_parser = names::subdomain)]
    pub name: Option<String>,
    /// Show the progress until the migration has ended, and exit accordingly
    #[arg(long)]
    pub wait: bool,
    /// Whether to create it
    #[command(flatten)]
    pub creation: Creation,
    // Last, as its groups have headings that would go on.
    /// What to move and how.
    #[command(flatten)]
    pub options: MigrationOptions,
}

/// `isthmus migration …`
#[derive(Subcommand)]
pub enum MigrationCommand {
    /// List the migrations
    List(Output),
    /// Show steps, volumes, totals and events of a migration, and what failed
    Describe {
        /// The migration
        #[arg(value_name = "MIGRATION", value_parser = names::subdomain)]
        name: String,
        /// Also every object of the namespaces: what became of it and why, and what was changed
        #[arg(long)]
        details: bool,
        /// How to print it
        #[command(flatten)]
        output: Output,
    },
    /// Show the progress of a migration until it has ended, and exit accordingly
    Wait {
        /// The migration
        #[arg(value_name = "MIGRATION", value_parser = names::subdomain)]
        name: String,
        /// How to print it at the end
        #[command(flatten)]
        output: Output,
    },
    /// End a migration that runs and undo what it did
    Cancel {
        /// The migration
        #[arg(value_name = "MIGRATION", value_parser = names::subdomain)]
        name: String,
        /// Show the progress until it has ended; exit code 0 if it was undone
        #[arg(long)]
        wait: bool,
        /// How to print it
        #[command(flatten)]
        output: Output,
    },
    /// Begin a migration that has ended again, with the same options
    Retry(MigrationRetry),
    /// Print the log of a migration
    Logs {
        /// The migration
        #[arg(value_name = "MIGRATION", value_parser = names::subdomain)]
        name: String,
        /// Go on until the migration has ended
        #[arg(long, short = 'f')]
        follow: bool,
    },
    /// Delete a migration and what it has staged; one that runs is cancelled
    Delete(MigrationDelete),
}

/// `isthmus migration retry`
#[derive(Args)]
pub struct MigrationRetry {
    /// The migration
    #[arg(value_name = "MIGRATION", value_parser = names::subdomain)]
    pub of: String,
    /// How it is made.
    #[command(flatten)]
    pub making: Making,
}

/// `isthmus migration delete`
#[derive(Args)]
pub struct MigrationDelete {
    /// The migration
    #[arg(value_name = "MIGRATION", value_parser = names::subdomain)]
    pub name: String,
    /// Wait until both clusters are cleaned up and the record is gone
    #[arg(long)]
    pub wait: bool,
    /// How long --wait waits
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub timeout: Duration,
}

/// `isthmus activate` and `isthmus deactivate`
#[derive(Args)]
pub struct Activate {
    /// The namespaces
    #[arg(required = true, value_name = "NAMESPACE", value_parser = names::label)]
    pub namespaces: Vec<String>,
    /// The cluster that they are in
    #[arg(long, value_name = "CLUSTER", value_parser = names::label)]
    pub cluster: String,
    /// Start them although a cutover has handed them over to a cluster that may run them: for when
    /// that cluster is gone for good
    #[arg(long)]
    pub force: bool,
    /// Wait until it is done, and exit accordingly
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set)]
    pub wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub timeout: Duration,
    /// How to print what became of it
    #[command(flatten)]
    pub output: Output,
}
