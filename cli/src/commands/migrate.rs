//! `isthmus migrate` and `isthmus migration wait`.

use std::time::Duration;

use isthmus_shared::resources::{ClusterPair, Migration};
use kube::Resource;

use super::print_record;
use crate::args::{Connection, Format, Migrate};
use crate::connect::Session;
use crate::ending::Ending;
use crate::error::Error;
use crate::progress::{Screen, summary};
use crate::records::{RecordError, Records};
use crate::watching::Watched;
use crate::{manifests, names, output};

/// How often progress is drawn anew while nothing is heard.
const REDRAW: Duration = Duration::from_secs(1);

pub async fn run(connection: &Connection, args: &Migrate) -> Result<Ending, Error> {
    let namespace = &connection.namespace;
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| names::generated(&args.options.stem(), uuid::Uuid::new_v4().as_u128()));
    let migration = manifests::migration(namespace, &name, &args.options)?;
    let format = args.creation.output.format();
    if args.creation.dry_run {
        let documents = [output::value(&migration)?];
        output::print(&output::manifests(args.creation.manifest_format(), &documents)?)?;
        return Ok(Ending::Succeeded);
    }
    let session = Session::open(connection).await?;
    Records::<ClusterPair>::of(&session, namespace).get(&args.options.pair).await?;
    let made = Records::of(&session, namespace).create(&migration).await?;
    output::note(&format!("Migration {namespace}/{name} is created."));
    if args.wait {
        return watch(&session, &name, format).await;
    }
    print_record(format, &made, || format!("{}\n", going_on(namespace, &name)))?;
    Ok(Ending::Succeeded)
}

/// Shows a migration's progress until it has ended, then its result.
pub async fn watch(session: &Session, name: &str, format: Format) -> Result<Ending, Error> {
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
                return Ok(Ending::Interrupted);
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
                Ok(Some(migration)) => {
                    let status = migration.status.clone().unwrap_or_default();
                    if status.status.is_terminal() {
                        screen.finish(Some(&status));
                        return ended(migration, format);
                    }
                    screen.show(&status);
                    last = Some(migration);
                }
            }
        }
    }
}

fn ended(mut migration: Migration, format: Format) -> Result<Ending, Error> {
    migration.meta_mut().managed_fields = None;
    print_record(format, &migration, || summary(&migration))?;
    Ok(migration.status.map_or(Ending::Failed, |status| status.status.into()))
}

fn going_on(namespace: &str, name: &str) -> String {
    format!("Watch it with `isthmus migration wait {name} --namespace {namespace}`.")
}
