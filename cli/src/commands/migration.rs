//! `isthmus migration …`

use isthmus_shared::resources::{CANCEL, Migration, MigrationPhase};
use k8s_openapi::api::core::v1::Event;
use kube::{Resource, ResourceExt};

use super::following::{self, Followed};
use super::{going, list, print_record};
use crate::args::{Connection, Format, MigrationCommand, MigrationDelete};
use crate::connect::Session;
use crate::ending::Ending;
use crate::error::Error;
use crate::hub_api::{HubApi, HubError};
use crate::log_lines::LogLines;
use crate::output;
use crate::records::{Deletion, RecordError, Records};
use crate::render::{self, MigrationView};
use crate::watching::{Waited, Watched};

pub async fn run(connection: &Connection, command: MigrationCommand) -> Result<Ending, Error> {
    match command {
        MigrationCommand::List(args) => list::<Migration>(connection, args, render::migrations).await,
        MigrationCommand::Describe { name, details, output } => {
            describe(connection, &name, details, output.format()).await
        }
        MigrationCommand::Wait { name, output } => {
            following::watch(&Session::open(connection).await?, &name, output.format()).await
        }
        MigrationCommand::Cancel { name, wait, output } => {
            cancel(connection, &name, wait, output.format()).await
        }
        MigrationCommand::Retry(args) => going::retry(connection, &args).await,
        MigrationCommand::Logs { name, follow } => logs(connection, &name, follow).await,
        MigrationCommand::Delete(args) => delete(connection, args).await,
    }
}

/// Asks the hub to end a run and to undo it; the run goes on until it has seen that.
async fn cancel(connection: &Connection, name: &str, wait: bool, format: Format) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    let records = Records::<Migration>::of(&session, &session.namespace);
    let object = records.named(name);
    let migration = records.get(name).await?;
    if migration.status.as_ref().is_some_and(|status| status.status.is_terminal()) {
        return Err(Error::Refused(format!(
            "{object} has ended, so it cannot be cancelled: `isthmus rollback {name}` undoes it"
        )));
    }
    let cancelled = records.annotate(name, CANCEL, "true").await?;
    output::note(&format!("{object} is being cancelled, and what it did is undone."));
    if !wait {
        return following::begun(&session, &cancelled, false, format).await;
    }
    match following::follow(&session, name).await? {
        Followed::Ended(migration) => {
            following::print_result(&migration, format)?;
            Ok(if was_cancelled(&migration) { Ending::Succeeded } else { Ending::Failed })
        }
        Followed::Interrupted => Ok(Ending::Interrupted),
    }
}

/// Whether a run ended because it was cancelled, and was undone as far as it had come.
fn was_cancelled(migration: &Migration) -> bool {
    let Some(status) = &migration.status else { return false };
    let only = status.failures_total == 1 && status.failures.iter().all(|found| found.reason == "Cancelled");
    status.status == MigrationPhase::RolledBack || (status.status == MigrationPhase::Failed && only)
}

/// The record comes first; what cannot be had beside it is said to be missing. Programs get the
/// objects always.
async fn describe(
    connection: &Connection,
    name: &str,
    details: bool,
    format: Format,
) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    let mut migration = Records::<Migration>::of(&session, &session.namespace).get(name).await?;
    migration.meta_mut().managed_fields = None;
    let (objects, objects_missing) = if details || format != Format::Table {
        split(objects(&session, name).await)
    } else {
        (Vec::new(), None)
    };
    let (events, events_missing) = split(events(&session, &migration).await);
    let view = MigrationView { migration, objects, objects_missing, events, events_missing };
    print_record(format, &view, || render::describe_migration(&view, details, jiff::Timestamp::now()))?;
    Ok(Ending::Succeeded)
}

fn split<T, E: std::fmt::Display>(result: Result<Vec<T>, E>) -> (Vec<T>, Option<String>) {
    match result {
        Ok(items) => (items, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    }
}

async fn objects(
    session: &Session,
    name: &str,
) -> Result<Vec<isthmus_shared::protocol::ObjectResult>, HubError> {
    HubApi::find(session).await?.objects(&session.namespace, name).await
}

async fn events(session: &Session, migration: &Migration) -> Result<Vec<Event>, RecordError> {
    let uid = migration.uid().unwrap_or_default();
    let records = Records::<Event>::of(session, &session.namespace);
    let mut events = records.list(Some(&format!("involvedObject.uid={uid}"))).await?;
    events.retain(|event| event.involved_object.uid.as_deref() == Some(&uid));
    events.sort_by_key(|event| render::told_at(event).map(|time| time.0));
    Ok(events)
}

async fn logs(connection: &Connection, name: &str, follow: bool) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    // A migration that is not there is said in the same words as everywhere.
    Records::<Migration>::of(&session, &session.namespace).get(name).await?;
    let hub = HubApi::find(&session).await?;
    let (mut lines, mut empty) = (LogLines::default(), true);
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let reading = hub.logs(&session.namespace, name, follow, |piece| {
        empty = empty && piece.is_empty();
        output::print_bytes(lines.push(piece).as_bytes())
    });
    tokio::select! {
        read = reading => read?,
        _ = &mut interrupted => return Ok(Ending::Interrupted),
    }
    output::print_bytes(lines.rest().as_bytes())?;
    if empty {
        output::note("There is no log yet.");
    }
    Ok(Ending::Succeeded)
}

async fn delete(connection: &Connection, args: MigrationDelete) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    let records = Records::<Migration>::of(&session, &session.namespace);
    let migration = records.get(&args.name).await?;
    let object = records.named(&args.name);
    let running = !migration.status.as_ref().is_some_and(|status| status.status.is_terminal());
    let deletion = records.delete(&migration).await?;
    if running && deletion == Deletion::Begun {
        output::note(&format!("{object} has not ended; it is cancelled, and both clusters are cleaned up."));
    }
    if !args.wait || deletion == Deletion::Done {
        output::print(&format!("{object} {}.", deletion.words()))?;
        return Ok(Ending::Succeeded);
    }
    let uid = migration.uid();
    let gone = |now: Option<&Migration>| now.is_none_or(|now| now.uid() != uid).then_some(());
    match Watched::new(records, &args.name).until(args.timeout, gone).await? {
        Waited::Reached(()) => {
            output::print(&format!("{object} is deleted."))?;
            Ok(Ending::Succeeded)
        }
        Waited::TimedOut => Err(Error::NotReached(format!(
            "{object} is being deleted, but was not gone within {}: `isthmus migration describe {}` shows what it \
             waits for; a cluster that is not heard is given up after five minutes",
            render::figures::length(args.timeout),
            args.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use isthmus_shared::resources::Finding;

    use super::*;

    #[test]
    fn a_cancelled_run_counts_as_undone_unless_something_else_failed() {
        let finding = |reason: &str| Finding {
            object: "Migration m".to_owned(),
            reason: reason.to_owned(),
            message: String::new(),
            step: None,
        };
        let mut migration = render::fixtures::migration();
        assert!(!was_cancelled(&migration), "it had succeeded before");
        let status = migration.status.get_or_insert_default();
        status.status = MigrationPhase::Failed;
        status.failures = vec![finding("Cancelled")];
        status.failures_total = 1;
        assert!(was_cancelled(&migration));
        let status = migration.status.get_or_insert_default();
        status.failures.push(finding("NoNews"));
        status.failures_total = 2;
        assert!(!was_cancelled(&migration));
    }
}
