//! `isthmus diff`.

use std::time::Duration;

use clap::Args;

use super::{MigrationOptions, Output, duration};

/// `isthmus diff`
#[derive(Args)]
#[command(after_help = "\
Exit codes:
  0    nothing is in the way, and the migration could run (there may be warnings)
  1    something is in the way: the output says what, and what to do
  2    wrong usage
  4    it could not be told: a cluster, the hub or the store did not answer, or time was up
  130  interrupted")]
pub struct Diff {
    /// Name each object, also those that would be unchanged or stay behind, and show how the
    /// options given rewrite each
    #[arg(long)]
    pub details: bool,
    /// How long to wait for both clusters
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub timeout: Duration,
    /// How to print it
    #[command(flatten)]
    pub output: Output,
    // Last, as its groups have headings that would go on.
    /// What would be moved and how
    #[command(flatten)]
    pub options: MigrationOptions,
}
