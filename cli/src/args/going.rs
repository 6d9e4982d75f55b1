//! `stage`, `cutover` and `rollback`: the runs of a plan, and the way back.

use clap::Args;
use isthmus_shared::quantity::Amount;

use super::Output;
use super::moving::Reclaim;
use crate::names;

/// The most stage passes that one cutover makes.
const MOST_STAGES: i64 = 100;

/// How a run that is made for a person is named, watched and printed.
#[derive(Args)]
pub struct Making {
    /// The name of the migration that is made [default: made up]
    #[arg(long, value_parser = names::subdomain)]
    pub name: Option<String>,
    /// Show the progress until the migration has ended, and exit accordingly
    #[arg(long)]
    pub wait: bool,
    /// How to print it
    #[command(flatten)]
    pub output: Output,
}

/// `isthmus stage`
#[derive(Args)]
pub struct Stage {
    /// The plan
    #[arg(value_name = "PLAN", value_parser = names::subdomain)]
    pub plan: String,
    /// How it is made.
    #[command(flatten)]
    pub making: Making,
}

/// `isthmus cutover`
///
/// Moves the volumes while the applications run until little is left to move, then stops them, moves
/// the rest with the objects, and starts them on the destination.
#[derive(Args)]
#[command(after_help = "\
Each stage pass, and the cutover itself, is a migration of its own. If it fails once the source stands still,
or a hook after the start does (PostHooks with `onError: Fail`), the source is started again, unless the plan
says `onFailure: Hold`. Exit codes:
  0    the applications run on the destination
  1    they do not: the output says which side runs
  3    they run on the destination, and there are warnings that a person should read
  130  watching was interrupted: a cutover that has begun goes on")]
pub struct Cutting {
    /// The plan
    #[arg(value_name = "PLAN", value_parser = names::subdomain)]
    pub plan: String,
    /// Stage no more once a pass has uploaded less than this, as a quantity: 64Mi, 1G
    #[arg(long, value_name = "QUANTITY", default_value = "64Mi", value_parser = bytes)]
    pub until: u64,
    /// Stage at most this many times; with 0 not at all
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=MOST_STAGES))]
    pub max_stages: u32,
    /// How to print the migration that cut over
    #[command(flatten)]
    pub output: Output,
}

/// `isthmus failover`
#[derive(Args)]
#[command(after_help = "\
With the source heard nothing is lost: it is stopped, what has changed is moved, and the destination is
started. With the source not heard for 40 s, the destination is brought to the last complete run of the
schedule and started from that; the source is stopped as soon as it is heard. Of the hooks only PostHooks of
the destination are carried out then. Exit codes, with --wait:
  0    the applications run on the destination
  1    they do not: the output says what is known of both sides
  3    they run on the destination, and there are warnings that a person should read
  130  watching was interrupted: the failover goes on")]
pub struct Failover {
    /// The schedule
    #[arg(value_name = "SCHEDULE", value_parser = names::subdomain)]
    pub schedule: String,
    /// How it is made.
    #[command(flatten)]
    pub making: Making,
}

/// `isthmus failback`
#[derive(Args)]
#[command(after_help = "\
The applications are stopped where the failover has started them, what has changed there since is moved,
and they are started where they came from. From then on the schedule begins its runs again by itself.
What of the schedule's options cannot be turned round is told before anything is made. Exit codes, with --wait:
  0    the applications run where they came from
  1    they do not: the output says which side runs
  3    they run where they came from, and there are warnings that a person should read
  130  watching was interrupted: the failback goes on")]
pub struct Failback {
    /// The schedule
    #[arg(value_name = "SCHEDULE", value_parser = names::subdomain)]
    pub schedule: String,
    /// How it is made.
    #[command(flatten)]
    pub making: Making,
}

/// `isthmus rollback`
#[derive(Args)]
pub struct Rollback {
    /// The migration that is undone: one that moved objects and has ended
    #[arg(value_name = "MIGRATION", value_parser = names::subdomain)]
    pub migration: String,
    /// What becomes of the volumes that it made on the destination
    #[arg(long, value_enum, ignore_case = true, value_name = "WHAT", default_value_t = Reclaim::Retain)]
    pub reclaim: Reclaim,
    /// How it is made.
    #[command(flatten)]
    pub making: Making,
}

fn bytes(text: &str) -> Result<u64, String> {
    let amount = Amount::parse(text).ok_or_else(|| format!("{text:?} is no quantity: write 64Mi or 1G"))?;
    Ok(amount.units())
}
