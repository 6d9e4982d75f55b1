//! `staging`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Output, duration};
use crate::names;

/// `isthmus staging …`
#[derive(Subcommand)]
pub enum StagingCommand {
    /// Show what staging has of a pair's volumes
    List(StagingList),
    /// Remove from staging what no later pass needs; volumes that migrations use are left alone, and
    /// migrations that are created meanwhile wait
    Prune(StagingPrune),
}

/// `isthmus staging list`
#[derive(Args)]
pub struct StagingList {
    /// The pair
    #[arg(long, value_parser = names::subdomain)]
    pub pair: String,
    /// How long to wait for the source's spoke to look
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub timeout: Duration,
    /// How to print it
    #[command(flatten)]
    pub output: Output,
}

/// `isthmus staging prune`
#[derive(Args)]
pub struct StagingPrune {
    /// The pair
    #[arg(long, value_parser = names::subdomain)]
    pub pair: String,
    /// How many complete passes of each volume stay; the next run sends only what changed since the
    /// newest, or with 0 everything
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub keep: u32,
    /// Also remove all that is staged of volumes whose claim is gone from the source
    #[arg(long)]
    pub gone: bool,
    /// Only show what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// How long to wait until it is done
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    pub timeout: Duration,
    /// How to print what was removed
    #[command(flatten)]
    pub output: Output,
}
