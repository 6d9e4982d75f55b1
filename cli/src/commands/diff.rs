//! `isthmus diff`: a dry run from its beginning to its removal.
//!
//! The record of the dry run is only a means: it is deleted again however the command ends, as
//! long as the API server answers.

use std::time::Duration;

use isthmus_shared::protocol::ObjectResult;
use isthmus_shared::resources::{ClusterPair, Migration, MigrationPhase};
use tokio::time::Instant;

use super::print_record;
use crate::args::{Connection, Diff};
use crate::connect::Session;
use crate::ending::Ending;
use crate::error::Error;
use crate::hub_api::HubApi;
use crate::progress::Screen;
use crate::records::{RecordError, Records};
use crate::render::{self, DiffView, Prospect};
use crate::watching::Watched;
use crate::{manifests, names, output};

/// How often progress is drawn anew while nothing is heard.
const REDRAW: Duration = Duration::from_secs(1);

/// How the waiting ended.
enum Waiting {
    Ended(Box<Migration>),
    TimedOut,
    Interrupted,
}

pub async fn run(connection: &Connection, args: Diff) -> Result<Ending, Error> {
    let options = &args.options;
    let name = names::generated(&format!("diff-{}", options.stem()), uuid::Uuid::new_v4().as_u128());
    let mut migration = manifests::migration(&connection.namespace, &name, options)?;
    migration.spec.dry_run = true;
    show(connection, &args, &migration).await.map_err(|error| Error::Untold(Box::new(error)))
}

async fn show(connection: &Connection, args: &Diff, migration: &Migration) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    let pair = Records::<ClusterPair>::of(&session, &session.namespace).get(&args.options.pair).await?;
    let records = Records::<Migration>::of(&session, &session.namespace);
    // Ctrl-C is listened for before there is something to be removed again.
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let made = tokio::select! {
        _ = &mut interrupted => return Ok(Ending::Interrupted),
        made = records.create(migration) => made?,
    };
    let name = made.metadata.name.clone().unwrap_or_default();
    let looking = async {
        let waited = wait(&session, &name, args.timeout).await?;
        let objects = match &waited {
            Waiting::Ended(_) => Some(objects(&session, &name).await),
            Waiting::TimedOut | Waiting::Interrupted => None,
        };
        Ok::<_, Error>((waited, objects))
    };
    let looked = tokio::select! {
        _ = &mut interrupted => Ok((Waiting::Interrupted, None)),
        looked = looking => looked,
    };
    remove(&records, &made).await;
    let (migration, objects) = match looked? {
        (Waiting::Ended(migration), objects) => (migration, objects),
        (Waiting::TimedOut, _) => {
            return Err(Error::NotReached(format!(
                "the clusters had not been looked at within {}: see with `isthmus pair describe {}` whether both are \
                 heard, or give it a longer --timeout",
                render::figures::length(args.timeout),
                args.options.pair
            )));
        }
        (Waiting::Interrupted, _) => return Ok(Ending::Interrupted),
    };
    let (objects, objects_missing) = match objects {
        Some(Ok(objects)) => (objects, None),
        Some(Err(error)) => (Vec::new(), Some(error.to_string())),
        None => (Vec::new(), None),
    };
    let view = DiffView::new(&pair, &migration, objects, objects_missing);
    print_record(args.output.format(), &view, || render::describe_diff(&view, args.details))?;
    Ok(match view.prospect {
        Prospect::CouldRun => Ending::Succeeded,
        Prospect::InTheWay => Ending::Failed,
        Prospect::Unknown => Ending::Untold,
    })
}

async fn objects(session: &Session, name: &str) -> Result<Vec<ObjectResult>, crate::hub_api::HubError> {
    HubApi::find(session).await?.objects(&session.namespace, name).await
}

/// Waits until the dry run has ended.
async fn wait(session: &Session, name: &str, limit: Duration) -> Result<Waiting, Error> {
    let records = Records::<Migration>::of(session, &session.namespace);
    let object = records.named(name);
    let mut watched = Watched::new(records, name);
    let mut screen = Screen::new();
    let mut last: Option<Migration> = None;
    let mut ticks = tokio::time::interval(REDRAW);
    let deadline = Instant::now() + limit;
    let ended = loop {
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => break Ok(Waiting::TimedOut),
            _ = ticks.tick() => {
                if let Some(status) = last.as_ref().and_then(|migration| migration.status.as_ref()) {
                    screen.show(status);
                }
            }
            changed = watched.next() => match changed {
                Err(error) => break Err(error.into()),
                Ok(None) if last.is_none() => {}
                Ok(None) => {
                    break Err(Error::NotReached(format!("{object} was deleted before it had ended")));
                }
                Ok(Some(migration)) => {
                    let phase = migration.status.as_ref().map_or(MigrationPhase::Pending, |s| s.status);
                    if phase.is_terminal() {
                        break Ok(Waiting::Ended(Box::new(migration)));
                    }
                    last = Some(migration);
                }
            }
        }
    };
    screen.finish(None);
    ended
}

/// Removes the record; the hub then removes what it has staged.
async fn remove(records: &Records<Migration>, made: &Migration) {
    let failed = |error: &RecordError| {
        let name = made.metadata.name.as_deref().unwrap_or_default();
        output::note(&format!(
            "The record of the dry run could not be deleted again: {error}. It does no harm; delete it with `isthmus \
             migration delete {name}`."
        ));
    };
    if let Err(error) = records.delete(made).await {
        failed(&error);
    }
}
