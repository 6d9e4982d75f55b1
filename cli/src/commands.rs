//! What each command does: thin, in terms of records, manifests and text.

mod activate;
mod cluster;
mod diff;
mod failback;
mod failover;
mod following;
mod going;
mod migrate;
mod migration;
mod pair;
mod plan;
mod references;
mod schedule;
mod staging;
mod store;

use clap::CommandFactory;
use isthmus_shared::resources::TargetState;
use serde::Serialize;

use crate::args::{Cli, Command, Connection, Format, Output};
use crate::connect::Session;
use crate::ending::Ending;
use crate::error::Error;
use crate::output;
use crate::records::{Record, Records};

/// Carries out a command line.
pub async fn run(cli: Cli) -> Result<Ending, Error> {
    let connection = &cli.connection;
    match cli.command {
        Command::Cluster(command) => cluster::run(connection, command).await,
        Command::Store(command) => store::run(connection, command).await,
        Command::Pair(command) => pair::run(connection, command).await,
        Command::Staging(command) => staging::run(connection, command).await,
        Command::Migrate(args) => migrate::run(connection, &args).await,
        Command::Diff(args) => diff::run(connection, *args).await,
        Command::Plan(command) => plan::run(connection, command).await,
        Command::Stage(args) => going::stage(connection, &args).await,
        Command::Cutover(args) => going::cutover(connection, &args).await,
        Command::Failover(args) => failover::run(connection, &args).await,
        Command::Failback(args) => failback::run(connection, &args).await,
        Command::Rollback(args) => going::rollback(connection, &args).await,
        Command::Schedule(command) => schedule::run(connection, command).await,
        Command::Migration(command) => migration::run(connection, command).await,
        Command::Activate(args) => activate::run(connection, args, TargetState::Active).await,
        Command::Deactivate(args) => activate::run(connection, args, TargetState::Inactive).await,
        Command::Version => {
            output::print(&format!("isthmus {}", env!("CARGO_PKG_VERSION")))?;
            Ok(Ending::Succeeded)
        }
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "isthmus", &mut script);
            output::print_bytes(&script)?;
            Ok(Ending::Succeeded)
        }
    }
}

/// `list` of any kind.
async fn list<K: Record>(
    connection: &Connection,
    args: Output,
    table: impl Fn(&[K], jiff::Timestamp) -> String,
) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    let items = Records::<K>::of(&session, &session.namespace).list(None).await?;
    match args.format() {
        Format::Table if items.is_empty() => {
            output::note(&format!("There is no {} in namespace {}.", K::kind(&()), session.namespace));
        }
        Format::Table => output::print(&table(&items, jiff::Timestamp::now()))?,
        format => output::print(&output::list(format, &items)?)?,
    }
    Ok(Ending::Succeeded)
}

/// `describe` of a kind whose record is all there is to it.
async fn describe<K: Record>(
    connection: &Connection,
    name: &str,
    args: Output,
    text: impl Fn(&K) -> String,
) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    let mut record = Records::<K>::of(&session, &session.namespace).get(name).await?;
    record.meta_mut().managed_fields = None;
    print_record(args.format(), &record, || text(&record))?;
    Ok(Ending::Succeeded)
}

/// Prints a record in the format that was asked for.
fn print_record(format: Format, record: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Error> {
    match format {
        Format::Table => output::print(&text()),
        format => output::print(&output::one(format, record)?),
    }
}
