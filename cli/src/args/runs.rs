//! `migrate`, `migration`, `activate` and `deactivate`.

use std::time::Duration;

use clap::{ArgAction, Args, Subcommand};

use super::{Creation, Output, duration};
use crate::names;

/// What to move and how: the options that `migrate` and `diff` share.
#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own, in any combination")]
pub struct MigrationOptions {
    /// The namespaces to move
    #[arg(required = true, value_name = "NAMESPACE", value_parser = names::label)]
    pub namespaces: Vec<String>,
    /// The pair to move them through
    #[arg(long, value_parser = names::subdomain)]
    pub pair: String,
    /// Start the applications on the destination
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set)]
    pub start_applications: bool,
    /// Take the namespaces' objects along
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set)]
    pub include_resources: bool,
    /// Take the volumes' data along
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set)]
    pub include_volumes: bool,
    /// Only objects with this label; may be given several times
    #[arg(long = "selector", short = 'l', value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label_pair)]
    pub selectors: Vec<(String, String)>,
    /// Not objects with this label; may be given several times
    #[arg(long = "exclude-selector", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label_pair)]
    pub exclude_selectors: Vec<(String, String)>,
    /// How many volumes to move at a time
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub parallel_volumes: u32,
    /// How long a step may go without any news from the spoke that does it
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = step_timeout)]
    pub step_timeout: Duration,
    /// Move from the pair's destination to its source; the pair must be bidirectional
    #[arg(long)]
    pub reverse: bool,
}

/// `isthmus migrate`
#[derive(Args)]
pub struct Migrate {
    /// What to move and how
    #[command(flatten)]
    pub options: MigrationOptions,
    /// The migration's name [default: the first namespace and a few random letters]
    #[arg(long, value_parser = names::subdomain)]
    pub name: Option<String>,
    /// Show the progress until the migration has ended, and exit accordingly
    #[arg(long)]
    pub wait: bool,
    /// Whether to create it
    #[command(flatten)]
    pub creation: Creation,
}

/// `isthmus migration …`
#[derive(Subcommand)]
pub enum MigrationCommand {
    /// List the migrations
    List(Output),
    /// Show steps, volumes, totals and events of a migration, and what failed
    Describe {
        /// The migration
        #[arg(value_parser = names::subdomain)]
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
        #[arg(value_parser = names::subdomain)]
        name: String,
        /// How to print it at the end
        #[command(flatten)]
        output: Output,
    },
    /// Print the log of a migration
    Logs {
        /// The migration
        #[arg(value_parser = names::subdomain)]
        name: String,
        /// Go on until the migration has ended
        #[arg(long, short = 'f')]
        follow: bool,
    },
    /// Delete a migration and what it has staged; one that runs is cancelled
    Delete(MigrationDelete),
}

/// `isthmus migration delete`
#[derive(Args)]
pub struct MigrationDelete {
    /// The migration
    #[arg(value_parser = names::subdomain)]
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

fn step_timeout(text: &str) -> Result<Duration, String> {
    let length = duration(text)?;
    let (least, most) = (Duration::from_mins(1), Duration::from_hours(24));
    if (least..=most).contains(&length) {
        Ok(length)
    } else {
        Err(format!("{text} is not between 1m and 24h"))
    }
}

fn label_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !key.ends_with('!') => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(format!("{text:?} is not a label: write it as key=value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_key_and_a_value() {
        assert_eq!(label_pair("app=cms").unwrap(), ("app".to_owned(), "cms".to_owned()));
        for bad in ["app", "=cms", "app!=cms"] {
            assert!(label_pair(bad).is_err(), "{bad} was taken");
        }
    }
}
