//! The command line, as people type it.
//!
//! Whatever can be judged without a cluster is judged here (names, lists, durations), so that a
//! wrong command ends with exit code 2 before anything is created.

mod diff;
mod going;
mod moving;
mod plans;
mod records;
mod runs;
mod schedules;
mod staging;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use diff::Diff;
pub use going::{Cutting, Failback, Failover, Making, Rollback, Stage};
pub use moving::MigrationOptions;
pub use plans::{PlanCheck, PlanCommand, PlanCreate};
pub use records::{
    ClusterAdd, ClusterCommand, ClusterRemove, ClusterToken, PairCommand, PairCreate, StoreCommand,
    StoreCreate, TokenDelivery,
};
pub use runs::{Activate, Migrate, MigrationCommand, MigrationDelete, MigrationRetry};
pub use schedules::{ScheduleCommand, ScheduleCreate};
pub use staging::StagingCommand;

use crate::names;

/// The namespace of the hub, unless another is named.
pub const DEFAULT_NAMESPACE: &str = "isthmus";

/// Move applications with their volumes from one Kubernetes cluster to another.
///
/// The commands work on the cluster where the hub runs. Exit codes: 0 succeeded, 1 failed,
/// 2 wrong usage, 3 succeeded with warnings, 4 (of diff and plan check) could not be told,
/// 130 watching was interrupted.
#[derive(Parser)]
#[command(name = "isthmus", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// Where the hub's cluster is.
    #[command(flatten)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where the hub's cluster is, and where in it the records are.
#[derive(Args, Clone)]
pub struct Connection {
    /// The kubeconfig of the cluster where the hub runs [default: $KUBECONFIG, ~/.kube/config, or
    /// the Pod's own account]
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig [default: its current one]
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace of the records. Clusters and stores count in the hub's namespace only; a pair
    /// and its migrations may be in another one, and then move the namespace of that name only
    #[arg(
        long, short = 'n', global = true, value_name = "NAMESPACE", env = "ISTHMUS_NAMESPACE",
        default_value = DEFAULT_NAMESPACE, value_parser = names::label
    )]
    pub namespace: String,
    /// The hub's own namespace, if it is neither `isthmus` nor in $ISTHMUS_NAMESPACE
    #[arg(long, global = true, value_name = "NAMESPACE", env = "ISTHMUS_HUB_NAMESPACE", value_parser = names::label)]
    pub hub_namespace: Option<String>,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Clusters that have joined, or are to join, the hub
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// S3 buckets that objects and data are staged in
    #[command(subcommand)]
    Store(StoreCommand),
    /// Pairs of clusters, between which applications move
    #[command(subcommand)]
    Pair(PairCommand),
    /// What staging keeps of a pair's volumes for later passes
    #[command(subcommand)]
    Staging(StagingCommand),
    /// Move namespaces from a pair's source to its destination
    Migrate(Box<Migrate>),
    /// Show what a migration would create, change, skip and refuse, and what would be in its way;
    /// change nothing
    Diff(Box<Diff>),
    /// What to move and how, recorded once and checked as it changes
    #[command(subcommand)]
    Plan(PlanCommand),
    /// Move what has changed in a plan's volumes while its applications run; as often as wanted
    Stage(Stage),
    /// Move a plan's applications in a short window: stage until little is left, then stop them, move
    /// the rest, and start them on the destination
    Cutover(Cutting),
    /// Hand a schedule's applications over to its destination: from the source as it is now, or, if that
    /// is not heard, from the last complete run
    Failover(Failover),
    /// Hand a schedule's applications back to where a failover took them from; only what has changed is
    /// moved
    Failback(Failback),
    /// Undo a migration: stop the destination, start the source as it was, and remove what the
    /// migration made
    Rollback(Rollback),
    /// Runs by the clock, that keep the destination close to the source
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Migrations that run or have run
    #[command(subcommand)]
    Migration(MigrationCommand),
    /// Start the applications of namespaces, at the counts that were kept
    Activate(Activate),
    /// Stop the applications of namespaces and keep their counts
    Deactivate(Activate),
    /// Print the version of this program
    Version,
    /// Print a script that completes commands in a shell
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For `kubectl apply` and people.
    Yaml,
}

/// How results are printed.
#[derive(Args, Clone, Copy)]
pub struct Output {
    /// How to print the result
    #[arg(long = "output", short = 'o', value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
}

impl Output {
    /// The format of a result that is there.
    pub fn format(self) -> Format {
        self.format.unwrap_or(Format::Table)
    }
}

/// Whether to make something, or only to show what would be made.
#[derive(Args, Clone, Copy)]
pub struct Creation {
    /// Print the complete manifests for `kubectl apply -f -` and create nothing; no cluster is needed
    #[arg(long)]
    pub dry_run: bool,
    /// How to print what was created, or with --dry-run is to be
    #[command(flatten)]
    pub output: Output,
}

impl Creation {
    /// The format of manifests: a table is none.
    pub fn manifest_format(self) -> Format {
        match self.output.format {
            Some(Format::Json) => Format::Json,
            _ => Format::Yaml,
        }
    }
}

/// A length of time such as `90s`, `10m` or `1h30m`, or none: `0s`.
fn length(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is not a length of time: write it as 90s, 10m or 1h30m");
    let signed: jiff::SignedDuration = text.parse().map_err(|_| refused())?;
    Duration::try_from(signed).map_err(|_| refused())
}

/// A length of time to wait, which is not none.
fn duration(text: &str) -> Result<Duration, String> {
    match length(text)? {
        none if none.is_zero() => {
            Err(format!("{text:?} is not a length of time to wait: write it as 90s, 10m or 1h30m"))
        }
        time => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_a_command_is_for_is_named_by_its_kind() {
        let mut all = vec![Cli::command()];
        while let Some(command) = all.pop() {
            for argument in command.get_positionals() {
                let shown = argument.get_value_names().unwrap_or_default();
                assert!(shown.iter().all(|name| *name != "NAME"), "{}", command.get_name());
                assert!(!shown.is_empty() || argument.get_id() == "shell", "{}", command.get_name());
            }
            all.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn lengths_of_time_are_read_as_people_write_them() {
        assert_eq!(duration("90s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("1h30m").unwrap(), Duration::from_mins(90));
        for bad in ["", "10", "-5s", "0s", "soon"] {
            assert!(duration(bad).is_err(), "{bad} was taken");
        }
        assert_eq!(length("0s").unwrap(), Duration::ZERO);
    }
}
