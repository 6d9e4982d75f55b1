//! Migrations that commands make, and how they are followed to their end.

use std::time::Duration;

use isthmus_shared::resources::Migration;
use kube::{Resource, ResourceExt};

use super::print_record;
use crate::args::Format;
use crate::connect::Session;
use crate::ending::Ending;
use crate::error::Error;
use crate::output;
use crate::progress::{Screen, summary};
use crate::records::{RecordError, Records};
use crate::watching::Watched;

/// How often progress is drawn anew while nothing is heard.
const REDRAW: Duration = Duration::from_secs(1);

/// How following a migration ended.
pub enum Followed {
    /// The migration has ended.
    Ended(Box<Migration>),
    /// Ctrl-C ended the following; the migration goes on.
    Interrupted,
}

/// Makes a migration, and follows it where that is wanted.
pub async fn make(
    session: &Session,
    migration: &Migration,
    wait: bool,
    format: Format,
) -> Result<Ending, Error> {
    let made = create(session, migration).await?;
    begun(session, &made, wait, format).await
}

/// Makes a migration and says so.
pub async fn create(session: &Session, migration: &Migration) -> Result<Migration, Error> {
    let records = Records::of(session, &session.namespace);
    let made = records.create(migration).await?;
    output::note(&format!("{} is created.", records.named(&made.name_any())));
    Ok(made)
}

/// What a command does that has made a migration: it follows it, or says how to.
pub async fn begun(session: &Session, made: &Migration, wait: bool, format: Format) -> Result<Ending, Error> {
    let name = made.name_any();
    if wait {
        return watch(session, &name, format).await;
    }
    print_record(format, made, || format!("{}\n", going_on(&session.namespace, &name)))?;
    Ok(Ending::Succeeded)
}

/// Shows a migration's progress until it has ended, then its result.
pub async fn watch(session: &Session, name: &str, format: Format) -> Result<Ending, Error> {
    match follow(session, name).await? {
        Followed::Ended(migration) => {
            print_result(&migration, format)?;
            Ok(migration.status.map_or(Ending::Failed, |status| status.status.into()))
        }
        Followed::Interrupted => Ok(Ending::Interrupted),
    }
}

/// Prints a migration that has ended.
pub fn print_result(migration: &Migration, format: Format) -> Result<(), Error> {
    print_record(format, migration, || summary(migration))
}

/// Shows a migration's progress until it has ended.
pub async fn follow(session: &Session, name: &str) -> Result<Followed, Error> {
    let records = Records::<Migration>::of(session, &session.namespace);
    let object = records.named(name);
    let missing = RecordError::Missing { object: object.clone(), list: "isthmus migration list" };
    let mut watched = Watched::new(records, name);
    let mut screen = Screen::new();
    let mut last: Option<Migration> = None;
    let mut ticks = tokio::time::interval(REDRAW);
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            signal = &mut interrupted => {
                screen.finish(None);
                if let Err(source) = signal {
                    return Err(Error::NotReached(format!("listening for Ctrl-C failed: {source}")));
                }
                let text = going_on(&session.namespace, name);
                output::note(&format!("No longer watching; the migration goes on. {text}"));
                return Ok(Followed::Interrupted);
            }
            _ = ticks.tick() => {
                if let Some(status) = last.as_ref().and_then(|migration| migration.status.as_ref()) {
                    screen.show(status);
                }
            }
            changed = watched.next() => match changed {
                Err(error) => {
                    screen.finish(None);
                    return Err(error.into());
                }
                Ok(None) if last.is_none() => {
                    screen.finish(None);
                    return Err(missing.into());
                }
                Ok(None) => {
                    screen.finish(None);
                    return Err(Error::NotReached(format!("{object} was deleted before it had ended")));
                }
                Ok(Some(mut migration)) => {
                    let status = migration.status.clone().unwrap_or_default();
                    if status.status.is_terminal() {
                        screen.finish(Some(&status));
                        migration.meta_mut().managed_fields = None;
                        return Ok(Followed::Ended(Box::new(migration)));
                    }
                    screen.show(&status);
                    last = Some(migration);
                }
            }
        }
    }
}

fn going_on(namespace: &str, name: &str) -> String {
    format!("Watch it with `isthmus migration wait {name} --namespace {namespace}`.")
}
