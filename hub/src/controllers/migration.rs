//! Migrations: moved on by the itinerary until they end, and cleaned up after when they are
//! deleted.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use isthmus_shared::resources::{FINALIZER, Migration, MigrationPhase};
use isthmus_shared::staging::{MigrationUid, PairUid, delete_prefix, layout};
use jiff::{SignedDuration, Timestamp};
use kube::runtime::events::{Event, EventType};
use kube::{Resource as _, ResourceExt as _};

use super::{Desk, failover};
use crate::docket;
use crate::itinerary;
use crate::records::WriteError;

/// How long a deleted migration's staging is tried to be removed before it is left where it is.
const REMOVE_LIMIT: SignedDuration = SignedDuration::from_mins(5);
/// How long one attempt may take.
const REMOVE_ATTEMPT: Duration = Duration::from_mins(1);

/// Whether there is anything to do about a migration.
pub(super) fn concerns(migration: &Migration) -> bool {
    let ended = migration.status.as_ref().is_some_and(|status| status.status.is_terminal());
    let unsettled = migration.status.as_ref().is_some_and(itinerary::is_unsettled);
    !ended || unsettled || migration.metadata.deletion_timestamp.is_some()
}

/// Whether it has not begun: then it may wait for anything.
pub(super) fn has_not_begun(migration: &Migration) -> bool {
    migration.status.as_ref().is_none_or(|status| status.status == MigrationPhase::Pending)
}

/// Moves a migration on.
pub(super) fn reconcile(
    desk: Arc<Desk>,
    migration: Arc<Migration>,
) -> BoxFuture<'static, Result<(), WriteError>> {
    Box::pin(async move {
        let namespace = migration.namespace().unwrap_or_default();
        let records = desk.records();
        let Some(migration) = records.migrations.get(&namespace, &migration.name_any()) else {
            return Ok(());
        };
        let deleted = migration.metadata.deletion_timestamp.is_some();
        let finalized = migration.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
        if !deleted && !finalized {
            // It comes back with the finalizer: nothing is begun that would not be ended.
            desk.office.writer.finalizer(&records.migrations, &migration, true).await?;
            return Ok(());
        }
        if deleted && !finalized {
            return Ok(());
        }
        desk.office.runs.advance(&migration).await?;
        let Some(migration) = records.migrations.get(&namespace, &migration.name_any()) else {
            return Ok(());
        };
        failover::attend(&desk, &migration).await?;
        let ended = migration.status.as_ref().is_some_and(|status| status.status.is_terminal());
        if deleted && ended {
            end(&desk, &migration).await?;
        }
        Ok(())
    })
}

/// Removes what a deleted migration has in staging, then lets it go.
async fn end(desk: &Desk, migration: &Migration) -> Result<(), WriteError> {
    if let Err(why) = remove_staging(desk, migration).await {
        let deleted = migration.metadata.deletion_timestamp.as_ref().map_or(Timestamp::MIN, |at| at.0);
        let waited = Timestamp::now().duration_since(deleted.max(desk.office.presence.since));
        let name = migration.name_any();
        if waited <= REMOVE_LIMIT {
            tracing::warn!(
                migration = name,
                why,
                "removing what a deleted migration has in staging failed; trying again"
            );
            return Ok(());
        }
        tell_left(desk, migration, &why).await;
    }
    desk.office.writer.finalizer(&desk.records().migrations, migration, false).await?;
    Ok(())
}

async fn tell_left(desk: &Desk, migration: &Migration, why: &str) {
    let uid = migration.uid().unwrap_or_default();
    let note = format!(
        "what the migration has in staging is left there ({why}): remove the keys below */migrations/{uid}/ from the bucket"
    );
    tracing::warn!(migration = migration.name_any(), note);
    let event = Event {
        type_: EventType::Warning,
        reason: "StagingLeft".to_owned(),
        note: Some(note),
        action: "Delete".to_owned(),
        secondary: None,
    };
    if let Err(error) = desk.recorder.publish(&event, &migration.object_ref(&())).await {
        tracing::warn!(%error, "publishing an event failed; the hub needs create and patch on events");
    }
}

/// Removes what a run has in staging, or tells why not.
pub(super) async fn remove_staging(desk: &Desk, migration: &Migration) -> Result<(), String> {
    let Some(pair) = migration.status.as_ref().and_then(|status| status.pair_uid.clone()) else {
        // It never began.
        return Ok(());
    };
    if desk.records().pairs.by_uid(&pair).is_none() {
        // The pair took everything along when it went.
        return Ok(());
    }
    let staging = docket::staging_of(desk.records(), migration)
        .ok_or("its object store or its credentials cannot be found")?;
    let store = desk.stores.open(&staging.access).map_err(|error| error.to_string())?;
    let pair = PairUid::new(pair).map_err(|error| error.to_string())?;
    let uid = MigrationUid::new(migration.uid().unwrap_or_default()).map_err(|error| error.to_string())?;
    let prefix = layout::migration_prefix(&pair, &uid);
    match tokio::time::timeout(REMOVE_ATTEMPT, delete_prefix(store.as_ref(), &prefix)).await {
        Ok(result) => result.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err(format!("it took longer than {} s", REMOVE_ATTEMPT.as_secs())),
    }
}
