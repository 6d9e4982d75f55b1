//! `isthmus migration …`

use isthmus_shared::resources::Migration;
use k8s_openapi::api::core::v1::Event;
use kube::{Resource, ResourceExt};

use super::{list, migrate, print_record};
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
            migrate::watch(&Session::open(connection).await?, &name, output.format()).await
        }
        MigrationCommand::Logs { name, follow } => logs(connection, &name, follow).await,
        MigrationCommand::Delete(args) => delete(connection, args).await,
    }
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
