//! Object stores: the hub's own probe.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use isthmus_shared::protocol::PROBE_SECONDS;
use isthmus_shared::resources::ObjectStore;
use isthmus_shared::staging::StoreAccess;
use isthmus_shared::staging::probe::probe;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use super::Desk;
use crate::conditions::{Said, set_ready};
use crate::presence::Probe;
use crate::records::WriteError;
use crate::staging;

/// How long a probe may take before it counts as failed.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// Probes a store when it is time, and writes what came of it.
pub(super) fn reconcile(
    desk: Arc<Desk>,
    store: Arc<ObjectStore>,
) -> BoxFuture<'static, Result<(), WriteError>> {
    Box::pin(async move {
        let records = desk.records();
        let Some(store) = records.store(&store.name_any()) else { return Ok(()) };
        let Some(uid) = store.uid() else { return Ok(()) };
        let said = match staging::access(records, &store) {
            Err(finding) => Said::new(Some(false), &finding.reason, finding.message),
            Ok(access) => {
                let revision = staging::revision(&access);
                let presence = &desk.office.presence;
                let last = presence.own_probe(&uid).filter(|last| last.revision == revision);
                let due = last.as_ref().is_none_or(|last| is_due(last, Timestamp::now()));
                if !due {
                    return Ok(());
                }
                let (failed, ahead) = look(&desk, &access).await;
                if let Some(ahead) = ahead {
                    presence.clock_seen(&uid, ahead, Timestamp::now());
                }
                desk.metrics.probe(failed.is_none());
                let error = failed.as_ref().map(|(_, message)| message.clone());
                if presence.probed(&uid, Probe { revision, at: Timestamp::now(), error }) {
                    records.touch();
                }
                match failed {
                    None => Said::new(Some(true), "Probed", "the hub writes, reads, lists and deletes there"),
                    Some((reason, message)) => Said::new(Some(false), reason, format!("the hub: {message}")),
                }
            }
        };
        let change = |known: &ObjectStore| {
            let before = known.status.clone().unwrap_or_default();
            let mut after = before.clone();
            set_ready(&mut after.conditions, &said, known.metadata.generation, Timestamp::now());
            (after != before).then(|| {
                let mut changed = known.clone();
                changed.status = Some(after);
                changed
            })
        };
        desk.office.writer.status(&records.stores, &records.namespace, &store.name_any(), change).await?;
        Ok(())
    })
}

fn is_due(last: &Probe, now: Timestamp) -> bool {
    now.duration_since(last.at) >= SignedDuration::from_secs(PROBE_SECONDS.cast_signed())
}

/// Probes once; what was the matter, if something was, and by how many seconds the store's clock is
/// ahead of ours.
async fn look(desk: &Desk, access: &StoreAccess) -> (Option<(&'static str, String)>, Option<i64>) {
    let store = match desk.stores.open(access) {
        Ok(store) => store,
        Err(error) => return (Some((error.reason(), error.to_string())), None),
    };
    let failed = match tokio::time::timeout(PROBE_LIMIT, probe(store.as_ref(), "")).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some((error.reason(), error.to_string())),
        Err(_) => {
            let message = format!(
                "{} did not answer within {} s; check the endpoint and the network to it",
                access.describe(),
                PROBE_LIMIT.as_secs()
            );
            Some(("StoreTimeout", message))
        }
    };
    (failed, store.clock_ahead())
}
